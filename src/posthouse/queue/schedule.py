"""When a deferred recipient is tried again, and when it is given up (RFC 5321 §4.5.4.1)."""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.queue.item import Origin

US: Final = 1_000_000
"""Microseconds in a second."""
EXPONENT_MAX: Final = 64
MARK_S: Final = 30.0
"""Shortest wait when an attempt is brought forward to a mark."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    lifetime_s: float = 5 * 86_400.0
    dsn_lifetime_s: float = 2 * 86_400.0
    delay_notice_s: float = 4 * 3600.0
    first_s: float = 120.0
    """Wait after the first attempt."""
    growth: float = 2.0
    """Each wait is this many times the one before."""
    max_s: float = 4 * 3600.0
    jitter: float = 0.1
    """Part of the wait by which chance may move it."""

    def expires_at(self, accepted_at: int, origin: Origin) -> int:
        """When a message's lifetime ends. Times are microseconds since 1970."""
        lifetime_s = self.dsn_lifetime_s if origin is Origin.DSN else self.lifetime_s
        return accepted_at + int(lifetime_s * US)

    def next_delay_s(
        self,
        *,
        attempts: int,
        age_s: float,
        lifetime_s: float,
        is_notice_owed: bool,
        jitter: float,
        at_least_s: float = 0.0,
    ) -> float | None:
        """Seconds until the next attempt, or None when the message has expired.

        RFC 5321 §4.5.4.1 asks for at least 30 minutes between attempts. Deviation: the first ones
        come sooner, as greylisting hosts accept within minutes. An attempt is brought forward to
        the moment when the sender is told of the delay, and to the end of the lifetime, so that
        both follow upon a fresh attempt.

        Args:
            attempts: attempts already made, at least 1.
            age_s: seconds since we accepted the message.
            is_notice_owed: a delay notice would be sent once it is late.
            jitter: in [-1, 1), from the caller's generator.
            at_least_s: nothing can come of an attempt before; the marks may be sooner.
        """
        if age_s >= lifetime_s:
            return None
        wait_s = min(self.first_s * self.growth ** min(attempts - 1, EXPONENT_MAX), self.max_s)
        wait_s = max(wait_s * (1 + self.jitter * jitter), min(at_least_s, self.max_s))
        marks = (self.delay_notice_s, lifetime_s) if is_notice_owed else (lifetime_s,)
        for mark_s in marks:
            if age_s < mark_s < age_s + wait_s:
                return max(mark_s - age_s, min(MARK_S, wait_s))
        return wait_s

    @property
    def wait_max_s(self) -> float:
        """No honest wait is longer; a later due time comes of a clock that jumped (F16)."""
        return self.max_s * (1 + self.jitter) + MARK_S
