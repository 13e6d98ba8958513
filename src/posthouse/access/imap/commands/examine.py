"""EXAMINE: SELECT that changes nothing (RFC 3501 §6.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.access.imap.commands.select import open_mailbox
from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Examine) -> Work:
    return open_mailbox(session, command, command.mailbox, is_readonly=True)
