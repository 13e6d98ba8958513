"""Flags and keywords, and STORE (RFC 9051 §2.3.2, §6.4.6; RFC 7162 §3.1.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq
from posthouse.mailbox.errors import KeywordRefused, LimitReached, NoSuchMailbox
from posthouse.store import mail
from posthouse.store import mail_entries as entries
from posthouse.store.transaction import AccountChanged, Transaction

KEYWORDS_MAX: Final = 500
"""`imap.keywords_max`: different ones in a mailbox."""
KEYWORD_OCTETS_MAX: Final = 255
MODSEQ_MAX: Final = 2**63 - 1  # RFC 7162 §1: 63 bits
_KEYWORD: Final = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")  # an atom, RFC 9051 §9

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
    """Sorted, overlapping and neighbouring ranges joined, empty ones dropped."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if last < first:
            continue
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def spelled(
    keywords: Sequence[str], known: str, *, keywords_max: int = KEYWORDS_MAX
) -> tuple[list[str], str]:
    """Keywords as a mailbox spells them, each once, and what the mailbox knows then.

    Args:
        known: `mailbox.keywords`, divided by blanks.

    Raises:
        KeywordRefused: not an atom, or too long.
        LimitReached: the mailbox would know more than `keywords_max`.
    """
    spellings = {word.lower(): word for word in known.split()}
    before = len(spellings)
    found: dict[str, None] = {}
    for keyword in keywords:
        if len(keyword) > KEYWORD_OCTETS_MAX or _KEYWORD.fullmatch(keyword) is None:
            raise KeywordRefused("that is not a keyword")
        found[spellings.setdefault(keyword.lower(), keyword)] = None
    if len(spellings) > max(keywords_max, before):
        raise LimitReached(
            "too many different keywords in this mailbox",
            setting="imap.keywords_max",
            limit=keywords_max,
        )
    return list(found), " ".join(spellings.values())


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
    keywords_max: int = KEYWORDS_MAX,
) -> Stored:
    """Add, remove or replace flags and keywords of a set of messages, set-wise.

    Keywords are compared without regard to case and kept as this mailbox first spelled them. All
    that one call changes has one MODSEQ.

    Raises:
        NoSuchMailbox, KeywordRefused
        LimitReached: more than `imap.keywords_max` different keywords in this mailbox.
    """
    row = mail.mailbox_by_id(tx, account, mailbox)
    if row is None:
        raise NoSuchMailbox("there is no such mailbox")
    ranges = normalised(ranges)
    words, known = spelled(keywords, row.keywords, keywords_max=keywords_max)
    if known != row.keywords and action is not Action.REMOVE:
        mail.set_mailbox_keywords(tx, mailbox, known)
    flags &= SYSTEM_FLAGS
    ceiling = MODSEQ_MAX if unchanged_since is None else unchanged_since
    modified = (
        []
        if unchanged_since is None
        else entries.changed_after(tx, mailbox, ranges, modseq=unchanged_since)
    )
    modseq = mail.next_modseq(tx, account)
    assert modseq is not None  # the mailbox has an account
    is_about_seen = bool(flags & SEEN) or action is Action.REPLACE
    before = entries.count_unseen(tx, mailbox, ranges) if is_about_seen else 0
    if action is Action.REPLACE:
        entries.replace_flags(
            tx,
            mailbox,
            ranges,
            flags,
            " ".join(words),
            modseq=modseq,
            unchanged_since=ceiling,
        )
    else:
        _alter(tx, mailbox, ranges, action, flags, words, modseq, ceiling)
    changed = entries.with_modseq(tx, mailbox, modseq)
    if not changed:
        return Stored(changed=[], modified=modified, modseq=ModSeq(row.modseq))
    after = entries.count_unseen(tx, mailbox, ranges) if is_about_seen else 0
    mail.shrink(tx, mailbox, modseq=modseq, unseen=before - after)
    tx.changed(AccountChanged(account))
    return Stored(changed=changed, modified=modified, modseq=ModSeq(modseq))


def _alter(
    tx: Transaction,
    mailbox: MailboxId,
    ranges: UidRanges,
    action: Action,
    flags: int,
    keywords: Sequence[str],
    modseq: int,
    ceiling: int,
) -> None:
    is_add = action is Action.ADD
    alter_flags = entries.add_flags if is_add else entries.remove_flags
    alter_keyword = entries.add_keyword if is_add else entries.remove_keyword
    if flags:
        alter_flags(tx, mailbox, ranges, flags, modseq=modseq, unchanged_since=ceiling)
    for keyword in keywords:
        alter_keyword(tx, mailbox, ranges, keyword, modseq=modseq, unchanged_since=ceiling)
