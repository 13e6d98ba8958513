"""Certificates as tests want them: chains of any shape, with any flaw."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 8, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Made:
    """A certificate with its key, and who made it."""

    def __init__(self, certificate: x509.Certificate, key, issuer: Made | None) -> None:
        self.certificate = certificate
        self.key = key
        self.issuer = issuer

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def chain(self) -> list[bytes]:
        """Itself and all above it, the root too."""
        found, one = [], self
        while one is not None:
            found.append(one.der)
            one = one.issuer
        return found

    @property
    def pem(self) -> bytes:
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + b"".join(
            x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in self.chain
        )

    def issue(self, name: str, **options) -> Made:
        return make(name, issuer=self, **options)


def make(
    name: str,
    *,
    issuer: Made | None = None,
    names: Sequence[str] | None = None,
    is_ca: bool = False,
    path_length: int | None = None,
    days: tuple[int, int] = (-10, 90),
    usage: x509.ObjectIdentifier | None = None,
    permitted: Sequence[str] = (),
    excluded: Sequence[str] = (),
    critical: x509.ObjectIdentifier | None = None,
    signs: bool | None = None,
    now: datetime = NOW,
    is_edwards: bool = False,
) -> Made:
    """Args:
    names: DNS names; None is `name`, () is no such extension.
    days: from and until, relative to `now`.
    critical: an extension of that kind that nobody knows, marked critical.
    signs: keyCertSign; None leaves key usage out.
    """
    key = ed25519.Ed25519PrivateKey.generate() if is_edwards else _key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
    )
    names = (name,) if names is None and not is_ca else names or ()
    if names:
        san = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(san, critical=False)
    if is_ca:
        basic = x509.BasicConstraints(ca=True, path_length=path_length)
        builder = builder.add_extension(basic, critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if permitted or excluded:
        constraints = x509.NameConstraints(
            [x509.DNSName(one) for one in permitted] or None,
            [x509.DNSName(one) for one in excluded] or None,
        )
        builder = builder.add_extension(constraints, critical=True)
    if critical is not None:
        unknown = x509.UnrecognizedExtension(critical, b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    if signs is not None:
        builder = builder.add_extension(_key_usage(signs=signs), critical=True)
    signer = key if issuer is None else issuer.key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    return Made(builder.sign(signer, digest), key, issuer)


def root(name: str = "Root", **options) -> Made:
    return make(name, is_ca=True, **options)


def _key():
    return ec.generate_private_key(ec.SECP256R1())


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH
SERVERS = ExtendedKeyUsageOID.SERVER_AUTH
