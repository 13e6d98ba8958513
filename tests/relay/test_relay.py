"""The relay against hosts with a personality, in virtual time."""

from __future__ import annotations

import msgspec
import pytest

from posthouse.kernel.envelope import Address, Notify
from posthouse.net.smtp_client import Timeouts
from posthouse.queue.item import State
from posthouse.relay.plan import Login, Route, SmartHost, Tls
from posthouse.sim import personality as p
from posthouse.sim.faults import Faults
from posthouse.sim.personality import Personality, Stage, Starttls
from posthouse.sim.world import run_virtual
from tests.queue.house import CONTENT
from tests.relay.house import ROUTES, RelayHouse

HOUR_S = 3600.0
WHOLE = b"Received: by us\r\n" + CONTENT


def test_a_message_reaches_the_host_unchanged(tmp_path):  # P2
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host()
        message = house.accept("bob@there.example")
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED]
        (received,) = peer.messages
        assert received.content == WHOLE
        assert received.reverse_path == "alice@here.example"
        (attempt,) = house.attempts(message)
        assert attempt.host == "mx1.there.example" and attempt.address == "198.51.100.1"
        assert attempt.exchanges[-1].reply.startswith("250")
        house.check()

    run_virtual(main)


def test_sessions_are_reused(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host()
        for _ in range(50):
            house.accept("bob@there.example")
        await house.run_for(5)
        assert len(peer.messages) == 50
        assert peer.counts["connections"] <= 20 or house.relay.counts.sessions <= 20

    run_virtual(main)


def test_an_idle_session_is_ended_with_quit(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host()
        house.accept("bob@there.example")
        await house.run_for(30)
        assert b"QUIT" in b" ".join(peer.commands)
        assert house.relay.sessions == 0

    run_virtual(main)


STAGES = [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT]


@pytest.mark.parametrize("stage", STAGES)
def test_a_temporary_refusal_at_any_stage_is_tried_again(tmp_path, stage):  # F25
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(at={stage: p.TEMPORARY}))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.QUEUED]
        assert "try again later" in house.last_reply(message)
        peer.personality = Personality()
        await house.run_for(HOUR_S)
        assert house.states(message) == [State.RELAYED]
        house.check()

    run_virtual(main)


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
def test_a_permanent_refusal_at_any_stage_is_returned_with_the_words(tmp_path, stage):  # F25
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={stage: p.PERMANENT}))
        sender = await house.host(domain="here.example")
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RETURNED]
        (notice,) = sender.messages
        assert b"no such user here" in notice.content and b"Status: 5.1.1" in notice.content
        assert notice.reverse_path == ""
        house.check()

    run_virtual(main)


def test_a_host_that_wants_nothing_at_all_ends_it_when_there_is_no_other(tmp_path):  # F25
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={Stage.CONNECT: p.says(554, "5.3.2 no mail here")}))
        await house.host(domain="here.example")
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RETURNED]

    run_virtual(main)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", [p.Drop(), p.Drop(is_reset=True)])
def test_a_line_that_breaks_is_tried_again(tmp_path, stage, what):  # F26 F31
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(at={stage: what}))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.QUEUED]
        peer.personality = Personality()
        await house.run_for(HOUR_S)
        assert house.states(message) == [State.RELAYED]
        # P4: only the line that broke after the dot may have brought it twice.
        assert len(peer.messages) == (2 if stage is Stage.DOT else 1)
        assert house.relay.counts.unknown == (1 if stage is Stage.DOT else 0)
        house.check()

    run_virtual(main)


def test_another_host_is_tried_when_the_first_is_away(tmp_path):  # F25, RFC 5321 §5.1
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(preference=10)
        second = await house.host(preference=20)
        world.network.fault("198.51.100.1", Faults(is_refusing=True))
        message = house.accept("bob@there.example")
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED]
        assert len(second.messages) == 1

    run_virtual(main)


