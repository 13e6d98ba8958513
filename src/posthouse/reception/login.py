"""AUTH in an SMTP session: the SASL exchange and what comes of it (RFC 4954 §4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.accounts import login_events
from posthouse.accounts.login import LoginFailure
from posthouse.kernel.reply import Reply
from posthouse.protocol.sasl.events import Challenge, Credentials, Failure

if TYPE_CHECKING:
    from posthouse.reception.session import Session

MALFORMED_LOGIN: Final = Reply(501, "5.5.2", "The login data cannot be read")
WRONG_LOGIN: Final = Reply(535, "5.7.8", "Name or password is wrong")
LOGIN_REFUSALS: Final = {
    LoginFailure.WRONG: WRONG_LOGIN,
    LoginFailure.TEMPORARY: Reply(454, "4.7.0", "Logins are not possible at the moment"),
    LoginFailure.BANNED: Reply(421, "4.7.0", "Too many failed logins, try again later"),
}


def step(session: Session, response: bytes | None) -> None:
    exchange = session.exchange
    assert exchange is not None  # the machine only lets offered mechanisms through
    step = exchange.step(response)
    if isinstance(step, Challenge):
        session.machine.challenge(step.octets)
        return
    session.exchange = None
    match step:
        case Credentials():
            session.wait(log_in(session, step))
        case Failure():
            session.machine.answer(MALFORMED_LOGIN if step.is_malformed else WRONG_LOGIN)


async def log_in(session: Session, credentials: Credentials) -> None:
    service = session.service
    result = await service.authenticator.authenticate(
        name=credentials.authentication_id,
        password=credentials.password,
        authzid=credentials.authorization_id,
        peer=session.stream.peer.address,
        service=service.options.service,
    )
    login_events.note(
        service.log,
        service.metrics,
        result,
        trace=session.stream.trace_id,
        service=service.options.service,
        peer=session.stream.peer.address,
        name=credentials.authentication_id,
    )
    if result.delay_s:
        await service.clock.sleep(result.delay_s)
    if result.principal is not None:
        session.principal = result.principal
        session.known_facts = session.known_hop = None
        session.machine.accept_auth()
    else:
        assert result.failure is not None
        session.machine.answer(LOGIN_REFUSALS[result.failure])
