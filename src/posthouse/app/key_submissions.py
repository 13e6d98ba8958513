"""Keys that came by mail to a domain's key-submission address: decrypted, published, and their
sender told. Each domain's address has a key to encrypt to, which is made when it is missing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.accounts import key_material
from posthouse.app.postmaster import Word, queue_word
from posthouse.config import build_acme
from posthouse.gateway.key_submission import (
    DAYS,
    Submitted,
    address_of,
    give_key,
    keys_in,
    private_keys,
    take,
    without_key,
)
from posthouse.kernel.errors import Fault, UserError
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import IsolationFailed
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.mimesec.child import OpenRequest, PgpKeys, open_isolated
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.opening import Summary
from posthouse.mimesec.sealed import may_be_sealed
from posthouse.observe import events
from posthouse.store import accounts, reports
from posthouse.store import queue as queue_rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.reports import InboxRow
from posthouse.store.transaction import Change, DatabaseChanged, DirectoryChanged, Transaction

if TYPE_CHECKING:
    from posthouse.app.node import Node

LOOK_S: Final = 5.0
KEYS_S: Final = 86_400.0
"""How often it is looked whether a key is about to end."""
AT_ONCE: Final = 20


async def run(node: Node) -> None:
    """Now and every few seconds, for as long as the node lives."""
    clock = node.world.clock
    is_stale, looked_s = True, 0.0

    def heard(changes: Iterable[Change]) -> None:
        nonlocal is_stale
        is_stale |= any(isinstance(one, DirectoryChanged | DatabaseChanged) for one in changes)

    node.store.listen(heard)
    while True:
        try:
            is_due = is_stale or clock.monotonic_s() - looked_s >= KEYS_S
            if is_due and build_acme.key_domains(node.config, ("any",)):
                is_stale, looked_s = False, clock.monotonic_s()
                await make_keys(node)
            await read_all(node)
        except Fault as fault:
            node.log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
        await clock.sleep(LOOK_S * node.world.leisure)


async def make_keys(node: Node) -> None:
    """For all domains whose submission address has none. Raises Fault."""
    for domain in await node.store.read(without_key):
        make = partial(
            key_material.make,
            [address_of(domain)],
            at=node.world.clock.now(),
            days=DAYS,
            scheme=Scheme.OPENPGP,
        )
        try:
            material = await node.world.workers.run(make)
            unit = partial(give_key, domain=domain, material=material, node_key=node.node_key)
            await node.store.submit(unit)
        except UserError as error:  # a library that is not there, a node key that cannot be used
            node.log.write(events.FAULT_MET, kind="submission key", detail=error.text)
            return


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
    problem = ""
    if account is not None and may_be_sealed(octets):
        octets, problem = await _opened(node, row, octets)
    keys = await node.world.workers.run(lambda: keys_in(octets))

    def unit(tx: Transaction) -> None:
        if not reports.remove_from_inbox(tx, row.id):
            return  # another process was first
        tx.release_blob(row.blob)
        if account is None:
            return
        if problem:
            _tell(tx, node, account, Submitted(problems=(problem,)))
            return
        separator = node.config.route.subaddress_separator
        try:
            done = take(tx, account, keys, node.node_key, separator=separator)
        except UserError as error:
            done = Submitted(problems=(error.text,))
        _tell(tx, node, account, done)

    await node.store.submit(unit)


async def _opened(node: Node, row: InboxRow, octets: bytes) -> tuple[bytes, str]:
    """What it is in the open, or why it stays closed."""
    domain = row.address.rpartition("@")[2]
    try:
        own = await node.store.read(partial(private_keys, domain=domain, node_key=node.node_key))
    except UserError as error:
        return octets, error.text
    options = node.gateway.incoming.options
    try:
        opened = await open_isolated(
            node.world.isolated,
            OpenRequest(message=octets, at=node.world.clock.now(), pgp=PgpKeys(own=own)),
            timeout_s=options.open_s,
            memory_octets=options.memory_octets,
            result_octets=options.result_octets_max,
        )
    except IsolationFailed as error:
        return octets, f"the message could not be opened: {error}"
    whole = opened.whole
    if whole is None or opened.summary is not Summary.BROKEN:
        return opened.octets, ""
    return octets, f"the message stays closed: {whole.reason}"


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
