"""A session's view of its mailbox, and what it has told its client of it (RFC 3501 §5.2, §7.4.1).

The view is read at the first command that needs it; until then only counters are kept. News come
as `Changes` and are told at once but for expunges, which wait (`held`) for a command that allows
them: sequence numbers must not move under FETCH, STORE and SEARCH.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from posthouse.access.imap.flag_texts import FLAGS, MARK_RECENT, permanent_flags, shown_flags
from posthouse.kernel.errors import PosthouseError
from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid
from posthouse.mailbox import view as views
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.mailbox.flags import EntryRow
from posthouse.mailbox.view import Changes, View
from posthouse.protocol.imap.grammar import STAR, SequenceSet
from posthouse.protocol.imap.responses import flag_list
from posthouse.store.transaction import Transaction

Ranges = tuple[tuple[int, int], ...]
UID_MAX = 4_294_967_295


class SelectedGone(PosthouseError):
    """Somebody deleted the mailbox that this session has open."""


class News(msgspec.Struct, frozen=True):
    """What one read found: the view, when it had to be loaded, and the changes behind it."""

    view: View | None
    changes: Changes


class SelectedMailbox:
    """What SELECT opened."""

    __slots__ = (
        "_recent",
        "_selected",
        "account",
        "held",
        "is_readonly",
        "keywords",
        "mailbox",
        "opened",
        "view",
    )

    def __init__(
        self, account: AccountId, selected: views.Selected, *, is_readonly: bool, recent_uid: Uid
    ) -> None:
        """Args:
        recent_uid: messages from here on, of those there are now, are \\Recent here.
        """
        self.account = account
        self.mailbox: MailboxId = selected.mailbox
        self.is_readonly = is_readonly
        self.keywords: tuple[str, ...] = selected.keywords
        self.view: View | None = None
        self.held: tuple[int, ...] = ()
        """UIDs that are gone and still have their sequence numbers here."""
        self.opened: tuple[int, bytes] | None = None
        """UID and octets of a message that is being read in parts; see `Session.keep_opened`."""
        self._selected = selected
        self._recent: Ranges = ()
        self.claim(recent_uid, selected.uidnext)

    # --- counters ---

    @property
    def exists(self) -> int:
        return self._selected.messages if self.view is None else len(self.view)

    @property
    def uidnext(self) -> int:
        return self._selected.uidnext if self.view is None else self.view.uidnext

    @property
    def modseq(self) -> ModSeq:
        return self._selected.modseq if self.view is None else self.view.modseq

    @property
    def name(self) -> str:
        return self._selected.name

    # --- \Recent ---

    def claim(self, first_uid: int, uidnext: int) -> None:
        """Messages from `first_uid` up to `uidnext` are \\Recent in this session."""
        if first_uid >= uidnext:
            return
        ranges = self._recent
        if ranges and ranges[-1][1] == first_uid - 1:
            self._recent = (*ranges[:-1], (ranges[-1][0], uidnext - 1))
        else:
            self._recent = (*ranges, (first_uid, uidnext - 1))

    @property
    def recent_uids(self) -> Ranges:
        return self._recent

    def recent_from(self) -> int | None:
        """The UID from which on every message is \\Recent; None when no single UID says it."""
        if not self._recent:
            return UID_MAX + 1
        if len(self._recent) == 1 and self._recent[0][1] == self.uidnext - 1:
            return self._recent[0][0]
        return None

    def is_recent(self, uid: int) -> bool:
        return any(low <= uid <= high for low, high in self._recent)

    def recent_count(self) -> int:
        """How many of the messages here are \\Recent; needs the view unless there are none."""
        if not self._recent:
            return 0
        if self.view is None:
            return self._selected.recent
        spans = (self.view.seq_span(low, high) for low, high in self._recent)
        return sum(max(0, last - first + 1) for first, last in spans)

    def shown_bits(self, first: int, last: int) -> bytearray:
        """The view's flags of these sequence numbers, with RECENT where it is shown."""
        view = self.view
        assert view is not None
        flags = view.flags[first - 1 : last]
        for low, high in self._recent:
            start, end = view.seq_span(low, high)
            start, end = max(start, first) - first, min(end, last) - first + 1
            if end > start:
                flags[start:end] = flags[start:end].translate(MARK_RECENT)
        return flags

    # --- news ---

    def load(self, tx: Transaction) -> View:
        """The view, read if it is not here. Give what comes back to `keep`."""
        if self.view is not None:
            return self.view
        try:
            return views.load(tx, self.account, self._selected)
        except NoSuchMailbox as gone:
            raise SelectedGone(str(gone)) from gone

    def keep(self, view: View | None) -> None:
        if self.view is None and view is not None:
            self.view = view

    def news(self, tx: Transaction) -> News:
        """What happened since, as `tell` wants it. Runs on a store thread."""
        try:
            changes = views.changes_since(tx, self.account, self.mailbox, self.modseq, self.uidnext)
        except NoSuchMailbox as gone:
            raise SelectedGone(str(gone)) from gone
        view = self.view
        if view is None and (changes.changed or changes.expunged):
            view = self.load(tx)
        return News(view, changes)

    def tell(self, news: News, *, may_expunge: bool) -> list[bytes]:
        """Take the news in; the untagged responses that tell them, RECENT apart."""
        is_fresh = self.view is None and news.view is not None
        self.keep(news.view)
        changes = news.changes
        if self.view is None:
            return self._count(changes)
        out = self._told_keywords(changes.keywords)
        held = tuple(sorted((*self.held, *changes.expunged)))
        now, self.held = (held, ()) if may_expunge else ((), held)
        if is_fresh:  # the view was read with these changes in it
            different = [row[0] for row in changes.changed]
        else:
            different = self._different(changes.changed)
        told = msgspec.structs.replace(changes, expunged=list(now))
        out += [b"* %d EXPUNGE\r\n" % number for number in self.view.apply(told)]
        if changes.added:
            out.append(b"* %d EXISTS\r\n" % len(self.view))
        if different:
            out += self.flag_responses(different)
        return out

    def tell_held(self) -> list[bytes]:
        """The expunges that waited."""
        if not self.held or self.view is None:
            return []
        held, self.held = self.held, ()
        nothing_else = Changes(
            added=[],
            changed=[],
            expunged=list(held),
            modseq=self.view.modseq,
            uidnext=Uid(self.view.uidnext),
            keywords=self.keywords,
        )
        return [b"* %d EXPUNGE\r\n" % number for number in self.view.apply(nothing_else)]

    def take_flags(self, rows: Sequence[EntryRow], modseq: ModSeq) -> None:
        """Take in what this session itself stored, without telling it."""
        assert self.view is not None
        self.view.apply(
            Changes(
                added=[],
                changed=list(rows),
                expunged=[],
                modseq=modseq,
                uidnext=Uid(self.view.uidnext),
                keywords=self.keywords,
            )
        )

    def _count(self, changes: Changes) -> list[bytes]:
        """New messages move the counters that the view will be read by; nothing else does."""
        out = self._told_keywords(changes.keywords)
        selected = self._selected
        messages = selected.messages + len(changes.added)
        self._selected = msgspec.structs.replace(
            selected, messages=messages, modseq=changes.modseq, uidnext=changes.uidnext
        )
        if changes.added:
            out.append(b"* %d EXISTS\r\n" % messages)
        return out

    def count_recent(self, added: int) -> None:
        """So many of the messages just counted are \\Recent here."""
        if self.view is None:
            recent = self._selected.recent + added
            self._selected = msgspec.structs.replace(self._selected, recent=recent)

    def _different(self, rows: Iterable[EntryRow]) -> list[int]:
        """UIDs of those whose flags are not what the client knows."""
        view = self.view
        assert view is not None
        different: list[int] = []
        for uid, flags, keywords, _ in rows:
            number = view.seq(uid)
            if number and (
                view.flags[number - 1] & FLAGS != flags or view.keywords.get(uid, "") != keywords
            ):
                different.append(uid)
        return different

    def flag_responses(self, uids: Iterable[int], *, with_uid: bool = False) -> list[bytes]:
        """`* n FETCH (FLAGS (...))` as the view has them now."""
        view = self.view
        assert view is not None
        out: list[bytes] = []
        for uid in uids:
            number = view.seq(uid)
            if number:
                shown = self.flags_of(number, uid)
                head = b"UID %d " % uid if with_uid else b""
                out.append(b"* %d FETCH (%bFLAGS %b)\r\n" % (number, head, shown))
        return out

    def flags_of(self, number: int, uid: int) -> bytes:
        """`(\\Seen \\Recent keyword)`."""
        view = self.view
        assert view is not None
        return shown_flags(
            view.flags[number - 1], view.keywords.get(uid, ""), is_recent=self.is_recent(uid)
        )

    # --- keywords ---

    def know_keywords(self, keywords: Iterable[str]) -> list[bytes]:
        """Keywords the mailbox has now; responses that tell them when some are new."""
        return self._told_keywords(tuple(keywords))

    def _told_keywords(self, keywords: tuple[str, ...]) -> list[bytes]:
        known = set(self.keywords)
        fresh = tuple(keyword for keyword in keywords if keyword not in known)
        if not fresh:
            return []
        self.keywords += fresh
        return self.flags_told()

    def flags_told(self) -> list[bytes]:
        """FLAGS and PERMANENTFLAGS (RFC 3501 §7.2.6, §7.1)."""
        names = permanent_flags(self.keywords)
        permanent = () if self.is_readonly else (*names, b"\\*")
        return [
            b"* FLAGS " + flag_list(names) + b"\r\n",
            b"* OK [PERMANENTFLAGS " + flag_list(permanent) + b"] Flags that are kept\r\n",
        ]

    # --- sets ---

    def uid_ranges(self, messages: SequenceSet, *, by_uid: bool) -> Ranges:
        """A client's set as UID ranges, rising and apart. Numbers nobody has are passed over."""
        view = self.view
        assert view is not None
        if by_uid:
            largest = view.uids[-1] if view.uids else 0
            return _joined(messages, largest)
        numbers = _joined(messages, len(view))
        return view.uid_ranges(numbers) if len(view) else ()

    def spans(self, ranges: Ranges) -> list[tuple[int, int]]:
        """Sequence numbers, first and last, of the messages in UID ranges; none empty."""
        view = self.view
        assert view is not None
        found = (view.seq_span(low, high) for low, high in ranges)
        return [(first, last) for first, last in found if last >= first]


def _joined(messages: SequenceSet, largest: int) -> Ranges:
    """Ranges with `*` put in, sorted, overlapping ones joined (RFC 3501 §9 seq-range)."""
    ends = []
    for first, last in messages:
        low, high = (largest if first == STAR else first), (largest if last == STAR else last)
        ends.append((high, low) if low > high else (low, high))
    ends.sort()
    out: list[tuple[int, int]] = []
    for low, high in ends:
        if out and low <= out[-1][1] + 1:
            if high > out[-1][1]:
                out[-1] = (out[-1][0], high)
        elif high > 0:
            out.append((max(low, 1), high))
    return tuple(out)
