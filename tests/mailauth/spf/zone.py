"""DNS at hand for SPF: a few names with records, and what was asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType
from posthouse.mailauth.questions import Question, Questions, answer
from posthouse.mailauth.results import SpfIdentity, SpfOutcome
from posthouse.mailauth.spf.check import check_host
from posthouse.mailauth.spf.names import question_name

TIMEOUT = object()
"""Instead of records: the question is not answered."""

Records = Mapping[str, object]
"""By type ("A", "TXT"): one value or a list of them."""


class Zone:
    """Names in any case; a name that is not there does not exist."""

    def __init__(self, names: Mapping[str, Records]) -> None:
        self._names = {
            question_name(name.removesuffix(".")): records for name, records in names.items()
        }
        self.asked: list[Question] = []

    def __call__(self, question: Question) -> DnsAnswer:
        self.asked.append(question)
        name = question.name
        for _ in range(10):
            records = self._names.get(name)
            if records is None:
                return DnsAnswer(status=DnsStatus.NO_NAME, name=name)
            found = records.get(question.record_type.value)
            if found is TIMEOUT:
                detail = "no answer in time"
                return DnsAnswer(status=DnsStatus.TEMPFAIL, name=name, detail=detail)
            if found:
                values = tuple(_values(found, question.record_type))
                return DnsAnswer(status=DnsStatus.FOUND, records=values, name=name)
            if "CNAME" not in records:
                return DnsAnswer(status=DnsStatus.NO_DATA, name=name)
            name = str(records["CNAME"]).lower().removesuffix(".")
        return DnsAnswer(status=DnsStatus.TEMPFAIL, name=name, detail="a loop of CNAMEs")


def _values(found: object, record_type: RecordType) -> Iterable[object]:
    for value in found if isinstance(found, list) else [found]:
        match record_type:
            case RecordType.TXT:
                yield value if isinstance(value, bytes) else str(value).encode("latin-1")
            case RecordType.MX:
                preference, host = value
                yield MxRecord(preference, question_name(host.removesuffix(".")))
            case RecordType.PTR:
                yield question_name(str(value).removesuffix("."))
            case _:
                yield value


def ask(
    zone: Zone,
    *,
    ip: str = "192.0.2.1",
    domain: str = "example.org",
    sender: str | None = None,
    helo: str = "mx.example.org",
    receiver: str = "mx.example.net",
    at_unix_s: int = 1_700_000_000,
) -> SpfOutcome:
    return answer(
        check_host(
            ip,
            domain,
            f"joe@{domain}" if sender is None else sender,
            helo=helo,
            identity=SpfIdentity.MAIL_FROM,
            receiver=receiver,
            at_unix_s=at_unix_s,
        ),
        zone,
    )


def steps(check: Questions[object], zone: Zone) -> list[tuple[str, ...]]:
    """What is asked at once, step by step."""
    asked: list[tuple[str, ...]] = []
    try:
        wanted = next(check)
        while True:
            asked.append(tuple(str(each) for each in wanted))
            wanted = check.send(tuple(zone(each) for each in wanted))
    except StopIteration:
        return asked
