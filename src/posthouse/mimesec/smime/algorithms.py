"""The algorithms of S/MIME 4.0 (RFC 8551 §2.1, §2.2, §2.3, §2.7): what is made, what is read, and
what is refused by name.

Signatures: RSA PKCS #1 v1.5 and PSS (RFC 4056), ECDSA (RFC 5753), Ed25519 and Ed448 (RFC 8419),
with SHA-2; SHA-1 and MD5 prove nothing any more and are refused. The same check serves
certificates, CRLs and OCSP responses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x448, x25519

from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.der import BadStructure

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | x25519.X25519PrivateKey
    | x448.X448PrivateKey
)
PublicKey: TypeAlias = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | x25519.X25519PublicKey
    | x448.X448PublicKey
)

RSA_BITS_MIN: Final = 2048  # of keys that sign or are encrypted to
RSA_DECRYPT_BITS_MIN: Final = 1024  # of keys of our own that open old mail
RSA_BITS_MAX: Final = 8192
RSA_EXPONENT_MAX: Final = 1 << 33
"""A larger one only makes strangers' signatures dear to check (RFC 8551 §7)."""

RSA_ENCRYPTION: Final = "1.2.840.113549.1.1.1"
RSA_OAEP: Final = "1.2.840.113549.1.1.7"
MGF1: Final = "1.2.840.113549.1.1.8"
RSA_PSS: Final = "1.2.840.113549.1.1.10"
P_SPECIFIED: Final = "1.2.840.113549.1.1.9"
ED25519: Final = "1.3.101.112"
ED448: Final = "1.3.101.113"
X25519: Final = "1.3.101.110"
X448: Final = "1.3.101.111"
EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"


class UnsupportedForm(Exception):
    """Something is well formed but not accepted; `str()` says what, in plain words."""


class Digest(msgspec.Struct, frozen=True):
    name: str
    oid: str
    micalg: str
    """RFC 8551 §3.5.3.2."""
    parameters: bytes
    """DER behind the identifier when it is written (RFC 5754 wants none)."""
    hash: Callable[[], hashes.HashAlgorithm]
    of: Callable[[bytes], bytes]


SHA1: Final = Digest(
    "SHA-1", "1.3.14.3.2.26", "sha-1", b"", hashes.SHA1,
    lambda octets: hashlib.sha1(octets, usedforsecurity=False).digest(),
)  # fmt: skip
SHA224: Final = Digest(
    "SHA-224", "2.16.840.1.101.3.4.2.4", "sha-224", b"", hashes.SHA224,
    lambda octets: hashlib.sha224(octets).digest(),
)  # fmt: skip
SHA256: Final = Digest(
    "SHA-256", "2.16.840.1.101.3.4.2.1", "sha-256", b"", hashes.SHA256,
    lambda octets: hashlib.sha256(octets).digest(),
)  # fmt: skip
SHA384: Final = Digest(
    "SHA-384", "2.16.840.1.101.3.4.2.2", "sha-384", b"", hashes.SHA384,
    lambda octets: hashlib.sha384(octets).digest(),
)  # fmt: skip
SHA512: Final = Digest(
    "SHA-512", "2.16.840.1.101.3.4.2.3", "sha-512", b"", hashes.SHA512,
    lambda octets: hashlib.sha512(octets).digest(),
)  # fmt: skip
SHAKE256: Final = Digest(
    "SHAKE256", "2.16.840.1.101.3.4.2.18", "unknown", der.number(512),
    lambda: hashes.SHAKE256(64), lambda octets: hashlib.shake_256(octets).digest(64),
)  # fmt: skip
"""With 512 bits, for Ed448 (RFC 8419 §2.3)."""

DIGESTS: Final = {one.oid: one for one in (SHA224, SHA256, SHA384, SHA512, SHAKE256)}
"""Accepted in signatures."""
BROKEN_DIGESTS: Final = {
    SHA1.oid: "SHA-1",
    "1.2.840.113549.2.5": "MD5",
    "1.2.840.113549.2.2": "MD2",
    "1.3.36.3.2.1": "RIPEMD-160",
}
ANY_DIGESTS: Final = {**DIGESTS, SHA1.oid: SHA1}
"""Also where collisions do no harm: OAEP, key derivation, names of certificates."""


