"""Targets of mail authentication, transport policies and the reports about both."""

from __future__ import annotations

from collections.abc import Hashable

from posthouse.kernel.ports import RecordType
from posthouse.protocol.dns.grammar import TYPES, Answered, encode_question, read_response
from tests.fuzz.target import Target

NAME = "example.org"
MESSAGE_ID = 7


def dns_records(octets: bytes) -> Hashable:
    """The octets as the data of one record of each type."""
    seen: list[Hashable] = []
    data = octets[:65_535]
    for record_type in RecordType:
        question = encode_question(NAME, record_type, message_id=MESSAGE_ID, has_edns=False)
        head = question[:2] + b"\x81\x80" + question[4:6] + b"\0\1" + question[8:]
        kind = TYPES[record_type].to_bytes(2)
        record = b"\xc0\x0c" + kind + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2)
        response = read_response(
            head + record + data, name=NAME, record_type=record_type, message_id=MESSAGE_ID
        )
        if isinstance(response, Answered):
            assert len(response.answer.records) <= 1
            seen.append(record_type.value)
        else:
            seen.append(getattr(response, "detail", ""))
    return tuple(seen)


DNS_RECORDS = (
    b"\0\x0a\0\5\0\x19\4mail\7example\3org\0",  # SRV
    b"\x80\5issueletsencrypt.org; accounturi=https://ca.example/1",  # CAA
    b"\2ns\xc0\x0c\x0ahostmaster\xc0\x0c" + bytes(20),  # SOA
    b"\3\1\1" + bytes(range(32)),  # TLSA
    b"\0\x0a\2mx\xc0\x0c",
    b"\x0fv=spf1 mx ip4:1\x05 -all",
    bytes((192, 0, 2, 1)),
    bytes(16),
    b"\xc0\x0c",
)

TARGETS = (Target("dns-records", dns_records, DNS_RECORDS),)
