"""LMTP: every recipient has a reply of its own after the final dot (RFC 2033 §4.2)."""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.accounts import key_material, mail_keys, mail_policy
from posthouse.accounts.mail_keys import Source
from posthouse.accounts.mail_policy import Mode as Policy
from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.sim.lab import Lab
from posthouse.sim.talk import Talk, stuffed
from tests.reception.house import ADA, ALAN, MESSAGE, STRANGER, simulated

SMALL, TINY = "small@north.example", "tiny@north.example"
ROOM = 40
"""Octets: something is left, so RCPT is answered 250, but the message does not fit."""
LMTP_PORT = 24
OK, FULL, NEVER_FITS = b"250 2.0.0", b"452 4.2.2", b"552 5.2.2"


def with_lmtp(config: Config) -> Config:
    """A laboratory's nodes have no LMTP of their own."""
    address = config.listener[0].addresses
    lmtp = schema.Listener(service=Service.LMTP, addresses=address, port=LMTP_PORT)
    return msgspec.structs.replace(config, listener=(*config.listener, lmtp))


async def delivered(lab: Lab, *recipients: str) -> list[bytes]:
    """The replies to a message for recipients that RCPT all accepted."""
    ground = lab.ground
    talk = await Talk.open(ground.network, lab.node("north").address, LMTP_PORT, clock=ground.clock)
    assert (await talk.reply()).startswith(b"220 ")
    assert (await talk.say(b"LHLO front.example")).startswith(b"250-")
    assert (await talk.say(f"MAIL FROM:<{STRANGER}>".encode())).startswith(b"250 ")
    for recipient in recipients:
        assert (await talk.say(f"RCPT TO:<{recipient}>".encode())).startswith(b"250 ")
    assert (await talk.say(b"DATA")).startswith(b"354 ")
    talk.send(stuffed(MESSAGE))
    replies = [reply[:9] for reply in await talk.replies(len(recipients))]
    assert (await talk.say(b"NOOP")).startswith(b"250 ")  # and not one reply more
    talk.close()
    return replies


async def books_are_clean(lab: Lab, **ends: int) -> None:
    report = await lab.node("north").ledger()
    assert report.is_clean, report.faults
    assert report.ends == ends


@simulated(change=with_lmtp)
async def test_a_full_mailbox_is_refused_by_itself_and_not_queued(lab: Lab) -> None:
    node = lab.node("north")
    await node.add_account(SMALL, quota_octets=ROOM)
    assert await delivered(lab, ADA, SMALL, ALAN) == [OK, FULL, OK]
    assert await node.queued() == 0
    assert [len(await lab.inbox(who)) for who in (ADA, SMALL, ALAN)] == [1, 0, 1]
    await books_are_clean(lab, delivered=2)
    refs = await node.store.read(lambda tx: tx.all("SELECT refs FROM blob"))
    assert refs == [(2,)]


@simulated(change=with_lmtp)
async def test_where_all_are_full_each_hears_it_and_nothing_is_kept(lab: Lab) -> None:
    node = lab.node("north")
    for name in (SMALL, TINY):
        await node.add_account(name, quota_octets=ROOM)
    assert await delivered(lab, SMALL, TINY) == [NEVER_FITS, NEVER_FITS]
    assert await node.queued() == 0
    await books_are_clean(lab)


@simulated(change=with_lmtp)
async def test_the_same_full_mailbox_by_two_names_is_refused_for_both(lab: Lab) -> None:
    node = lab.node("north")
    await node.add_account(SMALL, quota_octets=ROOM)
    await node.add_alias("little@north.example", SMALL)
    assert await delivered(lab, SMALL, ADA, "little@north.example") == [FULL, OK, FULL]
    assert await node.queued() == 0
    await books_are_clean(lab, delivered=1)


# P1: 250 for an alias owns every end of it, or the front would send the stored part again
@simulated(change=with_lmtp)
async def test_an_alias_that_is_stored_in_part_is_taken_and_the_rest_waits(lab: Lab) -> None:
    node = lab.node("north")
    await node.add_account(SMALL, quota_octets=ROOM)
    await node.add_account(TINY, quota_octets=ROOM)
    for target in (ADA, SMALL):
        await node.add_alias("both@north.example", target)
    replies = await delivered(lab, TINY, "both@north.example", SMALL)
    assert replies == [FULL, OK, OK]
    assert await node.queued() == 1
    await node.write(lambda tx: tx.run("UPDATE account SET quota_octets = NULL"))
    await lab.settled(within_s=3_600)
    assert [len(await lab.inbox(who)) for who in (ADA, SMALL, TINY)] == [1, 1, 0]
    await books_are_clean(lab, delivered=2)


@simulated(change=with_lmtp)
async def test_a_sealed_copy_of_whom_is_refused_is_not_kept(lab: Lab) -> None:
    node = lab.node("north")
    await node.add_account(SMALL, quota_octets=ROOM)
    made = key_material.make([SMALL], at=lab.ground.clock.now(), days=30)
    node_key = node.node.node_key

    def keep_encrypted(tx: Any) -> None:
        mail_keys.add_own(tx, SMALL, made, node_key, source=Source.IMPORTED)
        mail_policy.set_policy(tx, SMALL, at_rest=Policy.ALWAYS)

    await node.store.submit(keep_encrypted)
    assert await delivered(lab, ADA, SMALL, ALAN) == [OK, FULL, OK]
    assert await node.queued() == 0
    await books_are_clean(lab, delivered=2)
    refs = await node.store.read(lambda tx: tx.all("SELECT refs FROM blob WHERE refs > 0"))
    assert refs == [(2,)]
