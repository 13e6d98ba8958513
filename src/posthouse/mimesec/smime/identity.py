"""A certificate of ours with its private key, and what comes in PEM and PKCS #12 files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from posthouse.kernel.secret import Secret
from posthouse.mimesec import given
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import algorithms, pem, pkcs12
from posthouse.mimesec.smime.algorithms import PrivateKey
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.der import BadStructure

CHAIN_MAX: Final = 10


class Identity:
    """Somebody's private key with the certificate for it. Its key is shown nowhere."""

    def __init__(
        self, key: PrivateKey, certificate: Certificate, chain: Sequence[Certificate] = ()
    ) -> None:
        """
        Args:
            chain: issuers on the way to a root, the nearest first.

        Raises:
            ProtectionError: the key is not the certificate's.
        """
        if public_octets(key) != certificate.key_octets and not _is_pair(key, certificate):
            raise ProtectionError(
                f"the private key does not belong to the certificate of {certificate.name}",
                hint="take the key and the certificate from the same request",
            )
        self.key = key
        self.certificate = certificate
        self.chain = tuple(chain[:CHAIN_MAX])

    def __repr__(self) -> str:
        return f"Identity({self.certificate!r})"

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.certificate.addresses

    @property
    def can_sign(self) -> bool:
        is_exchange = algorithms.is_exchange_only(self.key)
        return not is_exchange and not self.certificate.why_not_signing()

    @property
    def can_decrypt(self) -> bool:
        return not self.certificate.why_not_encryption()

    def key_pem(self, password: Secret | None = None) -> bytes:
        """PKCS #8, encrypted where there is a password."""
        return pem.key_pem(self.key, password)

    def certificates_pem(self) -> bytes:
        """The certificate and its chain."""
        return pem.certificates_pem(one.octets for one in (self.certificate, *self.chain))

    def key_octets(self) -> bytes:
        """PKCS #8 in DER, in the open: for a key store that seals it."""
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def public_octets(key: PrivateKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_pair(key: PrivateKey, certificate: Certificate) -> bool:
    """Where the certificate writes the same key in another way (RSASSA-PSS, curve parameters)."""
    return certificate.public_key is not None and public_octets(
        key
    ) == certificate.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _accepted(key: Any) -> PrivateKey:
    if not isinstance(key, PrivateKey):
        raise ProtectionError(
            f"a private key of the kind {type(key).__name__} is not used in S/MIME",
            hint="use RSA of 2048 bits or more, P-256, P-384, P-521, Ed25519 or X25519",
        )
    public = key.public_key()
    weak = algorithms.why_weak(public, rsa_bits_min=algorithms.RSA_DECRYPT_BITS_MIN)
    if weak:
        raise ProtectionError(weak, hint="use RSA of 2048 to 8192 bits")
    return key


def private_key(octets: bytes, password: Secret | str | None = None) -> PrivateKey:
    """A private key in PEM or DER.

    Raises:
        ProtectionError: it is none, or the password is wrong or missing.
    """
    given.check_octets(octets, "private_key")
    word = _word(password)
    load = load_pem_private_key if b"-----BEGIN" in octets else load_der_private_key
    try:
        return _accepted(load(octets, word))
    except ProtectionError:
        raise
    except TypeError:
        text = "has a password" if password is None else "has no password"
        raise ProtectionError(
            f"the private key {text}",
            hint="give its password" if password is None else "give none",
        ) from None
    except Exception:  # the library's own words may show a part of what it read
        raise ProtectionError(
            "the private key cannot be read",
            hint="check its password, and that it is a key in PEM or DER",
        ) from None


def _word(password: Secret | str | None) -> bytes | None:
    word = given.secret(password)
    return word.reveal().encode() if word else None


def from_pem(key: bytes, certificates: bytes, password: Secret | str | None = None) -> Identity:
    """Of a private key and its certificate with the chain, in any order.

    Raises:
        ProtectionError: they cannot be read, or none of the certificates is the key's.
    """
    given.check_octets(key, "from_pem")
    given.check_octets(certificates, "from_pem")
    loaded = private_key(key, password)
    found = read_certificates(certificates)
    return _with_chain(loaded, found)


def read_certificates(octets: bytes) -> list[Certificate]:
    """Certificates in PEM, or one in DER.

    Raises:
        ProtectionError: there is none, or one of them cannot be read.
    """
    given.check_octets(octets, "read_certificates")
    try:
        return [Certificate(one) for one in pem.certificates(octets)]
    except BadStructure as error:
        raise ProtectionError(
            f"a certificate cannot be read: {error}", hint="give certificates in PEM or DER"
        ) from None


def from_pkcs12(octets: bytes, password: Secret | str | None = None) -> tuple[Identity, ...]:
    """All of a PKCS #12 file (.p12, .pfx): one identity for each private key, those that sign
    first.

    Raises:
        ProtectionError: it cannot be read, the password is wrong or missing, or no key has its
            certificate.
    """
    given.check_octets(octets, "from_pkcs12")
    keys, found = pkcs12.read(octets, given.secret(password))
    certificates = _readable(found)
    identities = [_with_chain(private_key(key), certificates) for key in keys]
    return tuple(sorted(identities, key=lambda one: not one.can_sign))


def _readable(found: Iterable[bytes]) -> list[Certificate]:
    try:
        return [Certificate(one) for one in found]
    except BadStructure as error:
        raise ProtectionError(
            f"a certificate in the file cannot be read: {error}", hint="export the file again"
        ) from None


def _with_chain(key: PrivateKey, found: Sequence[Certificate]) -> Identity:
    """The key's own certificate, and from the others the way up."""
    octets = public_octets(key)
    own = [one for one in found if one.key_octets == octets or _is_pair(key, one)]
    if not own:
        raise ProtectionError(
            "none of the certificates belongs to the private key",
            hint="give the certificate that was made for this key",
        )
    newest = max(own, key=lambda one: one.not_after)
    chain: list[Certificate] = []
    last = newest
    while len(chain) < CHAIN_MAX and not last.is_self_issued:
        above = [one for one in found if one not in (newest, *chain) and last.is_issuer_named(one)]
        if not above:
            break
        last = above[0]
        chain.append(last)
    return Identity(key, newest, chain)
