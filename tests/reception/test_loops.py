"""Mail that goes in circles ends, once, and does not grow."""

from posthouse.sim.lab import Lab
from tests.reception.house import ADA, MESSAGE, offered, ready, simulated

TWO = {"north.example": ("ada",), "south.example": ("bob",)}


# F42
@simulated(domains=TWO)
async def test_aliases_that_point_at_each_other_end_with_one_notice(lab: Lab) -> None:
    sender = await lab.peer(domain="elsewhere.example")
    north, south = lab.node("north"), lab.node("south")
    await north.add_alias("ping@north.example", "pong@south.example")
    await south.add_alias("pong@south.example", "ping@north.example")
    talk = await ready(lab, "ping@north.example")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    await lab.settled(within_s=3_600)
    [notice] = sender.messages
    assert notice.reverse_path == ""
    assert b"5.4.6" in notice.content
    hops = notice.content.count(b"Received:")
    assert hops <= 60
    assert len(notice.content) < 64 * 1024
    for node in (north, south):
        report = await node.ledger()
        assert report.is_clean
        assert sum(report.states.values()) <= 60


# F42: each round would double it
@simulated(domains=TWO)
async def test_a_loop_with_a_fork_does_not_grow(lab: Lab) -> None:
    await lab.peer(domain="elsewhere.example")
    north, south = lab.node("north"), lab.node("south")
    await north.add_alias("ping@north.example", "pong@south.example")
    await north.add_alias("ping@north.example", "ada@north.example")
    await south.add_alias("pong@south.example", "ping@north.example")
    await south.add_alias("pong@south.example", "bob@south.example")
    talk = await ready(lab, "ping@north.example")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    await lab.settled(within_s=3_600)
    assert 1 <= len(await lab.inbox(ADA)) <= 50
    for node in (north, south):
        assert (await node.ledger()).is_clean


# F42: RFC 5321 §6.3
@simulated()
async def test_too_many_hops_are_refused(lab: Lab) -> None:
    hop = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    assert (await offered(lab, hop * 50 + MESSAGE)).startswith(b"250")
    assert (await offered(lab, hop * 51 + MESSAGE)).startswith(b"554 5.4.6")


# F42: forward to self
@simulated()
async def test_what_was_delivered_here_before_is_refused(lab: Lab) -> None:
    reply = await offered(lab, b"Delivered-To: ada@north.example\r\n" + MESSAGE)
    assert reply.startswith(b"554 5.4.6")
