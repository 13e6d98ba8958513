"""Taking recipients in hand for a limited time, and taking over what a dead process left.

Each lease's fencing token is the recipient's step: whatever happens to the recipient afterwards
raises it, and an outcome that names an older step is refused (F17).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from posthouse.kernel.envelope import TlsDemand
from posthouse.kernel.ids import MessageId, RecipientId
from posthouse.queue.item import Move, Reason, State, move
from posthouse.queue.spool import QUEUE_CHANGED
from posthouse.queue.work import Trouble
from posthouse.store import queue as rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.queue_rows import MessageRow, RecipientRow
from posthouse.store.transaction import Transaction

WORK_RECIPIENTS_MAX: Final = 100  # every host takes so many, RFC 5321 §4.5.3.1.8
COMPANIONS_MAX: Final = 1000
RECLAIM_MAX: Final = 500
"""Dead leases taken over in one unit of work."""


class Want(msgspec.Struct, frozen=True):
    domain: str
    destination: str
    messages_max: int
    trouble: Trouble | None = None
    """Most of what is leased is to be deferred at once, for this."""
    untried_max: int = 0
    """Recipients looked at where there is trouble; `messages_max` bounds those to be tried."""

    @property
    def rows_max(self) -> int:
        return self.untried_max if self.trouble is not None else self.messages_max


class Leased(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Recipients of one message in one domain, in hand now."""

    message: MessageRow
    recipients: tuple[RecipientRow, ...]
    content: bytes | None
    """Without our trace fields; None when it is large or damaged and has to be read by itself."""
    is_asked: bool = False
    """A person asked for the attempt."""


