"""Making AuthEnvelopedData (RFC 5083) and EnvelopedData (RFC 5652 §6) for a set of certificates."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from posthouse.mimesec.smime import algorithms, ciphers, der, key_agreement
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.signed import content_info, issuer_serial
from posthouse.mimesec.smime.structures import AUTH_ENVELOPED_DATA, DATA, ENVELOPED_DATA

_OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class KeyTransport(Enum):
    """How a key is encrypted to an RSA certificate."""

    OAEP = auto()  # RFC 3560, with SHA-256
    PKCS1 = auto()  # what every reader knows
    AS_READER = auto()  # OAEP where the reader says that it knows it, else PKCS1


def make(
    content: bytes,
    recipients: Sequence[tuple[Certificate, KeyTransport]],
    cipher: Cipher,
    *,
    has_key_ids: bool = False,
    is_hkdf: bool = False,
) -> bytes:
    """A content for recipients, in a ContentInfo.

    Args:
        recipients: AS_READER has been settled by the caller.
        has_key_ids: name recipients by subjectKeyIdentifier where they have one.
        is_hkdf: as `key_agreement.wrap`.

    Raises:
        UnsupportedForm: a key cannot be encrypted to.
    """
    key = ciphers.fresh(cipher.key_octets)
    infos, is_plain = [], True
    for certificate, transport in recipients:
        by_id = has_key_ids and bool(certificate.key_identifier)
        if isinstance(certificate.public_key, rsa.RSAPublicKey):
            infos.append(_key_transport(certificate, key, transport, by_id=by_id))
            is_plain &= not by_id
        else:
            infos.append(_key_agreement(certificate, key, by_id=by_id, is_hkdf=is_hkdf))
            is_plain = False
    found = ciphers.encrypt(cipher, key, content)
    inner = der.sequence(
        der.oid(DATA), found.algorithm, der.tlv(der.context(0, is_constructed=False), found.content)
    )
    if cipher.is_authenticated:
        body = der.sequence(der.number(0), der.set_of(infos), inner, der.octet_string(found.tag))
        return content_info(AUTH_ENVELOPED_DATA, body)
    body = der.sequence(der.number(0 if is_plain else 2), der.set_of(infos), inner)
    return content_info(ENVELOPED_DATA, body)


def _key_transport(
    certificate: Certificate, key: bytes, transport: KeyTransport, *, by_id: bool
) -> bytes:
    """KeyTransRecipientInfo (RFC 5652 §6.2.1)."""
    public = certificate.public_key
    assert isinstance(public, rsa.RSAPublicKey)
    if transport is KeyTransport.OAEP:
        algorithm, encrypted = algorithms.oaep_der(), public.encrypt(key, _OAEP)
    else:
        algorithm = algorithms.algorithm(algorithms.RSA_ENCRYPTION, der.NULL_VALUE)
        encrypted = public.encrypt(key, padding.PKCS1v15())
    if by_id:
        named = der.tlv(der.context(0, is_constructed=False), certificate.key_identifier)
    else:
        named = der.sequence(issuer_serial(certificate))
    version = der.number(2 if by_id else 0)
    return der.sequence(version, named, algorithm, der.octet_string(encrypted))


def _key_agreement(certificate: Certificate, key: bytes, *, by_id: bool, is_hkdf: bool) -> bytes:
    """KeyAgreeRecipientInfo (RFC 5652 §6.2.2), one for each recipient with a key of its own."""
    if certificate.public_key is None:
        raise UnsupportedForm("this kind of key cannot be encrypted to")
    wrapped = key_agreement.wrap(certificate.public_key, key, is_hkdf=is_hkdf)
    if by_id:
        named = der.tlv(der.context(0), der.octet_string(certificate.key_identifier))
    else:
        named = der.sequence(issuer_serial(certificate))
    body = (
        der.number(3)
        + der.tlv(der.context(0), der.tlv(der.context(1), wrapped.originator))
        + wrapped.algorithm
        + der.sequence(der.sequence(named, der.octet_string(wrapped.key)))
    )
    return der.tlv(der.context(1), body)
