"""The reader and writer of DNS octets, with dnspython as the oracle."""

import struct
import time

import dns.flags
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ports import DnsStatus, MxRecord, RecordType
from posthouse.protocol.dns.grammar import (
    TYPES,
    Alias,
    Answered,
    Truncated,
    Unusable,
    canonical,
    encode_question,
    read_response,
    reverse_name,
)
from posthouse.protocol.dns.wire import BadName, Malformed, Reader, label_text, name_octets

LABELS = st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=4).filter(
    lambda labels: sum(len(label) + 1 for label in labels) < 255
)


def response_to(name: str, record_type: RecordType, **changes: object) -> dns.message.Message:
    question = dns.message.from_wire(encode_question(name, record_type, message_id=7))
    message = dns.message.make_response(question, recursion_available=True)
    for section in ("answer", "authority"):
        for text in changes.get(section, ()):  # type: ignore[attr-defined]
            getattr(message, section).append(dns.rrset.from_text(*text))
    message.set_rcode(changes.get("rcode", 0))  # type: ignore[arg-type]
    return message


def read(message: dns.message.Message, name: str, record_type: RecordType) -> object:
    return read_response(message.to_wire(), name=name, record_type=record_type, message_id=7)


@given(labels=LABELS)
def test_names_are_written_and_read_as_dnspython_does(labels: list[bytes]) -> None:
    oracle = dns.name.Name((*labels, b""))
    text = ".".join(map(label_text, labels))
    assert name_octets(text).lower() == oracle.to_wire().lower()
    reader = Reader(bytes(12) + oracle.to_wire())
    assert reader.name() == text == oracle.to_text(omit_final_dot=True).lower()
    assert canonical(oracle.to_text()) == text


@pytest.mark.parametrize(
    "name", ["a..b", ".a", "x" * 64 + ".test", "ü.test", "a." * 130, "\\999.test", "a.b..", ".."]
)
def test_names_that_no_zone_can_hold_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        name_octets(name)


@pytest.mark.parametrize("name", ["", ".", "test", "_25._tcp.mail.test.", "a\\.b.test"])
@pytest.mark.parametrize("record_type", list(RecordType))
def test_a_question_is_what_dnspython_reads(name: str, record_type: RecordType) -> None:
    message = dns.message.from_wire(encode_question(name, record_type, message_id=0xABCD))
    assert message.id == 0xABCD
    assert message.question[0].name == dns.name.from_text(name)
    assert message.question[0].rdtype == TYPES[record_type]
    assert message.flags == dns.flags.RD | dns.flags.AD  # RFC 6840 §5.7
    assert (message.edns, message.ednsflags, message.payload) == (0, dns.flags.DO, 1232)
    unchecked = encode_question(name, record_type, message_id=1, is_unchecked=True)
    assert dns.message.from_wire(unchecked).flags & dns.flags.CD  # RFC 4035 §3.2.2
    assert not message.flags & dns.flags.CD
    plain = dns.message.from_wire(encode_question(name, record_type, message_id=1, has_edns=False))
    assert (plain.edns, plain.flags) == (-1, dns.flags.RD)


@pytest.mark.parametrize("record_type", list(RecordType))
def test_type_numbers_are_the_registered_ones(record_type: RecordType) -> None:
    assert TYPES[record_type] == dns.rdatatype.from_text(record_type.value)


def test_compressed_names_are_followed() -> None:
    answer = [("a.b.example.test.", 9, "IN", "MX", "1 mx.b.example.test.", "2 mx.example.test.")]
    response = read(
        response_to("a.b.example.test", RecordType.MX, answer=answer),
        "a.b.example.test",
        RecordType.MX,
    )
    assert isinstance(response, Answered)
    assert set(response.answer.records) == {
        MxRecord(1, "mx.b.example.test"),
        MxRecord(2, "mx.example.test"),
    }


SOA = ("test.", 100, "IN", "SOA", "ns. host. 1 2 3 4 60")
ALIAS = ("a.test.", 50, "IN", "CNAME", "b.test.")
NXDOMAIN = 3


# RFC 2308 §2.2: the ways to say "no"
@pytest.mark.parametrize(
    ("answer", "authority", "rcode", "status", "ttl_s"),
    [
        ([], [SOA], NXDOMAIN, DnsStatus.NO_NAME, 60),
        ([], [], NXDOMAIN, DnsStatus.NO_NAME, 0),
        ([ALIAS], [SOA], NXDOMAIN, DnsStatus.NO_NAME, 50),  # RFC 6604 §3
        ([], [SOA], 0, DnsStatus.NO_DATA, 60),
        ([], [], 0, DnsStatus.NO_DATA, 0),
        ([ALIAS], [SOA], 0, DnsStatus.NO_DATA, 50),
    ],
)
def test_absence_is_told_apart_from_everything_else(
    answer: list[object], authority: list[object], rcode: int, status: DnsStatus, ttl_s: float
) -> None:
    message = response_to("a.test", RecordType.MX, answer=answer, authority=authority, rcode=rcode)
    response = read(message, "a.test", RecordType.MX)
    assert isinstance(response, Answered)
    assert (response.answer.status, response.answer.ttl_s) == (status, ttl_s)


