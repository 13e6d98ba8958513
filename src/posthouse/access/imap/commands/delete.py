"""DELETE (RFC 3501 §6.3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Delete) -> None:
    assert session.principal is not None
    account = session.principal.account
    deleted = await session.service.store.submit(
        lambda tx: names.delete(tx, account, command.mailbox)
    )
    if session.selected is not None and session.selected.mailbox == deleted:
        session.unselect()  # it asked for that itself, so no BYE
    await session.completed(command, "DELETE completed")
