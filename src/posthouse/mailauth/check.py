"""All checks of one message under one deadline: SPF, DKIM, ARC and reverse DNS beside each other,
then DMARC over them.

`prepare` is the part for the CPU. `Checks.start` goes as far as answers are known without asking:
with a warm cache to the end, in microseconds and without a task. `Checks.finish` asks for the rest.

DMARC has DNS questions of its own that nothing else can use up, and waits for nobody's name servers
but those of the author's domain: whoever forges a message could otherwise spend the budget or the
time on domains of his own, and so keep the policy of the forged one from being found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Finding
from posthouse.kernel.ports import DnsAnswer, RecordType, Resolver, Workers
from posthouse.mailauth import findings as told
from posthouse.mailauth import indirect, iprev, policy
from posthouse.mailauth.arc import verify as arc
from posthouse.mailauth.authors import Authors, author_domains, homographs
from posthouse.mailauth.dkim import verify as dkim
from posthouse.mailauth.dmarc import discover, evaluate
from posthouse.mailauth.policy import Judgement, Rules
from posthouse.mailauth.questions import (
    Budget,
    Known,
    Late,
    Questions,
    Suspended,
    finish,
    suspended,
    try_known,
)
from posthouse.mailauth.results import (
    ArcOutcome,
    DkimOutcome,
    DmarcOutcome,
    IprevOutcome,
    Result,
    SpfOutcome,
)
from posthouse.mailauth.spf import check as spf
from posthouse.message.fields import HeaderSection

RESERVED: Final = 24
"""Of the DNS questions of a message those that only DMARC may ask: 8 for each of three walks."""
HEAVY: Final = 4
"""More signatures or ARC sets are verified by a worker: each may be an RSA key of 4,096 bits."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    receiver: str
    """Our host name, for SPF's macros."""
    dkim: dkim.Options = dkim.Options()
    questions_max: int = 100
    deadline_s: float = 20.0


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it came, and what the session says of it."""

    octets: bytes
    section: HeaderSection
    address: str
    """IP address of the host that brought it."""
    hello: str
    reverse_path: Address | None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    authors: Authors
    signatures: dkim.Prepared
    chain: arc.Prepared


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found out about who a message is from."""

    authors: Authors
    spf_helo: SpfOutcome
    spf: SpfOutcome
    """Of the MAIL FROM identity."""
    dkim: tuple[DkimOutcome, ...]
    arc: ArcOutcome
    iprev: IprevOutcome
    dmarc: tuple[DmarcOutcome, ...]
    """One for each author domain."""
    counted: DmarcOutcome
    """The one that counts."""
    indirect: str
    """Why somebody may have passed it on; "" when nothing says so."""
    questions: int
    """DNS questions that were asked; what was known already is not counted."""
    is_over_budget: bool
    is_late: bool
    """The deadline was met before everything was known."""
    unchecked: int
    """DKIM signatures beyond the bound."""


def prepare(mail: Mail, options: Options) -> Prepared:
    """Read the fields and hash the body; some 50 µs for a small message."""
    authors = author_domains(mail.section)
    return Prepared(
        authors=authors,
        signatures=dkim.prepare(
            mail.octets, mail.section, author_domains=authors.domains, options=options.dkim
        ),
        chain=arc.prepare(mail.octets, mail.section, options=options.dkim),
    )


