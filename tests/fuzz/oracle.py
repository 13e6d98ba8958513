"""What no parser may do to an input of up to a mebibyte: raise, take long, take much memory, or
take more than its share when the input grows. Times are of this thread, so that a busy machine
counts little."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

import msgspec

SLOW_S = 1.0
MEMORY_OCTETS_MAX = 64 * 1024 * 1024
INPUT_OCTETS_MAX = 1024 * 1024
RATIO_MAX = 2.5
"""Of the times for twice the octets and for the octets; 2 is linear, 4 is quadratic."""
MEASURABLE_S = 0.003
TRIES = 6


class Shape(msgspec.Struct, frozen=True):
    """An input of any size: `piece` again and again between `head` and `tail`."""

    head: bytes
    piece: bytes
    tail: bytes

    def octets(self, size: int) -> bytes:
        count = (size - len(self.head) - len(self.tail)) // len(self.piece)
        return self.head + self.piece * max(1, count) + self.tail


class Growth(msgspec.Struct, frozen=True):
    """The quickest of some runs with n, 2n and 4n octets."""

    size: int
    took_s: tuple[float, float, float]

    @property
    def is_too_fast(self) -> bool:
        """Whether both doublings cost too much; a bound that is passed makes one step only."""
        one, two, four = self.took_s
        return two > RATIO_MAX * one and four > RATIO_MAX * two

    def __str__(self) -> str:
        times = ", ".join(f"{took_s * 1000:.1f}" for took_s in self.took_s)
        return f"n, 2n and 4n took {times} ms, n = {self.size} octets"


def seconds(run: Callable[[bytes], object], octets: bytes) -> float:
    began_s = time.thread_time()
    run(octets)
    return time.thread_time() - began_s


def growth(
    run: Callable[[bytes], object],
    make: Callable[[int], bytes],
    *,
    sizes: tuple[int, int] = (8 * 1024, INPUT_OCTETS_MAX // 4),
) -> Growth | None:
    """How the time grows with the size given to `make`; None when it is never long enough to tell.

    Args:
        sizes: the first n to try, doubled until it takes measurable time, and the last.
    """
    size, last = sizes
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        while True:
            one = make(size)
            if seconds(run, one) >= MEASURABLE_S:
                break
            if size * 2 > last:
                return None
            size *= 2
        inputs = [make(size * times) for times in (1, 2, 4)]
        best = [float("inf")] * 3
        for _ in range(TRIES):
            for at, octets in enumerate(inputs):
                best[at] = min(best[at], seconds(run, octets))
            found = Growth(size, (best[0], best[1], best[2]))
            if not found.is_too_fast:
                break
        return found
    finally:
        if was_collecting:
            gc.enable()


class Memory:
    """How far the process's resident memory rose during a call, above what it was before.

    Linux only (it resets the high-water mark of /proc/self/status); 0 elsewhere. Memory that the
    allocator had at hand is not seen, so this finds bombs and does not weigh.
    """

    def __init__(self) -> None:
        try:
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY)
            self._status = os.open("/proc/self/status", os.O_RDONLY)
        except OSError:
            self._reset = self._status = -1
        self._before = 0

    def begin(self) -> None:
        if self._status >= 0:
            os.pwrite(self._reset, b"5", 0)
            self._before = self._high()

    def risen_octets(self) -> int:
        return self._high() - self._before if self._status >= 0 else 0

    def close(self) -> None:
        if self._status >= 0:
            os.close(self._reset)
            os.close(self._status)

    def _high(self) -> int:
        status = os.pread(self._status, 4096, 0)
        at = status.index(b"VmHWM:") + 6
        return int(status[at : status.index(b"kB", at)]) * 1024
