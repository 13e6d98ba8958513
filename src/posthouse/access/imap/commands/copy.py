"""COPY and UID COPY (RFC 3501 §6.4.7), with COPYUID (RFC 4315 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import copy
from posthouse.mailbox.copy import Copied
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.protocol.imap.grammar import compact_set

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Copy) -> None:
    box = session.selected
    assert box is not None
    await session.loaded()
    ranges = box.uid_ranges(command.messages, by_uid=command.by_uid)
    keywords_max = session.service.options.keywords_max
    try:
        copied = await session.service.store.submit(
            lambda tx: copy.copy(
                tx, box.account, box.mailbox, ranges, command.mailbox, keywords_max=keywords_max
            )
        )
    except NoSuchMailbox:
        session.no(command, "There is no such mailbox", responses.TRYCREATE)
        return
    await session.completed(command, "COPY completed", copyuid(copied), may_expunge=command.by_uid)


def copyuid(copied: Copied) -> bytes:
    """The response code, empty when nothing was copied."""
    count = len(copied.source_uids)
    if not count:
        return b""
    new = range(copied.first_uid, copied.first_uid + count)
    return b"COPYUID %d %b %b" % (
        copied.uidvalidity,
        compact_set(copied.source_uids),
        compact_set(new),
    )
