"""MOVE and UID MOVE (RFC 6851 §3.1, §3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.access.imap.commands.copy import copyuid
from posthouse.access.imap.selected import News
from posthouse.mailbox import copy
from posthouse.mailbox.copy import Copied
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Move) -> None:
    box = session.selected
    assert box is not None
    if box.is_readonly:
        session.no(command, "The mailbox is read-only", "CANNOT")
        return
    await session.loaded()
    ranges = box.uid_ranges(command.messages, by_uid=command.by_uid)
    keywords_max = session.service.options.keywords_max

    def unit(tx: Transaction) -> tuple[Copied, News]:
        copied = copy.move(
            tx, box.account, box.mailbox, ranges, command.mailbox, keywords_max=keywords_max
        )
        return copied, box.news(tx)

    try:
        copied, news = await session.service.store.submit(unit)
    except NoSuchMailbox:
        session.no(command, "There is no such mailbox", responses.TRYCREATE)
        return
    if code := copyuid(copied):
        session.send(responses.ok(b"*", "Messages moved", code))  # RFC 6851 §4.3
    await session.tell(news, may_expunge=True)
    await session.completed(command, "MOVE completed")
