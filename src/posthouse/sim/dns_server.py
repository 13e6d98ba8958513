"""The DNS of the laboratory: `Zones` over UDP and TCP, on loopback or in the simulated network."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from posthouse.sim.dns import Reply, Zones
from posthouse.sim.network import SimNetwork

LENGTH_OCTETS: Final = 2
BIND_TRIES: Final = 20


class LabDns:
    """One server on one address and port, UDP and TCP. Closing ends what is still open."""

    def __init__(self, zones: Zones) -> None:
        self.zones = zones
        self.address = ("", 0)
        self._closers: list[Any] = []
        self._connections: set[_TcpAnswers] = set()

    async def serve_loopback(self, address: str = "127.0.0.1", port: int = 0) -> None:
        """Real sockets. With port 0 one that is free for both UDP and TCP is taken.

        Raises:
            OSError: in use.
        """
        loop = asyncio.get_running_loop()
        for left in reversed(range(BIND_TRIES)):
            server = await loop.create_server(self._tcp, address, port)
            bound: int = server.sockets[0].getsockname()[1]
            try:
                udp, _ = await loop.create_datagram_endpoint(
                    lambda: _UdpAnswers(self.zones), local_addr=(address, bound)
                )
            except OSError:
                server.close()
                if port or not left:
                    raise
                continue
            self.address = (address, bound)
            self._closers += [server, udp]
            return

    async def serve_sim(self, network: SimNetwork, address: str, port: int = 53) -> None:
        """In the simulated network."""
        udp = await network.listen_datagrams(lambda: _UdpAnswers(self.zones), address, port)
        listening = await network.listen(self._tcp, address, port)
        self.address = listening.address
        self._closers += [listening, udp]

    def close(self) -> None:
        for closer in self._closers:
            closer.close()
        for connection in list(self._connections):
            connection.close()
        self._closers.clear()

    def _tcp(self) -> _TcpAnswers:
        return _TcpAnswers(self.zones, self._connections)


class _UdpAnswers(asyncio.DatagramProtocol):
    def __init__(self, zones: Zones) -> None:
        self._zones = zones
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = self._zones.reply(data, is_tcp=False)
        if reply.octets is None:
            return
        loop = asyncio.get_running_loop()
        if reply.delay_s:
            loop.call_later(reply.delay_s, self._transport.sendto, reply.octets, addr)
        else:
            self._transport.sendto(reply.octets, addr)


class _TcpAnswers(asyncio.Protocol):
    def __init__(self, zones: Zones, connections: set[_TcpAnswers]) -> None:
        self._zones = zones
        self._connections = connections
        self._inbox = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        while len(self._inbox) >= LENGTH_OCTETS:
            end = LENGTH_OCTETS + int.from_bytes(self._inbox[:LENGTH_OCTETS])
            if len(self._inbox) < end:
                return
            question = bytes(self._inbox[LENGTH_OCTETS:end])
            del self._inbox[:end]
            self._answer(self._zones.reply(question, is_tcp=True))

    def close(self) -> None:
        self._transport.abort()

    def _answer(self, reply: Reply) -> None:
        if reply.octets is None:
            return
        framed = len(reply.octets).to_bytes(LENGTH_OCTETS) + reply.octets
        asyncio.get_running_loop().call_later(reply.delay_s, self._transport.write, framed)
