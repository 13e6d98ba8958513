"""STORE: limits, conditions and spelling; what it does to flags is in the model test."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ids import MailboxId
from posthouse.mailbox import copy, expunge, flags, names
from posthouse.mailbox.errors import KeywordRefused, LimitReached, NoSuchMailbox
from posthouse.mailbox.flags import ANSWERED, EVERYTHING, FLAGGED, SEEN, Action
from tests.mailbox.world import World


def store(world: World, where, action: Action, mask: int, keywords=(), **named) -> flags.Stored:
    return world.write(
        flags.store_flags, world.account, world.mailbox(), where, action, mask, keywords, **named
    )


def test_a_store_that_changes_nothing_wakes_nobody(world: World) -> None:
    world.deliver(flags=SEEN)
    told: list[object] = []
    world.store.listen(told.extend)
    before = world.select().modseq
    done = store(world, EVERYTHING, Action.ADD, SEEN)
    assert (done.changed, done.modseq, told) == ([], before, [])
    assert world.select().modseq == before


def test_unchanged_since_leaves_newer_messages_alone(world: World) -> None:
    for _ in range(3):
        world.deliver()
    known = world.select().modseq
    store(world, [(2, 2)], Action.ADD, FLAGGED)
    done = store(world, EVERYTHING, Action.ADD, SEEN, ("work",), unchanged_since=known)
    assert done.modified == [2]
    assert [(uid, bits, words) for uid, bits, words, _ in done.changed] == [
        (1, SEEN, "work"),
        (3, SEEN, "work"),
    ]
    assert world.view().flags[1] == FLAGGED


def test_unchanged_since_zero_changes_nothing(world: World) -> None:
    world.deliver()
    done = store(world, EVERYTHING, Action.REPLACE, ANSWERED, unchanged_since=0)
    assert (done.changed, done.modified) == ([], [1])


def test_keywords_keep_their_first_spelling(world: World) -> None:
    world.deliver()
    world.deliver()
    store(world, [(1, 1)], Action.ADD, 0, ["Work"])
    store(world, [(2, 2)], Action.ADD, 0, ["WORK", "$Forwarded"])
    assert world.view().keywords == {1: "Work", 2: "Work $Forwarded"}
    store(world, EVERYTHING, Action.REMOVE, 0, ["work"])
    assert world.view().keywords == {2: "$Forwarded"}
    assert world.select().keywords == ("Work", "$Forwarded")


def test_a_keyword_that_is_part_of_another_is_not_confused(world: World) -> None:
    world.deliver()
    for word in ("ab", "a", "b", "a.b", "a_b"):
        store(world, EVERYTHING, Action.ADD, 0, [word])
    store(world, EVERYTHING, Action.REMOVE, 0, ["a"])
    store(world, EVERYTHING, Action.REMOVE, 0, ["a_b"])
    assert world.view().keywords == {1: "ab b a.b"}


def test_copies_take_the_spelling_of_their_mailbox(world: World) -> None:
    world.deliver(keywords=("work",))
    world.deliver(mailbox="Archive", keywords=("Work",))
    world.write(copy.copy, world.account, world.mailbox(), EVERYTHING, "Archive")
    assert world.view("Archive").keywords == {1: "Work", 2: "Work"}


def test_keywords_of_a_mailbox_are_bounded(world: World) -> None:
    world.deliver()
    many = [f"k{n}" for n in range(500)]
    store(world, EVERYTHING, Action.ADD, 0, many)
    before = world.select().modseq
    with pytest.raises(LimitReached) as raised:
        store(world, EVERYTHING, Action.ADD, 0, ["one-more"])
    assert (raised.value.setting, raised.value.limit) == ("imap.keywords_max", 500)
    assert world.select().modseq == before
    assert len(world.view().keywords[1].split()) == 500


def test_removing_an_unknown_keyword_does_not_make_it_known(world: World) -> None:
    world.deliver()
    store(world, EVERYTHING, Action.REMOVE, 0, ["nothing"])
    assert world.select().keywords == ()
    with pytest.raises(KeywordRefused):
        store(world, EVERYTHING, Action.REMOVE, 0, ["(("])


def test_no_function_reaches_the_mailbox_of_another_account(world: World) -> None:  # P12
    stranger = world.new_account("stranger")
    world.deliver()
    his = world.mailbox()
    before = world.sql("SELECT * FROM entry"), world.sql("SELECT * FROM mailbox")
    with pytest.raises(NoSuchMailbox):
        world.write(flags.store_flags, stranger, his, EVERYTHING, Action.ADD, SEEN)
    with pytest.raises(NoSuchMailbox):
        world.write(expunge.expunge, stranger, his, EVERYTHING, only_deleted=False)
    for function in (copy.copy, copy.move):
        with pytest.raises(NoSuchMailbox):
            world.write(function, stranger, his, EVERYTHING, "INBOX")
    with pytest.raises(NoSuchMailbox):
        world.write(names.delete, world.account, "Nowhere")
    with pytest.raises(NoSuchMailbox):
        world.write(flags.store_flags, world.account, MailboxId(9999), EVERYTHING, Action.ADD, SEEN)
    assert (world.sql("SELECT * FROM entry"), world.sql("SELECT * FROM mailbox")) == before


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=20))
def test_normalised_ranges_are_the_same_set_in_order(ranges: list[tuple[int, int]]) -> None:
    wanted = {n for first, last in ranges for n in range(first, last + 1)}
    got = flags.normalised(ranges)
    assert {n for first, last in got for n in range(first, last + 1)} == wanted
    assert all(a[1] + 1 < b[0] for a, b in pairwise(got))
