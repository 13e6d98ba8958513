"""LIST (RFC 3501 §6.3.8) with children (RFC 3348) and special uses (RFC 6154 §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.mailbox import names
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


async def run(session: Session, command: e.List) -> None:
    if not command.pattern:
        session.send(responses.untagged(b'LIST (\\Noselect) "/" ""'))
        await session.completed(command, "LIST completed")
        return
    assert session.principal is not None
    account = session.principal.account
    found = await session.service.store.read(
        lambda tx: names.list_mailboxes(tx, account, command.reference, (command.pattern,))
    )
    for listed in found:
        session.send(b'* LIST (%b) "/" %b\r\n' % (_attributes(listed), _name(listed)))
    await session.completed(command, "LIST completed")


def _name(listed: names.Listed) -> bytes:
    return responses.mailbox(listed.name)


def _attributes(listed: names.Listed) -> bytes:
    words = [b"\\HasChildren" if listed.has_children else b"\\HasNoChildren"]
    if not listed.exists:
        words.append(b"\\Noselect")
    if listed.special_use is not None:
        words.append(listed.special_use.encode("ascii"))
    return b" ".join(words)
