"""What a selected session knows of its mailbox: sequence numbers, flags, and what became new.

SELECT reads counters only (`select`). The first command that needs a sequence number loads the
`View`, which shows the mailbox as SELECT announced it; `changes_since` then tells what happened
after, and `View.apply` takes it in once the session may tell its client (RFC 9051 §5.5).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.mailbox.flags import HAS_KEYWORDS, EntryRow, UidRanges, normalised
from posthouse.mailbox.hierarchy import checked_for_lookup
from posthouse.store import mail
from posthouse.store import mail_views as views
from posthouse.store.transaction import Transaction

DROPS_ONE_BY_ONE: Final = 16


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
        uids = self.uids
        at = bisect_left(uids, uid)
        return at + 1 if at < len(uids) and uids[at] == uid else 0

    def seq_span(self, first_uid: int, last_uid: int) -> tuple[int, int]:
        """Sequence numbers (first, last) of the messages with UIDs in a range; last < first when
        there are none."""
        return bisect_left(self.uids, first_uid) + 1, bisect_right(self.uids, last_uid)

    def uid_ranges(self, seq_ranges: UidRanges) -> tuple[tuple[int, int], ...]:
        """UID ranges that cover exactly the messages with these sequence numbers (as far as this
        view goes). Numbers outside 1..len(self) are dropped."""
        uids, count = self.uids, len(self.uids)
        return normalised(
            [
                (uids[max(first, 1) - 1], uids[min(last, count) - 1])
                for first, last in seq_ranges
                if max(first, 1) <= min(last, count)
            ]
        )

    def apply(self, changes: Changes) -> list[int]:
        """Take in what the client is told now.

        Returns:
            The sequence numbers to send EXPUNGE with, in that order (falling, so that each is
            right when it is sent).
        """
        gone = [seq for uid in reversed(changes.expunged) if (seq := self.seq(uid))]
        self._drop(gone)
        for entry in changes.changed:
            if seq := self.seq(entry[0]):
                self._set_flags(seq, entry)
        for entry in changes.added:
            if not self.uids or entry[0] > self.uids[-1]:
                self.uids.append(entry[0])
                self.flags.append(0)
                self._set_flags(len(self.uids), entry)
        self.modseq = changes.modseq
        self.uidnext = changes.uidnext
        return gone

    def _set_flags(self, seq: int, entry: EntryRow) -> None:
        uid, flags, keywords, _ = entry
        if keywords:
            self.flags[seq - 1] = flags | HAS_KEYWORDS
            self.keywords[uid] = keywords
        else:
            self.flags[seq - 1] = flags
            self.keywords.pop(uid, None)

    def _drop(self, gone: list[int]) -> None:
        """Remove messages by sequence number, falling; each run of neighbours in one go, and all
        in one pass when there are many."""
        for seq in gone:
            self.keywords.pop(self.uids[seq - 1], None)
        if len(gone) <= DROPS_ONE_BY_ONE:
            for seq in gone:
                del self.uids[seq - 1]
                del self.flags[seq - 1]
            return
        uids, flags = array("I"), bytearray()
        at = 0
        for seq in reversed(gone):
            uids += self.uids[at : seq - 1]
            flags += self.flags[at : seq - 1]
            at = seq
        self.uids = uids + self.uids[at:]
        self.flags = flags + self.flags[at:]


def select(tx: Transaction, account: AccountId, name: str) -> Selected:
    """Counters of a mailbox, for SELECT, EXAMINE.

    Raises:
        NoSuchMailbox
    """
    row = mail.mailbox_by_name(tx, account, checked_for_lookup(name))
    if row is None:
        raise NoSuchMailbox("there is no such mailbox")
    has_recent = row.recent_uid < row.uidnext
    first_unseen = views.first_unseen_seq(tx, row.id) if row.unseen else 0
    return Selected(
        mailbox=row.id,
        name=row.name,
        uidvalidity=UidValidity(row.uidvalidity),
        uidnext=Uid(row.uidnext),
        modseq=ModSeq(row.modseq),
        messages=row.messages,
        recent=views.count_from(tx, row.id, row.recent_uid) if has_recent else 0,
        recent_uid=Uid(row.recent_uid),
        first_unseen=first_unseen or None,
        keywords=tuple(row.keywords.split()),
    )


def claim_recent(tx: Transaction, account: AccountId, mailbox: MailboxId, uidnext: Uid) -> Uid:
    """SELECT (not EXAMINE) makes what is below `uidnext` \\Recent for this session alone; write
    only when `Selected.recent` is not 0.

    Returns:
        The first UID that is \\Recent for the caller.

    Raises:
        NoSuchMailbox: it was deleted meanwhile.
    """
    recent_uid = views.claim_recent(tx, account, mailbox, uidnext)
    if recent_uid is None:
        raise NoSuchMailbox("there is no such mailbox")
    return Uid(recent_uid)


def load(tx: Transaction, account: AccountId, selected: Selected) -> View:
    """The view as of `selected.modseq`: messages expunged since still have their place, ones that
    came since are not in it. Flags may be newer; `changes_since` will repeat those.

    Raises:
        NoSuchMailbox: it was deleted meanwhile.
    """
    row = mail.mailbox_by_id(tx, account, selected.mailbox)
    if row is None:
        raise NoSuchMailbox("the mailbox was deleted")
    mailbox, uidnext = selected.mailbox, selected.uidnext
    uids, flags = views.uids_and_flags(tx, mailbox, uidnext)
    keywords = dict(views.entries_with_keywords(tx, mailbox, uidnext)) if row.keywords else {}
    if row.modseq > selected.modseq:
        gone = views.tombstones_after(tx, mailbox, selected.modseq, uidnext)
        uids, flags = _with_gone(uids, flags, gone)
    return View(uids, flags, keywords, modseq=selected.modseq, uidnext=uidnext)


def _with_gone(uids: array[int], flags: bytearray, gone: list[int]) -> tuple[array[int], bytearray]:
    """Give expunged messages their places back, without flags."""
    if not gone:
        return uids, flags
    merged = sorted([*zip(uids, flags, strict=True), *((uid, 0) for uid in gone)])
    return array("I", [uid for uid, _ in merged]), bytearray(bits for _, bits in merged)


def changes_since(
    tx: Transaction, account: AccountId, mailbox: MailboxId, modseq: int, uidnext: int
) -> Changes:
    """What happened after `modseq`, for a session that knew UIDs below `uidnext`.

    Raises:
        NoSuchMailbox: it was deleted meanwhile.
    """
    row = mail.mailbox_by_id(tx, account, mailbox)
    if row is None:
        raise NoSuchMailbox("the mailbox was deleted")
    found: list[EntryRow] = []
    gone: list[int] = []
    if row.modseq > modseq:
        found = views.entries_after(tx, mailbox, modseq)
        gone = views.tombstones_after(tx, mailbox, modseq, uidnext)
    border = bisect_left(found, uidnext, key=lambda entry: entry[0])
    return Changes(
        added=found[border:],
        changed=found[:border],
        expunged=gone,
        modseq=ModSeq(max(row.modseq, modseq)),
        uidnext=Uid(row.uidnext),
        keywords=tuple(row.keywords.split()),
    )
