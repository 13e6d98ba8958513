"""Header sections: RFC 5322 §2.2, and one rule for where they end."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import fields
from posthouse.message.fields import (
    FromFault,
    HeaderLimit,
    body_start,
    exceeded,
    first,
    from_fault,
    has_nul,
    header_end,
    header_fields,
    prepend,
    read_section,
    unfold,
    without,
)

# octets, header section, body, names of the fields
ENDS = [
    (b"", b"", b"", []),
    (b"\r\nbody", b"", b"body", []),
    (b"A: b\r\n\r\nbody", b"A: b\r\n", b"body", [b"a"]),
    (b"A: b\n\nbody\r\n\r\n", b"A: b\n", b"body\r\n\r\n", [b"a"]),
    (b"A: b\r\n\nbody", b"A: b\r\n", b"body", [b"a"]),
    (b"A: b\r\n", b"A: b\r\n", b"", [b"a"]),
    (b"A: b", b"A: b", b"", [b"a"]),
    # A line of blanks only is a continuation (RFC 5322 §4.2).
    (b"A: b\r\n \r\nC: d\r\n\r\nx", b"A: b\r\n \r\nC: d\r\n", b"x", [b"a", b"c"]),
    # Lines that are no fields are kept and belong to none.
    (b"no colon\r\nA: b\r\n\r\nx", b"no colon\r\nA: b\r\n", b"x", [b"a"]),
    (b"From a@b Mon Nov 23\nA: b\n\nx", b"From a@b Mon Nov 23\nA: b\n", b"x", [b"a"]),
    (b"A b: c\r\nA: b\r\n\r\nx", b"A b: c\r\nA: b\r\n", b"x", [b"a"]),
    (b"A\xe9: c\r\nA: b\r\n\r\nx", b"A\xe9: c\r\nA: b\r\n", b"x", [b"a"]),
    (b" From: x\r\nA: b\r\n\r\nx", b" From: x\r\nA: b\r\n", b"x", [b"a"]),
    (b"From\0: x\r\nA: b\r\n\r\nx", b"From\0: x\r\nA: b\r\n", b"x", [b"a"]),
    (b"A: b\n\n\r\nx", b"A: b\n", b"\r\nx", [b"a"]),  # the first empty line, not the first CRLF
    (b"From : x\r\n\r\nx", b"From : x\r\n", b"x", [b"from"]),  # obsolete, but a From
]


@pytest.mark.parametrize(("octets", "header", "body", "names"), ENDS)
def test_one_rule_says_where_the_header_section_ends(
    octets: bytes, header: bytes, body: bytes, names: list[bytes]
) -> None:  # H34, H33
    section = read_section(octets)
    assert octets[: header_end(octets)] == octets[section.start : section.end] == header
    assert octets[section.body :] == body
    assert body_start(octets, section.end) == section.body
    assert [field.name for field in section.fields] == names


@pytest.mark.parametrize(("octets", "header", "body", "names"), ENDS)
def test_fields_put_in_front_move_nothing(
    octets: bytes, header: bytes, body: bytes, names: list[bytes]
) -> None:  # H34
    front = [b"Return-Path: <>\r\n", b"Received: by x;\r\n\tdate\r\n"]
    new = prepend(octets, front)
    section = read_section(new)
    assert new.endswith(octets)
    assert new[: section.end] == b"".join(front) + header
    assert new[section.body :] == body


@pytest.mark.parametrize("empty", [b"\n\n", b"\n\r\n"])
def test_an_empty_line_is_found_wherever_it_stands(empty: bytes) -> None:  # H34
    for size in range(4090, 4100):
        octets = b"A: " + b"b" * size + empty + b"x\n\n\r\n"
        assert header_end(octets) == size + 4


STRAY = [
    b"no colon\r\n",
    b"From a@b.example Mon Nov 23\r\n",
    b"A b: c\r\n",
    b"A\xe9: c\r\n",
    b" \r\n",  # programs that take it for the empty line
    b"\t\n",
    b"A: b\rFrom: c@d.example\r\n",
    b"A: b\r\r\n",
]


@pytest.mark.parametrize("stray", STRAY)
def test_a_line_that_is_no_field_is_told_of(stray: bytes) -> None:  # H34
    octets = b"A: b\r\nC:\r\n\td\r\n%bE : f\n"
    assert read_section((octets % stray) + b"\r\n").has_stray_lines
    for plain in (octets % b"", octets % b"" + b"\nno colon\r\n", b"\r\nno colon", b""):
        assert not read_section(plain).has_stray_lines
    inside = b"above\r\n\r\n" + octets % stray
    assert read_section(inside, 9).has_stray_lines
    assert not read_section(inside, 9, inside.rindex(stray)).has_stray_lines


@pytest.mark.parametrize(
    "octets",
    [b"A: b\r\n" * (fields.FIELDS_MAX + 1), b"A: %b\r\n" % bytes(fields.HEADER_OCTETS_MAX)],
)
def test_a_section_that_is_not_read_whole_says_so(octets: bytes) -> None:  # H26, H27
    section = read_section(octets + b"\r\nbody")
    assert section.is_cut and section.has_stray_lines
    assert not read_section(octets[:7] + b"\r\nbody").is_cut


def test_a_field_knows_its_octets() -> None:
    octets = b"Subject : a\r\n  b\r\nX:\r\n\r\nbody"
    section = read_section(octets)
    subject, x = section.fields
    assert octets[subject.start : subject.end] == b"Subject : a\r\n  b\r\n"
    assert octets[subject.value_start : subject.end] == b" a\r\n  b\r\n"
    assert octets[x.start : x.end] == b"X:\r\n"
    assert section.first(b"subject") == b"a  b"
    assert section.raw(b"subject") == b" a\r\n  b\r\n"
    assert section.first(b"x") == b""
    assert section.first(b"y") is None
    assert b"x" in section and b"y" not in section


def test_the_first_field_of_a_name_counts() -> None:  # H32
    section = read_section(b"A: 1\r\nB: x\r\nA: 2\r\n\r\n")
    assert section.first(b"a") == b"1"
    assert section.every(b"a") == [b"1", b"2"]
    assert section.count(b"a") == 2
    assert first(b"A: 1\r\nA: 2\r\n\r\n", b"a") == b"1"


def test_unfolding_takes_line_ends_only() -> None:  # RFC 5322 §2.2.3
    assert unfold(b" a\r\n b\r\n\tc\n d \r\n") == b"a b\tc d"


@pytest.mark.parametrize(
    ("octets", "limit"),
    [
        (b"A: b\r\n" * 50_000 + b"\r\n", HeaderLimit.HEADER_OCTETS),
        (b"A: " + b"x" * 110_000 + b"\r\n\r\n", HeaderLimit.FIELD_OCTETS),
        (b"A: b\r\n" + b" x\r\n" * 40_000 + b"\r\n", HeaderLimit.FIELD_OCTETS),
        (b"A: b\r\n" * 1_001 + b"\r\n", HeaderLimit.FIELDS),
        (b"A: b\r\n" * 1_000 + b"\r\n", None),
        (b"\r\n", None),
    ],
)
def test_reception_learns_which_bound_is_exceeded(
    octets: bytes, limit: HeaderLimit | None
) -> None:  # H26, H27
    found = exceeded(read_section(octets))
    assert (found and found.limit) == limit


def test_bounds_can_be_lower() -> None:
    section = read_section(b"A: b\r\nC: d\r\n\r\n")
    found = exceeded(section, fields_max=1)
    assert found is not None and (found.limit, found.observed) == (HeaderLimit.FIELDS, 2)


@pytest.mark.timed
@pytest.mark.parametrize(
    "unit", [b"To: a@b\r\n", b" x\r\n", b"x\r\n", b"a", b":", b"\r", b"a:\n\r"]
)
def test_header_sections_of_any_kind_take_linear_time(unit: bytes) -> None:  # H26, H27
    octets = b"A: b\r\n" + unit * (20 * 1024 * 1024 // len(unit))
    started = time.thread_time()
    section = read_section(octets)
    exceeded(section)
    assert time.thread_time() - started < 1.0
    assert len(section.fields) <= fields.FIELDS_MAX


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"From: a@b\r\n\r\n", None),
        (b"From : a@b\r\n\r\n", None),
        (b"From: a@b\r\nfrom: c@d\r\n\r\n", FromFault.SEVERAL),
        (b"From: a@b\r\nFROM : c@d\r\n\r\n", FromFault.SEVERAL),
        (b"To: a@b\r\n\r\nFrom: a@b\r\n", FromFault.MISSING),
        (b" From: a@b\r\n\r\n", FromFault.MISSING),
        (b"From\0: a@b\r\n\r\n", FromFault.MISSING),
    ],
)
def test_port_25_wants_exactly_one_from_field(octets: bytes, fault: FromFault | None) -> None:
    # H33
    assert from_fault(read_section(octets)) is fault


def test_nul_in_the_header_section_is_found_and_in_the_body_is_not() -> None:  # H4
    assert has_nul(read_section(b"A: \0\r\n\r\n"))
    assert not has_nul(read_section(b"A: b\r\n\r\n\0"))


def test_fields_can_be_left_out() -> None:
    octets = b"A: 1\r\nBcc: x\r\n y\r\nC: 2\r\nBCC : z\r\n\r\nBcc: body"
    assert without(read_section(octets), frozenset({b"bcc"})) == b"A: 1\r\nC: 2\r\n\r\nBcc: body"
    assert without(read_section(octets), frozenset({b"x"})) is octets


def test_chosen_fields_come_as_they_are_with_an_empty_line() -> None:  # RFC 3501 §6.4.5
    octets = b"To: 1\r\njunk\r\nFrom : 2\r\n\tb\r\nto:3\r\n\r\nTo: body"
    end = header_end(octets)

    def chosen(*names: bytes, negate: bool = False) -> bytes:
        return header_fields(octets, 0, end, frozenset(names), negate=negate)

    assert chosen(b"TO") == b"To: 1\r\nto:3\r\n\r\n"
    assert chosen(b"from", b"x") == b"From : 2\r\n\tb\r\n\r\n"
    assert chosen(b"t.") == b"\r\n"
    assert chosen() == b"\r\n"
    assert chosen(b"to", negate=True) == b"junk\r\nFrom : 2\r\n\tb\r\n\r\n"
    assert chosen(negate=True) == octets[:end] + b"\r\n"


@given(st.lists(st.sampled_from([b"A", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\0", b"\xff"])))
def test_reading_never_fails_and_its_parts_are_the_whole(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    section = read_section(octets)
    assert 0 <= section.end <= section.body <= len(octets)
    at = 0
    for field in section.fields:
        assert at <= field.start < field.value_start <= field.end <= section.end
        assert octets[field.start : field.value_start].strip(b" \t:").lower() == field.name
        at = field.end
    names = frozenset(field.name for field in section.fields)
    by_name = header_fields(octets, 0, section.end, names)
    joined = b"".join(octets[field.start : field.end] for field in section.fields)
    assert by_name[: len(joined)] == joined


@given(
    st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r", b"\n", b"\r\n "]), max_size=12).map(
        b"".join
    )
)
def test_unfolding_takes_line_ends_away_and_blanks_at_both_sides(value: bytes) -> None:
    # RFC 5322 §2.2.3
    assert unfold(value) == value.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t\r")
