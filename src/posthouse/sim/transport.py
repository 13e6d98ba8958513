"""Connections of the simulated network: pairs of transports that behave as asyncio's do.

Each way has a window of octets in flight; what does not fit waits in the sender's write buffer and
pauses its protocol at the high-water mark. A protocol that pauses reading lets the window fill.
One thing is kinder than Linux: closing with unread octets sends FIN, not a reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from posthouse.kernel.ports import TransportProtocol

if TYPE_CHECKING:
    from posthouse.sim.faults import Faults
    from posthouse.sim.network import Place, SimNetwork

WINDOW_OCTETS: Final = 65_536
HIGH_WATER_OCTETS: Final = 65_536
FIN: Final = None


class Connection:
    """Two transports and what has passed between them. `target` is where the listener is, and so
    the place whose faults count."""

    def __init__(self, network: SimNetwork, source: Place, target: Place, *, number: int) -> None:
        self.network = network
        self.source = source
        self.target = target
        self.number = number
        self.passed_octets = 0
        self.client = SimTransport(self, source, target)
        self.server = SimTransport(self, target, source)
        self.client.peer, self.server.peer = self.server, self.client

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    async def open(self, client: TransportProtocol, server: TransportProtocol) -> TransportProtocol:
        asyncio.get_running_loop().call_soon(self.server.start, server)
        self.client.start(client)
        return client

    @property
    def faults(self) -> Faults:
        return self.network.faults_of(self.target)

    @property
    def is_held(self) -> bool:
        """Octets wait, as TCP repeats them until the line is back."""
        return self.faults.is_silent or self.network.is_parted(self.source[0], self.target[0])

    @property
    def is_dead(self) -> bool:
        """Nothing will arrive any more, not even a reset."""
        limit = self.faults.vanish_after_octets
        return limit is not None and self.passed_octets >= limit

    def reset(self) -> None:
        """Both sides lose the connection now."""
        for transport in (self.client, self.server):
            transport.lose(ConnectionResetError("connection reset by peer"))

    def wake(self) -> None:
        for transport in (self.client, self.server):
            transport.wake()

    def forget(self) -> None:
        if self.client.is_lost and self.server.is_lost:
            self.network.connections.discard(self)


class SimTransport:
    """One end, with the methods of `asyncio.Transport`."""

    peer: SimTransport

    def __init__(self, connection: Connection, local: Place, remote: Place) -> None:
        self.connection = connection
        self.is_lost = False
        self._loop = asyncio.get_running_loop()
        self._names = {"sockname": local, "peername": remote}
        self._protocol: Any = None
        self._limits = (HIGH_WATER_OCTETS // 4, HIGH_WATER_OCTETS)
        # Sending: the buffer, then the line, then the peer's inbox.
        self._buffer = bytearray()
        self._flying_octets = 0
        self._held: deque[bytes | None] = deque()
        self._line_free_s = 0.0
        self._last_arrival_s = 0.0
        self._is_writing_paused = False
        self._has_eof = False  # write_eof or close was called
        self._is_fin_sent = False
        # Receiving.
        self._inbox: deque[bytes | None] = deque()
        self._is_reading_paused = False
        self._is_closing = False

    def start(self, protocol: TransportProtocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._deliver()

    # --- asyncio.Transport ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._names.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return not (self._is_reading_paused or self._is_closing)

    def pause_reading(self) -> None:
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER_OCTETS if low is None else 4 * low
        self._limits = (high // 4 if low is None else low, high)
        self._mind_the_marks()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._limits

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._has_eof and not self._is_closing:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._is_closing or not data:
            return
        self._buffer += data
        self._pump()
        self._mind_the_marks()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self._has_eof = True
        self._pump()

    def close(self) -> None:
        """Read no more; what is buffered still goes out, then `connection_lost(None)`."""
        if self._is_closing:
            return
        self._is_closing = self._has_eof = True
        self._drop_inbox()
        self._pump()

    def abort(self) -> None:
        """Drop everything; the peer sees a reset."""
        if not self.is_lost:
            self._buffer.clear()
            self._send_reset()
            self.lose(None)

    # --- sending ---

    def _pump(self) -> None:
        """Put what the window has room for on the line."""
        while self._buffer and self._flying_octets < WINDOW_OCTETS and not self.is_lost:
            room = min(len(self._buffer), WINDOW_OCTETS - self._flying_octets)
            size = self.connection.network.segment_octets(room, self.connection.faults)
            segment = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._flying_octets += size
            self._send(segment)
        if self._has_eof and not self._buffer and not self.is_lost:
            if not self._is_fin_sent:
                self._is_fin_sent = True
                self._send(FIN)
            if self._is_closing:
                self.lose(None)

    def _send(self, segment: bytes | None) -> None:
        faults = self.connection.faults
        leaves_s = max(self._loop.time(), self._line_free_s)
        if faults.octets_per_s is not None and segment is not None:
            leaves_s += len(segment) / faults.octets_per_s
            self._line_free_s = leaves_s
        arrives_s = leaves_s + self.connection.network.delay_s(faults)
        self._last_arrival_s = max(arrives_s, self._last_arrival_s)
        # Timers of the same moment have no order of their own, and octets need one.
        self._last_arrival_s += 1e-9 + self._last_arrival_s * 1e-15
        self._loop.call_at(self._last_arrival_s, self._arrive, segment)

    def _arrive(self, segment: bytes | None) -> None:
        if self._held or self.connection.is_held:
            self._held.append(segment)
        else:
            self._pass_on(segment)

    def _pass_on(self, segment: bytes | None) -> None:
        connection, faults = self.connection, self.connection.faults
        if connection.is_dead:
            return
        if segment is not FIN:
            room = min(
                WINDOW_OCTETS if limit is None else max(0, limit - connection.passed_octets)
                for limit in (faults.reset_after_octets, faults.vanish_after_octets)
            )
            connection.passed_octets += len(segment)
            if len(segment) > room:
                self.peer.receive(segment[:room])
                if not connection.is_dead:
                    connection.reset()
                return
        self.peer.receive(segment)

    def wake(self) -> None:
        """The line may be back: what was held arrives now."""
        while self._held and not self.connection.is_held:
            self._pass_on(self._held.popleft())

    def acknowledge(self, octets: int) -> None:
        """The peer's protocol has taken so many octets; the window opens by as many."""
        self._loop.call_soon(self._acknowledged, octets)

    def _acknowledged(self, octets: int) -> None:
        self._flying_octets -= octets
        self._pump()
        self._mind_the_marks()

    def _mind_the_marks(self) -> None:
        low, high = self._limits
        if self.is_lost or self._protocol is None:
            return
        if len(self._buffer) > high and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()
        elif len(self._buffer) <= low and self._is_writing_paused:
            self._is_writing_paused = False
            self._protocol.resume_writing()

    def _send_reset(self) -> None:
        if not self.connection.is_dead:
            delay_s = self.connection.network.delay_s(self.connection.faults)
            error = ConnectionResetError("connection reset by peer")
            self._loop.call_later(delay_s, self._pass_on_reset, error)

    def _pass_on_reset(self, error: OSError) -> None:
        if not self.connection.is_held:
            self.peer.lose(error)

    # --- receiving ---

    def receive(self, segment: bytes | None) -> None:
        if self.is_lost:
            if segment:
                self._send_reset()
            return
        if self._is_closing:
            self.peer.acknowledge(len(segment or b""))
            return
        self._inbox.append(segment)
        self._deliver()

    def _deliver(self) -> None:
        while self._inbox and self._protocol is not None and self.is_reading():
            segment = self._inbox.popleft()
            try:
                if segment is FIN:
                    if not self._protocol.eof_received():
                        self.close()
                elif segment:
                    self.peer.acknowledge(len(segment))
                    self._protocol.data_received(segment)
            except Exception as error:  # as asyncio: a bug in a protocol ends its connection
                context = {"message": "a protocol raised", "exception": error, "transport": self}
                self._loop.call_exception_handler(context)
                self._send_reset()
                self.lose(error)

    def _drop_inbox(self) -> None:
        self.peer.acknowledge(sum(len(segment or b"") for segment in self._inbox))
        self._inbox.clear()

    def lose(self, error: Exception | None) -> None:
        """The end of this side; the protocol hears of it once, from the loop."""
        if self.is_lost:
            return
        self.is_lost = self._is_closing = True
        self._buffer.clear()
        self._inbox.clear()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)
        self.connection.forget()
