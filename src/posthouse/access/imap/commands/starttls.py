"""STARTTLS (RFC 3501 §6.2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.protocol.imap import events as e

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session


def run(session: Session, command: e.StartTls) -> None:
    context = session.service.tls_context()
    if session.stream.is_tls or context is None:
        session.bad("TLS is on already" if session.stream.is_tls else "TLS is not available")
        return
    session.start_tls(command, context)