class Checks:
    """The checks of one message under way."""

    __slots__ = (
        "_budget",
        "_done",
        "_is_late",
        "_options",
        "_policy_budget",
        "_prepared",
        "_section",
        "_waiting",
    )

    def __init__(
        self, mail: Mail, prepared: Prepared, options: Options, *, now_unix_s: int
    ) -> None:
        self._options = options
        self._prepared = prepared
        self._is_late = False
        self._section = mail.section
        self._budget = Budget(options.questions_max - RESERVED)
        self._policy_budget = Budget(RESERVED)
        self._waiting: dict[str, Suspended[Any]] = {}
        self._done: dict[str, Any] = {}
        self._begin(
            spf=spf.verify(
                mail.address,
                mail.hello,
                mail.reverse_path,
                receiver=options.receiver,
                at_unix_s=now_unix_s,
            ),
            dkim=dkim.verify(prepared.signatures, now_unix_s),
            arc=arc.verify(prepared.chain, now_unix_s),
            iprev=iprev.check(mail.address),
        )

    def _begin(self, **checks: Questions[Any]) -> None:
        self._done = dict(checks)

    def start(self, known: Known) -> Checked | None:
        """None when somebody has to be asked: `finish` goes on from there."""
        begun, self._done = self._done, {}
        heavy = self._heavy()
        for name, check in begun.items():
            if name in heavy:
                self._note(name, suspended(check, self._budget))
            else:
                self._note(name, try_known(check, known, self._budget))
        if self._waiting:
            return None
        self._note("dmarc", try_known(self._dmarc(), known, self._policy_budget))
        return None if self._waiting else self._checked()

    def _heavy(self) -> frozenset[str]:
        """Checks that are not for the event loop (H42, H46)."""
        prepared = self._prepared
        signatures = sum(isinstance(one, dkim.Ready) for one in prepared.signatures.signatures)
        heavy = {"dkim": signatures, "arc": len(prepared.chain.sets)}
        return frozenset(name for name, count in heavy.items() if count > HEAVY)

    async def finish(
        self,
        resolver: Resolver,
        sleep: Callable[[float], Awaitable[None]],
        workers: Workers,
    ) -> Checked:
        """Ask for what is not known, until `deadline_s` is over."""
        late, remembering = Late(), _Remembering(resolver)
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._watch(late, sleep))
            if "dmarc" not in self._waiting:
                await self._first(remembering, late, tasks, workers)
                known = remembering.known
                self._note("dmarc", try_known(self._dmarc(), known, self._policy_budget))
            last = self._waiting.pop("dmarc", None)
            if last is not None:
                self._done["dmarc"] = await finish(last, remembering, self._policy_budget, late)
            self._is_late = late.is_now
            timer.cancel()
        return self._checked()

    async def _first(
        self, resolver: Resolver, late: Late, tasks: asyncio.TaskGroup, workers: Workers
    ) -> None:
        """Everything but DMARC, and the policies of the authors, so that they are known."""
        heavy = self._heavy()
        asking = {
            name: tasks.create_task(
                finish(
                    one,
                    resolver,
                    self._budget,
                    late,
                    workers=workers if name in heavy else None,
                )
            )
            for name, one in self._waiting.items()
        }
        self._waiting.clear()
        for domain in self._prepared.authors.domains:
            step = try_known(discover.find_policy(domain), resolver.known, self._policy_budget)
            if isinstance(step, Suspended):
                looked_up = tasks.create_task(finish(step, resolver, self._policy_budget, late))
                asking[f"policy of {domain}"] = looked_up
        for name, task in asking.items():
            self._done[name] = await task

    async def _watch(self, late: Late, sleep: Callable[[float], Awaitable[None]]) -> None:
        await sleep(self._options.deadline_s)
        late.now()

    def _note(self, name: str, step: Any) -> None:
        if isinstance(step, Suspended):
            self._waiting[name] = step
        else:
            self._done[name] = step

    def _dmarc(self) -> Questions[tuple[DmarcOutcome, ...]]:
        done = self._done
        authors = self._prepared.authors
        return evaluate.evaluate(authors.domains, done["spf"][1], done["dkim"], fault=authors.fault)

    def _indirect(self) -> str:
        done = self._done
        return indirect.signs(
            self._section,
            author_domains=self._prepared.authors.domains,
            dkim=done["dkim"],
            arc=done["arc"],
        )

    def _checked(self) -> Checked:
        done = self._done
        dmarc: tuple[DmarcOutcome, ...] = done["dmarc"]
        return Checked(
            authors=self._prepared.authors,
            spf_helo=done["spf"][0],
            spf=done["spf"][1],
            dkim=done["dkim"],
            arc=done["arc"],
            iprev=done["iprev"],
            dmarc=dmarc,
            counted=evaluate.strictest(dmarc),
            indirect=self._indirect(),
            questions=self._budget.asked + self._policy_budget.asked,
            is_over_budget=self._budget.is_spent or self._policy_budget.is_spent,
            is_late=self._is_late,
            unchecked=self._prepared.signatures.unchecked,
        )


class _Remembering:
    """A resolver whose answers for this message stay known, whatever a cache makes of them: what is
    found out about a policy in time counts, also where others took all the time there was."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._answers: dict[tuple[str, RecordType], DnsAnswer] = {}

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        answer = await self._resolver.resolve(name, record_type)
        self._answers[name, record_type] = answer
        return answer

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        answer = self._answers.get((name, record_type))
        if answer is None:
            answer = self._resolver.known(name, record_type)
            if answer is not None:  # its time may be over before the slowest check is
                self._answers[name, record_type] = answer
        return answer


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What reception does with a message, and everything it says about it."""

    judgement: Judgement
    findings: tuple[Finding, ...]


def judged(checked: Checked, rules: Rules, *, address: str) -> Judged:
    """The one way from what was found out to what is done (`posthouse check mail` goes it too).

    Args:
        address: IP address of the host that brought the message.
    """
    judgement = policy.judge(
        rules,
        address=address,
        spf=checked.spf,
        arc=checked.arc,
        dmarc=checked.counted,
        indirect=checked.indirect,
    )
    found = findings(checked, address=address)
    if judgement.override is not None:
        override = judgement.override.value
        found += (Finding(name="override", result=override, reason=judgement.override_why),)
    return Judged(judgement=judgement, findings=found)


def is_field_proven(checked: Checked, section: HeaderSection, name: bytes) -> bool:
    """Whether all fields of a name are the author's own, and none was put in front of a signed
    message by somebody who sends it again: the author's domain brought it itself (SPF), or its
    signature covers them, From and Date.

    Args:
        section: of the message.
        name: in lower case.
    """
    names = (name, b"from", b"date")
    return bool(checked.dmarc) and all(
        one.result is Result.PASS
        and (one.is_spf_aligned or _covers(one.aligned_signature, checked.dkim, section, names))
        for one in checked.dmarc
    )


def _covers(
    domain: str, dkim: Sequence[DkimOutcome], section: HeaderSection, names: Sequence[bytes]
) -> bool:
    """Whether one signature of the domain covers every field of these names. It takes them from
    the last one up, as often as h= has the name (RFC 6376 §5.4.2)."""
    return any(
        one.result is Result.PASS
        and one.domain == domain
        and all(one.names.count(each) >= max(section.count(each), 1) for each in names)
        for one in dkim
    )


def findings(checked: Checked, *, address: str = "") -> tuple[Finding, ...]:
    """For Authentication-Results and the decision record, in the order of evidence.

    Args:
        address: IP address of the host that brought the message.
    """
    found = [told.iprev_finding(checked.iprev)]
    found += [told.spf_finding(one) for one in (checked.spf_helo, checked.spf)]
    found += [told.dkim_finding(one) for one in checked.dkim]
    found += [told.dmarc_finding(one) for one in checked.dmarc]
    if checked.arc.result is not Result.NONE:
        found.append(told.arc_finding(checked.arc, remote_ip=address))
    found += homographs(checked.authors)
    if checked.is_over_budget:
        found.append(
            Finding(
                name="dns-budget",
                result="policy",
                reason="checking it would have caused more DNS questions than dns.per_message_max",
            )
        )
    return tuple(found)
