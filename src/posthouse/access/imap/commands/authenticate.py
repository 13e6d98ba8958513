"""AUTHENTICATE PLAIN (RFC 3501 §6.2.2, RFC 4616), with initial response (RFC 4959)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.access.imap.commands.login import log_in, may_log_in
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.protocol.sasl.grammar import SaslSyntaxError, parse_plain

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Authenticate) -> Work | None:
    if command.mechanism != "PLAIN":
        session.no(command, "Mechanism is not supported", responses.CANNOT)
    elif not may_log_in(session):
        session.no(command, "Start TLS before you log in", responses.PRIVACYREQUIRED)
    elif command.initial_response is None:
        session.challenge(b"")
    else:
        return _plain(session, command, command.initial_response)
    return None


def respond(session: Session, command: e.SaslResponse) -> Work | None:
    return _plain(session, command, command.response)


def abort(session: Session, command: e.SaslAborted) -> None:
    session.bad("Invalid base64" if command.is_malformed else "AUTHENTICATE cancelled")


def _plain(session: Session, command: e.Command, response: bytes) -> Work | None:
    """What breaks PLAIN's grammar counts as a wrong password: same text, same time (H59)."""
    try:
        message = parse_plain(response)
    except SaslSyntaxError:
        return log_in(session, command, "", "")
    return log_in(
        session,
        command,
        message.authentication_id,
        message.password,
        message.authorization_id,
    )
