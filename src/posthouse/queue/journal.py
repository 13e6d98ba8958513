"""The queue's lines in the log: one for each recipient that an attempt moved."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.ids import QueueId, RecipientId
from posthouse.observe import events
from posthouse.observe.events import Event
from posthouse.observe.log import Log
from posthouse.queue.item import Move, Reason, State

_BY_REASON: Final[dict[Reason, Event]] = {
    Reason.RELAYED: events.RECIPIENT_RELAYED,
    Reason.DELIVERED: events.RECIPIENT_DELIVERED,
    Reason.DEFERRED: events.RECIPIENT_DEFERRED,
    Reason.FAILED: events.RECIPIENT_FAILED,
    Reason.EXPIRED: events.RECIPIENT_EXPIRED,
}


class QueueLog:
    """Writes to the log, or nothing where there is none."""

    __slots__ = ("_log",)

    def __init__(self, log: Log | None) -> None:
        self._log = log

    def moved(self, queue_id: QueueId, change: Move) -> None:
        if self._log is None:
            return
        recipient = change.recipient.address
        if change.to_state is State.DROPPED:
            self._log.write(
                events.RECIPIENT_DROPPED,
                trace=queue_id,
                recipient=recipient,
                rule=change.reason.value,
                reply=change.detail,
            )
        elif (event := _BY_REASON.get(change.reason)) is not None:
            self._log.write(event, trace=queue_id, recipient=recipient, reply=change.detail)

    def lease_lost(self, recipient: RecipientId) -> None:
        if self._log is not None:
            self._log.write(events.LEASE_LOST, recipient=recipient)

    def clock_jumped(self, seconds: float) -> None:
        if self._log is not None:
            self._log.write(events.CLOCK_JUMPED, seconds=seconds)

    def fault(self, kind: str, detail: str) -> None:
        if self._log is not None:
            self._log.write(events.FAULT_MET, kind=kind, detail=detail)

    def bug(self, error: BaseException) -> None:
        if self._log is not None:
            self._log.bug(events.FAULT_MET, error, kind="queue")