class Kind(Enum):
    RSA = "RSA"
    RSA_PSS = "RSA-PSS"
    ECDSA = "ECDSA"
    ED25519 = "Ed25519"
    ED448 = "Ed448"


class Scheme(msgspec.Struct, frozen=True):
    """How a signature is made: all that its AlgorithmIdentifier says."""

    kind: Kind
    digest: Digest | None = None
    """None for the Edwards curves, which hash for themselves."""
    salt_octets: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} with {self.digest.name}" if self.digest else self.kind.value


# Identifiers that name the digest, too.
SIGNATURES: Final = {
    "1.2.840.113549.1.1.14": Scheme(Kind.RSA, SHA224),
    "1.2.840.113549.1.1.11": Scheme(Kind.RSA, SHA256),
    "1.2.840.113549.1.1.12": Scheme(Kind.RSA, SHA384),
    "1.2.840.113549.1.1.13": Scheme(Kind.RSA, SHA512),
    "1.2.840.10045.4.3.1": Scheme(Kind.ECDSA, SHA224),
    "1.2.840.10045.4.3.2": Scheme(Kind.ECDSA, SHA256),
    "1.2.840.10045.4.3.3": Scheme(Kind.ECDSA, SHA384),
    "1.2.840.10045.4.3.4": Scheme(Kind.ECDSA, SHA512),
    ED25519: Scheme(Kind.ED25519),
    ED448: Scheme(Kind.ED448),
}
ECDSA_OIDS: Final = {
    scheme.digest: oid for oid, scheme in SIGNATURES.items() if scheme.kind is Kind.ECDSA
}
BROKEN_SIGNATURES: Final = {
    "1.2.840.113549.1.1.2": "RSA with MD2",
    "1.2.840.113549.1.1.4": "RSA with MD5",
    "1.2.840.113549.1.1.5": "RSA with SHA-1",
    "1.3.14.3.2.29": "RSA with SHA-1",
    "1.2.840.10045.4.1": "ECDSA with SHA-1",
    "1.2.840.10040.4.1": "DSA",
    "1.2.840.10040.4.3": "DSA with SHA-1",
    "2.16.840.1.101.3.4.3.1": "DSA",
    "2.16.840.1.101.3.4.3.2": "DSA",
}


class Identifier(msgspec.Struct, frozen=True):
    """An AlgorithmIdentifier as it came."""

    oid: str
    parameters: bytes = b""
    """DER with its header; b"" when absent."""


def identifier(value: der.Element) -> Identifier:
    """Of an AlgorithmIdentifier, which may be tagged in place of its own tag."""
    if not value.identifier & der.CONSTRUCTED:
        raise BadStructure("an algorithm that is no algorithm")
    fields = der.Fields(value.content, count_max=2)
    oid = der.dotted(fields.take(der.OID).content)
    rest = fields.rest()
    return Identifier(oid, rest[0].whole if rest else b"")


def digest_of(found: Identifier, known: dict[str, Digest] = DIGESTS) -> Digest:
    """Raises UnsupportedForm for a digest that is not accepted."""
    digest = known.get(found.oid)
    if digest is None:
        name = BROKEN_DIGESTS.get(found.oid)
        raise UnsupportedForm(
            f"it uses {name}, which is broken" if name else f"its digest {found.oid} is not known"
        )
    if digest is SHAKE256 and found.parameters != digest.parameters:
        raise UnsupportedForm("SHAKE256 with another length than 512 bits")
    return digest


def scheme_of(found: Identifier, digest: Digest | None = None) -> Scheme:
    """What an AlgorithmIdentifier of a signature says.

    Args:
        digest: of the signer's digestAlgorithm, for identifiers that name none.

    Raises:
        UnsupportedForm: it is not accepted.
        BadStructure: its parameters are no parameters.
    """
    if found.oid == RSA_PSS:
        return _pss(found.parameters)
    if found.oid == RSA_ENCRYPTION and digest is not None:
        return Scheme(Kind.RSA, digest)
    scheme = SIGNATURES.get(found.oid)
    if scheme is None:
        name = BROKEN_SIGNATURES.get(found.oid)
        raise UnsupportedForm(
            f"it is signed by {name}, which is not accepted"
            if name
            else f"the signature algorithm {found.oid} is not known"
        )
    return scheme


