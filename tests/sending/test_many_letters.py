"""Sources of letters that are slow, wrong or wait for what they gave; and transports that are
closed, or forgotten, while letters are under way."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from posthouse.sending import (
    AsyncTransport,
    ConnectError,
    Message,
    MessageError,
    SendingError,
    Transport,
    blocking,
)
from tests.sending.bad_server import SILENCE, BadServer
from tests.sending.test_blocking import Beside, letter, transport


def wait_for(claim: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- sources ---


def test_what_is_no_letter_ends_none_of_the_others() -> None:
    given: list[Any] = [letter(0), None, "x", letter(3)]
    with Transport("memory:") as way:
        told = {one.index: one for one in way.send_all(given)}
    assert [told[n].receipt is not None for n in range(4)] == [True, False, False, True]
    assert isinstance(told[1].error, MessageError) and isinstance(told[2].error, MessageError)


async def test_it_is_the_same_with_a_loop() -> None:
    given: list[Any] = [letter(0), None, letter(2)]
    async with AsyncTransport("memory:") as way:
        told = {one.index: one async for one in way.send_all(given)}
    assert [told[n].receipt is not None for n in range(3)] == [True, False, True]


def test_an_asynchronous_source_is_for_the_other_front() -> None:
    async def source() -> AsyncIterator[Message]:
        yield letter()

    with Transport("memory:") as way, pytest.raises(MessageError, match="asynchronous source"):
        list(way.send_all(source()))  # type: ignore[arg-type]


async def test_a_source_may_wait_for_what_became_of_the_last_letter() -> None:
    told: asyncio.Queue[int] = asyncio.Queue()

    async def source() -> AsyncIterator[Message]:
        for n in range(3):
            yield letter(n)
            assert await asyncio.wait_for(told.get(), 10) == n

    async with AsyncTransport("memory:") as way:
        async for one in way.send_all(source()):
            told.put_nowait(one.index)
    assert told.empty()


def test_letters_are_told_of_before_the_source_is_asked_for_more(
    server: BadServer,
) -> None:
    done: list[int] = []

    def source() -> Iterator[Message]:
        for n in range(3):
            yield letter(n)
            wait_for(lambda n=n: len(server.taken) > n)  # type: ignore[misc]
            time.sleep(0.05)  # its reply is on the way
        assert len(done) >= 2

    with transport(server) as way:
        for one in way.send_all(source()):
            done.append(one.index)
    assert done == [0, 1, 2]


async def test_leaving_early_ends_the_question_to_the_source() -> None:
    ended = asyncio.Event()

    async def source() -> AsyncIterator[Message]:
        try:
            yield letter()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with AsyncTransport("memory:") as way:
        results = way.send_all(source())
        async for _ in results:
            break
        await results.aclose()  # type: ignore[attr-defined]
    assert ended.is_set()


async def test_what_on_begin_raises_leaves_the_receipts_of_the_others() -> None:
    def journal(index: int) -> None:
        if index == 2:
            raise OSError("no room for the journal")

    told = []
    async with BadServer() as server:
        async with AsyncTransport(host="127.0.0.1", port=server.port) as way:
            with pytest.raises(OSError, match="no room"):
                async for one in way.send_all([letter(n) for n in range(9)], on_begin=journal):
                    told.append(one.index)
        assert len(told) == len(server.taken) and 2 not in told


@pytest.mark.parametrize("at", [1, 3, 7])
def test_ctrl_c_anywhere_loses_no_receipt(server: BadServer, at: int) -> None:
    """It comes behind any call on the caller's thread: here, in the progress of one letter."""
    calls: list[int] = []

    def progress(done: int, failed: int) -> None:
        calls.append(done)
        if len(calls) == at:
            raise KeyboardInterrupt

    told = []
    with transport(server) as way, pytest.raises(KeyboardInterrupt):
        for one in way.send_all(map(letter, range(50)), on_progress=progress):
            told.append(one.index)
    taken = sorted(int(one.recipients[0][1:].partition("@")[0]) for one in server.taken)
    assert sorted(told) == taken and len(taken) < 50
    assert calls[-1] == len(told)


# --- transports that are closed, or forgotten ---


def test_closing_waits_for_what_is_under_way_and_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server never says whether it took the letter, and the program ends."""
    monkeypatch.setattr(blocking, "CLOSE_S", 0.2)
    with Beside(replies={"DOT": SILENCE}) as server, ThreadPoolExecutor(9) as threads:
        way = transport(server, connections_max=1)
        futures = [threads.submit(way.send, letter(n)) for n in range(4)]
        wait_for(lambda: "DATA" in " ".join(server.commands))
        blocking._close_all()
        errors = [future.exception(timeout=10) for future in futures]
    assert all(isinstance(one, SendingError) for one in errors)
    assert sum(one.may_have_been_sent for one in errors if isinstance(one, SendingError)) >= 1


def test_closing_in_the_middle_of_many_ends_them(server: BadServer) -> None:
    way = transport(server)
    endless = (letter(n) for n in iter(int, 1))
    told = []
    with pytest.raises(SendingError, match="closed"):
        for one in way.send_all(endless):
            told.append(one)
            if len(told) == 3:
                threading.Thread(target=way.close).start()
            if one.error is not None:
                raise one.error
    assert isinstance(told[-1].error, ConnectError)


def test_a_forgotten_transport_gives_its_thread_back(server: BadServer) -> None:
    before = threading.active_count()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for n in range(5):
            transport(server).send(letter(n))
        gc.collect()
        wait_for(lambda: threading.active_count() <= before)
    assert [one.category for one in seen if "closed" in str(one.message)] == [ResourceWarning] * 5
    assert len(server.taken) == 5


LAST_WORDS = """
import sys, threading
from posthouse.sending import Message, Transport

way = Transport(host="127.0.0.1", port=int(sys.argv[1]))
main = threading.main_thread()

def work():
    main.join()
    letter = Message(sender="ada@example.org", to="b@example.net", text="x" * 300_000)
    print(way.send(letter).response)

threading.Thread(target=work).start()
"""


def test_a_thread_may_send_while_the_program_ends(server: BadServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAST_WORDS, str(server.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("250") and len(server.taken) == 1


@pytest.fixture
def server() -> Iterator[BadServer]:
    with Beside() as server:
        yield server


FORK = """
import os, sys, threading
from posthouse.sending import Message, Transport

letter = Message(sender="ada@example.org", to="b@example.net", text="x")
way = Transport(host="127.0.0.1", port=int(sys.argv[1]))
way.send(letter)
held, leave = threading.Event(), threading.Event()

def hold():
    with way._lock:
        held.set()
        leave.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
if os.fork() == 0:
    print(way.send(letter).response, flush=True)
    os._exit(0)
print(os.wait()[1])
leave.set()
"""


def test_a_fork_while_another_thread_sends_can_send(server: BadServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(server.port)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("250") and second == "0" and len(server.taken) == 2
