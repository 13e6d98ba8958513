"""When a certificate is renewed and when a failed attempt is repeated: numbers in, times out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

LEFT_AT_RENEWAL: Final = 1 / 3
"""Of the lifetime: a certificate of 90 days is renewed with 30 left, one of 6 days with 2."""
JITTER: Final = 1 / 10
"""Of that third, earlier, so that not everybody's renewals come at once."""
LATEST: Final = 1 / 6
"""Of the lifetime: whatever the authority wishes, with that left we renew."""
SOONEST: Final = timedelta(hours=12)
"""After an order, before a wish can bring the next."""
RETRY_FIRST_S: Final = 900.0
RETRY_MAX_S: Final = 86_400.0
ASK_S_MIN: Final = 60.0  # RFC 9773 §4.3.2
ASK_S_MAX: Final = 86_400.0


def renewal_at(not_before: datetime, not_after: datetime, *, chance: float) -> datetime:
    """Args:
    chance: from 0 to 1.
    """
    third = (not_after - not_before) * LEFT_AT_RENEWAL
    return not_after - third * (1.0 + JITTER * chance)


def wished_at(
    not_before: datetime, not_after: datetime, wish: datetime, *, obtained_at: datetime
) -> datetime:
    """The authority's wish (RFC 9773 §4.2), but never so late that no failure could be mended, and
    not so soon that an authority that wishes nonsense has us order for ever."""
    latest = not_after - (not_after - not_before) * LATEST
    return min(max(wish, obtained_at + SOONEST), latest)


def retry_at(now: datetime, failures: int, *, chance: float, told_s: float | None) -> datetime:
    """After so many failures in a row: 15 minutes, doubling up to a day, half of it by chance.

    Args:
        told_s: what the authority said in Retry-After; never sooner than that.
    """
    wait_s = min(RETRY_FIRST_S * 2.0 ** min(failures - 1, 30), RETRY_MAX_S)
    wait_s *= 0.75 + 0.5 * chance
    if told_s is not None:
        wait_s = max(wait_s, min(told_s, 7 * RETRY_MAX_S))
    return now + timedelta(seconds=wait_s)


def ask_again_at(now: datetime, after_s: float) -> datetime:
    return now + timedelta(seconds=min(max(after_s, ASK_S_MIN), ASK_S_MAX))
