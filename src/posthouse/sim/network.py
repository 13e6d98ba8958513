"""A network in memory: the port `Network` with latency, faults and partitions from a seed.

`SimNetwork` is the whole internet; `at(address)` is the port as one host has it. Listeners on
0.0.0.0 or :: hear connections to any address of theirs.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from posthouse.kernel.ports import Listening, TransportProtocol
from posthouse.sim.chance import SeededChance
from posthouse.sim.faults import NONE, Faults
from posthouse.sim.transport import Connection

Place = tuple[str, int]

LATENCY_S: Final = 0.001
EPHEMERAL_FIRST: Final = 32_768
PORT_MAX: Final = 65_535
ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104
LOG_MAX: Final = 100_000
FIRST_HOST: Final = "192.0.2.1"
DATAGRAM_ID_OCTETS: Final = 2


class DatagramProtocol(Protocol):
    """The part of `asyncio.DatagramProtocol` that the network calls."""

    def connection_made(self, transport: Any) -> None: ...
    def datagram_received(self, data: bytes, addr: Any) -> None: ...


class _Listener(msgspec.Struct, kw_only=True):
    place: Place
    factory: Callable[[], TransportProtocol]
    network: Any

    @property
    def address(self) -> Place:
        return self.place

    def close(self) -> None:
        self.network.forget_listener(self)


class DatagramEndpoint:
    """What a datagram protocol answers through, like `asyncio.DatagramTransport`."""

    def __init__(self, network: SimNetwork, place: Place) -> None:
        self._network = network
        self.address = place

    def sendto(self, data: bytes, addr: Place) -> None:
        self._network.send_datagram(bytes(data), self.address, addr)

    def close(self) -> None:
        self._network.forget_datagram(self.address)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.address if name == "sockname" else default


class SimNetwork:
    """Every host, listener and connection; also the port `Network` of a host FIRST_HOST."""

    def __init__(self, chance: SeededChance, *, latency_s: float = LATENCY_S) -> None:
        self.latency_s = latency_s
        self.log: deque[str] = deque(maxlen=LOG_MAX)  # what was tried, in order, to compare runs
        self.connections: set[Connection] = set()
        self._chance = chance
        self._listeners: dict[Place, _Listener] = {}
        self._datagrams: dict[Place, DatagramProtocol] = {}
        self._faults: dict[str | Place, Faults] = {}
        self._sides: list[tuple[frozenset[str], frozenset[str]]] = []
        self._next_port = EPHEMERAL_FIRST
        self._numbers = itertools.count()

    # --- what tests do to it ---

    def at(self, address: str) -> Host:
        """The port `Network` as the host at `address` has it."""
        return Host(self, address)

    def fault(self, place: str | Place, faults: Faults) -> None:
        """From now on, for an address or for one port of it (which goes first)."""
        self._faults[place] = faults

    def heal(self, place: str | Place | None = None) -> None:
        """Take back the faults of `place`, or all faults and partitions."""
        if place is not None:
            self._faults.pop(place, None)
        else:
            self._faults.clear()
            self._sides.clear()
        self._wake()

    def partition(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Nothing passes between the two groups of addresses until `heal_partitions`; connections
        that are open stay so, and what was sent meanwhile arrives late."""
        self._sides.append((frozenset(one), frozenset(other)))

    def heal_partitions(self) -> None:
        self._sides.clear()
        self._wake()

    def _wake(self) -> None:
        for connection in sorted(self.connections, key=lambda each: each.number):
            connection.wake()

    # --- what connections ask ---

    def faults_of(self, place: Place) -> Faults:
        return self._faults.get(place) or self._faults.get(place[0]) or NONE

    def is_parted(self, one: str, other: str) -> bool:
        return any(
            (one in left and other in right) or (one in right and other in left)
            for left, right in self._sides
        )

    def delay_s(self, faults: Faults) -> float:
        latency_s = self.latency_s if faults.latency_s is None else faults.latency_s
        return latency_s + (self._chance.uniform(0, faults.jitter_s) if faults.jitter_s else 0.0)

    def segment_octets(self, available: int, faults: Faults) -> int:
        """How many of the octets at hand go into the next segment; at least 1."""
        if faults.segment_octets_max is not None:
            available = min(available, faults.segment_octets_max)
        return 1 + self._chance.below(available) if faults.is_cut_at_random else available

    # --- the port ---

    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        address_here = local_address or FIRST_HOST
        source = (address_here, self._free_port(address_here))
        target = (address, port)
        faults = self.faults_of(target)
        self.log.append(f"connect {source[0]} -> {address}:{port}")
        wait_s = 2 * self.delay_s(faults)  # SYN and SYN-ACK
        is_lost = faults.is_silent or self.is_parted(source[0], address) or wait_s > timeout_s
        await asyncio.sleep(timeout_s if is_lost else wait_s)
        if is_lost:
            raise TimeoutError(errno.ETIMEDOUT, f"no answer from {address}:{port}")
        if faults.is_unreachable:
            raise OSError(errno.EHOSTUNREACH, f"no route to {address}")
        listener = None if faults.is_refusing else self._listener(target)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{address}:{port} refuses")
        connection = Connection(self, source, target, number=next(self._numbers))
        self.connections.add(connection)
        return await connection.open(factory(), listener.factory())

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> Listening:
        place = (address, port or self._free_port(address))
        if place in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{address}:{place[1]} is in use")
        self._listeners[place] = _Listener(place=place, factory=factory, network=self)
        return self._listeners[place]

    async def listen_datagrams(
        self, factory: Callable[[], DatagramProtocol], address: str, port: int
    ) -> DatagramEndpoint:
        """A UDP server; the port `Network` has none, but the DNS of the laboratory needs it."""
        place = (address, port or self._free_port(address))
        if place in self._datagrams:
            raise OSError(errno.EADDRINUSE, f"{address}:{place[1]} is in use")
        protocol, endpoint = factory(), DatagramEndpoint(self, place)
        self._datagrams[place] = protocol
        protocol.connection_made(endpoint)
        return endpoint

    async def exchange(
        self,
        datagram: bytes,
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str = FIRST_HOST,
    ) -> bytes:
        target = (address, port)
        faults = self.faults_of(target)
        asker = _Asker(datagram[:DATAGRAM_ID_OCTETS], target)
        endpoint = await self.listen_datagrams(lambda: asker, local_address, 0)
        self.log.append(f"datagram {local_address} -> {address}:{port}")
        try:
            async with asyncio.timeout(timeout_s):
                if faults.is_refusing or faults.is_unreachable:
                    await asyncio.sleep(2 * self.delay_s(faults))
                    code = errno.ECONNREFUSED if faults.is_refusing else errno.EHOSTUNREACH
                    raise OSError(code, f"{address}:{port} cannot be reached")
                self.send_datagram(datagram, endpoint.address, target)
                return await asker.answer
        finally:
            endpoint.close()

    def send_datagram(self, data: bytes, source: Place, target: Place) -> None:
        """Deliver after the latency, or lose it; nobody is told."""
        faults = self.faults_of(target) if target in self._datagrams else NONE
        faults = faults if faults is not NONE else self.faults_of(source)
        lost = faults.datagram_loss and self._chance.happens(faults.datagram_loss)
        if faults.is_silent or lost or self.is_parted(source[0], target[0]):
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self.delay_s(faults), self._receive_datagram, data, source, target)

    def _receive_datagram(self, data: bytes, source: Place, target: Place) -> None:
        protocol = self._find(self._datagrams, target)
        if protocol is not None:
            protocol.datagram_received(data, source)
        elif isinstance(asker := self._datagrams.get(source), _Asker):
            asker.refused()

    def forget_listener(self, listener: _Listener) -> None:
        self._listeners.pop(listener.place, None)

    def forget_datagram(self, place: Place) -> None:
        self._datagrams.pop(place, None)

    def _listener(self, place: Place) -> _Listener | None:
        found: _Listener | None = self._find(self._listeners, place)
        return found

    @staticmethod
    def _find(table: dict[Place, Any], place: Place) -> Any:
        if place in table:
            return table[place]
        for address in ANY_ADDRESS:
            if (address, place[1]) in table:
                return table[address, place[1]]
        return None

    def _free_port(self, address: str) -> int:
        while True:
            self._next_port += 1
            if self._next_port > PORT_MAX:
                self._next_port = EPHEMERAL_FIRST
            place = (address, self._next_port)
            if place not in self._datagrams and place not in self._listeners:
                return self._next_port


