"""Reading messages for FETCH and RETR, in chunks that the caller bounds.

Two ways: `lines` lets SQL join whole responses of stored octets (no row reaches Python), `rows`
gives columns. Both want the UIDs of one chunk; `chunks` cuts a view into them. A message that was
expunged since the view was made is simply not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.mailbox.flags import UidRanges
from posthouse.mailbox.view import View
from posthouse.store.transaction import Transaction

CHUNK_MESSAGES: Final = 2_000


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
    raise NotImplementedError


def lines(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    chunk: Chunk,
    items: Sequence[Item],
    *,
    recent_uid: int = 4_294_967_296,
) -> bytes | None:
    """`* n FETCH (...)` for each message of a chunk, joined by the database.

    Args:
        recent_uid: from here on FLAGS shows \\Recent.

    Returns:
        None when a message of the chunk is gone, so that sequence numbers cannot be counted;
        use `parts` then.
    """
    raise NotImplementedError


def parts(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    chunk: Chunk,
    items: Sequence[Item],
    *,
    recent_uid: int = 4_294_967_296,
) -> list[tuple[int, bytes]]:
    """For each message that is still there its UID and `NAME value NAME value…`, by UID."""
    raise NotImplementedError


def rows(
    tx: Transaction, account: AccountId, mailbox: MailboxId, first_uid: int, last_uid: int
) -> list[EmailRow]:
    """By UID; the caller bounds the range."""
    raise NotImplementedError


def octets(
    tx: Transaction, account: AccountId, mailbox: MailboxId, uid: int
) -> MessageOctets | None:
    """One message whole, or None when it is gone.

    Raises:
        BlobDamaged: answer `NO [SERVERBUG]` for this one; others are readable (F10).
    """
    raise NotImplementedError


def sizes(tx: Transaction, account: AccountId, mailbox: MailboxId) -> list[tuple[int, int]]:
    """(UID, octets) of every message, by UID; what POP3 needs."""
    raise NotImplementedError
