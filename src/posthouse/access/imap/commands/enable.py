"""ENABLE (RFC 5161 §3.1): nothing here needs it, so nothing is enabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


def run(session: Session, command: e.Enable) -> None:
    session.send(responses.untagged(b"ENABLED"))
    session.ok(command, "ENABLE completed")
