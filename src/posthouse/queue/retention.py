"""Forgetting messages that have had their end for long."""

from __future__ import annotations

from typing import Final

from posthouse.store import queue as rows
from posthouse.store.transaction import Transaction

PRUNED_MAX: Final = 200
"""Messages forgotten in one unit of work."""


def prune(tx: Transaction, *, accepted_before: int, limit: int = PRUNED_MAX) -> int:
    """Forget ended messages with their ledger and attempts; call again while it gives `limit`."""
    ids = rows.ended_messages(tx, accepted_before=accepted_before, limit=limit)
    rows.remove_messages(tx, ids)
    return len(ids)
