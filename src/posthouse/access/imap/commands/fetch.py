"""FETCH and UID FETCH (RFC 3501 §6.4.5).

Three ways, from cheap to dear: flags and UIDs come from the session's own bytes; what is stored
ready to send is joined by the database; only sections open messages. Each goes in chunks, with the
client's reading and other sessions' turns between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.access.imap.rendering import Wanted, flag_lines, read_batch
from posthouse.access.imap.selected import News, Ranges, SelectedMailbox
from posthouse.kernel.errors import Fault
from posthouse.mailbox import fetch
from posthouse.mailbox.fetch import Chunk, Item
from posthouse.mailbox.flags import SEEN, Action, store_flags
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.protocol.imap.fetch_items import Attribute, FetchItem, Section
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

FLAG_LINES_MAX: Final = 8_000
"""Of one turn: about 4 ms."""
WRITE_OCTETS_MAX: Final = 256 * 1024
"""Larger pieces are not put together with others."""
CHUNK_MIN: Final = 64
CHUNK_MAX: Final = 2_000
CHUNKS_MAX: Final = 200
"""Ranges answered by one read."""
CHUNK_OCTETS: Final = 512 * 1024
"""A read that gave more makes the next one smaller."""
OPENED_MAX: Final = 200
"""Messages opened by one read."""

_ITEMS: Final = {
    Attribute.INTERNALDATE: Item.INTERNALDATE,
    Attribute.SIZE: Item.SIZE,
    Attribute.ENVELOPE: Item.ENVELOPE,
    Attribute.BODYSTRUCTURE: Item.BODYSTRUCTURE,
}
_OWN: Final = frozenset((Attribute.FLAGS, Attribute.UID))


class Outcome:
    """What went wrong with single messages while the others were served."""

    __slots__ = ("damaged", "missing")

    def __init__(self) -> None:
        self.missing = 0
        self.damaged = 0


async def run(session: Session, command: e.Fetch) -> None:
    box = session.selected
    assert box is not None
    await session.sync(may_expunge=command.by_uid)
    await session.loaded()
    ranges = box.uid_ranges(command.messages, by_uid=command.by_uid)
    items = dict.fromkeys(command.items)
    if command.by_uid:
        items = {Attribute.UID: None, **items}  # RFC 3501 §6.4.8
    outcome = Outcome()
    if items.keys() <= _OWN:
        await _own(session, box, ranges, items)
    elif all(item in _ITEMS or item in _OWN for item in items):
        await _stored(session, box, ranges, items, outcome)
    else:
        await _opened(session, box, ranges, items, outcome)
    await _finish(session, command, outcome)


async def _finish(session: Session, command: e.Fetch, outcome: Outcome) -> None:
    if outcome.damaged:
        session.service.observer.noted(
            "imap.damaged", session.stream.trace_id, messages=outcome.damaged
        )
        session.no(command, "Some messages cannot be read", responses.SERVERBUG)  # F10
    elif outcome.missing:
        session.ok(command, "Some messages are gone", "EXPUNGEISSUED")  # RFC 5530 §3
    else:
        await session.completed(command, "FETCH completed", may_expunge=command.by_uid)


# --- from the view ---


async def _own(
    session: Session, box: SelectedMailbox, ranges: Ranges, items: dict[FetchItem, None]
) -> None:
    with_uid = Attribute.UID in items
    lines = 0
    for first, last in box.spans(ranges):
        while first <= last:
            until = min(last, first + FLAG_LINES_MAX - lines - 1)
            if Attribute.FLAGS in items:
                session.send(flag_lines(box, first, until, with_uid=with_uid))
            else:
                session.send(_uid_lines(box, first, until))
            lines += until - first + 1
            first = until + 1
            if lines >= FLAG_LINES_MAX:
                await session.drained()
                lines = 0


def _uid_lines(box: SelectedMailbox, first: int, last: int) -> bytes:
    assert box.view is not None
    uids = box.view.uids[first - 1 : last]
    return "".join(
        [f"* {number} FETCH (UID {uid})\r\n" for number, uid in enumerate(uids, first)]
    ).encode("ascii")


# --- from the store, ready made ---


async def _stored(
    session: Session,
    box: SelectedMailbox,
    ranges: Ranges,
    items: dict[FetchItem, None],
    outcome: Outcome,
) -> None:
    stored = tuple(_ITEMS[item] for item in items if isinstance(item, Attribute) and item in _ITEMS)
    recent_uid = box.recent_from()
    own: tuple[Item, ...] = ()
    if Attribute.UID in items:
        own += (Item.UID,)
    if Attribute.FLAGS in items and recent_uid is not None:
        own += (Item.FLAGS,)
    is_exact = Attribute.FLAGS not in items or recent_uid is not None
    pieces = _Pieces(box, ranges)
    size = CHUNK_MIN * 4
    while chunks := pieces.take(size):
        if is_exact:
            unit = partial(
                _joined_lines,
                box=box,
                chunks=chunks,
                items=own + stored,
                recent_uid=recent_uid,
            )
            octets = await session.service.store.read(unit)
        else:
            octets = None
        if octets is None:
            octets = await _line_by_line(session, box, chunks, items, stored, outcome)
        session.send(octets)
        await session.drained()
        if len(octets) > 2 * CHUNK_OCTETS:
            size = max(CHUNK_MIN, size // 4)
        elif len(octets) < CHUNK_OCTETS:
            size = min(CHUNK_MAX, size * 2)


def _joined_lines(
    tx: Transaction,
    box: SelectedMailbox,
    chunks: list[Chunk],
    items: tuple[Item, ...],
    recent_uid: int | None,
) -> bytes | None:
    """None when any message of the chunks is gone."""
    assert recent_uid is not None or Item.FLAGS not in items
    out: list[bytes] = []
    for chunk in chunks:
        lines = fetch.lines(
            tx, box.account, box.mailbox, chunk, items, recent_uid=recent_uid or 2**32
        )
        if lines is None:
            return None
        out.append(lines)
    return b"".join(out)


async def _line_by_line(
    session: Session,
    box: SelectedMailbox,
    chunks: list[Chunk],
    items: dict[FetchItem, None],
    stored: tuple[Item, ...],
    outcome: Outcome,
) -> bytes:
    """Where messages are missing or \\Recent is not a simple matter."""

    def unit(tx: Transaction) -> list[list[tuple[int, bytes]]]:
        return [fetch.parts(tx, box.account, box.mailbox, chunk, stored) for chunk in chunks]

    out: list[bytes] = []
    for chunk, parts in zip(chunks, await session.service.store.read(unit)):
        outcome.missing += chunk.messages - len(parts)
        for uid, octets in parts:
            out += _line(box, uid, items, [octets])
    return b"".join(out)


async def _send(session: Session, pieces: list[bytes]) -> None:
    """Small pieces join the group of replies, large ones wait for the client between slices."""
    for piece in pieces:
        if len(piece) > WRITE_OCTETS_MAX:
            await session.send_large(piece)
        else:
            session.send(piece)


def _line(
    box: SelectedMailbox, uid: int, items: dict[FetchItem, None], rest: list[bytes]
) -> list[bytes]:
    """One FETCH response in pieces: UID and FLAGS as the session knows them, then the rest."""
    assert box.view is not None
    number = box.view.seq(uid)
    words: list[bytes] = []
    if Attribute.UID in items:
        words.append(b"UID %d" % uid)
    if Attribute.FLAGS in items:
        words.append(b"FLAGS " + box.flags_of(number, uid))
    head = b"* %d FETCH (%b" % (number, b" ".join(words))
    return [head + b" " if words and rest else head, *rest, b")\r\n"]


class _Pieces:
    """Cuts UID ranges into chunks of messages that follow each other in the view."""

    __slots__ = ("_at", "_box", "_spans")

    def __init__(self, box: SelectedMailbox, ranges: Ranges) -> None:
        self._box = box
        self._spans: Iterator[tuple[int, int]] = iter(box.spans(ranges))
        self._at: tuple[int, int] | None = next(self._spans, None)

    def take(self, messages: int) -> list[Chunk]:
        """Chunks of so many messages together; empty at the end."""
        assert self._box.view is not None
        uids = self._box.view.uids
        out: list[Chunk] = []
        while self._at is not None and messages > 0 and len(out) < CHUNKS_MAX:
            first, last = self._at
            until = min(last, first + messages - 1)
            out.append(Chunk(first, until - first + 1, uids[first - 1], uids[until - 1]))
            messages -= until - first + 1
            self._at = (until + 1, last) if until < last else next(self._spans, None)
        return out


# --- by opening messages ---


async def _opened(
    session: Session,
    box: SelectedMailbox,
    ranges: Ranges,
    items: dict[FetchItem, None],
    outcome: Outcome,
) -> None:
    wanted = Wanted(
        items=tuple(
            _ITEMS[item] for item in items if isinstance(item, Attribute) and item in _ITEMS
        ),
        sections=tuple(item for item in items if isinstance(item, Section)),
        with_body=Attribute.BODY in items,
    )
    is_reading = not box.is_readonly and any(not section.is_peek for section in wanted.sections)
    assert box.view is not None
    for first, last in box.spans(ranges):
        while first <= last:
            uids = box.view.uids[first - 1 : min(last, first + OPENED_MAX - 1)].tolist()
            unit = partial(read_batch, box=box, uids=uids, wanted=wanted)
            batch = await session.service.store.read(unit)
            if batch.opened is not None:
                session.keep_opened(*batch.opened)
            else:
                session.forget_opened()
            first += batch.taken
            outcome.missing += batch.taken - len(batch.messages)
            shown: list[int] = []
            for message in batch.messages:
                if message.pieces is None:
                    outcome.damaged += 1
                    continue
                await _send(session, _line(box, message.uid, items, message.pieces))
                shown.append(message.uid)
            if is_reading:
                await _mark_seen(session, box, shown)
            await session.drained()


async def _mark_seen(session: Session, box: SelectedMailbox, uids: list[int]) -> None:
    """Set \\Seen on what was shown, and tell it (RFC 3501 §6.4.5). Mail can be read while nothing
    can be written (F3, F4), so a fault is only noted."""
    view = box.view
    assert view is not None
    unseen = [uid for uid in uids if not view.flags[view.seq(uid) - 1] & SEEN]
    if not unseen:
        return
    session.flush()

    def unit(tx: Transaction) -> News:
        ranges = tuple((uid, uid) for uid in unseen)
        store_flags(tx, box.account, box.mailbox, ranges, Action.ADD, SEEN)
        return box.news(tx)

    try:
        news = await session.service.store.submit(unit)
    except Fault as fault:
        session.fault(fault)
    else:
        await session.tell(news, may_expunge=False)
