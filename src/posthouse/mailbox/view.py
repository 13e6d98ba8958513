"""What a selected session knows of its mailbox: sequence numbers, flags, and what became new.

SELECT reads counters only (`select`). The first command that needs a sequence number loads the
`View`, which shows the mailbox as SELECT announced it; `changes_since` then tells what happened
after, and `View.apply` takes it in once the session may tell its client (RFC 9051 §5.5).
"""

from __future__ import annotations

from array import array

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.mailbox.flags import EntryRow, UidRanges
from posthouse.store.transaction import Transaction


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The counters SELECT and EXAMINE answer with."""

    mailbox: MailboxId
    name: str
    uidvalidity: UidValidity
    uidnext: Uid
    modseq: ModSeq
    messages: int
    recent: int
    recent_uid: Uid
    """Messages from here on are \\Recent for the session that claims them."""
    first_unseen: int | None
    """A sequence number; None when all are seen."""
    keywords: tuple[str, ...]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What happened after a MODSEQ, as one snapshot."""

    added: list[EntryRow]
    """By UID; all of them above those known before."""
    changed: list[EntryRow]
    """Known before, flags or keywords differ (or did meanwhile), by UID."""
    expunged: list[int]
    """UIDs known before, rising. (Who came and went meanwhile is not mentioned.)"""
    modseq: ModSeq
    uidnext: Uid
    keywords: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.expunged)


class View:
    """Sequence numbers and flags of a mailbox, about 5 octets for each message.

    Not changed by anything but `apply` and the session that owns it.
    """

    __slots__ = ("flags", "keywords", "modseq", "uidnext", "uids")

    def __init__(
        self,
        uids: array[int],
        flags: bytearray,
        keywords: dict[int, str],
        *,
        modseq: ModSeq,
        uidnext: Uid,
    ) -> None:
        self.uids = uids
        """By sequence number minus one, rising."""
        self.flags = flags
        """The same order; bits of `mailbox.flags`, with HAS_KEYWORDS."""
        self.keywords = keywords
        """By UID, divided by blanks; only messages that have any."""
        self.modseq = modseq
        """Everything up to here is in this view."""
        self.uidnext = uidnext

    def __len__(self) -> int:
        return len(self.uids)

    def seq(self, uid: int) -> int:
        """The sequence number of a UID, 0 when this view has no such message."""
        raise NotImplementedError

    def seq_span(self, first_uid: int, last_uid: int) -> tuple[int, int]:
        """Sequence numbers (first, last) of the messages with UIDs in a range; last < first when
        there are none."""
        raise NotImplementedError

    def uid_ranges(self, seq_ranges: UidRanges) -> tuple[tuple[int, int], ...]:
        """UID ranges that cover exactly the messages with these sequence numbers (as far as this
        view goes). Numbers outside 1..len(self) are dropped."""
        raise NotImplementedError

    def apply(self, changes: Changes) -> list[int]:
        """Take in what the client is told now.

        Returns:
            The sequence numbers to send EXPUNGE with, in that order (falling, so that each is
            right when it is sent).
        """
        raise NotImplementedError


def select(tx: Transaction, account: AccountId, name: str) -> Selected:
    """Counters of a mailbox, for SELECT, EXAMINE.

    Raises:
        NoSuchMailbox
    """
    raise NotImplementedError


def claim_recent(tx: Transaction, account: AccountId, mailbox: MailboxId, uidnext: Uid) -> Uid:
    """SELECT (not EXAMINE) makes what is below `uidnext` \\Recent for this session alone; write
    only when `Selected.recent` is not 0. Returns the first UID that is \\Recent for the caller."""
    raise NotImplementedError


def load(tx: Transaction, account: AccountId, selected: Selected) -> View:
    """The view as of `selected.modseq`: messages expunged since still have their place, ones that
    came since are not in it. Flags may be newer; `changes_since` will repeat those.

    Raises:
        NoSuchMailbox: it was deleted meanwhile.
    """
    raise NotImplementedError


def changes_since(
    tx: Transaction, account: AccountId, mailbox: MailboxId, modseq: int, uidnext: int
) -> Changes:
    """What happened after `modseq`, for a session that knew UIDs below `uidnext`.

    Raises:
        NoSuchMailbox: it was deleted meanwhile.
    """
    raise NotImplementedError
