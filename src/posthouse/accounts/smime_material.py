"""S/MIME keys of the store: read from files, made anew, and turned into what signs and encrypts.

`key_material` is the way here; it raises `UserError` for the `ProtectionError` of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from posthouse.accounts.key_files import is_pkcs12
from posthouse.accounts.mail_keys import KeyMaterial, MailKey
from posthouse.kernel.secret import Secret
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.ports import ProtectionError, Recipient, Signer
from posthouse.mimesec.smime import pem
from posthouse.mimesec.smime.capabilities import COMMON, OWN, Capabilities
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.identity import Identity, from_pem, from_pkcs12, read_certificates
from posthouse.mimesec.smime.make import KeyKind, make_identity
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.signer import SmimeSigner

_PEM = b"-----BEGIN"


def make(
    addresses: Sequence[str], *, at: datetime, days: int, kind: KeyKind = KeyKind.P256
) -> KeyMaterial:
    """A new key with a certificate that vouches for itself. RSA takes up to seconds."""
    return _material(make_identity(addresses, at=at, days=days, kind=kind))


def read_private(octets: bytes, password: Secret | None) -> tuple[KeyMaterial, ...]:
    """Private keys with their certificates: PKCS #12, or PEM with both in it."""
    if _PEM in octets:
        return (_material(from_pem(octets, octets, password)),)
    found = from_pkcs12(octets, password)
    if not found:
        raise ProtectionError(
            "the PKCS #12 file holds no private key",
            hint="for a certificate alone give it in PEM: openssl pkcs12 -nokeys -in key.p12",
        )
    return tuple(map(_material, found))


def read_public(octets: bytes) -> KeyMaterial:
    """Somebody's certificate, its issuers behind it, in PEM or DER."""
    return of_certificates(read_certificates(octets))


def has_private(octets: bytes) -> bool:
    """Whether a file holds more than certificates: PKCS #12 does, or PEM that says so."""
    return b"PRIVATE KEY-----" in octets if _PEM in octets else is_pkcs12(octets)


def is_locked(octets: bytes) -> bool:
    """Whether a file with a private key needs a password. PKCS #12 does not tell, so it is tried
    without one."""
    if _PEM in octets:
        return b"ENCRYPTED" in octets
    try:
        from_pkcs12(octets)
    except ProtectionError:
        return True
    return False


def export_private(key: MailKey, private: bytes, password: Secret | None) -> bytes:
    """Key and certificates as PEM, the key encrypted where there is a password."""
    identity = _identity(key, private)
    return identity.key_pem(password) + identity.certificates_pem()


def serial(key: MailKey) -> str:
    """In hexadecimal, as reports show it."""
    return f"{_certificates(key.public)[0].serial:X}"


def is_selfmade(key: MailKey) -> bool:
    return _certificates(key.public)[0].is_self_issued


def recipient(key: MailKey) -> Recipient:
    said = Capabilities.of_words(key.reads)
    return SmimeRecipient(_certificates(key.public)[0], capabilities=said)


def signer(key: MailKey, private: bytes, *, opens: bool) -> Signer:
    reads = OWN if opens else Capabilities.of_words(key.reads) or COMMON
    return SmimeSigner(_identity(key, private), reads=reads)


@lru_cache(maxsize=1_000)
def _certificates(public: bytes) -> tuple[Certificate, ...]:
    return tuple(read_certificates(public))


def _identity(key: MailKey, private: bytes) -> Identity:
    from posthouse.mimesec.smime.identity import private_key

    certificates = _certificates(key.public)
    return Identity(private_key(private), certificates[0], certificates[1:])


def _material(identity: Identity) -> KeyMaterial:
    certificate = identity.certificate
    return KeyMaterial(
        scheme=Scheme.SMIME,
        fingerprint=certificate.fingerprint,
        addresses=certificate.addresses,
        public=identity.certificates_pem(),
        private=identity.key_octets(),
        expires_at=_expiry(certificate),
    )


def of_certificates(certificates: Sequence[Certificate]) -> KeyMaterial:
    """Somebody's certificate first, its issuers behind it."""
    own = certificates[0]
    return KeyMaterial(
        scheme=Scheme.SMIME,
        fingerprint=own.fingerprint,
        addresses=own.addresses,
        public=pem.certificates_pem(one.octets for one in certificates),
        expires_at=_expiry(own),
    )


def _expiry(certificate: Certificate) -> int:
    return int(certificate.not_after.timestamp() * 1e6)
