"""Writing down what attempts came to: states, due times, ledger, dialogue and the notices due.

One call records everything that has ended since the last one, in one unit of work. An outcome
whose lease is not ours any more is refused (F17).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from posthouse.kernel.ids import MessageId, QueueId, RecipientId
from posthouse.kernel.ports import Chance
from posthouse.queue import schedule
from posthouse.queue.dsn import Kind, Notices, Told, failure_rule, is_asked
from posthouse.queue.item import Move, Reason, State, move
from posthouse.queue.leases import Turn
from posthouse.queue.work import Ending, Outcome, Report, Trouble, Work
from posthouse.store import queue as rows
from posthouse.store.queue_rows import MessageRow, RecipientRow
from posthouse.store.transaction import Transaction

US: Final = schedule.US
WORDS_MAX: Final = 2000
"""Characters of a reply kept with a recipient."""
HANDED_BACK_US: Final = US
"""Wait before what was handed back is leased again, so that nobody plays ball with it."""
EXPIRED_STATUS: Final = "4.4.7"  # RFC 3463 §3.5
EXPIRED_UNTRIED: Final = "it could not be tried again before its time was over"
_encode = msgspec.json.Encoder().encode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit of work recorded, for log, metrics and the runner's timer."""

    refused: tuple[RecipientId, ...]
    """Outcomes that came after their lease was lost."""
    moves: tuple[tuple[QueueId, Move], ...]
    """Every transition made, with the message's name."""
    next_due: int | None
    """Earliest new due time."""
    notices: int


class _Batch:
    """What one unit of work is about to write."""

    __slots__ = ("failed", "messages", "moves", "next_due", "notices", "told")

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.messages: dict[MessageId, MessageRow] = {}
        self.told: dict[tuple[MessageId, Kind], list[Told]] = {}
        self.failed: dict[MessageId, list[tuple[Move, Told]]] = {}
        self.next_due: int | None = None
        self.notices = 0

    def note_due(self, due_at: int) -> None:
        if self.next_due is None or due_at < self.next_due:
            self.next_due = due_at

    def tell(self, message: MessageRow, kind: Kind, told: Told) -> None:
        if is_asked(message, told.recipient, kind):
            self.told.setdefault((message.id, kind), []).append(told)


