"""LOGIN (RFC 3501 §6.2.3), and what every way of logging in ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.access.imap.commands.capability import AFTER_LOGIN
from posthouse.access.ports import note_login
from posthouse.accounts.login import LoginFailure, LoginResult
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.protocol.sasl.grammar import SaslSyntaxError, decode_name, decode_password

if TYPE_CHECKING:
    from posthouse.access.imap.session import Session, Work


def run(session: Session, command: e.Login) -> Work | None:
    if not may_log_in(session):
        session.no(command, "Start TLS before you log in", responses.PRIVACYREQUIRED)
        return None
    try:
        name, password = decode_name(command.user), decode_password(command.password)
    except SaslSyntaxError:
        name = password = ""
    return log_in(session, command, name, password)


def may_log_in(session: Session) -> bool:
    """No password travels without TLS (P12)."""
    return session.service.may_log_in(session.stream)


async def log_in(
    session: Session, command: e.Command, name: str, password: str, authzid: str = ""
) -> None:
    """Verify, count, answer. Empty names and passwords go the same way, and fail as others do."""
    service = session.service
    result = await service.authenticator.authenticate(
        name=name,
        password=password,
        authzid=authzid,
        peer=session.stream.peer.address,
        service="imap",
    )
    note_login(
        service.observer,
        session.stream,
        result,
        service="imap",
        name=name,
        mechanism=_mechanism(command),
    )
    principal = result.principal
    if principal is None:
        await _failed(session, command, result)
        return
    if not service.admit(principal.account):
        session.limit("imap.sessions_max", observed=service.options.sessions_max)
        session.no(command, "Too many sessions of this account", responses.LIMIT)
        return
    session.log_in(principal)
    session.ok(command, "Logged in", b"CAPABILITY " + AFTER_LOGIN)


async def _failed(session: Session, command: e.Command, result: LoginResult) -> None:
    if result.failure is LoginFailure.WRONG:
        text, code = "User name or password is wrong", responses.AUTHENTICATIONFAILED
    elif result.failure is LoginFailure.BANNED:
        text, code = "Too many failed logins, try again later", responses.UNAVAILABLE
    else:
        text, code = "Logins cannot be checked now, try again later", responses.UNAVAILABLE
    if result.delay_s > 0:
        await session.service.clock.sleep(result.delay_s)
    session.no(command, text, code)
    session.attempts += 1
    if session.attempts >= session.service.options.attempts_max:
        session.goodbye("Too many failed logins")


def _mechanism(command: e.Command) -> str:
    return "LOGIN" if isinstance(command, e.Login) else "PLAIN"
