"""SEARCH and UID SEARCH (RFC 3501 §6.4.4)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from posthouse.access.imap.selected import SelectedMailbox
from posthouse.mailbox import search
from posthouse.mailbox.flags import FLAG_NAMES
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import search_keys as k
from posthouse.protocol.imap.search_keys import Relation

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

BISECTED_MAX: Final = 2_000
"""More results than that are numbered through a table of the whole mailbox."""
_BITS: Final = {name.encode("ascii"): bit for bit, name in FLAG_NAMES.items()}


async def run(session: Session, command: e.Search) -> None:
    box = session.selected
    assert box is not None
    await session.sync(may_expunge=command.by_uid)
    view = await session.loaded()
    key = translated(command.key, box)
    uids: list[int] = []
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
        uids += found.uids
        unreadable += found.unreadable
        first_uid = found.next_uid
    if len(uids) > BISECTED_MAX:
        numbers = dict(zip(view.uids, range(1, len(view) + 1)))
        pairs = [(uid, numbers[uid]) for uid in uids if uid in numbers]
    else:
        pairs = [(uid, number) for uid in uids if (number := view.seq(uid))]
    shown = [str(uid if command.by_uid else number) for uid, number in pairs]
    session.send(" ".join(["* SEARCH", *shown]).encode("ascii") + b"\r\n")
    if unreadable:
        session.service.observer.noted("imap.damaged", session.stream.trace_id, messages=unreadable)
    await session.completed(command, "SEARCH completed", may_expunge=command.by_uid)


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
