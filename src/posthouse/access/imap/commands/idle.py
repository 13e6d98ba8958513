"""IDLE (RFC 2177 §3): news as they come, until DONE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Idle) -> Work | None:
    return session.start_idling()


def end(session: Session, command: e.IdleEnded) -> Work | None:
    session.stop_idling()
    if not command.is_done:
        session.bad("Expected DONE")
        return None
    return session.complete(command, "IDLE completed")
