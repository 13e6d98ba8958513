"""A connection inside this process, from a client of ours to a session of a service of ours.

What comes by HTTP is submitted over it by SMTP, so that every rule and limit of the submission
port, its logins and its log hold for it too, and no second way in has to be kept equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Listening, TransportProtocol
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Handler, Peer, Stream


class Door(Protocol):
    """`reception.door.Door`."""

    def session(self, stream: Stream) -> Handler: ...


class _InnerStream(Stream):
    """What crosses no wire needs no encryption."""

    __slots__ = ()

    @property
    def is_tls(self) -> bool:
        return True


class _Waiting:
    """A handler until the session is there."""

    def connected(self, stream: Stream) -> None: ...
    def received(self, octets: bytes) -> None: ...
    def tls_started(self) -> None: ...
    def ended(self) -> None: ...
    def lost(self, error: Exception | None) -> None: ...
    def writable(self) -> None: ...


class _End:
    """One end's transport: what is written to it arrives at the other in the next turn."""

    def __init__(self, peer: tuple[str, int]) -> None:
        self.other: _End
        self.protocol: TransportProtocol
        self._peer = peer
        self._is_open = True
        self._is_paused = False
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        if self._is_open:
            asyncio.get_running_loop().call_soon(self.other.arrived, bytes(data))

    def arrived(self, octets: bytes) -> None:
        if not self._is_open:
            return
        if self._is_paused:
            self._held += octets
        else:
            self.protocol.data_received(octets)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._held:
            octets, self._held = bytes(self._held), bytearray()
            asyncio.get_running_loop().call_soon(self.arrived, octets)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            loop = asyncio.get_running_loop()
            loop.call_soon(self.protocol.connection_lost, None)
            loop.call_soon(self.other.close)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return not self._is_open

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peer if name in ("peername", "sockname") else default


class InnerNetwork:
    """The port `Network`, on which there is one service."""

    def __init__(
        self,
        door: Door,
        *,
        peer: Peer,
        trace_id: Callable[[], TraceId],
        deadlines: Deadlines,
    ) -> None:
        """
        Args:
            peer: whom the service takes for the client, for bans, limits and the log.
        """
        self._door = door
        self._peer = peer
        self._trace_id = trace_id
        self._deadlines = deadlines

    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        stream = _InnerStream(_Waiting(), trace_id=self._trace_id(), deadlines=self._deadlines)
        client, server = _End(("127.0.0.1", port)), _End((self._peer.address, self._peer.port))
        client.other, server.other = server, client
        client.protocol, server.protocol = factory(), stream
        stream.connection_made(server)
        client.protocol.connection_made(client)
        stream.hand_over(self._door.session(stream), tls=None)
        return client.protocol

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> Listening:
        raise OSError("nobody listens inside")

    async def exchange(
        self, datagram: bytes, address: str, port: int, *, timeout_s: float
    ) -> bytes:
        raise OSError("there are no datagrams inside")
