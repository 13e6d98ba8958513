"""What all sessions of one SMTP service share."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from posthouse.accounts.directory import Directory
from posthouse.accounts.login import Authenticator
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Clock, Workers
from posthouse.net.deadlines import Deadlines
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics
from posthouse.reception.options import Options
from posthouse.store.transaction import Store


class Admission(Protocol):
    """Rates that decide at MAIL and RCPT (`posthouse.guard`). None is yes, else why not."""

    def message(self, peer: str, octets: int) -> str | None:
        """May this address send one more message now."""
        ...

    def submission(self, account: AccountId, recipients: int) -> str | None:
        """May this account send to so many recipients now; the text names when it ends."""
        ...


class Room(Protocol):
    """Whether there is room to take mail."""

    def free_octets(self) -> int: ...

    @property
    def waiting_share(self) -> float: ...

    @property
    def is_writable(self) -> bool: ...


class Service:
    """Static parts and ports of a service; a session holds only what is its own."""

    __slots__ = (
        "admission",
        "authenticator",
        "clock",
        "deadlines",
        "directory",
        "is_draining",
        "is_stressed",
        "log",
        "metrics",
        "open_recipients",
        "options",
        "reach",
        "relay_networks",
        "room",
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
        tls_context: Callable[[], ssl.SSLContext | None],
        tasks: asyncio.TaskGroup,
        open_recipients: Callable[[], int],
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
        self.tls_context = tls_context
        self.tasks = tasks
        self.open_recipients = open_recipients
        self.reach = reach
        self.is_stressed = False
        self.is_draining = False
        self.relay_networks = tuple(ipaddress.ip_network(text) for text in options.relay_networks)

    def may_relay_from(self, peer: str) -> bool:
        if not self.relay_networks:
            return False
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self.relay_networks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.tasks.create_task(work)