def _pss(parameters: bytes) -> Scheme:
    """RSASSA-PSS-params (RFC 4055 §3.1), whose defaults all mean SHA-1."""
    digest, mask, salt_octets = _padding(parameters, last_is_number=True)
    if mask.oid != digest.oid:
        raise UnsupportedForm("RSA-PSS with two digests")
    if digest.oid not in DIGESTS:
        raise UnsupportedForm("it is signed by RSA-PSS with SHA-1, which is not accepted")
    return Scheme(Kind.RSA_PSS, digest, salt_octets)


def oaep_digests(parameters: bytes) -> tuple[Digest, Digest]:
    """Of RSAES-OAEP-params (RFC 4055 §4.1): the digest and that of MGF1."""
    digest, mask, _ = _padding(parameters, last_is_number=False)
    return digest, mask


def _padding(parameters: bytes, *, last_is_number: bool) -> tuple[Digest, Digest, int]:
    """The fields that parameters of PSS and OAEP share: [0] digest, [1] mask, [2]."""
    if not parameters:
        raise UnsupportedForm("RSA padding without parameters")
    digest = mask = SHA1
    salt_octets = 20
    fields = der.Fields.of(parameters)
    if value := fields.take_if(der.context(0)):
        digest = digest_of(identifier(der.element(value.content, der.SEQUENCE)), ANY_DIGESTS)
    if value := fields.take_if(der.context(1)):
        function = identifier(der.element(value.content, der.SEQUENCE))
        if function.oid != MGF1:
            raise UnsupportedForm("an unknown mask of RSA padding")
        inner = der.element(function.parameters, der.SEQUENCE)
        mask = digest_of(identifier(inner), ANY_DIGESTS)
    if value := fields.take_if(der.context(2)):
        if last_is_number:
            salt_octets = der.small(der.element(value.content, der.INTEGER))
        elif not _is_empty_label(value):
            raise UnsupportedForm("RSA-OAEP with a label")
    if salt_octets > RSA_BITS_MAX // 8:
        raise BadStructure("a salt longer than the key")
    return digest, mask, salt_octets


def _is_empty_label(value: der.Element) -> bool:
    source = identifier(der.element(value.content, der.SEQUENCE))
    return source.oid == P_SPECIFIED and source.parameters == der.octet_string(b"")


# --- keys ---


