"""What a look at the live DNS found, one value for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

from posthouse.kernel.ports import CaaRecord, DnsAnswer, DnsStatus, MxRecord, SrvRecord, TlsaRecord


class State(Enum):
    """How it stands with one thing. Only MISSING and WRONG are something to mend."""

    RIGHT = "right"
    ADVICE = "advice"  # it works, and could be better
    ABSENT = "absent"  # not there, and not needed
    MISSING = "missing"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # it could not be found out


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    """One of a few words: "mx", "address", "spf", "dkim", "dmarc", "tls-rpt", "mta-sts", "dane",
    "caa", "srv", "autoconfig", "dnssec", "ptr", "port", "certificate", "blocklist"."""
    what: str
    """The record or the place: "MX example.org"."""
    state: State
    found: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    words: str = ""
    """What is the matter, why it matters, and what to do; for people."""

    @property
    def is_bad(self) -> bool:
        return self.state in (State.MISSING, State.WRONG)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    domain: str
    host: str
    checked: tuple[Checked, ...]

    @property
    def is_good(self) -> bool:
        return not any(each.is_bad for each in self.checked)


def unanswered(subject: str, what: str, answer: DnsAnswer, *, asked: str = "") -> Checked:
    """The DNS did not answer, which says nothing about what it holds.

    Args:
        asked: the name, where it is not the one in `what`.
    """
    place = f" for {asked}" if asked else ""
    return Checked(
        subject=subject,
        what=what,
        state=State.UNKNOWN,
        words=f"the DNS gave no answer{place}: {answer.detail or 'no reason given'}",
    )


def is_unanswered(answer: DnsAnswer) -> bool:
    return answer.status is DnsStatus.TEMPFAIL


def texts(answer: DnsAnswer) -> tuple[str, ...]:
    """The records of an answer as people write them."""
    return tuple(map(record_text, answer.records))


def record_text(record: object) -> str:
    match record:
        case MxRecord():
            return f"{record.preference} {record.host}."
        case TlsaRecord():
            return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"
        case SrvRecord():
            return f"{record.priority} {record.weight} {record.port} {record.target}."
        case CaaRecord():
            return f'{record.flags} {record.tag} "{record.value.decode("ascii", "replace")}"'
        case bytes():
            return f'"{record.decode("utf-8", "replace")}"'
    return str(record)


def listed(items: Iterable[str]) -> str:
    """ "a, b and c"."""
    *first, last = [*items] or [""]
    return f"{', '.join(first)} and {last}" if first else last
