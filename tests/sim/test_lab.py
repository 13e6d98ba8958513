"""The laboratory on loopback: two nodes, their mail, and peers."""

from posthouse.sim.lab import Lab


async def test_mail_goes_from_one_node_to_the_other() -> None:
    async with Lab() as lab:
        reply = await lab.send("ada@north.example", "bob@south.example", subject="over there")
        assert reply.startswith("250 2.0.0"), reply
        [message] = await lab.inbox("bob@south.example", count=1)
        assert b"Subject: over there\r\n" in message
        await lab.settled()
        for node in lab.nodes.values():
            assert (await node.ledger()).is_clean
