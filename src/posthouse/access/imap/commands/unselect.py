"""UNSELECT (RFC 3691 §2): CLOSE that expunges nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


def run(session: Session, command: e.Unselect) -> None:
    session.unselect()
    session.ok(command, "UNSELECT completed")
