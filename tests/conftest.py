"""Fixtures every test may use."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

# The same examples at each run, so that a change is judged by what it changes, and no bound on the
# time that a busy machine takes for one. `--hypothesis-profile=default` looks for new ones.
settings.register_profile(
    "posthouse",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("posthouse")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item):
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A machine that has other work to do breaks a bound on time once; code that is too slow always.
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))


class RealClock:
    """The machine's time, for tests of what runs on real threads and sockets."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def unix_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of published test vectors, named by POSTHOUSE_VECTORS."""
    folder = os.environ.get("POSTHOUSE_VECTORS")
    if not folder:
        pytest.skip("POSTHOUSE_VECTORS is not set; docs/development.md says where each set is from")
    return Path(folder)
