"""Address lists in header fields: RFC 5322 §3.4, §4.4."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.message.address_list import AddressList, Listed, parse_address_list

END = (None, None, None)


def parts(value: bytes) -> list[tuple[bytes | None, bytes | None, bytes | None]]:
    return [(i.name, i.local_part, i.domain) for i in parse_address_list(value).items]


WELL_FORMED = [
    (b"a@b.example", [(None, b"a", b"b.example")]),
    (b"John Doe <a@b>", [(b"John Doe", b"a", b"b")]),
    (b'"Doe, J" <a@b>, c@d', [(b"Doe, J", b"a", b"b"), (None, b"c", b"d")]),
    (b'"a\\"b" <c@d>', [(b'a"b', b"c", b"d")]),
    (b'"a b"@c', [(None, b"a b", b"c")]),
    (b'X <"q\\"q"@d>', [(b"X", b'q"q', b"d")]),
    (b"a@b (John (J.) Doe)", [(b"John (J.) Doe", b"a", b"b")]),
    (b"a . b@ c . d", [(None, b"a.b", b"c.d")]),  # obsolete
    (b"<@x,@y:a@b>", [(None, b"a", b"b")]),  # obsolete source route
    (b", ,a@b,,", [(None, b"a", b"b")]),  # obsolete empty elements
    (b"a@[1.2.3.4]", [(None, b"a", b"[1.2.3.4]")]),
    (b"A: a@x, B <b@y>;", [(None, b"A", None), (None, b"a", b"x"), (b"B", b"b", b"y"), END]),
    (b"undisclosed-recipients:;", [(None, b"undisclosed-recipients", None), END]),
    (b"G:;, a@b", [(None, b"G", None), END, (None, b"a", b"b")]),
    (b"=?utf-8?q?J=C3=B6?= <a@b>", [(b"=?utf-8?q?J=C3=B6?=", b"a", b"b")]),
    (b"J\xc3\xb6 <j\xc3\xb6@b>", [(b"J\xc3\xb6", b"j\xc3\xb6", b"b")]),  # RFC 6532
    (b"John\r\n Doe\r\n\t<a@b>", [(b"John Doe", b"a", b"b")]),
    (b"(a@good)b@bad", [(b"a@good", b"b", b"bad")]),  # H33
    (b'"a@good" <b@bad>', [(b"a@good", b"b", b"bad")]),  # H33
    (b'"a@evil x"@good', [(None, b"a@evil x", b"good")]),  # H66
    (b"", []),
]


@pytest.mark.parametrize(("value", "expected"), WELL_FORMED)
def test_well_formed_lists_are_read_as_the_rfc_means(value: bytes, expected: list) -> None:
    found = parse_address_list(value)
    assert [(i.name, i.local_part, i.domain) for i in found.items] == expected
    assert not found.is_malformed and not found.is_truncated


MALFORMED = [
    (b"a@good <b@bad>", [(b"a@good", b"b", b"bad")]),  # H33
    (b"<a@good> <b@bad>", [(None, b"a", b"good"), (None, b"b", b"bad")]),  # H33: both are judged
    (b"a@good@bad", [(None, b"a@good", b"bad")]),  # the last "@" that is not quoted
    (b"John Doe a@b", [(b"John Doe", b"a", b"b")]),
    (b"root", [(None, b"root", b"")]),
    (b"Name <>", [(b"Name", b"", b"")]),
    (b'"open <a@b>', [(None, b"open <a@b>", b"")]),
    (b"<a@b", [(None, b"a", b"b")]),
    (b"a@b; c@d", [(None, b"a", b"b"), (None, b"c", b"d")]),
    (b"a: b: c@d;", [(None, b"a", None), END, (None, b"b", None), (None, b"c", b"d"), END]),
    (b"a@b (open", [(b"open", b"a", b"b")]),
]


@pytest.mark.parametrize(("value", "expected"), MALFORMED)
def test_malformed_lists_say_so_and_hide_no_address(value: bytes, expected: list) -> None:  # H33
    found = parse_address_list(value)
    assert [(i.name, i.local_part, i.domain) for i in found.items] == expected
    assert found.is_malformed


def test_names_are_shown_decoded_and_without_controls() -> None:  # H31
    found = parse_address_list(b"=?utf-8?q?J=0D=0AB=C3=B6?= <a@b>")
    assert found.items[0].display_name == "J  Bö"
    assert Listed(None, b"a", b"b").display_name == ""


def test_addresses_are_what_smtp_could_carry() -> None:
    found = parse_address_list(
        b"A <a@B.example>, root, <x y@c>, g: b@c;, j\xc3\xb6@stra\xc3\x9fe.de"
    )
    assert found.addresses() == [
        Address("a", "b.example"),
        Address("x y", "c"),
        Address("b", "c"),
        Address("jö", "xn--strae-oqa.de"),
    ]


def test_no_more_than_the_bound_is_read() -> None:  # H26
    found = parse_address_list(b"a@b, " * 100_000, addresses_max=2_000)
    assert len(found.items) == 2_000
    assert found.is_truncated
    open_group = parse_address_list(b"g: " + b"a@b, " * 10, addresses_max=5)
    assert open_group.is_truncated and open_group.items[-1] == Listed(None, None, None)


def test_one_address_may_not_take_what_two_thousand_do() -> None:  # H26, P10
    for piece in (b"b@", b"(a)", b"<", b"a "):
        found = parse_address_list(piece * (100_000 // len(piece)))
        assert found.is_truncated
    name = b"a much longer name than people have " * 20
    assert parse_address_list(b"(c) " + name + b"<a@b.example>").addresses() == [
        Address("a", "b.example")
    ]


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece", [b"a@b, ", b'"', b"(", b")", b"a: ", b"<", b'\\"', b"a@", b"x ", b"[", b",", b"a. "]
)
def test_hostile_lists_take_linear_time(piece: bytes) -> None:  # H26, H39, H66
    """100 KiB, what a field can hold at most, nested 50,000 deep where it can nest."""
    started = time.thread_time()
    found = parse_address_list(piece * (100_000 // len(piece)), addresses_max=1_000_000)
    assert time.thread_time() - started < 1.0
    assert isinstance(found, AddressList)


@given(st.binary(max_size=200))
def test_anything_is_read_without_an_exception(value: bytes) -> None:
    for item in parse_address_list(value).items:
        item.address()
        assert item.display_name.isprintable() or not item.display_name.isascii()


@given(st.lists(st.sampled_from([b'"', b"<", b">", b"@", b",", b":", b";", b"(", b")", b"a", b" ",
                                 b".", b"[", b"]", b"\\"]), max_size=40))  # fmt: skip
def test_groups_open_and_close_in_turn(pieces: list[bytes]) -> None:
    depth = 0
    for item in parse_address_list(b"".join(pieces)).items:
        if item.domain is None:
            depth += 1 if item.local_part is not None else -1
        assert depth in (0, 1)
    assert depth == 0


def flat(expected: dict) -> list[tuple[str | None, str | None]]:
    if "List" in expected:
        return [(one["name"], one["address"]) for one in expected["List"]]
    return [(one["name"], one["address"]) for g in expected["Group"] for one in g["addresses"]]


# Where that library's model is not RFC 5322's meaning; each by what stands in the header.
DEVIATIONS = {
    "A nice": "comments are not part of a display name (RFC 5322 §3.2.2)",
    "(comment)": "comments are not part of a display name (RFC 5322 §3.2.2)",
    "(=?iso-8859-8": "the display name wins over a comment (RFC 5322 §3.4)",
    "<@node.test:": "a source route is not part of the address (RFC 5322 §4.4)",
    "http://": "List- fields hold URLs, not addresses (RFC 2369 §2); read elsewhere",
    "mailto:": "List- fields hold URLs, not addresses (RFC 2369 §2); read elsewhere",
    "ftp://": "List- fields hold URLs, not addresses (RFC 2369 §2); read elsewhere",
    "test@test.com\n": "the second line is no continuation, so it belongs to no field",
}


def test_mail_parser_address_vectors(vectors: Path) -> None:
    file = vectors / "mime" / "mail-parser" / "headers" / "address.json"
    wrong = []
    for case in json.loads(file.read_text()):
        header: str = case["header"]
        if any(mark in header for mark in DEVIATIONS):
            continue
        value = header.split("\n\n")[0].encode()
        found = [
            (
                item.display_name or None,
                b"@".join(filter(None, (item.local_part, item.domain))).decode() or None,
            )
            for item in parse_address_list(value).mailboxes()
        ]
        if found != flat(case["expected"]):
            wrong.append((header, found, flat(case["expected"])))
    assert wrong == []
