"""UNSUBSCRIBE (RFC 3501 §6.3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Unsubscribe) -> None:
    assert session.principal is not None
    account = session.principal.account
    await session.service.store.submit(lambda tx: names.unsubscribe(tx, account, command.mailbox))
    await session.completed(command, "UNSUBSCRIBE completed")
