"""NOOP: the moment to tell news (RFC 3501 §6.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Noop) -> Work | None:
    return session.complete(command, "NOOP completed")
