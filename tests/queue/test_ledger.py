"""The proof of the ledger: clean books are clean, and each kind of damage is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.queue import admin, ledger
from posthouse.queue.item import State
from posthouse.queue.work import Ending, Outcome
from posthouse.sim.world import run_virtual
from tests.queue.house import House, say

DAMAGE = {
    "a state without a line": (
        "UPDATE recipient SET state = 4, due_at = NULL WHERE id = 1",
        "the ledger's last line is not the recipient's state",
    ),
    "a lost line": (
        "DELETE FROM ledger WHERE recipient_id = 1",
        "the ledger has not one line for each transition",
    ),
    "an end that goes on": (
        "UPDATE ledger SET to_state = 5 WHERE recipient_id = 2 AND step = 1",
        "a transition does not begin where the one before ended",
    ),
    "an acceptance out of nowhere": (
        "UPDATE ledger SET from_state = 1 WHERE recipient_id = 1 AND step = 1",
        "the first transition does not begin before acceptance",
    ),
    "a lost recipient": (
        "DELETE FROM recipient WHERE id = 2",
        "the ledger knows a recipient that is gone",
    ),
    "no due time": (
        "UPDATE recipient SET due_at = NULL WHERE id = 1",
        "queued without a due time",
    ),
    "a wrong count": (
        "UPDATE message SET pending = 0 WHERE id = 1",
        "the message counts its open recipients wrongly",
    ),
    "no octets": (
        "UPDATE message SET blob_id = NULL WHERE id = 1",
        "open recipients, but no octets",
    ),
    "a blob that is gone": ("DELETE FROM blob WHERE id = 1", "open recipients, but no octets"),
    "octets kept": ("UPDATE message SET blob_id = 1 WHERE id = 2", "octets kept for nobody"),
    "a reason nobody knows": (
        "UPDATE ledger SET reason = 'magic' WHERE recipient_id = 1",
        ledger.UNKNOWN_REASON,
    ),
    "changed octets": ("UPDATE blob SET octets = x'00' WHERE id = 1", ledger.BLOB_DAMAGED),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(tmp_path, name):  # P2 F10
    sql, rule = DAMAGE[name]

    async def fresh(world):
        house = House(tmp_path, world.clock, lambda work: answer(work))
        open_one = house.accept("later@there.example")
        done = house.accept("bob@there.example")
        await house.run_for(5)
        assert house.states(open_one) == [State.QUEUED]
        assert house.states(done) == [State.RELAYED]
        house.check()
        house.store.write_now(lambda tx: tx.run(sql))
        report = house.store.read_now(lambda tx: ledger.check(tx, reads_octets=True))
        assert rule in {fault.rule for fault in report.faults}
        assert not report.is_clean

    def answer(work):
        is_later = work.recipients[0].address.startswith("later")
        return say(Ending.DEFERRED if is_later else Ending.RELAYED)(work)

    run_virtual(fresh)


STEP = st.one_of(
    st.tuples(st.just("accept"), st.integers(1, 4), st.integers(0, 3)),
    st.tuples(st.just("run"), st.floats(0.05, 20_000), st.just(0)),
    st.tuples(st.just("crash"), st.floats(0.01, 300), st.just(0)),
    st.tuples(
        st.sampled_from(["hold", "release", "retry", "drop", "reroute"]),
        st.integers(0, 3),
        st.just(0),
    ),
    st.tuples(st.just("jump"), st.sampled_from([-90_000, -100, 5000, 900_000]), st.just(0)),
)
HAND_BACKS_MAX = 30
ENDINGS = st.lists(st.sampled_from(list(Ending)), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEP, max_size=12), endings=ENDINGS)
def test_whatever_happens_every_recipient_is_owned_or_has_one_end(steps, endings):  # P2 P4
    with tempfile.TemporaryDirectory() as folder:
        run_virtual(lambda world: live(world, Path(folder), steps, endings))


async def live(world, folder, steps, endings):
    turn = 0

    def judge(work):
        nonlocal turn
        outcomes = []
        for row in work.recipients:
            turn += 1
            ending = endings[turn % len(endings)]
            if ending is Ending.HANDED_BACK and turn > HAND_BACKS_MAX:
                ending = Ending.DEFERRED  # one who always hands back is tried every second
            outcomes.append(
                Outcome(recipient=row.id, ending=ending, status="4.0.0", words="so", host="mx")
            )
        return outcomes

    house = House(folder, world.clock, judge)
    for what, one, other in steps:
        if what == "accept":
            house.accept(*[f"u{n}@d{other}.example" for n in range(one)])
        elif what == "run":
            await house.run_for(one)
        elif what == "crash":
            house.agent.takes_s = lambda work: 100.0
            await house.run_for(one)  # cancelled: whatever is in hand is forgotten
            house.agent.takes_s = lambda work: 0.1
            house.runner = house.new_runner()
        elif what == "jump":
            world.clock.jump(one)
        else:
            act(house, what, f"d{one}.example")
    house.check()
    house.runner = house.new_runner()
    house.agent.judge = say(Ending.RELAYED)
    selection = admin.Selection(is_everything=True)
    house.store.write_now(lambda tx: admin.release(tx, selection, by="test"))
    await house.run_for(30_000)
    report = house.check()
    assert sum(report.ends.values()) == sum(report.states.values())


def act(house, what, domain):
    selection = admin.Selection(domain=domain)

    def unit(tx):
        if what == "reroute":
            return admin.reroute(tx, selection, "elsewhere.example:25", by="test")
        return getattr(admin, what)(tx, selection, by="test")

    house.store.write_now(unit)
