"""Reading stored values of messages for FETCH. SQL of `posthouse.mailbox.fetch`.

`lines` and `parts` are put together from the fragments below and nothing else: SQL writes the
response, so that a hundred thousand envelopes pass without one Python object each.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from itertools import combinations
from typing import Any, Final

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.store.transaction import Transaction

_FLAG_NAMES: Final = {
    1: r"\Seen",
    2: r"\Answered",
    4: r"\Flagged",
    8: r"\Deleted",
    16: r"\Draft",
}


class Item(Enum):
    """Data items that are stored ready to send; the value is its name in a response."""

    UID = "UID"
    FLAGS = "FLAGS"  # of the store, which may be newer than a view's
    INTERNALDATE = "INTERNALDATE"
    SIZE = "RFC822.SIZE"
    ENVELOPE = "ENVELOPE"
    BODYSTRUCTURE = "BODYSTRUCTURE"
    MODSEQ = "MODSEQ"
    EMAILID = "EMAILID"


def _flag_text() -> str:
    """A CASE with every combination of flags, each name with a blank in front; what most messages
    have comes first."""
    sets = [chosen for n in range(6) for chosen in combinations(_FLAG_NAMES, n)]
    cases = (
        f"WHEN {sum(chosen)} THEN '{''.join(' ' + _FLAG_NAMES[bit] for bit in chosen)}'"
        for chosen in sets
    )
    return f"CASE entry.flags {' '.join(cases)} ELSE '' END"


_FRAGMENTS: Final = {
    Item.UID: "entry.uid",
    Item.FLAGS: (
        f"'(' || ltrim({_flag_text()}"
        " || CASE entry.keywords WHEN '' THEN '' ELSE ' ' || entry.keywords END"
        " || CASE WHEN entry.uid >= ? THEN ' \\Recent' ELSE '' END) || ')'"
    ),
    Item.INTERNALDATE: "email.internaldate",
    Item.SIZE: "email.size",
    Item.ENVELOPE: "email.envelope",
    Item.BODYSTRUCTURE: "email.bodystructure",
    Item.MODSEQ: "'(' || entry.modseq || ')'",
    Item.EMAILID: "'(E' || entry.email_id || ')'",
}
_IN_EMAIL: Final = frozenset({Item.INTERNALDATE, Item.SIZE, Item.ENVELOPE, Item.BODYSTRUCTURE})


def _joined(items: tuple[Item, ...]) -> str:
    """An expression for `NAME value NAME value…`."""
    return " || ' ' || ".join(f"'{item.value} ' || {_FRAGMENTS[item]}" for item in items)


def _source(items: tuple[Item, ...]) -> str:
    email = " JOIN email ON email.id = entry.email_id" if _IN_EMAIL.intersection(items) else ""
    return f"FROM entry{email} WHERE entry.mailbox_id = ? AND entry.uid BETWEEN ? AND ?"


@lru_cache(maxsize=256)
def _lines_sql(items: tuple[Item, ...]) -> str:
    return (
        "SELECT count(*), CAST(string_agg(line, '') AS BLOB) FROM ("  # noqa: S608 (fragments only)
        "SELECT '* ' || (? + entry.uid) || ' FETCH ('"
        f" || {_joined(items)} || ')' || char(13, 10) AS line"
        f" {_source(items)} ORDER BY entry.uid)"
    )


@lru_cache(maxsize=256)
def _parts_sql(items: tuple[Item, ...]) -> str:
    return f"SELECT entry.uid, CAST({_joined(items)} AS BLOB) {_source(items)} ORDER BY entry.uid"


def lines(
    tx: Transaction,
    mailbox: MailboxId,
    first_uid: int,
    last_uid: int,
    items: tuple[Item, ...],
    *,
    seq_offset: int,
    recent_uid: int,
) -> tuple[int, bytes]:
    """How many messages there are, and their responses; a sequence number is UID + `seq_offset`."""
    recent = [recent_uid] * items.count(Item.FLAGS)
    row = tx.one(_lines_sql(items), (seq_offset, *recent, mailbox, first_uid, last_uid))
    assert row is not None  # an aggregate has one row
    return row[0], row[1] or b""


def parts(
    tx: Transaction,
    mailbox: MailboxId,
    first_uid: int,
    last_uid: int,
    items: tuple[Item, ...],
    *,
    recent_uid: int,
) -> list[tuple[int, bytes]]:
    recent = [recent_uid] * items.count(Item.FLAGS)
    rows = tx.all(_parts_sql(items), (*recent, mailbox, first_uid, last_uid))
    return [(row[0], row[1]) for row in rows]


def rows(
    tx: Transaction, mailbox: MailboxId, first_uid: int, last_uid: int
) -> list[tuple[Any, ...]]:
    return tx.all(
        "SELECT uid, flags, keywords, modseq, email_id, size, received_at, internaldate, saved_at"
        " FROM entry JOIN email ON email.id = entry.email_id"
        " WHERE mailbox_id = ? AND uid BETWEEN ? AND ? ORDER BY uid",
        (mailbox, first_uid, last_uid),
    )


def source(
    tx: Transaction, account: AccountId, mailbox: MailboxId, uid: int
) -> tuple[bytes, int] | None:
    """(prefix, blob) of one message."""
    row = tx.one(
        "SELECT email.prefix, email.blob_id FROM entry"
        " JOIN mailbox ON mailbox.id = entry.mailbox_id"
        " JOIN email ON email.id = entry.email_id"
        " WHERE entry.mailbox_id = ? AND entry.uid = ? AND mailbox.account_id = ?",
        (mailbox, uid, account),
    )
    return None if row is None else (row[0], row[1])


def sizes(tx: Transaction, mailbox: MailboxId) -> list[tuple[int, int]]:
    rows = tx.all(
        "SELECT uid, size FROM entry JOIN email ON email.id = entry.email_id"
        " WHERE mailbox_id = ? ORDER BY uid",
        (mailbox,),
    )
    return [(row[0], row[1]) for row in rows]
