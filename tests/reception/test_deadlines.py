"""Peers that are slow, silent, deaf or gone, and a clock that jumps; in virtual time."""

from dataclasses import dataclass

import pytest

from posthouse.config.schema import Service
from posthouse.sim.faults import Faults
from posthouse.sim.lab import Lab
from posthouse.sim.talk import Talk
from tests.reception.house import ADA, MESSAGE, STRANGER, greeted, ready, simulated

DAY_S = 86_400.0


async def dripped(lab: Lab, talk: Talk, octets: bytes, *, every_s: float) -> float:
    """Seconds until the server hangs up on one octet every so often."""
    clock = lab.ground.clock
    began_s = clock.monotonic_s()
    for octet in octets:
        await clock.sleep(every_s)
        if talk.is_lost:
            break
        talk.send(bytes([octet]))
    assert talk.is_lost
    return clock.monotonic_s() - began_s


# H15: a whole command within `smtp.command_s` of its first octet
@simulated()
async def test_a_command_that_drips_in_is_cut_off(lab: Lab) -> None:
    talk = await greeted(lab)
    took_s = await dripped(lab, talk, b"NOOP" * 100, every_s=10)
    assert 60 <= took_s <= 85
    assert bytes(talk.inbox).startswith(b"421 4.4.2")


# H15: 500 octets a second over a minute
@simulated()
async def test_a_message_that_drips_in_is_cut_off(lab: Lab) -> None:
    talk = await ready(lab)
    talk.send(MESSAGE)
    took_s = await dripped(lab, talk, b"x" * 1_000, every_s=10)
    assert took_s <= 200
    assert bytes(talk.inbox).startswith(b"421 4.4.2")
    assert await lab.inbox(ADA) == []


# H15
@pytest.mark.parametrize("service", [Service.SUBMISSIONS, Service.IMAPS], ids=str)
@simulated()
async def test_a_handshake_that_drips_in_is_cut_off(lab: Lab, service: Service) -> None:
    address, port = lab.node("north").place(service)
    talk = await Talk.open(lab.ground.network, address, port, clock=lab.ground.clock)
    took_s = await dripped(lab, talk, b"\x16\x03\x01\x02\x00\x01" + bytes(100), every_s=2)
    assert 20 <= took_s <= 30


# H15: RFC 5321 §4.5.3.2.7
@simulated()
async def test_silence_between_commands_is_ended(lab: Lab) -> None:
    talk = await greeted(lab)
    clock = lab.ground.clock
    began_s = clock.monotonic_s()
    await clock.sleep(302)
    assert (await talk.rest()).startswith(b"421 4.4.2")
    assert clock.monotonic_s() - began_s < 305


HELLO = b"EHLO x"
OPEN = (HELLO, b"MAIL FROM:<a@b.example>", b"RCPT TO:<ada@north.example>", b"DATA")


async def said(lab: Lab, service: Service, lines: tuple[bytes, ...], last: bytes) -> Talk:
    """A client that said `lines`, each after the reply to the one before, and then `last`."""
    talk = await lab.connect("north", service)
    await talk.reply()
    for line in lines:
        assert (await talk.say(line))[:1] in (b"2", b"3")
    talk.send(last)
    return talk


# H15: every place where a client may stop, each ends in bounded time and keeps nothing
STOPS = [((), b""), ((), b"EHLO x"), (OPEN[:1], b""), (OPEN[:1], b"MAIL FROM"), (OPEN[:2], b"")]
STOPS += [(OPEN[:3], b""), (OPEN[:3], b"BDAT 50\r\nhalf"), (OPEN, b""), (OPEN, MESSAGE)]
STOPS += [(OPEN, MESSAGE + b".")]


@pytest.mark.parametrize(("lines", "last"), STOPS, ids=range(len(STOPS)))
@simulated()
async def test_whoever_stops_anywhere_is_ended(
    lab: Lab, lines: tuple[bytes, ...], last: bytes
) -> None:
    talk = await said(lab, Service.MX, lines, last)
    await lab.ground.clock.sleep(400)
    assert talk.is_lost
    assert bytes(talk.inbox).startswith(b"421 4.4.2")
    assert len(lab.node("north").node.deadlines) == 0
    assert await lab.inbox(ADA) == []


