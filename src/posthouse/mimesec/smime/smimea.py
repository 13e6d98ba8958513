"""SMIMEA records (RFC 8162): certificates that a domain publishes for its mailboxes.

They count only when the answer was authenticated by DNSSEC, which whoever asked has to see to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256, sha512
from typing import Final

from posthouse.kernel.ports import TlsaRecord
from posthouse.message.address import parse_mailbox
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.trust import Pin

RECORDS_MAX: Final = 20
LABEL_OCTETS: Final = 28
AUTHORITY, END_ENTITY = 2, 3  # DANE-TA and DANE-EE
# PKIX-TA and PKIX-EE only narrow what roots say: the domain does not vouch for these by itself.
NARROWED_AUTHORITY, NARROWED_END_ENTITY = 0, 1
WHOLE, KEY = 0, 1


def name(address: str) -> str:
    """The name to ask for (RFC 8162 §3): the local-part exactly as it is, in UTF-8.

    Raises:
        AddressError: it is no address.
    """
    parsed = parse_mailbox(address)
    label = sha256(parsed.local_part.encode()).digest()[:LABEL_OCTETS].hex()
    return f"{label}._smimecert.{parsed.domain}"


def certificates(records: Iterable[TlsaRecord]) -> tuple[bytes, ...]:
    """The DER of the mailbox's own certificates that the domain vouches for (usage 3) and that
    records hold whole."""
    return _whole(records, END_ENTITY)


def narrowed(records: Iterable[TlsaRecord]) -> tuple[bytes, ...]:
    """The same of those that count only where they lead to an authority that whoever asks trusts,
    too (usage 1; RFC 6698 §2.1.1)."""
    return _whole(records, NARROWED_END_ENTITY)


def issuers(records: Iterable[TlsaRecord]) -> tuple[bytes, ...]:
    """The DER of authorities in records, which help to get from those to one; not trusted."""
    return _whole(records, NARROWED_AUTHORITY, AUTHORITY)


def authorities(records: Iterable[TlsaRecord]) -> tuple[Certificate, ...]:
    """Roots for this mailbox alone that records hold whole (usage 2)."""
    return tuple(map(Certificate, _whole(records, AUTHORITY)))


def pins(
    address: str, records: Sequence[TlsaRecord], offered: Iterable[Certificate]
) -> tuple[Pin, ...]:
    """For `Trust`: those of some certificates that the domain vouches for as the mailbox's own
    (usage 3), whatever they name."""
    return tuple(
        Pin(one.fingerprint, address)
        for one in offered
        if any(
            record.usage == END_ENTITY and is_match(record, one) for record in records[:RECORDS_MAX]
        )
    )


def is_match(record: TlsaRecord, certificate: Certificate) -> bool:
    """Whether a record is about a certificate (RFC 6698 §2.1)."""
    selected = {WHOLE: certificate.octets, KEY: certificate.key_octets}.get(record.selector)
    if selected is None:
        return False
    match record.matching:
        case 0:
            return record.data == selected
        case 1:
            return record.data == sha256(selected).digest()
        case 2:
            return record.data == sha512(selected).digest()
        case _:
            return False


def record(certificate: Certificate, *, is_digest: bool = False) -> TlsaRecord:
    """What to publish for one's own certificate: whole, so that others can find it."""
    if is_digest:
        digest = bytes.fromhex(certificate.fingerprint)
        return TlsaRecord(END_ENTITY, WHOLE, 1, digest)
    return TlsaRecord(END_ENTITY, WHOLE, 0, certificate.octets)


def _whole(records: Iterable[TlsaRecord], *usages: int) -> tuple[bytes, ...]:
    found = (
        record.data
        for record in list(records)[:RECORDS_MAX]
        if record.usage in usages
        and record.selector == WHOLE
        and record.matching == 0
        and _is_certificate(record.data)
    )
    return tuple(dict.fromkeys(found))


def _is_certificate(octets: bytes) -> bool:
    try:
        Certificate(octets)
    except BadStructure:
        return False
    return True
