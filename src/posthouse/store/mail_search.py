"""Conditions of a search that the database can judge, and the rows to judge the others by. SQL of
`posthouse.mailbox.search`.

A `Where` is made by the functions here only, so that no text of a client becomes SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from posthouse.kernel.ids import MailboxId
from posthouse.store.transaction import Transaction, Value

DAY_US: Final = 86_400_000_000


class Where(msgspec.Struct, frozen=True):
    """A condition over `entry` and, where `needs_email`, `email`. Never null."""

    sql: str
    parameters: tuple[Value, ...] = ()
    needs_email: bool = False


EVERYTHING: Final = Where("1 = 1")


def has_flags(flags: int) -> Where:
    return Where("entry.flags & ? = ?", (flags, flags))


def has_keyword(keyword: str) -> Where:
    return Where(
        "replace(' ' || lower(entry.keywords) || ' ', ?, '')"
        " <> ' ' || lower(entry.keywords) || ' '",
        (f" {keyword.lower()} ",),
    )


def uid_between(first: int, last: int) -> Where:
    return Where("entry.uid BETWEEN ? AND ?", (first, last))


def modseq_from(modseq: int) -> Where:
    return Where("entry.modseq >= ?", (modseq,))


def received_before(day: int) -> Where:
    return Where("email.received_at < ?", (day * DAY_US,), needs_email=True)


def sent_before(day: int) -> Where:
    return Where("coalesce(email.sent_day < ?, 1 = 0)", (day,), needs_email=True)


def sent_since(day: int) -> Where:
    return Where("coalesce(email.sent_day >= ?, 1 = 0)", (day,), needs_email=True)


def larger(octets: int) -> Where:
    return Where("email.size > ?", (octets,), needs_email=True)


def smaller(octets: int) -> Where:
    return Where("email.size < ?", (octets,), needs_email=True)


def envelope_mentions(word: str) -> Where:
    """ENVELOPE has this (in lower case, US-ASCII) as it stands, or hides text in encoded-words."""
    return Where(
        "(instr(lower(CAST(email.envelope AS TEXT)), ?) > 0 OR instr(email.envelope, x'3D3F') > 0)",
        (word,),
        needs_email=True,
    )


def negated(where: Where) -> Where:
    return Where(f"NOT ({where.sql})", where.parameters, where.needs_email)


def all_of(wheres: Sequence[Where]) -> Where:
    return _joined(wheres, " AND ", EVERYTHING)


def any_of(wheres: Sequence[Where]) -> Where:
    return _joined(wheres, " OR ", Where("1 = 0"))


def _joined(wheres: Sequence[Where], operator: str, empty: Where) -> Where:
    """As a balanced tree: an engine bounds the depth of expressions (SQLite: 1,000)."""
    if not wheres:
        return empty
    if len(wheres) == 1:
        return wheres[0]
    middle = len(wheres) // 2
    left = _joined(wheres[:middle], operator, empty)
    right = _joined(wheres[middle:], operator, empty)
    return Where(
        f"({left.sql}){operator}({right.sql})",
        left.parameters + right.parameters,
        left.needs_email or right.needs_email,
    )


def uids(tx: Transaction, mailbox: MailboxId, where: Where, *, first_uid: int) -> list[int]:
    """Every UID from `first_uid` on that meets the condition, rising."""
    email = " JOIN email ON email.id = entry.email_id" if where.needs_email else ""
    rows = tx.all(
        f"SELECT entry.uid FROM entry{email} WHERE entry.mailbox_id = ?"  # noqa: S608 (a Where)
        f" AND entry.uid >= ? AND ({where.sql}) ORDER BY entry.uid",
        (mailbox, first_uid, *where.parameters),
    )
    return [row[0] for row in rows]


def candidates(
    tx: Transaction, mailbox: MailboxId, where: Where, *, first_uid: int, rows_max: int
) -> list[tuple[Any, ...]]:
    """(uid, flags, keywords, modseq, size, received_at, sent_day, envelope, prefix, blob) of the
    first messages that meet the condition, by UID."""
    return tx.all(
        "SELECT entry.uid, entry.flags, entry.keywords, entry.modseq, email.size,"  # noqa: S608
        " email.received_at, email.sent_day, email.envelope, email.prefix, email.blob_id"
        " FROM entry JOIN email ON email.id = entry.email_id"
        f" WHERE entry.mailbox_id = ? AND entry.uid >= ? AND ({where.sql})"
        " ORDER BY entry.uid LIMIT ?",
        (mailbox, first_uid, *where.parameters, rows_max),
    )
