"""RENAME (RFC 3501 §6.3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Rename) -> None:
    assert session.principal is not None
    account = session.principal.account
    limits = session.service.options.names
    await session.service.store.submit(
        lambda tx: names.rename(tx, account, command.mailbox, command.to, limits=limits)
    )
    await session.completed(command, "RENAME completed")
