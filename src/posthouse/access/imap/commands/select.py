"""SELECT (RFC 3501 §6.3.1): counters only; messages are looked at when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.access.imap.selected import SelectedMailbox
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import Uid
from posthouse.mailbox import view as views
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Select) -> Work:
    return open_mailbox(session, command, command.mailbox, is_readonly=False)


async def open_mailbox(
    session: Session, command: e.Command, name: str, *, is_readonly: bool
) -> None:
    """Also EXAMINE. What was selected is not any more, even when this fails (RFC 3501 §6.3.1)."""
    assert session.principal is not None
    account = session.principal.account
    session.watch()
    try:
        selected = await session.service.store.read(lambda tx: views.select(tx, account, name))
    except BaseException:
        session.unselect()
        raise
    recent_uid = selected.recent_uid
    if selected.recent and not is_readonly:
        recent_uid = await _claimed(session, selected)
    box = SelectedMailbox(account, selected, is_readonly=is_readonly, recent_uid=recent_uid)
    if recent_uid not in (selected.recent_uid, selected.uidnext):
        box.keep(await session.service.store.read(box.load))
    session.select(box)
    session.send_all(box.flags_told())
    session.send(b"* %d EXISTS\r\n* %d RECENT\r\n" % (box.exists, box.recent_count()))
    if selected.first_unseen is not None:
        session.send(b"* OK [UNSEEN %d] First unseen message\r\n" % selected.first_unseen)
    session.send(
        b"* OK [UIDVALIDITY %d] UIDs are valid\r\n* OK [UIDNEXT %d] Next UID\r\n"
        % (selected.uidvalidity, selected.uidnext)
    )
    if is_readonly:
        session.ok(command, "EXAMINE completed", "READ-ONLY")
    else:
        session.ok(command, "SELECT completed", "READ-WRITE")


async def _claimed(session: Session, selected: views.Selected) -> Uid:
    """Nothing is \\Recent to us when that cannot be written: reading goes on (F3, F4)."""
    assert session.principal is not None
    account = session.principal.account
    try:
        return await session.service.store.submit(
            lambda tx: views.claim_recent(tx, account, selected.mailbox, selected.uidnext)
        )
    except Fault as fault:
        session.fault(fault)
        return selected.uidnext
