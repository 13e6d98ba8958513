"""IMAP's words to values and back."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses, search_keys
from posthouse.protocol.imap.fetch_items import Attribute, Section, SectionText
from posthouse.protocol.imap.grammar import BadCommand, Reader, compact_set, sequence_set
from posthouse.protocol.imap.search_keys import HasFlag, InSet, Not, Or
from tests.protocol.imap.runs import machine, run


def parsed(text: bytes) -> e.Event:
    events, said = run(machine(), b"a " + text + b"\r\n")
    assert events, said
    return events[0]


def refused(text: bytes) -> bytes:
    events, said = run(machine(), b"a " + text + b"\r\n")
    assert events == []
    return said


def read_back(octets: bytes) -> bytes:
    """A string as it is sent, read again."""
    if octets[:1] != b"{":
        return Reader([octets], []).astring()
    head, _, rest = octets.partition(b"\r\n")
    return Reader([head, b""], [rest]).astring()


@given(st.binary(max_size=2_000).filter(lambda octets: b"\x00" not in octets))
def test_what_is_written_as_a_string_is_read_as_it_was(octets: bytes) -> None:
    assert read_back(responses.string(octets)) == octets
    assert read_back(responses.astring(octets)) == octets


@given(st.text(max_size=50).filter(lambda name: name.isprintable() and "\ud800" not in name))
def test_a_mailbox_name_is_read_as_it_was_written(name: str) -> None:
    sent = responses.mailbox(name)
    if sent[:1] != b"{" and name.partition("/")[0].upper() != "INBOX":
        assert Reader([sent], []).mailbox() == name


@given(st.lists(st.integers(1, 300), unique=True).map(sorted))
def test_a_compact_set_means_the_same_numbers(numbers: list[int]) -> None:
    if numbers:
        ranges = sequence_set(compact_set(numbers))
        assert [n for low, high in ranges for n in range(low, high + 1)] == numbers


@given(st.integers(0, 4_000_000_000))
def test_a_date_time_is_read_as_it_was_written(seconds: int) -> None:
    text = responses.date_time(seconds * 1_000_000)
    assert Reader([text], []).date_time() == seconds * 1_000_000


# H52
@pytest.mark.parametrize(
    "text", [b"0", b"4294967296", b"1:", b":1", b"1,,2", b"01", b"1:2:3", b"99999999999", b"**"]
)
def test_what_is_no_sequence_set_is_refused(text: bytes) -> None:
    with pytest.raises(BadCommand):
        sequence_set(text)


# H52
def test_a_set_with_too_many_items_is_refused_by_its_limit() -> None:
    assert len(sequence_set(b",".join([b"1"] * 10_000))) == 10_000
    assert b"a BAD [LIMIT]" in refused(b"FETCH " + b",".join([b"1"] * 10_001) + b" FLAGS")


# H52
def test_search_keys_nest_and_count_up_to_their_limits() -> None:
    assert b"[LIMIT]" in refused(b"SEARCH " + b"NOT " * 60 + b"SEEN")
    assert b"[LIMIT]" in refused(b"SEARCH " + b"(" * 60 + b"SEEN" + b")" * 60)
    assert b"[LIMIT]" in refused(b"SEARCH " + b"SEEN " * 1_000 + b"SEEN")
    event = parsed(b"SEARCH " + b"NOT " * 40 + b"SEEN")
    depth = 0
    key = event.key if isinstance(event, e.Search) else None
    while isinstance(key, Not):
        key, depth = key.key, depth + 1
    assert depth == 40 and key == HasFlag(b"\\Seen")


def test_or_takes_the_two_keys_behind_it() -> None:
    event = parsed(b"SEARCH OR 1 OR NOT 2 (3 4) 5")
    assert isinstance(event, e.Search)
    one, two, three, four, five = (InSet(((n, n),), by_uid=False) for n in range(1, 6))
    both = search_keys.And((three, four))
    assert event.key == search_keys.And((Or(one, Or(Not(two), both)), five))


@pytest.mark.parametrize(
    "text",
    [b"OR SEEN", b"NOT", b"(SEEN", b"SEEN)", b"()", b"FROM", b"SINCE 32-Jan-2020", b"LARGER x",
     b"BEFORE 1-Foo-2020", b"UID", b"NOT )", b"OR (SEEN) )", b"SEEN  DRAFT", b"KEYWORD \\Seen"],
)  # fmt: skip
def test_what_is_no_search_key_is_refused(text: bytes) -> None:
    assert b"a BAD" in refused(b"SEARCH " + text)


# RFC 3501 §6.4.4
def test_text_is_read_in_its_charset() -> None:
    event = parsed(b'SEARCH CHARSET utf-8 SUBJECT "\xc3\xa4"')
    assert isinstance(event, e.Search) and event.key == search_keys.Field(b"SUBJECT", "ä")
    said = refused(b"SEARCH CHARSET KOI8-R SUBJECT x")
    assert said.startswith(b"a NO [BADCHARSET (US-ASCII UTF-8)]")


def test_macros_are_their_items_and_an_item_is_told_once() -> None:
    event = parsed(b"FETCH 1 fast")
    assert isinstance(event, e.Fetch)
    assert event.items == (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE)
    event = parsed(b"FETCH 1 (UID UID BODY[] BODY[])")
    assert isinstance(event, e.Fetch) and len(event.items) == 2


# H52
def test_a_thousand_times_the_whole_body_is_one_body() -> None:
    event = parsed(b"FETCH 1:4294967295 (" + b" ".join([b"BODY[]"] * 1_000) + b")")
    assert isinstance(event, e.Fetch) and len(event.items) == 1
    assert b"[LIMIT]" in refused(b"FETCH 1 (" + b" ".join([b"UID"] * 1_001) + b")")


def test_a_section_keeps_what_the_answer_needs() -> None:
    event = parsed(b'FETCH 1 BODY.PEEK[1.2.HEADER.FIELDS.NOT ("from" x-y)]<10.20>')
    assert isinstance(event, e.Fetch)
    assert event.items == (
        Section(
            label=b"BODY[1.2.HEADER.FIELDS.NOT (FROM X-Y)]<10>",
            path=(1, 2),
            text=SectionText.FIELDS_NOT,
            fields=(b"FROM", b"X-Y"),
            origin=10,
            octets=20,
            is_peek=True,
        ),
    )


# H53
@pytest.mark.parametrize(
    "item",
    [b"BODY[HEADER.FIELDS ()]", b"BODY[MIME]", b"BODY[0]", b"BODY[1.]", b"BODY[1..2]",
     b"BODY[]<0.0>", b"BODY[]<1>", b"BODY[FOO]", b"FLAGS[]", b"RFC822[]", b"BODY.PEEK",
     b"BODY[HEADER.FIELDS (\x7f)]", b"(FLAGS", b"()", b"(FLAGS  UID)", b"FOO", b"RFC822.FOO",
     b"(ALL)"],
)  # fmt: skip
def test_what_is_no_fetch_item_is_refused(item: bytes) -> None:
    assert b"a BAD" in refused(b"FETCH 1 " + item)


# H53
def test_a_part_deeper_than_any_message_names_nothing_and_costs_nothing() -> None:
    event = parsed(b"FETCH 1 BODY[" + b".".join([b"1"] * 1_000) + b"]")
    assert isinstance(event, e.Fetch) and isinstance(event.items[0], Section)
    assert len(event.items[0].path) == 101
    event = parsed(b"FETCH 1 BODY[]<4294967295.1>")
    assert isinstance(event, e.Fetch) and isinstance(event.items[0], Section)
    assert event.items[0].origin == 4_294_967_295


# H54
@pytest.mark.parametrize(
    "name",
    [b"&", b"&AGE-", b"&-x&", b"\xc3\xa4", b"{3+}\r\na\r\n", b'"a\rb"', b"{3+}\r\na\x00b",
     b"{1500+}\r\n" + b"x" * 1_500],
)  # fmt: skip
def test_what_is_no_mailbox_name_is_refused(name: bytes) -> None:
    assert b"a BAD" in refused(b"CREATE " + name)


@pytest.mark.parametrize("name", [b"inbox", b"INBOX", b'"InBoX"'])
def test_inbox_is_one_mailbox_in_every_case(name: bytes) -> None:
    assert parsed(b"SELECT " + name) == e.Select(tag=b"a", mailbox="INBOX")
    assert parsed(b"CREATE " + name.strip(b'"') + b"/x") == e.Create(tag=b"a", mailbox="INBOX/x")


def test_flags_take_their_usual_spelling_and_unknown_ones_are_refused() -> None:
    event = parsed(b"STORE 1 FLAGS (\\sEEN $Junk nil)")
    assert isinstance(event, e.Store) and event.flags == (b"\\Seen", b"$Junk", b"nil")
    assert b"a BAD" in refused(b"STORE 1 FLAGS (\\Recent)")
    assert b"a BAD" in refused(b"STORE 1 FLAGS (\\*)")


def test_a_date_in_a_zone_is_the_moment_it_names() -> None:
    event = parsed(b'APPEND x "01-Jul-2026 12:30:00 -0230" {1+}\r\nx')
    assert isinstance(event, e.Append)
    expected = datetime(2026, 7, 1, 15, 0, tzinfo=UTC).timestamp()
    assert event.received_at_us == expected * 1_000_000


def test_id_is_bounded_as_its_rfc_says() -> None:  # RFC 2971 §3.3
    thirty = b" ".join([b'"n" "v"'] * 30)
    event = parsed(b"ID (" + thirty + b")")
    assert isinstance(event, e.Id) and len(event.fields) == 30
    assert b"a BAD" in refused(b"ID (" + thirty + b' "n" "v")')
    assert b"a BAD" in refused(b'ID ("n" {1025+}\r\n' + b"x" * 1_025 + b")")


# H39, H52
@pytest.mark.timed
@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"SEARCH " + b"(" * n,
        lambda n: b"SEARCH " + b"OR NOT " * n,
        lambda n: b'SEARCH TEXT "' + b"\\\\" * n,
        lambda n: b"FETCH " + b"1," * n,
        lambda n: b"FETCH 1 (" + b"BODY[1.1.1.1] " * (n // 8),
        lambda n: b"LIST " + b"*" * n + b" " + b"%" * n,
        lambda n: b"STORE 1 FLAGS (" + b"a " * n,
    ],
)
def test_a_command_of_the_longest_line_takes_no_time(make: object) -> None:
    text = make(30_000)[:60_000]  # type: ignore[operator]
    started = time.thread_time()
    run(machine(), b"a " + text + b"\r\n")
    assert time.thread_time() - started < 0.25
