"""What sessions read of a mailbox as a whole. SQL of `posthouse.mailbox.view`.

100,000 messages are read as two long strings that the database joins, so that it holds no
interpreter lock and no row becomes a Python object.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.store.transaction import Transaction

_LETTERS: Final = "".join(chr(48 + value) for value in range(64))
_VALUES: Final = bytes(48) + bytes(range(64)) + bytes(256 - 48 - 64)


def uids_and_flags(
    tx: Transaction, mailbox: MailboxId, uidnext: int
) -> tuple[array[int], bytearray]:
    """Of all entries with UIDs below `uidnext`, by UID. Bit 32 of the flags: there are keywords."""
    row = tx.one(
        "SELECT count(*), min(uid), max(uid) FROM entry WHERE mailbox_id = ? AND uid < ?",
        (mailbox, uidnext),
    )
    assert row is not None  # an aggregate has one row
    count, first, last = row
    if not count:
        return array("I"), bytearray()
    letters = tx.one(
        "SELECT string_agg(substr(?, 1 + flags + CASE keywords WHEN '' THEN 0 ELSE 32 END, 1), '')"
        " FROM (SELECT flags, keywords FROM entry WHERE mailbox_id = ? AND uid < ? ORDER BY uid)",
        (_LETTERS, mailbox, uidnext),
    )
    assert letters is not None
    flags = bytearray(letters[0].encode("ascii").translate(_VALUES))
    if last - first + 1 == count:
        return array("I", range(first, last + 1)), flags
    numbers = tx.one(
        "SELECT string_agg(uid, ',')"
        " FROM (SELECT uid FROM entry WHERE mailbox_id = ? AND uid < ? ORDER BY uid)",
        (mailbox, uidnext),
    )
    assert numbers is not None
    return array("I", map(int, numbers[0].split(","))), flags


def entries_with_keywords(
    tx: Transaction, mailbox: MailboxId, uidnext: int
) -> list[tuple[int, str]]:
    rows = tx.all(
        "SELECT uid, keywords FROM entry WHERE mailbox_id = ? AND uid < ? AND keywords <> ''",
        (mailbox, uidnext),
    )
    return [(row[0], row[1]) for row in rows]


def entries_after(tx: Transaction, mailbox: MailboxId, modseq: int) -> list[tuple[Any, ...]]:
    """(uid, flags, keywords, modseq) of what changed or came after `modseq`, by UID.

    Sorted here: asked for the order, SQLite would go through the whole mailbox by UID.
    """
    rows = tx.all(
        "SELECT uid, flags, keywords, modseq FROM entry WHERE mailbox_id = ? AND modseq > ?",
        (mailbox, modseq),
    )
    rows.sort()
    return rows


def tombstones_after(tx: Transaction, mailbox: MailboxId, modseq: int, uidnext: int) -> list[int]:
    """UIDs below `uidnext` expunged after `modseq`, rising."""
    rows = tx.all(
        "SELECT uid FROM tombstone WHERE mailbox_id = ? AND modseq > ? AND uid < ?",
        (mailbox, modseq, uidnext),
    )
    return sorted(row[0] for row in rows)


def count_from(tx: Transaction, mailbox: MailboxId, uid: int) -> int:
    row = tx.one("SELECT count(*) FROM entry WHERE mailbox_id = ? AND uid >= ?", (mailbox, uid))
    return row[0] if row is not None else 0


def first_unseen_seq(tx: Transaction, mailbox: MailboxId) -> int:
    """The sequence number of the first entry without \\Seen, 0 when there is none."""
    row = tx.one(
        "SELECT count(*) FROM entry WHERE mailbox_id = ? AND uid <= (SELECT uid FROM entry"
        " WHERE mailbox_id = ? AND flags & 1 = 0 ORDER BY uid LIMIT 1)",
        (mailbox, mailbox),
    )
    return row[0] if row is not None else 0


def claim_recent(
    tx: Transaction, account: AccountId, mailbox: MailboxId, uidnext: int
) -> int | None:
    """Move `recent_uid` up to `uidnext` and return where it was; None: no such mailbox."""
    row = tx.one(
        "SELECT recent_uid FROM mailbox WHERE id = ? AND account_id = ?", (mailbox, account)
    )
    if row is not None and row[0] < uidnext:
        tx.run("UPDATE mailbox SET recent_uid = ? WHERE id = ?", (uidnext, mailbox))
    return None if row is None else row[0]
