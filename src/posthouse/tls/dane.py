"""TLSA records of others against the certificates a host showed (RFC 6698, RFC 7671, RFC 7672 §3).

Usages DANE-TA(2) and DANE-EE(3) only, as RFC 7672 §3.1.3 leaves the others out for mail. Pure: who
finds the records, and whether DNSSEC proves them, is `relay.dane`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from posthouse.kernel.ports import TlsaRecord
from posthouse.tls.chains import SENT_MAX, Issuer, path_to
from posthouse.tls.der import BadDer, public_key_info
from posthouse.tls.names import is_for_any

USABLE_MAX: Final = 20
"""Records used of one set (H48)."""
FULL_OCTETS_MAX: Final = 16_384
DANE_TA: Final = 2
DANE_EE: Final = 3
CERTIFICATE: Final = 0
PUBLIC_KEY: Final = 1
FULL: Final = 0
DIGESTS: Final[dict[int, tuple[int, Callable[[bytes], bytes]]]] = {
    1: (32, lambda octets: hashlib.sha256(octets).digest()),
    2: (64, lambda octets: hashlib.sha512(octets).digest()),
}
"""Octets and function by matching type; the stronger has the higher number (RFC 7671 §9)."""


class Mismatch(Enum):
    """Why no record matched, as TLS reports distinguish it (RFC 8460 §4.3)."""

    NONE = "none"  # it did
    NO_MATCH = "no match"
    NAME = "name"
    EXPIRED = "expired"
    MALFORMED = "malformed"


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    mismatch: Mismatch
    words: str
    """What matched, "3 1 1 …"; or why nothing did."""

    @property
    def is_authenticated(self) -> bool:
        return self.mismatch is Mismatch.NONE


def usable(records: Iterable[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """Those we can use: known usage, selector and matching type, data of the right length; of
    several digests for one usage and selector the strongest only (RFC 7671 §9); at most
    `USABLE_MAX`, always the same ones whatever order the DNS gives them in."""
    good = {record for record in records if _is_usable(record)}
    strongest: dict[tuple[int, int], int] = {}
    for record in good:
        key = (record.usage, record.selector)
        strongest[key] = max(strongest.get(key, 0), record.matching)
    kept = [
        record
        for record in good
        if record.matching in (FULL, strongest[record.usage, record.selector])
    ]
    kept.sort(key=lambda one: (-one.usage, -one.selector, -one.matching, one.data))
    return tuple(kept[:USABLE_MAX])


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in (DANE_TA, DANE_EE):
        return False
    if record.selector not in (CERTIFICATE, PUBLIC_KEY):
        return False
    if record.matching == FULL:
        return _is_whole(record)
    return record.matching in DIGESTS and len(record.data) == DIGESTS[record.matching][0]


def _is_whole(record: TlsaRecord) -> bool:
    """Whether the data of a Full(0) record is what its selector says."""
    if not 0 < len(record.data) <= FULL_OCTETS_MAX:
        return False
    try:
        if record.selector == CERTIFICATE:
            x509.load_der_x509_certificate(record.data)
        else:
            load_der_public_key(record.data)
    except Exception:  # the parser's errors have no common class
        return False
    return True


def shown(record: TlsaRecord) -> str:
    """As zone files have it (RFC 6698 §2.2)."""
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex().upper()}"


def verify(
    records: Sequence[TlsaRecord], chain: Sequence[bytes], names: Sequence[str], now: datetime
) -> Matched:
    """Whether `chain` (DER, leaf first, as the host sent it) is what one of `records` says.

    Args:
        records: usable ones.
        names: our reference identifiers, for DANE-TA only (RFC 7672 §3.2).
        now: aware UTC; certificates matched by DANE-EE may be of any date (RFC 7672 §3.1.1).

    Never raises for anything a host sends or publishes.
    """
    if not chain:
        return _not(Mismatch.MALFORMED, "the host showed no certificate")
    for record in records:
        if record.usage == DANE_EE and _is_match(record, chain[0]):
            return Matched(mismatch=Mismatch.NONE, words=_brief(record))
    anchors = [record for record in records if record.usage == DANE_TA]
    if not anchors:
        return _not(Mismatch.NO_MATCH, "the host's certificate matches none of its TLSA records")
    try:
        return _verify_anchored(anchors, chain, names, now)
    except Exception as error:  # the parser's errors have no common class
        words = f"the host's certificates are malformed: {type(error).__name__}"
        return _not(Mismatch.MALFORMED, words)


def _verify_anchored(
    records: Sequence[TlsaRecord], chain: Sequence[bytes], names: Sequence[str], now: datetime
) -> Matched:
    """DANE-TA(2): a path from the leaf to a certificate or key that a record names."""
    leaf = x509.load_der_x509_certificate(chain[0])
    sent = chain[1 : 1 + SENT_MAX]
    found = path_to(leaf, sent, _issuers(records, sent), now)
    if found.problem:
        kind = Mismatch.EXPIRED if found.is_expired else Mismatch.NO_MATCH
        return _not(kind, found.problem)
    if not is_for_any(leaf, names, has_common_name=True):
        return _not(Mismatch.NAME, f"the host's certificate is not for {' or '.join(names)}")
    return Matched(mismatch=Mismatch.NONE, words=found.anchor)


def _issuers(records: Sequence[TlsaRecord], sent: Sequence[bytes]) -> list[Issuer]:
    """The trust anchors: what the host sent and a record matches, and what stands in the DNS whole
    (RFC 7671 §5.2.2, §5.2.3)."""
    found: list[Issuer] = []
    for record in records:
        words = _brief(record)
        matching = [der for der in sent if _is_match(record, der)]
        for der in matching:
            certificate = x509.load_der_x509_certificate(der)
            found.append(Issuer(certificate=certificate, words=words))
        if record.matching == FULL and record.selector == CERTIFICATE:
            certificate = x509.load_der_x509_certificate(record.data)
            found.append(Issuer(certificate=certificate, words=words))
        elif record.matching == FULL and not matching:
            found.append(Issuer(key=load_der_public_key(record.data), words=words))
    return found


def _is_match(record: TlsaRecord, certificate: bytes) -> bool:
    try:
        octets = certificate if record.selector == CERTIFICATE else public_key_info(certificate)
    except BadDer:
        return False
    if record.matching == FULL:
        return octets == record.data
    return DIGESTS[record.matching][1](octets) == record.data


def _brief(record: TlsaRecord) -> str:
    return f"{record.usage} {record.selector} {record.matching} {record.data[:8].hex()}…"


def _not(mismatch: Mismatch, words: str) -> Matched:
    return Matched(mismatch=mismatch, words=words)
