"""SUBSCRIBE (RFC 3501 §6.3.6); the mailbox need not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Subscribe) -> None:
    assert session.principal is not None
    account = session.principal.account
    limits = session.service.options.names
    await session.service.store.submit(
        lambda tx: names.subscribe(tx, account, command.mailbox, limits=limits)
    )
    await session.completed(command, "SUBSCRIBE completed")
