"""Every section and setting of `posthouse.toml`, with default, unit, bounds and meaning.

The sections live in modules of this package by subject; take them all from here. An empty file is
`Config()` with the values that depend on the machine filled in by `settings.load`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.config.acme import (
    Acme,
    AcmeChallenge,
    AcmeKey,
    DnsUpdate,
    MtaSts,
    MtaStsMode,
    TsigAlgorithm,
    Web,
)
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
from posthouse.config.mimesec import Mimesec
from posthouse.config.reading import Imap, Pop3
from posthouse.config.reports import FailureReports, Reports
from posthouse.config.transport import Fetch, RelayTlsPolicy, TlsLevel
from posthouse.observe.options import LogFormat, LogLevel

__all__ = [
    "STANDARD_PORTS",
    "Acme",
    "AcmeChallenge",
    "AcmeKey",
    "Auth",
    "AuthFailures",
    "BareNewline",
    "Blob",
    "Config",
    "Dkim",
    "Dns",
    "DnsUpdate",
    "Dsn",
    "FailureReports",
    "Fetch",
    "Guard",
    "Imap",
    "Listener",
    "Log",
    "LogFormat",
    "LogLevel",
    "Mailauth",
    "Message",
    "Metrics",
    "Mimesec",
    "MtaSts",
    "MtaStsMode",
    "Net",
    "Node",
    "Pop3",
    "Queue",
    "Relay",
    "RelayConcurrency",
    "RelayRetry",
    "RelayRoute",
    "RelayTlsPolicy",
    "Reports",
    "Route",
    "RouteTls",
    "Service",
    "SmartHost",
    "Smtp",
    "Store",
    "Submission",
    "Tls",
    "TlsLevel",
    "TlsVersion",
    "TsigAlgorithm",
    "Web",
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
    Service.HTTP: 80,
    Service.HTTPS: 443,
}
PORT_SHIFTS: Final = {Service.METRICS: 80, Service.HTTP: 81}
"""Added to `net.port_base` in place of the standard port: 9925 would leave the range of ports."""
NO_MAIL: Final = frozenset({Service.METRICS, Service.HTTP, Service.HTTPS})
"""Services that a file without [[listener]] tables opens by sections of their own."""
ALL_ADDRESSES: Final = ("0.0.0.0", "::")  # noqa: S104  a mail server's ports are for everybody
LOOPBACK: Final = ("127.0.0.1", "::1")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    node: Node = Node()
    listener: tuple[Listener, ...] = ()
    net: Net = Net()
    tls: Tls = Tls()
    acme: Acme = Acme()
    web: Web = Web()
    auth: Auth = Auth()
    smtp: Smtp = Smtp()
    submission: Submission = Submission()
    message: Message = Message()
    mailauth: Mailauth = Mailauth()
    dkim: Dkim = Dkim()
    mimesec: Mimesec = Mimesec()
    mta_sts: MtaSts = MtaSts()
    route: Route = Route()
    queue: Queue = Queue()
    relay: Relay = Relay()
    fetch: Fetch = Fetch()
    dsn: Dsn = Dsn()
    reports: Reports = Reports()
    imap: Imap = Imap()
    pop3: Pop3 = Pop3()
    dns: Dns = Dns()
    dns_update: DnsUpdate = DnsUpdate()
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
            if service is not Service.LMTP and service not in NO_MAIL
        )
        asked = (*asked, *self._web_listeners(asked))
        if self.metrics.is_enabled:
            own = Listener(
                service=Service.METRICS,
                addresses=(self.metrics.address,),
                port=self.metrics.port,
            )
            asked = (*asked, own)
        return tuple(self._filled(listener) for listener in asked)

    def _web_listeners(self, asked: tuple[Listener, ...]) -> tuple[Listener, ...]:
        """Ports 80 and 443 where [acme] or [web] wants them and no table has them."""
        if not (self.acme.is_enabled or self.web.is_enabled):
            return ()
        there = {listener.service for listener in asked}
        return tuple(
            Listener(service=service, addresses=self.web.addresses)
            for service in (Service.HTTP, Service.HTTPS)
            if service not in there
        )

    def _filled(self, listener: Listener) -> Listener:
        service = listener.service
        is_local = service in {Service.LMTP, Service.METRICS}
        port = listener.port
        if port is None:
            port = STANDARD_PORTS[service]
            if self.net.port_base is not None:
                port = self.net.port_base + PORT_SHIFTS.get(service, port)
        return msgspec.structs.replace(
            listener,
            addresses=listener.addresses or (LOOPBACK if is_local else ALL_ADDRESSES),
            port=port,
        )
