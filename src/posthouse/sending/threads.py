"""Work that may wait for a disk, beside the loop: a letter that is sent while the program ends goes
out too, though Python starts no threads any more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

__all__ = ["in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(call: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """What the call gives, on a thread; or at once and in place where none can be had: the
    interpreter is shutting down, or the system has no thread to give."""
    done: Future[T] = Future()
    turn = threading.Lock()
    context = contextvars.copy_context()

    def work() -> None:
        # An executor that fails to start a thread has the work in its queue all the same, and an
        # older thread of it may take it: whoever is first does it.
        if not turn.acquire(blocking=False) or not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(context.run(call, *args, **keywords))
        except BaseException as error:
            done.set_exception(error)

    try:
        asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:
        work()
    return await asyncio.wrap_future(done)
