"""What a login leaves behind: one log line and one count, the same for every protocol."""

from __future__ import annotations

from typing import Final

from posthouse.accounts.login import LoginFailure, LoginResult
from posthouse.observe import events
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics

OUTCOMES: Final = {
    LoginFailure.WRONG: "refused",
    LoginFailure.BANNED: "banned",
    LoginFailure.TEMPORARY: "unavailable",
}


def note(
    log: Log,
    metrics: Metrics,
    result: LoginResult,
    *,
    trace: str,
    service: str,
    peer: str,
    name: str,
) -> None:
    """Log and count one login, won or lost. `name` is what was typed, never a password."""
    if result.failure is None:
        metrics.logins["accepted"].add()
        log.write(events.LOGIN_ACCEPTED, trace=trace, service=service, peer=peer, account=name)
        return
    metrics.logins[OUTCOMES[result.failure]].add()
    metrics.auth_failures[service].add()
    log.write(
        events.LOGIN_REFUSED,
        trace=trace,
        service=service,
        peer=peer,
        account=name,
        detail=result.detail,
    )
