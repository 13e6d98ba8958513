"""DNS questions and answers on the wire (RFC 1035 §4), and what an answer means.

`posthouse.dns` asks with `encode_question` and reads with `read_response`. Names are A-labels or
underscore names; U-labels are the caller's to convert.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

import msgspec

from posthouse.kernel.ports import (
    CaaRecord,
    DnsAnswer,
    DnsStatus,
    MxRecord,
    RecordType,
    SrvRecord,
    TlsaRecord,
)
from posthouse.protocol.dns.wire import (
    CLASS_IN,
    HEADER_OCTETS,
    OPT,
    Malformed,
    Reader,
    Record,
    name_octets,
)

UDP_PAYLOAD_OCTETS: Final = 1232
"""What we offer by EDNS: large enough for most, small enough never to be fragmented."""
CHAIN_MAX: Final = 8
"""CNAMEs followed from the name asked for."""
CHAIN_TOO_LONG: Final = "a chain of too many CNAMEs, or a loop"
NOT_OURS: Final = "an answer to another question"
NULL_TTL_S: Final = 0.0
"""Of an answer that says nothing about how long it may be kept."""

TYPES: Final = {
    RecordType.A: 1,
    RecordType.NS: 2,
    RecordType.CNAME: 5,
    RecordType.SOA: 6,
    RecordType.PTR: 12,
    RecordType.MX: 15,
    RecordType.TXT: 16,
    RecordType.AAAA: 28,
    RecordType.SRV: 33,
    RecordType.TLSA: 52,
    RecordType.SMIMEA: 53,
    RecordType.OPENPGPKEY: 61,
    RecordType.CAA: 257,
}
NS: Final = TYPES[RecordType.NS]
SOA: Final = TYPES[RecordType.SOA]

QR: Final = 0x8000
OPCODE: Final = 0x7800
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
AD: Final = 0x0020
CD: Final = 0x0010
DO: Final = 0x8000  # of the OPT record's TTL field, RFC 3225 §3

NOERROR: Final = 0
NXDOMAIN: Final = 3
RCODES: Final = {
    1: "FORMERR",
    2: "SERVFAIL",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
    16: "BADVERS",
}
EDNS_REFUSED: Final = frozenset({1, 4, 16})

_OPT_RECORD: Final = b"".join(
    (
        b"\0",
        OPT.to_bytes(2),
        UDP_PAYLOAD_OCTETS.to_bytes(2),
        DO.to_bytes(4),  # extended rcode 0, version 0, DO
        b"\0\0",
    )
)


class Answered(msgspec.Struct, frozen=True):
    """The server knows. `answer.ttl_s` is the server's word, not yet clamped (RFC 2308 §5)."""

    answer: DnsAnswer


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A CNAME chain that leaves what the server told: ask again for `target` (RFC 1034 §3.6.2)."""

    target: str
    links: int
    ttl_s: float
    is_authenticated: bool


class Truncated(msgspec.Struct, frozen=True):
    """TC is set: ask again over TCP (RFC 7766 §5)."""


class Unusable(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to learn from this server: broken, refusing, lame, or not an answer to us."""

    detail: str
    is_edns_refused: bool = False
    """An old server: the same question without EDNS may be answered (RFC 6891 §7)."""


Response = Answered | Alias | Truncated | Unusable


def encode_question(
    name: str,
    record_type: RecordType,
    *,
    message_id: int,
    has_edns: bool = True,
    is_unchecked: bool = False,
) -> bytes:
    """A recursive question that asks for the DNSSEC status (DO and AD, RFC 6840 §5.7).

    Args:
        is_unchecked: take what DNSSEC proves wrong, too (CD, RFC 4035 §3.2.2).

    Raises:
        BadName: no server needs to be asked.
    """
    flags = RD | (AD if has_edns else 0) | (CD if is_unchecked else 0)
    numbers = (message_id, flags, 1, 0, 0, int(has_edns))
    return b"".join(
        (
            b"".join(each.to_bytes(2) for each in numbers),
            name_octets(name),
            TYPES[record_type].to_bytes(2),
            CLASS_IN.to_bytes(2),
            _OPT_RECORD if has_edns else b"",
        )
    )


