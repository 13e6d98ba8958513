"""What failed logins cost: growing delays, then a ban for a while.

Failures are counted by address, and by account and address together, so that guessing one account
from many places slows nobody at home down (RELIABILITY names the limit `auth.failures`).
Times are monotonic seconds and passed in; the caller waits, answers and logs.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from posthouse.guard.rates import ROWS_MAX, RateOptions, SlidingRate, network_of

MINUTE_S = 60.0
DAY_S = 86_400.0


class AuthFailureOptions(msgspec.Struct, frozen=True, kw_only=True):
    per_minute_max: int = 10
    per_day_max: int = 50
    per_network_day_max: int = 500
    """Of a /24 or /64: a botnet in one rack, but also an office behind it."""
    delay_first_s: float = 1.0
    delay_max_s: float = 15.0
    ban_minute_s: float = 600.0
    """How long an address is refused after too many failures in a minute."""
    ban_day_s: float = 86_400.0
    rows_max: int = ROWS_MAX


class Permission(Enum):
    ALLOWED = "allowed"
    ADDRESS_BANNED = "address banned"
    NETWORK_BANNED = "network banned"
    PAIR_BANNED = "account banned from this address"


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a login may be tried now."""

    permission: Permission
    until_s: float = 0.0
    """When a ban ends, monotonic; 0.0 without one."""

    @property
    def is_allowed(self) -> bool:
        return self.permission is Permission.ALLOWED


class FailureCost(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a failure."""

    delay_s: float
    """Wait this long before answering."""
    banned_until_s: float = 0.0
    """A ban that this failure began, monotonic; 0.0 for none."""
    limit: str = ""
    """Which count brought the ban, such as "address a minute"; for log and metric."""
    observed: float = 0.0


ALLOWED = Gate(permission=Permission.ALLOWED)


class AuthFailures:
    """The failures of one process."""

    __slots__ = ("_bans", "_day", "_minute", "_network_day", "_options", "_streaks")

    def __init__(self, options: AuthFailureOptions) -> None:
        self._options = options
        rows = options.rows_max

        def rate(count_max: int, window_s: float) -> SlidingRate:
            return SlidingRate(RateOptions(count_max=count_max, window_s=window_s, rows_max=rows))

        self._minute = rate(options.per_minute_max, MINUTE_S)
        self._day = rate(options.per_day_max, DAY_S)
        self._network_day = rate(options.per_network_day_max, DAY_S)
        self._streaks = rate(options.per_day_max, DAY_S)
        self._bans: dict[str, float] = {}

    def check(self, address: str, account: str, now_s: float) -> Gate:
        """Whether a login may be tried. `account` is the name given, known or not (H23).

        Pass "" for `account` to ask about the address alone, when it connects.
        """
        for key, permission in (
            (address, Permission.ADDRESS_BANNED),
            (network_of(address), Permission.NETWORK_BANNED),
            (_pair(address, account), Permission.PAIR_BANNED),
        ):
            until_s = self._bans.get(key, 0.0)
            if until_s > now_s:
                return Gate(permission=permission, until_s=until_s)
            if until_s:
                del self._bans[key]
        return ALLOWED

    def failed(self, address: str, account: str, now_s: float) -> FailureCost:
        """Count a failure; the same for a wrong password and an unknown account."""
        options, pair, network = self._options, _pair(address, account), network_of(address)
        streak = self._streaks.add(address, now_s)
        delay_s = min(options.delay_max_s, options.delay_first_s * 2 ** min(streak - 1, 16))
        counts = (
            ("address a minute", address, self._minute.add(address, now_s), MINUTE_S),
            ("account and address a minute", pair, self._minute.add(pair, now_s), MINUTE_S),
            ("address a day", address, self._day.add(address, now_s), DAY_S),
            ("account and address a day", pair, self._day.add(pair, now_s), DAY_S),
        )
        worst = FailureCost(delay_s=delay_s)
        for limit, key, observed, window_s in counts:
            count_max = options.per_minute_max if window_s == MINUTE_S else options.per_day_max
            if observed >= count_max:
                ban_s = options.ban_minute_s if window_s == MINUTE_S else options.ban_day_s
                worst = self._ban(worst, key, now_s + ban_s, limit, observed)
        in_network = self._network_day.add(network, now_s)
        if in_network >= options.per_network_day_max:
            until_s = now_s + options.ban_day_s
            worst = self._ban(worst, network, until_s, "network a day", in_network)
        return worst

    def succeeded(self, address: str, account: str) -> None:
        """A right password ends the growing delays for its address; counts of the day stay, so
        that an account of one's own is no way to reset them."""
        self._streaks.forget(address)
        self._minute.forget(_pair(address, account))

    def lift(self, address: str) -> bool:
        """End the bans of an address and its network by hand; says whether there was one."""
        keys = [key for key in self._bans if key in (address, network_of(address))]
        keys += [key for key in self._bans if key.startswith(f"{address}\0")]
        for key in keys:
            del self._bans[key]
        return bool(keys)

    def bans(self, now_s: float) -> list[tuple[str, float]]:
        """Addresses, networks and "address, account" under a ban, with its end (monotonic)."""
        live = [(key.replace("\0", ", "), at_s) for key, at_s in self._bans.items()]
        return [(key, at_s) for key, at_s in live if at_s > now_s]

    def prune(self, now_s: float) -> None:
        """Drop what says nothing any more; called now and then."""
        for rate in (self._minute, self._day, self._network_day, self._streaks):
            rate.prune(now_s)
        self._bans = {key: until_s for key, until_s in self._bans.items() if until_s > now_s}

    def _ban(
        self, worst: FailureCost, key: str, until_s: float, limit: str, observed: float
    ) -> FailureCost:
        until_s = max(until_s, self._bans.pop(key, 0.0))
        if len(self._bans) >= self._options.rows_max:
            del self._bans[next(iter(self._bans))]
        self._bans[key] = until_s
        if until_s <= worst.banned_until_s:
            return worst
        return FailureCost(
            delay_s=worst.delay_s, banned_until_s=until_s, limit=limit, observed=observed
        )


def _pair(address: str, account: str) -> str:
    return f"{address}\0{account.casefold()[:320]}"
