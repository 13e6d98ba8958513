"""What IMAP and POP3 sessions report, as log lines and counts."""

from __future__ import annotations

from typing import Final, cast

from posthouse.kernel.ids import TraceId
from posthouse.observe import events
from posthouse.observe.events import Event
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Field, Log
from posthouse.observe.metrics import Metrics

EVENTS: Final[dict[str, Event]] = {
    "tls_failed": events.TLS_FAILED,
    "closed": events.SESSION_CLOSED,
    "bug": events.SESSION_FAILED,
    "fault": events.FAULT_MET,
    "damaged": events.MESSAGE_DAMAGED,
    "client": events.CLIENT_NAMED,
}


def note_login(
    log: Log,
    metrics: Metrics,
    *,
    outcome: str,
    trace: str,
    service: str,
    **fields: Field,
) -> None:
    """Log and count one login of any protocol.

    Args:
        outcome: "accepted", "refused", "banned" or "unavailable".
        fields: peer, account, mechanism, detail; empty ones are left out.
    """
    metrics.logins[outcome].add()
    event = events.LOGIN_ACCEPTED
    if outcome != "accepted":
        metrics.auth_failures[service].add()
        event = events.LOGIN_REFUSED
    told = {name: value for name, value in fields.items() if value != ""}
    log.write(event, trace=trace, service=service, outcome=outcome, **told)


class AccessObserver:
    """The `Observer` of both services. Events are named "service.event"."""

    def __init__(self, log: Log, metrics: Metrics, limits: LimitWatch) -> None:
        self._log = log
        self._metrics = metrics
        self._limits = limits

    def noted(self, event: str, trace: TraceId, **fields: object) -> None:
        service, _, name = event.partition(".")
        if name == "login":
            told = cast("dict[str, str]", fields)
            note_login(self._log, self._metrics, trace=trace, service=service, **told)
            return
        if name == "bug":
            self._metrics.faults["bug"].add()
        elif name == "fault":
            self._metrics.faults["disk"].add()
        elif name == "tls_failed":
            self._metrics.handshakes["failed"].add()
        elif name == "opened":
            self._metrics.sessions[service].add(1)
            return
        elif name == "closed":
            self._metrics.sessions[service].add(-1)
        self._log.write(
            EVENTS.get(name, events.SESSION_CLOSED),
            trace=trace,
            service=service,
            **cast("dict[str, Field]", fields),
        )

    def limit_reached(
        self, name: str, trace: TraceId, *, value: int, observed: int, peer: str
    ) -> None:
        self._limits.reached(name, value=value, observed=observed, peer=peer, trace=trace)
