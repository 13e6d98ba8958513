"""SEARCH: a tree of keys in, UIDs out (RFC 9051 §6.4.4).

Keys about flags, dates, sizes and UIDs narrow the candidates in SQL; what ENVELOPE keeps is read
from there; only HEADER, BODY and TEXT open messages. Text compares without regard to case, after
charsets and encodings are undone. A search goes on in slices (`Found.next_uid`), each a read of
its own, so that no slice keeps a store thread for long.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final, assert_never

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.mailbox.candidate import ENVELOPE_FIELDS, TEXT_OCTETS_MAX, Budget, Candidate
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.mailbox.flags import UidRanges, normalised
from posthouse.store import mail
from posthouse.store import mail_search as rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.mail_search import Where
from posthouse.store.transaction import Transaction

ROWS_MAX: Final = 2_000
"""Candidates of one slice when only stored values are read."""
ROWS_OPENED_MAX: Final = 200
"""And when messages have to be opened."""
SLICE_OCTETS_MAX: Final = 16 * 1024 * 1024
"""Of messages opened in one slice; the last one may go over it."""
RANGES_IN_SQL_MAX: Final = 50
MENTIONS_MAX: Final = 2
_PLAIN_RUN: Final = re.compile(r"[a-z0-9._-]+")


class All(msgspec.Struct, frozen=True):
    """Every message; also what `And(())` means."""


class Flag(msgspec.Struct, frozen=True):
    """All of these bits of `mailbox.flags` are set (SEEN, DELETED, …)."""

    flags: int


class Keyword(msgspec.Struct, frozen=True):
    keyword: str


class Uids(msgspec.Struct, frozen=True):
    """UID sets, and sequence sets that the session has turned into UIDs."""

    ranges: UidRanges


class Before(msgspec.Struct, frozen=True):
    """INTERNALDATE in UTC is earlier than this day (days since 1970)."""

    day: int


class Since(msgspec.Struct, frozen=True):
    """INTERNALDATE in UTC is this day or later. ON is And((Since(d), Before(d + 1)))."""

    day: int


class SentBefore(msgspec.Struct, frozen=True):
    """The date written in the Date field, whatever its time and zone."""

    day: int


class SentSince(msgspec.Struct, frozen=True):
    day: int


class Larger(msgspec.Struct, frozen=True):
    octets: int


class Smaller(msgspec.Struct, frozen=True):
    octets: int


class ModifiedSince(msgspec.Struct, frozen=True):
    """MODSEQ n (RFC 7162 §3.1.5): n or higher."""

    modseq: int


class Header(msgspec.Struct, frozen=True):
    """A header field of that name contains the text; an empty text asks for the field only.
    FROM, TO, CC, BCC and SUBJECT are Header("From", …) and so on."""

    name: str
    text: str


class Body(msgspec.Struct, frozen=True):
    text: str


class Text(msgspec.Struct, frozen=True):
    """In the header section or the body."""

    text: str


class And(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...]


class Or(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...]


class Not(msgspec.Struct, frozen=True):
    key: Key


Key = (
    All
    | Flag
    | Keyword
    | Uids
    | Before
    | Since
    | SentBefore
    | SentSince
    | Larger
    | Smaller
    | ModifiedSince
    | Header
    | Body
    | Text
    | And
    | Or
    | Not
)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of an answer."""

    uids: list[int]
    """Rising."""
    next_uid: int | None
    """Where the next slice begins; None at the end."""
    unreadable: int = 0
    """Messages passed over because their octets are damaged (F10)."""


def search(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    key: Key,
    *,
    first_uid: int = 1,
    text_octets_max: int = TEXT_OCTETS_MAX,
) -> Found:
    """One slice of a search, from `first_uid` on; go on at `Found.next_uid`.

    Raises:
        NoSuchMailbox
    """
    if not mail.owns(tx, account, mailbox):
        raise NoSuchMailbox("there is no such mailbox")
    where, is_exact = proposal(key)
    if is_exact:
        return Found(uids=rows.uids(tx, mailbox, where, first_uid=first_uid), next_uid=None)
    key = _cheapest_first(key)
    rows_max = ROWS_OPENED_MAX if _cost(key) >= _OPENS else ROWS_MAX
    found = rows.candidates(tx, mailbox, where, first_uid=first_uid, rows_max=rows_max)
    budget = Budget(SLICE_OCTETS_MAX, text_octets_max)
    uids: list[int] = []
    unreadable = 0
    for row in found:
        if budget.octets_left <= 0:
            return Found(uids=uids, next_uid=row[0], unreadable=unreadable)
        try:
            if _matches(key, Candidate(tx, row, budget)):
                uids.append(row[0])
        except BlobDamaged:
            unreadable += 1
    is_last = len(found) < rows_max
    return Found(uids=uids, next_uid=None if is_last else found[-1][0] + 1, unreadable=unreadable)


