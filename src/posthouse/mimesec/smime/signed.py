"""Making SignedData (RFC 5652 §5, RFC 8551 §2.5): detached for multipart/signed, or opaque."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from posthouse.mimesec.smime import capabilities, der
from posthouse.mimesec.smime.algorithms import SigningAlgorithm
from posthouse.mimesec.smime.capabilities import OWN, Capabilities
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.structures import DATA, SIGNED_DATA

CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
SMIME_CAPABILITIES: Final = "1.2.840.113549.1.9.15"
SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
ENCRYPTION_KEY_PREFERENCE: Final = "1.2.840.113549.1.9.16.2.11"
ALGORITHM_PROTECTION: Final = "1.2.840.113549.1.9.52"


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """All of a signer's SignedData that stays the same from message to message, in DER."""

    algorithm: SigningAlgorithm
    certificates: bytes
    signer: bytes
    fixed: tuple[bytes, ...]
    """Signed attributes."""


def maker(
    algorithm: SigningAlgorithm,
    certificate: Certificate,
    chain: tuple[Certificate, ...],
    *,
    encryption: Certificate | None = None,
    reads: Capabilities = OWN,
) -> Maker:
    """
    Args:
        chain: sent along so that a reader finds the way; a root is not needed by anybody.
        encryption: what answers should be encrypted to, sent along and named.
        reads: what answers may be encrypted by.
    """
    sent = [certificate, *chain] + ([encryption] if encryption else [])
    fixed = [
        attribute(CONTENT_TYPE, der.oid(DATA)),
        attribute(SIGNING_CERTIFICATE_V2, _signing_certificate(certificate)),
        attribute(SMIME_CAPABILITIES, capabilities.write_capabilities(reads)),
    ]
    if encryption is not None:
        named = issuer_serial(encryption)
        fixed.append(attribute(ENCRYPTION_KEY_PREFERENCE, der.tlv(der.context(0), named)))
    return Maker(
        algorithm=algorithm,
        certificates=der.set_of(
            dict.fromkeys(one.octets for one in sent), identifier=der.context(0)
        ),
        signer=der.sequence(issuer_serial(certificate)),
        fixed=tuple(fixed),
    )


def make(made: Maker, content: bytes, *, at: datetime, is_detached: bool) -> bytes:
    """SignedData in a ContentInfo."""
    digest = made.algorithm.digest
    attributes = der.set_of((
        *made.fixed,
        attribute(MESSAGE_DIGEST, der.octet_string(digest.of(content))),
        attribute(SIGNING_TIME, der.time(at)),
    ))  # fmt: skip
    signature = made.algorithm.sign(attributes)
    signer = der.sequence(
        der.number(1),
        made.signer,
        made.algorithm.digest_der,
        bytes((der.context(0),)) + attributes[1:],
        made.algorithm.signature_der,
        der.octet_string(signature),
    )
    inner = der.oid(DATA)
    if not is_detached:
        inner += der.tlv(der.context(0), der.octet_string(content))
    signed = der.sequence(
        der.number(1),
        der.set_of([made.algorithm.digest_der]),
        der.sequence(inner),
        made.certificates,
        der.set_of([signer]),
    )
    return content_info(SIGNED_DATA, signed)


def content_info(oid: str, content: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.tlv(der.context(0), content))


def attribute(oid: str, value: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_of([value]))


def issuer_serial(certificate: Certificate) -> bytes:
    """The content of an IssuerAndSerialNumber, without its tag."""
    return certificate.issuer + der.number(certificate.serial)


def _signing_certificate(certificate: Certificate) -> bytes:
    """SigningCertificateV2 (RFC 5035 §3): SHA-256, which is its default and so left out."""
    names = der.sequence(der.tlv(der.context(4), certificate.issuer))
    serial = der.sequence(names, der.number(certificate.serial))
    fingerprint = der.octet_string(bytes.fromhex(certificate.fingerprint))
    return der.sequence(der.sequence(der.sequence(fingerprint, serial)))
