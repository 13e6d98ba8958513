"""Flags and keywords, and STORE (RFC 9051 §2.3.2, §6.4.6; RFC 7162 §3.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq
from posthouse.store.transaction import Transaction

SEEN: Final = 1
ANSWERED: Final = 2
FLAGGED: Final = 4
DELETED: Final = 8
DRAFT: Final = 16
SYSTEM_FLAGS: Final = 31
HAS_KEYWORDS: Final = 32
"""Only in a `View`'s flags: `View.keywords` has more."""

FLAG_NAMES: Final = {
    SEEN: "\\Seen",
    ANSWERED: "\\Answered",
    FLAGGED: "\\Flagged",
    DELETED: "\\Deleted",
    DRAFT: "\\Draft",
}

UidRanges = Sequence[tuple[int, int]]
"""Both ends included, rising, not overlapping (`normalised` makes them so). UIDs without a
message are passed over."""

EVERYTHING: Final = ((1, 4_294_967_295),)

EntryRow = tuple[int, int, str, int]
"""UID, flags, keywords divided by blanks, MODSEQ; as SQL returned it."""


class Action(Enum):
    ADD = auto()
    REMOVE = auto()
    REPLACE = auto()


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a STORE did."""

    changed: list[EntryRow]
    """Those that are different now, by UID. Others of the set had these flags already: what a
    view says about them holds."""
    modified: list[int]
    """UIDs left alone because of UNCHANGEDSINCE (RFC 7162 §3.1.3 MODIFIED), rising."""
    modseq: ModSeq
    """That of the changes, or of the mailbox when there are none."""


def normalised(ranges: UidRanges) -> tuple[tuple[int, int], ...]:
    """Sorted, overlapping and neighbouring ranges joined."""
    raise NotImplementedError


def store_flags(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    ranges: UidRanges,
    action: Action,
    flags: int,
    keywords: Sequence[str] = (),
    *,
    unchanged_since: int | None = None,
) -> Stored:
    """Add, remove or replace flags and keywords of a set of messages, set-wise.

    Keywords are compared without regard to case and kept as this mailbox first spelled them.

    Raises:
        NoSuchMailbox, KeywordRefused
        LimitReached: more than `imap.keywords_max` different keywords in this mailbox.
    """
    raise NotImplementedError