def proposal(key: Key) -> tuple[Where, bool]:
    """A condition in SQL that everything `key` finds meets, and whether it decides alone.

    What it cannot narrow it leaves open. A full-text index would name its candidates for Body and
    Text here.
    """
    match key:
        case And(keys=keys):
            parts = [proposal(inner) for inner in keys]
            return rows.all_of([where for where, _ in parts]), all(exact for _, exact in parts)
        case Or(keys=keys):
            parts = [proposal(inner) for inner in keys]
            return rows.any_of([where for where, _ in parts]), all(exact for _, exact in parts)
        case Not(key=inner):
            where, is_exact = proposal(inner)
            return (rows.negated(where), True) if is_exact else (rows.EVERYTHING, False)
        case Header(name=name, text=text) if name.lower() in ENVELOPE_FIELDS and text:
            return _mentions(text), False
        case Header() | Body() | Text():
            return rows.EVERYTHING, False
        case Uids(ranges=ranges) if len(ranges) > RANGES_IN_SQL_MAX:
            first = min(first for first, _ in ranges)
            return rows.uid_between(first, max(last for _, last in ranges)), False
        case _:
            return _exact(key), True


def _exact(
    key: All
    | Flag
    | Keyword
    | Uids
    | Before
    | Since
    | SentBefore
    | SentSince
    | Larger
    | Smaller
    | ModifiedSince,
) -> Where:
    match key:
        case All():
            return rows.EVERYTHING
        case Flag(flags=flags):
            return rows.has_flags(flags)
        case Keyword(keyword=keyword):
            return rows.has_keyword(keyword)
        case Uids(ranges=ranges):
            return rows.any_of([rows.uid_between(first, last) for first, last in ranges])
        case Before(day=day):
            return rows.received_before(day)
        case Since(day=day):
            return rows.negated(rows.received_before(day))
        case SentBefore(day=day):
            return rows.sent_before(day)
        case SentSince(day=day):
            return rows.sent_since(day)
        case Larger(octets=octets):
            return rows.larger(octets)
        case Smaller(octets=octets):
            return rows.smaller(octets)
        case ModifiedSince(modseq=modseq):
            return rows.modseq_from(modseq)
        case _:
            assert_never(key)


def _mentions(text: str) -> Where:
    """ENVELOPE divides addresses and escapes quotes, so only the plain runs of the text are sure
    to stand in it; the longest are asked for."""
    words = sorted(set(_PLAIN_RUN.findall(text.lower())), key=len, reverse=True)
    return rows.all_of([rows.envelope_mentions(word) for word in words[:MENTIONS_MAX]])


# --- judging one message; the depth of nesting is bounded by the parser (`imap.depth_max`) ---

_READS: Final = 1
_OPENS: Final = 2
_SCANS: Final = 3


def _cost(key: Key) -> int:
    match key:
        case And(keys=keys) | Or(keys=keys):
            return max(map(_cost, keys), default=0)
        case Not(key=inner):
            return _cost(inner)
        case Header(name=name, text=text):
            return _READS if name.lower() in ENVELOPE_FIELDS and text else _OPENS
        case Body() | Text():
            return _SCANS
        case _:
            return 0


def _cheapest_first(key: Key) -> Key:
    match key:
        case And(keys=keys):
            return And(tuple(sorted(map(_cheapest_first, keys), key=_cost)))
        case Or(keys=keys):
            return Or(tuple(sorted(map(_cheapest_first, keys), key=_cost)))
        case Not(key=inner):
            return Not(_cheapest_first(inner))
        case Uids(ranges=ranges):
            return Uids(normalised(ranges))
        case _:
            return key


def _matches(key: Key, message: Candidate) -> bool:
    match key:
        case And(keys=keys):
            return all(_matches(inner, message) for inner in keys)
        case Or(keys=keys):
            return any(_matches(inner, message) for inner in keys)
        case Not(key=inner):
            return not _matches(inner, message)
        case Header(name=name, text=text):
            return message.has_field(name.lower(), text.casefold())
        case Body(text=text):
            return message.body_contains(text.casefold())
        case Text(text=text):
            wanted = text.casefold()
            return message.header_contains(wanted) or message.body_contains(wanted)
        case Flag(flags=flags):
            return message.flags & flags == flags
        case Keyword(keyword=keyword):
            return keyword.lower() in message.keywords.lower().split()
        case Uids(ranges=ranges):
            at = bisect_right(ranges, message.uid, key=lambda pair: pair[0]) - 1
            return at >= 0 and message.uid <= ranges[at][1]
        case _:
            return _matches_number(key, message)


def _matches_number(
    key: All | Before | Since | SentBefore | SentSince | Larger | Smaller | ModifiedSince,
    message: Candidate,
) -> bool:
    match key:
        case All():
            return True
        case Before(day=day):
            return message.received_at_us < day * rows.DAY_US
        case Since(day=day):
            return message.received_at_us >= day * rows.DAY_US
        case SentBefore(day=day):
            return message.sent_day is not None and message.sent_day < day
        case SentSince(day=day):
            return message.sent_day is not None and message.sent_day >= day
        case Larger(octets=octets):
            return message.size_octets > octets
        case Smaller(octets=octets):
            return message.size_octets < octets
        case ModifiedSince(modseq=modseq):
            return message.modseq >= modseq
        case _:
            assert_never(key)
