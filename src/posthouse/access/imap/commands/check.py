"""CHECK: everything is on disk always, so it is NOOP (RFC 3501 §6.4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Check) -> Work | None:
    return session.complete(command, "CHECK completed")
