"""Deadlines of all live sessions, swept once a second: no timer is made for a command, and none
at all while nobody is there.

A session keeps one float, `deadline_s`; moving it is all that a command costs. Deadlines therefore
end up to `SWEEP_S` late, which no limit of ours minds.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

from posthouse.kernel.ports import Clock

SWEEP_S: Final = 1.0


class Expirable(Protocol):
    """Something with a deadline. `deadline_s` is monotonic; `math.inf` means none."""

    deadline_s: float

    def expired(self) -> None:
        """The deadline passed; it has been set to `math.inf`, so this comes once for each."""
        ...


class Deadlines:
    """The live sessions of one process."""

    __slots__ = ("_clock", "_live", "_someone", "now_s")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now_s = clock.monotonic_s()
        """Monotonic time of the last sweep: exact enough for deadlines, and free."""
        self._live: dict[int, Expirable] = {}
        self._someone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._live)

    def after_s(self, seconds: float) -> float:
        """The deadline `seconds` from now."""
        return self._clock.monotonic_s() + seconds

    def add(self, session: Expirable) -> None:
        """Watch it until `discard`; adding twice is once."""
        if not self._live:
            self.now_s = self._clock.monotonic_s()
        self._live[id(session)] = session
        self._someone.set()

    def discard(self, session: Expirable) -> None:
        self._live.pop(id(session), None)

    def sweep(self) -> int:
        """Expire what is due; returns how many that were."""
        now_s = self.now_s = self._clock.monotonic_s()
        due = [session for session in self._live.values() if session.deadline_s <= now_s]
        for session in due:
            if session.deadline_s <= now_s:  # another one's end may have moved or ended it
                session.deadline_s = math.inf
                session.expired()
        return len(due)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._someone.wait()
            await self._clock.sleep(SWEEP_S)
            self.sweep()
            if not self._live:
                self._someone.clear()
