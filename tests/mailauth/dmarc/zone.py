"""DNS answers at hand for DMARC: what is not written there is not there."""

from __future__ import annotations

from typing import TypeVar

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.questions import Question, Questions

T = TypeVar("T")

FAILS = DnsAnswer(status=DnsStatus.TEMPFAIL, detail="SERVFAIL")


class Zone:
    """Args: records: policy records by domain; more than one, or a failure, for a name.
    exists: domains that are there beside those with records below them."""

    def __init__(
        self,
        records: dict[str, str | tuple[str, ...] | DnsAnswer],
        *,
        exists: tuple[str, ...] = (),
    ) -> None:
        self.records = records
        self.exists = exists
        self.rounds: list[list[str]] = []

    def answer(self, question: Question) -> DnsAnswer:
        name, is_policy = question.name.removeprefix("_dmarc."), question.name.startswith("_dmarc.")
        held = self.records.get(name if is_policy else question.name) if is_policy else None
        if isinstance(held, DnsAnswer):
            return held
        if held is not None:
            texts = (held,) if isinstance(held, str) else held
            return found(*(text.encode() for text in texts))
        if question.name in self.exists:
            status = DnsStatus.NO_DATA if question.record_type is not RecordType.A else None
            return found("192.0.2.1") if status is None else DnsAnswer(status=status)
        return DnsAnswer(status=DnsStatus.NO_NAME)

    def run(self, check: Questions[T]) -> T:
        """The check's result; `rounds` keeps what was asked for at once."""
        try:
            wanted = next(check)
            while True:
                self.rounds.append([each.name for each in wanted])
                wanted = check.send(tuple(map(self.answer, wanted)))
        except StopIteration as end:
            result: T = end.value
            return result

    @property
    def asked(self) -> list[str]:
        return [name for names in self.rounds for name in names]


def found(*records: object) -> DnsAnswer:
    return DnsAnswer(status=DnsStatus.FOUND, records=records)
