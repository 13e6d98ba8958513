"""Every section and setting of `posthouse.toml`, with default, unit, bounds and meaning.

The sections live in `machine.py`, `mail.py` and `reading.py`; take them all from here. An empty
file is `Config()` with the values that depend on the machine filled in by `settings.load`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.config.authentication import Dkim, Mailauth
from posthouse.config.machine import (
    Auth,
    AuthFailures,
    Blob,
    Dns,
    Guard,
    Listener,
    Log,
    Metrics,
    Net,
    Node,
    Service,
    Store,
    Tls,
    TlsVersion,
    Workers,
)
from posthouse.config.mail import (
    BareNewline,
    Dsn,
    Message,
    Queue,
    Relay,
    RelayConcurrency,
    RelayRetry,
    RelayRoute,
    Route,
    RouteTls,
    SmartHost,
    Smtp,
    Submission,
)
from posthouse.config.reading import Imap, Pop3
from posthouse.observe.options import LogFormat, LogLevel

__all__ = [
    "STANDARD_PORTS",
    "Auth",
    "AuthFailures",
    "BareNewline",
    "Blob",
    "Config",
    "Dkim",
    "Dns",
    "Dsn",
    "Guard",
    "Imap",
    "Listener",
    "Log",
    "LogFormat",
    "LogLevel",
    "Mailauth",
    "Message",
    "Metrics",
    "Net",
    "Node",
    "Pop3",
    "Queue",
    "Relay",
    "RelayConcurrency",
    "RelayRetry",
    "RelayRoute",
    "Route",
    "RouteTls",
    "Service",
    "SmartHost",
    "Smtp",
    "Store",
    "Submission",
    "Tls",
    "TlsVersion",
    "Workers",
]

STANDARD_PORTS: Final = {
    Service.MX: 25,
    Service.SUBMISSION: 587,
    Service.SUBMISSIONS: 465,
    Service.IMAP: 143,
    Service.IMAPS: 993,
    Service.POP3: 110,
    Service.POP3S: 995,
    Service.LMTP: 24,
    Service.METRICS: 9925,
}
METRICS_PORT_SHIFT: Final = 80
"""Added to `net.port_base` for metrics, as 9925 would leave the range of ports."""
ALL_ADDRESSES: Final = ("0.0.0.0", "::")  # noqa: S104  a mail server's ports are for everybody
LOOPBACK: Final = ("127.0.0.1", "::1")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    node: Node = Node()
    listener: tuple[Listener, ...] = ()
    net: Net = Net()
    tls: Tls = Tls()
    auth: Auth = Auth()
    smtp: Smtp = Smtp()
    submission: Submission = Submission()
    message: Message = Message()
    mailauth: Mailauth = Mailauth()
    dkim: Dkim = Dkim()
    route: Route = Route()
    queue: Queue = Queue()
    relay: Relay = Relay()
    dsn: Dsn = Dsn()
    imap: Imap = Imap()
    pop3: Pop3 = Pop3()
    dns: Dns = Dns()
    store: Store = Store()
    blob: Blob = Blob()
    workers: Workers = Workers()
    guard: Guard = Guard()
    log: Log = Log()
    metrics: Metrics = Metrics()

    def listeners(self) -> tuple[Listener, ...]:
        """What to open: each with its addresses and its port filled in."""
        asked = self.listener or tuple(
            Listener(service=service)
            for service in STANDARD_PORTS
            if service not in {Service.LMTP, Service.METRICS}
        )
        if self.metrics.is_enabled:
            own = Listener(
                service=Service.METRICS,
                addresses=(self.metrics.address,),
                port=self.metrics.port,
            )
            asked = (*asked, own)
        return tuple(self._filled(listener) for listener in asked)

    def _filled(self, listener: Listener) -> Listener:
        service = listener.service
        is_local = service in {Service.LMTP, Service.METRICS}
        port = listener.port
        if port is None:
            port = STANDARD_PORTS[service]
            if self.net.port_base is not None:
                shift = METRICS_PORT_SHIFT if service is Service.METRICS else port
                port = self.net.port_base + shift
        return msgspec.structs.replace(
            listener,
            addresses=listener.addresses or (LOOPBACK if is_local else ALL_ADDRESSES),
            port=port,
        )
