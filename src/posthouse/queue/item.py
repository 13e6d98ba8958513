"""What is in the queue: the states of a recipient, every transition and the reasons it may have.

An accepted recipient is ours until one of `END_STATES` (promise P2). `spool.accept` gives it its
first state and `move` every other one; both write the ledger in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.ids import MessageId
from posthouse.store import ledger as ledger_rows
from posthouse.store import queue as rows
from posthouse.store.queue_rows import OPEN_STATES, RecipientRow, State
from posthouse.store.transaction import Transaction

__all__ = [
    "END_STATES",
    "OPEN_STATES",
    "TRANSITIONS",
    "Move",
    "Origin",
    "Reason",
    "State",
    "check_move",
    "move",
]

END_STATES: Final = frozenset({State.STORED, State.RELAYED, State.RETURNED, State.DROPPED})


class Origin(Enum):
    """How a message came to us."""

    MX = "mx"
    SUBMISSION = "submission"
    LMTP = "lmtp"
    DSN = "dsn"
    LOCAL = "local"  # made by this server: vacation notices, reports


class Reason(Enum):
    """Why a transition happened, as the ledger spells it."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DISCARDED = "discarded"  # the user's own rules said so
    LEASED = "leased"
    DEFERRED = "deferred"
    HANDED_BACK = "handed-back"  # not tried: the process drains
    LEASE_EXPIRED = "lease-expired"  # its holder is dead or was paused
    RELAYED = "relayed"
    FAILED = "failed"
    EXPIRED = "expired"
    RETRY = "retry"  # by a person: due now
    REROUTED = "rerouted"
    HELD = "held"
    RELEASED = "released"
    DROPPED_BY_PERSON = "dropped-by-person"
    # Failed or expired without a DSN, by the rule that forbids it (promise P5).
    DOUBLE_BOUNCE = "double-bounce"  # a notice of ours could not be delivered
    NULL_REVERSE_PATH = "null-reverse-path"  # somebody else's notice could not
    NOTIFY_NEVER = "notify-never"  # NOTIFY= does not ask for it (RFC 3461 §4.1)
    JUNK = "junk"  # its reverse-path is likely forged
    UNRETURNABLE = "unreturnable"  # the reverse-path leads nowhere


_ENDS_WITHOUT_DSN: Final = frozenset(
    {
        Reason.DOUBLE_BOUNCE,
        Reason.NULL_REVERSE_PATH,
        Reason.NOTIFY_NEVER,
        Reason.JUNK,
        Reason.UNRETURNABLE,
    }
)

# Everything that may happen to a recipient; tests and the documentation print it.
TRANSITIONS: Final[dict[tuple[State, State], frozenset[Reason]]] = {
    (State.NONE, State.QUEUED): frozenset({Reason.ACCEPTED}),
    (State.NONE, State.STORED): frozenset({Reason.DELIVERED}),
    (State.NONE, State.DROPPED): frozenset({Reason.DISCARDED}),
    (State.QUEUED, State.LEASED): frozenset({Reason.LEASED}),
    (State.QUEUED, State.QUEUED): frozenset({Reason.RETRY, Reason.REROUTED}),
    (State.QUEUED, State.HELD): frozenset({Reason.HELD}),
    (State.QUEUED, State.RETURNED): frozenset({Reason.EXPIRED}),
    (State.QUEUED, State.DROPPED): _ENDS_WITHOUT_DSN | {Reason.DROPPED_BY_PERSON},
    (State.LEASED, State.QUEUED): frozenset(
        {Reason.DEFERRED, Reason.HANDED_BACK, Reason.LEASE_EXPIRED}
    ),
    (State.LEASED, State.HELD): frozenset({Reason.HELD}),  # its outcome could not be recorded
    (State.LEASED, State.STORED): frozenset({Reason.DELIVERED}),
    (State.LEASED, State.RELAYED): frozenset({Reason.RELAYED}),
    (State.LEASED, State.RETURNED): frozenset({Reason.FAILED, Reason.EXPIRED}),
    (State.LEASED, State.DROPPED): _ENDS_WITHOUT_DSN | {Reason.DISCARDED},
    (State.HELD, State.QUEUED): frozenset({Reason.RELEASED}),
    (State.HELD, State.HELD): frozenset({Reason.REROUTED}),
    (State.HELD, State.DROPPED): frozenset({Reason.DROPPED_BY_PERSON}),
}


def check_move(from_state: State, to_state: State, reason: Reason) -> None:
    """Raises LocalProtocolError for a transition the table does not have."""
    if reason not in TRANSITIONS.get((from_state, to_state), ()):
        raise LocalProtocolError(f"no recipient goes {from_state.name}→{to_state.name}: {reason}")


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One transition. Values that are None stay as they are, but for the due time and the lease,
    which belong to the new state."""

    recipient: RecipientRow
    """As read in this transaction; `move` relies on its step being the current one."""
    to_state: State
    reason: Reason
    detail: str = ""
    due_at: int | None = None
    leased_by: str | None = None
    leased_until: int | None = None
    attempts: int | None = None
    last_reply: str | None = None
    delay_notified_at: int | None = None
    route: str | None = None
    """"" takes a route away."""

    def after(self) -> RecipientRow:
        """The recipient once the transition is made."""
        row = self.recipient
        kept = row.delay_notified_at if self.delay_notified_at is None else self.delay_notified_at
        return RecipientRow(
            id=row.id,
            message=row.message,
            address=row.address,
            domain=row.domain,
            route=row.route if self.route is None else self.route or None,
            original_recipient=row.original_recipient,
            notify=row.notify,
            state=self.to_state,
            step=row.step + 1,
            due_at=self.due_at,
            expires_at=row.expires_at,
            attempts=row.attempts if self.attempts is None else self.attempts,
            leased_by=self.leased_by,
            leased_until=self.leased_until,
            delay_notified_at=kept,
            last_reply=row.last_reply if self.last_reply is None else self.last_reply,
        )


def move(tx: Transaction, moves: Sequence[Move]) -> list[RecipientRow]:
    """Make transitions: the one place where an accepted recipient changes its state.

    Messages whose last open recipient ends let go of their octets.
    """
    now = tx.now_us()
    after: list[RecipientRow] = []
    lines: list[ledger_rows.Line] = []
    ended: dict[MessageId, int] = {}
    for change in moves:
        row, to_state = change.recipient, change.to_state
        check_move(row.state, to_state, change.reason)
        after.append(change.after())
        lines.append(
            (row.id, row.step + 1, now, row.state, to_state, change.reason.value, change.detail)
        )
        if to_state in END_STATES:
            ended[row.message] = ended.get(row.message, 0) + 1
    rows.write_recipients(tx, after)
    ledger_rows.append(tx, lines)
    if ended:
        rows.settle(tx, ended)
    return after
