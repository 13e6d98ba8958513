"""What is in the queue: the states of a recipient, every transition and the reasons it may have.

An accepted recipient is ours until one of `END_STATES` (promise P2). Only `store.ledger.move` and
`spool.accept` change a state, and both write the ledger with it; `check_move` guards them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from posthouse.kernel.errors import LocalProtocolError
from posthouse.store.queue_rows import OPEN_STATES, State

__all__ = ["END_STATES", "OPEN_STATES", "TRANSITIONS", "Origin", "Reason", "State", "check_move"]

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
    UNRETURNABLE = "unreturnable"  # the reverse-path leads nowhere


_ENDS_WITHOUT_DSN: Final = frozenset(
    {Reason.DOUBLE_BOUNCE, Reason.NULL_REVERSE_PATH, Reason.NOTIFY_NEVER, Reason.UNRETURNABLE}
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
