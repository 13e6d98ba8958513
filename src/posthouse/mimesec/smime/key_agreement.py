"""ECDH with an ephemeral key of the sender (RFC 5753, RFC 8418): from two keys to a wrapped one."""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from posthouse.mimesec.smime import algorithms, der
from posthouse.mimesec.smime.algorithms import (
    SHA1,
    SHA224,
    SHA256,
    SHA384,
    SHA512,
    Digest,
    PrivateKey,
    PublicKey,
    UnsupportedForm,
)
from posthouse.mimesec.smime.structures import KeyAgreement

WRAPS: Final = {
    "2.16.840.1.101.3.4.1.5": 16,
    "2.16.840.1.101.3.4.1.25": 24,
    "2.16.840.1.101.3.4.1.45": 32,
}
"""AES key wrap (RFC 3394), with the octets of its key."""
AES_256_WRAP: Final = "2.16.840.1.101.3.4.1.45"
UKM_OCTETS_MAX: Final = 1024


class Derivation(msgspec.Struct, frozen=True):
    digest: Digest
    is_hkdf: bool = False


# The cofactor of all curves that are taken is 1, so both kinds of RFC 5753 §7.1.4 are the same.
DERIVATIONS: Final = {
    "1.3.133.16.840.63.0.2": Derivation(SHA1),
    "1.3.132.1.11.0": Derivation(SHA224),
    "1.3.132.1.11.1": Derivation(SHA256),
    "1.3.132.1.11.2": Derivation(SHA384),
    "1.3.132.1.11.3": Derivation(SHA512),
    "1.3.133.16.840.63.0.3": Derivation(SHA1),
    "1.3.132.1.14.0": Derivation(SHA224),
    "1.3.132.1.14.1": Derivation(SHA256),
    "1.3.132.1.14.2": Derivation(SHA384),
    "1.3.132.1.14.3": Derivation(SHA512),
    "1.2.840.113549.1.9.16.3.19": Derivation(SHA256, is_hkdf=True),
    "1.2.840.113549.1.9.16.3.20": Derivation(SHA384, is_hkdf=True),
    "1.2.840.113549.1.9.16.3.21": Derivation(SHA512, is_hkdf=True),
}
STANDARD: Final = {256: "1.3.132.1.11.1", 384: "1.3.132.1.11.2", 512: "1.3.132.1.11.3"}
HKDF_SHA256: Final = "1.2.840.113549.1.9.16.3.19"


class Wrapped(msgspec.Struct, frozen=True):
    """What one recipient gets, in DER where it is a structure."""

    originator: bytes
    """OriginatorPublicKey without its tag."""
    algorithm: bytes
    key: bytes


def wrap(public: PublicKey, content_key: bytes, *, is_hkdf: bool = False) -> Wrapped:
    """A content key for a recipient, by a key pair made for this alone.

    Args:
        is_hkdf: for X25519 and X448: RFC 8418 §2.2 in place of §2.1, which more programs know.
    """
    if isinstance(public, EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(public.curve)
        shared = ephemeral.exchange(ec.ECDH(), public)
        point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        scheme = STANDARD[256 if public.key_size <= 256 else 384 if public.key_size <= 384 else 512]
        return _wrapped(_ec_algorithm(public), point, scheme, shared, content_key)
    if isinstance(public, x25519.X25519PublicKey):
        own = x25519.X25519PrivateKey.generate()
        scheme = HKDF_SHA256 if is_hkdf else STANDARD[256]
        point = own.public_key().public_bytes_raw()
        oid = algorithms.X25519
        return _wrapped(algorithms.algorithm(oid), point, scheme, own.exchange(public), content_key)
    if isinstance(public, x448.X448PublicKey):
        mine = x448.X448PrivateKey.generate()
        point = mine.public_key().public_bytes_raw()
        oid, scheme = algorithms.X448, STANDARD[512]
        return _wrapped(
            algorithms.algorithm(oid), point, scheme, mine.exchange(public), content_key
        )
    raise UnsupportedForm("this kind of key cannot be encrypted to")


def _ec_algorithm(public: EllipticCurvePublicKey) -> bytes:
    """id-ecPublicKey with the recipient's curve, as its own certificate has it."""
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der.Fields.of(octets).take(der.SEQUENCE).whole


def _wrapped(
    algorithm: bytes, point: bytes, scheme: str, shared: bytes, content_key: bytes
) -> Wrapped:
    wrap_der = algorithms.algorithm(AES_256_WRAP)
    key = _derived(DERIVATIONS[scheme], shared, wrap_der, None, WRAPS[AES_256_WRAP])
    return Wrapped(
        algorithm + der.tlv(der.BIT_STRING, b"\0" + point),
        algorithms.algorithm(scheme, wrap_der),
        aes_key_wrap(key, content_key),
    )


def unwrap(private: PrivateKey, recipient: KeyAgreement) -> bytes:
    """The content key that a message has for a private key of ours.

    Raises:
        UnsupportedForm, BadStructure: the structure says what is not taken.
        ValueError, InvalidUnwrap: it is not the right key, or the structure was changed.
    """
    derivation = DERIVATIONS.get(recipient.algorithm.oid)
    if derivation is None:
        raise UnsupportedForm(f"the key agreement {recipient.algorithm.oid} is not known")
    wrap_der = recipient.algorithm.parameters
    how = algorithms.identifier(der.element(wrap_der, der.SEQUENCE))
    key_octets = WRAPS.get(how.oid)
    if key_octets is None:
        raise UnsupportedForm(f"the key wrap {how.oid} is not known")
    if recipient.ukm is not None and len(recipient.ukm) > UKM_OCTETS_MAX:
        raise UnsupportedForm("its user keying material is too long")
    shared = _shared(private, recipient)
    key = _derived(derivation, shared, wrap_der, recipient.ukm, key_octets)
    return aes_key_unwrap(key, recipient.key)


def _shared(private: PrivateKey, recipient: KeyAgreement) -> bytes:
    """Points that are not on the curve, and those that give nothing but zeros, raise ValueError."""
    point = recipient.originator
    if isinstance(private, EllipticCurvePrivateKey):
        own = _ec_algorithm(private.public_key())
        curve = der.Fields.of(own)
        curve.take(der.OID)
        if recipient.originator_curve not in (b"", der.NULL_VALUE, curve.take().whole):
            raise ValueError("another curve")
        theirs = EllipticCurvePublicKey.from_encoded_point(private.curve, point)
        return private.exchange(ec.ECDH(), theirs)
    if isinstance(private, x25519.X25519PrivateKey):
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(point))
    if isinstance(private, x448.X448PrivateKey):
        return private.exchange(x448.X448PublicKey.from_public_bytes(point))
    raise ValueError("another kind of key")


def _derived(
    derivation: Derivation, shared: bytes, wrap_der: bytes, ukm: bytes | None, octets: int
) -> bytes:
    """From ECC-CMS-SharedInfo (RFC 5753 §7.2; RFC 8418 §2.2 has the ukm as salt, too)."""
    info = wrap_der
    if ukm is not None:
        info += der.tlv(der.context(0), der.octet_string(ukm))
    bits = (octets * 8).to_bytes(4, "big")
    info = der.sequence(info, der.tlv(der.context(2), der.octet_string(bits)))
    digest = derivation.digest.hash()
    if derivation.is_hkdf:
        return HKDF(digest, length=octets, salt=ukm, info=info).derive(shared)
    return X963KDF(digest, length=octets, sharedinfo=info).derive(shared)