@dataclass
class Slow:
    """A peer that says `lines`, begins with `last`, and the setting it runs into."""

    service: Service
    lines: tuple[bytes, ...]
    last: bytes
    limit: str


SLOW = [
    Slow(Service.MX, (HELLO,), b"", "smtp.idle_s"),
    Slow(Service.MX, (HELLO,), b"NOO", "smtp.command_s"),
    Slow(Service.MX, OPEN, b"Subject: a\r\n", "smtp.data_rate_min"),
    Slow(Service.SUBMISSION, (HELLO,), b"", "smtp.login_s"),
    Slow(Service.SUBMISSION, (), b"", "smtp.login_s"),
]


# P9: what was reached is counted under its own name
@pytest.mark.parametrize("slow", SLOW, ids=lambda slow: slow.limit)
@simulated()
async def test_the_limit_that_ends_a_session_is_the_one_that_is_counted(
    lab: Lab, slow: Slow
) -> None:
    talk = await said(lab, slow.service, slow.lines, slow.last)
    await lab.ground.clock.sleep(400)
    assert talk.is_lost
    shown = lab.node("north").node.metrics.limits.shown()
    assert {name: one.total for [name], one in shown if one.total} == {slow.limit: 1}


# F32: the peer is gone in the middle
@pytest.mark.parametrize("cut", [1, 60, 150, len(MESSAGE)])
@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
@simulated()
async def test_a_line_that_breaks_within_a_message_leaves_nothing(
    lab: Lab, verb: str, cut: int
) -> None:
    if verb == "DATA":
        talk = await ready(lab)
    else:
        talk = await greeted(lab)
        await talk.say(b"MAIL FROM:<you@elsewhere.example>")
        await talk.say(b"RCPT TO:<ada@north.example>")
        talk.send(b"BDAT %d LAST\r\n" % (len(MESSAGE) + 1))
    talk.send(MESSAGE[:cut])
    await lab.ground.clock.sleep(1)
    talk.abort()
    await lab.ground.clock.sleep(5)
    node = lab.node("north")
    assert await lab.inbox(ADA) == []
    assert sum((await node.ledger()).states.values()) == 0
    assert len(node.node.deadlines) == 0
    assert node.node.process.open == 0


# F33: replies nobody reads stop the reading, and then the connection
@simulated()
async def test_a_peer_that_does_not_read_is_closed(lab: Lab) -> None:
    talk = await greeted(lab)
    node = lab.node("north")
    assert node.node.process.open == 1
    talk.stream.pause_reading()
    talk.send(b"RCPT TO:<ada@north.example>\r\n" * 20_000)
    await lab.ground.clock.sleep(1_000)
    assert node.node.process.open == 0


# F31: half open, the peer's machine is gone
@simulated()
async def test_a_peer_that_vanished_is_let_go(lab: Lab) -> None:
    talk = await greeted(lab)
    node = lab.node("north")
    lab.ground.world.network.fault(node.address, Faults(vanish_after_octets=1))
    talk.send(b"NOOP\r\n")
    await lab.ground.clock.sleep(1_000)
    assert node.node.process.open == 0


# F16: nothing expires or is told of because a clock jumped
@pytest.mark.parametrize("jump_s", [10 * 365 * DAY_S, 6 * DAY_S, -DAY_S, 3_700.0], ids=str)
@simulated()
async def test_a_clock_that_jumps_ends_nothing(lab: Lab, jump_s: float) -> None:
    world = lab.ground.world
    peer = await lab.peer(domain="away.example")
    world.network.fault(peer.address[0], Faults(is_refusing=True))
    await lab.node("north").add_alias("list@north.example", "you@away.example")
    await lab.peer(domain="elsewhere.example")
    talk = await ready(lab, "list@north.example", sender=STRANGER)
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    await world.clock.sleep(600)
    world.clock.jump(jump_s)
    await world.clock.sleep(60)
    assert await lab.node("north").queued() == 1, "it was given up"
    world.network.heal(peer.address[0])
    await lab.settled(within_s=5 * 3_600)
    [message] = peer.messages
    assert b"Message-ID: <1@x.example>" in message.content
    node = lab.node("north")
    assert (await node.ledger()).is_clean
    assert any(b"clock" in line and b"jump" in line for line in node.log_lines)
