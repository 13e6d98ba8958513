"""STORE and UID STORE (RFC 3501 §6.4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.access.imap.flag_texts import split_flags
from posthouse.access.imap.rendering import flag_lines
from posthouse.access.imap.selected import News, SelectedMailbox
from posthouse.mailbox.flags import Action, Stored, store_flags
from posthouse.protocol.imap import events as e
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

SHORT_SPAN: Final = 8
ROWS_MAX: Final = 5_000
"""Taken into the view in one turn (P10)."""
_ACTIONS: Final = {"=": Action.REPLACE, "+": Action.ADD, "-": Action.REMOVE}


class Result(msgspec.Struct, frozen=True):
    stored: Stored
    news: News | None
    """What others did before, when they did anything."""


async def run(session: Session, command: e.Store) -> None:
    box = session.selected
    assert box is not None
    if box.is_readonly:
        session.no(command, "The mailbox is read-only", "CANNOT")
        return
    await session.loaded()
    ranges = box.uid_ranges(command.messages, by_uid=command.by_uid)
    bits, keywords = split_flags(command.flags)
    action = _ACTIONS[command.operation]

    keywords_max = session.service.options.keywords_max

    def unit(tx: Transaction) -> Result:
        stored = store_flags(
            tx,
            box.account,
            box.mailbox,
            ranges,
            action,
            bits,
            keywords,
            keywords_max=keywords_max,
        )
        if stored.modseq <= box.modseq + 1:
            return Result(stored, None)  # nobody else changed anything since the view
        return Result(stored, box.news(tx))

    if ranges:
        # A single message's flags are a few rows by key; a whole mailbox's are not.
        is_short = len(ranges) == 1 and ranges[0][1] - ranges[0][0] < SHORT_SPAN
        result = await session.service.store.submit(unit, is_short=is_short)
        await _take(session, box, result, is_silent=command.is_silent)
        if not command.is_silent:
            await _tell(session, box, box.spans(ranges), with_uid=command.by_uid)
    # Non-UID STORE must not move sequence numbers, and news can wait for a command that may tell
    # all of them: the next STORE looks for itself.
    session.ok(command, "STORE completed")


async def _take(session: Session, box: SelectedMailbox, result: Result, *, is_silent: bool) -> None:
    """Bring the view up to what was written."""
    rows = result.stored.changed
    box_modseq = box.modseq
    for start in range(0, len(rows), ROWS_MAX):
        box.take_flags(rows[start : start + ROWS_MAX], box_modseq)
        if len(rows) > ROWS_MAX:
            await session.drained()
    if result.news is not None:
        await session.tell(result.news, may_expunge=False)
    elif rows:
        box.take_flags((), result.stored.modseq)
    fresh = {word for _, _, keywords, _ in rows if keywords for word in keywords.split(" ")}
    session.send_all(box.know_keywords(sorted(fresh)))


async def _tell(
    session: Session, box: SelectedMailbox, spans: list[tuple[int, int]], *, with_uid: bool
) -> None:
    """The flags of every message of the set, whether they changed or not."""
    lines = 0
    for first, last in spans:
        while first <= last:
            until = min(last, first + ROWS_MAX - 1)
            session.send(flag_lines(box, first, until, with_uid=with_uid))
            lines += until - first + 1
            first = until + 1
            if lines >= ROWS_MAX:
                await session.drained()
                lines = 0