def why_weak(key: PublicKey, *, rsa_bits_min: int = RSA_BITS_MIN) -> str:
    """Why a key is not used at all, in words; "" when it may be."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < rsa_bits_min:
            return f"an RSA key of {key.key_size} bits is too short"
        if key.key_size > RSA_BITS_MAX or key.public_numbers().e > RSA_EXPONENT_MAX:
            return f"an RSA key of {key.key_size} bits or its exponent is too large"
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < 224:
        return f"the curve {key.curve.name} is too small"
    return ""


def verify(key: PublicKey, scheme: Scheme, signature: bytes, octets: bytes) -> bool:
    """Whether the signature is the key's. A key of another kind than the scheme's gives False."""
    try:
        return _verify(key, scheme, signature, octets)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):  # a salt that does not fit, a bad curve
        return False


def _verify(key: PublicKey, scheme: Scheme, signature: bytes, octets: bytes) -> bool:
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        wanted = Kind.ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else Kind.ED448
        if scheme.kind is not wanted:
            return False
        key.verify(signature, octets)
        return True
    if scheme.digest is None or why_weak(key):
        return False
    digest = scheme.digest.hash()
    if isinstance(key, rsa.RSAPublicKey) and scheme.kind in (Kind.RSA, Kind.RSA_PSS):
        key.verify(signature, octets, _rsa_padding(scheme), digest)
        return True
    if isinstance(key, ec.EllipticCurvePublicKey) and scheme.kind is Kind.ECDSA:
        key.verify(signature, octets, ec.ECDSA(digest))
        return True
    return False


def _rsa_padding(scheme: Scheme) -> padding.AsymmetricPadding:
    if scheme.kind is Kind.RSA:
        return padding.PKCS1v15()
    assert scheme.digest is not None
    return padding.PSS(padding.MGF1(scheme.digest.hash()), scheme.salt_octets)


# --- what signs ---


class SigningAlgorithm(msgspec.Struct, frozen=True):
    """How a key signs: the two identifiers in DER and the work itself."""

    digest: Digest
    digest_der: bytes
    signature_der: bytes
    scheme: Scheme
    sign: Callable[[bytes], bytes]


def algorithm(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.oid(oid), *parameters)


def digest_der(digest: Digest) -> bytes:
    return algorithm(digest.oid, digest.parameters)


def pss_der(digest: Digest) -> bytes:
    """RFC 4055 §3.1; the salt is as long as the digest."""
    plain = algorithm(digest.oid, der.NULL_VALUE)
    salt_octets = digest.hash().digest_size
    parameters = der.sequence(
        der.tlv(der.context(0), plain),
        der.tlv(der.context(1), algorithm(MGF1, plain)),
        der.tlv(der.context(2), der.number(salt_octets)),
    )
    return algorithm(RSA_PSS, parameters)


def oaep_der() -> bytes:
    """RSAES-OAEP with SHA-256 for both of its digests (RFC 4055 §4.1)."""
    plain = algorithm(SHA256.oid, der.NULL_VALUE)
    mask = algorithm(MGF1, plain)
    parameters = der.sequence(der.tlv(der.context(0), plain), der.tlv(der.context(1), mask))
    return algorithm(RSA_OAEP, parameters)


def signing_algorithm(key: PrivateKey, *, is_pss: bool = False) -> SigningAlgorithm:
    """What a private key signs with: SHA-256, or what its size or its RFC demands.

    Raises:
        UnsupportedForm: the key cannot sign.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return _rsa_signing(key, is_pss=is_pss)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest = {384: SHA384, 521: SHA512}.get(key.curve.key_size, SHA256)
        how = ec.ECDSA(digest.hash())
        return SigningAlgorithm(
            digest, digest_der(digest), algorithm(ECDSA_OIDS[digest]), Scheme(Kind.ECDSA, digest),
            lambda octets: key.sign(octets, how),
        )  # fmt: skip
    if isinstance(key, ed25519.Ed25519PrivateKey):  # RFC 8419 §3.1
        return SigningAlgorithm(
            SHA512, digest_der(SHA512), algorithm(ED25519), Scheme(Kind.ED25519), key.sign
        )
    if isinstance(key, ed448.Ed448PrivateKey):
        return SigningAlgorithm(
            SHAKE256, digest_der(SHAKE256), algorithm(ED448), Scheme(Kind.ED448), key.sign
        )
    raise UnsupportedForm("this kind of key cannot sign")


def _rsa_signing(key: rsa.RSAPrivateKey, *, is_pss: bool) -> SigningAlgorithm:
    digest = SHA256
    how = Scheme(Kind.RSA, digest)
    signature = algorithm(RSA_ENCRYPTION, der.NULL_VALUE)
    if is_pss:
        how = Scheme(Kind.RSA_PSS, digest, digest.hash().digest_size)
        signature = pss_der(digest)
    filling, hashed = _rsa_padding(how), digest.hash()
    return SigningAlgorithm(
        digest, digest_der(digest), signature, how, lambda octets: key.sign(octets, filling, hashed)
    )


def key_name(key: PublicKey) -> str:
    """ "RSA 3072", "P-256", "X25519": for people."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
        return names.get(key.curve.name, key.curve.name)
    return type(key).__name__.removeprefix("_").removesuffix("PublicKey")


def is_exchange_only(key: PrivateKey) -> bool:
    """Whether it can agree on keys and never sign."""
    return isinstance(key, x25519.X25519PrivateKey | x448.X448PrivateKey)


def as_public_key(key: Any) -> PublicKey | None:
    """The key when it is of a kind that is used here."""
    return key if isinstance(key, PublicKey) else None
