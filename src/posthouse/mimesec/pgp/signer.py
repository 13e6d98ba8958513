"""`PgpSigner`: signs entities with one private key (RFC 3156 §5)."""

from __future__ import annotations

from datetime import datetime

from posthouse.mimesec import given
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import sequoia, wrapping
from posthouse.mimesec.pgp.keys import PrivateKey
from posthouse.mimesec.pgp.structure import signature_packets
from posthouse.mimesec.ports import ProtectionError


class PgpSigner:
    """Ready to sign any number of messages. The time of a signature is the system's."""

    def __init__(self, private: PrivateKey) -> None:
        """Raises ProtectionError for what `read_private` does not give."""
        given.check_kind(private, PrivateKey, "the key of a PgpSigner")
        self.private = private

    def __repr__(self) -> str:
        return f"PgpSigner({self.key})"

    @property
    def scheme(self) -> Scheme:
        return Scheme.OPENPGP

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.private.public.addresses

    @property
    def key(self) -> str:
        return self.private.public.fingerprint

    def sign(self, entity: bytes, *, at: datetime) -> bytes:
        """A multipart/signed, which readers without OpenPGP can read, too.

        Raises:
            ProtectionError: the key is revoked, has ended, or is not for signatures.
        """
        self.check(at)
        try:
            signature = sequoia.sign(self.private.tsk, entity)
        except sequoia.Failed:
            raise ProtectionError(
                f"nothing can be signed by the key {self.key}",
                hint="it has no part that signs; make a key that has",
            ) from None
        [packet] = signature_packets(signature)
        return wrapping.multipart_signed(entity, signature, packet.hash_name)

    def check(self, at: datetime) -> None:
        """Raises ProtectionError as `sign`, as far as the key's dates tell."""
        given.check_time(at, "at")
        public = self.private.public
        if public.is_revoked:
            raise ProtectionError(
                f"nothing can be signed: the key {self.key} was revoked", hint="use another key"
            )
        if public.expires_at is not None and public.expires_at <= at:
            raise ProtectionError(
                f"nothing can be signed: the key {self.key} ended on {public.expires_at:%Y-%m-%d}",
                hint="give it another end, or use another key",
            )
