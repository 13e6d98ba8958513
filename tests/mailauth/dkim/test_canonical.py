"""Which octets are hashed: RFC 6376 §3.4, whole and in pieces."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.dkim.canonical import (
    BodyHasher,
    Canonicalization,
    Fields,
    hash_body,
    relaxed_value,
    without_b,
)
from posthouse.message.fields import read_section

SIMPLE, RELAXED = Canonicalization.SIMPLE, Canonicalization.RELAXED


def simple_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.3, slow and plain."""
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n"


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.4, slow and plain."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


PLAIN = {SIMPLE: simple_body, RELAXED: relaxed_body}

BODIES = [
    b"",
    b"\r\n",
    b"\r\n\r\n",
    b" \r\n\t\r\n",
    b"a",
    b"a ",
    b" ",
    b"a\r\n",
    b"a\r\n\r\n",
    b"a \r\n\r\n \r\n",
    b" C \r\nD \t E\r\n\r\n\r\n",  # RFC 6376 §3.4.5
    b"\r\n\r\na\r\n",
    b"a\nb \nc",
    b"a\n\r\n",
    b"a\r\r\n",
    b"a \r",
    b"a\r\n\r",
    b"\n\r\n",
    b"\ta  b\t\tc \t d\r\n" * 3,
    b"x" * 200 + b" " * 200 + b"y\r\n",
    b"a\r\n" + b"\r\n" * 40_000,
    b"\r\n" * 40_000 + b"a",
    b"\xff\x00 \x0b\x0c \r\n",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("how", Canonicalization)
def test_a_body_is_hashed_in_canonical_form(body: bytes, how: Canonicalization) -> None:
    canonical = PLAIN[how](body)
    found = hash_body(b"head" + body, 4, how)[None]
    assert (found.digest, found.octets) == (sha256(canonical).digest(), len(canonical))


EMPTY = [
    (SIMPLE, "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),  # RFC 6376 §3.4.3
    (RELAXED, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),  # RFC 6376 §3.4.4
]


@pytest.mark.parametrize(("how", "hashed"), EMPTY)
def test_an_empty_body_has_the_hash_of_the_rfc(how: Canonicalization, hashed: str) -> None:
    assert b64encode(hash_body(b"", 0, how)[None].digest).decode() == hashed


octets = st.text(alphabet="ab \t\r\n\x0b", max_size=60).map(str.encode) | st.lists(
    st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"\r", b"\n", b"  ", b" \r\n", b"\xe9"]),
    max_size=40,
).map(b"".join)


@given(body=octets, limits=st.lists(st.integers(0, 80) | st.none(), min_size=1, max_size=4))
@pytest.mark.parametrize("how", Canonicalization)
def test_any_body_and_any_limits_agree_with_the_plain_form(
    how: Canonicalization, body: bytes, limits: list[int | None]
) -> None:
    canonical = PLAIN[how](body)
    found = hash_body(b"x:y\r\n\r\n" + body, 7, how, tuple(limits))
    for limit in limits:
        assert found[limit].digest == sha256(canonical[:limit]).digest()
        assert found[limit].octets == len(canonical)


@given(
    body=octets,
    cuts=st.lists(st.integers(0, 80), max_size=8),
    limit=st.integers(0, 80) | st.none(),
)
@pytest.mark.parametrize("how", Canonicalization)
def test_where_a_body_is_cut_changes_nothing(
    how: Canonicalization, body: bytes, cuts: list[int], limit: int | None
) -> None:
    hasher, at = BodyHasher(how, limit), 0
    for cut in [*sorted(cuts), len(body)]:
        hasher.update(body[at:cut])
        at = max(at, cut)
    assert hasher.digest() == hash_body(body, 0, how, (limit,))[limit]


def test_a_body_of_single_octets_is_hashed_as_a_whole() -> None:
    body = b" a  b\t\r\n\r\n \r\n\r\nc\r \r\n\n\r\n\r\n"
    for how in Canonicalization:
        hasher = BodyHasher(how)
        for octet in body:
            hasher.update(bytes([octet]))
        assert hasher.digest() == hash_body(body, 0, how)[None]


