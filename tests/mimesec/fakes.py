"""Signers, sealers and openers whose work can be read, for what does not depend on cryptography.

A signature is a hash over the octets and a name; a sealed entity is base64 of the entity with the
list of keys in front. Both notice a changed octet, as the real ones do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from posthouse.mimesec.findings import Encryption, Scheme, Signature, SignatureResult
from posthouse.mimesec.ports import ProtectionError, Recipient, Signer, Unsealed

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def digest(entity: bytes, address: str) -> bytes:
    return hashlib.sha256(address.encode() + b"\0" + entity).hexdigest().encode()


class FakeSigner:
    def __init__(self, address: str = "alice@a.example", scheme: Scheme = Scheme.OPENPGP) -> None:
        self.address = address
        self.scheme = scheme
        self.addresses = (address,)

    def sign(self, entity: bytes, *, at: datetime) -> bytes:
        kind = b"pkcs7" if self.scheme is Scheme.SMIME else b"pgp"
        return (
            b'Content-Type: multipart/signed; protocol="application/%b-signature"; boundary="sig"'
            b"\r\n\r\n--sig\r\n%b\r\n--sig\r\nContent-Type: application/%b-signature\r\n\r\n"
            b"%b %b\r\n--sig--\r\n"
        ) % (kind, entity, kind, self.address.encode(), digest(entity, self.address))


class FakeOpaqueSigner(FakeSigner):
    def __init__(self, address: str = "alice@a.example") -> None:
        super().__init__(address, Scheme.SMIME)

    def sign_opaque(self, entity: bytes, *, at: datetime) -> bytes:
        inside = b"SIGNED %b %b\n" % (self.address.encode(), digest(entity, self.address))
        return smime(inside + entity, "signed-data")


class FakeRecipient:
    def __init__(self, address: str, scheme: Scheme = Scheme.OPENPGP) -> None:
        self.addresses = (address,)
        self.scheme = scheme
        self.key = address.upper()

    def why_unusable(self, at: datetime) -> str:
        return "it has expired" if "expired" in self.key.lower() else ""


class FakeSealer:
    def __init__(self, scheme: Scheme = Scheme.OPENPGP, *, is_authenticated: bool = True) -> None:
        self.scheme = scheme
        self.is_authenticated = is_authenticated

    def seal(
        self, entity: bytes, recipients: Sequence[Recipient], *, at: datetime, signer: Signer | None
    ) -> bytes:
        for one in recipients:
            if why := one.why_unusable(at):
                raise ProtectionError(f"nothing can be encrypted to {one.key}: {why}")
        if signer is not None:
            entity = signer.sign(entity, at=at)
        keys = b",".join(one.key.encode() for one in recipients)
        kind = b"AEAD" if self.is_authenticated else b"CBC"
        inside = b"SEALED %b %b %b\n%b" % (kind, keys, digest(entity, "key"), entity)
        return smime(inside, "enveloped-data") if self.scheme is Scheme.SMIME else pgp_mime(inside)


def smime(inside: bytes, kind: str) -> bytes:
    return (
        b"Content-Type: application/pkcs7-mime; smime-type=%b; name=smime.p7m\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n%b"
    ) % (kind.encode(), base64.encodebytes(inside).replace(b"\n", b"\r\n"))


def pgp_mime(inside: bytes) -> bytes:
    armour = base64.encodebytes(inside).replace(b"\n", b"\r\n")
    return (
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="enc"'
        b"\r\n\r\n--enc\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        b"--enc\r\nContent-Type: application/octet-stream\r\n\r\n"
        b"-----BEGIN PGP MESSAGE-----\r\n\r\n"
        b"%b-----END PGP MESSAGE-----\r\n--enc--\r\n"
    ) % armour


class FakeOpener:
    """Reads both schemes' forms; trusts everybody except "stranger"."""

    def __init__(self, *keys: str, scheme: Scheme = Scheme.OPENPGP) -> None:
        self.keys = {key.upper() for key in keys}
        self.scheme = scheme
        self.calls = 0

    def verify(self, signed: bytes, signature: bytes, *, at: datetime) -> tuple[Signature, ...]:
        self.calls += 1
        found = []
        for line in signature.split(b"\n"):
            address, _, value = line.strip().decode("ascii", "replace").partition(" ")
            if address:
                found.append(self._signature(address, value.encode(), signed))
        return tuple(found)

    def _signature(self, address: str, value: bytes, signed: bytes) -> Signature:
        result = SignatureResult.VALID
        if value != digest(signed, address):
            result = SignatureResult.INVALID
        elif "stranger" in address:
            result = SignatureResult.UNTRUSTED
        return Signature(scheme=self.scheme, result=result, addresses=(address,), key="AB" * 20)

    def unseal(self, sealed: bytes, *, at: datetime) -> Unsealed:
        self.calls += 1
        if b"-----BEGIN PGP MESSAGE-----" in sealed:
            armour = sealed.partition(b"-----BEGIN PGP MESSAGE-----")[2]
            try:
                sealed = base64.b64decode(armour.partition(b"-----END")[0])
            except binascii.Error:
                return self._closed("it is no base64", ())
        head, _, entity = sealed.partition(b"\n")
        words = head.decode("ascii", "replace").split(" ")
        if words[0] == "SIGNED" and len(words) == 3:
            signature = self._signature(words[1], words[2].encode(), entity)
            layer = Encryption(scheme=self.scheme, is_opened=True)
            return Unsealed(encryption=layer, entity=entity, signatures=(signature,))
        if words[0] != "SEALED" or len(words) != 4:
            return self._closed("it cannot be read", ())
        _, kind, keys, value = words
        named = tuple(keys.split(","))
        if not self.keys.intersection(named):
            return self._closed("it is not encrypted to any of the keys at hand", named)
        if kind == "AEAD" and value.encode() != digest(entity, "key"):
            return self._closed("it was changed on its way", named)
        layer = Encryption(
            scheme=self.scheme,
            is_opened=True,
            is_authenticated=kind == "AEAD",
            algorithm="AES-256-GCM" if kind == "AEAD" else "AES-256-CBC",
            recipients=named,
        )
        return Unsealed(encryption=layer, entity=entity)

    def _closed(self, reason: str, named: tuple[str, ...]) -> Unsealed:
        layer = Encryption(
            scheme=self.scheme, is_opened=False, reason=reason, algorithm="?", recipients=named
        )
        return Unsealed(encryption=layer)
