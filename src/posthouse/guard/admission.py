"""How much one address may bring and one account may send, as limits at MAIL and RCPT."""

from __future__ import annotations

import msgspec

from posthouse.guard.rates import RateOptions, SlidingRate

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86_400.0
UNBOUNDED = 1 << 62


class AdmissionOptions(msgspec.Struct, frozen=True, kw_only=True):
    messages_per_minute: int = 120
    octets_per_minute: int = 500 * 1024 * 1024
    recipients_per_hour: int = 300
    recipients_per_day: int = 2_000
    rows_max: int = 1_000_000


class Admission:
    """One for each process. Time is monotonic seconds, passed in."""

    def __init__(self, options: AdmissionOptions) -> None:
        def rate(window_s: float) -> SlidingRate:
            # It only counts; the bounds are ours, as they may change while the counts stay.
            return SlidingRate(
                RateOptions(count_max=UNBOUNDED, window_s=window_s, rows_max=options.rows_max)
            )

        self._options = options
        self._messages = rate(MINUTE_S)
        self._mebibytes = rate(MINUTE_S)
        self._hour = rate(HOUR_S)
        self._day = rate(DAY_S)

    def set_options(self, options: AdmissionOptions) -> None:
        """Other bounds from now on; what was counted stays. `rows_max` keeps its first value."""
        self._options = options

    def message(self, address: str, octets: int, now_s: float) -> str | None:
        """Count a message of an address; why not, in words, when it is too many."""
        options = self._options
        if not _allow(self._messages, address, options.messages_per_minute, now_s):
            return "Too many messages from your address, try again in a minute"
        mebibytes_max = max(1, options.octets_per_minute >> 20)
        for _ in range(octets >> 20):
            if not _allow(self._mebibytes, address, mebibytes_max, now_s):
                return "Too much mail from your address, try again in a minute"
        return None

    def submission(self, account: int, now_s: float) -> str | None:
        """Count a recipient an account sends to; why not, and until when, when it is too many."""
        key = str(account)
        if not _allow(self._hour, key, self._options.recipients_per_hour, now_s):
            return "You sent to many recipients this hour, try again within the hour"
        if not _allow(self._day, key, self._options.recipients_per_day, now_s):
            return "You sent to many recipients today, try again tomorrow"
        return None


def _allow(rate: SlidingRate, key: str, count_max: int, now_s: float) -> bool:
    """Count one event if that keeps to the bound. A refused event is not counted."""
    if rate.observed(key, now_s) + 1 > count_max:
        return False
    rate.add(key, now_s)
    return True
