"""DMARC for a message: alignment, and what its author's domain asks for (RFC 9989 §4.4, §5.3).

Takes what SPF and DKIM gave and asks for policies only. Two rounds of questions at most: the walks
of the author domains, then the walks of those authenticated identifiers that could be aligned and
are not equal (mostly none, or one question), together with whether an author domain is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsStatus, RecordType
from posthouse.mailauth.dmarc.discover import Discovered, Walker
from posthouse.mailauth.questions import Question, Questions
from posthouse.mailauth.results import (
    Alignment,
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    Result,
    SpfIdentity,
    SpfOutcome,
)

AUTHOR_DOMAINS_MAX: Final = 3
"""Judged for one message; more make the evaluation incomplete (RFC 9989 §11.5). DNS questions for
all their walks have to be kept back, or somebody uses them up to get a policy overlooked."""
IDENTIFIERS_MAX: Final = 8
"""Authenticated domains of each kind that are looked at."""

NO_AUTHOR: Final = "the From field names no domain"
TOO_MANY_AUTHORS: Final = f"the From field names more than {AUTHOR_DOMAINS_MAX} domains"

_SOFTER: Final = {
    Disposition.NONE: Disposition.NONE,
    Disposition.QUARANTINE: Disposition.NONE,
    Disposition.REJECT: Disposition.QUARANTINE,
}


class _Identifiers(msgspec.Struct, frozen=True):
    """Domains one mechanism speaks for."""

    passed: tuple[str, ...]
    """Authenticated (RFC 9989 §3.2.1), without repeats."""
    undecided: tuple[str, ...]
    """A failing DNS kept them from being decided."""


class _Aligned(Enum):
    YES = auto()
    NO = auto()
    UNKNOWN = auto()


def evaluate(
    author_domains: Sequence[str],
    spf: SpfOutcome | None,
    dkim: Sequence[DkimOutcome],
    *,
    fault: str = "",
) -> Questions[tuple[DmarcOutcome, ...]]:
    """One outcome for each author domain; `strictest` says which one counts.

    Args:
        author_domains: of the From field, A-labels in lower case (`authors.author_domains`).
        spf: of the MAIL FROM identity; HELO's is not looked at (RFC 9989 §4.4.2).
        dkim: all signatures.
        fault: `Authors.fault`, why there are more authors than those domains; it adds an outcome
            PERMERROR, so that nobody escapes by hiding a domain behind it (H33).
    """
    domains = tuple(dict.fromkeys(author_domains))
    if len(domains) > AUTHOR_DOMAINS_MAX:
        domains, fault = domains[:AUTHOR_DOMAINS_MAX], fault or TOO_MANY_AUTHORS
    elif not domains:
        fault = fault or NO_AUTHOR
    walker = Walker()
    wanted = walker.wanted(domains)
    if wanted:
        answers = yield wanted
        walker.take(wanted, answers)
    by_spf, by_dkim = _of_spf(spf), _of_dkim(dkim)
    judged = [_Author(walker.found(domain), by_spf, by_dkim) for domain in domains]
    missing: dict[str, DnsStatus] = {}
    wanted = walker.wanted(name for author in judged for name in author.candidates())
    existence = tuple(author.existence for author in judged if author.existence is not None)
    if wanted or existence:
        answers = yield (*wanted, *existence)
        walker.take(wanted, answers[: len(wanted)])
        for question, answer in zip(existence, answers[len(wanted) :]):
            missing[question.name] = answer.status
    outcomes = [author.outcome(walker, missing) for author in judged]
    if fault:
        outcomes.append(DmarcOutcome(result=Result.PERMERROR, from_domain="", reason=fault))
    return tuple(outcomes)


def strictest(outcomes: Sequence[DmarcOutcome]) -> DmarcOutcome:
    """The one that counts for the message: whose policy asks for most and is not met (RFC 9989
    §11.5), or may not be met; then what could not be judged; a pass only where all passed (H33).

    Args:
        outcomes: of `evaluate`, which always gives one at least.
    """
    return max(outcomes, key=_strictness)


_RANKS: Final = {
    Result.PASS: 0,
    Result.NONE: 1,
    Result.TEMPERROR: 2,
    Result.FAIL: 3,
    Result.PERMERROR: 4,
}


def _strictness(outcome: DmarcOutcome) -> tuple[int, int]:
    is_met = outcome.result not in (Result.FAIL, Result.TEMPERROR)
    return 0 if is_met else outcome.requested.rank, _RANKS[outcome.result]


def _of_spf(spf: SpfOutcome | None) -> _Identifiers:
    if spf is None or spf.identity is not SpfIdentity.MAIL_FROM or not spf.domain:
        return _Identifiers((), ())
    domain = (spf.domain.lower(),)
    return _Identifiers(
        domain if spf.result is Result.PASS else (),
        domain if spf.result is Result.TEMPERROR else (),
    )


def _of_dkim(dkim: Sequence[DkimOutcome]) -> _Identifiers:
    """Those that leave a part of the body open pass only where that is wished (`accepts_partial`).

    Deviation: RFC 6376 §3.6.1 wants a signature with a key in testing mode treated as none. Many
    domains leave t=y in for good, the large receivers believe such signatures when they pass, and
    refusing that mail would only hit who is honest.
    """
    passed: dict[str, None] = {}
    undecided: dict[str, None] = {}
    for outcome in dkim:
        if not outcome.domain:
            continue
        if outcome.result is Result.PASS:
            passed[outcome.domain.lower()] = None
        elif outcome.result is Result.TEMPERROR:
            undecided[outcome.domain.lower()] = None
    return _Identifiers(tuple(passed), tuple(undecided))


class _Author:
    """One author domain, what was discovered for it, and who may speak for it."""

    __slots__ = ("_by_dkim", "_by_spf", "_found", "existence")

    def __init__(self, found: Discovered, by_spf: _Identifiers, by_dkim: _Identifiers) -> None:
        self._found = found
        self._by_spf = by_spf
        self._by_dkim = by_dkim
        self.existence = self._existence()

    def _existence(self) -> Question | None:
        """Whether the domain exists decides between sp= and np=, so ask only where they differ."""
        policy, found = self._found.policy, self._found
        if policy is None or policy.domain == found.domain or found.exists:
            return None
        missing = policy.missing_policy
        if missing is None or missing is (policy.subdomain_policy or policy.policy):
            return None
        return Question(found.domain, RecordType.A)

    def candidates(self) -> Iterable[str]:
        """Authenticated domains whose organizational domain decides."""
        policy, organization = self._found.policy, self._found.organizational_domain
        if policy is None or policy.fault or organization is None:
            return
        for identifiers, alignment in (
            (self._by_spf, policy.spf_alignment),
            (self._by_dkim, policy.dkim_alignment),
        ):
            if alignment is Alignment.RELAXED and self._found.domain not in identifiers.passed:
                yield from self._within(identifiers.passed)

    def _within(self, domains: tuple[str, ...]) -> list[str]:
        """Those that may have our organizational domain: it is above all that belong to it."""
        organization = self._found.organizational_domain
        assert organization is not None
        below = f".{organization}"
        within = [name for name in domains if name == organization or name.endswith(below)]
        return within[:IDENTIFIERS_MAX]

    def outcome(self, walker: Walker, missing: dict[str, DnsStatus]) -> DmarcOutcome:
        found, policy = self._found, self._found.policy
        if policy is None:
            result = Result.TEMPERROR if found.failure else Result.NONE
            return DmarcOutcome(
                result=result,
                from_domain=found.domain,
                organizational_domain=found.organizational_domain or "",
                reason=found.failure or f"{found.domain} has no DMARC policy",
                evidence=found.evidence,
            )
        if policy.fault:
            return DmarcOutcome(
                result=Result.PERMERROR,
                from_domain=found.domain,
                organizational_domain=found.organizational_domain or "",
                policy=policy,
                reason=policy.fault,
                evidence=found.evidence,
            )
        return self._judge(policy, walker, missing)

    def _judge(
        self, policy: DmarcPolicy, walker: Walker, missing: dict[str, DnsStatus]
    ) -> DmarcOutcome:
        found = self._found
        evidence = list(found.evidence)
        spf, _ = self._align(self._by_spf, policy.spf_alignment, walker, evidence)
        dkim, signer = self._align(self._by_dkim, policy.dkim_alignment, walker, evidence)
        exists = self._exists(missing, evidence)
        requested = _requested(policy, found.domain, exists=exists)
        if _Aligned.YES in (spf, dkim):
            result, reason = Result.PASS, ""
        elif _Aligned.UNKNOWN in (spf, dkim):
            result, reason = Result.TEMPERROR, found.failure or "the DNS did not answer in time"
        elif exists is None and self.existence is not None:
            result, reason = Result.TEMPERROR, f"whether {found.domain} exists cannot be told now"
        else:
            result, reason = Result.FAIL, self._why_not()
        return DmarcOutcome(
            result=result,
            from_domain=found.domain,
            organizational_domain=found.organizational_domain or "",
            policy=policy,
            requested=requested,
            is_spf_aligned=spf is _Aligned.YES,
            is_dkim_aligned=dkim is _Aligned.YES,
            aligned_signature=signer,
            reason=reason,
            evidence=tuple(evidence),
        )

    def _align(
        self,
        identifiers: _Identifiers,
        alignment: Alignment,
        walker: Walker,
        evidence: list[Evidence],
    ) -> tuple[_Aligned, str]:
        """Whether one of the domains is aligned (RFC 9989 §4.10.2), and which."""
        domain, organization = self._found.domain, self._found.organizational_domain
        if domain in identifiers.passed:
            return _Aligned.YES, domain
        unknown = domain in identifiers.undecided
        if alignment is Alignment.STRICT:
            return _Aligned.UNKNOWN if unknown else _Aligned.NO, ""
        if organization is None:
            suffix = domain.rpartition(".")[2]
            both = (*identifiers.passed, *identifiers.undecided)
            unknown = unknown or any(name.rpartition(".")[2] == suffix for name in both)
            return _Aligned.UNKNOWN if unknown else _Aligned.NO, ""
        for name in self._within(identifiers.passed):
            other = walker.found(name)
            evidence += [each for each in other.evidence if each not in evidence]
            if other.organizational_domain == organization:
                return _Aligned.YES, name
            unknown = unknown or other.organizational_domain is None
        unknown = unknown or bool(self._within(identifiers.undecided))
        return _Aligned.UNKNOWN if unknown else _Aligned.NO, ""

    def _exists(self, missing: dict[str, DnsStatus], evidence: list[Evidence]) -> bool | None:
        if self.existence is None:
            return True
        status = missing[self.existence.name]
        evidence.append(Evidence(str(self.existence), status.value))
        return None if status is DnsStatus.TEMPFAIL else status is not DnsStatus.NO_NAME

    def _why_not(self) -> str:
        passed = dict.fromkeys((*self._by_spf.passed, *self._by_dkim.passed))
        if not passed:
            return "neither SPF nor DKIM passed"
        shown = ", ".join(list(passed)[:3])
        return f"what passed is of {shown}, not of {self._found.domain}"


def _requested(policy: DmarcPolicy, author_domain: str, *, exists: bool | None) -> Disposition:
    """RFC 9989 §4.10.1: p= at the domain itself, else sp= or np= (the stricter one while nobody can
    tell which); t=y takes it down a step."""
    requested = policy.policy
    if policy.domain != author_domain:
        requested = policy.subdomain_policy or requested
        missing = policy.missing_policy or requested
        if exists is False or (exists is None and missing.rank > requested.rank):
            requested = missing
    return _SOFTER[requested] if policy.is_testing else requested
