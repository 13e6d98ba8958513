"""What a laboratory stands on: real loopback, or the simulated world.

Both give the same things: an address for each host, the ports a node is built of, and a DNS that
answers from `zones`.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.accounts.password import Cost
from posthouse.app import World as Ports
from posthouse.config import build
from posthouse.config.schema import STANDARD_PORTS, Config, Service
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.ports import Chance, Clock, Fetch, Network, Resolver, TransportProtocol
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.sign import NewKey, generate, public_octets
from posthouse.net.fetch import HTTPS_PORT, HttpsFetch
from posthouse.net.isolated import ProcessIsolation
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.sim.chance import SeededChance
from posthouse.sim.disk import SimDisk
from posthouse.sim.dns import ZoneResolver, Zones
from posthouse.sim.dns_server import LabDns
from posthouse.sim.web import Web
from posthouse.sim.world import World
from posthouse.store.blobs.disk import FileDisk
from posthouse.tls.contexts import verifying_client_context

SERVICES: Final = (
    Service.MX,
    Service.SUBMISSION,
    Service.SUBMISSIONS,
    Service.IMAP,
    Service.IMAPS,
    Service.POP3,
    Service.POP3S,
)
LOW_COST: Final = Cost(memory_kib=64, iterations=1)
"""Of password hashes that guard nothing."""
HOSTS_MAX: Final = 250
PORT_TRIES: Final = 50
PORTS_FROM: Final = 20_000
PORTS_TO: Final = 32_000
"""Below what systems take for outgoing connections."""
LEISURE: Final = 1_200.0
_networks = itertools.count()


class Ground(Protocol):
    """Where hosts, the network between them and their time come from."""

    zones: Zones
    clock: Clock
    chance: Chance
    network: Network
    """The network as a host of nobody has it, for clients and peers."""
    ports: dict[Service, int]
    dns_servers: tuple[str, ...]
    look_s: float
    """How often something that tells nobody of its changes is looked at again."""

    async def open(self) -> None: ...

    def address(self, number: int) -> str:
        """Of the host with this number, from 1; 0 is the DNS server's."""
        ...

    def ports_of(self, address: str, folder: Path) -> Ports:
        """The world of a node; its data will be in `folder`."""
        ...

    def dkim_keys(self) -> tuple[NewKey, ...]:
        """New keys for a domain."""
        ...

    def close(self) -> None: ...


class _HostNetwork:
    """The network as one host of many on this machine has it: its connections come from its own
    address, as SPF and reverse DNS want it."""

    def __init__(self, network: Network, address: str) -> None:
        self._address = address
        self._network = network
        self.listen = network.listen
        self.exchange = network.exchange

    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        own = local_address or (self._address if ":" not in address else None)
        return await self._network.connect(
            factory, address, port, timeout_s=timeout_s, local_address=own
        )


class Loopback:
    """127.x.y.z of this machine, with real sockets, files, threads and time."""

    def __init__(
        self,
        *,
        network: str | None = None,
        port_base: int | None = None,
        dns_port: int = 0,
        password_cost: Cost = LOW_COST,
        ca_file: Path | None = None,
    ) -> None:
        """Args:
        network: first three numbers of the addresses; None takes one that belongs to this
            process, so that laboratories beside each other never meet.
        port_base: services listen on this plus their standard port; None takes free ports.
        """
        self.ca_file = ca_file
        """Roots that nodes trust, as PEM; None is the system's."""
        self.https_port = HTTPS_PORT
        """Where nodes fetch policies from: a host of a test has one that is free."""
        self.zones = Zones()
        self.clock: Clock = SystemClock()
        self.chance: Chance = SystemChance()
        self.network: Network = SystemNetwork()
        self.look_s = 0.02
        self._net = network or _own_network()
        self._dns_port = dns_port
        self._dns = LabDns(self.zones)
        self._workers = ThreadWorkers()
        self._isolated = ProcessIsolation()
        self._password_cost = password_cost
        self.ports = (
            {service: port_base + STANDARD_PORTS[service] for service in SERVICES}
            if port_base is not None
            else _free_ports(self.address(1))
        )
        self.dns_servers: tuple[str, ...] = ()

    async def open(self) -> None:
        await self._dns.serve_loopback(self.address(0), self._dns_port)
        host, port = self._dns.address
        self.dns_servers = (f"{host}:{port}",)

    def address(self, number: int) -> str:
        assert number < HOSTS_MAX, "the laboratory is full"
        return f"{self._net}.{number + 1}"

    def ports_of(self, address: str, folder: Path) -> Ports:
        return Ports(
            clock=self.clock,
            chance=self.chance,
            network=_HostNetwork(self.network, address),
            disk=FileDisk(),
            workers=self._workers,
            isolated=self._isolated,
            resolver=self._resolver,
            fetch=self._fetch,
            ca_file=self.ca_file,
            password_cost=self._password_cost,
            mx_port=self.ports[Service.MX],
        )

    def dkim_keys(self) -> tuple[NewKey, ...]:
        return _one_rsa_key(), generate(ED25519)

    def close(self) -> None:
        self._dns.close()
        self._workers.close()
        self._isolated.close()

    def _fetch(self, config: Config, resolver: Resolver) -> Fetch:
        return HttpsFetch(
            resolver,
            context=verifying_client_context(self.ca_file),
            port=self.https_port,
            allow_private_addresses=True,
        )

    def _resolver(self, config: Config) -> Resolver:
        return CachingResolver(
            build.dns_options(config, resolv_conf=lambda: ""),
            network=self.network,
            clock=self.clock,
            chance=self.chance,
        )


