"""The ports a node stands on, and whether there is room for mail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from posthouse.accounts.password import Cost
from posthouse.config.schema import Config
from posthouse.kernel.ports import (
    Chance,
    Clock,
    Disk,
    Fetch,
    Isolated,
    Network,
    Resolver,
    Workers,
)
from posthouse.relay.plan import SMTP_PORT
from posthouse.store.sqlite.engine import SqliteStore

ROOM_LOOK_S: Final = 0.5


class World(msgspec.Struct, frozen=True, kw_only=True):
    """The ports a node stands on."""

    clock: Clock
    chance: Chance
    network: Network
    disk: Disk
    workers: Workers
    isolated: Isolated
    """Closed by whoever made the world."""
    resolver: Callable[[Config], Resolver]
    fetch: Callable[[Config, Resolver], Fetch]
    """HTTPS to where others' records lead."""
    password_cost: Cost = Cost()
    ca_file: Path | None = None
    """Roots for verified TLS to other hosts; None is the system's."""
    is_store_inline: bool = False
    vfs: str | None = None
    descriptors_max: int | None = None
    """RLIMIT_NOFILE; None where nobody counts them."""
    mx_port: int = SMTP_PORT
    """Where other hosts take mail; those of the laboratory on loopback cannot have port 25."""
    leisure: float = 1.0
    """How many times longer than usual whatever looks around now and then may wait: a simulator
    passes days in which nothing happens."""
    reach: Callable[[str], None] = lambda point: None


class Room:
    """Whether there is room to take mail: the store's word, and the disk's on inodes (F6)."""

    def __init__(self, store: SqliteStore, disk: Disk, folder: str, clock: Clock) -> None:
        self._store = store
        self._disk = disk
        self._folder = folder
        self._clock = clock
        self._free_inodes: int | None = None
        self._looked_s = float("-inf")

    def free_octets(self) -> int:
        return self._store.free_octets()

    def free_inodes(self) -> int | None:
        now = self._clock.monotonic_s()
        if now - self._looked_s > ROOM_LOOK_S:
            self._looked_s = now
            self._free_inodes = self._disk.free_inodes(self._folder)
        return self._free_inodes

    @property
    def waiting_share(self) -> float:
        return self._store.waiting_share

    @property
    def is_writable(self) -> bool:
        return self._store.is_writable
