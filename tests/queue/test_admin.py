"""What people do to the queue."""

from __future__ import annotations

import pytest

from posthouse.kernel.errors import UserError
from posthouse.queue import admin, ledger, retention
from posthouse.queue.item import State
from posthouse.queue.work import Ending
from posthouse.sim.world import run_virtual
from tests.queue.house import House, say

ONE = admin.Selection(queue_id="q1")


def with_house(tmp_path, test, judge=None):
    async def main(world):
        await test(House(tmp_path, world.clock, judge or say(Ending.DEFERRED, "451 later")))

    run_virtual(main)


def do(house, what, *arguments, by="root"):
    return house.store.write_now(lambda tx: what(tx, *arguments, by=by))


def test_a_held_recipient_waits_without_expiring_until_it_is_released(tmp_path):
    async def test(house):
        message = house.accept("bob@there.example")
        assert do(house, admin.hold, ONE).count == 1
        await house.run_for(7 * 86_400)
        assert house.states(message) == [State.HELD]
        assert do(house, admin.release, ONE, by="anna").count == 1
        house.agent.judge = say(Ending.RELAYED)
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED]
        assert house.ledger(message)[:3] == ["accepted", "held", "released"]
        first = house.recipients(message)[0].id
        rows = house.store.read_now(lambda tx: ledger.history(tx, first))
        assert rows[2].detail == "by anna"
        house.check()

    with_house(tmp_path, test)


def test_retry_makes_a_deferred_recipient_due_now(tmp_path):
    async def test(house):
        house.accept("bob@there.example")
        await house.run_for(1)
        assert len(house.agent.works) == 1
        assert do(house, admin.retry, ONE).count == 1
        await house.run_for(1)
        assert len(house.agent.works) == 2

    with_house(tmp_path, test)


def test_a_running_queue_hears_of_a_retry(tmp_path):
    async def test(house):
        house.accept("bob@there.example")
        house.clock._loop.call_later(20, lambda: do(house, admin.retry, ONE))
        await house.run_for(25)
        assert len(house.agent.works) == 2

    with_house(tmp_path, test)


def test_dropping_tells_nobody_and_lets_the_octets_go(tmp_path):
    async def test(house):
        message = house.accept("bob@there.example", "eve@there.example")
        assert do(house, admin.drop, ONE).count == 2
        assert house.states(message) == [State.DROPPED, State.DROPPED]
        await house.run_for(60)
        assert house.agent.works == []
        assert house.check().ends == {"dropped-by-person": 2}

    with_house(tmp_path, test)


def test_what_is_being_tried_is_left_alone(tmp_path):
    async def test(house):
        house.agent.takes_s = lambda work: 1000.0
        house.accept("bob@there.example")
        await house.run_for(1)
        changed = do(house, admin.drop, ONE)
        assert (changed.count, changed.busy) == (0, 1)

    with_house(tmp_path, test)


def test_a_reroute_can_be_taken_back(tmp_path):
    async def test(house):
        message = house.accept("bob@there.example")
        do(house, admin.reroute, ONE, "other.example:25")
        assert house.recipients(message)[0].route == "other.example:25"
        do(house, admin.reroute, ONE, "")
        assert house.recipients(message)[0].route is None
        house.check()

    with_house(tmp_path, test)


def test_entries_are_listed_in_pages_and_by_domain(tmp_path):
    async def test(house):
        for n in range(5):
            house.accept(f"u{n}@d{n % 2}.example")
        do(house, admin.hold, ONE)
        read = house.store.read_now
        everything = read(lambda tx: admin.entries(tx))
        assert [entry.recipient.address for entry in everything] == [
            f"u{n}@d{n % 2}.example" for n in range(5)
        ]
        page = read(lambda tx: admin.entries(tx, limit=2))
        after = page[-1].recipient.id
        assert len(read(lambda tx: admin.entries(tx, after=after))) == 3
        assert len(read(lambda tx: admin.entries(tx, domain="d1.example"))) == 2
        assert len(read(lambda tx: admin.entries(tx, states=[State.HELD]))) == 1
        assert read(admin.depth) == {State.QUEUED: 4, State.LEASED: 0, State.HELD: 1}

    with_house(tmp_path, test)


def test_show_tells_everything_also_of_what_has_ended(tmp_path):
    async def test(house):
        house.accept("bob@there.example")
        await house.run_for(5)
        history = house.store.read_now(lambda tx: admin.show(tx, "q1"))
        assert history.recipients[0].state is State.RELAYED
        reasons = [row.reason for row in history.ledger[history.recipients[0].id]]
        assert reasons == ["accepted", "leased", "relayed"]
        assert house.store.read_now(lambda tx: admin.show(tx, "q9")) is None

    with_house(tmp_path, test, say(Ending.RELAYED))


@pytest.mark.parametrize("selection", [admin.Selection(), admin.Selection(queue_id="q9")])
def test_a_change_of_nothing_in_particular_is_refused(tmp_path, selection):
    async def test(house):
        house.accept("bob@there.example")
        with pytest.raises(UserError):
            do(house, admin.drop, selection)

    with_house(tmp_path, test)


def test_only_messages_that_ended_are_forgotten(tmp_path):
    async def test(house):
        done = house.accept("bob@there.example")
        await house.run_for(5)
        held = house.accept("eve@there.example")
        do(house, admin.hold, admin.Selection(queue_id="q2"))
        later = house.clock.unix_us() + 10**12
        pruned = house.store.write_now(lambda tx: retention.prune(tx, accepted_before=later))
        assert pruned == 1
        assert house.recipients(done) == []
        assert house.states(held) == [State.HELD]
        house.check()

    with_house(tmp_path, test, say(Ending.RELAYED))


@pytest.mark.parametrize(
    "change",
    [
        admin.retry,
        admin.hold,
        lambda tx, selection, by: admin.reroute(tx, selection, "other.example:25", by=by),
    ],
)
def test_a_change_of_everything_moves_on_when_it_is_repeated(tmp_path, monkeypatch, change):
    async def test(house):
        monkeypatch.setattr(admin, "CHANGED_MAX", 3)
        messages = [house.accept(f"u{n}@there.example") for n in range(7)]
        everything = admin.Selection(is_everything=True)
        counts = [do(house, change, everything).count for _ in range(4)]
        assert counts == [3, 3, 1, 0]
        steps = {row.step for message in messages for row in house.recipients(message)}
        assert steps == {2}
        house.check()

    with_house(tmp_path, test)
