"""How much one address may bring and one account may send, as limits at MAIL and RCPT."""

from __future__ import annotations

import msgspec

from posthouse.guard.rates import RateOptions, SlidingRate

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86_400.0


class AdmissionOptions(msgspec.Struct, frozen=True, kw_only=True):
    messages_per_minute: int = 120
    octets_per_minute: int = 500 * 1024 * 1024
    recipients_per_hour: int = 300
    recipients_per_day: int = 2_000
    rows_max: int = 1_000_000


class Admission:
    """One for each process. Time is monotonic seconds, passed in."""

    def __init__(self, options: AdmissionOptions) -> None:
        def rate(count_max: int, window_s: float) -> SlidingRate:
            return SlidingRate(
                RateOptions(count_max=count_max, window_s=window_s, rows_max=options.rows_max)
            )

        self._options = options
        self._messages = rate(options.messages_per_minute, MINUTE_S)
        self._mebibytes = rate(max(1, options.octets_per_minute >> 20), MINUTE_S)
        self._hour = rate(options.recipients_per_hour, HOUR_S)
        self._day = rate(options.recipients_per_day, DAY_S)

    def message(self, address: str, octets: int, now_s: float) -> str | None:
        """Count a message of an address; why not, in words, when it is too many."""
        if not self._messages.allow(address, now_s):
            return "Too many messages from your address, try again in a minute"
        for _ in range(octets >> 20):
            if not self._mebibytes.allow(address, now_s):
                return "Too much mail from your address, try again in a minute"
        return None

    def submission(self, account: int, now_s: float) -> str | None:
        """Count a recipient an account sends to; why not, and until when, when it is too many."""
        key = str(account)
        if not self._hour.allow(key, now_s):
            return "You sent to many recipients this hour, try again within the hour"
        if not self._day.allow(key, now_s):
            return "You sent to many recipients today, try again tomorrow"
        return None
