"""Checks as generators of DNS questions, and who answers them.

A check yields a tuple of questions that may be asked at the same time, is sent the answers in that
order, and returns its result:

    def has_mail(domain: str) -> Questions[bool]:
        (answer,) = yield (Question(domain, RecordType.MX),)
        return answer.status is DnsStatus.FOUND

So a check is pure: it can be stepped by a test with a dictionary, answered from the cache without a
task or an await (`try_known`), or driven with the resolver under a budget and a deadline
(`finish`). A check never sees an exception from the DNS: whatever goes wrong is `TEMPFAIL`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, Generic, TypeVar

import msgspec

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType, Resolver, Workers

T = TypeVar("T")

Known = Callable[[str, RecordType], DnsAnswer | None]
OVER_BUDGET: Final = "more DNS questions than a message may cause"
TOO_LATE: Final = "the time for checking the message is over"


class Question(msgspec.Struct, frozen=True):
    name: str
    record_type: RecordType

    def __str__(self) -> str:
        return f"{self.record_type.value} {self.name}"


Answers = tuple[DnsAnswer, ...]
Questions = Generator[tuple[Question, ...], Answers, T]


class Budget:
    """DNS questions that may still be asked for a message (`dns.per_message_max`). What is known
    already costs nothing: a sender of many messages brings the same questions each time."""

    __slots__ = ("asked", "left")

    def __init__(self, questions_max: int) -> None:
        self.left = questions_max
        self.asked = 0

    @property
    def is_spent(self) -> bool:
        return self.left < 0

    def take(self, questions: int) -> bool:
        """False when there is no room for so many; then the budget is spent."""
        self.asked += questions
        self.left -= questions
        return self.left >= 0


class Suspended(msgspec.Struct, Generic[T]):
    """A check that waits for answers nobody knows yet."""

    check: Questions[T]
    wanted: tuple[Question, ...]


class _Ended(msgspec.Struct, Generic[T]):
    result: T


def try_known(check: Questions[T], known: Known, budget: Budget) -> T | Suspended[T]:
    """Run a check as far as answers are known without asking: to its end, or until one is not."""
    return _go_on(check, _next(check, None), known, budget)


def suspended(check: Questions[T], budget: Budget) -> T | Suspended[T]:
    """Run a check up to its first questions and no further, whether the answers are known or not:
    for one whose work behind them is not for the event loop."""
    step = _next(check, None)
    while not isinstance(step, _Ended):
        if budget.take(len(step)):
            return Suspended(check, step)
        step = _next(check, _failures(step, OVER_BUDGET))
    return step.result


def _next(check: Questions[T], answers: Answers | None) -> tuple[Question, ...] | _Ended[T]:
    """The check's own work: what it asks next, or its result."""
    try:
        return next(check) if answers is None else check.send(answers)
    except StopIteration as end:
        return _Ended(end.value)


def _go_on(
    check: Questions[T],
    step: tuple[Question, ...] | _Ended[T],
    known: Known,
    budget: Budget,
) -> T | Suspended[T]:
    while not isinstance(step, _Ended):
        answers = _known_answers(step, known, budget)
        if answers is None:
            return Suspended(check, step)
        step = _next(check, answers)
    return step.result


def _known_answers(wanted: tuple[Question, ...], known: Known, budget: Budget) -> Answers | None:
    """None where somebody has to be asked, and there is budget for it."""
    found = [known(each.name, each.record_type) for each in wanted]
    missing = found.count(None)
    if missing and budget.take(missing):
        return None
    return tuple(
        [
            _failed(question, OVER_BUDGET) if answer is None else answer
            for question, answer in zip(wanted, found, strict=True)
        ]
    )


async def finish(
    suspended: Suspended[T],
    resolver: Resolver,
    budget: Budget,
    late: Late,
    *,
    workers: Workers | None = None,
) -> T:
    """Drive a check to its end; what is not answered when it is `late` is a temporary failure.

    Args:
        workers: do the check's own work, where it is too much for the event loop.
    """
    check, wanted = suspended.check, suspended.wanted
    while True:
        answers = await _ask(wanted, resolver, late)
        if workers is None:
            step = _next(check, answers)
        else:
            step = await workers.run(partial(_next, check, answers))
        found = _go_on(check, step, resolver.known, budget)
        if not isinstance(found, Suspended):
            return found
        wanted = found.wanted


class Late:
    """Whether the deadline of all checks of a message is over."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def now(self) -> None:
        self._event.set()

    @property
    def is_now(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()


async def _ask(wanted: tuple[Question, ...], resolver: Resolver, late: Late) -> Answers:
    if late.is_now:
        return _failures(wanted, TOO_LATE)
    asking = [
        asyncio.ensure_future(resolver.resolve(each.name, each.record_type)) for each in wanted
    ]
    end = asyncio.ensure_future(late.wait())
    try:
        waiting: set[asyncio.Task[Any]] = set(asking)
        while waiting and not end.done():
            _, waiting = await asyncio.wait({*waiting, end}, return_when=asyncio.FIRST_COMPLETED)
            waiting.discard(end)
        return tuple(
            each.result() if each.done() else _failed(question, TOO_LATE)
            for each, question in zip(asking, wanted, strict=True)
        )
    finally:
        for task in (*asking, end):
            task.cancel()


async def run(check: Questions[T], resolver: Resolver, *, questions_max: int = 100) -> T:
    """A check by itself, for commands and jobs that may take the resolver's own time."""
    budget = Budget(questions_max)
    step = try_known(check, resolver.known, budget)
    if isinstance(step, Suspended):
        return await finish(step, resolver, budget, Late())
    return step


def answer(check: Questions[T], answers: Callable[[Question], DnsAnswer]) -> T:
    """A check against answers at hand, for tests and for trying a changed policy."""
    try:
        wanted = next(check)
        while True:
            wanted = check.send(tuple(answers(each) for each in wanted))
    except StopIteration as end:
        result: T = end.value
        return result


def _failures(wanted: tuple[Question, ...], detail: str) -> Answers:
    return tuple(_failed(each, detail) for each in wanted)


def _failed(question: Question, detail: str) -> DnsAnswer:
    return DnsAnswer(status=DnsStatus.TEMPFAIL, name=question.name, detail=detail)
