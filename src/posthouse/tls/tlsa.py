"""TLSA records of our own certificates: always DANE-EE, SPKI, SHA-256 (RFC 7672 §3.1.1).

`3 1 1` binds the key and not the certificate, so that a renewal with the same key changes nothing
in the DNS. `zone` prints what is to be published; `tls.acme.rollover` looks whether it is.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from posthouse.kernel.ports import TlsaRecord

DANE_EE: Final = 3  # RFC 6698 §2.1.1
SPKI: Final = 1
SHA2_256: Final = 1


def tlsa_3_1_1(of: x509.Certificate | PublicKeyTypes) -> bytes:
    """The data of a `3 1 1` record for a certificate or a public key."""
    key = of.public_key() if isinstance(of, x509.Certificate) else of
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()


def tlsa_record(of: x509.Certificate | PublicKeyTypes) -> TlsaRecord:
    return TlsaRecord(usage=DANE_EE, selector=SPKI, matching=SHA2_256, data=tlsa_3_1_1(of))


def published_set(
    current: x509.Certificate | PublicKeyTypes, upcoming: PublicKeyTypes | None = None
) -> tuple[TlsaRecord, ...]:
    """What the DNS should have: the key in use and, when there is one, the key made in advance
    (RFC 7671 §8.1). The key before the one in use is not in it: every cache that had its record
    had the present one beside it."""
    records = [tlsa_record(current)]
    if upcoming is not None and (record := tlsa_record(upcoming)) not in records:
        records.append(record)
    return tuple(records)
