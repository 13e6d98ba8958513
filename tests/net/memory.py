"""A transport in memory, a handler that records, a clock that is told the time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from posthouse.kernel.ids import TraceId
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Stream, TlsStart


class ToldClock:
    def __init__(self) -> None:
        self.elapsed_s = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed_s)

    def unix_us(self) -> int:
        return int(self.now().timestamp() * 1_000_000)

    def monotonic_s(self) -> float:
        return self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.elapsed_s += seconds
        await asyncio.sleep(0)


class MemoryTransport:
    """Keeps what is written; `is_slow` leaves it in the buffer."""

    def __init__(self, address: str = "192.0.2.1", port: int = 1025, descriptor: int = 7) -> None:
        self.names = {"peername": (address, port), "sockname": ("192.0.2.9", 25), "socket": self}
        self.descriptor = descriptor
        self.writes: list[bytes] = []
        self.is_slow = False
        self.is_closed = False
        self.is_aborted = False
        self.is_paused = False

    def fileno(self) -> int:
        return self.descriptor

    def write(self, data: bytes) -> None:
        assert data and not self.is_closed
        self.writes.append(data)

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes)) if self.is_slow else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.names.get(name, default)

    def take(self) -> bytes:
        taken, self.writes = b"".join(self.writes), []
        return taken


class Recorder:
    """A handler that writes down what happens; `on` holds reactions by event name."""

    def __init__(self, **on: Any) -> None:
        self.events: list[str] = []
        self.octets = b""
        self.error: Exception | None = None
        self.stream: Stream | None = None
        self.on = on
        self.changed = asyncio.Event()

    def connected(self, stream: Stream) -> None:
        self.stream = stream
        self._note("connected")

    def received(self, octets: bytes) -> None:
        assert octets
        self.octets += octets
        self._note("received")

    def tls_started(self) -> None:
        self._note("tls_started")

    def ended(self) -> None:
        self._note("ended")

    def lost(self, error: Exception | None) -> None:
        assert "lost" not in self.events
        self.error = error
        self._note("lost")

    def writable(self) -> None:
        self._note("writable")

    def drain(self) -> None:
        self._note("drain")

    async def until(self, event: str, *, octets: int = 0) -> None:
        async with asyncio.timeout(10):
            while event not in self.events or len(self.octets) < octets:
                self.changed.clear()
                await self.changed.wait()

    def _note(self, event: str) -> None:
        assert event == "lost" or "lost" not in self.events, "nothing comes after lost"
        self.events.append(event)
        if event in self.on:
            self.on[event](self)
        self.changed.set()


def stream_for(
    handler: Any, *, clock: ToldClock | None = None, tls: TlsStart | None = None, **more: Any
) -> Stream:
    deadlines = Deadlines(clock or ToldClock())
    return Stream(handler, trace_id=TraceId("t"), deadlines=deadlines, tls=tls, **more)


def pump(one: Stream, its: MemoryTransport, other: Stream, others: MemoryTransport) -> None:
    """Carry octets both ways until both are silent."""
    while its.writes or others.writes:
        if octets := its.take():
            other.data_received(octets)
        if octets := others.take():
            one.data_received(octets)
