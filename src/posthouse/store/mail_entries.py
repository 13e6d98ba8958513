"""Changing entries set-wise: flags, expunging, copying, moving. SQL of `posthouse.mailbox`.

A set is given as UID ranges, both ends included; each range is one statement. The caller has made
sure that the mailbox is the account's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from posthouse.kernel.ids import BlobId, MailboxId
from posthouse.store.transaction import Transaction

Ranges = Sequence[tuple[int, int]]


class Totals(msgspec.Struct, frozen=True):
    """Of some entries."""

    messages: int
    unseen: int
    octets: int


# --- reading a set ---


def uids(tx: Transaction, mailbox: MailboxId, ranges: Ranges, *, with_flags: int = 0) -> list[int]:
    """UIDs that exist, rising; only those with all the bits of `with_flags`."""
    found: list[int] = []
    for first, last in ranges:
        rows = tx.all(
            "SELECT uid FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ?"
            " AND flags & ? = ? ORDER BY uid",
            (mailbox, first, last, with_flags, with_flags),
        )
        found += [row[0] for row in rows]
    return found


def totals(tx: Transaction, mailbox: MailboxId, ranges: Ranges, *, with_flags: int = 0) -> Totals:
    messages = unseen = octets = 0
    for first, last in ranges:
        row = tx.one(
            "SELECT count(*), coalesce(sum(1 - (entry.flags & 1)), 0),"
            " coalesce(sum(email.size), 0)"
            " FROM entry JOIN email ON email.id = entry.email_id"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags & ? = ?",
            (mailbox, first, last, with_flags, with_flags),
        )
        assert row is not None  # an aggregate has one row
        messages += row[0]
        unseen += row[1]
        octets += row[2]
    return Totals(messages, unseen, octets)


def count_unseen(tx: Transaction, mailbox: MailboxId, ranges: Ranges) -> int:
    count = 0
    for first, last in ranges:
        row = tx.one(
            "SELECT count(*) FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ?"
            " AND flags & 1 = 0",
            (mailbox, first, last),
        )
        count += row[0] if row is not None else 0
    return count


def changed_after(tx: Transaction, mailbox: MailboxId, ranges: Ranges, *, modseq: int) -> list[int]:
    found: list[int] = []
    for first, last in ranges:
        rows = tx.all(
            "SELECT uid FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND modseq > ?"
            " ORDER BY uid",
            (mailbox, first, last, modseq),
        )
        found += [row[0] for row in rows]
    return found


def with_modseq(tx: Transaction, mailbox: MailboxId, modseq: int) -> list[tuple[Any, ...]]:
    """(uid, flags, keywords, modseq) of what this MODSEQ was given to, by UID.

    Sorted here: asked for the order, SQLite would go through the whole mailbox by UID.
    """
    rows = tx.all(
        "SELECT uid, flags, keywords, modseq FROM entry WHERE mailbox_id = ? AND modseq = ?",
        (mailbox, modseq),
    )
    rows.sort()
    return rows


def keyword_sets(tx: Transaction, mailbox: MailboxId, ranges: Ranges) -> set[str]:
    """The different values of `keywords` in a set, without the empty one."""
    found: set[str] = set()
    for first, last in ranges:
        rows = tx.all(
            "SELECT DISTINCT keywords FROM entry"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND keywords <> ''",
            (mailbox, first, last),
        )
        found.update(row[0] for row in rows)
    return found


# --- flags: each statement touches only entries it makes different, and of those only what was
# last changed up to `unchanged_since` or by this command itself ---


def add_flags(
    tx: Transaction,
    mailbox: MailboxId,
    ranges: Ranges,
    flags: int,
    *,
    modseq: int,
    unchanged_since: int,
) -> None:
    for first, last in ranges:
        tx.run(
            "UPDATE entry SET flags = flags | ?, modseq = ?"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags | ? <> flags"
            " AND (modseq <= ? OR modseq = ?)",
            (flags, modseq, mailbox, first, last, flags, unchanged_since, modseq),
        )


def remove_flags(
    tx: Transaction,
    mailbox: MailboxId,
    ranges: Ranges,
    flags: int,
    *,
    modseq: int,
    unchanged_since: int,
) -> None:
    for first, last in ranges:
        tx.run(
            "UPDATE entry SET flags = flags & ~?, modseq = ?"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags & ? <> 0"
            " AND (modseq <= ? OR modseq = ?)",
            (flags, modseq, mailbox, first, last, flags, unchanged_since, modseq),
        )


def replace_flags(
    tx: Transaction,
    mailbox: MailboxId,
    ranges: Ranges,
    flags: int,
    keywords: str,
    *,
    modseq: int,
    unchanged_since: int,
) -> None:
    for first, last in ranges:
        tx.run(
            "UPDATE entry SET flags = ?, keywords = ?, modseq = ?"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ?"
            " AND (flags <> ? OR keywords <> ?) AND (modseq <= ? OR modseq = ?)",
            (
                flags,
                keywords,
                modseq,
                mailbox,
                first,
                last,
                flags,
                keywords,
                unchanged_since,
                modseq,
            ),
        )


def add_keyword(
    tx: Transaction,
    mailbox: MailboxId,
    ranges: Ranges,
    keyword: str,
    *,
    modseq: int,
    unchanged_since: int,
) -> None:
    for first, last in ranges:
        tx.run(
            "UPDATE entry SET keywords = trim(keywords || ' ' || ?), modseq = ?"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ?"
            " AND replace(' ' || keywords || ' ', ?, '') = ' ' || keywords || ' '"
            " AND (modseq <= ? OR modseq = ?)",
            (keyword, modseq, mailbox, first, last, f" {keyword} ", unchanged_since, modseq),
        )


def remove_keyword(
    tx: Transaction,
    mailbox: MailboxId,
    ranges: Ranges,
    keyword: str,
    *,
    modseq: int,
    unchanged_since: int,
) -> None:
    word = f" {keyword} "
    for first, last in ranges:
        tx.run(
            "UPDATE entry SET keywords = trim(replace(' ' || keywords || ' ', ?, ' ')), modseq = ?"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ?"
            " AND replace(' ' || keywords || ' ', ?, '') <> ' ' || keywords || ' '"
            " AND (modseq <= ? OR modseq = ?)",
            (word, modseq, mailbox, first, last, word, unchanged_since, modseq),
        )


def respell_keyword(
    tx: Transaction, mailbox: MailboxId, first_uid: int, old: str, new: str
) -> None:
    """After a copy: the target mailbox spells this keyword in its own way."""
    tx.run(
        "UPDATE entry SET keywords = trim(replace(' ' || keywords || ' ', ?, ?))"
        " WHERE mailbox_id = ? AND uid >= ? AND keywords <> ''",
        (f" {old} ", f" {new} ", mailbox, first_uid),
    )


# --- copying and leaving ---


def copy_entries(
    tx: Transaction,
    source: MailboxId,
    ranges: Ranges,
    target: MailboxId,
    *,
    first_uid: int,
    modseq: int,
    saved_at_us: int,
) -> None:
    """Show the same emails in `target` too, from `first_uid` on in the order of their UIDs."""
    for first, last in ranges:
        first_uid += tx.run(
            "INSERT INTO entry (mailbox_id, uid, email_id, flags, keywords, modseq, saved_at)"
            " SELECT ?, ? - 1 + row_number() OVER (ORDER BY uid), email_id, flags, keywords, ?, ?"
            " FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ?",
            (target, first_uid, modseq, saved_at_us, source, first, last),
        )


def count_copies(tx: Transaction, source: MailboxId, ranges: Ranges) -> None:
    """One entry more for each email that entries in `ranges` show."""
    for first, last in ranges:
        tx.run(
            "UPDATE email SET entries = entries + copies.n FROM"
            " (SELECT email_id, count(*) AS n FROM entry"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? GROUP BY email_id) AS copies"
            " WHERE email.id = copies.email_id",
            (source, first, last),
        )


def release_emails(
    tx: Transaction, mailbox: MailboxId, ranges: Ranges, *, with_flags: int = 0
) -> None:
    """Before `remove_entries`: emails nothing else shows go, and give up their blobs."""
    for first, last in ranges:
        chosen = (mailbox, first, last, with_flags, with_flags)
        tx.run(
            "UPDATE email SET entries = entries - gone.n FROM"
            " (SELECT email_id, count(*) AS n FROM entry WHERE mailbox_id = ?"
            " AND uid BETWEEN ? AND ? AND flags & ? = ? GROUP BY email_id) AS gone"
            " WHERE email.id = gone.email_id",
            chosen,
        )
        blobs = tx.all(
            "DELETE FROM email WHERE entries <= 0 AND id IN (SELECT email_id FROM entry"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags & ? = ?) RETURNING blob_id",
            chosen,
        )
        for (blob,) in blobs:
            tx.release_blob(BlobId(blob))


def remove_entries(
    tx: Transaction, mailbox: MailboxId, ranges: Ranges, *, modseq: int, with_flags: int = 0
) -> None:
    """Leave tombstones where the entries were."""
    for first, last in ranges:
        chosen = (mailbox, first, last, with_flags, with_flags)
        tx.run(
            "INSERT INTO tombstone (mailbox_id, modseq, uid) SELECT mailbox_id, ?, uid FROM entry"
            " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags & ? = ?",
            (modseq, *chosen),
        )
        tx.run(
            "DELETE FROM entry WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags & ? = ?",
            chosen,
        )
