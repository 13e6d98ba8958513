"""What people do to the queue: look, try again, hold, release, drop, send another way.

Functions over a transaction, used by `posthouse queue` and the web admin. Every change leaves a
line in the ledger that says who made it. What is being tried at the moment is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import MessageId, RecipientId
from posthouse.queue.item import OPEN_STATES, Move, Reason, State, move
from posthouse.queue.spool import QUEUE_CHANGED
from posthouse.store import ledger
from posthouse.store import queue as rows
from posthouse.store.queue_rows import AttemptRow, LedgerRow, MessageRow, RecipientRow
from posthouse.store.transaction import Transaction

PAGE_MAX: Final = 1000
CHANGED_MAX: Final = 10_000
"""Recipients in each state changed by one call for a domain or everything; callers repeat it
while it gives so many: none of them is found twice."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One open recipient with its message."""

    recipient: RecipientRow
    message: MessageRow


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one message."""

    message: MessageRow
    decision: bytes
    """JSON."""
    recipients: tuple[RecipientRow, ...]
    ledger: dict[RecipientId, tuple[LedgerRow, ...]]
    attempts: tuple[AttemptRow, ...]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which recipients a change is for. All that is given has to fit; at least one has to be."""

    queue_id: str | None = None
    recipient: RecipientId | None = None
    domain: str | None = None
    is_everything: bool = False


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    busy: int
    """Recipients left alone, being tried at this moment."""


def entries(
    tx: Transaction,
    *,
    states: Sequence[State] = (State.QUEUED, State.LEASED, State.HELD),
    domain: str | None = None,
    after: RecipientId | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Open recipients by rising id, behind `after`."""
    found: list[Entry] = []
    for state in states:
        page = rows.open_recipients(
            tx,
            state,
            domain=domain,
            after=after or RecipientId(0),
            limit=min(limit, PAGE_MAX),
        )
        found += [Entry(recipient=recipient, message=message) for recipient, message in page]
    found.sort(key=lambda entry: entry.recipient.id)
    return found[:limit]


def show(tx: Transaction, queue_id: str) -> History | None:
    """All about a message, ended ones too, or None when nothing is known of it."""
    message = rows.message_by_queue_id(tx, queue_id)
    if message is None:
        return None
    recipients = rows.recipients_of_message(tx, message.id)
    return History(
        message=message,
        decision=rows.decision(tx, message.id),
        recipients=tuple(recipients),
        ledger={row.id: tuple(ledger.history(tx, row.id)) for row in recipients},
        attempts=tuple(rows.attempts_of(tx, message.id)),
    )


def retry(tx: Transaction, selection: Selection, *, by: str) -> Changed:
    """Make queued recipients due now."""
    now = tx.now_us()
    return _change(
        tx,
        selection,
        {State.QUEUED},
        lambda row: Move(
            recipient=row,
            to_state=State.QUEUED,
            reason=Reason.RETRY,
            detail=f"by {by}",
            due_at=now,
        ),
        but_last_reason=Reason.RETRY,
    )


def hold(tx: Transaction, selection: Selection, *, by: str) -> Changed:
    """Keep queued recipients until they are released. Held ones do not expire."""
    return _change(
        tx,
        selection,
        {State.QUEUED},
        lambda row: Move(recipient=row, to_state=State.HELD, reason=Reason.HELD, detail=f"by {by}"),
    )


def release(tx: Transaction, selection: Selection, *, by: str) -> Changed:
    """Queue held recipients again, due now."""
    now = tx.now_us()
    return _change(
        tx,
        selection,
        {State.HELD},
        lambda row: Move(
            recipient=row,
            to_state=State.QUEUED,
            reason=Reason.RELEASED,
            detail=f"by {by}",
            due_at=now,
        ),
    )


def drop(tx: Transaction, selection: Selection, *, by: str) -> Changed:
    """End recipients without telling anybody."""
    return _change(
        tx,
        selection,
        {State.QUEUED, State.HELD},
        lambda row: Move(
            recipient=row,
            to_state=State.DROPPED,
            reason=Reason.DROPPED_BY_PERSON,
            detail=f"by {by}",
        ),
    )


def reroute(tx: Transaction, selection: Selection, route: str, *, by: str) -> Changed:
    """Send recipients to "host:port" in place of their domain's hosts; "" takes that back.

    The caller has checked `route`. Queued ones become due now, held ones stay held.
    """
    now = tx.now_us()
    return _change(
        tx,
        selection,
        {State.QUEUED, State.HELD},
        lambda row: Move(
            recipient=row,
            to_state=row.state,
            reason=Reason.REROUTED,
            detail=f"by {by} to {route or 'its own hosts'}",
            due_at=now if row.state is State.QUEUED else None,
            route=route,
        ),
        but_route=route,
    )


def depth(tx: Transaction) -> dict[State, int]:
    """Open recipients by state, for metrics."""
    return rows.open_counts(tx)


def oldest_accepted_at(tx: Transaction) -> int | None:
    """When the oldest message still owed to somebody was accepted."""
    return rows.oldest_open(tx)


def _change(
    tx: Transaction,
    selection: Selection,
    states: set[State],
    make: Callable[[RecipientRow], Move],
    *,
    but_last_reason: Reason | None = None,
    but_route: str | None = None,
) -> Changed:
    selected = _select(tx, selection, states, but_last_reason, but_route)
    moves = [make(row) for row in selected if row.state in states]
    move(tx, moves)
    if any(change.to_state is State.QUEUED for change in moves):
        tx.changed(QUEUE_CHANGED)
    busy = sum(row.state is State.LEASED for row in selected)
    return Changed(count=len(moves), busy=busy)


def _select(
    tx: Transaction,
    selection: Selection,
    states: set[State],
    but_last_reason: Reason | None,
    but_route: str | None,
) -> list[RecipientRow]:
    """What was named; of a domain or everything without those the change was made to already, so
    that the next call moves on.

    Raises:
        UserError: nothing is named, or the message is unknown.
    """
    if selection.queue_id is not None:
        message = rows.message_by_queue_id(tx, selection.queue_id)
        if message is None:
            raise UserError(f"there is no message {selection.queue_id}")
        found = rows.recipients_of_message(tx, MessageId(message.id))
    elif selection.recipient is not None:
        found = list(rows.recipients(tx, [selection.recipient]).values())
    elif selection.domain is not None or selection.is_everything:
        found = []
        for state in (*states, State.LEASED):
            page = rows.open_recipients(
                tx,
                state,
                domain=selection.domain,
                after=RecipientId(0),
                limit=CHANGED_MAX,
                but_last_reason=but_last_reason.value if but_last_reason is not None else None,
                but_route=but_route,
            )
            found += [recipient for recipient, _ in page]
    else:
        raise UserError(
            "nothing is selected", hint="name a message, a recipient, a domain or everything"
        )
    return [
        row
        for row in found
        if row.state in OPEN_STATES
        and selection.domain in (None, row.domain)
        and selection.recipient in (None, row.id)
    ]
