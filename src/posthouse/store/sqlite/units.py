"""Units of work as the engine handles them: waiting, sharing a commit, told of their end."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

from posthouse.store.transaction import Transaction

Done = Callable[[Any, BaseException | None], None]
Outcome = tuple[Done, Any, BaseException | None]


class Unit:
    """A function that waits for its turn, and who is told of its end."""

    __slots__ = ("done", "function", "is_short", "octets")

    def __init__(
        self,
        function: Callable[[Transaction], Any],
        done: Done,
        octets: int,
        *,
        is_short: bool = False,
    ) -> None:
        self.function = function
        self.done = done
        self.octets = octets
        self.is_short = is_short


class Group:
    """Units that share a commit. `outcomes` is filled when they ran already, on the loop."""

    __slots__ = ("has_run", "is_foreign", "outcomes", "seconds", "started_s", "units")

    def __init__(self, units: list[Unit], started_s: float) -> None:
        self.units = units
        self.started_s = started_s
        self.seconds = 0.0
        self.outcomes: list[Outcome] = []
        self.has_run = False
        self.is_foreign = False


class CommitStats:
    """What `observe.metrics` shows of the writer; plain numbers, written by one thread."""

    __slots__ = ("commits", "seconds", "slowest_s", "units", "unknown_commits", "wal_octets")

    def __init__(self) -> None:
        self.commits = 0
        self.units = 0
        self.seconds = 0.0
        self.slowest_s = 0.0
        self.wal_octets = 0
        self.unknown_commits = 0


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def hand_over(done: Done, future: asyncio.Future[Any]) -> None:
    error = future.exception()
    done(None if error else future.result(), error)


def nobody(result: Any, error: BaseException | None) -> None:
    """For units that run in the caller, who reads the outcome from the group."""


def crash_point(name: str) -> Callable[[str], None]:
    """A `reach` that kills this process without warning at the named point (F8, F30).

    "store.before-commit" means the first time, "store.before-commit:20" the twentieth.
    """
    wanted, _, times = name.partition(":")
    passed = itertools.count(1)
    last = int(times) if times.isdecimal() else 1

    def reach(point: str) -> None:
        if point == wanted and next(passed) >= last:
            os.kill(os.getpid(), 9)

    return reach
