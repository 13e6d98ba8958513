"""An asyncio event loop whose time is virtual: when nothing is ready it jumps to the next timer.

Five days of retries pass in milliseconds, and the same seed gives the same order of events. It is
for what runs on one thread over the ports of `sim`; no real sockets, for time does not wait for
them. Threads of `run_in_executor`, and others through `add_thread_probe`, are waited for in real
time, virtual time standing still.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")

CLOCK_RESOLUTION_S: Final = 1e-6
"""So coarse that a sum of floats after years of virtual time still reaches its timer."""
PROBE_S: Final = 0.01
"""Real seconds between two looks at whether threads are still at work."""


class NothingWillHappen(RuntimeError):
    """No task is ready, no timer is set and no thread is at work: a deadlock in what is tested."""


class _JumpingSelector(selectors.BaseSelector):
    """Asks the real selector without waiting, and lets virtual time pass instead."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now_s = 0.0
        self.threads = 0  # of executors, at work for the loop
        self.probes: list[Callable[[], bool]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        while self._has_threads():  # one of them wakes us through `call_soon_threadsafe`
            if ready := self._real.select(PROBE_S):
                return ready
        if ready := self._real.select(0):
            return ready
        if timeout is None:
            raise NothingWillHappen("no task is ready, no timer is set and no thread is at work")
        self.now_s += timeout
        return []

    def _has_threads(self) -> bool:
        return self.threads > 0 or any(probe() for probe in self.probes)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map() or {}

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def close(self) -> None:
        self._real.close()


class _NumberedTask(asyncio.Task[T]):
    """A task whose hash is its number. A `TaskGroup` cancels its tasks in the order of a set, which
    otherwise would be the order of their addresses in memory."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], **rest: Any) -> None:
        self._number = number
        super().__init__(coro, **rest)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `time()` starts at 0 and is in virtual seconds."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = CLOCK_RESOLUTION_S
        self._numbers = itertools.count()
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._jumping.now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Virtual time stands still until the thread is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_is_done)
        return future

    async def shutdown_default_executor(self, *rest: Any) -> None:
        self._jumping.threads += 1  # a thread joins the others, and then calls the loop
        try:
            await super().shutdown_default_executor(*rest)
        finally:
            self._jumping.threads -= 1

    def add_thread_probe(self, probe: Callable[[], bool]) -> None:
        """Let virtual time stand still while `probe` says that some thread owes the loop a call."""
        self._jumping.probes.append(probe)

    def _thread_is_done(self, _future: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1

    def _make_task(
        self, _loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **rest: Any
    ) -> asyncio.Task[T]:
        return _NumberedTask(next(self._numbers), coro, loop=self, **rest)
