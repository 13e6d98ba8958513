"""Encoded-words (RFC 2047), dates (RFC 5322 §3.3) and parameters (RFC 2045 §5.1, RFC 2231)."""

from __future__ import annotations

import codecs
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import words
from posthouse.message.dates import format_date, parse_date
from posthouse.message.fields import read_section
from posthouse.message.parameters import (
    PARAMETERS_MAX,
    VALUE_OCTETS_MAX,
    parse_disposition,
    parse_type,
)

DECODED = [
    (b"plain", "plain"),
    (b"=?iso-8859-1?q?a=E9_b?=", "aé b"),
    (b"=?UTF-8?B?w6k=?= x", "é x"),
    (b"a =?utf-8?q?b?= c", "a b c"),
    (b"=?utf-8?q?a?= \t =?utf-8?q?b?=", "ab"),  # RFC 2047 §6.2
    (b"=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),  # a character cut in two
    (b"=?utf-8*de?q?a?=", "a"),  # RFC 2231 §5
    (b"=?iso-2022-jp?b?GyRCJUYlOSVI?= x", "テスト x"),  # H31: escape left open
    (b"=?x-unknown?q?a?=", "=?x-unknown?q?a?="),  # H31
    (b"=?utf-7?q?+ADw-script+AD4-?=", "=?utf-7?q?+ADw-script+AD4-?="),  # H31
    (b"=?utf-8?q?=00a?=", "a"),  # H31
    (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),  # H31
    (b"=?utf-8?q?=1B[31m?=", "[31m"),
    (b"=?utf-8?q?=C2=9B?=", ""),
    (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
    (b"=?utf-8?b?!!!?=", ""),
    (b"=?utf-8?b?w6k?=", "é"),  # padding missing
    (b"caf\xc3\xa9", "café"),
    (b"caf\xe9", "café"),  # not UTF-8: windows-1252
    (b"=?us-ascii?q?caf=E9?=", "café"),
]


@pytest.mark.parametrize(("value", "text"), DECODED)
def test_encoded_words_are_shown_as_people_read_them(value: bytes, text: str) -> None:  # H31
    assert words.decode(value) == text


@given(st.binary(max_size=100) | st.lists(st.sampled_from(
    [b"=?utf-8?q?", b"=?", b"?=", b"=00", b"=?iso-2022-jp?b?", b"GyRC", b" ", b"\r\n"]
)).map(b"".join))  # fmt: skip
def test_decoded_text_has_no_control_characters(value: bytes) -> None:  # H31
    text = words.decode(value)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    text.encode("utf-8")


@pytest.mark.timed
@pytest.mark.parametrize("unit", [b"=?utf-8?q?a?= ", b"=?x?q?", b"=?", b"=?x?q?a?= ", b"=?u?b?a"])
def test_many_encoded_words_take_linear_time(unit: bytes) -> None:  # H31, H39
    started = time.thread_time()
    words.decode(unit * 100_000)
    assert time.thread_time() - started < 1.0


def test_every_charset_we_name_exists() -> None:
    for name, codec in words.CHARSETS.items():
        assert codecs.lookup(codec), name
        assert "utf-7" not in codec


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1))
def test_encoded_text_is_decoded_again(text: str) -> None:
    encoded = words.encode(text)
    assert all(len(word) <= 75 and word.isascii() for word in encoded)  # RFC 2047 §2
    assert words.decode(" ".join(encoded).encode()) == text


# --- dates ---

