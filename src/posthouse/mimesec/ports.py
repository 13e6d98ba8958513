"""What S/MIME and OpenPGP each give, so that the rest need not know which is at work.

All of them take and give whole MIME entities: fields that describe a body, an empty line, the body,
every line ended by CRLF. An entity given to `sign` has to be canonical already
(`mimesec.entity.canonical`); what comes back is an entity whose octets must not be touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from posthouse.kernel.errors import PosthouseError
from posthouse.mimesec.findings import Encryption, Scheme, Signature


class ProtectionError(PosthouseError):
    """A message cannot be signed or encrypted as asked: `str()` says why in plain words, `hint`
    what to do. Never raised for what is found in somebody else's message: that is a finding."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


class NotInstalled(ProtectionError):
    """Nothing is wrong with keys or message: a library is missing on this machine."""


class Signer(Protocol):
    """Somebody's private key, ready to sign."""

    @property
    def scheme(self) -> Scheme: ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """That the key names."""
        ...

    def sign(self, entity: bytes, *, at: datetime) -> bytes:
        """A multipart/signed of a canonical entity (RFC 1847, RFC 8551 §3.5.3, RFC 3156 §5).

        Raises:
            ProtectionError: the key has expired, is revoked or may not sign.
        """
        ...


class Recipient(Protocol):
    """Somebody's public key or certificate, ready to encrypt to."""

    @property
    def scheme(self) -> Scheme: ...

    @property
    def addresses(self) -> tuple[str, ...]: ...

    @property
    def key(self) -> str:
        """As `Signature.key`."""
        ...

    def why_unusable(self, at: datetime) -> str:
        """Why nothing can be encrypted to it at that time, in words; "" when it can."""
        ...


class Sealer(Protocol):
    """Encrypts for a set of recipients of one scheme."""

    def seal(
        self, entity: bytes, recipients: Sequence[Recipient], *, at: datetime, signer: Signer | None
    ) -> bytes:
        """An encrypted entity (application/pkcs7-mime, multipart/encrypted), signed inside first
        where there is a signer.

        Raises:
            ProtectionError: a recipient's key is not usable (its hint names the recipient).
        """
        ...


class Unsealed(msgspec.Struct, frozen=True, kw_only=True):
    """What opening gave; `entity` is b"" unless `encryption.is_opened`."""

    encryption: Encryption
    entity: bytes = b""
    signatures: tuple[Signature, ...] = ()
    """Of OpenPGP, whose signature may be inside the encryption (RFC 3156 §6.2); S/MIME's are an
    entity of their own inside."""


class Opener(Protocol):
    """Reads what others protected, with the keys it was given. Nothing here raises for what a
    message holds; time and memory are bounded by its caller (`Isolated`)."""

    def verify(self, signed: bytes, signature: bytes, *, at: datetime) -> tuple[Signature, ...]:
        """The signatures on the first part of a multipart/signed.

        Args:
            signed: that part with its header section, lines ended by CRLF, without the CRLF in
                front of the next delimiter.
            signature: the decoded content of the second part.
        """
        ...

    def unseal(self, sealed: bytes, *, at: datetime) -> Unsealed:
        """Open the decoded content of an application/pkcs7-mime (enveloped, authEnveloped or opaque
        signed data) or of the second part of a multipart/encrypted."""
        ...