def test_another_host_is_tried_for_recipients_deferred_by_the_first(tmp_path):  # F25 F29
    async def main(world):
        house = RelayHouse(tmp_path, world)
        first = await house.host(
            Personality(recipients={"eve@there.example": p.TEMPORARY}), preference=10
        )
        second = await house.host(preference=20)
        message = house.accept("bob@there.example", "eve@there.example")
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED, State.RELAYED]
        assert first.messages[0].forward_paths == ("bob@there.example",)
        assert second.messages[0].forward_paths == ("eve@there.example",)
        house.check()

    run_virtual(main)


def test_each_recipient_has_its_own_outcome(tmp_path):  # F29
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(
            Personality(
                recipients={"eve@there.example": p.TEMPORARY, "mal@there.example": p.PERMANENT}
            )
        )
        await house.host(domain="here.example")
        message = house.accept("bob@there.example", "eve@there.example", "mal@there.example")
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED, State.QUEUED, State.RETURNED]
        house.check()

    run_virtual(main)


@pytest.mark.parametrize(
    "reply", [p.CODE_999, p.CODE_25, p.NO_SPACE, p.Flood(), p.Say(b"\xff\x00\r\n")]
)
@pytest.mark.parametrize("stage", [Stage.EHLO, Stage.RCPT, Stage.DOT])
def test_a_reply_that_is_none_is_temporary(tmp_path, stage, reply):  # F27 F29
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={stage: reply}))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.QUEUED]
        house.check()

    run_virtual(main)


def test_bare_line_feeds_in_replies_are_understood(tmp_path):  # F29
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={Stage.EHLO: p.BARE_LF}))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.RELAYED]

    run_virtual(main)


@pytest.mark.parametrize("what", [p.Stall(), p.Drip(seconds=100)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_host_that_stalls_is_left_at_its_deadline(tmp_path, stage, what):  # F27
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={stage: what}))
        message = house.accept("bob@there.example")
        await house.run_for(1000)
        assert len(house.attempts(message)) >= 1
        assert house.states(message)[0] in (State.QUEUED, State.LEASED)
        house.check()

    run_virtual(main)


def test_a_message_that_is_taken_too_slowly_is_cut(tmp_path):  # F27
    async def main(world):
        timeouts = Timeouts(attempt_s=60)
        house = RelayHouse(tmp_path, world, timeouts=timeouts)
        await house.host()
        world.network.fault("198.51.100.1", Faults(octets_per_s=20.0))
        message = house.accept("bob@there.example", content=CONTENT + b"x\r\n" * 10_000)
        await house.run_for(400)
        assert any("in time" in one.exchanges[-1].reply for one in house.attempts(message))

    run_virtual(main)


def test_a_half_open_line_is_noticed(tmp_path):  # F31
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host()
        world.network.fault("198.51.100.1", Faults(vanish_after_octets=150))
        message = house.accept("bob@there.example")
        world.loop.call_later(700, world.network.heal)
        await house.run_for(HOUR_S)
        assert len(house.attempts(message)) >= 2
        assert house.states(message) == [State.RELAYED]

    run_virtual(main)


def test_a_greylisting_host_has_it_within_minutes(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(greylist_s=300))
        message = house.accept("bob@there.example")
        await house.run_for(1200)
        assert house.states(message) == [State.RELAYED]
        assert peer.messages[0].received_s < 900

    run_virtual(main)


def test_a_throttling_host_gets_all_in_time(tmp_path):
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(messages_per_connection=3, connections_max=2))
        messages = [house.accept("bob@there.example") for _ in range(40)]
        await house.run_for(4 * HOUR_S)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert len(peer.messages) == 40
        house.check()

    run_virtual(main)


@pytest.mark.parametrize("starttls", [Starttls.REFUSED, Starttls.ABORTED, Starttls.GARBAGE])
def test_mail_goes_in_plaintext_when_the_hosts_tls_is_broken(tmp_path, starttls):  # F28
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(starttls=starttls))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.RELAYED]
        assert not peer.messages[0].is_tls

    run_virtual(main)


def test_octets_behind_the_reply_to_starttls_end_the_line(tmp_path):  # F28
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(starttls=Starttls.INJECTED))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.QUEUED]
        assert not peer.messages

    run_virtual(main)


