"""Delivery and APPEND."""

from __future__ import annotations

import pytest

from posthouse.kernel.ids import AccountId
from posthouse.mailbox import append, fetch, names, quota, view
from posthouse.mailbox.errors import KeywordRefused, LimitReached, NoSuchMailbox, OverQuota
from posthouse.mailbox.flags import DELETED, SEEN
from posthouse.store.transaction import AccountChanged, Transaction
from tests.mailbox.world import NOON_US, World, message


class Counting:
    """A transaction that counts the statements that go through it."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.statements = 0

    def __getattr__(self, name: str):
        method = getattr(self._tx, name)
        if name not in ("all", "one", "run", "run_many", "insert"):
            return method

        def counted(*arguments: object) -> object:
            self.statements += 1
            return method(*arguments)

        return counted


def test_delivery_makes_four_statements(world: World) -> None:
    prepared = append.prepare(message())

    def unit(tx: Transaction) -> int:
        blob = tx.put_blob(message(), sha256=prepared.sha256)
        counting = Counting(tx)
        append.deliver(counting, world.account, prepared, blob, prefix=b"", received_at_us=NOON_US)  # type: ignore[arg-type]
        return counting.statements

    assert world.store.write_now(unit) == 4


def test_delivered_octets_are_the_prefix_and_what_was_received(world: World) -> None:
    octets = message() + b"8-bit \xff, NUL \x00, bare \r and \n"
    done = world.deliver(octets, prefix=b"Received: by us\r\n")
    got = world.read(fetch.octets, world.account, done.mailbox, done.uid)
    assert got is not None and got.whole() == b"Received: by us\r\n" + octets
    assert world.select().messages == 1


def test_delivery_makes_a_missing_inbox(world: World) -> None:
    bare = world.store.write_now(
        lambda tx: AccountId(tx.insert("INSERT INTO account (name, created_at) VALUES ('bare', 0)"))
    )
    done = world.deliver(account=bare)
    assert done.uid == 1
    selected = world.select(account=bare)
    assert (selected.messages, selected.modseq) == (1, done.modseq)


def test_delivery_over_quota_changes_nothing_and_others_in_the_unit_go_on(world: World) -> None:
    full = world.new_account("full", quota_octets=100)
    prepared = append.prepare(message())
    before = world.sql("SELECT * FROM account"), world.sql("SELECT * FROM mailbox")

    def unit(tx: Transaction) -> OverQuota:
        blob = tx.put_blob(message())
        with pytest.raises(OverQuota) as raised:
            append.deliver(tx, full, prepared, blob, prefix=b"", received_at_us=NOON_US)
        return raised.value

    error = world.store.write_now(unit)
    assert (error.used_octets, error.quota_octets, error.code) == (0, 100, "OVERQUOTA")
    assert (world.sql("SELECT * FROM account"), world.sql("SELECT * FROM mailbox")) == before


def test_quota_is_met_exactly(world: World) -> None:
    size = len(message())
    account = world.new_account("tight", quota_octets=2 * size)
    world.deliver(account=account)
    world.deliver(account=account)
    with pytest.raises(OverQuota):
        world.deliver(account=account)
    known = world.read(quota.usage, account)
    assert (known.used_octets, known.used_messages) == (2 * size, 2)
    world.read(quota.check, account, 0)
    with pytest.raises(OverQuota):
        world.read(quota.check, account, 1)


def test_delivery_to_an_unknown_mailbox_or_account_is_told(world: World) -> None:
    with pytest.raises(NoSuchMailbox):
        world.deliver(mailbox="Nowhere")
    with pytest.raises(NoSuchMailbox):
        world.deliver(account=AccountId(999))
    assert world.counters_differ() == []


def test_delivery_may_name_mailbox_flags_and_keywords(world: World) -> None:
    world.deliver(mailbox="Junk", flags=SEEN, keywords=("$Junk", "$junk"))
    known = world.view("Junk")
    assert known.keywords == {1: "$Junk"}
    assert world.select("Junk").keywords == ("$Junk",)
    assert world.read(names.status, world.account, "Junk").unseen == 0


def test_uids_end_at_32_bits(world: World) -> None:
    world.store.write_now(lambda tx: tx.run("UPDATE mailbox SET uidnext = 4294967295"))
    assert world.deliver().uid == 4294967295
    with pytest.raises(LimitReached):
        world.deliver()
    assert world.counters_differ() == []


def test_append_keeps_dates_flags_and_order_under_one_modseq(world: World) -> None:
    done = world.append(
        message(b"a"), message(b"b"), flags=DELETED, received_at_us=0, keywords=("x",)
    )
    assert [one.uid for one in done] == [1, 2]
    assert len({one.modseq for one in done}) == 1
    rows = world.read(fetch.rows, world.account, done[0].mailbox, 1, 9)
    assert [row.internaldate for row in rows] == ['"01-Jan-1970 00:00:00 +0000"'] * 2
    assert [row.flags for row in rows] == [DELETED] * 2


def test_append_is_all_or_nothing(world: World) -> None:
    account = world.new_account("small", quota_octets=len(message()) + 1)
    with pytest.raises(OverQuota):
        world.append(message(), message(), account=account)
    assert world.view(account=account).uids.tolist() == []
    assert world.counters_differ() == []


@pytest.mark.parametrize("keyword", ["", "a b", "{", "\\Seen", "ä", "x" * 256, "]", "a\x00"])
def test_keywords_are_atoms(world: World, keyword: str) -> None:
    with pytest.raises(KeywordRefused):
        world.append(message(), keywords=(keyword,))


def test_an_internal_date_may_be_anything(world: World) -> None:  # H36
    for moment in (0, -(10**18), 10**18, 253402300799_000000):
        date = append.internaldate(moment)
        assert len(date) == 28 and date[0] == date[-1] == '"'


@pytest.mark.parametrize(
    ("value", "day"),
    [
        (b"Mon, 2 Nov 2026 23:30:00 -1100", 20759),  # the date as written, not in UTC
        (b"Mon, 2 Nov 2026 00:30:00 +1100", 20759),
        (b"not a date", None),
        (b"1 Jan 99999 00:00:00 +0000", None),  # H36
    ],
)
def test_the_sent_day_is_the_one_written(value: bytes, day: int | None) -> None:
    prepared = append.prepare(b"Date: " + value + b"\r\n\r\nx")
    assert prepared.sent_day == day


def test_preparing_never_fails() -> None:
    for octets in (b"", b"\x00" * 100, b"\xff\xfe: \r\n", b"Content-Type: multipart/mixed\r\n\r\n"):
        prepared = append.prepare(octets)
        assert prepared.envelope.startswith(b"(") and prepared.size_octets == len(octets)


def test_every_change_is_told_once(world: World) -> None:
    told: list[object] = []
    world.store.listen(told.extend)
    world.deliver()
    world.append(message(), message())
    assert told == [AccountChanged(world.account)] * 2


def test_uidvalidity_of_a_mailbox_made_again_is_higher(world: World) -> None:  # P7
    first = world.select("Archive").uidvalidity
    world.clock.us = 0  # even when the clock has gone back (F16)
    world.write(names.delete, world.account, "Archive")
    world.write(names.create, world.account, "Archive")
    assert world.select("Archive").uidvalidity > first


def test_uids_are_not_given_again_after_the_highest_was_expunged(world: World) -> None:  # P7
    from posthouse.mailbox import expunge

    done = [world.deliver() for _ in range(3)]
    world.write(expunge.expunge, world.account, done[0].mailbox, [(1, 3)], only_deleted=False)
    again = world.deliver()
    assert again.uid == 4 and again.modseq > done[-1].modseq
    assert isinstance(world.view(), view.View)
