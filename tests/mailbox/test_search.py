"""SEARCH finds what a plain scan finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.mailbox import search
from posthouse.mailbox.candidate import body_texts, parse_values, value_text
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.mailbox.flags import DELETED, FLAGGED, SEEN
from posthouse.mailbox.search import (
    All,
    And,
    Before,
    Body,
    Flag,
    Header,
    Key,
    Keyword,
    Larger,
    ModifiedSince,
    Not,
    Or,
    SentBefore,
    SentSince,
    Since,
    Smaller,
    Text,
    Uids,
)
from tests.mailbox.world import World, message

DAY = 20759  # 2 November 2026
DAY_US = 86_400_000_000


def found(world: World, key: Key, **named: Any) -> list[int]:
    uids: list[int] = []
    first_uid: int | None = 1
    while first_uid is not None:
        slice_ = world.read(
            search.search, world.account, world.mailbox(), key, first_uid=first_uid, **named
        )
        uids += slice_.uids
        first_uid = slice_.next_uid
    return uids


@pytest.fixture
def filled(world: World) -> World:
    world.deliver(message(b"Lunch at noon"), flags=SEEN)
    world.deliver(
        b'From: =?utf-8?q?J=C3=BCrgen?= <j@remote.test>\r\nTo: "Ann, A." <ann@example.org>\r\n'
        b"Subject: =?utf-8?b?R3LDvMOfZSBhdXMgS8O2bG4=?=\r\nX-Tag: Blue\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nStra=DFe und =C4pfel\r\n",
        flags=FLAGGED,
        keywords=("$Work",),
    )
    world.deliver(
        b"From: eve@example.org\r\nSubject: parts\r\nDate: Sun, 1 Nov 2026 00:00:00 +0000\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst needle part\r\n--b\r\n"
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"PGI+aGlkZGVuIHRyZWFzdXJlPC9iPg==\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"
        b"binary secret\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\n"
        b"deep\r\n--b--\r\n",
        received_at_us=(DAY + 1) * DAY_US,
        prefix=b"Received: from relay.example\r\n",
    )
    return world


@pytest.mark.parametrize(
    ("key", "uids"),
    [
        (All(), [1, 2, 3]),
        (Flag(SEEN), [1]),
        (Not(Flag(SEEN)), [2, 3]),
        (Flag(SEEN | FLAGGED), []),
        (Keyword("$WORK"), [2]),
        (Keyword("work"), []),
        (Uids(((2, 3),)), [2, 3]),
        (Uids(()), []),
        (Before(DAY + 1), [1, 2]),
        (Since(DAY + 1), [3]),
        (And((Since(DAY), Before(DAY + 1))), [1, 2]),
        (SentSince(DAY), [1]),
        (SentBefore(DAY), [3]),
        (Not(SentBefore(DAY)), [1, 2]),
        (Larger(250), [2, 3]),
        (Smaller(250), [1]),
        (ModifiedSince(10), [3]),
        (Header("Subject", "LUNCH"), [1]),
        (Header("subject", "grüsse"), [2]),  # ß folds to ss
        (Header("From", "jürgen"), [2]),
        (Header("From", "j@remote"), [2]),
        (Header("From", "<ann@example.org>"), [1]),
        (Header("To", "ann, a. <ann@example.org>"), [2]),
        (Header("From", "@"), [1, 2, 3]),
        (Header("Message-ID", "lunch.at"), [1]),
        (Header("X-Tag", "blue"), [2]),
        (Header("X-Tag", ""), [2]),
        (Header("Date", ""), [1, 3]),
        (Header("Received", "relay"), [3]),
        (Header("Reply-To", "ann"), []),  # ENVELOPE shows From there
        (Header("ä", "x"), []),
        (Body("straße"), [2]),
        (Body("ÄPFEL"), [2]),
        (Body("needle"), [3]),
        (Body("hidden treasure"), [3]),
        (Body("binary"), []),
        (Body("inner"), [3]),
        (Body("DEEP"), [3]),
        (Body("lunch"), []),
        (Text("lunch"), [1]),
        (Text("relay.example"), [3]),
        (Text("nowhere at all"), []),
        (Or((Header("Subject", "lunch"), Body("needle"))), [1, 3]),
        (And((Flag(SEEN), Text("hello"))), [1]),
        (And((Not(Text("hello")), Not(Flag(DELETED)))), [2, 3]),
        (Or((Flag(SEEN), Keyword("$work"))), [1, 2]),
        (Or(()), []),
        (And(()), [1, 2, 3]),
        (Not(Header("Subject", "lunch")), [2, 3]),
    ],
    ids=repr,
)
def test_a_key_and_what_it_finds(filled: World, key: Key, uids: list[int]) -> None:
    assert found(filled, key) == uids
    # A condition that SQL cannot judge makes the same keys go through Python.
    hidden = And((key, Or((Text("no such text"), All()))))
    assert found(filled, hidden) == uids


keys = st.recursive(
    st.sampled_from(
        [
            All(),
            Flag(SEEN),
            Flag(FLAGGED),
            Keyword("$work"),
            Uids(((1, 1), (3, 9))),
            Uids(tuple((uid, uid) for uid in range(1, 200, 2))),
            Since(DAY + 1),
            SentBefore(DAY),
            Larger(250),
            Header("Subject", "lunch"),
            Header("X-Tag", "blue"),
            Body("needle"),
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=8,
)
LEAVES = {
    "All()": {1, 2, 3},
    repr(Flag(SEEN)): {1},
    repr(Flag(FLAGGED)): {2},
    repr(Keyword("$work")): {2},
    repr(Since(DAY + 1)): {3},
    repr(SentBefore(DAY)): {3},
    repr(Larger(250)): {2, 3},
    repr(Header("Subject", "lunch")): {1},
    repr(Header("X-Tag", "blue")): {2},
    repr(Body("needle")): {3},
}


def expected(key: Key) -> set[int]:
    if isinstance(key, And):
        return {1, 2, 3}.intersection(*map(expected, key.keys))
    if isinstance(key, Or):
        return set().union(*map(expected, key.keys))
    if isinstance(key, Not):
        return {1, 2, 3} - expected(key.key)
    if isinstance(key, Uids):
        return {1, 3}
    return LEAVES[repr(key)]


@given(key=keys)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_trees_of_keys_are_sets(filled: World, key: Key) -> None:
    assert found(filled, key) == sorted(expected(key))


def test_a_thousand_keys_are_no_trouble_for_the_database(filled: World) -> None:  # H52
    assert found(filled, And(tuple(Flag(0) for _ in range(1_000)))) == [1, 2, 3]
    ranges = tuple((uid, uid) for uid in range(3, 60_000, 2))
    assert found(filled, Uids(ranges)) == [3]
    nested: Key = Flag(SEEN)
    for _ in range(50):
        nested = Not(Or((nested, Text("nowhere"))))
    assert found(filled, nested) == [1]


def test_slices_join_to_the_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ROWS_OPENED_MAX", 3)
    monkeypatch.setattr(search, "SLICE_OCTETS_MAX", 2 * len(message(b"m0")))
    for n in range(10):
        world.deliver(message(b"m%d" % n))
    first = world.read(search.search, world.account, world.mailbox(), Text("hello"))
    assert (first.uids, first.next_uid) == ([1, 2], 3)
    assert found(world, Text("hello")) == list(range(1, 11))


def test_a_damaged_message_is_passed_over(filled: World) -> None:  # F10
    filled.store.write_now(lambda tx: tx.run("UPDATE blob SET octets = x'00' WHERE id = 1"))
    done = filled.read(search.search, filled.account, filled.mailbox(), Body("needle"))
    assert (done.uids, done.unreadable) == ([3], 1)


def test_only_the_beginning_of_a_huge_message_is_looked_at(world: World) -> None:  # H37
    world.deliver(message() + b"x" * 2_000_000 + b"needle")
    world.deliver(message() + b"x" * 1_000_000 + b"needle")
    assert found(world, Body("needle")) == [2]


def test_another_account_cannot_search_here(filled: World) -> None:  # P12
    with pytest.raises(NoSuchMailbox):
        filled.read(search.search, filled.new_account("eve"), filled.mailbox(), All())


def test_text_of_clients_never_becomes_sql(filled: World) -> None:
    for text in ("'; DROP TABLE entry; --", "%", "_", "\x00", '"', "\\"):
        for key in (Keyword(text), Header("Subject", text), Header(text, "x"), Body(text)):
            assert found(filled, key) == []
    assert found(filled, All()) == [1, 2, 3]


def test_envelopes_are_read_back() -> None:
    envelope = (
        b'("Mon" "a \\"quoted\\" \\\\ subject" (("N \\"x\\"" NIL "l" "d.test")(NIL NIL {3}\r\n'
        b'a"b "e.test")) NIL NIL ((NIL NIL "friends" NIL)(NIL NIL "f" "g.test")(NIL NIL NIL NIL))'
        b" NIL NIL NIL NIL)"
    )
    texts = [value_text(value) for value in parse_values(envelope)]
    assert len(texts) == 10
    assert texts[1] == 'a "quoted" \\ subject'
    assert texts[2] == 'n "x" <l@d.test>, a"b@e.test'
    assert texts[5] == "friends, f@g.test, "


@given(st.binary(max_size=300))
def test_any_octets_can_be_searched(octets: bytes) -> None:
    from posthouse.mailbox.append import prepare

    values = parse_values(prepare(octets).envelope)
    assert len(values) == 10 and all(isinstance(value_text(value), str) for value in values)
    assert all(isinstance(text, str) for text in body_texts(octets))
