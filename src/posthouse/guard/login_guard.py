"""The `FailureGuard` that logins ask, over the counts of failed logins."""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.guard.auth_failures import AuthFailureOptions, AuthFailures
from posthouse.kernel.ports import Clock

SETTINGS: Final = {
    "address a minute": "auth.failures.per_minute",
    "account and address a minute": "auth.failures.per_minute",
    "address a day": "auth.failures.per_day",
    "account and address a day": "auth.failures.per_day",
    "network a day": "auth.failures.per_network_day",
}
"""By `FailureCost.limit`."""


class Penalty(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a failed login."""

    delay_s: float
    """Wait this long before answering."""
    limit: str = ""
    """The setting whose count began a ban with this failure; "" when none did."""
    value: float = 0.0
    """Of that setting."""
    observed: float = 0.0


class LoginGuard:
    """Binds the clock to `AuthFailures`, and names its limits as the configuration does."""

    def __init__(
        self, failures: AuthFailures, clock: Clock, options: AuthFailureOptions | None = None
    ) -> None:
        """Args:
        options: those of `failures`, for the values of its limits.
        """
        self._failures = failures
        self._clock = clock
        options = options or AuthFailureOptions()
        self._values = {
            "auth.failures.per_minute": options.per_minute_max,
            "auth.failures.per_day": options.per_day_max,
            "auth.failures.per_network_day": options.per_network_day_max,
        }

    def is_banned(self, address: str, account: str) -> bool:
        return not self._failures.check(address, account, self._clock.monotonic_s()).is_allowed

    def failed(self, address: str, account: str) -> Penalty:
        cost = self._failures.failed(address, account, self._clock.monotonic_s())
        if not cost.limit:
            return Penalty(delay_s=cost.delay_s)
        setting = SETTINGS[cost.limit]
        return Penalty(
            delay_s=cost.delay_s,
            limit=setting,
            value=self._values[setting],
            observed=cost.observed,
        )

    def succeeded(self, address: str, account: str) -> None:
        self._failures.succeeded(address, account)
