"""Delivers queued recipients of our own domains: notices of ours, and mail that met a full mailbox
or a temporary fault when it was accepted. What waits for an account as its own copy, encrypted to
its owner, is stored as it is, whatever the account's policy has become (`_store_kept`).

The delivery itself happens in the unit of work that records it (`Outcome.in_unit`), so a recipient
is stored and out of the queue in one commit. `Dispatch` sends local domains here and all others to
the relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from posthouse.accounts.directory import Expansion, Standing, look_up
from posthouse.accounts.directory import Options as DirectoryOptions
from posthouse.gateway.at_rest import CannotSeal
from posthouse.gateway.own_copies import Held, OwnCopies
from posthouse.kernel.envelope import Address, BodyType, Notify, TlsDemand
from posthouse.kernel.ids import AccountId, QueueId
from posthouse.kernel.ports import Chance, Workers
from posthouse.mailbox.append import Prepared, deliver, prepare
from posthouse.mailbox.errors import MailboxError, OverQuota
from posthouse.mailbox.names import INBOX, for_junk
from posthouse.message.address import AddressError, format_address, parse_mailbox
from posthouse.queue import spool
from posthouse.queue.item import Origin, State
from posthouse.queue.work import DeliveryAgent, Ending, Outcome, Report, Trouble, Work
from posthouse.store import accounts as rows
from posthouse.store.queue_rows import MessageRow, RecipientRow
from posthouse.store.reports import add_to_inbox
from posthouse.store.transaction import (
    Change,
    DatabaseChanged,
    DirectoryChanged,
    Store,
    Transaction,
)

LOCAL: Final = "local"
"""The destination of everything delivered here."""
LOCAL_PART_OCTETS_MAX: Final = 254


class _Own(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored for an account in the place of the message."""

    octets: bytes
    prepared: Prepared
    fields: bytes


_Stored = Mapping[AccountId, _Own | Held]


