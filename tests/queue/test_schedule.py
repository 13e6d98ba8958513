"""Retry times, clocks that jump, and the window, each by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posthouse.queue import second_look, window
from posthouse.queue.item import Origin
from posthouse.queue.schedule import US, Options
from posthouse.queue.second_look import SecondLook
from posthouse.queue.window import Window

OPTIONS = Options()
DAY_S = 86_400.0


def delay(attempts: int, age_s: float, *, owed: bool = False, jitter: float = 0.0) -> float | None:
    return OPTIONS.next_delay_s(
        attempts=attempts, age_s=age_s, lifetime_s=5 * DAY_S, is_notice_owed=owed, jitter=jitter
    )


def test_waits_grow_from_minutes_to_hours() -> None:  # RFC 5321 §4.5.4.1
    waits = [delay(n, 60.0) for n in range(1, 12)]
    assert waits[:4] == [120, 240, 480, 960]
    assert waits == sorted(waits)
    assert waits[-1] == 4 * 3600


@given(
    attempts=st.integers(1, 10**9),
    age_s=st.floats(0, 5 * DAY_S - 1),
    jitter=st.floats(-1, 1),
    owed=st.booleans(),
)
def test_every_wait_is_bounded_and_ends_by_the_end_of_the_lifetime(
    attempts, age_s, jitter, owed
) -> None:
    wait_s = delay(attempts, age_s, owed=owed, jitter=jitter)
    assert wait_s is not None
    assert 30 <= wait_s <= OPTIONS.wait_max_s
    assert age_s + wait_s <= 5 * DAY_S + 31


@given(attempts=st.integers(1, 100), age_s=st.floats(5 * DAY_S, 1e12))
def test_after_its_lifetime_a_message_has_expired(attempts, age_s) -> None:
    assert delay(attempts, age_s) is None


def test_an_attempt_is_made_when_the_delay_is_to_be_told() -> None:
    assert delay(8, 3 * 3600.0, owed=True) == 3600
    assert delay(8, 3 * 3600.0, owed=False) == 4 * 3600


def test_a_notice_lives_shorter_than_a_message() -> None:
    assert OPTIONS.expires_at(0, Origin.DSN) == 2 * DAY_S * US
    assert OPTIONS.expires_at(0, Origin.MX) == 5 * DAY_S * US


class Hands:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.wall_s = 1e9
        self.mono_s = 50.0

    def unix_us(self) -> int:
        return int(self.wall_s * US)

    def monotonic_s(self) -> float:
        return self.mono_s

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono_s += seconds


def test_a_jump_is_seen_and_doubted_for_a_while() -> None:  # F16
    clock = Hands()
    look = SecondLook(second_look.Options(), clock=clock, last_seen_us=clock.unix_us())
    assert not look.is_doubtful
    clock.pass_s(10 * DAY_S)
    assert not look.observe()  # time that really passed is no jump
    clock.wall_s -= DAY_S
    assert look.observe() and look.is_doubtful
    assert not look.observe()
    clock.pass_s(3601)
    assert not look.is_doubtful


def test_a_small_step_is_no_jump() -> None:  # F16
    clock = Hands()
    look = SecondLook(second_look.Options(), clock=clock, last_seen_us=None)
    clock.wall_s += 3500
    assert not look.observe() and not look.is_doubtful


def test_a_long_time_down_is_doubted_too() -> None:  # F16
    clock = Hands()
    seen_us = clock.unix_us() - int(6 * DAY_S * US)
    assert SecondLook(second_look.Options(), clock=clock, last_seen_us=seen_us).is_doubtful


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0, 10)), max_size=200))
def test_no_destination_has_more_in_hand_than_its_credit(steps) -> None:  # P11
    options = window.Options(recipients_max=40, credit_max=16)
    hand = Window(options)
    under_way: list[str] = []
    for number, is_trouble, took_s in steps:
        hand.offer(f"d{number}", f"d{number}")
        for domain, key, count in hand.take_turn():
            assert 0 < count <= options.credit_max
            for _ in range(count):
                hand.began(key, 1)
                under_way.append(key)
            hand.leased(domain, key, may_have_more=True)
        assert hand.recipients == len(under_way) <= options.recipients_max
        if under_way:
            hand.ended(under_way.pop(0), 1, took_s=took_s, is_trouble=is_trouble)


def test_domains_of_a_busy_destination_wait_their_turn() -> None:  # P11
    hand = Window(window.Options(credit_first=1, credit_min=1))
    for domain in ("a", "b", "c"):
        hand.offer(domain, "smart host")
    served = []
    for _ in range(3):
        ((domain, key, _),) = hand.take_turn()
        served.append(domain)
        hand.began(key, 1)
        hand.leased(domain, key, may_have_more=False)
        assert not [turn for turn in hand.take_turn() if turn[0] == domain]
        hand.ended(key, 1, took_s=100.0, is_trouble=False)
    assert served == ["a", "b", "c"]
