"""SEARCH: a tree of keys in, UIDs out (RFC 9051 §6.4.4).

Keys about flags, dates, sizes and UIDs narrow the candidates in SQL; what ENVELOPE keeps is read
from there; only HEADER, BODY and TEXT open messages. Text compares without regard to case, after
charsets and encodings are undone. A search goes on in slices (`Found.next_uid`), each a read of
its own, so that no slice keeps a store thread for long.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.mailbox.flags import UidRanges
from posthouse.store.transaction import Transaction

TEXT_OCTETS_MAX: Final = 1024 * 1024
"""Of one message that BODY and TEXT look at (H37)."""


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
    tx: Transaction, account: AccountId, mailbox: MailboxId, key: Key, *, first_uid: int = 1
) -> Found:
    """One slice of a search, from `first_uid` on; go on at `Found.next_uid`.

    Raises:
        NoSuchMailbox
    """
    raise NotImplementedError