D = datetime
MOMENTS = [
    (b"Mon, 23 Nov 2026 20:36:05 +0000", D(2026, 11, 23, 20, 36, 5, tzinfo=UTC)),
    (
        b"23 Nov 2026 20:36 -0330 (x)",
        D(2026, 11, 23, 20, 36, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
    ),
    (b"1 Jan 70 00:00:00 GMT", D(1970, 1, 1, tzinfo=UTC)),  # RFC 5322 §4.3
    (b"1 Jan 49 00:00:00 GMT", D(2049, 1, 1, tzinfo=UTC)),
    (b"1 Jan 102 00:00:00 GMT", D(2002, 1, 1, tzinfo=UTC)),
    (b"1 Jan 2020 00:00:00 EST", D(2020, 1, 1, 5, tzinfo=UTC)),
    (b"1 Jan 2020 00:00:00", D(2020, 1, 1, tzinfo=UTC)),
    (b"31 Dec 2016 23:59:60 +0000", D(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (b"Thu,\r\n 1(a)Jan ((b) c) 2020 00:00 Z", D(2020, 1, 1, tzinfo=UTC)),
    (b"", None),
    (b"nonsense", None),
    (b"1 Jan 0 00:00:00 +0000", None),
    (b"1 Jan 99999 00:00:00 +0000", None),
    (b"1 Jan 9223372036854775808 00:00:00 +0000", None),
    (b"1 Jan 9999 23:59:59 -2359", None),
    (b"1 Jan 2020 00:00:00 +9999", None),
    (b"31 Feb 2020 00:00:00 +0000", None),
    (b"1 Jan 2020 25:00:00 +0000", None),
    (b"1 Jan 2020 00:61:00 +0000", None),
]


@pytest.mark.parametrize(("value", "moment"), MOMENTS)
def test_dates_are_read_or_nothing_is(value: bytes, moment: datetime | None) -> None:  # H36
    found = parse_date(value)
    assert found == moment
    if found is not None:
        assert found.astimezone(UTC) == moment
        assert parse_date(format_date(found).encode()) == found


@given(st.binary(max_size=60) | st.from_regex(rb"\d+ Jan \d+ \d+:\d+:\d+ [+-]\d{4}"))
def test_no_date_raises(value: bytes) -> None:  # H36
    found = parse_date(value)
    assert found is None or found.astimezone(UTC)


@pytest.mark.timed
@pytest.mark.parametrize("unit", [b"(", b"1 ", b"a", b" ", b"\\(", b"1 Jan "])
def test_hostile_dates_take_linear_time(unit: bytes) -> None:  # H39
    started = time.thread_time()
    parse_date(unit * 50_000 + b"!")
    assert time.thread_time() - started < 0.2


DATE_DEVIATIONS = {
    "20 11 (some": "the month is not a number (RFC 5322 §3.3)",
    " 4 8 15 16 23 42": "six numbers are not a date (RFC 5322 §3.3)",
    "by 2002:aa7": "a whole Received value, whose date its reader cuts out (RFC 5322 §3.6.7)",
}


def test_mail_parser_date_vectors(vectors: Path) -> None:
    file = vectors / "mime" / "mail-parser" / "headers" / "date.json"
    for case in json.loads(file.read_text()):
        header, expected = case["header"], case["expected"]
        value = read_section(b"X:" + header.encode() + b"\r\n\r\n").first(b"x") or b""
        found = parse_date(value)
        if any(header.startswith(mark) for mark in DATE_DEVIATIONS):
            assert found is None
            continue
        if expected is None:
            assert found is None, header
            continue
        offset = timedelta(hours=expected["tz_hour"], minutes=expected["tz_minute"])
        zone = timezone(-offset if expected["tz_before_gmt"] else offset)
        names = ("year", "month", "day", "hour", "minute", "second")
        assert found == datetime(*(expected[name] for name in names), tzinfo=zone), header


def test_mail_parser_text_vectors(vectors: Path) -> None:
    """Blanks are compared as one: we keep what a sender wrote (RFC 5322 §2.2.3)."""
    deviations = {
        "[SUSPECTED SPAM]=?": "no blank is made up in front of an encoded-word",
    }
    file = vectors / "mime" / "mail-parser" / "headers" / "unstructured.json"
    for case in json.loads(file.read_text()):
        header = case["header"]
        if any(header.startswith(mark) for mark in deviations):
            continue
        value = read_section(b"X:" + header.encode() + b"\r\n\r\n").first(b"x")
        assert value is not None
        assert words.decode(value).split() == case["expected"].split()


# --- parameters ---

TYPES = [
    (b"text/plain", b"text", b"plain", {}),
    (b"TEXT/Plain; CharSet=UTF-8", b"text", b"plain", {"charset": "UTF-8"}),
    (b'text / html ; charset = "x"', b"text", b"html", {"charset": "x"}),
    (b'a/b; x="q\\"; y"; z=1', b"a", b"b", {"x": 'q"; y', "z": "1"}),
    (b"text/plain; charset=us-ascii (Plain text)", b"text", b"plain", {"charset": "us-ascii"}),
    (b"(c) text/plain; (c) x=1", b"text", b"plain", {"x": "1"}),
    (b"text/plain charset=x", b"text", b"plain", {"charset": "x"}),
    (b"a/b; name=my file.pdf; y=2", b"a", b"b", {"name": "my file.pdf", "y": "2"}),
    (b"a/b; x=1; x=2", b"a", b"b", {"x": "1"}),  # H32
    (b"a/b; x*=utf-8'de'%C3%A9", b"a", b"b", {"x": "é"}),
    (b"a/b; x*1=b; x*0=a; x*2=c", b"a", b"b", {"x": "abc"}),
    (b"a/b; x*0*=iso-8859-1''%E9; x*1=%41", b"a", b"b", {"x": "é%41"}),
    (b"a/b; x*0=a; x*2=c", b"a", b"b", {"x": "a"}),  # H29: a gap
    (b"a/b; x*0=a; x*0=b", b"a", b"b", {"x": "a"}),  # H29: a duplicate
    (b"a/b; x*1=b", b"a", b"b", {}),
    (b'a/b; x="=?utf-8?q?=C3=A9?="', b"a", b"b", {"x": "é"}),
    (b'a/b; x="open; y=1', b"a", b"b", {"x": "open; y=1"}),
]


@pytest.mark.parametrize(("value", "maintype", "subtype", "expected"), TYPES)
def test_types_and_parameters_are_read(
    value: bytes, maintype: bytes, subtype: bytes, expected: dict[str, str]
) -> None:  # RFC 2045 §5.1, RFC 2231, H29
    found = parse_type(value)
    assert found is not None
    assert found[:2] == (maintype, subtype)
    names = {name.rstrip(b"*").decode() for name, _ in found[2].items}
    assert {name: found[2].text(name.encode()) for name in names} == expected


@pytest.mark.parametrize(
    ("value", "is_doubtful"),
    [
        (b"a/b; x=A", False),
        (b"a/b; x=A; x=A; y=B", False),
        (b"a/b; x=A; X=B", True),
        (b"a/b; y=A; y=B; x=A", False),
        (b"a/b; x*0=A; x*1=B; x*2*=C", False),
        (b"a/b; x*=utf-8''A", False),
        (b"a/b; x*0=B; x=A", True),
        (b"a/b; x=A; x*=utf-8''B", True),
        (b"a/b; x*=utf-8''A; x*0=B", True),
        (b"a/b; x*0=A; x*2=C", True),
        (b"a/b; x*1=A", True),
        (b"a/b; x*0=A; x*0=B", True),
        (b"a/b; x*0=%41; x*0*=%41", True),
        (b"a/b; x*0=A; x*00=B", True),
        (b"a/b; x=A" + b"; y=B" * PARAMETERS_MAX + b"; x=B", True),
        (b"a/b; x=A; y=" + b"B" * VALUE_OCTETS_MAX + b"; x=B", True),
    ],
)
def test_a_parameter_that_others_may_read_otherwise_is_doubtful(
    value: bytes, is_doubtful: bool
) -> None:  # RFC 2231 §3, H29
    found = parse_type(value)
    assert found is not None and found[2].is_doubtful(b"x") is is_doubtful
    disposition = parse_disposition(value.partition(b"/")[2])
    assert disposition is not None and disposition[1].is_doubtful(b"x") is is_doubtful


@pytest.mark.parametrize("value", [b"", b"text", b"text/", b"/plain", b";", b"=", b"\xff/\xff"])
def test_a_malformed_type_is_none(value: bytes) -> None:  # RFC 2045 §5.2
    assert parse_type(value) is None


@pytest.mark.timed
def test_file_names_by_pieces_are_bounded() -> None:  # H29
    value = b"attachment" + b"".join(b"; filename*%d=x" % n for n in range(100_000))
    started = time.thread_time()
    found = parse_disposition(value)
    assert time.thread_time() - started < 0.1
    assert found is not None and found[1].text(b"filename") == "x" * PARAMETERS_MAX
    many = parse_type(b"a/b" + b"".join(b"; p%d=x" % n for n in range(1_000)))
    assert many is not None and len(many[2].items) == PARAMETERS_MAX
    huge = parse_type(b"a/b; f*9999999999=x; f*01=y")
    assert huge is not None and huge[2].text(b"f") is None


@given(st.lists(st.sampled_from([b"a", b"/", b";", b"=", b'"', b"\\", b"*", b"0", b"'", b"%", b"(",
                                 b")", b" ", b"\0", b"\xff"]), max_size=40))  # fmt: skip
def test_any_value_is_read_without_an_exception(pieces: list[bytes]) -> None:
    found = parse_type(b"a/b;" + b"".join(pieces))
    assert found is not None
    for name, _ in found[2].items:
        found[2].text(name)
        found[2].is_doubtful(name)


# What that library makes of a header that is no type "/" subtype: RFC 2045 §5.2 makes it text/plain
# (here None); a disposition in its table is read by `parse_disposition`; a language is not shown.
def test_mail_parser_content_type_vectors(vectors: Path) -> None:
    argued = {
        "text/plain/format": "a subtype has no slash (RFC 2045 §5.1), so it ends there",
        "inva/lid": "the blanks of a quoted string that is not closed are the line's end",
        "test/encoded;": "a piece behind a gap does not count (RFC 2231 §3), nor a percent sign"
        " in a piece without its asterisk",
        "image/jpeg;\n   name=\"=?iso-8859-1?B?4Q": "RFC 2047 §6.2: no blank between two words",
    }  # fmt: skip
    file = vectors / "mime" / "mail-parser" / "headers" / "content_type.json"
    for case in json.loads(file.read_text()):
        header, expected = case["header"], case["expected"]
        if any(header.startswith(mark) for mark in argued):
            continue
        value = read_section(b"X:" + header.encode() + b"\r\n\r\n").first(b"x") or b""
        found = parse_type(value)
        if expected is None or not expected["c_subtype"]:
            assert found is None, header
            parameters = parse_disposition(value)
            found_parameters = parameters[1] if parameters else None
        else:
            assert found is not None, header
            assert found[0].decode() == expected["c_type"].lower()
            assert found[1].decode() == expected["c_subtype"].lower()
            found_parameters = found[2]
        for name, text in (expected or {}).get("attributes") or []:
            if name.endswith("-language") or found_parameters is None:
                continue
            if header.startswith("text/ ;"):
                continue  # a type without its subtype has no parameters we could trust
            shown = found_parameters.text(name.encode())
            assert shown is not None and shown.split() == text.split(), header
