"""No more than so many messages begin within any stretch of so many seconds."""

from __future__ import annotations

from collections import deque


class Rate:
    """A sliding window over the last beginnings."""

    __slots__ = ("_began", "_most", "_per_s")

    def __init__(self, most: int, per_s: float) -> None:
        self._most = most
        self._per_s = per_s
        self._began: deque[float] = deque(maxlen=most)

    def wait_s(self, now: float) -> float:
        """Seconds until one more may begin; 0.0 for now."""
        if len(self._began) < self._most:
            return 0.0
        return max(0.0, self._began[0] + self._per_s - now)

    def took(self, now: float) -> None:
        """One begins."""
        self._began.append(now)
