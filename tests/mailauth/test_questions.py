"""Who answers the questions of checks: the cache, the resolver, the budget, the deadline."""

from __future__ import annotations

import asyncio

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth import questions
from posthouse.mailauth.questions import Budget, Late, Question, Questions, Suspended


def found(*records: object) -> DnsAnswer:
    return DnsAnswer(status=DnsStatus.FOUND, records=records)


def both(first: str, second: str) -> Questions[tuple[DnsStatus, ...]]:
    """One question, then two at once."""
    (one,) = yield (Question(first, RecordType.TXT),)
    two, three = yield (Question(second, RecordType.A), Question(second, RecordType.AAAA))
    return one.status, two.status, three.status


class Slow:
    """A resolver that knows nothing at first and remembers what it was asked."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self.asked: list[str] = []
        self.is_silent = is_silent

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        self.asked.append(f"{record_type.value} {name}")
        await (asyncio.Event().wait() if self.is_silent else asyncio.sleep(0))
        return found("x")

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return None


def test_a_check_whose_answers_are_known_ends_without_a_loop() -> None:
    result = questions.try_known(both("a.example", "b.example"), lambda *_: found("x"), Budget(9))
    assert result == (DnsStatus.FOUND,) * 3


def test_a_check_waits_where_an_answer_is_not_known() -> None:
    step = questions.try_known(
        both("a.example", "b.example"),
        lambda name, record_type: found("x") if record_type is not RecordType.AAAA else None,
        Budget(9),
    )
    assert isinstance(step, Suspended)
    assert [str(each) for each in step.wanted] == ["A b.example", "AAAA b.example"]


async def test_the_resolver_is_asked_for_the_rest() -> None:
    resolver = Slow()
    result = await questions.run(both("a.example", "b.example"), resolver)
    assert result == (DnsStatus.FOUND,) * 3
    assert resolver.asked == ["TXT a.example", "A b.example", "AAAA b.example"]


async def test_over_budget_nothing_is_asked_any_more() -> None:
    resolver = Slow()
    result = await questions.run(both("a.example", "b.example"), resolver, questions_max=2)
    assert result == (DnsStatus.FOUND, DnsStatus.TEMPFAIL, DnsStatus.TEMPFAIL)
    assert resolver.asked == ["TXT a.example"]


async def test_a_silent_dns_keeps_no_check_beyond_the_deadline() -> None:
    resolver, budget, late = Slow(is_silent=True), Budget(9), Late()
    step = questions.try_known(both("a.example", "b.example"), resolver.known, budget)
    assert isinstance(step, Suspended)
    ending = asyncio.ensure_future(questions.finish(step, resolver, budget, late))
    await asyncio.sleep(0)
    late.now()
    assert await ending == (DnsStatus.TEMPFAIL,) * 3
    assert resolver.asked == ["TXT a.example"]


def test_answers_at_hand_need_nobody() -> None:
    result = questions.answer(both("a.example", "b.example"), lambda question: found(str(question)))
    assert result == (DnsStatus.FOUND,) * 3
