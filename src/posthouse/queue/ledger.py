"""`posthouse ledger check`: the proof that every accepted recipient has one end or is still owned.

Promise P2; may run beside a working server, on one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from posthouse.kernel.ids import RecipientId
from posthouse.queue.item import TRANSITIONS, State
from posthouse.store import ledger as rows
from posthouse.store import queue as queue_rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.transaction import Transaction

FAULTS_MAX: Final = 1000
"""Places shown for one rule."""
BLOBS_MAX: Final = 1_000_000
UNKNOWN_REASON: Final = "a transition that the table of states does not have"
BLOB_DAMAGED: Final = "the octets of an open message are missing or changed"

STEPS: Final = len(rows.RULES) + 1

__all__ = ["STEPS", "Fault", "LedgerReport", "check", "history"]
Fault = rows.Fault
history = rows.history


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the books say. Clean when `faults` is empty."""

    states: dict[str, int]
    """Recipients by the name of their state, lower case."""
    ends: dict[str, int]
    """Recipients that have their end, by the ledger's reason."""
    faults: tuple[Fault, ...]

    @property
    def is_clean(self) -> bool:
        return not self.faults


def check(
    tx: Transaction,
    *,
    reads_octets: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> LedgerReport:
    """Check recipients against ledger, messages and blobs.

    Args:
        reads_octets: also read every open message and compare its SHA-256 (F10).
        advance: told 1 after each of `STEPS` steps, so that somebody can watch.
    """
    faults: list[Fault] = []
    for rule in rows.RULES:
        faults += rows.broken(tx, rule, limit=FAULTS_MAX)
        advance(1)
    faults += _unknown_transitions(tx)
    advance(1)
    if reads_octets:
        faults += _damaged(tx)
    states = {state.name.lower(): number for state, number in rows.counts(tx).items()}
    return LedgerReport(states=states, ends=rows.last_reasons(tx), faults=tuple(faults))


def _unknown_transitions(tx: Transaction) -> list[Fault]:
    known = {
        (from_state.value, to_state.value, reason.value)
        for (from_state, to_state), reasons in TRANSITIONS.items()
        for reason in reasons
    }
    faults: list[Fault] = []
    for from_state, to_state, reason in rows.kinds(tx):
        if (from_state, to_state, reason) not in known:
            places = rows.places(tx, from_state, to_state, reason, limit=FAULTS_MAX)
            faults += [Fault(rule=UNKNOWN_REASON, recipient=place) for place in places]
    return faults


def _damaged(tx: Transaction) -> list[Fault]:
    faults: list[Fault] = []
    after = RecipientId(0)
    seen: set[int] = set()
    for state in (State.QUEUED, State.LEASED, State.HELD):
        after = RecipientId(0)
        while page := queue_rows.open_recipients(tx, state, domain=None, after=after, limit=500):
            after = page[-1][0].id
            for recipient, message in page:
                if message.blob is None or message.blob in seen:
                    continue
                seen.add(message.blob)
                try:
                    tx.blob(message.blob)
                except BlobDamaged:
                    faults.append(
                        Fault(
                            rule=BLOB_DAMAGED,
                            recipient=recipient.id,
                            message=message.id,
                            queue_id=message.queue_id,
                        )
                    )
                if len(faults) >= FAULTS_MAX or len(seen) >= BLOBS_MAX:
                    return faults
    return faults
