"""The `FailureGuard` that logins ask, over the counts of failed logins."""

from __future__ import annotations

from posthouse.guard.auth_failures import AuthFailures
from posthouse.kernel.ports import Clock


class LoginGuard:
    """Binds the clock to `AuthFailures`."""

    def __init__(self, failures: AuthFailures, clock: Clock) -> None:
        self._failures = failures
        self._clock = clock

    def is_banned(self, address: str, account: str) -> bool:
        return not self._failures.check(address, account, self._clock.monotonic_s()).is_allowed

    def failed(self, address: str, account: str) -> float:
        return self._failures.failed(address, account, self._clock.monotonic_s()).delay_s

    def succeeded(self, address: str, account: str) -> None:
        self._failures.succeeded(address, account)
