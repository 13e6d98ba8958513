"""NAMESPACE (RFC 2342 §5): one personal namespace without prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


def run(session: Session, command: e.Namespace) -> None:
    session.send(responses.untagged(b'NAMESPACE (("" "/")) NIL NIL'))
    session.ok(command, "NAMESPACE completed")
