"""Windows, buckets and what failed logins cost. Time is a number the test passes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.guard.auth_failures import (
    DAY_S,
    AuthFailureOptions,
    AuthFailures,
    Permission,
)
from posthouse.guard.rates import RateOptions, SlidingRate, TokenBuckets, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("not an address", "not an address"),
    ],
)
def test_a_network_is_a_24_or_a_64(address: str, network: str) -> None:
    assert network_of(address) == network


def rate(count_max: int = 3, window_s: float = 60, rows_max: int = 100) -> SlidingRate:
    return SlidingRate(RateOptions(count_max=count_max, window_s=window_s, rows_max=rows_max))


def test_a_sliding_rate_lets_through_what_it_promises_and_forgets_slowly() -> None:
    window = rate()
    assert [window.allow("a", 0) for _ in range(5)] == [True, True, True, False, False]
    assert window.allow("b", 0)
    assert not window.allow("a", 61)  # the full window before still weighs 59/60
    assert window.allow("a", 85)
    assert window.observed("a", 300) == 0.0
    window.forget("b")
    assert window.observed("b", 1) == 0.0


@given(st.lists(st.floats(0, 20), max_size=200))
def test_no_window_ever_holds_twice_the_rate(waits: list[float]) -> None:
    window, now_s, allowed = rate(count_max=5), 0.0, []
    for wait_s in waits:
        now_s += wait_s
        if window.allow("a", now_s):
            allowed.append(now_s)
    for start_s in allowed:
        assert sum(start_s <= at_s < start_s + 60 for at_s in allowed) <= 2 * 5


def test_rows_are_bounded_and_the_one_untouched_for_longest_goes_first() -> None:  # P9
    window = rate(rows_max=3)
    for key in ("a", "b", "c", "a", "d"):
        window.add(key, 0)
    assert len(window) == 3 and window.observed("b", 0) == 0 and window.observed("a", 0) == 2
    window.prune(500)
    assert len(window) == 0


def test_a_bucket_gives_a_burst_and_then_tells_the_wait() -> None:
    buckets = TokenBuckets(RateOptions(count_max=2, window_s=10, rows_max=2))
    assert [buckets.take("a", 0) for _ in range(3)] == [0.0, 0.0, 5.0]
    assert buckets.take("a", 4) == pytest.approx(1.0)
    assert buckets.take("a", 5) == 0.0
    buckets.take("b", 5)
    buckets.take("c", 5)
    assert len(buckets) == 2
    assert buckets.take("b", 4) == 0.0  # a clock that steps back gives and takes nothing
    buckets.prune(100)
    assert len(buckets) == 0


# --- failed logins ---


def failures(**options: object) -> AuthFailures:
    return AuthFailures(AuthFailureOptions(**options))  # type: ignore[arg-type]


def test_each_failure_waits_longer_up_to_a_maximum() -> None:
    table = failures()
    waits = [table.failed("192.0.2.1", f"u{n}", 0).delay_s for n in range(7)]
    assert waits == [1, 2, 4, 8, 15, 15, 15]
    table.succeeded("192.0.2.1", "u1")
    assert table.failed("192.0.2.1", "u1", 0).delay_s == 1


def test_ten_failures_in_a_minute_ban_the_address_for_a_while() -> None:
    table = failures()
    costs = [table.failed("192.0.2.1", f"u{n}", n) for n in range(10)]
    assert [cost.banned_until_s for cost in costs[:9]] == [0.0] * 9
    assert costs[9].banned_until_s == 609.0 and costs[9].limit == "address a minute"
    gate = table.check("192.0.2.1", "anyone", 10)
    assert gate.permission is Permission.ADDRESS_BANNED and not gate.is_allowed
    assert table.check("192.0.2.2", "u1", 10).is_allowed
    assert table.bans(10) == [("192.0.2.1", 609.0)]
    assert table.check("192.0.2.1", "anyone", 610).is_allowed and table.bans(610) == []


def test_fifty_failures_a_day_ban_for_a_day_however_slowly_they_come() -> None:
    table = failures()
    for number in range(50):
        cost = table.failed("192.0.2.1", f"u{number}", number * 600.0)
    assert cost.limit == "address a day" and cost.banned_until_s == 49 * 600 + DAY_S


def test_success_does_not_reset_the_count_of_the_day() -> None:
    table = failures(per_day_max=5)
    for number in range(5):
        assert table.check("192.0.2.1", "mine", number * 600).is_allowed
        table.failed("192.0.2.1", "victim", number * 600)
        table.succeeded("192.0.2.1", "mine")
    assert not table.check("192.0.2.1", "mine", 3000).is_allowed


def test_an_account_guessed_from_elsewhere_is_not_closed_at_home() -> None:  # H23
    table = failures()
    for number in range(10):
        table.failed("198.51.100.9", "Victim@Example.org", number)
    assert table.check("192.0.2.1", "victim@example.org", 11).is_allowed
    assert not table.check("198.51.100.9", "victim@example.org", 11).is_allowed


def test_a_network_of_guessers_is_banned_together() -> None:
    table = failures(per_network_day_max=20)
    for number in range(20):
        table.failed(f"192.0.2.{number}", "x", number * 100.0)
    gate = table.check("192.0.2.200", "y", 2000)
    assert gate.permission is Permission.NETWORK_BANNED
    assert table.lift("192.0.2.200") and table.check("192.0.2.200", "y", 2000).is_allowed
    assert not table.lift("192.0.2.200")


def test_tables_of_failures_are_bounded_and_pruned() -> None:  # P9
    table = failures(per_minute_max=1, rows_max=10)
    for number in range(100):
        table.failed(f"198.18.{number}.1", "x" * 10_000, 0)
    assert len(table._bans) <= 10 and len(table._day) <= 10
    assert all(len(key) < 400 for key in table._day._rows)
    table.prune(3 * DAY_S)
    assert (len(table._bans), len(table._day), len(table._minute)) == (0, 0, 0)
