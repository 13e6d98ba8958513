"""Drives a machine as a session would, answering each command at once."""

from __future__ import annotations

from posthouse.protocol.imap import events as e
from posthouse.protocol.imap.limits import DEFAULT_LIMITS, Limits
from posthouse.protocol.imap.server import Phase, ServerSession


def machine(phase: Phase = Phase.SELECTED, limits: Limits = DEFAULT_LIMITS) -> ServerSession:
    session = ServerSession(limits)
    session.enter(phase)
    return session


def run(session: ServerSession, *parts: bytes) -> tuple[list[e.Event], bytes]:
    """Events, and everything the machine said itself."""
    events: list[e.Event] = []
    said = b""
    for part in parts:
        session.receive(part)
        while (event := session.next_event()) is not None:
            events.append(event)
            answer(session, event)
        said += session.take_outgoing()
    return events, said


def answer(session: ServerSession, event: e.Event) -> None:
    match event:
        case e.AppendOffered():
            session.take_literal()
        case e.Idle():
            session.idling()
        case e.IdleEnded(is_done=False) | e.SaslAborted():
            session.bad("no")
        case e.Authenticate(initial_response=None):
            session.challenge(b"")
        case e.StartTls():
            session.tls_started()
        case e.Logout():
            session.end()
        case _:
            session.answered()
