"""What a login leaves behind: one log line and one count, the same for every protocol."""

from __future__ import annotations

from typing import Final

from posthouse.accounts.login import LoginFailure, LoginResult
from posthouse.observe.access import note_login
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics

OUTCOMES: Final = {
    None: "accepted",
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
    mechanism: str = "",
) -> None:
    """Log and count one login, won or lost, and the limit it met when it began a ban.

    `name` is what was typed, never a password.
    """
    note_login(
        log,
        metrics,
        outcome=OUTCOMES[result.failure],
        trace=trace,
        service=service,
        peer=peer,
        account=name,
        mechanism=mechanism,
        detail=result.detail,
    )
    if result.limit:
        LimitWatch(log, metrics).reached(
            result.limit,
            value=result.limit_value,
            observed=result.observed,
            peer=peer,
            trace=trace,
        )
