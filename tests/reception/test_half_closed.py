"""A peer that closes its side while we still work hears the answer, and then the end."""

from __future__ import annotations

import asyncio

from posthouse.config.schema import Service
from posthouse.sim.lab import Lab


async def test_a_peer_that_sends_all_and_closes_its_side_is_answered_and_closed() -> None:
    async with Lab() as lab:
        host, port = lab.node("north").place(Service.MX)
        reader, writer = await asyncio.open_connection(host, port)
        await reader.readline()
        writer.write(b"EHLO peer.example\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        writer.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<ada@north.example>\r\nDATA\r\n")
        for _ in range(3):
            await reader.readline()
        writer.write(b"From: a@b.example\r\n\r\nlast words\r\n.\r\n")
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"250 2.0.0 ")
        writer.close()
