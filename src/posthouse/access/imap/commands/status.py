"""STATUS (RFC 3501 §6.3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Status) -> None:
    assert session.principal is not None
    account = session.principal.account
    status = await session.service.store.read(lambda tx: names.status(tx, account, command.mailbox))
    values = {
        b"MESSAGES": status.messages,
        b"RECENT": status.recent,
        b"UIDNEXT": status.uidnext,
        b"UIDVALIDITY": status.uidvalidity,
        b"UNSEEN": status.unseen,
    }
    shown = b" ".join(b"%b %d" % (item, values[item]) for item in command.items)
    session.send(b"* STATUS %b (%b)\r\n" % (responses.mailbox(command.mailbox), shown))
    await session.completed(command, "STATUS completed")
