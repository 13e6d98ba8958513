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
    "login": events.LOGIN_ACCEPTED,
    "login_failed": events.LOGIN_REFUSED,
    "closed": events.SESSION_CLOSED,
    "bug": events.SESSION_FAILED,
    "fault": events.FAULT_MET,
    "damaged": events.MESSAGE_DAMAGED,
    "client": events.CLIENT_NAMED,
}


class AccessObserver:
    """The `Observer` of both services. Events are named "service.event"."""

    def __init__(self, log: Log, metrics: Metrics, limits: LimitWatch) -> None:
        self._log = log
        self._metrics = metrics
        self._limits = limits

    def noted(self, event: str, trace: TraceId, **fields: object) -> None:
        service, _, name = event.partition(".")
        if name == "login":
            self._metrics.logins["accepted"].add()
        elif name == "login_failed":
            self._metrics.logins["refused"].add()
            self._metrics.auth_failures[service].add()
        elif name == "bug":
            self._metrics.faults["bug"].add()
        elif name == "fault":
            self._metrics.faults["disk"].add()
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
