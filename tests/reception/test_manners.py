"""Peers that speak before their turn, and mail that fits no mailbox."""

from __future__ import annotations

import asyncio
import socket

from posthouse.accounts import admin
from posthouse.config.schema import Service
from posthouse.sim.lab import Lab
from posthouse.sim.talk import transact
from posthouse.store import accounts as rows
from posthouse.store.transaction import DirectoryChanged, Transaction


# H6
async def test_a_peer_that_speaks_before_our_greeting_is_turned_away() -> None:
    async with Lab() as lab:
        early = socket.create_connection(lab.node("north").place(Service.MX))
        early.sendall(b"EHLO early.example\r\n")  # the server cannot have accepted yet
        early.setblocking(False)
        loop = asyncio.get_running_loop()
        heard = b""
        while part := await asyncio.wait_for(loop.sock_recv(early, 4096), 10):
            heard += part
        assert heard.startswith(b"554 5.5.0 ")
        assert heard.count(b"\r\n") == 1
        early.close()


async def test_a_message_larger_than_the_whole_quota_is_refused_for_good() -> None:
    def small(tx: Transaction) -> None:
        rows.set_quota(tx, admin.known_account(tx, "ada@north.example").id, 20_000)
        tx.changed(DirectoryChanged())

    async with Lab() as lab:
        node = lab.node("north")
        await node.store.submit(small)
        talk = await lab.connect("north", Service.MX)
        assert (await talk.reply()).startswith(b"220 ")
        await talk.say(b"EHLO b.example")
        line = b"x" * 70 + b"\r\n"
        for lines, reply in ((600, b"552 5.2.2"), (1, b"250 2.0.0")):
            octets = b"From: a@b.example\r\n\r\n" + line * lines
            answer, _ = await transact(talk, "a@b.example", ["ada@north.example"], octets)
            assert answer.startswith(reply), answer