def read_response(
    octets: bytes,
    *,
    name: str,
    record_type: RecordType,
    message_id: int,
    chain_max: int = CHAIN_MAX,
) -> Response:
    """What a server's octets say about our question. Never raises for what they hold."""
    if len(octets) < HEADER_OCTETS:
        return Unusable(detail="malformed answer: shorter than a header")
    flags = int.from_bytes(octets[2:4])
    if int.from_bytes(octets[:2]) != message_id or not flags & QR or flags & OPCODE:
        return Unusable(detail=NOT_OURS)
    if flags & TC:  # before the rest is read: it may be cut anywhere
        return Truncated()
    try:
        message = _read_sections(octets, flags)
        rcode = message.rcode
        if rcode not in (NOERROR, NXDOMAIN):
            detail = RCODES.get(rcode, f"RCODE {rcode}")
            return Unusable(detail=detail, is_edns_refused=rcode in EDNS_REFUSED)
        # The question comes back with every answer (RFC 1035 §4.1.2); a forger may not know it.
        if message.question != (canonical(name), TYPES[record_type], CLASS_IN):
            return Unusable(detail=NOT_OURS)
        return _interpret(message, record_type, chain_max)
    except Malformed as error:
        return Unusable(detail=f"malformed answer: {error}")


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    reader: Reader
    flags: int
    rcode: int
    question: tuple[str, int, int] | None
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]

    @property
    def is_authenticated(self) -> bool:
        return bool(self.flags & AD)


def _read_sections(octets: bytes, flags: int) -> _Message:
    questions, answers, authorities, additionals = (
        int.from_bytes(octets[at : at + 2]) for at in range(4, HEADER_OCTETS, 2)
    )
    if questions > 1:
        raise Malformed("more than one question")
    reader = Reader(octets)
    question = reader.question() if questions else None
    answer = tuple(reader.record() for _ in range(answers))
    authority = tuple(reader.record() for _ in range(authorities))
    rcode = flags & 0x0F
    for _ in range(additionals):
        record = reader.record()
        if record.type == OPT:  # the upper bits of the rcode, RFC 6891 §6.1.3
            rcode |= record.ttl >> 24 << 4
    return _Message(
        reader=reader,
        flags=flags,
        rcode=rcode,
        question=question,
        answer=answer,
        authority=authority,
    )


def _interpret(message: _Message, record_type: RecordType, chain_max: int) -> Response:
    sets: dict[tuple[str, int], list[Record]] = {}
    for record in message.answer:
        if record.rdclass == CLASS_IN:
            sets.setdefault((record.name, record.type), []).append(record)
    assert message.question is not None
    owner, wanted, _ = message.question
    links, ttl_s = 0, float("inf")
    while (found := sets.get((owner, wanted))) is None:
        alias = sets.get((owner, TYPES[RecordType.CNAME]))
        if alias is None:
            break
        links += 1
        if links > chain_max:  # a loop comes here too: its links never end
            return Unusable(detail=CHAIN_TOO_LONG)
        ttl_s = min(ttl_s, float(alias[0].ttl))
        owner = _target(message.reader, alias[0])
    if found is not None and message.rcode == NOERROR:
        read = READERS[record_type]
        return Answered(
            DnsAnswer(
                status=DnsStatus.FOUND,
                records=tuple(dict.fromkeys(read(message.reader, each) for each in found)),
                is_authenticated=message.is_authenticated,
                name=owner,
                ttl_s=min(ttl_s, *(float(each.ttl) for each in found)),
            )
        )
    return _interpret_absence(message, owner, links, ttl_s)


def _interpret_absence(message: _Message, owner: str, links: int, ttl_s: float) -> Response:
    negative_s = _negative_ttl_s(message)
    if message.rcode == NXDOMAIN:  # said of the last target, RFC 6604 §3
        status = DnsStatus.NO_NAME
    elif negative_s is not None:
        status = DnsStatus.NO_DATA
    elif links:
        return Alias(
            target=owner,
            links=links,
            ttl_s=ttl_s,
            is_authenticated=message.is_authenticated,
        )
    elif _is_lame(message):
        return Unusable(detail="lame: the server has neither the answer nor recursion")
    else:
        status = DnsStatus.NO_DATA
    return Answered(
        DnsAnswer(
            status=status,
            is_authenticated=message.is_authenticated,
            name=owner,
            ttl_s=min(ttl_s, NULL_TTL_S if negative_s is None else negative_s),
        )
    )


def _is_lame(message: _Message) -> bool:
    """An empty NOERROR without SOA is "no data" from an authority or a recursive server
    (RFC 2308 §2.2); from any other it is a referral, or a server that does not know the zone."""
    if message.flags & AA:
        return False
    if any(each.type == NS for each in message.authority):
        return True
    return not message.flags & RA


