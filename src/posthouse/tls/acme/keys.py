"""Keys and certificate requests, and the certificate that answers tls-alpn-01."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    PublicKeyTypes,
)

from posthouse.kernel.errors import UserError
from posthouse.tls.acme.options import KeyKind

RSA_BITS: Final = 2048
ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 §6.1
OCTET_STRING_32: Final = b"\x04\x20"
"""DER of the type and length of the 32 octets that follow (RFC 8737 §3)."""
CHALLENGE_LIVES: Final = timedelta(days=1)


def new_key(kind: KeyKind = KeyKind.ECDSA) -> bytes:
    """A private key as PEM. ECDSA takes no time; RSA some 100 ms."""
    key: CertificateIssuerPrivateKeyTypes
    if kind is KeyKind.RSA:
        key = rsa.generate_private_key(65537, RSA_BITS)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    return pem_of(key)


def pem_of(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes, what: str) -> CertificateIssuerPrivateKeyTypes:
    """Raises UserError, naming `what`, for what is no private key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise UserError(f"{what} holds no private key") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise UserError(f"{what} holds a key that no certificate is given for")
    return key


def public_key(pem: bytes, what: str) -> PublicKeyTypes:
    """Raises UserError for what is no private key."""
    return load_key(pem, what).public_key()


def request(name: str, key_pem: bytes) -> bytes:
    """A certificate signing request as PEM (RFC 8555 §7.4, RFC 2986)."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(load_key(key_pem, "the key"), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def challenge_certificate(name: str, key_authorization: str, now: datetime) -> tuple[bytes, bytes]:
    """Chain and key, as PEM, that prove control of `name` by tls-alpn-01 (RFC 8737 §3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    extension = x509.UnrecognizedExtension(ACME_IDENTIFIER, OCTET_STRING_32 + digest)
    nobody = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CHALLENGE_LIVES)
        .not_valid_after(now + CHALLENGE_LIVES)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .add_extension(extension, critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), pem_of(key)
