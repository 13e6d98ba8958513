"""The guard of logins names the limits that bring bans as the configuration does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from posthouse.guard.auth_failures import AuthFailureOptions, AuthFailures
from posthouse.guard.login_guard import LoginGuard


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 2, tzinfo=UTC)

    def unix_us(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return 1_000.0

    async def sleep(self, seconds: float) -> None:
        return None


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        ({"per_minute_max": 3}, "auth.failures.per_minute"),
        ({"per_minute_max": 90, "per_day_max": 3}, "auth.failures.per_day"),
        ({"per_network_day_max": 3}, "auth.failures.per_network_day"),
    ],
)
def test_the_failure_that_begins_a_ban_says_which_limit_it_met(
    limits: dict[str, int], setting: str
) -> None:
    options = AuthFailureOptions(**limits)  # type: ignore[arg-type]
    guard = LoginGuard(AuthFailures(options), StoppedClock(), options)
    for _ in range(2):
        assert guard.failed("192.0.2.9", "ann").limit == ""
        assert not guard.is_banned("192.0.2.9", "ann")
    last = guard.failed("192.0.2.9", "ann")
    assert (last.limit, last.value, last.observed) == (setting, 3, 3)
    assert last.delay_s == 4.0 and guard.is_banned("192.0.2.9", "ann")
