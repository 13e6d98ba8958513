"""Work beside the loop, and in place where no thread can be had."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from textwrap import dedent

import pytest

from posthouse.sending.names import addresses_of
from posthouse.sending.threads import in_thread

PERSON: ContextVar[str] = ContextVar("person")


async def test_work_is_done_on_another_thread_with_the_same_context() -> None:
    PERSON.set("Ada")
    assert await in_thread(threading.get_ident) != threading.get_ident()
    assert await in_thread(PERSON.get) == "Ada"
    assert await in_thread(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


def test_a_letter_with_files_goes_out_while_the_program_ends(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"PNG")
    program = """
        import concurrent.futures.thread as executors, io, threading, time
        from posthouse.sending import Attachment, Message, Transport

        def last():
            while not executors._shutdown:  # set before other threads are waited for
                time.sleep(0.01)
            with Transport("memory:") as way:
                way.send(letter)
                print(len(way.letters), "sent")

        letter = Message(
            sender="ada@example.org", to="bob@example.net", text="Bye",
            html="<img src=a.png>", inline_files=True,
            attachments=["a.png", *(Attachment(content=one) for one in (io.BytesIO(), iter([])))],
        )
        threading.Thread(target=last).start()
    """
    command = [sys.executable, "-c", dedent(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1 sent\n", "")


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


def test_a_host_is_looked_up_though_the_program_is_ending() -> None:
    """asyncio's own loop takes a thread for it, uvloop none."""

    async def look_up() -> list[str]:
        executor = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(executor)
        executor.shutdown()
        return await addresses_of("localhost", 25)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert "127.0.0.1" in runner.run(look_up())


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
