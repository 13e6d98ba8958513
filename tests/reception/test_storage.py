"""Disks that fail under a whole node: temporary answers, nothing lost, nothing half there."""

import asyncio
import time

import msgspec
import pytest

from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.sim.disk import SimDisk
from posthouse.sim.dns import DnsFault
from posthouse.sim.ground import FaultyLoopback
from posthouse.sim.lab import PASSWORD, Lab, LabNode
from posthouse.sim.talk import Talk, log_in, stuffed, transact
from tests.reception.house import (
    ADA,
    MESSAGE,
    ONE,
    STRANGER,
    greeted,
    offered,
    ready,
    simulated,
)

LARGE = MESSAGE + b"a line of a large message\r\n" * 4_000
BYSTANDERS = 6


def disk_of(lab: Lab, node: LabNode) -> SimDisk:
    return lab.ground.disks[node.folder]


async def restarted(lab: Lab) -> LabNode:
    node = lab.node("north")
    await node.kill()
    await node.start()
    return node


async def imap(lab: Lab) -> Talk:
    talk = await lab.connect("north", Service.IMAPS)
    await talk.line()
    talk.send(f"a LOGIN {ADA} {PASSWORD}\r\n".encode())
    assert (await talk.line()).startswith(b"a OK")
    return talk


# --- F2, F3: a sync fails ---


# F2: every unit of the commit, and whoever comes after; the store is known only once reopened
async def test_a_failed_sync_is_451_for_all_and_the_end_of_the_process() -> None:
    async with Lab(FaultyLoopback(), domains=ONE) as lab:
        node = lab.node("north")
        talks = [await ready(lab) for _ in range(BYSTANDERS)]
        before = node.store.stats.unknown_commits
        disk_of(lab, node).fail_sync()
        for talk in talks:
            talk.send(stuffed(MESSAGE))
        replies = [await talk.reply() for talk in talks]
        assert all(reply.startswith(b"451 4.3.0") for reply in replies), replies
        assert await asyncio.wait_for(asyncio.shield(node.node.lost), 5)
        unknown = node.store.stats.unknown_commits - before
        assert unknown >= 1
        late = await greeted(lab)
        assert (await late.say(b"MAIL FROM:<a@b.example>")).startswith((b"451", b"421"))
        is_well, _ = node.node.health()
        assert not is_well
        disk_of(lab, node).heal()
        node = await restarted(lab)
        assert 0 <= len(await lab.inbox(ADA)) <= unknown
        assert (await node.ledger()).is_clean
        assert (await offered(lab, MESSAGE)).startswith(b"250")


# F3: no accept, but reading goes on, and the node notices when the disk is well
@simulated()
async def test_a_disk_that_syncs_no_more_can_still_be_read(lab: Lab) -> None:
    assert (await offered(lab, MESSAGE)).startswith(b"250")
    node = lab.node("north")
    disk = disk_of(lab, node)
    disk.fail_sync(for_ever=True)
    assert (await offered(lab, MESSAGE)).startswith(b"451 4.3.0")
    node = await restarted(lab)
    assert not node.store.is_writable
    talk = await greeted(lab)
    assert (await talk.say(b"MAIL FROM:<a@b.example>")).startswith((b"451", b"421"))
    reader = await imap(lab)
    reader.send(b"b EXAMINE INBOX\r\n")
    while not (line := await reader.line()).startswith(b"b "):
        assert not line.startswith(b"* BYE")
    assert line.startswith(b"b OK")
    disk.heal()
    await lab.ground.clock.sleep(6)
    assert node.node.revived.done()
    node = await restarted(lab)
    assert (await offered(lab, MESSAGE)).startswith(b"250")
    assert (await node.ledger()).is_clean


# --- F4, F5: the disk is full ---


# F4: RFC 5321 §4.2.2's 452, and no restart needed
@simulated()
async def test_a_full_disk_is_452_until_there_is_room(lab: Lab) -> None:
    disk = disk_of(lab, lab.node("north"))
    talk = await ready(lab)
    disk.fill(free_octets=0)
    talk.send(stuffed(LARGE))
    assert (await talk.reply()).startswith(b"452 4.3.1")
    await lab.ground.clock.sleep(1)
    assert (await talk.say(b"MAIL FROM:<a@b.example>")).startswith(b"452 4.3.1")
    disk.heal()
    await lab.ground.clock.sleep(1)
    reply, _ = await transact(talk, STRANGER, [ADA], LARGE)
    assert reply.startswith(b"250")
    [message] = await lab.inbox(ADA)
    assert message.endswith(LARGE)
    assert (await lab.node("north").ledger()).is_clean


