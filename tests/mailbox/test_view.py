"""Views: what a selected session knows."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import copy, expunge, flags, names, view
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.mailbox.flags import DELETED, EVERYTHING, HAS_KEYWORDS, SEEN, Action
from tests.mailbox.world import World


def remove(world: World, *uids: int) -> None:
    world.write(
        expunge.expunge,
        world.account,
        world.mailbox(),
        [(uid, uid) for uid in uids],
        only_deleted=False,
    )


def test_select_reads_counters(world: World) -> None:
    world.deliver(flags=SEEN)
    world.deliver()
    selected = world.select("inbox")
    assert (selected.name, selected.messages, selected.uidnext) == ("INBOX", 2, 3)
    assert (selected.recent, selected.recent_uid, selected.first_unseen) == (2, 1, 2)


def test_a_view_loaded_late_shows_what_select_announced(world: World) -> None:  # P7
    for _ in range(5):
        world.deliver()
    selected = world.select()
    remove(world, 2, 4)
    world.deliver()
    late = world.read(view.load, world.account, selected)
    assert list(late.uids) == [1, 2, 3, 4, 5]
    changes = world.changes(late, selected.mailbox)
    assert changes.expunged == [2, 4]
    assert [entry[0] for entry in changes.added] == [6]
    assert late.apply(changes) == [4, 2]
    assert list(late.uids) == [1, 3, 5, 6]


def test_flags_changed_between_select_and_load_are_told(world: World) -> None:
    world.deliver()
    selected = world.select()
    world.write(
        flags.store_flags, world.account, selected.mailbox, EVERYTHING, Action.ADD, SEEN, ["k"]
    )
    late = world.read(view.load, world.account, selected)
    changes = world.changes(late, selected.mailbox)
    assert [entry[:3] for entry in changes.changed] == [(1, SEEN, "k")]
    late.apply(changes)
    assert (late.flags[0], late.keywords) == (SEEN | HAS_KEYWORDS, {1: "k"})


def test_what_came_and_went_unseen_is_not_mentioned(world: World) -> None:
    known = world.view()
    world.deliver()
    remove(world, 1)
    changes = world.changes(known, world.mailbox())
    assert changes.is_empty and changes.uidnext == 2
    known.apply(changes)
    world.deliver()
    assert [entry[0] for entry in world.changes(known, world.mailbox()).added] == [2]


def test_a_moved_message_is_expunged_here_and_new_there(world: World) -> None:
    world.deliver()
    here, there = world.view(), world.view("Trash")
    world.write(copy.move, world.account, world.mailbox(), EVERYTHING, "Trash")
    assert world.changes(here, world.mailbox()).expunged == [1]
    assert len(world.changes(there, world.mailbox("Trash")).added) == 1


def test_a_deleted_mailbox_is_told(world: World) -> None:
    selected = world.select("Archive")
    known = world.view("Archive")
    world.write(names.delete, world.account, "Archive")
    with pytest.raises(NoSuchMailbox):
        world.changes(known, selected.mailbox)
    with pytest.raises(NoSuchMailbox):
        world.read(view.load, world.account, selected)
    with pytest.raises(NoSuchMailbox):
        world.write(view.claim_recent, world.account, selected.mailbox, selected.uidnext)


def test_recent_belongs_to_the_first_session_that_claims_it(world: World) -> None:
    world.deliver()
    world.deliver()
    first = world.select()
    claim = (view.claim_recent, world.account, first.mailbox, first.uidnext)
    assert world.write(*claim) == 1
    assert world.write(*claim) == 3  # for another session nothing is left
    world.deliver()
    assert (world.select().recent, world.select().recent_uid) == (1, 3)


def test_many_expunged_at_once_leave_the_others_in_order(world: World) -> None:
    for n in range(60):
        world.deliver(flags=DELETED if n % 2 else n % 4)
    world.write(flags.store_flags, world.account, world.mailbox(), [(8, 9)], Action.ADD, 0, ["k"])
    known = world.view()
    world.write(expunge.expunge, world.account, world.mailbox())
    changes = world.changes(known, world.mailbox())
    assert known.apply(changes) == list(range(60, 0, -2))
    fresh = world.view()
    assert (known.uids, known.flags, known.keywords) == (fresh.uids, fresh.flags, fresh.keywords)
    assert fresh.keywords == {9: "k"}


def test_a_message_costs_a_view_five_octets() -> None:  # P9
    known = view.View(
        array("I", range(1, 100_001)), bytearray(100_000), {}, modseq=1, uidnext=100_001
    )
    assert known.uids.itemsize * len(known) + len(known.flags) == 500_000


uid_sets = st.sets(st.integers(1, 60), max_size=30).map(sorted)


@given(uid_sets, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=5))
def test_sequence_ranges_become_exactly_their_uids(
    uids: list[int], ranges: list[tuple[int, int]]
) -> None:
    known = view.View(array("I", uids), bytearray(len(uids)), {}, modseq=1, uidnext=61)
    wanted = {
        uid
        for seq, uid in enumerate(uids, 1)
        if any(first <= seq <= last for first, last in ranges)
    }
    got = known.uid_ranges(ranges)
    assert {uid for uid in uids if any(first <= uid <= last for first, last in got)} == wanted
    for seq, uid in enumerate(uids, 1):
        assert known.seq(uid) == seq
    assert known.seq(61) == 0


@pytest.mark.parametrize("table", ["entry", "tombstone"])
def test_news_are_found_without_going_through_the_mailbox(world: World, table: str) -> None:
    """What changed costs what changed, however many messages there are."""
    questions: list[str] = []
    world.store._transaction._connection.set_exec_trace(
        lambda cursor, sql, bindings: questions.append(sql) is None
    )
    known = world.view()
    world.deliver()
    world.write(flags.store_flags, world.account, world.mailbox(), EVERYTHING, Action.ADD, SEEN)
    world.changes(known, world.mailbox())
    world.store._transaction._connection.set_exec_trace(None)
    asked = [sql for sql in questions if f"FROM {table}" in sql and "modseq" in sql]
    assert asked
    for sql in asked:
        plan = world.sql("EXPLAIN QUERY PLAN " + sql, *[1] * sql.count("?"))
        assert all("modseq" in step[3] for step in plan), (sql, plan)