class Recorder:
    """Turns outcomes into transitions."""

    def __init__(self, options: schedule.Options, *, notices: Notices, chance: Chance) -> None:
        self._schedule = options
        self._notices = notices
        self._chance = chance

    def set_schedule(self, options: schedule.Options) -> None:
        """A reloaded config: the next outcome of each recipient is judged by it."""
        self._schedule = options

    def record(self, tx: Transaction, reports: Sequence[Report], *, is_doubtful: bool) -> Recorded:
        """Record attempts.

        Args:
            is_doubtful: the wall clock jumped; nothing expires and no delay is told (F16).
        """
        ids = [outcome.recipient for report in reports for outcome in report.outcomes]
        current = rows.recipients(tx, ids)
        refused: list[RecipientId] = []
        attempts: list[tuple[MessageId, int, bytes]] = []
        batch = _Batch()
        now = tx.now_us()
        for report in reports:
            leased = {row.id: row for row in report.work.recipients}
            jitter = self._chance.uniform(-1, 1)
            for outcome in report.outcomes:
                row = current.get(outcome.recipient)
                held = leased[outcome.recipient]
                if row is None or row.step != held.step or row.state is not State.LEASED:
                    refused.append(outcome.recipient)
                    continue
                if outcome.in_unit is not None:
                    outcome = outcome.in_unit(tx)
                self._judge(
                    batch, report.work.message, row, outcome, now=now, jitter=jitter,
                    is_doubtful=is_doubtful,
                )  # fmt: skip
            if report.record is not None:
                attempts.append((report.work.message.id, now, _encode(report.record)))
        rows.add_attempts(tx, attempts)
        return self._write(tx, batch, refused)

    def expire(self, tx: Transaction, ids: Sequence[RecipientId]) -> Recorded:
        """End queued recipients whose time is over and whom no attempt reached in time."""
        now = tx.now_us()
        found = rows.recipients(tx, ids)
        messages = rows.messages(tx, {row.message for row in found.values()})
        batch = _Batch()
        for row in found.values():
            if row.state is State.QUEUED and row.expires_at <= now:
                batch.messages[row.message] = messages[row.message]
                told = Told(recipient=row, status=EXPIRED_STATUS, words=EXPIRED_UNTRIED)
                self._end(batch, messages[row.message], row, Reason.EXPIRED, told)
        return self._write(tx, batch, [])

    def defer_untried(
        self, tx: Transaction, turn: Turn, trouble: Trouble, *, is_doubtful: bool
    ) -> Recorded:
        """Defer what was leased for a destination that is out of reach, in the leasing unit."""
        reports = [
            Report(
                work=Work(
                    message=leased.message,
                    recipients=leased.recipients,
                    destination=turn.want.destination,
                    octets=b"",
                ),
                outcomes=tuple(
                    Outcome(
                        recipient=row.id,
                        ending=Ending.DEFERRED,
                        status=trouble.status,
                        words=trouble.words,
                        untried_until=trouble.until,
                    )
                    for row in leased.recipients
                ),
            )
            for leased in turn.untried
        ]
        return self.record(tx, reports, is_doubtful=is_doubtful)

    def hold(self, tx: Transaction, report: Report, words: str) -> Recorded:
        """Pause recipients whose outcome cannot be recorded for a bug of ours, so that they are
        neither lost nor sent again and again."""
        current = rows.recipients(tx, [row.id for row in report.work.recipients])
        batch = _Batch()
        batch.messages[report.work.message.id] = report.work.message
        outcomes = {outcome.recipient: outcome for outcome in report.outcomes}
        for held in report.work.recipients:
            row = current.get(held.id)
            if row is not None and row.step == held.step:
                said = outcomes[row.id].words[:WORDS_MAX] if row.id in outcomes else ""
                batch.moves.append(
                    Move(
                        recipient=row,
                        to_state=State.HELD,
                        reason=Reason.HELD,
                        detail=f"{words}; the attempt ended with: {said}",
                        last_reply=said,
                    )
                )
        return self._write(tx, batch, [])

    def _judge(
        self,
        batch: _Batch,
        message: MessageRow,
        row: RecipientRow,
        outcome: Outcome,
        *,
        now: int,
        jitter: float,
        is_doubtful: bool,
    ) -> None:
        """Add what one outcome means to the batch."""
        batch.messages[message.id] = message
        words = outcome.words[:WORDS_MAX]
        detail = f"{outcome.host}: {words}" if outcome.host else words
        told = Told(recipient=row, status=outcome.status, words=words, host=outcome.host)
        attempts = row.attempts + 1
        match outcome.ending:
            case Ending.RELAYED:
                batch.moves.append(
                    Move(
                        recipient=row,
                        to_state=State.RELAYED,
                        reason=Reason.RELAYED,
                        detail=detail,
                        attempts=attempts,
                    )
                )
                # RFC 3461 §5.2.2: the next host cannot tell the sender, so we do.
                if not outcome.is_notify_passed and row.notify is not None:
                    batch.tell(message, Kind.RELAYED, told)
            case Ending.STORED:
                batch.moves.append(
                    Move(
                        recipient=row,
                        to_state=State.STORED,
                        reason=Reason.DELIVERED,
                        detail=detail,
                        attempts=attempts,
                    )
                )
                batch.tell(message, Kind.DELIVERED, told)
            case Ending.HANDED_BACK:
                due_at = now + HANDED_BACK_US
                batch.note_due(due_at)
                batch.moves.append(
                    Move(
                        recipient=row,
                        to_state=State.QUEUED,
                        reason=Reason.HANDED_BACK,
                        detail=detail,
                        due_at=due_at,
                    )
                )
            case Ending.FAILED:
                self._end(batch, message, row, Reason.FAILED, told, attempts=attempts)
            case Ending.DEFERRED:
                self._defer(
                    batch, message, row, told, now=now, jitter=jitter, is_doubtful=is_doubtful,
                    untried_until=outcome.untried_until,
                )  # fmt: skip

    def _defer(
        self,
        batch: _Batch,
        message: MessageRow,
        row: RecipientRow,
        told: Told,
        *,
        now: int,
        jitter: float,
        is_doubtful: bool,
        untried_until: int | None,
    ) -> None:
        age_s = (now - message.accepted_at) / US
        lifetime_s = (row.expires_at - message.accepted_at) / US
        is_tried = untried_until is None
        attempts = row.attempts + is_tried
        is_owed = row.delay_notified_at is None and is_asked(message, row, Kind.DELAYED)
        if is_doubtful:
            age_s, lifetime_s, is_owed = 0.0, max(lifetime_s, 1.0), False
        wait_s = self._schedule.next_delay_s(
            attempts=max(attempts, 1),
            age_s=age_s,
            lifetime_s=lifetime_s,
            is_notice_owed=is_owed,
            jitter=jitter,
            at_least_s=0.0 if untried_until is None else (untried_until - now) / US,
        )
        if wait_s is None:
            self._end(batch, message, row, Reason.EXPIRED, told, attempts=attempts)
            return
        is_late = is_owed and age_s >= self._schedule.delay_notice_s
        if is_late:
            batch.tell(message, Kind.DELAYED, told)
        due_at = now + int(wait_s * US)
        batch.note_due(due_at)
        batch.moves.append(
            Move(
                recipient=row,
                to_state=State.QUEUED,
                reason=Reason.DEFERRED,
                detail=_detail(told) if untried_until is None else _untried(told, untried_until),
                due_at=due_at,
                attempts=attempts,
                last_reply=_detail(told),
                delay_notified_at=now if is_late else None,
            )
        )

    def _end(
        self,
        batch: _Batch,
        message: MessageRow,
        row: RecipientRow,
        reason: Reason,
        told: Told,
        *,
        attempts: int | None = None,
    ) -> None:
        """A failure or expiry: returned when a DSN is due, else dropped by the rule against it."""
        rule = failure_rule(message, row)
        detail = _detail(told) if rule is None else f"{reason.value}: {_detail(told)}"
        change = Move(
            recipient=row,
            to_state=State.RETURNED if rule is None else State.DROPPED,
            reason=rule or reason,
            detail=detail,
            attempts=attempts,
            last_reply=_detail(told),
        )
        if rule is not None:
            batch.moves.append(change)
            return
        if reason is Reason.EXPIRED:
            last = row.last_reply if told.words == EXPIRED_UNTRIED and row.last_reply else ""
            told = Told(
                recipient=row, status=EXPIRED_STATUS, words=last or told.words, host=told.host
            )
        batch.failed.setdefault(message.id, []).append((change, told))

    def _write(self, tx: Transaction, batch: _Batch, refused: list[RecipientId]) -> Recorded:
        for message, pairs in batch.failed.items():
            told = [about for _, about in pairs]
            is_sent = self._notices.send(tx, Kind.FAILED, batch.messages[message], told)
            batch.notices += is_sent
            for change, _ in pairs:
                batch.moves.append(change if is_sent else _unreturnable(change))
        for (message, kind), told in batch.told.items():
            batch.notices += self._notices.send(tx, kind, batch.messages[message], told)
        move(tx, batch.moves)
        return Recorded(
            refused=tuple(refused),
            moves=tuple(
                (batch.messages[change.recipient.message].queue_id, change)
                for change in batch.moves
            ),
            next_due=batch.next_due,
            notices=batch.notices,
        )


def _detail(told: Told) -> str:
    return f"{told.host}: {told.words}" if told.host else told.words


def _untried(told: Told, until: int) -> str:
    at = datetime.fromtimestamp(until / US, UTC)
    return f"not tried: the host is out of reach until {at:%Y-%m-%d %H:%M:%S} UTC: {_detail(told)}"


def _unreturnable(change: Move) -> Move:
    return msgspec.structs.replace(
        change,
        to_state=State.DROPPED,
        reason=Reason.UNRETURNABLE,
        detail=f"{change.reason.value}: {change.detail}",
    )
