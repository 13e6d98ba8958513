"""Mailbox names, the hierarchy and LIST."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import fetch, names
from posthouse.mailbox.errors import LimitReached, MailboxExists, NameRefused, NoSuchMailbox
from posthouse.mailbox.hierarchy import Pattern, checked
from posthouse.mailbox.names import Limits
from tests.mailbox.world import World, message


def make(world: World, *wanted: str) -> None:
    for name in wanted:
        world.write(names.create, world.account, name)


def listed(world: World, pattern: str = "*", reference: str = "", **named: bool) -> list[str]:
    found = world.read(names.list_mailboxes, world.account, reference, [pattern], **named)
    return [one.name for one in found]


def test_an_account_begins_with_the_usual_mailboxes(world: World) -> None:  # RFC 6154
    found = world.read(names.list_mailboxes, world.account, "", ["*"])
    assert [(one.name, one.special_use, one.is_subscribed) for one in found] == [
        ("INBOX", None, True),
        ("Archive", "\\Archive", True),
        ("Drafts", "\\Drafts", True),
        ("Junk", "\\Junk", True),
        ("Sent", "\\Sent", True),
        ("Trash", "\\Trash", True),
    ]
    world.write(names.create_default_mailboxes, world.account)  # making them again is no error
    assert len(listed(world)) == 6


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a//b", "a/", "a\r\nb", "a\x00", "\x7f", "a*", "%", "a\u2028b", "\ud800", "a\x85"],
)
def test_what_is_no_name_is_refused(name: str) -> None:  # H54
    with pytest.raises(NameRefused):
        checked(name)


@pytest.mark.parametrize("name", ["x" * 1001, "ä" * 501, "/".join("x" * 21), "é" * 100_000])
def test_names_too_long_or_too_deep_are_refused(name: str) -> None:
    with pytest.raises(LimitReached):
        checked(name)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("inbox", "INBOX"),
        ("inBox/a", "INBOX/a"),
        ("a/inbox", "a/inbox"),
        ("inboxes", "inboxes"),
        ("../x", "../x"),  # data, not a path
        ("a/../b", "a/../b"),
        ("e\u0301", "\u00e9"),  # NFC
        ("&~", "&~"),
    ],
)
def test_a_name_and_how_it_is_stored(name: str, stored: str) -> None:  # H54
    assert checked(name) == stored


def test_create_makes_what_is_missing_above(world: World) -> None:
    make(world, "a/b/c/")
    assert [name for name in listed(world) if name.startswith("a")] == ["a", "a/b", "a/b/c"]
    with pytest.raises(MailboxExists):
        make(world, "A/b/c".lower())
    with pytest.raises(MailboxExists):
        make(world, "Inbox")


def test_mailboxes_of_an_account_are_bounded(world: World) -> None:
    limits = Limits(mailboxes_max=8)
    with pytest.raises(LimitReached):
        world.write(names.create, world.account, "a/b/c", limits=limits)
    world.write(names.create, world.account, "a/b", limits=limits)
    with pytest.raises(LimitReached):
        world.write(names.create, world.account, "d", limits=limits)
    with pytest.raises(LimitReached):
        world.write(names.rename, world.account, "a/b", "x/y/z", limits=limits)


def test_delete_takes_the_messages_with_it(world: World) -> None:
    world.deliver(mailbox="Archive")
    world.write(names.delete, world.account, "Archive")
    with pytest.raises(NoSuchMailbox):
        world.write(names.delete, world.account, "Archive")
    assert world.counters_differ() == []
    assert world.sql("SELECT count(*) FROM email") == [(0,)]
    assert "Archive" in listed(world, only_subscribed=True)  # RFC 9051 §6.3.7


def test_deleting_a_mailbox_with_inferiors_leaves_its_name(world: World) -> None:
    make(world, "a/b")
    world.write(names.delete, world.account, "a")
    found = {one.name: one for one in world.read(names.list_mailboxes, world.account, "", ["a*"])}
    assert (found["a"].exists, found["a"].has_children) == (False, True)
    assert found["a/b"].exists and not found["a/b"].has_children
    with pytest.raises(NameRefused):
        world.write(names.delete, world.account, "a")
    with pytest.raises(NoSuchMailbox):
        world.select("a")
    make(world, "a")
    assert world.select("a").messages == 0


def test_inbox_cannot_be_deleted(world: World) -> None:
    with pytest.raises(NameRefused):
        world.write(names.delete, world.account, "inbox")


def test_rename_takes_what_is_below_along(world: World) -> None:
    make(world, "a/b/c", "a0", "a-", "ab")
    uidvalidity = world.select("a/b").uidvalidity
    world.write(names.rename, world.account, "a", "x/y")
    own = [name for name in listed(world) if name[0] in "ax"]
    assert own == ["a-", "a0", "ab", "x", "x/y", "x/y/b", "x/y/b/c"]
    assert world.select("x/y/b").uidvalidity == uidvalidity


def test_rename_of_inbox_moves_its_messages(world: World) -> None:  # RFC 9051 §6.3.6
    make(world, "INBOX/kept")
    world.deliver(message(b"moved"))
    world.write(names.rename, world.account, "INBOX", "old")
    assert (world.select().messages, world.select("old").messages) == (0, 1)
    assert "INBOX/kept" in listed(world) and "old/kept" not in listed(world)
    got = world.read(fetch.octets, world.account, world.mailbox("old"), 1)
    assert got is not None and b"moved" in got.octets


def test_rename_refuses_what_would_lose_something(world: World) -> None:
    make(world, "a/b", "c")
    for old, new, error in (
        ("a", "c", MailboxExists),
        ("a", "a/b/c", NameRefused),
        ("nowhere", "x", NoSuchMailbox),
        ("a", "x/" * 19 + "x", LimitReached),  # its inferior would be too deep
        ("a", "b*", NameRefused),
        ("c", "inbox", MailboxExists),
    ):
        before = world.sql("SELECT * FROM mailbox")
        with pytest.raises(error):
            world.write(names.rename, world.account, old, new)
        assert world.sql("SELECT * FROM mailbox") == before


def test_a_name_without_a_mailbox_can_be_renamed_with_what_is_below(world: World) -> None:
    make(world, "a/b")
    world.write(names.delete, world.account, "a")
    world.write(names.rename, world.account, "a", "z")
    assert "z/b" in listed(world) and "a/b" not in listed(world)


def test_subscriptions_outlive_their_mailboxes_and_are_bounded(world: World) -> None:
    world.write(names.subscribe, world.account, "not/there")
    assert "not/there" in listed(world, only_subscribed=True)
    (found,) = world.read(names.list_mailboxes, world.account, "", ["not/%"], only_subscribed=True)
    assert (found.exists, found.is_subscribed) == (False, True)
    (parent,) = world.read(names.list_mailboxes, world.account, "", ["n%"], only_subscribed=True)
    assert (parent.name, parent.is_subscribed) == ("not", False)
    world.write(names.unsubscribe, world.account, "not/there")
    world.write(names.unsubscribe, world.account, "not/there")
    assert "not/there" not in listed(world, only_subscribed=True)
    with pytest.raises(LimitReached):
        world.write(names.subscribe, world.account, "x", limits=Limits(subscriptions_max=6))


def test_list_joins_reference_and_pattern(world: World) -> None:
    make(world, "a/b", "a/c/d")
    assert listed(world, "%", "a/") == ["a/b", "a/c"]
    assert listed(world, "a/*") == ["a/b", "a/c", "a/c/d"]
    assert listed(world, "%/%") == ["a/b", "a/c"]
    assert listed(world, "iNbOx") == ["INBOX"]
    assert listed(world, "nothing") == []


def test_status_counts(world: World) -> None:
    world.deliver(flags=1)
    world.deliver()
    found = world.read(names.status, world.account, "inbox")
    assert (found.messages, found.unseen, found.recent, found.uidnext) == (2, 1, 2, 3)
    assert found.octets == 2 * len(message())


def test_accounts_have_names_of_their_own(world: World) -> None:  # P12
    other = world.new_account("other")
    make(world, "private")
    for function in (names.find, names.status):
        with pytest.raises(NoSuchMailbox):
            world.read(function, other, "private")
    with pytest.raises(NoSuchMailbox):
        world.write(names.delete, other, "private")
    with pytest.raises(NoSuchMailbox):
        world.write(names.rename, other, "private", "mine")
    assert "private" in listed(world)


def test_an_account_that_goes_leaves_nothing(world: World) -> None:
    other = world.new_account("other")
    world.deliver(account=other)
    world.deliver()
    world.write(names.delete_all, other)
    assert world.sql("SELECT count(*) FROM mailbox WHERE account_id = ?", other) == [(0,)]
    assert world.sql("SELECT count(*) FROM subscription WHERE account_id = ?", other) == [(0,)]
    assert world.sql("SELECT count(*) FROM email") == [(1,)]
    assert world.counters_differ() == []


pieces = st.text(alphabet="ab/*%", max_size=10)


@given(pieces, st.text(alphabet="ab/", max_size=12))
def test_patterns_match_as_rfc_9051_says(pattern: str, name: str) -> None:
    expression = "".join(
        {"*": ".*", "%": "[^/]*"}.get(character, re.escape(character)) for character in pattern
    )
    assert Pattern(pattern).matches(name) == bool(re.fullmatch(expression, name))


@pytest.mark.timed
@pytest.mark.parametrize(
    "pattern",
    ["*" * 10_000 + "a", "*a" * 5_000, "%a" * 500, "*%" * 5_000 + "b", "a" * 10_240, "a*" * 400],
)
def test_no_pattern_takes_long(pattern: str) -> None:  # H54
    wanted = Pattern(pattern)
    longest = "a" * 999 + "c"
    started = time.thread_time()
    for _ in range(50):
        wanted.matches(longest)
    assert time.thread_time() - started < 1.0
