"""How often something happened lately, by key, in bounded memory.

A key is an address, its network (`network_of`), an account, or several of them joined by the
caller. Time is always passed in, in monotonic seconds.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

import msgspec

ROWS_MAX: Final = 1_000_000
"""`guard.rows_max`: keys one table keeps; the one untouched for longest goes first."""


@lru_cache(maxsize=16_384)
def network_of(address: str) -> str:
    """The network limits are counted by: an IPv4 address's /24, an IPv6 address's /64.

    What is no IP address is its own network.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
        parsed = parsed.ipv4_mapped
    return f"{ipaddress.IPv4Address(int(parsed) >> 8 << 8)}/24"


class RateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """At most `count_max` events in any `window_s` seconds."""

    count_max: int
    window_s: float
    rows_max: int = ROWS_MAX


class _Row:
    """Events in the window that began at `started_s`, and in the one before it."""

    __slots__ = ("before", "count", "started_s")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.count = 0
        self.before = 0


class SlidingRate:
    """Sliding window from two counters a key: exact for a steady peer, never more than one window
    late for a bursting one, and the same size whatever the rate is."""

    __slots__ = ("_options", "_rows")

    def __init__(self, options: RateOptions) -> None:
        self._options = options
        self._rows: dict[str, _Row] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def observed(self, key: str, now_s: float) -> float:
        """Events in the window that ends now, the older part of it in proportion."""
        row = self._rows.get(key)
        if row is None:
            return 0.0
        self._roll(row, now_s)
        past = (now_s - row.started_s) / self._options.window_s
        return row.count + row.before * (1.0 - past)

    def add(self, key: str, now_s: float) -> float:
        """Count one event; returns `observed` with it."""
        row = self._rows.pop(key, None)
        if row is None:
            row = _Row(now_s)
            if len(self._rows) >= self._options.rows_max:
                del self._rows[next(iter(self._rows))]
        self._rows[key] = row  # at the end: dicts keep the order, the first is the oldest
        self._roll(row, now_s)
        row.count += 1
        return self.observed(key, now_s)

    def allow(self, key: str, now_s: float) -> bool:
        """Count one event if that keeps to the rate. A refused event is not counted."""
        if self.observed(key, now_s) + 1 > self._options.count_max:
            return False
        self.add(key, now_s)
        return True

    def forget(self, key: str) -> None:
        self._rows.pop(key, None)

    def prune(self, now_s: float) -> None:
        """Drop the rows that say nothing any more; called now and then, not for each event."""
        horizon_s = now_s - 2 * self._options.window_s
        for key in [key for key, row in self._rows.items() if row.started_s <= horizon_s]:
            del self._rows[key]

    def _roll(self, row: _Row, now_s: float) -> None:
        windows = int((now_s - row.started_s) // self._options.window_s)
        if windows <= 0:
            return
        row.before = row.count if windows == 1 else 0
        row.count = 0
        row.started_s += windows * self._options.window_s


class TokenBuckets:
    """Token bucket by key: bursts of `count_max`, refilled evenly over `window_s`."""

    __slots__ = ("_options", "_rows")

    def __init__(self, options: RateOptions) -> None:
        self._options = options
        self._rows: dict[str, tuple[float, float]] = {}  # tokens left, at this time

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, key: str, now_s: float, *, tokens: float = 1.0) -> float:
        """Take tokens; `tokens` is at most `count_max`, more would never fit.

        Returns:
            0.0, or the seconds until there will be enough; then none were taken.
        """
        options = self._options
        per_second = options.count_max / options.window_s
        left, at_s = self._rows.pop(key, (float(options.count_max), now_s))
        left = min(float(options.count_max), left + max(0.0, now_s - at_s) * per_second)
        short = tokens - left
        if short <= 0:
            left -= tokens
        if len(self._rows) >= options.rows_max:
            del self._rows[next(iter(self._rows))]
        self._rows[key] = (left, now_s)
        return max(0.0, short) / per_second

    def prune(self, now_s: float) -> None:
        """Drop the rows that are full again."""
        full_s = now_s - self._options.window_s
        for key in [key for key, (_, at_s) in self._rows.items() if at_s <= full_s]:
            del self._rows[key]
