"""What strangers sent (keys, packets, certificates) is worked on in children that always end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from posthouse.kernel.ports import IsolationFailed
from posthouse.net import isolated
from posthouse.net.isolated import ProcessIsolation
from posthouse.sim.isolated import InlineIsolation

HERE = "tests.net.isolated_work:"
MIB = 1024 * 1024


@pytest.fixture
async def isolation() -> AsyncIterator[ProcessIsolation]:
    made = ProcessIsolation(package="tests")
    yield made
    made.close()


async def run(
    isolation: ProcessIsolation | InlineIsolation,
    name: str,
    octets: bytes = b"",
    *,
    timeout_s: float = 20.0,
    memory_octets: int = 64 * MIB,
    result_octets: int = MIB,
) -> bytes:
    return await isolation.run(
        HERE + name,
        octets,
        timeout_s=timeout_s,
        memory_octets=memory_octets,
        result_octets=result_octets,
    )


async def until(claim: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_work_gives_its_result(isolation: ProcessIsolation) -> None:
    assert await run(isolation, "reverse", b"abc") == b"cba"
    assert await run(isolation, "reverse", b"") == b""


async def test_octets_that_fill_every_buffer_go_through_both_ways(
    isolation: ProcessIsolation,
) -> None:
    octets = os.urandom(8 * MIB)
    got = await run(isolation, "reverse", octets, result_octets=8 * MIB)
    assert got == octets[::-1]


async def test_each_piece_has_a_process_of_its_own_and_all_the_same_parent(
    isolation: ProcessIsolation,
) -> None:
    first = (await run(isolation, "process")).split()
    second = (await run(isolation, "process")).split()
    assert first[0] != second[0]
    assert first[1] == second[1] != str(os.getpid()).encode()


async def test_a_memory_bomb_ends_by_itself(isolation: ProcessIsolation) -> None:
    with pytest.raises(IsolationFailed, match="more than 64 MiB of memory"):
        await run(isolation, "bomb")
    assert await run(isolation, "reverse", b"on") == b"no"


@pytest.mark.timed
async def test_an_endless_loop_is_ended_when_its_time_is_over(isolation: ProcessIsolation) -> None:
    await run(isolation, "reverse")
    began = time.monotonic()
    with pytest.raises(IsolationFailed, match=r"longer than 0\.2 s"):
        await run(isolation, "loop", timeout_s=0.2)
    assert time.monotonic() - began < 10
    assert await run(isolation, "reverse", b"on") == b"no"


async def test_one_that_hears_no_signal_is_killed_all_the_same(isolation: ProcessIsolation) -> None:
    with pytest.raises(IsolationFailed, match="longer than"):
        await run(isolation, "loop_with_ears_shut", timeout_s=0.2)
    zygote = isolation._zygote
    assert zygote is not None
    await until(lambda: not zygote._jobs)
    assert zygote.is_usable()


async def test_waiting_without_work_is_bounded_too(isolation: ProcessIsolation) -> None:
    with pytest.raises(IsolationFailed, match="longer than"):
        await run(isolation, "linger", b"600", timeout_s=0.2)


async def test_a_crash_is_told_by_its_signal(isolation: ProcessIsolation) -> None:
    with pytest.raises(IsolationFailed, match=r"crashed \(SIGABRT\)"):
        await run(isolation, "crash")
    with pytest.raises(IsolationFailed, match="without a result"):
        await run(isolation, "leave")
    assert await run(isolation, "reverse", b"on") == b"no"


@pytest.mark.parametrize("work", ["fill_and_crash", "fill_and_fail"])
async def test_what_breaks_near_its_memory_bound_needed_more(
    isolation: ProcessIsolation, work: str
) -> None:
    with pytest.raises(IsolationFailed, match="more than 64 MiB of memory"):
        await run(isolation, work, str(32 * MIB).encode())
    with pytest.raises(IsolationFailed, match=r"crashed \(SIGSEGV\)|failed with ValueError"):
        await run(isolation, work, b"1000")
    # What it was given is not what it needed.
    with pytest.raises(IsolationFailed, match=r"crashed \(SIGSEGV\)|failed with ValueError"):
        await run(isolation, work, b"1000".rjust(32 * MIB, b"0"))


@pytest.mark.parametrize(
    ("work", "octets", "is_for_now"),
    [
        ("bomb", b"", False),
        ("grow", b"%d" % (2 * MIB), False),
        ("loop", b"", True),
        ("linger", b"600", True),
        ("fill_and_crash", b"%d" % (32 * MIB), False),
        ("crash", b"", True),
        ("leave", b"", True),
        ("fail", b"", True),
        ("nothing_of_that_name", b"", True),
    ],
)
async def test_only_a_bound_that_the_work_went_past_is_final(
    isolation: ProcessIsolation, work: str, octets: bytes, is_for_now: bool
) -> None:
    await run(isolation, "reverse")
    timeout_s = 0.2 if work in {"loop", "linger"} else 20.0
    with pytest.raises(IsolationFailed) as caught:
        await run(isolation, work, octets, timeout_s=timeout_s)
    assert caught.value.is_for_now is is_for_now, caught.value


async def test_a_loop_that_stands_still_loses_no_process(
    isolation: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "GRACE_S", 0.3)
    lasting = asyncio.ensure_future(run(isolation, "linger", b"2.5"))
    parent = (await run(isolation, "process")).split()[1]
    zygote = isolation._zygote
    assert zygote is not None
    for _ in range(3):
        assert await run(isolation, "reverse", b"on") == b"no"
        time.sleep(0.5)
    assert (await run(isolation, "process")).split()[1] == parent
    assert await lasting == b"awake"
    assert zygote.is_usable()


async def test_an_exception_is_told_without_its_words(isolation: ProcessIsolation) -> None:
    with pytest.raises(IsolationFailed) as caught:
        await run(isolation, "fail", b"hunter2")
    assert str(caught.value) == "it failed with ValueError"


async def test_a_result_that_is_too_big_is_not_taken(isolation: ProcessIsolation) -> None:
    assert len(await run(isolation, "grow", b"1000", result_octets=1000)) == 1000
    with pytest.raises(IsolationFailed, match="larger than 1000 octets"):
        await run(isolation, "grow", b"1001", result_octets=1000)


async def test_only_functions_of_ours_may_be_named() -> None:
    ours = ProcessIsolation()
    for name in ("os:abort", "posthouse:x", "posthousex.y:z", "posthouse.a:b.c", "posthouse.a", ""):
        with pytest.raises(ValueError, match="is no function of posthouse"):
            await ours.run(name, b"", timeout_s=1, memory_octets=MIB, result_octets=1)
    assert ours._zygote is None


async def test_a_function_that_is_not_there_is_a_failure(isolation: ProcessIsolation) -> None:
    with pytest.raises(IsolationFailed, match="not installed"):
        await run(isolation, "nothing_of_that_name")
    assert await run(isolation, "reverse", b"on") == b"no"


async def test_a_child_has_nothing_of_its_parent(
    isolation: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOUSE_SECRET", "hunter2")
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    lines = (await run(isolation, "surroundings")).decode().splitlines()
    found = dict(line.split(" ", 1) for line in lines)
    assert "POSTHOUSE" not in found["environment"] and "RUST" not in found["environment"]
    assert found["core"] == "(0, 0)"
    assert found["session"] == "True"
    assert found["sockets"] == "1"  # its channel
    assert found["others"] == "[]"


async def test_a_child_writes_no_files(isolation: ProcessIsolation, tmp_path: Path) -> None:
    target = tmp_path / "leak"
    with pytest.raises(IsolationFailed, match="failed with OSError"):
        await run(isolation, "write_file", str(target).encode())
    assert not target.exists() or target.read_bytes() == b""


async def test_many_at_once_all_get_their_answers_two_at_a_time(
    isolation: ProcessIsolation,
) -> None:
    work = [run(isolation, "reverse", f"{n:03}".encode()) for n in range(60)]
    tasks = [asyncio.ensure_future(one) for one in work]
    await asyncio.sleep(0)
    assert isolation._running == 2
    assert await asyncio.gather(*tasks) == [f"{n:03}"[::-1].encode() for n in range(60)]
    await until(lambda: isolation._running == 0)


async def test_more_than_may_wait_is_refused_at_once() -> None:
    isolation = ProcessIsolation(running_max=1, waiting_max=2, package="tests")
    try:
        tasks = [asyncio.ensure_future(run(isolation, "linger", b"0.1")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(IsolationFailed, match="too much work is waiting"):
            await run(isolation, "reverse")
        assert await asyncio.gather(*tasks) == [b"awake"] * 3
    finally:
        isolation.close()


async def test_nobody_waits_for_a_turn_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "WAIT_S", 0.05)
    isolation = ProcessIsolation(running_max=1, package="tests")
    try:
        first = asyncio.ensure_future(run(isolation, "linger", b"600"))
        await asyncio.sleep(0)
        with pytest.raises(IsolationFailed, match="no turn came"):
            await run(isolation, "reverse")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await until(lambda: isolation._running == 0)
        assert await run(isolation, "reverse", b"on") == b"no"
    finally:
        isolation.close()


async def test_work_that_nobody_waits_for_any_more_is_killed(
    isolation: ProcessIsolation, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    task = asyncio.ensure_future(
        run(isolation, "tell_and_linger", str(pipe).encode(), timeout_s=600)
    )
    process = int(await asyncio.to_thread(pipe.read_text))
    assert is_alive(process)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not is_alive(process))
    assert await run(isolation, "reverse", b"on") == b"no"


async def test_what_a_child_leaves_behind_ends_with_it(isolation: ProcessIsolation) -> None:
    left = int(await run(isolation, "fork_and_tell"))
    await until(lambda: not is_alive(left))


async def test_a_zygote_that_died_is_replaced(isolation: ProcessIsolation) -> None:
    parent = int((await run(isolation, "process")).split()[1])
    os.kill(parent, signal.SIGKILL)
    zygote = isolation._zygote
    assert zygote is not None
    await until(lambda: not zygote.is_usable())
    assert int((await run(isolation, "process")).split()[1]) != parent


async def test_children_end_with_the_zygote(isolation: ProcessIsolation, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    zygote = int((await run(isolation, "process")).split()[1])
    task = asyncio.ensure_future(
        run(isolation, "tell_and_linger", str(pipe).encode(), timeout_s=600)
    )
    process = int(await asyncio.to_thread(pipe.read_text))
    os.kill(zygote, signal.SIGKILL)
    with pytest.raises(IsolationFailed, match="the process that isolates work ended"):
        await task
    await until(lambda: not is_alive(process))


SERVER = """
import asyncio, sys
from posthouse.net.isolated import ProcessIsolation
async def main():
    isolation = ProcessIsolation(package="tests")
    await isolation.run(
        "tests.net.isolated_work:tell_and_linger", sys.argv[1].encode(),
        timeout_s=600, memory_octets=2**26, result_octets=10,
    )