class Host:
    """The port `Network` of one host: its connections come from, and its listeners on the wildcard
    address sit at, its own address."""

    def __init__(self, network: SimNetwork, address: str) -> None:
        self.network = network
        self.address = address

    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        return await self.network.connect(
            factory,
            address,
            port,
            timeout_s=timeout_s,
            local_address=local_address or self.address,
        )

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> Listening:
        own = self.address if address in ANY_ADDRESS else address
        return await self.network.listen(factory, own, port)

    async def exchange(
        self, datagram: bytes, address: str, port: int, *, timeout_s: float
    ) -> bytes:
        return await self.network.exchange(
            datagram, address, port, timeout_s=timeout_s, local_address=self.address
        )


class _Asker:
    """The socket of one `exchange`: takes the first datagram of the peer with the id asked with."""

    def __init__(self, message_id: bytes, peer: Place) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._message_id = message_id
        self._peer = peer

    def connection_made(self, transport: Any) -> None: ...

    def datagram_received(self, data: bytes, addr: Place) -> None:
        if addr == self._peer and data[:DATAGRAM_ID_OCTETS] == self._message_id:
            self._settle(data, None)

    def refused(self) -> None:
        self._settle(b"", ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there"))

    def _settle(self, data: bytes, error: OSError | None) -> None:
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(data)
