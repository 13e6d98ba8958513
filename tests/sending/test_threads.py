"""Work beside the loop, and in place where no thread can be had."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from posthouse.sending.threads import in_thread

PERSON: ContextVar[str] = ContextVar("person")


async def test_work_is_done_on_another_thread_with_the_same_context() -> None:
    PERSON.set("Ada")
    assert await in_thread(threading.get_ident) != threading.get_ident()
    assert await in_thread(PERSON.get) == "Ada"
    assert await in_thread(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


class NoThreads(ThreadPoolExecutor):
    """No thread can be started, though there are some."""

    def submit(self, call, /, *args, **keywords):
        super().submit(call, *args, **keywords).result()
        raise RuntimeError("can't start new thread")


async def test_what_an_executor_refuses_and_does_all_the_same_is_done_once() -> None:
    asyncio.get_running_loop().set_default_executor(NoThreads(1))
    done: list[int] = []
    await in_thread(done.append, 1)
    assert done == [1]


async def test_an_executor_that_is_shut_down_is_done_without() -> None:
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    executor.shutdown()
    assert await in_thread(threading.get_ident) == threading.get_ident()
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


async def test_work_that_is_given_up_before_its_turn_is_not_done() -> None:
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    go_on = threading.Event()
    executor.submit(go_on.wait)
    done: list[int] = []
    waiting = asyncio.ensure_future(in_thread(done.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    executor.shutdown()
    assert done == []
