"""Addresses a caller gives: read as written, or refused; never somebody else's."""

from __future__ import annotations

import time
from email.headerregistry import Address as StandardAddress
from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.build import Group
from posthouse.sending.addresses import mailboxes_of, read_names
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Mailbox
from tests.sending.making import letter_of, raw_field, recipients, simple


def read(names) -> list[tuple[str, str, str]]:
    return [
        (one.display_name, one.address.local_part, one.address.domain)
        for one in mailboxes_of(read_names("to", names))
    ]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ((), []),
        ("", []),
        ("a@x.example", [("", "a", "x.example")]),
        (" a@x.example , b@y.example,", [("", "a", "x.example"), ("", "b", "y.example")]),
        ("Ada L. <a@x.example>", [("Ada L.", "a", "x.example")]),
        ('"Ada, Countess" <a@x.example>', [("Ada, Countess", "a", "x.example")]),
        ("Jörg Ünal <a@x.example>", [("Jörg Ünal", "a", "x.example")]),
        ("=?utf-8?q?J=C3=B6?= <a@x.example>", [("Jö", "a", "x.example")]),
        ("a@x.example (Ada)", [("Ada", "a", "x.example")]),
        (Mailbox("a@x.example", "x, y"), [("x, y", "a", "x.example")]),
        (["a@x.example", Mailbox("b@X.example")], [("", "a", "x.example"), ("", "b", "x.example")]),
        ('"a@evil x"@good.example', [("", "a@evil x", "good.example")]),  # H66
        ('"a b"@x.example', [("", "a b", "x.example")]),
        ("a@[IPv6:2001:db8::1]", [("", "a", "[IPv6:2001:db8::1]")]),
        ("Team: a@x.example, B <b@x.example>;", [("", "a", "x.example"), ("B", "b", "x.example")]),
        ("T:;, c@x.example", [("", "c", "x.example")]),
        ("пётр@почта.example", [("", "пётр", "xn--80a1acny.example")]),
    ],
)
def test_addresses_are_read_as_written(names, wanted) -> None:
    assert read(names) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "Doe, John <j@x.example>",
        "a@good.example <b@bad.example>",
        "a@good.example b@bad.example",
        "<a@x.example> <b@y.example>",
        "a@b@c.example",
        "a@evil.example x@good.example",
        "a@x.example; b@y.example",
        '"unclosed <a@x.example>',
        "a@x.example>",
        "Team: Inner: a@x.example;;",
        "a@x..example",
        "a@-x.example",
        "a@",
        "@x.example",
        "<>",
        "Name <>",
        "a b@x.example",
        "a(@x.example",
        "a@[300.1.1.1]",
        "a@x.example\\",
        f"{'a' * 200}@x.example",
        f"a@{'x' * 64}.example",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_by_name(text: str) -> None:  # H66
    with pytest.raises(MessageError) as caught:
        read_names("to", ["ok@x.example", text])
    assert caught.value.field == "to[1]" and caught.value.text.startswith("to[1]: ")
    assert len(caught.value.text) < 300


@pytest.mark.timed
def test_groups_nested_deep_take_no_recursion_and_no_time() -> None:  # H66, CVE-2025-14874
    began = time.perf_counter()
    for text in ("g:" * 25_000 + "a@x.example", "g:" * 25_000, "(" * 50_000 + "a@x.example"):
        with pytest.raises(MessageError):
            read_names("to", text)
    assert time.perf_counter() - began < 5


def test_too_much_for_one_text_is_asked_for_as_a_list() -> None:
    with pytest.raises(MessageError, match="list") as caught:
        read_names("to", ",".join(["a@x.example"] * 3_000))
    assert "list" in caught.value.hint
    assert len(read(["a@x.example"] * 3_000)) == 3_000


def test_a_comma_in_a_name_outside_ascii_stays_in_the_name() -> None:  # H66, CVE-2025-1795
    letter = letter_of(simple(to=Mailbox("a@x.example", "Ünal, evil@evil.example")))
    assert recipients(letter) == ["a@x.example"]
    value = (raw_field(letter, "to") or b"").decode()
    header = HeaderRegistry()("To", value)
    assert [one.addr_spec for one in header.addresses] == ["a@x.example"]
    assert "," not in value


PART = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)


@given(st.lists(PART.filter(lambda name: "  " not in name), min_size=1, max_size=5))
def test_names_of_any_kind_reach_the_reader_and_nobody_else(names: list[str]) -> None:  # H66
    letter = letter_of(simple(to=[Mailbox(f"n{at}@x.example", n) for at, n in enumerate(names)]))
    wanted = [f"n{at}@x.example" for at in range(len(names))]
    assert recipients(letter) == wanted
    value = (raw_field(letter, "to") or b"").decode()
    # The standard library sees the same addresses.
    assert [one.addr_spec for one in HeaderRegistry()("To", value).addresses] == wanted
    shown = [(n.strip(" "), f"n{at}", "x.example") for at, n in enumerate(names)]
    assert [(n.strip(" "), *rest) for n, *rest in read(value)] == shown


def test_a_group_is_written_as_one() -> None:
    (group,) = read_names("to", '"The, Team": a@x.example;')
    assert isinstance(group, Group) and group.name == "The, Team"
    letter = letter_of(simple(to='"The, Team": a@x.example, Jö <b@x.example>;, c@y.example'))
    header = HeaderRegistry()("To", (raw_field(letter, "to") or b"").decode())
    assert [one.display_name for one in header.groups] == ["The, Team", None]
    assert StandardAddress("Jö", addr_spec="b@x.example") in header.addresses
