"""A wall clock that jumps must not end a message (F16): nothing expires without a second look.

Leases, due times and lifetimes are wall time, which nodes share. When it moves by more than an
hour against monotonic time, or more passed since the queue last ran, what looks expired is tried
again first, and leases of others are given time to be renewed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.kernel.ports import Clock

US: Final = 1_000_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    jump_s: float = 3600.0
    """A wall clock that moved by more against the monotonic one has jumped."""
    second_look_s: float = 3600.0
    """For how long after a jump nothing expires and no delay is told."""


class SecondLook:
    """Compares the two clocks."""

    __slots__ = ("_clock", "_offset_s", "_options", "_until_s", "jumped_s")

    def __init__(self, options: Options, *, clock: Clock, last_seen_us: int | None) -> None:
        """Args:
        last_seen_us: wall time when the queue last ran, None for never.
        """
        self._options = options
        self._clock = clock
        self._offset_s = self._offset()
        self._until_s = float("-inf")
        self.jumped_s = 0.0
        """How far the last jump went, for the log."""
        if last_seen_us is not None:
            self._judge(clock.unix_us() / US - last_seen_us / US)

    def observe(self) -> bool:
        """Compare now; whether the clock has jumped since the last call."""
        offset_s = self._offset()
        moved_s, self._offset_s = offset_s - self._offset_s, offset_s
        return self._judge(moved_s)

    @property
    def is_doubtful(self) -> bool:
        """Whether wall time is still to be taken with care."""
        return self._clock.monotonic_s() < self._until_s

    def _offset(self) -> float:
        return self._clock.unix_us() / US - self._clock.monotonic_s()

    def _judge(self, moved_s: float) -> bool:
        if abs(moved_s) <= self._options.jump_s:
            return False
        self.jumped_s = moved_s
        self._until_s = self._clock.monotonic_s() + self._options.second_look_s
        return True
