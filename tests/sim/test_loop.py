"""Virtual time: fast, repeatable, and honest about deadlocks and threads."""

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from posthouse.sim.chance import SeededChance
from posthouse.sim.loop import NothingWillHappen
from posthouse.sim.world import World, run_virtual
from tests.sim import story

WORK = 3_000_000  # some tens of milliseconds for a thread
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.timed
def test_five_days_of_retries_pass_in_less_than_a_second() -> None:
    async def main(world: World) -> tuple[datetime, int]:
        attempts = 0
        for _ in range(5 * 24 * 60):  # once a minute
            await world.clock.sleep(60)
            attempts += 1
        return world.clock.now(), attempts

    begin = time.perf_counter()
    now, attempts = run_virtual(main, start=START)
    assert time.perf_counter() - begin < 5.0  # loose: the machine may be busy
    assert attempts == 7200
    assert abs(now - START - timedelta(days=5)) < timedelta(milliseconds=100)


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main(world: World) -> list[float]:
        fired: list[float] = []

        async def wait(seconds: float) -> None:
            await world.clock.sleep(seconds)
            fired.append(world.clock.monotonic_s())

        async with asyncio.TaskGroup() as group:
            for seconds in (3600, 5, 400_000, 0, 5.5):
                group.create_task(wait(seconds))
        return fired

    assert run_virtual(main) == pytest.approx([0, 5, 5.5, 3600, 400_000])


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    assert story.tell(seed=1) == story.tell(seed=1)
    assert story.tell(seed=1) != story.tell(seed=2)
    assert len(story.tell(seed=1)) > 100


def test_a_run_is_the_same_in_another_process() -> None:
    code = "from tests.sim import story; print(*story.tell(seed=5), sep='\\n')"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    assert runs.pop().decode().split("\n")[:-1] == story.tell(seed=5)


def test_waiting_for_what_cannot_come_is_an_error_and_not_a_hang() -> None:
    async def main(world: World) -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingWillHappen):
        run_virtual(main)


def test_time_stands_still_while_an_executor_works() -> None:
    async def main(world: World) -> tuple[str, float]:
        ticker = asyncio.create_task(world.clock.sleep(1_000_000))
        result = await asyncio.to_thread(lambda: "done" if sum(range(WORK)) else "")
        ticker.cancel()
        return result, world.clock.monotonic_s()

    assert run_virtual(main) == ("done", 0.0)


def test_time_stands_still_while_a_probe_says_a_thread_is_at_work() -> None:
    import threading

    async def main(world: World) -> float:
        done = asyncio.Event()
        thread = threading.Thread(
            target=lambda: (
                sum(range(WORK)),
                world.loop.call_soon_threadsafe(done.set),
            )
        )
        world.loop.add_thread_probe(lambda: not done.is_set())
        ticker = asyncio.create_task(world.clock.sleep(1_000_000))
        thread.start()
        await done.wait()
        ticker.cancel()
        thread.join()
        return world.clock.monotonic_s()

    assert run_virtual(main) == 0.0


def test_a_jump_of_the_wall_clock_leaves_monotonic_time_alone() -> None:
    async def main(world: World) -> tuple[datetime, float, int]:
        await world.clock.sleep(10)
        world.clock.jump(-86_400)
        await world.clock.sleep(10)
        return world.clock.now(), world.clock.monotonic_s(), world.clock.unix_us()

    now, monotonic_s, unix_us = run_virtual(main, start=START)
    assert now == START + timedelta(seconds=20) - timedelta(days=1)
    assert monotonic_s == 20
    assert unix_us == int(now.timestamp()) * 1_000_000


def test_workers_run_the_work_fail_as_told_or_hang() -> None:
    async def main(world: World) -> None:
        workers = world.workers
        workers.work_s = 0.02
        assert await workers.run(lambda: 6 * 7) == 42
        assert world.clock.monotonic_s() == pytest.approx(0.02)
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        workers.fault = OSError("the worker died")
        with pytest.raises(OSError, match="died"):
            await workers.run(lambda: 1)
        workers.fault, workers.is_hanging = None, True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await workers.run(lambda: 1)

    run_virtual(main)


def test_chance_is_repeatable_and_its_forks_are_independent() -> None:
    def draw(chance: SeededChance) -> tuple[bytes, float, list[int]]:
        return chance.token(8), chance.uniform(-1, 1), chance.shuffled(list(range(20)))

    assert draw(SeededChance(1)) == draw(SeededChance(1)) != draw(SeededChance(2))
    parent, busy = SeededChance(1), SeededChance(1)
    busy.token(100)
    assert draw(parent.fork("dns")) == draw(busy.fork("dns")) != draw(parent.fork("net"))
    assert sorted(SeededChance(3).shuffled(list(range(9)))) == list(range(9))