# F23
def test_a_referral_is_lame_and_an_open_alias_is_asked_on() -> None:
    referral = response_to("a.test", RecordType.MX, authority=[("test.", 9, "IN", "NS", "ns.x.")])
    assert isinstance(read(referral, "a.test", RecordType.MX), Unusable)
    mute = response_to("a.test", RecordType.MX)
    mute.flags &= ~dns.flags.RA
    assert isinstance(read(mute, "a.test", RecordType.MX), Unusable)
    open_alias = response_to("a.test", RecordType.MX, answer=[ALIAS])
    assert read(open_alias, "a.test", RecordType.MX) == Alias(
        target="b.test", links=1, ttl_s=50, is_authenticated=False
    )


def test_an_extended_rcode_is_seen() -> None:
    message = response_to("a.test", RecordType.MX)
    message.use_edns(0)
    message.set_rcode(16)
    response = read(message, "a.test", RecordType.MX)
    assert response == Unusable(detail="BADVERS", is_edns_refused=True)


def test_a_ttl_with_its_top_bit_set_is_zero() -> None:
    # RFC 2181 §8
    octets = bytearray(
        response_to(
            "a.test", RecordType.A, answer=[("a.test.", 0x7FFFFFFF, "IN", "A", "192.0.2.1")]
        ).to_wire()
    )
    at = octets.index(b"\x7f\xff\xff\xff")
    octets[at] = 0xFF
    response = read_response(bytes(octets), name="a.test", record_type=RecordType.A, message_id=7)
    assert isinstance(response, Answered)
    assert response.answer.ttl_s == 0


@given(octets=st.binary(max_size=300), at=st.integers(0, 200), cut=st.integers(0, 300))
def test_no_octets_raise(octets: bytes, at: int, cut: int) -> None:
    answer = [("a.b.test.", 9, "IN", "MX", "1 mx.b.test.", "2 mx.test."), SOA]
    good = response_to("a.b.test", RecordType.MX, answer=answer[:1], authority=[SOA]).to_wire()
    for hostile in (good[:at] + octets + good[at + len(octets) :], good[:cut], octets):
        found = read_response(hostile, name="a.b.test", record_type=RecordType.MX, message_id=7)
        assert isinstance(found, Answered | Alias | Truncated | Unusable)


@pytest.mark.parametrize(
    "octets",
    [
        b"\xc0\x0c",  # a pointer to itself
        b"\x01a\xc0\x0c",  # a loop
        b"\xc0\x20\x00",  # forwards
        b"\xc0\x00",  # into the header
        b"\x40a\x00",  # a label kind that is not in use
        b"\x05ab",
        b"\x3f" + b"a" * 63,
        b"\xc0",
        (b"\x3f" + b"a" * 63) * 4 + b"\x00",  # 257 octets
    ],
)
def test_names_that_lie_are_malformed(octets: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(bytes(12) + octets).name()


def hostile_answer(records: int, record_type: RecordType) -> tuple[bytes, str]:
    """Names of 127 labels, compressed, in each of so many records."""
    labels = [chr(97 + each % 26) for each in range(127)]
    name = "".join(f"\x01{label}" for label in labels).encode() + b"\0"
    number = TYPES[record_type]
    head = struct.pack("!HHHHHH", 7, 0x8180, 1, records, 0, 0)
    question = name + struct.pack("!HH", number, 1)
    record = b"\xc0\x0c" + struct.pack("!HHIHH", number, 1, 60, 4, 1) + b"\xc0\x0c"
    return head + question + record * records, ".".join(labels)


# P9, P10: 64 KiB of names took dnspython twelve seconds
@pytest.mark.timed
def test_compressed_names_cost_no_more_than_their_octets() -> None:
    def took_s(records: int) -> float:
        octets, name = hostile_answer(records, RecordType.MX)
        begin = time.perf_counter()
        response = read_response(octets, name=name, record_type=RecordType.MX, message_id=7)
        assert isinstance(response, Answered)
        return time.perf_counter() - begin

    assert min(took_s(4_000) for _ in range(3)) < 0.25


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"),
        ("fe80::1%eth0", "1." + "0." * 28 + "8.e.f.ip6.arpa"),
    ],
)
def test_reverse_names(address: str, name: str) -> None:
    # RFC 1035 §3.5, RFC 3596 §2.5
    assert reverse_name(address) == name