class Turn(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one domain gave."""

    want: Want
    leased: tuple[Leased, ...]
    """To be tried."""
    untried: tuple[Leased, ...]
    """To be deferred at once for `want.trouble`, without octets."""
    may_have_more: bool
    next_due: int | None
    """When the domain's next recipient becomes due, if that was seen."""


def lease(
    tx: Transaction,
    wants: Sequence[Want],
    *,
    owner: str,
    lease_us: int,
    wait_max_us: int,
    content_octets_max: int,
    known: Mapping[MessageId, bytes],
) -> list[Turn]:
    """Lease due recipients.

    Args:
        wait_max_us: a recipient due later than this from now is due: the clock went back (F16).
        content_octets_max: messages up to this size are read here.
        known: content that need not be read.
    """
    now = tx.now_us()
    found: list[tuple[Want, list[RecipientRow], int | None]] = []
    for want in wants:
        queued = rows.queued_of_domain(tx, want.domain, limit=want.rows_max)
        due = [row for row in queued if _is_due(row, now, wait_max_us)]
        later = next((row.due_at for row in queued if not _is_due(row, now, wait_max_us)), None)
        found.append((want, due, later))
    messages = rows.messages(tx, {row.message for _, due, _ in found for row in due})
    turns: list[Turn] = []
    for want, due, next_due in found:
        may_have_more = len(due) == want.rows_max
        due += _companions(tx, due, messages, now)
        asked = rows.asked_for(tx, [row.id for row in due if row.step > 1])
        tried, untried = _parted(want, due, asked, messages)
        may_have_more = may_have_more or len(tried) + len(untried) < len(due)
        after = _take(tx, tried + untried, owner=owner, until=now + lease_us)
        turns.append(
            Turn(
                want=want,
                leased=tuple(
                    _grouped(tx, after[: len(tried)], messages, known, content_octets_max, asked)
                ),
                untried=tuple(_grouped(tx, after[len(tried) :], messages, known, 0, {})),
                may_have_more=may_have_more,
                next_due=next_due,
            )
        )
    return turns


def _parted(
    want: Want,
    due: list[RecipientRow],
    asked: Mapping[RecipientId, int],
    known: Mapping[MessageId, MessageRow],
) -> tuple[list[RecipientRow], list[RecipientRow]]:
    """What is to be tried, and what is to be deferred as its destination is out of reach.

    A route leads elsewhere, a message that asks more or less of TLS may pass where others do not,
    and a person's word since the trouble began is worth an attempt. Those for whom `messages_max`
    has no room stay due.
    """
    trouble = want.trouble
    if trouble is None:
        return due, []
    tried: list[RecipientRow] = []
    untried: list[RecipientRow] = []
    messages: set[MessageId] = set()
    for row in due:
        has_demand = known[row.message].tls_demand != TlsDemand.NONE
        if row.route is None and not has_demand and asked.get(row.id, -1) < trouble.since:
            untried.append(row)
        elif row.message in messages or len(messages) < want.messages_max:
            messages.add(row.message)
            tried.append(row)
    return tried, untried


def _take(
    tx: Transaction, due: list[RecipientRow], *, owner: str, until: int
) -> list[RecipientRow]:
    if not due:
        return []
    return move(
        tx,
        [
            Move(
                recipient=row,
                to_state=State.LEASED,
                reason=Reason.LEASED,
                detail=owner,
                leased_by=owner,
                leased_until=until,
            )
            for row in due
        ],
    )


def _is_due(row: RecipientRow, now: int, wait_max_us: int) -> bool:
    due_at = row.due_at or 0
    return due_at <= now or due_at > now + wait_max_us


def _companions(
    tx: Transaction,
    due: list[RecipientRow],
    messages: Mapping[MessageId, MessageRow],
    now: int,
) -> list[RecipientRow]:
    """The rest of the recipients that can go in the same attempts as those in `due`."""
    counts: dict[MessageId, int] = {}
    for row in due:
        counts[row.message] = counts.get(row.message, 0) + 1
    have = {row.id for row in due}
    more: list[RecipientRow] = []
    for message, count in counts.items():
        if messages[message].pending > count and len(more) < COMPANIONS_MAX:
            companions = rows.queued_companions(
                tx, message, due[0].domain, due_before=now, limit=COMPANIONS_MAX
            )
            more += [row for row in companions if row.id not in have]
    return more


def _grouped(
    tx: Transaction,
    leased: Sequence[RecipientRow],
    messages: Mapping[MessageId, MessageRow],
    known: Mapping[MessageId, bytes],
    content_octets_max: int,
    asked: Mapping[RecipientId, int],
) -> list[Leased]:
    groups: dict[tuple[MessageId, str | None], list[RecipientRow]] = {}
    for row in leased:
        groups.setdefault((row.message, row.route), []).append(row)
    works: list[Leased] = []
    for (message_id, _), recipients in groups.items():
        message = messages[message_id]
        content = known.get(message_id)
        if content is None and message.size <= content_octets_max:
            content = _content(tx, message)
        for start in range(0, len(recipients), WORK_RECIPIENTS_MAX):
            part = tuple(recipients[start : start + WORK_RECIPIENTS_MAX])
            is_asked = any(row.id in asked for row in part)
            works.append(
                Leased(message=message, recipients=part, content=content, is_asked=is_asked)
            )
    return works


def _content(tx: Transaction, message: MessageRow) -> bytes | None:
    if message.blob is None:
        return None
    try:
        return tx.blob(message.blob)
    except BlobDamaged:
        return None


def reclaim(tx: Transaction, *, lease_us: int, mine: frozenset[int]) -> int:
    """Queue again what dead processes held; how many that were (F18).

    Args:
        mine: recipients this living process works on, whose leases it renews itself.
    """
    now = tx.now_us()
    dead = rows.dead_leases(tx, before=now, beyond=now + 2 * lease_us, limit=RECLAIM_MAX)
    return _requeue(tx, [row for row in dead if row.id not in mine], "nobody renewed it")


def recover(tx: Transaction, *, owner: str) -> int:
    """Queue again what an earlier life of this process held, in part; call it until it says 0."""
    return _requeue(tx, rows.leases_of(tx, owner, limit=RECLAIM_MAX), "the process started anew")


def _requeue(tx: Transaction, dead: Sequence[RecipientRow], detail: str) -> int:
    now = tx.now_us()
    move(
        tx,
        [
            Move(
                recipient=row,
                to_state=State.QUEUED,
                reason=Reason.LEASE_EXPIRED,
                detail=f"{row.leased_by}: {detail}",
                due_at=now,
            )
            for row in dead
        ],
    )
    if dead:
        tx.changed(QUEUE_CHANGED)
    return len(dead)


def has_dead(tx: Transaction, *, lease_us: int) -> bool:
    """Whether `reclaim` would find something."""
    now = tx.now_us()
    return bool(rows.dead_leases(tx, before=now, beyond=now + 2 * lease_us, limit=1))
