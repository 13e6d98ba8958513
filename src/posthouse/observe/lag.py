"""How late the event loop wakes: what a blocked loop does to everybody (promise P10)."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.ports import Clock
from posthouse.observe import events
from posthouse.observe.log import Log
from posthouse.observe.metrics import Histogram

INTERVAL_S: Final = 0.5
BLOCKED_S: Final = 0.5
"""From here on a line is left: somebody has noticed the delay."""
CLOCK_JUMP_S: Final = 60.0
"""Wall time that moves this much apart from monotonic time is told of (F16)."""


async def watch_loop(
    clock: Clock, lag_seconds: Histogram, log: Log, *, interval_s: float = INTERVAL_S
) -> None:
    """Measure for ever; run it as a task and cancel it at the end."""
    wall_us, before = clock.unix_us(), clock.monotonic_s()
    while True:
        await clock.sleep(interval_s)
        now_us, now = clock.unix_us(), clock.monotonic_s()
        lag = max(0.0, now - before - interval_s)
        lag_seconds.observe(lag)
        if lag >= BLOCKED_S:
            log.write(events.LOOP_BLOCKED, seconds=round(lag, 3))
        jump = (now_us - wall_us) / 1e6 - (now - before)
        if abs(jump) >= CLOCK_JUMP_S:
            log.write(events.CLOCK_JUMPED, seconds=round(jump, 3))
        wall_us, before = now_us, now