class FaultyLoopback(Loopback):
    """Loopback, but each node's data is on a `SimDisk` that fails as told."""

    def __init__(self) -> None:
        super().__init__()
        self.disks: dict[Path, SimDisk] = {}

    def ports_of(self, address: str, folder: Path) -> Ports:
        if folder not in self.disks:
            self.disks[folder] = SimDisk(folder, SeededChance(1))
        disk = self.disks[folder]
        ports = super().ports_of(address, folder)
        return msgspec.structs.replace(ports, disk=disk, vfs=disk.vfs)

    def close(self) -> None:
        super().close()
        for disk in self.disks.values():
            disk.heal()
            disk.close()


class Simulated:
    """The world of `run_virtual`: virtual time, the network in memory, zones asked directly, one
    thread, and disks that fail as told."""

    def __init__(self, world: World, *, leisure: float = LEISURE) -> None:
        self.world = world
        self.zones = world.zones
        self.clock: Clock = world.clock
        self.chance: Chance = world.chance
        self.network: Network = world.network
        self.ports = {service: STANDARD_PORTS[service] for service in SERVICES}
        self.dns_servers: tuple[str, ...] = ()
        self.look_s = 1.0
        self.disks: dict[Path, SimDisk] = {}
        self._leisure = leisure
        self._resolver = ZoneResolver(world.zones)
        self.web = Web()

    async def open(self) -> None: ...

    def address(self, number: int) -> str:
        assert number < HOSTS_MAX, "the laboratory is full"
        return f"198.51.100.{number + 1}"

    def ports_of(self, address: str, folder: Path) -> Ports:
        if folder not in self.disks:
            self.disks[folder] = SimDisk(
                folder,
                SeededChance(f"{self.world.seed}/disk/{len(self.disks)}"),
                wait=lambda seconds: None,
            )
        disk = self.disks[folder]
        return Ports(
            clock=self.clock,
            chance=self.world.chance.fork(f"node {address}"),
            network=self.world.network.at(address),
            disk=disk,
            workers=self.world.workers,
            isolated=self.world.isolated,
            resolver=lambda config: self._resolver,
            fetch=lambda config, resolver: self.web,
            password_cost=LOW_COST,
            is_store_inline=True,
            vfs=disk.vfs,
            leisure=self._leisure,
        )

    def dkim_keys(self) -> tuple[NewKey, ...]:
        """Of the seed, and so of the kind whose signatures have no chance in them."""
        private = Ed25519PrivateKey.from_private_bytes(self.chance.token(32))
        octets = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return (NewKey(ED25519, octets, public_octets(private)),)

    def close(self) -> None:
        for disk in self.disks.values():
            disk.heal()
            disk.close()


@lru_cache(maxsize=1)
def _one_rsa_key() -> NewKey:
    """The same for all domains of a process, as making one takes a tenth of a second."""
    return generate(RSA)


def _own_network() -> str:
    """Three numbers of 127.0.0.0/8 from the process and a count, above those people use."""
    number = (os.getpid() * 7 + next(_networks)) % (200 * 250)
    return f"127.{20 + number // 250}.{1 + number % 250}"


def _free_ports(address: str) -> dict[Service, int]:
    """Ports nobody else holds on every address, a block of them."""
    for first in range(PORTS_FROM, PORTS_TO, (PORTS_TO - PORTS_FROM) // PORT_TRIES):
        numbers = {service: first + at for at, service in enumerate(SERVICES)}
        if all(_is_free(address, port) for port in numbers.values()):
            return numbers
    raise OSError(errno.EADDRINUSE, f"no block of free ports on {address}")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except OSError:
            return False
        return True
