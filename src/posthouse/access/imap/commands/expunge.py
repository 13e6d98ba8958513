"""EXPUNGE (RFC 3501 §6.4.3) and UID EXPUNGE (RFC 4315 §2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.access.imap.selected import News
from posthouse.mailbox import expunge
from posthouse.mailbox.flags import EVERYTHING
from posthouse.protocol.imap import events as e
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Expunge) -> None:
    box = session.selected
    assert box is not None
    if box.is_readonly:
        session.no(command, "The mailbox is read-only", "CANNOT")
        return
    view = await session.loaded()
    ranges = EVERYTHING if command.uids is None else box.uid_ranges(command.uids, by_uid=True)

    def unit(tx: Transaction) -> News:
        expunge.expunge(tx, box.account, box.mailbox, ranges)
        return box.news(tx)

    if len(view) and ranges:
        await session.tell(await session.service.store.submit(unit), may_expunge=True)
    await session.completed(command, "EXPUNGE completed")
