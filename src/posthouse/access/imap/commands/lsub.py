"""LSUB (RFC 3501 §6.3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.Lsub) -> None:
    assert session.principal is not None
    account = session.principal.account
    found = await session.service.store.read(
        lambda tx: names.list_mailboxes(
            tx, account, command.reference, (command.pattern,), only_subscribed=True
        )
    )
    for listed in found:
        # A level that is not subscribed but has subscribed names below it: only "%" shows it.
        if not listed.is_subscribed and "%" not in command.pattern:
            continue
        attributes = b"" if listed.is_subscribed else b"\\Noselect"
        session.send(b'* LSUB (%b) "/" %b\r\n' % (attributes, responses.mailbox(listed.name)))
    await session.completed(command, "LSUB completed")
