"""The laboratory: two nodes, their mail and peers, the same on loopback and in virtual time."""

import errno
from pathlib import Path

import pytest

from posthouse.config.schema import Service
from posthouse.kernel.errors import UserError
from posthouse.sim.dns import DnsFault
from posthouse.sim.ground import Loopback, Simulated
from posthouse.sim.lab import Lab, NeverHappened, quick_retries
from posthouse.sim.personality import PERMANENT, Drop, Personality, Stage
from posthouse.sim.talk import stuffed
from posthouse.sim.world import run_virtual

ADA, BOB = "ada@north.example", "bob@south.example"


async def exchange(lab: Lab) -> None:
    """Mail both ways, a file, a bounce; what both worlds have to show."""
    reply = await lab.send(ADA, BOB, subject="over there")
    assert reply.startswith("250 2.0.0"), reply
    await lab.send(BOB, ADA, "alan@north.example", attachment=("a.bin", bytes(range(256)) * 200))
    await lab.send(ADA, "nobody@south.example")
    [message] = await lab.inbox(BOB, count=1)
    assert b"Subject: over there\r\n" in message
    assert b"with ESMTPS" in message, "the nodes speak TLS with each other"
    found = await lab.inbox(ADA, count=2)
    assert any(b"filename=a.bin" in one or b'filename="a.bin"' in one for one in found)
    assert any(b"Action: failed\r\n" in one for one in found)
    assert len(await lab.inbox("alan@north.example", count=1)) == 1
    await lab.settled()
    for node in lab.nodes.values():
        assert (await node.ledger()).is_clean


async def test_mail_goes_both_ways_on_loopback() -> None:
    async with Lab() as lab:
        folder = lab.folder
        await exchange(lab)
    assert not folder.exists()


def test_mail_goes_both_ways_in_virtual_time() -> None:
    async def live(world) -> None:
        async with Lab(Simulated(world)) as lab:
            await exchange(lab)

    run_virtual(live)


async def test_two_laboratories_beside_each_other_do_not_meet() -> None:
    async with Lab() as one, Lab() as other:
        await one.send(ADA, BOB)
        await one.inbox(BOB, count=1)
        assert await other.inbox(BOB) == []


async def test_peers_behave_as_told_on_loopback() -> None:
    async with Lab(change=quick_retries()) as lab:
        grey = await lab.peer(Personality(greylist_s=0.0), domain="grey.example")
        full = await lab.peer(Personality(at={Stage.RCPT: PERMANENT}), domain="full.example")
        await lab.send(ADA, "you@grey.example", "you@full.example")
        await lab.settled()
        [message] = grey.messages
        assert message.reverse_path == ADA
        assert not full.messages
        [notice] = await lab.inbox(ADA, count=1)
        assert b"no such user here" in notice


# F26, P4: the one place where a message may arrive twice
async def test_a_peer_that_drops_the_line_after_the_dot_gets_it_again() -> None:
    async with Lab(change=quick_retries()) as lab:
        peer = await lab.peer(Personality(at={Stage.DOT: Drop()}), domain="far.example")
        await lab.send(ADA, "you@far.example")

        async def has_come() -> bool:
            return len(peer.messages) > 0

        await lab.until(has_come)
        peer.personality = Personality()
        await lab.settled()
        contents = {message.content for message in peer.messages}
        assert len(peer.messages) >= 2
        assert len(contents) == 1, "a repeat is the same octets"


# P1: what was acknowledged is there after a stop and after an end without one
@pytest.mark.parametrize("is_orderly", [True, False])
async def test_a_node_that_begins_again_has_its_mail(is_orderly: bool) -> None:
    async with Lab() as lab:
        south = lab.node("south")
        assert (await lab.send("you@elsewhere.example", BOB)).startswith("250")
        await (south.stop() if is_orderly else south.kill())
        await south.start()
        assert len(await lab.inbox(BOB)) == 1
        assert (await lab.send(ADA, BOB)).startswith("250")
        assert len(await lab.inbox(BOB, count=2)) == 2


# F21: no descriptor for an outgoing connection is a reason to wait
def test_a_node_out_of_descriptors_tries_again() -> None:
    async def live(world) -> None:
        network = world.network
        connect, is_out = network.connect, True

        async def refused(*arguments, **rest):
            if is_out and arguments[2] == 25 and rest.get("local_address") == "198.51.100.2":
                raise OSError(errno.EMFILE, "too many open files")
            return await connect(*arguments, **rest)

        async with Lab(Simulated(world)) as lab:
            network.connect = refused
            await lab.send(ADA, BOB)
            await world.clock.sleep(400)
            assert await lab.inbox(BOB) == []
            assert await lab.node("north").queued() == 1
            is_out = False
            assert len(await lab.inbox(BOB, count=1, within_s=7_200)) == 1

    run_virtual(live)


async def test_a_port_that_is_taken_is_told_and_nothing_stays_open(tmp_path: Path) -> None:
    ground = Loopback(network="127.9.9", port_base=21_000)
    async with Lab(ground):
        with pytest.raises(UserError, match="another program uses it"):
            async with Lab(Loopback(network="127.9.9", port_base=21_000), folder=tmp_path):
                pass
    async with Lab(Loopback(network="127.9.9", port_base=21_000)):
        pass


def test_what_does_not_come_in_time_is_told() -> None:
    async def live(world) -> None:
        async with Lab(Simulated(world)) as lab:
            lab.ground.zones.fault("south.example", DnsFault.SERVFAIL)
            await lab.send(ADA, BOB)
            with pytest.raises(NeverHappened, match=f"1 messages for {BOB}: not within 50 s"):
                await lab.inbox(BOB, count=1, within_s=50)

    run_virtual(live)


async def test_a_client_says_what_no_honest_one_would() -> None:
    async with Lab() as lab:
        talk = await lab.connect("north", Service.MX)
        assert (await talk.reply()).startswith(b"220 mail.north.example")
        talk.send(b"EH")
        talk.send(b"LO x\r\nMAIL FROM:<a@b.example>\r\n")
        assert (await talk.reply()).startswith((b"250-", b"554"))
        talk.abort()
    assert stuffed(b".a\r\n.b") == b"..a\r\n..b\r\n.\r\n"
