"""The port `Workers` without threads: the work runs on the loop, after a chosen virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class InlineWorkers:
    """Runs each piece of work whole and in order, so that a run can be repeated.

    `work_s` is the virtual time a piece takes. While `fault` is set every piece ends with it
    instead of running; while `is_hanging` none ever ends (F22).
    """

    def __init__(self, *, work_s: float = 0.0) -> None:
        self.work_s = work_s
        self.fault: Exception | None = None
        self.is_hanging = False
        self.finished = 0

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self.is_hanging:
            loop.call_later(self.work_s, self._finish, future, work)
        return future

    def _finish(self, future: asyncio.Future[T], work: Callable[[], T]) -> None:
        if future.cancelled():
            return
        try:
            if self.fault is not None:
                raise self.fault
            result = work()
        except Exception as error:
            future.set_exception(error)
        else:
            self.finished += 1
            future.set_result(result)
