"""A blocked event loop and a jumping clock are noticed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from posthouse.observe.lag import watch_loop
from posthouse.observe.log import Log
from posthouse.observe.metrics import SECONDS_FAST, Histogram
from posthouse.observe.options import LogOptions


class Ended(Exception):
    """The story of the clock is over."""


class StoryClock:
    """Each sleep takes as long as asked plus a lag, while wall time jumps by as much as told."""

    def __init__(self, story: list[tuple[float, float]]) -> None:
        self._story = iter(story)
        self._monotonic_s = 0.0
        self._wall_s = 1_000_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_s, UTC)

    def unix_us(self) -> int:
        return round(self._wall_s * 1e6)

    def monotonic_s(self) -> float:
        return self._monotonic_s

    async def sleep(self, seconds: float) -> None:
        for lag_s, jump_s in self._story:
            self._monotonic_s += seconds + lag_s
            self._wall_s += seconds + lag_s + jump_s
            return
        raise Ended


async def told(story: list[tuple[float, float]]) -> tuple[list[dict[str, object]], Histogram]:
    lines: list[bytes] = []
    lag = Histogram(SECONDS_FAST)
    log = Log(lines.append, unix_us=lambda: 0, options=LogOptions())
    with pytest.raises(Ended):
        await watch_loop(StoryClock(story), lag, log)
    return [json.loads(line) for line in lines], lag


async def test_small_lags_are_only_measured() -> None:
    lines, lag = await told([(0.0, 0.0), (0.01, 0.0)])
    assert lines == []
    assert lag.count == 2
    assert lag.sum == pytest.approx(0.01)


async def test_a_blocked_loop_leaves_a_line() -> None:
    lines, _ = await told([(5.0, 0.0), (0.0, 0.0)])
    assert [(line["event"], line["seconds"]) for line in lines] == [("loop.blocked", 5.0)]


# F16
@pytest.mark.parametrize("jump_s", [-86_400.0, 3_600.0])
async def test_a_jump_of_the_wall_clock_is_told_and_counts_as_no_lag(jump_s: float) -> None:
    lines, lag = await told([(0.0, jump_s), (0.0, 0.0)])
    assert [(line["event"], line["seconds"]) for line in lines] == [("clock.jumped", jump_s)]
    assert lag.sum == pytest.approx(0, abs=1e-9)
