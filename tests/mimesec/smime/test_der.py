"""BER and DER of strangers: bounded, linear, and nothing but BadStructure."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from asn1crypto import cms as oracle
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.der import BadStructure


def chunked(*chunks: bytes) -> bytes:
    """An OCTET STRING streamed with an indefinite length."""
    return b"\x24\x80" + b"".join(map(der.octet_string, chunks)) + b"\0\0"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"\x30\x80\x02\x01\x05\0\0", b"\x30\x03\x02\x01\x05"),
        (chunked(b"ab", b"c"), b"\x04\x03abc"),
        (b"\x24\x05\x04\x01a\x04\0", b"\x04\x01a"),
        (b"\x24\x80" + chunked(b"a") + chunked(b"b", b"c") + b"\0\0", b"\x04\x03abc"),
        (b"\x30\x80" + chunked(b"x" * 200) + b"\0\0", der.sequence(der.octet_string(b"x" * 200))),
        (b"\xa0\x80\x04\x01a\x04\x01b\0\0", b"\xa0\x06\x04\x01a\x04\x01b"),
        (b"\x30\0behind", b"\x30\0"),
        (b"\x30\x81\x03\x02\x01\x05", b"\x30\x81\x03\x02\x01\x05"),  # not DER, but definite
    ],
)
def test_ber_becomes_definite(octets: bytes, expected: bytes) -> None:
    assert der.definite(octets) == expected


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30",
        b"\x30\x05\x02\x01",
        b"\x30\x80\x02\x01\x05",
        b"\x04\x80a\0\0",
        b"\x30\x89\1\1\1\1\1\1\1\1\1",
        b"\x3f\x81\x01\0",
        b"\x24\x80\x02\x01\x05\0\0",
        b"\x30\x03\x02\x05\1\1\1\1\1",
        b"\x30\x80" * (der.DEPTH_MAX + 1) + b"\0\0" * (der.DEPTH_MAX + 1),
        b"\x30\x80" + b"\5\0" * (der.ELEMENTS_MAX + 1) + b"\0\0",
        b"\x30\x80" * 500_000,
    ],
    ids=range(12),
)
def test_what_is_no_value_is_told(octets: bytes) -> None:
    with pytest.raises(BadStructure):
        der.definite(octets)


VALUES = st.recursive(
    st.binary(max_size=20).map(der.octet_string) | st.integers(-(2**70), 2**70).map(der.number),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: der.sequence(*parts)),
    max_leaves=20,
)


@given(VALUES)
def test_der_stays_as_it_is(octets: bytes) -> None:
    assert der.definite(octets) == octets


def indefinite(octets: bytes) -> bytes:
    """Each constructed value of some DER with an end-of-contents in place of its length."""
    found = b""
    for value in der.elements(octets):
        if value.identifier & der.CONSTRUCTED:
            found += bytes((value.identifier, 0x80)) + indefinite(value.content) + b"\0\0"
        elif value.identifier == der.OCTET_STRING:
            half = len(value.content) // 2
            found += chunked(value.content[:half], value.content[half:])
        else:
            found += value.whole
    return found


@given(VALUES)
def test_ber_of_a_value_becomes_its_der(octets: bytes) -> None:
    assert der.definite(indefinite(octets)) == octets


@given(st.binary(max_size=200))
def test_octets_never_break_the_walk(octets: bytes) -> None:
    try:
        found = der.definite(octets)
    except BadStructure:
        return
    assert der.definite(found) == found


@given(st.integers(-(2**100), 2**100))
def test_numbers_come_back(value: int) -> None:
    written = der.number(value)
    assert der.integer(der.element(written, der.INTEGER)) == value
    assert written == oracle.Integer(value).dump()


@pytest.mark.parametrize(
    "text", ["1.2.840.113549.1.7.1", "2.5.29.17", "2.999.1", "0.9.2342", "1.3"]
)
def test_object_identifiers_come_back(text: str) -> None:
    written = der.oid(text)
    assert der.dotted(written[2:]) == text
    assert written == oracle.ObjectIdentifier(text).dump()


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x2a\x86", b"\x2a" * 65])
def test_what_is_no_object_identifier_is_told(content: bytes) -> None:
    with pytest.raises(BadStructure):
        der.dotted(content)


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), b"\x17\r260304050607Z"),
        (datetime(1950, 1, 1, tzinfo=UTC), b"\x17\r500101000000Z"),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\r491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
    ],
)
def test_times_come_back(moment: datetime, written: bytes) -> None:
    assert der.time(moment) == written
    (value,) = der.elements(written)
    assert der.moment(value) == moment


@pytest.mark.parametrize(
    "written", [b"\x17\r261304050607Z", b"\x17\x0b2603040506Z", b"\x18\r260304050607Z", b"\x17\0"]
)
def test_times_that_cannot_be_are_told(written: bytes) -> None:
    (value,) = der.elements(written)
    with pytest.raises(BadStructure):
        der.moment(value)


def test_a_set_is_in_the_order_of_der() -> None:
    parts = [der.number(3), der.octet_string(b"a"), der.number(1)]
    assert der.set_of(parts) == b"\x31\x09\x02\x01\x01\x02\x01\x03\x04\x01a"


def test_fields_say_what_is_missing_or_of_another_type() -> None:
    fields = der.Fields.of(der.sequence(der.number(1), der.octet_string(b"a")))
    assert fields.take_if(der.SEQUENCE) is None
    assert der.small(fields.take(der.INTEGER)) == 1
    with pytest.raises(BadStructure, match="another type"):
        fields.take(der.INTEGER)
    assert [one.content for one in fields.rest()] == [b"a"]
    with pytest.raises(BadStructure, match="missing"):
        fields.take()


def test_many_chunks_are_joined_in_linear_time() -> None:
    """asn1crypto takes minutes for such: it joins each chunk to all before it."""
    chunks = [b"x" * 100] * 150_000
    assert der.definite(chunked(*chunks)) == der.octet_string(b"".join(chunks))


def test_our_structures_are_read_by_asn1crypto() -> None:
    from posthouse.mimesec.smime.signer import SmimeSigner
    from tests.mimesec.smime.people import AT, ENTITY, identity

    message = SmimeSigner(identity()).sign_opaque(ENTITY, at=AT)
    info = oracle.ContentInfo.load(base64.b64decode(message.split(b"\r\n\r\n", 1)[1]), strict=True)
    signed = info["content"]
    attributes = {
        one["type"].native: one["values"] for one in signed["signer_infos"][0]["signed_attrs"]
    }
    assert signed["encap_content_info"]["content"].native == ENTITY
    assert attributes["signing_time"].native == [AT]
    assert attributes["content_type"].native == ["data"]
    assert {"message_digest", "smime_capabilities"} < attributes.keys()
