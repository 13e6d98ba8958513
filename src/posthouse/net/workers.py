"""The `Workers` port on threads: argon2id, RSA and other work that releases the GIL.

A few daemon threads, a bounded queue in front of them and a deadline behind them (F22): whoever
waits always gets an answer, and a thread that hangs is replaced, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from posthouse.kernel.errors import Fault

T = TypeVar("T")

HASH_MAX: Final = 2
QUEUE_MAX: Final = 100
WORK_S: Final = 30.0
HUNG_MAX: Final = 8


class WorkersBusy(Fault):
    """No worker thread could take the work, or did not finish it: 454 4.7.0 at AUTH (F22)."""


class _Job:
    __slots__ = ("future", "loop", "work")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()


class ThreadWorkers:
    """`hash_max` threads, started when first needed."""

    def __init__(
        self, *, hash_max: int = HASH_MAX, queue_max: int = QUEUE_MAX, work_s: float = WORK_S
    ) -> None:
        """Args:
        hash_max: work that runs at once, best the number of cores.
        queue_max: work that may wait besides.
        work_s: how long waiting and running may take together.
        """
        self._hash_max = hash_max
        self._queue_max = queue_max
        self._work_s = work_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._open = 0
        self._threads = 0
        self._lock = threading.Lock()  # over the three below
        self._hung = 0
        self._running: set[_Job] = set()
        self._given_up: set[_Job] = set()  # their threads are replaced and end when they return

    @property
    def waiting(self) -> int:
        """Work accepted and not yet finished, beyond what runs at once."""
        return max(0, self._open - self._hash_max)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raised.

        Raises:
            WorkersBusy: the queue is full, or `work_s` has passed.
        """
        if self._open >= self._hash_max + self._queue_max:
            raise WorkersBusy("too much work is waiting for a thread")
        if self._threads < self._hash_max:
            self._start_thread()
        job = _Job(work, asyncio.get_running_loop())
        self._open += 1
        self._jobs.put(job)
        try:
            async with asyncio.timeout(self._work_s):
                result: T = await job.future
        except TimeoutError as error:
            if not job.future.cancelled():
                raise  # the work itself timed out at something
            self._give_up(job)
            raise WorkersBusy(f"a thread took more than {self._work_s:g} s") from error
        finally:
            self._open -= 1
        return result

    def close(self) -> None:
        """Let the threads end when the work at hand is done. Waits for nothing."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _start_thread(self) -> None:
        name = f"posthouse-worker-{self._threads}"
        self._threads += 1
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _give_up(self, job: _Job) -> None:
        """The job missed its deadline; if a thread is stuck in it, start another in its place."""
        with self._lock:
            if job not in self._running or self._hung >= HUNG_MAX:
                return
            self._hung += 1
            self._given_up.add(job)
        self._threads -= 1
        self._start_thread()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.cancelled():
                continue  # nobody waits any more
            with self._lock:
                self._running.add(job)
            result: Any = None
            problem: BaseException | None = None
            try:
                result = job.work()
            except BaseException as error:
                problem = error
            with self._lock:
                self._running.discard(job)
                is_replaced = job in self._given_up
                if is_replaced:
                    self._given_up.discard(job)
                    self._hung -= 1
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(_settle, job.future, result, problem)
            if is_replaced:
                return


def _settle(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if future.done():
        return
    if problem is not None:
        future.set_exception(problem)
    else:
        future.set_result(result)
