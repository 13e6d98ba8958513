"""SQL of the ledger: each recipient's transitions, and the proof that none is lost (promise P2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.kernel.ids import MessageId, RecipientId
from posthouse.store.queue_rows import LedgerRow, State
from posthouse.store.transaction import Transaction

Line = tuple[int, int, int, int, int, str, str]
"""Recipient, step, time, state before, state after, reason, detail."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something the books say that cannot be. One of the two ids is known."""

    rule: str
    """Name of the rule in `RULES`."""
    recipient: RecipientId | None = None
    message: MessageId | None = None
    queue_id: str | None = None


def append(tx: Transaction, lines: Sequence[Line]) -> None:
    tx.run_many(
        "INSERT INTO ledger (recipient_id, step, at, from_state, to_state, reason, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        lines,
    )


def history(tx: Transaction, recipient: RecipientId) -> list[LedgerRow]:
    """Every transition of a recipient, the first first."""
    return [
        LedgerRow(
            recipient=recipient,
            step=row[0],
            at=row[1],
            from_state=State(row[2]),
            to_state=State(row[3]),
            reason=row[4],
            detail=row[5],
        )
        for row in tx.all(
            "SELECT step, at, from_state, to_state, reason, detail FROM ledger"
            " WHERE recipient_id = ? ORDER BY step",
            (recipient,),
        )
    ]


# What must hold, each as a query for the recipient and message where it does not. All are
# set-wise: 1,000,000 recipients are read once for each rule.
RULES: Final[dict[str, str]] = {
    "the ledger's last line is not the recipient's state": (
        "SELECT r.id, r.message_id FROM recipient r LEFT JOIN ledger l"
        " ON l.recipient_id = r.id AND l.step = r.step"
        " WHERE l.to_state IS NULL OR l.to_state <> r.state"
    ),
    "the ledger has not one line for each transition": (
        "SELECT r.id, r.message_id FROM recipient r LEFT JOIN"
        " (SELECT recipient_id, count(*) AS lines, min(step) AS first, max(step) AS last"
        "  FROM ledger GROUP BY recipient_id) l ON l.recipient_id = r.id"
        " WHERE l.lines IS NULL OR l.lines <> r.step OR l.first <> 1 OR l.last <> r.step"
    ),
    "a transition does not begin where the one before ended": (
        "SELECT l.recipient_id, NULL FROM ledger l JOIN ledger b"
        " ON b.recipient_id = l.recipient_id AND b.step = l.step - 1"
        " WHERE b.to_state <> l.from_state OR b.to_state IN (4, 5, 6, 7)"
    ),
    "the first transition does not begin before acceptance": (
        "SELECT recipient_id, NULL FROM ledger WHERE (step = 1) <> (from_state = 0)"
    ),
    "the ledger knows a recipient that is gone": (
        "SELECT DISTINCT l.recipient_id, NULL FROM ledger l"
        " WHERE NOT EXISTS (SELECT 1 FROM recipient r WHERE r.id = l.recipient_id)"
    ),
    "queued without a due time": (
        "SELECT id, message_id FROM recipient WHERE state = 1 AND due_at IS NULL"
    ),
    "leased without an end of the lease": (
        "SELECT id, message_id FROM recipient"
        " WHERE state = 2 AND (leased_until IS NULL OR leased_by IS NULL)"
    ),
    "in no state there is": "SELECT id, message_id FROM recipient WHERE state NOT BETWEEN 1 AND 7",
    "a recipient without its message": (
        "SELECT r.id, r.message_id FROM recipient r"
        " WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = r.message_id)"
    ),
    "the message counts its open recipients wrongly": (
        "SELECT NULL, m.id FROM message m LEFT JOIN"
        " (SELECT message_id, sum(state <= 3) AS open FROM recipient GROUP BY message_id) r"
        " ON r.message_id = m.id WHERE m.pending <> coalesce(r.open, 0)"
    ),
    "a message without recipients": (
        "SELECT NULL, m.id FROM message m"
        " WHERE NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message_id = m.id)"
    ),
    "open recipients, but no octets": (
        "SELECT NULL, m.id FROM message m LEFT JOIN blob b ON b.id = m.blob_id"
        " WHERE m.pending > 0 AND (b.id IS NULL OR b.refs < 1)"
    ),
    "octets kept for nobody": (
        "SELECT NULL, id FROM message WHERE pending = 0 AND blob_id IS NOT NULL"
    ),
}


def broken(tx: Transaction, rule: str, *, limit: int) -> list[Fault]:
    """Where a rule does not hold, at most `limit` places."""
    sql = (
        f"WITH f (id, message_id) AS ({RULES[rule]} LIMIT ?)"  # noqa: S608
        " SELECT f.id, coalesce(f.message_id, r.message_id), m.queue_id FROM f"
        " LEFT JOIN recipient r ON r.id = f.id"
        " LEFT JOIN message m ON m.id = coalesce(f.message_id, r.message_id)"
    )
    return [
        Fault(rule=rule, recipient=row[0], message=row[1], queue_id=row[2])
        for row in tx.all(sql, (limit,))
    ]


def counts(tx: Transaction) -> dict[State, int]:
    """Recipients in each state."""
    found: dict[int, int] = dict(tx.all("SELECT state, count(*) FROM recipient GROUP BY state"))
    return {state: found.get(state.value, 0) for state in State if state}


def last_reasons(tx: Transaction) -> dict[str, int]:
    """Recipients that have their end, by the reason of it."""
    return dict(
        tx.all(
            "SELECT l.reason, count(*) FROM recipient r JOIN ledger l"
            " ON l.recipient_id = r.id AND l.step = r.step WHERE r.state >= 4 GROUP BY l.reason"
        )
    )


def kinds(tx: Transaction) -> list[tuple[int, int, str]]:
    """Every different transition in the ledger, with its reason."""
    found = tx.all("SELECT DISTINCT from_state, to_state, reason FROM ledger")
    return [(row[0], row[1], row[2]) for row in found]


def places(
    tx: Transaction, from_state: int, to_state: int, reason: str, *, limit: int
) -> list[RecipientId]:
    """Recipients with such a transition."""
    return [
        row[0]
        for row in tx.all(
            "SELECT recipient_id FROM ledger WHERE from_state = ? AND to_state = ? AND reason = ?"
            " LIMIT ?",
            (from_state, to_state, reason, limit),
        )
    ]
