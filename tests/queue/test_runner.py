"""The runner against a scripted agent in virtual time."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime

import pytest

from posthouse.kernel.envelope import Address, Notify, Ret
from posthouse.queue import admin, ledger, schedule, second_look, window
from posthouse.queue.item import Origin, State
from posthouse.queue.work import Ending, Outcome, Trouble
from posthouse.sim.world import run_virtual
from posthouse.store import queue as rows
from tests.queue.house import CONTENT, House, say

HOUR_S = 3600.0
DAY_S = 86_400.0


def test_a_message_is_relayed_whole_and_its_octets_are_let_go(tmp_path):  # P2
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 2.0.0 got it"))
        message = house.accept("bob@there.example")
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED]
        assert house.ledger(message) == ["accepted", "leased", "relayed"]
        assert [work.octets for work in house.agent.works] == [b"Received: by us\r\n" + CONTENT]
        assert house.store.read_now(lambda tx: tx.all("SELECT refs FROM blob")) == [(0,)]
        assert house.check().ends == {"relayed": 1}

    run_virtual(main)


def test_the_remote_words_are_kept_in_the_ledger(tmp_path):  # P2
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 2.0.0 got it"))
        house.accept("bob@there.example")
        await house.run_for(5)
        found = house.store.read_now(
            lambda tx: tx.one("SELECT detail FROM ledger WHERE reason = 'relayed'")
        )
        assert found == ("mx: 250 2.0.0 got it",)

    run_virtual(main)


def test_recipients_of_one_domain_go_in_one_attempt(tmp_path):
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED))
        house.accept(*[f"u{n}@there.example" for n in range(250)], "x@other.example")
        await house.run_for(5)
        sizes = sorted(len(work.recipients) for work in house.agent.works)
        assert sizes == [1, 50, 100, 100]
        house.check()

    run_virtual(main)


@pytest.mark.timed
def test_a_deferred_recipient_is_tried_until_its_time_is_over_and_then_returned(tmp_path):  # P2 P5
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "451 4.2.0 later"))
        message = house.accept("bob@there.example")
        await house.run_for(6 * DAY_S)
        assert house.states(message) == [State.RETURNED]
        tries = [
            t for w, t in zip(house.agent.works, house.agent.times) if w.domain == "there.example"
        ]
        waits = [b - a for a, b in itertools.pairwise(tries)]
        assert waits[0] < 180 and max(waits) <= 4.5 * HOUR_S
        assert tries[-1] - tries[0] == pytest.approx(5 * DAY_S, abs=60)
        told = house.notices_to()
        delayed = [octets for octets in told if b"Action: delayed" in octets]
        failed = [octets for octets in told if b"Action: failed" in octets]
        # The notices cannot be delivered either, so each is tried several times.
        assert len(set(delayed)) == 1 and len(set(failed)) == 1
        assert b"Status: 4.4.7" in failed[0] and b"451 4.2.0 later" in failed[0]
        assert b"Final-Recipient: rfc822; bob@there.example" in failed[0]
        house.check()

    started = time.perf_counter()
    run_virtual(main)
    assert time.perf_counter() - started < 10  # real syncs of a real file


def test_a_notice_that_cannot_be_delivered_is_dropped_as_a_double_bounce(tmp_path):  # P5
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.FAILED, "550 5.1.1 no such user"))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.RETURNED]
        report = house.check()
        assert report.ends == {"failed": 1, "double-bounce": 1}
        assert len(house.notices_to()) == 1

    run_virtual(main)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"reverse_path": None, "origin": Origin.MX}, "null-reverse-path"),
        ({"reverse_path": None, "origin": Origin.DSN}, "double-bounce"),
        ({"notify": Notify.NEVER}, "notify-never"),
        ({"notify": Notify.SUCCESS}, "notify-never"),
        ({"is_junk": True}, "junk"),
    ],
)
def test_nobody_is_told_of_a_failure_when_a_rule_forbids_it(tmp_path, how, reason):  # P5
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.FAILED, "550 5.1.1 no"))
        message = house.accept("bob@there.example", **how)
        await house.run_for(60)
        assert house.states(message) == [State.DROPPED]
        assert house.ledger(message)[-1] == reason
        assert house.notices_to() == []
        house.check()

    run_virtual(main)


def test_a_failure_without_a_way_back_is_dropped_by_name(tmp_path):  # P2
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.FAILED, "550 no"))
        house.accept_notice = lambda tx, notice: None
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.ledger(message)[-1] == "unreturnable"
        house.check()

    run_virtual(main)


def test_one_notice_tells_of_all_recipients_that_failed_together(tmp_path):  # P5
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.FAILED, "550 5.1.1 no"))
        house.accept("bob@there.example", "eve@there.example", ret=Ret.HDRS)
        await house.run_for(60)
        (notice,) = house.notices_to()
        assert notice.count(b"Action: failed") == 2
        assert b"Original-Envelope-Id: env 1" in notice
        assert b"Hello." not in notice  # RFC 3461 §4.3

    run_virtual(main)


def test_success_is_told_when_the_next_host_cannot(tmp_path):  # RFC 3461 §5.2.2
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        house.accept("bob@there.example", notify=Notify.SUCCESS, original_recipient="rfc822;b@c")
        house.accept("eve@there.example")
        await house.run_for(60)
        (notice,) = house.notices_to()
        assert b"Action: relayed" in notice and b"Original-Recipient: rfc822; b@c" in notice

    run_virtual(main)


def test_success_is_left_to_a_next_host_that_knows_dsn(tmp_path):  # RFC 3461 §5.2.1
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250", is_notify_passed=True))
        house.accept("bob@there.example", notify=Notify.SUCCESS)
        await house.run_for(60)
        assert house.notices_to() == []

    run_virtual(main)


def test_a_dead_destination_delays_nobody_else(tmp_path):  # P11
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        house.agent.takes_s = lambda work: 3000.0 if work.domain == "tarpit.example" else 0.01
        for _ in range(300):
            house.accept("bob@tarpit.example")
        others = [house.accept(f"bob@d{n % 20}.example") for n in range(400)]
        await house.run_for(10)
        assert all(house.states(message) == [State.RELAYED] for message in others)
        assert house.agent.most_under_way["tarpit.example"] <= 8

    run_virtual(main)


def test_what_is_due_for_a_destination_out_of_reach_is_deferred_in_bulk(tmp_path):  # P11
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        house.agent.troubles["dead.example"] = Trouble(status="4.4.1", words="no route to host")
        messages = [house.accept("bob@dead.example") for _ in range(450)]
        other = house.accept("bob@there.example")
        await house.run_for(3)
        assert house.states(other) == [State.RELAYED]
        assert len(house.agent.works) == 1
        found = [house.recipients(message)[0] for message in messages]
        assert {row.state for row in found} == {State.QUEUED}
        assert {(row.attempts, row.last_reply) for row in found} == {(0, "no route to host")}
        assert house.runner.counts.turns < 10
        house.agent.troubles.clear()
        await house.run_for(600)
        assert house.check().states["relayed"] == 451

    run_virtual(main)


def test_who_has_a_route_leaves_while_the_domains_host_is_out_of_reach(tmp_path):  # P11
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        house.agent.troubles["dead.example"] = Trouble(status="4.4.1", words="no route to host")
        stays = house.accept("eve@dead.example")
        message = house.accept("bob@dead.example")
        house.store.write_now(
            lambda tx: admin.reroute(
                tx, admin.Selection(queue_id="q2"), "other.example:25", by="root"
            )
        )
        await house.run_for(3)
        assert house.states(message) == [State.RELAYED]
        assert [work.destination for work in house.agent.works] == ["other.example:25"]
        assert house.states(stays) == [State.QUEUED]
        house.check()

    run_virtual(main)


def dead_for(clock, seconds):
    now = clock.unix_us()
    return Trouble(
        status="4.4.1", words="no route to host", since=now, until=now + int(seconds * 1e6)
    )


def test_what_is_not_tried_says_so_counts_no_attempt_and_waits_for_the_next_probe(tmp_path):  # P11
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        trouble = dead_for(world.clock, 1800)
        house.agent.troubles["dead.example"] = trouble
        message = house.accept("bob@dead.example")
        await house.run_for(3)
        (row,) = house.recipients(message)
        assert row.attempts == 0
        assert row.due_at == trouble.until
        last = house.store.read_now(lambda tx: ledger.history(tx, row.id))[-1]
        until = datetime.fromtimestamp(trouble.until / 1e6, UTC)
        assert last.reason == "deferred"
        assert last.detail == (
            "not tried: the host is out of reach until"
            f" {until:%Y-%m-%d %H:%M:%S} UTC: no route to host"
        )
        for _ in range(20):  # waits that grew would be hours by now
            house.store.write_now(
                lambda tx: tx.run("UPDATE recipient SET due_at = ?", (tx.now_us(),))
            )
            house.agent.troubles["dead.example"] = dead_for(world.clock, 1)
            await house.run_for(1)
        (row,) = house.recipients(message)
        assert row.attempts == 0
        assert row.due_at - world.clock.unix_us() < 140 * 1_000_000

    run_virtual(main)


@pytest.mark.parametrize("verb", ["retry", "release"])
def test_a_person_gets_a_real_attempt_at_a_host_that_is_known_to_be_dead(tmp_path, verb):  # P11
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "no route to host"))
        house.agent.troubles["dead.example"] = dead_for(world.clock, 7200)
        message = house.accept("bob@dead.example")
        other = house.accept("eve@dead.example")
        await house.run_for(3)
        assert house.agent.works == []
        await world.clock.sleep(60)
        one = admin.Selection(queue_id="q1")
        if verb == "release":
            house.store.write_now(lambda tx: admin.hold(tx, one, by="root"))
        house.store.write_now(lambda tx: getattr(admin, verb)(tx, one, by="root"))
        await house.run_for(3)
        (work,) = house.agent.works
        assert work.is_asked and [row.address for row in work.recipients] == ["bob@dead.example"]
        assert [row.attempts for row in house.recipients(message)] == [1]
        assert [row.attempts for row in house.recipients(other)] == [0]
        house.check()

    run_virtual(main)


def test_many_retries_to_a_dead_host_end_with_the_attempts_that_find_it_so(tmp_path):  # P11
    async def main(world):
        def judge(work):
            house.agent.troubles["dead.example"] = dead_for(world.clock, 7200)
            return say(Ending.DEFERRED, "no route to host")(work)

        house = House(tmp_path, world.clock, judge)
        house.agent.troubles["dead.example"] = dead_for(world.clock, 7200)
        for n in range(300):
            house.accept(f"u{n}@dead.example")
        await house.run_for(3)
        everything = admin.Selection(is_everything=True)
        house.store.write_now(lambda tx: admin.retry(tx, everything, by="root"))
        await house.run_for(10)
        assert 1 <= len(house.agent.works) <= 20
        assert house.store.read_now(lambda tx: rows.due_domains(tx, after="", limit=1))[0][1] > (
            world.clock.unix_us()
        )
        house.check()

    run_virtual(main)


def test_the_window_bounds_what_is_in_hand(tmp_path):  # P9
    async def main(world):
        options = window.Options(recipients_max=50, credit_first=8)
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"), window=options)
        messages = [house.accept(f"bob@d{n}.example") for n in range(200)]
        most = 0

        def takes_s(work):
            nonlocal most
            most = max(most, house.runner.in_hand)
            return 0.5

        house.agent.takes_s = takes_s
        await house.run_for(30)
        assert most <= 50
        assert all(house.states(message) == [State.RELAYED] for message in messages)

    run_virtual(main)


def test_an_outcome_that_comes_after_its_lease_is_refused(tmp_path):  # F17
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        message = house.accept("bob@there.example")
        house.agent.takes_s = lambda work: 20.0 if len(house.agent.works) == 1 else 0.1
        # Somebody else took the recipient over while we were paused.
        world.loop.call_later(10, lambda: house.store.write_now(take_over))
        await house.run_for(60)
        assert house.runner.counts.refused == 1
        assert house.ledger(message).count("relayed") == 1
        house.check()

    def take_over(tx):
        from posthouse.queue import leases

        assert leases.recover(tx, owner="node/0") == 1

    run_virtual(main)


def test_leases_are_renewed_while_an_attempt_lasts(tmp_path):  # F17
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"), lease_s=30.0)
        message = house.accept("bob@there.example")
        house.agent.takes_s = lambda work: 1000.0
        other = house.new_runner("node/1")
        import asyncio

        task = asyncio.ensure_future(other.run())
        await house.run_for(1100)
        task.cancel()
        assert len(house.agent.works) == 1
        assert house.ledger(message) == ["accepted", "leased", "relayed"]

    run_virtual(main)


def test_others_take_over_what_a_dead_process_held(tmp_path):  # F18
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"), lease_s=30.0)
        message = house.accept("bob@there.example")
        house.agent.takes_s = lambda work: 10_000.0
        await house.run_for(5)  # and then it is gone
        assert house.states(message) == [State.LEASED]
        house.agent.takes_s = lambda work: 0.1
        house.runner = house.new_runner("node/1")
        await house.run_for(60)
        assert house.ledger(message) == ["accepted", "leased", "lease-expired", "leased", "relayed"]
        assert house.runner.counts.reclaimed == 1
        house.check()

    run_virtual(main)


def test_a_process_takes_back_at_once_what_its_earlier_life_held(tmp_path):  # P6 F1
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"), lease_s=3000.0)
        message = house.accept("bob@there.example")
        house.agent.takes_s = lambda work: 10_000.0
        await house.run_for(5)
        house.agent.takes_s = lambda work: 0.1
        house.runner = house.new_runner()
        await house.run_for(1)
        assert house.states(message) == [State.RELAYED]

    run_virtual(main)


def test_nothing_expires_on_a_clock_that_jumps(tmp_path):  # F16
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "451 later"))
        message = house.accept("bob@there.example")
        world.loop.call_later(60, world.clock.jump, 3650 * DAY_S)
        await house.run_for(1800)
        assert house.states(message) == [State.QUEUED]
        assert len(house.agent.works) > 2  # it was tried again, with a second look
        assert house.runner.counts.clock_jumps == 1
        house.agent.judge = say(Ending.RELAYED, "250 ok")
        await house.run_for(3000)
        assert house.states(message) == [State.RELAYED]
        assert house.notices_to() == []

    run_virtual(main)


def test_a_clock_that_goes_back_delays_nothing_for_long(tmp_path):  # F16
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "451 later"))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        world.clock.jump(-DAY_S)
        house.agent.judge = say(Ending.RELAYED, "250 ok")
        house.runner = house.new_runner()
        await house.run_for(600)
        assert house.states(message) == [State.RELAYED]

    run_virtual(main)


def test_mail_is_tried_once_more_after_the_server_was_off_for_longer_than_its_lifetime(tmp_path):
    # F16
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "451 later"))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        world.clock.jump(6 * DAY_S)
        house.runner = house.new_runner()
        tried = len(house.agent.works)
        await house.run_for(10)
        assert house.states(message) == [State.QUEUED]
        assert len(house.agent.works) == tried + 1

    run_virtual(main)


def test_an_untried_recipient_expires_too(tmp_path):  # P2
    async def main(world):
        options = window.Options(recipients_max=1)
        house = House(
            tmp_path,
            world.clock,
            say(Ending.RELAYED, "250 ok"),
            window=options,
            schedule=schedule.Options(lifetime_s=2 * HOUR_S),
            second_look=second_look.Options(jump_s=1e12),
        )
        house.agent.takes_s = lambda work: 30 * HOUR_S
        house.accept("bob@tarpit.example")
        await house.run_for(1)
        message = house.accept("bob@there.example")
        house.runner = house.new_runner("node/1")
        house.runner._window.recipients = 1  # no room: nothing is leased
        await house.run_for(6 * HOUR_S)
        assert house.ledger(message) == ["accepted", "expired"]
        house.check()

    run_virtual(main)


def test_a_drain_records_what_ends_and_leases_no_more(tmp_path):  # P14
    async def main(world):
        import asyncio

        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        first = house.accept("bob@there.example")
        house.agent.takes_s = lambda work: 3.0
        task = asyncio.ensure_future(house.runner.run())
        await world.clock.sleep(1)
        second = asyncio.ensure_future(house.runner.drain(30))
        await world.clock.sleep(0.1)
        late = house.accept("eve@there.example")
        await asyncio.gather(task, second)
        assert house.states(first) == [State.RELAYED]
        assert house.states(late) == [State.QUEUED]

    run_virtual(main)


def test_a_bug_while_recording_holds_one_message_and_spares_the_others(tmp_path):
    async def main(world):
        def judge(work):
            def broken(tx):
                raise ValueError("a bug")

            unit = broken if work.recipients[0].address.startswith("bad") else None
            return [
                Outcome(recipient=row.id, ending=Ending.RELAYED, words="250", in_unit=unit)
                for row in work.recipients
            ]

        house = House(tmp_path, world.clock, judge)
        good = [house.accept(f"u{n}@there.example") for n in range(4)]
        bad = house.accept("bad@there.example")
        await house.run_for(30)
        assert all(house.states(message) == [State.RELAYED] for message in good)
        assert house.states(bad) == [State.HELD]
        house.check()

    run_virtual(main)


def test_altered_octets_never_leave(tmp_path):  # F10 P8
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        message = house.accept("bob@there.example")
        other = house.accept("eve@there.example")
        house.store.write_now(
            lambda tx: tx.run("UPDATE blob SET octets = ? WHERE id = 1", (b"x" * len(CONTENT),))
        )
        await house.run_for(30)
        assert house.states(message) == [State.QUEUED]
        assert house.states(other) == [State.RELAYED]
        assert len(house.agent.works) == 1

    run_virtual(main)


def test_a_delivery_can_write_in_the_unit_that_records_it(tmp_path):
    async def main(world):
        def store(tx):
            tx.run("INSERT INTO counter (name, value) VALUES ('delivered', 1)")
            return Outcome(recipient=row_id, ending=Ending.STORED, words="in INBOX")

        def judge(work):
            nonlocal row_id
            row_id = work.recipients[0].id
            return [Outcome(recipient=row_id, ending=Ending.DEFERRED, in_unit=store)]

        row_id = None
        house = House(tmp_path, world.clock, judge)
        message = house.accept("bob@here.example", reverse_path=Address("a", "b.example"))
        await house.run_for(5)
        assert house.states(message) == [State.STORED]
        assert house.ledger(message)[-1] == "delivered"
        house.check()

    run_virtual(main)


def test_content_kept_from_acceptance_is_not_read_again(tmp_path):
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.RELAYED, "250 ok"))
        message = house.accept("bob@there.example")
        house.runner.keep(message, b"kept")
        await house.run_for(5)
        assert house.agent.works[0].octets == b"Received: by us\r\nkept"

    run_virtual(main)


def test_an_idle_queue_does_not_spin(tmp_path):
    async def main(world):
        house = House(tmp_path, world.clock, say(Ending.DEFERRED, "451 later"))
        house.accept("bob@there.example")
        await house.run_for(DAY_S)
        assert house.runner.counts.turns < 2500

    run_virtual(main)
