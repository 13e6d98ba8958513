"""Making certificates for mail addresses (RFC 5280, RFC 8550): self-signed, or by a small authority
of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.message.address import AddressError
from posthouse.mimesec import given
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import algorithms
from posthouse.mimesec.smime.addresses import alternative_name
from posthouse.mimesec.smime.algorithms import PrivateKey
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.identity import Identity

DAYS: Final = 730
AUTHORITY_DAYS: Final = 3650
DAYS_MAX: Final = 36_500
_BACKDATED: Final = timedelta(hours=1)
"""Others' clocks may be behind."""
COMMON_NAME_MAX: Final = 64  # RFC 5280 appendix A.1, ub-common-name


class KeyKind(Enum):
    P256 = "P-256"
    P384 = "P-384"
    P521 = "P-521"
    RSA2048 = "RSA 2048"
    RSA3072 = "RSA 3072"
    RSA4096 = "RSA 4096"
    ED25519 = "Ed25519"
    ED448 = "Ed448"
    X25519 = "X25519"
    X448 = "X448"


def new_key(kind: KeyKind) -> PrivateKey:
    """RSA takes up to seconds: on a worker."""
    given.check_choice(kind, KeyKind, "kind")
    match kind:
        case KeyKind.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyKind.P521:
            return ec.generate_private_key(ec.SECP521R1())
        case KeyKind.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyKind.ED448:
            return ed448.Ed448PrivateKey.generate()
        case KeyKind.X25519:
            return x25519.X25519PrivateKey.generate()
        case KeyKind.X448:
            return x448.X448PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, int(kind.value.split()[1]))


def make_identity(
    addresses: str | Sequence[str],
    *,
    at: datetime,
    name: str = "",
    kind: KeyKind = KeyKind.P256,
    days: int = DAYS,
    issuer: Identity | None = None,
    can_sign: bool = True,
    can_decrypt: bool = True,
) -> Identity:
    """A new key with a certificate for mail addresses.

    Args:
        addresses: one, or several.
        at: it is valid from an hour before.
        name: of the subject; the first address when there is none.
        issuer: an authority; None makes it self-signed.
        can_sign, can_decrypt: what it is for, as far as the kind of key can; RSA and the P curves
            can both.

    Raises:
        ProtectionError: an address is none, or a key that only encrypts has nobody to issue it.
    """
    addresses = given.texts(addresses, "addresses")
    _check(name, at, days, issuer)
    key = new_key(kind)
    if algorithms.is_exchange_only(key) and issuer is None:
        raise ProtectionError(
            f"an {kind.value} key cannot sign its own certificate",
            hint="make an authority first, and let it issue the certificate",
        )
    subject = _subject(name or (addresses[0] if addresses else ""))
    builder = _builder(subject, key, at, days, issuer)
    builder = builder.add_extension(_names(addresses), critical=False)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    usage = _usage(key, can_sign=can_sign, can_decrypt=can_decrypt)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
    )
    certificate = _signed(builder, issuer.key if issuer else key)
    chain = (issuer.certificate, *issuer.chain) if issuer else ()
    return Identity(key, certificate, chain)


def make_authority(
    name: str,
    *,
    at: datetime,
    kind: KeyKind = KeyKind.P256,
    days: int = AUTHORITY_DAYS,
    issuer: Identity | None = None,
    path_length: int | None = None,
    constraints: x509.NameConstraints | None = None,
) -> Identity:
    """A small authority: a root, or below another.

    Args:
        path_length: authorities that may be below it; None is any number.
        constraints: what it may vouch for, as the domains of mail addresses.

    Raises:
        ProtectionError: it has no name, or its key cannot sign.
    """
    _check(name, at, days, issuer)
    key = new_key(kind)
    if algorithms.is_exchange_only(key):
        raise ProtectionError(
            f"an {kind.value} key cannot sign certificates", hint="take P-256, RSA or Ed25519"
        )
    builder = _builder(_subject(name), key, at, days, issuer)
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = builder.add_extension(usage, critical=True)
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    certificate = _signed(builder, issuer.key if issuer else key)
    chain = (issuer.certificate, *issuer.chain) if issuer else ()
    return Identity(key, certificate, chain)


def _check(name: str, at: datetime, days: int, issuer: Identity | None) -> None:
    given.check_text(name, "name")
    given.check_time(at, "at")
    given.check_days(days, DAYS_MAX, "days")
    if issuer is not None:
        given.check_kind(issuer, Identity, "issuer", hint="make one: make_authority(…)")


def _subject(name: str) -> x509.Name:
    if not name:
        raise ProtectionError("a certificate needs a name", hint="give a name or an address")
    if not name.isprintable():
        raise ProtectionError("the name has control characters", hint="give the name as text")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:COMMON_NAME_MAX])])


def _names(addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    if not addresses:
        raise ProtectionError("a certificate for mail needs an address", hint="give the address")
    names = []
    for address in addresses:
        try:
            names.append(alternative_name(address))
        except AddressError as error:
            raise ProtectionError(
                f"{address!r} is no address: {error}", hint="give a whole address"
            ) from None
    return x509.SubjectAlternativeName(names)


def _builder(
    subject: x509.Name, key: PrivateKey, at: datetime, days: int, issuer: Identity | None
) -> x509.CertificateBuilder:
    if not 1 <= days <= DAYS_MAX:
        raise ProtectionError(
            f"a certificate cannot be valid for {days} days", hint=f"give 1 to {DAYS_MAX} days"
        )
    public = key.public_key()
    begin = at.replace(microsecond=0) - _BACKDATED
    signing = issuer.key.public_key() if issuer else public
    identifier = (
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            x509.SubjectKeyIdentifier(issuer.certificate.key_identifier)
        )
        if issuer and issuer.certificate.key_identifier
        else x509.AuthorityKeyIdentifier.from_issuer_public_key(signing)  # type: ignore[arg-type]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject_name if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(identifier, critical=False)
    )


def _usage(key: PrivateKey, *, can_sign: bool, can_decrypt: bool) -> x509.KeyUsage:
    is_edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    signs = can_sign and not algorithms.is_exchange_only(key)
    opens = can_decrypt and not is_edwards
    if not signs and not opens:
        raise ProtectionError(
            "a certificate that may do nothing", hint="choose signing, decrypting or both"
        )
    return x509.KeyUsage(
        digital_signature=signs, content_commitment=False, key_encipherment=opens and is_rsa,
        data_encipherment=False, key_agreement=opens and not is_rsa, key_cert_sign=False,
        crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signed(builder: x509.CertificateBuilder, key: PrivateKey) -> Certificate:
    if isinstance(key, x25519.X25519PrivateKey | x448.X448PrivateKey):
        raise ProtectionError("the authority's key cannot sign", hint="take another authority")
    digest = algorithms.signing_algorithm(key).scheme.digest
    how: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None
    if digest is not None:
        how = {"SHA-384": hashes.SHA384(), "SHA-512": hashes.SHA512()}.get(
            digest.name, hashes.SHA256()
        )  # type: ignore[assignment]
    return Certificate(builder.sign(key, how).public_bytes(Encoding.DER))
