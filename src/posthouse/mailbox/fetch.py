"""Reading messages for FETCH and RETR, in chunks that the caller bounds.

Two ways: `lines` lets SQL join whole responses of stored octets (no row reaches Python), `rows`
gives columns. Both want the UIDs of one chunk; `chunks` cuts a view into them. A message that was
expunged since the view was made is simply not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, BlobId, MailboxId
from posthouse.mailbox.flags import UidRanges
from posthouse.mailbox.view import View
from posthouse.store import mail
from posthouse.store import mail_fetch as stored
from posthouse.store.mail_fetch import Item
from posthouse.store.transaction import Transaction

__all__ = [
    "CHUNK_MESSAGES",
    "NOTHING_RECENT",
    "Chunk",
    "EmailRow",
    "Item",
    "MessageOctets",
    "chunks",
    "lines",
    "octets",
    "parts",
    "rows",
    "sizes",
]

CHUNK_MESSAGES: Final = 2_000
NOTHING_RECENT: Final = 4_294_967_296
"""As `recent_uid`: no message is \\Recent."""


class Chunk(msgspec.Struct, frozen=True):
    """Messages that follow each other in a view: all of its UIDs from `first_uid` to `last_uid`."""

    first_seq: int
    messages: int
    first_uid: int
    last_uid: int


class EmailRow(msgspec.Struct, frozen=True, gc=False):
    """What FETCH knows of a message without its octets."""

    uid: int
    flags: int
    keywords: str
    modseq: int
    email: int
    size_octets: int
    received_at_us: int
    internaldate: str
    """As FETCH shows it, with quotes."""
    saved_at_us: int


class MessageOctets(msgspec.Struct, frozen=True, gc=False):
    """One message: its octets are `prefix + octets`."""

    uid: int
    prefix: bytes
    octets: bytes

    def whole(self) -> bytes:
        return self.prefix + self.octets if self.prefix else self.octets


def chunks(view: View, ranges: UidRanges, *, messages_max: int = CHUNK_MESSAGES) -> Iterator[Chunk]:
    """Cut the messages of `view` with UIDs in `ranges` into chunks."""
    for first_uid, last_uid in ranges:
        first, last = view.seq_span(first_uid, last_uid)
        for seq in range(first, last + 1, messages_max):
            end = min(seq + messages_max - 1, last)
            yield Chunk(seq, end - seq + 1, view.uids[seq - 1], view.uids[end - 1])


def lines(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    chunk: Chunk,
    items: Sequence[Item],
    *,
    recent_uid: int = NOTHING_RECENT,
) -> bytes | None:
    """`* n FETCH (...)` for each message of a chunk, joined by the database.

    Args:
        items: at least one.
        recent_uid: from here on FLAGS shows \\Recent.

    Returns:
        None when a message of the chunk is gone, so that sequence numbers cannot be counted;
        use `parts` then.
    """
    if chunk.last_uid - chunk.first_uid + 1 != chunk.messages:  # UIDs with gaps between them
        found = parts(tx, account, mailbox, chunk, items, recent_uid=recent_uid)
        if len(found) != chunk.messages:
            return None
        return b"".join(
            b"* %d FETCH (%b)\r\n" % (seq, values)
            for seq, (_, values) in enumerate(found, chunk.first_seq)
        )
    if not mail.owns(tx, account, mailbox):
        return None
    count, joined = stored.lines(
        tx,
        mailbox,
        chunk.first_uid,
        chunk.last_uid,
        tuple(items),
        seq_offset=chunk.first_seq - chunk.first_uid,
        recent_uid=recent_uid,
    )
    return joined if count == chunk.messages else None


def parts(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    chunk: Chunk,
    items: Sequence[Item],
    *,
    recent_uid: int = NOTHING_RECENT,
) -> list[tuple[int, bytes]]:
    """For each message that is still there its UID and `NAME value NAME value…`, by UID."""
    if not mail.owns(tx, account, mailbox):
        return []
    return stored.parts(
        tx, mailbox, chunk.first_uid, chunk.last_uid, tuple(items), recent_uid=recent_uid
    )


def rows(
    tx: Transaction, account: AccountId, mailbox: MailboxId, first_uid: int, last_uid: int
) -> list[EmailRow]:
    """By UID; the caller bounds the range."""
    if not mail.owns(tx, account, mailbox):
        return []
    return [EmailRow(*row) for row in stored.rows(tx, mailbox, first_uid, last_uid)]


def octets(
    tx: Transaction, account: AccountId, mailbox: MailboxId, uid: int
) -> MessageOctets | None:
    """One message whole, or None when it is gone. The hash of all its octets is checked each
    time, so keep what is read for the next partial FETCH.

    Raises:
        BlobDamaged: answer `NO [SERVERBUG]` for this one; others are readable (F10).
    """
    found = stored.source(tx, account, mailbox, uid)
    if found is None:
        return None
    prefix, blob = found
    return MessageOctets(uid, prefix, tx.blob(BlobId(blob)))


def sizes(tx: Transaction, account: AccountId, mailbox: MailboxId) -> list[tuple[int, int]]:
    """(UID, octets) of every message, by UID; what POP3 needs."""
    if not mail.owns(tx, account, mailbox):
        return []
    return stored.sizes(tx, mailbox)
