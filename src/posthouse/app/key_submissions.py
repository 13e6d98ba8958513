"""Keys that came by mail to a domain's key-submission address: published, and their sender told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.app.postmaster import Word, queue_word
from posthouse.gateway.key_submission import Submitted, keys_in, take
from posthouse.kernel.errors import Fault, UserError
from posthouse.kernel.ids import AccountId
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.observe import events
from posthouse.store import accounts, reports
from posthouse.store import queue as queue_rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.reports import InboxRow
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.app.node import Node

LOOK_S: Final = 5.0
AT_ONCE: Final = 20


async def run(node: Node) -> None:
    """Now and every few seconds, for as long as the node lives."""
    while True:
        try:
            await read_all(node)
        except Fault as fault:
            node.log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
        await node.world.clock.sleep(LOOK_S * node.world.leisure)


async def read_all(node: Node) -> int:
    """How many mails were read. Raises Fault."""
    done = 0
    while waiting := await node.store.read(
        lambda tx: reports.inbox(tx, limit=AT_ONCE, is_keys=True)
    ):
        for row in waiting:
            await _read(node, row)
            done += 1
    return done


async def _read(node: Node, row: InboxRow) -> None:
    octets, account = await node.store.read(lambda tx: _mail(tx, row))
    keys = await node.world.workers.run(lambda: keys_in(octets))

    def unit(tx: Transaction) -> None:
        if not reports.remove_from_inbox(tx, row.id):
            return  # another process was first
        tx.release_blob(row.blob)
        if account is None:
            return
        separator = node.config.route.subaddress_separator
        try:
            done = take(tx, account, keys, node.node_key, separator=separator)
        except UserError as error:
            done = Submitted(problems=(error.text,))
        _tell(tx, node, account, done)

    await node.store.submit(unit)


def _mail(tx: Transaction, row: InboxRow) -> tuple[bytes, AccountId | None]:
    message = queue_rows.message_by_queue_id(tx, row.queue_id)
    try:
        octets = tx.blob(row.blob)
    except BlobDamaged:
        octets = b""
    return octets, None if message is None else message.account


def _tell(tx: Transaction, node: Node, account: AccountId, done: Submitted) -> None:
    row = accounts.account_by_id(tx, account)
    if row is None:
        return
    try:
        recipient = parse_mailbox(row.name)
    except AddressError:
        return
    lines = [
        f"The key {one.fingerprint} is published for {', '.join(one.addresses)}."
        for one in done.published
    ]
    lines += [f"A key was not published: {one}." for one in done.problems]
    subject = "Your key is published" if done.published else "Your key was not published"
    queue_word(tx, node, recipient, Word(subject=subject, text="\n\n".join(lines) + "\n"))
