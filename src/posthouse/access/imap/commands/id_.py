"""ID: our name; the client's goes to the log (RFC 2971 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session

OURS: Final = b'("name" "Posthouse")'


def run(session: Session, command: e.Id) -> None:
    if command.fields:
        client = "; ".join(
            f"{name.decode('utf-8', 'replace')}={value.decode('utf-8', 'replace')}"
            for name, value in command.fields
        )
        session.service.observer.noted("imap.client", session.stream.trace_id, client=client)
    session.send(responses.untagged(b"ID", OURS))
    session.ok(command, "ID completed")
