"""Rows of messages that were turned down, for `posthouse explain`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from posthouse.store.transaction import Transaction

_COLUMNS = "queue_id, at, reverse_path, size, reply, decision"


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    queue_id: str
    at: int
    """Microseconds since 1970."""
    reverse_path: str | None
    size: int
    """Octets of the message, as they came."""
    reply: str
    decision: bytes
    """JSON of `reception.decision.DecisionRecord`."""


def add(tx: Transaction, refusals: Sequence[RefusalRow]) -> None:
    tx.run_many(
        f"INSERT INTO refusal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
        [
            (one.queue_id, one.at, one.reverse_path, one.size, one.reply, one.decision)
            for one in refusals
        ],
    )


def prune(tx: Transaction, *, before: int, rows_max: int) -> None:
    """Forget those from before that time, and the oldest above so many."""
    tx.run("DELETE FROM refusal WHERE at < ? AND id < (SELECT max(id) FROM refusal)", (before,))
    newest = tx.one("SELECT max(id) FROM refusal")
    if newest is not None and newest[0] is not None:
        tx.run("DELETE FROM refusal WHERE id <= ?", (newest[0] - rows_max,))


def named(tx: Transaction, name: str, *, limit: int) -> list[RefusalRow]:
    """The refusal of that name, or those of a connection of that trace, in their order."""
    found = tx.all(
        f"SELECT {_COLUMNS} FROM refusal"  # noqa: S608
        " WHERE queue_id = ? OR (queue_id >= ? AND queue_id < ?) ORDER BY id LIMIT ?",
        (name, f"{name}.", f"{name}/", limit),
    )
    return [
        RefusalRow(
            queue_id=row[0],
            at=row[1],
            reverse_path=row[2],
            size=row[3],
            reply=row[4],
            decision=row[5],
        )
        for row in found
    ]
