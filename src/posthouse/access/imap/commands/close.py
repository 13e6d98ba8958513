"""CLOSE (RFC 3501 §6.4.2): expunges without telling, unless the mailbox is read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import expunge
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Close) -> None:
    box = session.selected
    assert box is not None
    if not box.is_readonly:
        await session.service.store.submit(lambda tx: expunge.expunge(tx, box.account, box.mailbox))
    session.unselect()
    session.ok(command, "CLOSE completed")
