"""LOGOUT (RFC 3501 §6.1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


def run(session: Session, command: e.Logout) -> None:
    session.send(responses.bye("Logging out"))
    session.ok(command, "LOGOUT completed")
    session.close()