# F4: with threads and real commits; every write of the accept may be the one without room
async def test_whichever_write_finds_no_room_the_message_is_refused_whole() -> None:
    async with Lab(FaultyLoopback(), domains=ONE) as lab:
        node = lab.node("north")
        disk = disk_of(lab, node)
        accepted = 0
        for free in range(0, 200_000, 9_000):
            talk = await ready(lab)
            disk.fill(free_octets=free)
            talk.send(stuffed(LARGE))
            reply = await talk.reply()
            assert reply.startswith((b"452 4.3.1", b"250")), (free, reply)
            accepted += reply.startswith(b"250")
            talk.close()
            disk.heal()
            if node.node.lost.done():
                node = await restarted(lab)
        assert 0 < accepted < 23
        found = await lab.inbox(ADA)
        assert len(found) == accepted
        assert all(message.endswith(LARGE) for message in found)
        assert (await node.ledger()).is_clean


# F5: what is queued leaves, and its outcome is recorded in the reserve
@simulated()
async def test_a_disk_too_full_to_accept_still_delivers(lab: Lab) -> None:
    peer = await lab.peer(domain="far.example")
    lab.ground.zones.fault("far.example", DnsFault.SERVFAIL, times=3)
    node = lab.node("north")
    await node.add_alias("list@north.example", "you@far.example")
    talk = await ready(lab, "list@north.example")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    disk_of(lab, node).fill(free_octets=(1 << 20) * 3 // 4)
    await lab.ground.clock.sleep(1)
    assert (await talk.say(b"MAIL FROM:<a@b.example>")).startswith(b"452 4.3.1")
    await lab.settled(within_s=7_200)
    assert len(peer.messages) == 1
    report = await node.ledger()
    assert report.is_clean
    assert report.ends == {"relayed": 1}


# --- F13: the disk is slow ---


# F13 P10: those who wait share a commit, and nobody else waits
@pytest.mark.timed
async def test_slow_syncs_are_shared_and_keep_nobody_else() -> None:
    sync_s = 0.3
    async with Lab(FaultyLoopback(), domains=ONE) as lab:
        node = lab.node("north")
        reader = await imap(lab)
        talks = [await ready(lab) for _ in range(BYSTANDERS)]
        disk_of(lab, node).slow_sync(sync_s)
        began_s = time.monotonic()
        for talk in talks:
            talk.send(stuffed(MESSAGE))
        waits = []
        for number in range(3):
            asked_s = time.monotonic()
            reader.send(b"n%d NOOP\r\n" % number)
            while not (await reader.line()).startswith(b"n%d OK" % number):
                pass
            waits.append(time.monotonic() - asked_s)
        for talk in talks:
            assert (await talk.reply()).startswith(b"250")
        took_s = time.monotonic() - began_s
        disk_of(lab, node).heal()
        assert took_s < BYSTANDERS * sync_s
        assert max(waits) < 0.25
        assert len(await lab.inbox(ADA)) == BYSTANDERS


# --- P8: our own trouble is temporary ---


# P8, F23: no MX for now is not no MX
@simulated()
async def test_dns_that_fails_bounces_nothing(lab: Lab) -> None:
    sender = await lab.peer(domain="elsewhere.example")
    peer = await lab.peer(domain="far.example")
    node = lab.node("north")
    await node.add_alias("list@north.example", "you@far.example")
    for fault in (DnsFault.SERVFAIL, DnsFault.TIMEOUT, DnsFault.REFUSED, DnsFault.GARBAGE):
        lab.ground.zones.fault("far.example", fault)
        talk = await ready(lab, "list@north.example")
        assert (await talk.say(MESSAGE + b".")).startswith(b"250")
        await lab.ground.clock.sleep(600)
    assert await node.queued() == 4
    assert not sender.messages
    lab.ground.zones.heal("far.example")
    await lab.settled(within_s=7_200)
    assert len(peer.messages) == 4
    assert not sender.messages


# P8, F22: the threads that hash
@simulated()
async def test_workers_that_fail_make_a_login_temporary(lab: Lab) -> None:
    talk = await lab.connect("north", Service.SUBMISSION)
    await talk.reply()
    lab.ground.world.workers.fault = OSError("no thread")
    reply = await log_in(talk, ADA, PASSWORD, lab.client_tls)
    assert reply.startswith((b"454 4.7.0", b"451 4.3.0")), reply


# F20: no memory for one message
@simulated()
async def test_no_memory_for_a_message_is_451_and_the_node_goes_on(lab: Lab) -> None:
    workers = lab.ground.world.workers
    workers.fault = MemoryError()
    reply = await offered(lab, MESSAGE + b"a line\r\n" * 50_000)
    assert reply.startswith(b"451 4.3."), reply
    workers.fault = None
    assert (await offered(lab, MESSAGE)).startswith(b"250")
    assert len(await lab.inbox(ADA)) == 1


# P3: after 4yz or 5yz nothing is kept, and nobody is told but the client
@simulated()
async def test_what_was_refused_is_nowhere(lab: Lab) -> None:
    sender = await lab.peer(domain="elsewhere.example")
    disk = disk_of(lab, lab.node("north"))
    assert (await offered(lab, b"Subject: no author\r\n\r\n")).startswith(b"550")
    talk = await ready(lab)
    disk.fill(free_octets=0)
    talk.send(stuffed(LARGE))
    assert (await talk.reply()).startswith(b"452")
    disk.heal()
    await lab.ground.clock.sleep(3_600)
    assert await lab.inbox(ADA) == []
    assert not sender.messages
    assert sum((await lab.node("north").ledger()).states.values()) == 0


def small_house(config: Config) -> Config:
    """Ten connections, and little patience for the rest."""
    return msgspec.structs.replace(
        config, net=schema.Net(connections_max=10, exempt_networks=config.net.exempt_networks)
    )


# P13: at the door 421, under stress less patience, and what is open is finished
@simulated(change=small_house)
async def test_too_many_are_turned_away_and_the_open_ones_finish(lab: Lab) -> None:
    talks = [await ready(lab) for _ in range(10)]
    late = await lab.connect("north")
    assert (await late.rest()).startswith(b"421 4.3.2")
    await lab.ground.clock.sleep(4)
    node = lab.node("north").node
    assert node.metrics.stress.value
    for talk in talks:
        talk.send(stuffed(MESSAGE))
        assert (await talk.reply()).startswith(b"250")
    for talk in talks[1:]:
        assert (await talk.say(b"QUIT")).startswith(b"221")
        talk.close()
    assert (await talks[0].say(b"NONSENSE")).startswith((b"500", b"421"))
    assert (await talks[0].rest()).startswith((b"", b"421"))
    assert talks[0].is_lost, "one mistake is enough under stress"
    await lab.ground.clock.sleep(40)
    assert not node.metrics.stress.value
    assert (await offered(lab, MESSAGE)).startswith(b"250")
    assert len(await lab.inbox(ADA)) == 11


# P14: what is open may finish, then 421; nobody new; nothing lost
@simulated()
async def test_stopping_lets_the_open_transactions_finish(lab: Lab) -> None:
    node = lab.node("north")
    idle, busy = await greeted(lab), await ready(lab)
    busy.send(MESSAGE)
    stopping = asyncio.ensure_future(node.node.stop(drain_s=30))
    await lab.ground.clock.sleep(1)
    assert (await idle.rest()).startswith(b"421 4.3.2")
    assert not stopping.done()
    try:
        await lab.connect("north")
    except OSError:
        pass
    else:
        raise AssertionError("somebody new came in")
    busy.send(b".\r\n")
    assert (await busy.reply()).startswith(b"250")
    assert (await busy.rest()).startswith(b"421 4.3.2")
    await stopping
    await node.stop()
    await node.start()
    assert len(await lab.inbox(ADA)) == 1
    assert (await node.ledger()).is_clean


# P14: whoever does not finish in time is ended, and keeps nothing
@simulated()
async def test_stopping_does_not_wait_for_ever(lab: Lab) -> None:
    node = lab.node("north")
    talk = await ready(lab)
    talk.send(MESSAGE)
    clock = lab.ground.clock
    began_s = clock.monotonic_s()
    await node.node.stop(drain_s=30)
    assert 29 < clock.monotonic_s() - began_s < 35
    assert talk.is_lost
    await node.stop()
    await node.start()
    assert await lab.inbox(ADA) == []


# P10: one client's large message costs the others nothing
@pytest.mark.timed
async def test_others_are_served_while_a_huge_message_comes_in() -> None:
    async with Lab(domains=ONE) as lab:
        other = await greeted(lab)
        talk = await ready(lab)
        talk.send(MESSAGE)
        chunk = b"x" * 70 + b"\r\n"
        waits = []
        for _ in range(12):
            talk.send(chunk * 14_000)
            await talk.flushed()
            asked_s = time.monotonic()
            assert (await other.say(b"NOOP")).startswith(b"250")
            waits.append(time.monotonic() - asked_s)
        talk.send(b".\r\n")
        reply, _ = await transact(other, STRANGER, [ADA], MESSAGE)
        assert reply.startswith(b"250")
        assert (await talk.reply()).startswith(b"250")
        assert sorted(waits)[-2] < 0.25, waits
        assert len(await lab.inbox(ADA)) == 2