# --- header fields ---

FIELDS = [
    # RFC 6376 §3.4.5
    (b"A: X\r\n", b"a:X\r\n", b"A: X\r\n"),
    (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n", b"B : Y\t\r\n\tZ  \r\n"),
    (b"SUBJect: AbC\r\n", b"subject:AbC\r\n", b"SUBJect: AbC\r\n"),
    (b"A:\r\n", b"a:\r\n", b"A:\r\n"),
    (b"A: \r\n \r\n", b"a:\r\n", b"A: \r\n \r\n"),
    (b"A:\r\n\tx\r\n", b"a:x\r\n", b"A:\r\n\tx\r\n"),
    # A bare LF ends a line of the header section, as everywhere (H34).
    (b"A: x\n", b"a:x\r\n", b"A: x\r\n"),
    (b"A: x\n y\n", b"a:x y\r\n", b"A: x\n y\r\n"),
    # Only SP and HTAB are white space (RFC 5234 B.1); the others stay.
    (b"A: x\x0b \x0cy\r\n", b"a:x\x0b \x0cy\r\n", b"A: x\x0b \x0cy\r\n"),
    (b"A: x \r y\r\n", b"a:x \r y\r\n", b"A: x \r y\r\n"),
    (b"A: \xa0x\x85 \r\n", b"a:\xa0x\x85\r\n", b"A: \xa0x\x85 \r\n"),
    (b"A: \x1cx\x1f\r\n", b"a:\x1cx\x1f\r\n", b"A: \x1cx\x1f\r\n"),
]


@pytest.mark.parametrize(("written", "relaxed", "simple"), FIELDS)
def test_a_field_in_canonical_form(written: bytes, relaxed: bytes, simple: bytes) -> None:
    fields = Fields(read_section(written + b"\r\n"))
    (field,) = fields.section.fields
    assert fields.canonical(field, RELAXED) == relaxed
    assert fields.canonical(field, SIMPLE) == simple


@given(value=octets)
def test_the_quick_form_of_a_relaxed_value_is_the_plain_one(value: bytes) -> None:
    section = read_section(b"X:" + value + b"\r\n\r\n")
    fields = Fields(section)
    for field in section.fields:
        form = fields.canonical(field, RELAXED)
        assert form == b"%b:%b\r\n" % (
            field.name,
            relaxed_value(re.sub(rb"\r?\n\Z", b"", section.octets[field.value_start : field.end])),
        )


def test_fields_are_chosen_from_the_last_and_never_twice() -> None:  # RFC 6376 §5.4.2
    section = read_section(b"R: 1\r\nA: 2\r\nR: 3\r\nR: 4\r\n\r\n")
    fields = Fields(section)
    names = [b"r", b"x", b"r", b"a", b"a", b"r", b"r"]
    chosen, left = fields.chosen(names, RELAXED)
    assert chosen == [b"r:4\r\n", b"r:3\r\n", b"a:2\r\n", b"r:1\r\n"]
    assert left == {b"r": 0, b"a": 0}
    # Nothing is used up by others.
    assert fields.chosen([b"r"], RELAXED) == ([b"r:4\r\n"], {b"r": 2})
    assert fields.places == {b"r": [0, 2, 3], b"a": [1]}


OWN = [
    (b" v=1; b=QUJD; bh=x", b" v=1; b=; bh=x"),
    (b" b = QU\r\n JD ;x=b=2", b" b =;x=b=2"),
    (b"b=QUJD", b"b="),
    (b" bh=1;\r\n\tb\t=\r\n QU JD", b" bh=1;\r\n\tb\t="),
    (b" bh=b=3; q=b; b=x; B=y", b" bh=b=3; q=b; b=; B=y"),
    (b" bh=1; q=2", b" bh=1; q=2"),
]


@pytest.mark.parametrize(("value", "without"), OWN)
def test_only_the_value_of_b_is_deleted(value: bytes, without: bytes) -> None:  # RFC 6376 §3.7
    assert without_b(value) == without