def _negative_ttl_s(message: _Message) -> float | None:
    """RFC 2308 §5: the lesser of the SOA's own TTL and its MINIMUM; None without a SOA."""
    for record in message.authority:
        if record.type == SOA:
            reader = _at(message.reader, record, octets_min=22)
            reader.position = record.end - 4
            return float(min(record.ttl, reader.number(4)))
    return None


def _at(reader: Reader, record: Record, *, octets_min: int) -> Reader:
    if record.end - record.start < octets_min:
        raise Malformed("record data too short")
    reader.position = record.start
    return reader


def _target(reader: Reader, record: Record) -> str:
    name = _at(reader, record, octets_min=1).name()
    if reader.position != record.end:
        raise Malformed("record data of a wrong length")
    return name


def _ipv4(reader: Reader, record: Record) -> str:
    if record.end - record.start != 4:
        raise Malformed("record data of a wrong length")
    return ".".join(map(str, _at(reader, record, octets_min=4).take(4)))


def _ipv6(reader: Reader, record: Record) -> str:
    if record.end - record.start != 16:
        raise Malformed("record data of a wrong length")
    return ipaddress.IPv6Address(_at(reader, record, octets_min=16).take(16)).compressed


def _text(reader: Reader, record: Record) -> bytes:
    strings = []
    _at(reader, record, octets_min=1)
    while reader.position < record.end:
        strings.append(reader.take(reader.number(1)))
    if reader.position != record.end:
        raise Malformed("record data of a wrong length")
    return b"".join(strings)


def _exchange(reader: Reader, record: Record) -> MxRecord:
    preference = _at(reader, record, octets_min=3).number(2)
    host = reader.name()
    if reader.position != record.end:
        raise Malformed("record data of a wrong length")
    return MxRecord(preference, host)


def _primary(reader: Reader, record: Record) -> str:
    """Of an SOA the first name; a change of zone is all that is read from it."""
    return _at(reader, record, octets_min=22).name()


def _service(reader: Reader, record: Record) -> SrvRecord:
    place = _at(reader, record, octets_min=7)
    priority, weight, port = place.number(2), place.number(2), place.number(2)
    target = reader.name()
    if reader.position != record.end:
        raise Malformed("record data of a wrong length")
    return SrvRecord(priority, weight, port, target)


def _authority(reader: Reader, record: Record) -> CaaRecord:
    """RFC 8659 §4.1."""
    flags, tag_octets = _at(reader, record, octets_min=3).take(2)
    tag = bytes(reader.take(tag_octets))
    if reader.position > record.end or not tag.isalnum():
        raise Malformed("a CAA tag of other than letters and digits")
    return CaaRecord(flags, tag.decode("ascii").lower(), reader.take(record.end - reader.position))


def _octets(reader: Reader, record: Record) -> bytes:
    """RFC 7929 §2.3: all of it is the key."""
    return _at(reader, record, octets_min=1).take(record.end - record.start)


def _association(reader: Reader, record: Record) -> TlsaRecord:
    usage, selector, matching = _at(reader, record, octets_min=3).take(3)
    return TlsaRecord(usage, selector, matching, reader.take(record.end - reader.position))


READERS: Final[dict[RecordType, Callable[[Reader, Record], Any]]] = {
    RecordType.A: _ipv4,
    RecordType.AAAA: _ipv6,
    RecordType.PTR: _target,
    RecordType.CNAME: _target,
    RecordType.TXT: _text,
    RecordType.MX: _exchange,
    RecordType.TLSA: _association,
    RecordType.SMIMEA: _association,  # RFC 8162 §2: the same fields
    RecordType.OPENPGPKEY: _octets,
    RecordType.NS: _target,
    RecordType.SOA: _primary,
    RecordType.SRV: _service,
    RecordType.CAA: _authority,
}


def canonical(name: str) -> str:
    """How a name is compared and cached: lower case, no final dot, escapes as
    `label_text` writes them.

    Raises:
        BadName: as `encode_question`.
    """
    if "\\" not in name:
        return name.lower().removesuffix(".")
    return Reader(bytes(HEADER_OCTETS) + name_octets(name)).name()


def reverse_name(address: str) -> str:
    """The PTR name of an IP address (RFC 1035 §3.5, RFC 3596 §2.5), without a final dot.

    An IPv4 address mapped into IPv6 is named as IPv4. Raises ValueError.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.reverse_pointer
