"""What a login leaves in the log and in the counts, whichever protocol it came over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from posthouse.accounts import login_events
from posthouse.accounts.login import LoginFailure, LoginResult, Principal
from posthouse.kernel.ids import AccountId, TraceId
from posthouse.observe.access import AccessObserver
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics
from posthouse.observe.options import LogLevel, LogOptions

ANN = Principal(account=AccountId(1), name="ann", credential_version=1)
MINUTE = "auth.failures.per_minute"


class Witness:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        options = LogOptions(level=LogLevel.DEBUG)
        self.log = Log(self.lines.append, unix_us=lambda: 0, options=options)
        self.metrics = Metrics((MINUTE,))

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.mark.parametrize(
    ("result", "outcome", "event"),
    [
        (LoginResult(principal=ANN), "accepted", "login.accepted"),
        (LoginResult(failure=LoginFailure.WRONG), "refused", "login.refused"),
        (LoginResult(failure=LoginFailure.BANNED), "banned", "login.refused"),
        (LoginResult(failure=LoginFailure.TEMPORARY), "unavailable", "login.refused"),
    ],
)
def test_a_login_is_told_the_same_by_every_protocol(
    result: LoginResult, outcome: str, event: str
) -> None:
    smtp, imap = Witness(), Witness()
    login_events.note(
        smtp.log, smtp.metrics, result, trace="t", service="imap", peer="192.0.2.9", name="ann"
    )
    AccessObserver(imap.log, imap.metrics, LimitWatch(imap.log, imap.metrics)).noted(
        "imap.login",
        TraceId("t"),
        outcome=outcome,
        peer="192.0.2.9",
        account="ann",
        mechanism="",
        detail="",
    )
    assert smtp.told() == imap.told()
    (line,) = smtp.told()
    assert (line["event"], line["outcome"], line["peer"]) == (event, outcome, "192.0.2.9")
    for witness in (smtp, imap):
        assert witness.metrics.logins[outcome].total == 1
        assert witness.metrics.auth_failures["imap"].total == (outcome != "accepted")


def test_a_failure_that_begins_a_ban_counts_its_limit() -> None:
    witness = Witness()
    result = LoginResult(failure=LoginFailure.WRONG, limit=MINUTE, limit_value=10.0, observed=11.0)
    login_events.note(
        witness.log, witness.metrics, result, trace="t", service="mx", peer="192.0.2.9", name="a"
    )
    assert witness.metrics.limits[MINUTE].total == 1
    line = witness.told()[-1]
    assert (line["event"], line["name"], line["value"], line["observed"], line["peer"]) == (
        "limit.reached",
        MINUTE,
        10.0,
        11.0,
        "192.0.2.9",
    )


def test_sessions_of_pop3_are_counted_while_they_are_open() -> None:
    witness = Witness()
    limits = LimitWatch(witness.log, witness.metrics)
    observer = AccessObserver(witness.log, witness.metrics, limits)
    gauge = witness.metrics.sessions["pop3"]
    observer.noted("pop3.opened", TraceId("t"), peer="192.0.2.9")
    assert gauge.read() == 1
    observer.noted("pop3.closed", TraceId("t"), peer="192.0.2.9", reason="")
    assert gauge.read() == 0
    observer.noted("pop3.tls_failed", TraceId("t"), peer="192.0.2.9", detail="no")
    assert witness.metrics.handshakes["failed"].total == 1
    assert witness.told()[-1]["event"] == "tls.failed"
