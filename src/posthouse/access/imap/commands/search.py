"""SEARCH and UID SEARCH (RFC 3501 §6.4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Final

from posthouse.access.imap.flag_texts import RECENT
from posthouse.access.imap.selected import SelectedMailbox
from posthouse.mailbox import search
from posthouse.mailbox.flags import FLAG_NAMES
from posthouse.mailbox.view import View
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import search_keys as k
from posthouse.protocol.imap.search_keys import Relation

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

RESULTS_MAX: Final = 5_000
"""Turned into text in one turn (P10)."""
MARKED_MAX: Final = 20_000
_BITS: Final = {name.encode("ascii"): bit for bit, name in FLAG_NAMES.items()} | {
    b"\\Recent": RECENT
}


async def run(session: Session, command: e.Search) -> None:
    box = session.selected
    assert box is not None
    await session.sync(may_expunge=command.by_uid)
    view = await session.loaded()
    # Messages that are gone but not told so are in the view; the store knows better.
    marks = None if box.held else flag_marks(command.key)
    if marks is not None:
        shown, unreadable = await _by_flags(box, view, marks, by_uid=command.by_uid), 0
    else:
        shown, unreadable = await _by_store(session, box, view, command)
    session.send(" ".join(["* SEARCH", *shown]).encode("ascii") + b"\r\n")
    if unreadable:
        session.service.observer.noted("imap.damaged", session.stream.trace_id, messages=unreadable)
    await session.completed(command, "SEARCH completed", may_expunge=command.by_uid)


async def _by_store(
    session: Session, box: SelectedMailbox, view: View, command: e.Search
) -> tuple[list[str], int]:
    """Results as text, and how many messages could not be read."""
    key = translated(command.key, box)
    shown: list[str] = []
    unreadable = 0
    first_uid: int | None = 1
    while first_uid is not None:
        slice_of = partial(
            search.search,
            account=box.account,
            mailbox=box.mailbox,
            key=key,
            first_uid=first_uid,
        )
        found = await session.service.store.read(slice_of)
        for start in range(0, len(found.uids), RESULTS_MAX):
            uids = found.uids[start : start + RESULTS_MAX]
            shown += map(str, _results(view, uids, by_uid=command.by_uid))
            await asyncio.sleep(0)
        unreadable += found.unreadable
        first_uid = found.next_uid
    return shown, unreadable


# --- flags alone, from the view ---


def flag_marks(key: k.SearchKey) -> bytes | None:
    """For every combination of flags whether it is meant, to translate a view's bytes with; None
    when the key asks for more than system flags and \\Recent."""
    if not _is_about_flags(key):
        return None
    return bytes(bits < 128 and _means(key, bits) for bits in range(256))


def _is_about_flags(key: k.SearchKey) -> bool:
    match key:
        case k.All():
            return True
        case k.HasFlag():
            return key.flag in _BITS
        case k.Not():
            return _is_about_flags(key.key)
        case k.Or():
            return _is_about_flags(key.left) and _is_about_flags(key.right)
        case k.And():
            return all(map(_is_about_flags, key.keys))
    return False


def _means(key: k.SearchKey, bits: int) -> bool:
    match key:
        case k.HasFlag():
            return bool(bits & _BITS[key.flag]) == key.is_set
        case k.Not():
            return not _means(key.key, bits)
        case k.Or():
            return _means(key.left, bits) or _means(key.right, bits)
        case k.And():
            return all(_means(one, bits) for one in key.keys)
    return True


async def _by_flags(box: SelectedMailbox, view: View, marks: bytes, *, by_uid: bool) -> list[str]:
    shown: list[str] = []
    for start in range(0, len(view), MARKED_MAX):
        end = min(start + MARKED_MAX, len(view))
        found = box.shown_bits(start + 1, end).translate(marks)
        names = view.uids[start:end] if by_uid else range(start + 1, end + 1)
        shown += map(str, compress(names, found))
        await asyncio.sleep(0)
    return shown


# --- everything else, from the store ---


def _results(view: View, uids: list[int], *, by_uid: bool) -> Iterable[int]:
    """Rising UIDs as the client is told them; messages it does not know of are left out."""
    first, last = view.seq_span(uids[0], uids[-1])
    if last - first + 1 == len(uids):  # all of a stretch, the common case of large results
        known = view.uids[first - 1 : last]
        if known.tolist() == uids:
            return uids if by_uid else range(first, last + 1)
    numbered = ((uid, view.seq(uid)) for uid in uids)
    return [uid if by_uid else number for uid, number in numbered if number]


def translated(key: k.SearchKey, box: SelectedMailbox) -> search.Key:
    """A client's key as the mailbox understands it: sets become UIDs. Depth is bounded by the
    grammar."""
    match key:
        case k.All():
            return search.All()
        case k.HasFlag():
            found = _flag(key.flag, box)
            return found if key.is_set else search.Not(found)
        case k.InSet():
            return search.Uids(box.uid_ranges(key.messages, by_uid=key.by_uid))
        case k.Field():
            return search.Header(key.name.decode("latin-1"), key.text)
        case k.Contains():
            return search.Text(key.text) if key.with_header else search.Body(key.text)
        case k.Received():
            return _dated(search.Before, search.Since, key.relation, key.day)
        case k.Sent():
            return _dated(search.SentBefore, search.SentSince, key.relation, key.day)
        case k.Size():
            if key.relation is Relation.ABOVE:
                return search.Larger(key.octets)
            return search.Smaller(key.octets)
        case k.Not():
            return search.Not(translated(key.key, box))
        case k.Or():
            return search.Or((translated(key.left, box), translated(key.right, box)))
        case k.And():
            return search.And(tuple(translated(one, box) for one in key.keys))


def _flag(flag: bytes, box: SelectedMailbox) -> search.Key:
    if flag == b"\\Recent":
        return search.Uids(box.recent_uids)
    if (bit := _BITS.get(flag)) is not None:
        return search.Flag(bit)
    return search.Keyword(flag.decode("ascii"))


def _dated(
    before: type[search.Before] | type[search.SentBefore],
    since: type[search.Since] | type[search.SentSince],
    relation: Relation,
    day: int,
) -> search.Key:
    if relation is Relation.BELOW:
        return before(day)
    if relation is Relation.FROM:
        return since(day)
    return search.And((since(day), before(day + 1)))