class LocalAgent:
    """The `DeliveryAgent` of our own mailboxes."""

    def __init__(
        self,
        *,
        directory: DirectoryOptions,
        workers: Workers,
        chance: Chance,
        tasks: asyncio.TaskGroup,
        own_copies: OwnCopies | None = None,
    ) -> None:
        self._copies = own_copies
        self._directory = directory
        self._workers = workers
        self._chance = chance
        self._tasks = tasks
        self._under_way: set[asyncio.Task[None]] = set()

    def destination(self, domain: str, route: str | None) -> str:
        return LOCAL

    def trouble(self, destination: str) -> Trouble | None:
        return None

    def start(self, work: Work, report: Callable[[Report], None]) -> None:
        task = self._tasks.create_task(self._deliver(work, report))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _deliver(self, work: Work, report: Callable[[Report], None]) -> None:
        content = work.octets[len(work.message.prefix) :]
        is_kept = work.message.kept_for is not None
        try:
            prepared = await self._workers.run(lambda: prepare(content))
            own = {} if is_kept else await self._own_copies(work, content)
        except CannotSeal as error:
            report(Report(work=work, outcomes=_all(work, Ending.DEFERRED, "4.7.5", error.reason)))
            return
        except Exception as fault:  # a bug too may not cost the message: it is tried again
            report(Report(work=work, outcomes=_all(work, Ending.DEFERRED, "4.3.0", str(fault))))
            return
        token = self._chance.token(8).hex()
        outcomes = tuple(
            Outcome(
                recipient=recipient.id,
                ending=Ending.STORED,
                in_unit=partial(_store_kept, work, recipient, prepared)
                if is_kept
                else partial(self._store, work, recipient, prepared, own, f"f{token}.{n}"),
            )
            for n, recipient in enumerate(work.recipients)
        )
        report(Report(work=work, outcomes=outcomes))

    async def _own_copies(self, work: Work, content: bytes) -> _Stored:
        """What is stored opened or encrypted, for the accounts that want it so, and which do not
        take it. Raises CannotSeal."""
        if self._copies is None or not self._copies.is_active:
            return {}
        addresses = [_address(recipient.address) for recipient in work.recipients]
        made = await self._copies.make_for(addresses, self._directory, content)
        own: dict[AccountId, _Own | Held] = dict(made.held)
        for account, copy in made.copies.items():
            prepared = await self._workers.run(partial(prepare, copy.octets))
            own[account] = _Own(octets=copy.octets, prepared=prepared, fields=copy.fields)
        return own

    def _store(
        self,
        work: Work,
        recipient: RecipientRow,
        prepared: Prepared,
        own: _Stored,
        name: str,
        tx: Transaction,
    ) -> Outcome:
        """In the unit of work: follow the address and put the message into its mailboxes."""
        expansion = look_up(tx, _address(recipient.address), self._directory)
        if expansion.standing is Standing.LOOPING:
            return _outcome(recipient, Ending.DEFERRED, "4.2.4", "the alias leads too far")
        if expansion.standing is not Standing.LOCAL:
            return _outcome(recipient, Ending.FAILED, "5.1.1", "no such user here")
        return self._into_mailboxes(work, recipient, prepared, own, expansion, name, tx)

    def _into_mailboxes(
        self,
        work: Work,
        recipient: RecipientRow,
        prepared: Prepared,
        own: _Stored,
        expansion: Expansion,
        name: str,
        tx: Transaction,
    ) -> Outcome:
        message = work.message
        assert message.blob is not None
        stored: list[str] = []
        left: list[Address] = []
        trouble: Outcome | None = None
        for report in expansion.reports:
            tx.keep_blob(message.blob)
            add_to_inbox(tx, blob=message.blob, queue_id=message.queue_id, address=report)
            stored.append(f"report to {report}")
        for target in expansion.local:
            mailbox = for_junk(tx, target.account) if message.is_junk else INBOX
            fields = _top(message, target.address)
            copy = own.get(target.account)
            if isinstance(copy, Held):
                trouble = trouble or _held(recipient, copy)
                left.append(parse_mailbox(target.name))
                continue
            blob = message.blob
            if copy is not None:
                fields += copy.fields
                blob = tx.put_blob(copy.octets, sha256=copy.prepared.sha256)
            try:
                deliver(
                    tx,
                    target.account,
                    prepared if copy is None else copy.prepared,
                    blob,
                    prefix=fields + message.prefix,
                    received_at_us=message.accepted_at,
                    mailbox=mailbox,
                )
            except MailboxError as error:
                if copy is not None:
                    tx.release_blob(blob)
                trouble = _full(recipient, error)
                left.append(parse_mailbox(target.name))
            else:
                if copy is None:
                    tx.keep_blob(message.blob)
                stored.append(_place(target.name, mailbox))
        # What failed for good ends here only where nobody else of this address is waiting.
        is_over = trouble is not None and trouble.ending is Ending.FAILED
        if (
            trouble is not None
            and not stored
            and not (is_over and len(left) + len(expansion.remote) > 1)
        ):
            return trouble
        # What could not be stored is as little lost as what leads elsewhere (P2).
        others = (*expansion.remote, *left)
        if others:
            self._forward(work, recipient, others, name, tx)
            stored += [format_address(address) for address in others]
        return _stored(recipient, stored)

    def _forward(
        self,
        work: Work,
        recipient: RecipientRow,
        remote: Sequence[Address],
        name: str,
        tx: Transaction,
    ) -> None:
        """An alias leads elsewhere too, or to a full mailbox: those ends become a message of their
        own in the queue."""
        message = work.message
        assert message.blob is not None
        tx.keep_blob(message.blob)
        notify = None if recipient.notify is None else Notify(recipient.notify)
        spool.accept(
            tx,
            spool.Accepted(
                queue_id=QueueId(name),
                reverse_path=_reverse_path(message.reverse_path),
                recipients=tuple(
                    spool.AcceptedRecipient(
                        address=address,
                        state=State.QUEUED,
                        notify=notify,
                        original_recipient=recipient.original_recipient,
                        detail=f"by alias, from {message.queue_id}",
                    )
                    for address in remote
                ),
                size=message.size,
                blob=message.blob,
                prefix=message.prefix,
                body=BodyType(message.body),
                is_smtputf8=message.is_smtputf8,
                is_junk=message.is_junk,
                origin=Origin(message.origin),
                tls_demand=TlsDemand(message.tls_demand),
                expires_at=recipient.expires_at,
            ),
        )


