"""The port `Clock` over the time of the event loop: virtual on a `VirtualLoop`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class VirtualClock:
    """Wall time begins at `start` when the clock is made. `jump` moves it as NTP or a person may
    (F16); monotonic time never notices."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start = start - timedelta(seconds=loop.time())

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())

    def unix_us(self) -> int:
        return (self.now() - _EPOCH) // _MICROSECOND

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Move the wall clock, forward or back."""
        self._start += timedelta(seconds=seconds)