@pytest.mark.parametrize("tls", [Tls.REQUIRED, Tls.VERIFIED])
@pytest.mark.parametrize("starttls", [Starttls.ABSENT, Starttls.REFUSED, Starttls.ABORTED])
def test_a_route_that_asks_for_tls_never_sends_without(tmp_path, tls, starttls):  # F28
    async def main(world):
        route = Route(domain="there.example", hosts=("mx1.there.example",), tls=tls)
        routes = msgspec.structs.replace(ROUTES, routes=(route,))
        house = RelayHouse(tmp_path, world, routes=routes)
        peer = await house.host(Personality(starttls=starttls))
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.QUEUED]
        assert not peer.messages

    run_virtual(main)


def test_a_dead_host_is_probed_and_not_stormed(tmp_path):  # P11
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host()
        await house.host(domain="other.example")
        world.network.fault("198.51.100.1", Faults(is_silent=True))
        messages = [house.accept(f"u{n}@there.example") for n in range(200)]
        other = house.accept("bob@other.example")
        await house.run_for(50)
        assert house.states(other) == [State.RELAYED]
        tries = [line for line in world.network.log if "198.51.100.1:25" in line]
        assert len(tries) <= 3
        world.network.heal()
        await house.run_for(2 * HOUR_S)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        house.check()

    run_virtual(main)


def test_what_waits_in_plain_sight_of_a_restart_arrives_once(tmp_path):  # F30 P4
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(reply_delay_s=0.2))
        messages = [house.accept("bob@there.example") for _ in range(10)]
        await house.run_for(0.9)
        for destination in house.relay._destinations.values():  # killed in the middle
            destination.is_closing = True
            destination.queue.clear()
        for session in list(peer.sessions):
            session.abort()
        again = RelayHouse.__new__(RelayHouse)
        again.__dict__.update(house.__dict__)
        again.relay = type(house.relay)(
            house.relay._options,
            network=world.network,
            resolver=house.relay._resolver,
            clock=world.clock,
            chance=world.chance,
            deadlines=house.deadlines,
            contexts=house.relay._contexts,
            trace_ids=house.relay._trace_ids,
        )
        again.agent = again.relay
        again.runner = again.new_runner()
        await again.run_for(60)
        assert all(house.states(message) == [State.RELAYED] for message in messages)
        assert 10 <= len(peer.messages) <= 14  # two sessions with two messages each in the air
        house.check()

    run_virtual(main)


def test_notify_goes_along_to_a_host_that_knows_dsn(tmp_path):  # RFC 3461 §5.2.1
    async def main(world):
        house = RelayHouse(tmp_path, world)
        peer = await house.host(Personality(extensions=(*p.EXTENSIONS, "DSN")))
        sender = await house.host(domain="here.example")
        house.accept("bob@there.example", notify=Notify.SUCCESS)
        await house.run_for(10)
        assert b"NOTIFY=SUCCESS" in peer.messages[0].recipients[0]
        assert not sender.messages

    run_virtual(main)


def test_an_address_outside_ascii_needs_a_host_with_smtputf8(tmp_path):  # RFC 6531 §3.2
    async def main(world):
        house = RelayHouse(tmp_path, world)
        plain = tuple(name for name in p.EXTENSIONS if name != "SMTPUTF8")
        await house.host(Personality(extensions=plain))
        sender = await house.host(domain="here.example")
        message = house.accept("jörg@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RETURNED]
        assert b"Status: 5.6.7" in sender.messages[0].content

    run_virtual(main)


def test_a_smart_host_takes_everything_and_gets_its_password_over_tls_only(tmp_path):  # P12
    async def main(world):
        smart = SmartHost(
            host="mx1.relay.example",
            port=25,
            tls=Tls.OPPORTUNISTIC,
            login=Login("user", "secret"),
        )
        routes = msgspec.structs.replace(ROUTES, smart_host=smart)
        house = RelayHouse(tmp_path, world, routes=routes)
        peer = await house.host(
            Personality(extensions=(*p.EXTENSIONS, "AUTH PLAIN")), domain="relay.example"
        )
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.QUEUED]
        assert not any(command.startswith(b"AUTH") for command in peer.commands)

    run_virtual(main)


