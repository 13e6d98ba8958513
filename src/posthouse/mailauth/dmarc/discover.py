"""Whose policy applies to an author's domain, and which is its organizational domain: the DNS tree
walk (RFC 9989 §4.10), without a list of public suffixes.

All names of a walk (8 at most) are asked for at once: one wait instead of eight, and the upper ones
are shared with every other domain there, so their answers are nearly always known. What a failed
question would have told matters only where the walk comes to it (RFC 9989 §5.3.6).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.dmarc import grammar
from posthouse.mailauth.questions import Answers, Question, Questions
from posthouse.mailauth.results import DmarcPolicy

NAMES_MAX: Final = 8
"""Of one walk, so also its questions (RFC 9989 §4.10, H45)."""
_SHOWN_MAX: Final = 256

SEVERAL: Final = "several policy records, so none counts"


class Step(msgspec.Struct, frozen=True):
    """One name of a walk."""

    domain: str
    question: Question
    """TXT of `_dmarc.` and the domain."""
    what: str
    """The question in the words of evidence."""


@lru_cache(maxsize=1_024)
def steps(domain: str) -> tuple[Step, ...]:
    """The names a walk from `domain` asks for, the longest first (RFC 9989 §4.10, steps 3 to 7)."""
    labels = domain.split(".")
    first = max(1, len(labels) - NAMES_MAX + 1)
    names = [domain, *(".".join(labels[at:]) for at in range(first, len(labels)))]
    made = []
    for name in names:
        question = Question(f"_dmarc.{name}", RecordType.TXT)
        made.append(Step(name, question, str(question)))
    return tuple(made)


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """What a tree walk from a domain found."""

    domain: str
    policy: DmarcPolicy | None = None
    """The record that applies to mail with this author domain, or None."""
    organizational_domain: str | None = None
    """None when a question failed that it depends on."""
    failure: str = ""
    """Why the policy or the organizational domain cannot be told now, in words."""
    exists: bool | None = None
    """Whether the name is there at all, where the walk tells (RFC 9989 §3.2.13)."""
    evidence: tuple[Evidence, ...] = ()


class Walker:
    """The answers of a message's walks: what one walk asked for, the next one knows."""

    __slots__ = ("_answers", "_found")

    def __init__(self) -> None:
        self._answers: dict[str, DnsAnswer] = {}  # by the name asked for
        self._found: dict[str, Discovered] = {}  # by the domain walked from

    def wanted(self, domains: Iterable[str]) -> tuple[Question, ...]:
        """The questions the walks from these domains need answered still."""
        known = self._answers
        return tuple(
            {
                step.question.name: step.question
                for domain in domains
                for step in steps(domain)
                if step.question.name not in known
            }.values()
        )

    def take(self, wanted: tuple[Question, ...], answers: Answers) -> None:
        for question, answer in zip(wanted, answers):
            self._answers[question.name] = answer

    def found(self, domain: str) -> Discovered:
        """What the walk from `domain` found, once its questions are answered."""
        found = self._found.get(domain)
        if found is None:
            found = self._found[domain] = self._walk(domain)
        return found

    def _walk(self, start: str) -> Discovered:
        """From the longest name to the shortest, up to the record that ends the walk."""
        evidence: list[Evidence] = []
        records: dict[str, DmarcPolicy] = {}
        organization, suffix, failure = start, "", ""
        for step in steps(start):
            domain = step.domain
            answer = self._answers[step.question.name]
            record, told = _record(answer, domain)
            evidence.append(Evidence(step.what, told))
            if answer.status is DnsStatus.TEMPFAIL:
                failure = f"{step.what}: {told}"
                break
            if record is None:
                continue
            records[domain] = record
            if record.public_suffix == "y":
                # The organization is one label below; of the suffix's own mail, the suffix.
                organization = start if domain == start else _one_below(start, domain)
                suffix = domain
                break
            organization = domain
            if record.public_suffix == "n":
                break
        # RFC 9989 §4.10.1: the author's own record, else the organization's, else the suffix's.
        policy = records.get(start)
        if policy is None and not failure:
            policy = records.get(organization) or records.get(suffix)
        return Discovered(
            domain=start,
            policy=policy,
            organizational_domain=None if failure else organization,
            failure=failure,
            exists=_exists(self._answers[steps(start)[0].question.name]),
            evidence=tuple(evidence),
        )


def _record(answer: DnsAnswer, domain: str) -> tuple[DmarcPolicy | None, str]:
    """The one policy record among the TXT records there, and what to tell people."""
    if answer.status is not DnsStatus.FOUND:
        detail = answer.detail if answer.status is DnsStatus.TEMPFAIL else ""
        return None, detail or answer.status.value
    policies = [record for record in answer.records if grammar.is_policy(record)]
    if len(policies) != 1:
        return None, SEVERAL if policies else "no policy record"
    policy = grammar.parse(policies[0], domain)
    assert policy is not None  # as `is_policy` said
    return policy, policy.text[:_SHOWN_MAX]


def _one_below(start: str, suffix: str) -> str:
    return f"{start[: -len(suffix) - 1].rpartition('.')[2]}.{suffix}"


def _exists(answer: DnsAnswer) -> bool | None:
    """A name with another one below it is there; that there is none below tells nothing."""
    return True if answer.status in (DnsStatus.FOUND, DnsStatus.NO_DATA) else None


def find_policy(domain: str) -> Questions[Discovered]:
    """The policy for mail whose author is of `domain` (A-labels in lower case)."""
    walker = Walker()
    wanted = walker.wanted((domain,))
    answers = yield wanted
    walker.take(wanted, answers)
    return walker.found(domain)
