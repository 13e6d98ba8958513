"""What all sessions of one SMTP service share."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from posthouse.accounts.directory import Directory
from posthouse.accounts.login import Authenticator
from posthouse.gateway.outgoing import Outgoing
from posthouse.gateway.own_copies import OwnCopies
from posthouse.guard.admission import Admission
from posthouse.kernel.ids import MessageId
from posthouse.kernel.ports import Clock, Workers
from posthouse.message.fields import HeaderSection
from posthouse.net.deadlines import Deadlines
from posthouse.observe import events
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics
from posthouse.queue.dsn import Notices
from posthouse.reception.authentication import Examiner
from posthouse.reception.options import Options
from posthouse.reception.refusals import Refusals
from posthouse.store.transaction import Store


class Room(Protocol):
    """Whether there is room to take mail."""

    def free_octets(self) -> int: ...

    def free_inodes(self) -> int | None:
        """None where the file system has no bound."""
        ...

    @property
    def waiting_share(self) -> float: ...

    @property
    def is_writable(self) -> bool: ...


class Signers(Protocol):
    """Signs what our users send (DKIM)."""

    def signs(self, section: HeaderSection) -> bool:
        """Whether there is a key for the message."""
        ...

    async def sign(self, octets: bytes, workers: Workers) -> bytes:
        """The DKIM-Signature fields of a whole message, to be put in front of it; b"" where its
        author's domain has no key. Never raises for content."""
        ...


class Service:
    """Static parts and ports of a service; a session holds only what is its own."""

    __slots__ = (
        "admission",
        "authenticator",
        "clock",
        "deadlines",
        "directory",
        "examiner",
        "is_draining",
        "is_stressed",
        "keep",
        "limit_value",
        "limits",
        "log",
        "messages_accepted",
        "metrics",
        "notices",
        "open_recipients",
        "options",
        "outgoing",
        "own_copies",
        "reach",
        "refusals",
        "relay_networks",
        "room",
        "sessions",
        "signers",
        "store",
        "tasks",
        "tls_context",
        "workers",
    )

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        room: Room,
        directory: Directory,
        authenticator: Authenticator,
        admission: Admission,
        clock: Clock,
        workers: Workers,
        deadlines: Deadlines,
        log: Log,
        metrics: Metrics,
        limits: LimitWatch,
        limit_value: Callable[[str], float],
        tls_context: Callable[[], ssl.SSLContext | None],
        tasks: asyncio.TaskGroup,
        open_recipients: Callable[[], int],
        notices: Notices,
        examiner: Examiner,
        signers: Signers,
        refusals: Refusals,
        keep: Callable[[MessageId, bytes], None],
        own_copies: OwnCopies | None = None,
        outgoing: Outgoing | None = None,
        reach: Callable[[str], None] = lambda point: None,
    ) -> None:
        self.options = options
        self.store = store
        self.room = room
        self.directory = directory
        self.authenticator = authenticator
        self.admission = admission
        self.clock = clock
        self.workers = workers
        self.deadlines = deadlines
        self.log = log
        self.metrics = metrics
        self.limits = limits
        self.limit_value = limit_value
        self.sessions = metrics.sessions[options.service]
        self.messages_accepted = metrics.messages["accepted"]
        self.tls_context = tls_context
        self.tasks = tasks
        self.open_recipients = open_recipients
        self.notices = notices
        self.examiner = examiner
        self.signers = signers
        self.refusals = refusals
        self.keep = keep
        self.own_copies = own_copies
        self.outgoing = outgoing
        self.reach = reach
        self.is_stressed = False
        self.is_draining = False
        self.relay_networks = networks_of(options)

    def set_options(self, options: Options) -> None:
        """A reloaded config; sessions take it up from their next step on."""
        self.relay_networks = networks_of(options)
        self.options = options

    def may_relay_from(self, peer: str) -> bool:
        if not self.relay_networks:
            return False
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self.relay_networks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.tasks.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A bug in one session's work must not end its neighbours'."""
        try:
            await work
        except Exception as error:
            self.metrics.faults["bug"].add()
            self.log.bug(events.SESSION_FAILED, error, service=self.options.service)


def networks_of(options: Options) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in options.relay_networks)
