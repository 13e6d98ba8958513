"""APPEND (RFC 3501 §6.3.11), with APPENDUID (RFC 4315 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.access.imap.flag_texts import split_flags
from posthouse.access.imap.selected import News
from posthouse.gateway.at_rest import CannotSeal
from posthouse.mailbox import quota
from posthouse.mailbox.append import Appended, NewMessage, append, prepare
from posthouse.mailbox.errors import MailboxError, NoSuchMailbox
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

SHORT_OCTETS: Final = 16 * 1024
"""Up to here appending one message is a short unit of work."""
AT_ONCE_OCTETS_MAX: Final = 128 * 1024
"""Larger messages are looked at by a worker, as that takes more than a moment (P10)."""


class Result(msgspec.Struct, frozen=True):
    appended: Appended
    news: News | None
    """When the mailbox is the selected one."""


async def offered(session: Session, command: e.AppendOffered) -> None:
    """A large message is announced: is there room, before it travels (H51)."""
    assert session.principal is not None
    account = session.principal.account
    try:
        await session.service.store.read(lambda tx: quota.check(tx, account, command.octets))
    except MailboxError as refused:
        session.refuse_literal("There is no room for this message", refused.code)
    else:
        session.take_literal()


async def run(session: Session, command: e.Append) -> None:
    assert session.principal is not None
    account = session.principal.account
    octets = command.message
    if b"\x00" in octets:
        session.no(command, "The message holds a NUL", responses.CANNOT)  # RFC 3501 §4.3
        return
    try:
        octets = await _kept(session, octets)
    except CannotSeal:
        text = "Mail is kept encrypted here, and there is no key for that now"
        session.no(command, text, responses.UNAVAILABLE)
        return
    if len(octets) <= AT_ONCE_OCTETS_MAX:
        prepared = prepare(octets)
    else:
        prepared = await session.service.workers.run(lambda: prepare(octets))
    flags, keywords = split_flags(command.flags)
    message = NewMessage(
        octets=octets,
        prepared=prepared,
        flags=flags,
        keywords=keywords,
        received_at_us=command.received_at_us,
    )
    box = session.selected
    keywords_max = session.service.options.keywords_max

    def unit(tx: Transaction) -> Result:
        appended = append(tx, account, command.mailbox, (message,), keywords_max=keywords_max)[0]
        is_selected = box is not None and box.mailbox == appended.mailbox
        return Result(appended, box.news(tx) if box is not None and is_selected else None)

    try:
        result = await session.service.store.submit(
            unit, octets=len(octets), is_short=len(octets) <= SHORT_OCTETS
        )
    except NoSuchMailbox:
        session.no(command, "There is no such mailbox", responses.TRYCREATE)
        return
    if result.news is not None:
        await session.tell(result.news, may_expunge=True)
    code = b"APPENDUID %d %d" % (result.appended.uidvalidity, result.appended.uid)
    session.ok(command, "APPEND completed", code)


async def _kept(session: Session, octets: bytes) -> bytes:
    """As the account wants it stored: encrypted to its key, or as it came. Raises CannotSeal."""
    at_rest = session.service.at_rest
    if at_rest is None or not at_rest.is_active:
        return octets
    assert session.principal is not None
    account = session.principal.account
    copies = await at_rest.copies([account], octets, is_appended=True)
    return copies.get(account, octets)
