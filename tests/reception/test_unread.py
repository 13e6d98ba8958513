"""A peer that does not read our replies: bounded, waited for, cut off (F33)."""

from __future__ import annotations

import msgspec

from posthouse.config.schema import Config
from posthouse.sim.lab import Lab
from tests.reception.house import MESSAGE, greeted, offered, simulated

COMMANDS = 40_000
"""Their replies are many times what may stay unread."""
UNSENT_OCTETS_MAX = 3 * 65_536
"""`smtp.output_octets_max`, the write that passed it, and what TLS or the machine may add."""


def patient(config: Config) -> Config:
    """Commands that do nothing are no reason to close."""
    smtp = msgspec.structs.replace(config.smtp, junk_commands_max=10 * COMMANDS)
    return msgspec.structs.replace(config, smtp=smtp)


def unsent(lab: Lab) -> int:
    """The most that any session of the node has waiting to be sent."""
    listeners = lab.node("north").node.listeners
    streams = [stream for _, listener in listeners for stream in listener._live]
    return max((stream.unsent_octets for stream in streams), default=0)


# F33
@simulated(change=patient)
async def test_a_peer_that_reads_nothing_costs_little_and_is_cut_off(lab: Lab) -> None:
    clock = lab.ground.clock
    talk = await greeted(lab)
    talk.stream.pause_reading()
    most = 0
    for _ in range(100):
        talk.send(b"RSET\r\n" * (COMMANDS // 100))
        await clock.sleep(1)
        most = max(most, unsent(lab))
    assert 65_536 < most <= UNSENT_OCTETS_MAX
    await clock.sleep(190)
    assert unsent(lab) > 0, "it has 300 s to catch up"
    await clock.sleep(60)
    assert unsent(lab) == 0
    assert any(b"smtp.output_octets_max" in line for line in lab.node("north").log_lines)
    talk.abort()
    assert (await offered(lab, MESSAGE)).startswith(b"250")


# F33
@simulated(change=patient)
async def test_a_peer_that_reads_again_in_time_misses_nothing(lab: Lab) -> None:
    clock = lab.ground.clock
    talk = await greeted(lab)
    talk.stream.pause_reading()
    talk.send(b"RSET\r\n" * COMMANDS)
    await clock.sleep(200)
    assert unsent(lab) <= UNSENT_OCTETS_MAX
    talk.stream.resume_reading()
    for _ in range(COMMANDS):
        assert (await talk.reply()).startswith(b"250 ")
    assert (await talk.say(b"NOOP")).startswith(b"250 ")