asyncio.run(main())
"""


async def test_children_end_with_the_server(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(pipe)], env=environment)
    try:
        process = int(await asyncio.to_thread(pipe.read_text))
        parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        assert is_alive(process) and is_alive(parent)
    finally:
        server.kill()
        server.wait()
    await until(lambda: not is_alive(process) and not is_alive(parent))


async def test_closing_ends_what_runs_and_twice_is_once(
    isolation: ProcessIsolation, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    task = asyncio.ensure_future(
        run(isolation, "tell_and_linger", str(pipe).encode(), timeout_s=600)
    )
    process = int(await asyncio.to_thread(pipe.read_text))
    isolation.close()
    isolation.close()
    with pytest.raises(IsolationFailed, match="ended"):
        await task
    await until(lambda: not is_alive(process))


def test_another_loop_gets_another_process() -> None:
    isolation = ProcessIsolation(package="tests")
    try:
        first = asyncio.run(run(isolation, "process")).split()[1]
        second = asyncio.run(run(isolation, "process")).split()[1]
        assert first != second
    finally:
        isolation.close()


async def test_a_python_that_cannot_be_started_is_a_failure(
    isolation: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(IsolationFailed, match="no process could be started"):
        await run(isolation, "reverse")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(IsolationFailed, match="ended"):
        await run(isolation, "reverse")
    monkeypatch.undo()
    await until(lambda: isolation._running == 0)
    assert await run(isolation, "reverse", b"on") == b"no"


async def test_the_simulators_isolation_keeps_the_bound_on_the_result() -> None:
    inline = InlineIsolation()
    assert await run(inline, "reverse", b"abc") == b"cba"
    with pytest.raises(IsolationFailed, match="larger than 10 octets"):
        await run(inline, "grow", b"11", result_octets=10)
    with pytest.raises(IsolationFailed, match="it failed with ValueError"):
        await run(inline, "fail", b"hunter2")
    inline.fault = IsolationFailed("as the simulator wants")
    with pytest.raises(IsolationFailed, match="simulator"):
        await run(inline, "reverse", b"abc")
    with pytest.raises(IsolationFailed, match="longer than 0 s"):
        await run(InlineIsolation(work_s=1), "reverse", b"abc", timeout_s=0)