def test_a_reroute_goes_where_a_person_said(tmp_path):
    async def main(world):
        from posthouse.queue import admin

        house = RelayHouse(tmp_path, world)
        peer = await house.host(domain="elsewhere.example")
        message = house.accept("bob@nowhere.example")
        house.store.write_now(
            lambda tx: admin.reroute(
                tx, admin.Selection(queue_id="q1"), "198.51.100.1:25", by="root"
            )
        )
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert len(peer.messages) == 1
        assert "rerouted" in house.ledger(message)

    run_virtual(main)


def test_a_retry_probes_a_host_that_is_known_to_be_dead(tmp_path):  # P11
    async def main(world):
        from posthouse.queue import admin

        house = RelayHouse(tmp_path, world, dead_first_s=7200.0, dead_max_s=7200.0)
        await house.host()
        world.network.fault("198.51.100.1", Faults(is_silent=True))
        message, other = house.accept("bob@there.example"), house.accept("eve@there.example")
        await house.run_for(600)
        tries = len(house.attempts(message))
        late = house.accept("zoe@there.example")
        await house.run_for(5)
        assert [row.attempts for row in house.recipients(late)] == [0]
        world.network.heal()
        house.store.write_now(lambda tx: admin.retry(tx, admin.Selection(queue_id="q1"), by="root"))
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert len(house.attempts(message)) == tries + 1
        assert house.states(other) == [State.QUEUED]
        house.check()

    run_virtual(main)


def test_a_reroute_leads_away_from_a_dead_host(tmp_path):  # P11
    async def main(world):
        from posthouse.queue import admin

        house = RelayHouse(tmp_path, world)
        await house.host()
        peer = await house.host(domain="elsewhere.example")
        world.network.fault("198.51.100.1", Faults(is_silent=True))
        message = house.accept("bob@there.example")
        await house.run_for(40)
        house.store.write_now(
            lambda tx: admin.reroute(
                tx, admin.Selection(queue_id="q1"), "198.51.100.2:25", by="root"
            )
        )
        await house.run_for(5)
        assert house.states(message) == [State.RELAYED]
        assert len(peer.messages) == 1

    run_virtual(main)


def test_a_null_mx_returns_mail_at_once(tmp_path):  # RFC 7505 §3
    async def main(world):
        house = RelayHouse(tmp_path, world)
        world.zones.add("there.example", "MX", "0 .")
        sender = await house.host(domain="here.example")
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RETURNED]
        assert b"Status: 5.1.10" in sender.messages[0].content

    run_virtual(main)


def test_mail_that_would_come_back_to_us_is_returned(tmp_path):  # F24 F42
    async def main(world):
        house = RelayHouse(tmp_path, world)
        world.zones.add("there.example", "MX", "10 us.there.example.")
        world.zones.add("us.there.example", "A", "192.0.2.1")
        sender = await house.host(domain="here.example")
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RETURNED]
        assert b"Status: 5.4.6" in sender.messages[0].content

    run_virtual(main)


def test_a_notice_loop_cannot_begin(tmp_path):  # F42 P5
    async def main(world):
        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={Stage.RCPT: p.PERMANENT}))
        await house.host(Personality(at={Stage.RCPT: p.PERMANENT}), domain="here.example")
        house.accept("bob@there.example", reverse_path=Address("alice", "here.example"))
        await house.run_for(10 * HOUR_S)
        assert house.check().ends == {"failed": 1, "double-bounce": 1}

    run_virtual(main)


def test_closing_hands_back_what_was_not_tried(tmp_path):  # P14
    async def main(world):
        import asyncio

        house = RelayHouse(tmp_path, world)
        await house.host(Personality(at={Stage.CONNECT: p.Stall()}))
        messages = [house.accept("bob@there.example") for _ in range(3)]
        tasks = [
            asyncio.ensure_future(house.relay.run()),
            asyncio.ensure_future(house.runner.run()),
        ]
        await world.clock.sleep(5)
        await house.runner.drain(2)
        await asyncio.gather(*tasks)
        assert all(house.states(message) == [State.QUEUED] for message in messages)
        assert house.ledger(messages[0]) == ["accepted", "leased", "handed-back"]
        assert house.recipients(messages[0])[0].attempts == 0
        house.check()

    run_virtual(main)