class Dispatch:
    """The runner's `DeliveryAgent`: local domains to one agent, all others to another."""

    def __init__(self, *, local: LocalAgent, remote: DeliveryAgent, store: Store) -> None:
        self._local = local
        self._remote = remote
        self._store = store
        self._domains: frozenset[str] = frozenset()
        self._is_reading = False
        self._is_stale = False
        store.listen(self._heard)

    async def refresh(self) -> None:
        """Read which domains are local; before the runner starts, and after changes."""
        self._domains = await self._store.read(
            lambda tx: frozenset(row.name for row in rows.domains(tx))
        )

    def _heard(self, changes: Sequence[Change]) -> None:
        if any(isinstance(change, DirectoryChanged | DatabaseChanged) for change in changes):
            self._is_stale = True
            self._read()

    def _read(self) -> None:
        """Look again, once more when something changed while we looked."""
        if self._is_reading or not self._is_stale:
            return
        self._is_reading, self._is_stale = True, False
        future = self._store.read(lambda tx: frozenset(row.name for row in rows.domains(tx)))
        future.add_done_callback(self._have_read)

    def _have_read(self, future: asyncio.Future[frozenset[str]]) -> None:
        self._is_reading = False
        if not future.cancelled() and future.exception() is None:
            self._domains = future.result()
        self._read()

    def _is_local(self, domain: str, route: str | None) -> bool:
        return route is None and (not domain or domain in self._domains)

    def destination(self, domain: str, route: str | None) -> str:
        if self._is_local(domain, route):
            return LOCAL
        return self._remote.destination(domain, route)

    def trouble(self, destination: str) -> Trouble | None:
        if destination == LOCAL:
            return self._local.trouble(destination)
        return self._remote.trouble(destination)

    def start(self, work: Work, report: Callable[[Report], None]) -> None:
        # An account's own copy goes nowhere else, whatever became of its domain.
        if work.message.kept_for is not None or self._is_local(work.domain, work.route):
            self._local.start(work, report)
        else:
            self._remote.start(work, report)

    async def close(self) -> None:
        await asyncio.gather(self._local.close(), self._remote.close())


def _store_kept(
    work: Work, recipient: RecipientRow, prepared: Prepared, tx: Transaction
) -> Outcome:
    """In the unit of work: put an account's own copy into its mailbox, or say that the account
    does not take the message. It is that account's, wherever its address leads by now."""
    message = work.message
    assert message.blob is not None and message.kept_for is not None
    if message.refusal:
        return _held(recipient, Held(reason=message.refusal, is_for_now=False))
    account = rows.account_by_name(tx, message.kept_for)
    if account is None:
        return _outcome(recipient, Ending.FAILED, "5.1.1", "no such user here")
    mailbox = for_junk(tx, account.id) if message.is_junk else INBOX
    try:
        deliver(
            tx,
            account.id,
            prepared,
            message.blob,
            prefix=_top(message, recipient.address) + message.prefix,
            received_at_us=message.accepted_at,
            mailbox=mailbox,
        )
    except MailboxError as error:
        return _full(recipient, error)
    tx.keep_blob(message.blob)
    return _stored(recipient, [_place(account.name, mailbox)])


def _top(message: MessageRow, address: str) -> bytes:
    """The fields of final delivery (RFC 5321 §4.4)."""
    path = message.reverse_path or ""
    return f"Return-Path: <{path}>\r\nDelivered-To: {address}\r\n".encode()


def _place(name: str, mailbox: str) -> str:
    return name if mailbox == INBOX else f"{name} in {mailbox}"


def _stored(recipient: RecipientRow, places: Sequence[str]) -> Outcome:
    return _outcome(recipient, Ending.STORED, "2.1.5", f"stored for {', '.join(places)}")


def _address(text: str) -> Address:
    try:
        return parse_mailbox(text, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
    except AddressError:
        return Address(text, "")


def _reverse_path(text: str | None) -> Address | None:
    if text is None:
        return None
    try:
        return parse_mailbox(text, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
    except AddressError:
        return None


def _outcome(recipient: RecipientRow, ending: Ending, status: str, words: str) -> Outcome:
    return Outcome(recipient=recipient.id, ending=ending, status=status, words=words)


def _full(recipient: RecipientRow, error: MailboxError) -> Outcome:
    status = "4.2.2" if isinstance(error, OverQuota) else "4.3.0"
    return _outcome(recipient, Ending.DEFERRED, status, str(error))


def _held(recipient: RecipientRow, held: Held) -> Outcome:
    if held.is_for_now:
        return _outcome(recipient, Ending.DEFERRED, "4.7.5", held.reason)
    return _outcome(recipient, Ending.FAILED, "5.7.5", held.reason)


def _all(work: Work, ending: Ending, status: str, words: str) -> tuple[Outcome, ...]:
    return tuple(_outcome(recipient, ending, status, words) for recipient in work.recipients)
