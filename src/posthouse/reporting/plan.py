"""What a report has in it and whom it goes to: read and looked up, outside any transaction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from posthouse.kernel.ports import Clock, Resolver, Workers
from posthouse.mailauth.questions import run
from posthouse.mailauth.results import DmarcPolicy
from posthouse.reporting import compose_dmarc, compose_tls, tlsrpt_record
from posthouse.reporting.destinations import Destinations, Tag, verify
from posthouse.reporting.model import AggregateReport, TlsReport
from posthouse.reporting.options import US, Options
from posthouse.reporting.organization import organization_of
from posthouse.reporting.rows import DmarcFacts, TlsFacts, TlsPolicyFacts
from posthouse.reporting.tlsrpt_record import TlsReporting
from posthouse.reporting.uris import Https, Ignored, MailTo
from posthouse.store import reports as rows
from posthouse.store.reports import DueRow, ResultKind, SummedRow
from posthouse.store.transaction import Store, Transaction

SETTLE_S: Final = 600.0
"""After an interval's end, so that the last results are written."""
SPREAD_S: Final = 4 * 3600.0
"""Over which the reports of a day are sent, so that not all of them go at midnight (RFC 8460
§4.1)."""
QUESTIONS_MAX: Final = 400
"""DNS questions for one report: ten destinations with their tree walks."""
LOOK_UP_S: Final = 60.0
"""For all questions of one report: slow DNS of one domain delays the others by no more (H45)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One report: what is in it, whom it goes to, and who gets none and why."""

    kind: ResultKind
    domain: str
    begin_at: int
    end_at: int
    due_at: int
    total: int
    """Messages or sessions."""
    targets: tuple[MailTo | Https, ...]
    ignored: tuple[Ignored, ...]
    reason: str = ""
    """Why it is not sent at all."""
    failure: str = ""
    """The DNS failed: it is tried again."""
    report: AggregateReport | TlsReport | None
    taken: tuple[tuple[int, int], ...]
    """Rows in it, as (id, total)."""
    organization: str
    """That the domain belongs to."""
    full: str = ""
    """The same, when it was sent as many reports as one organization may get."""
    is_late: bool = False
    """The whole interval was reported already: no second report may cover it (RFC 9990
    §3.1.1.4)."""


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a report that is due."""

    results: list[SummedRow]
    sent_until: int | None
    """Where an earlier report about the same interval ended."""
    sent_to_organization: int
    """Reports about the interval that its domains were sent."""


class Planner:
    """What `Sender` plans with."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        resolver: Resolver,
        clock: Clock,
        workers: Workers,
    ) -> None:
        self._options = options
        self._store = store
        self._resolver = resolver
        self._clock = clock
        self._workers = workers

    def set_options(self, options: Options) -> None:
        """A reloaded config."""
        self._options = options

    def due_at(self, kind: ResultKind, domain: str, begin_at: int) -> int:
        """When it goes: at its own time behind the interval's end, the same after a restart."""
        interval_s = self._options.interval_s
        spread_s = min(SPREAD_S, interval_s / 2)
        seed = f"{self._options.host} {kind.value} {domain} {begin_at}"
        share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / 2**48
        return begin_at + int((interval_s + SETTLE_S + share * spread_s) * US)

    async def plan(self, kind: ResultKind, row: DueRow) -> Plan | None:
        """Read the results, and look up who wants them. None when there are none any more."""
        options = self._options
        owed = await self._store.read(
            partial(_read, kind, row, options.records_max, options.interval_us)
        )
        found = owed.results
        if not found:
            return None
        begin_at = max(row.begin_at, owed.sent_until or 0)
        end_at = max(min(row.begin_at + options.interval_us, self._clock.unix_us()), begin_at + 1)
        if self.is_full(row.domain, owed.sent_to_organization):
            plan = self._full(kind, row, found, begin_at, end_at)
        elif kind is ResultKind.DMARC:
            plan = await self._dmarc(row, found, begin_at, end_at)
        else:
            plan = await self._tls(row, found, begin_at, end_at)
        is_late = begin_at >= row.begin_at + options.interval_us
        return msgspec.structs.replace(plan, is_late=is_late) if is_late else plan

    def is_full(self, domain: str, sent: int) -> bool:
        """Whether its organization had its share. The organization's own report always goes: its
        names below may be somebody else's inventions, all of them in its name."""
        return sent >= self._options.per_organization_max and domain != organization_of(domain)

    def _full(
        self, kind: ResultKind, row: DueRow, found: Sequence[SummedRow], begin_at: int, end_at: int
    ) -> Plan:
        """Nobody is looked up for it: names below one domain cost their owner nothing."""
        organization = organization_of(row.domain)
        return Plan(
            kind=kind,
            domain=row.domain,
            begin_at=begin_at,
            end_at=end_at,
            due_at=self.due_at(kind, row.domain, row.begin_at),
            total=sum(each.total for each in found),
            targets=(),
            ignored=(),
            reason=full_outcome(organization),
            report=None,
            taken=tuple((each.id, each.total) for each in found),
            organization=organization,
            full=organization,
        )

    async def _dmarc(
        self, row: DueRow, found: Sequence[SummedRow], begin_at: int, end_at: int
    ) -> Plan:
        options = self._options
        # RFC 9990 §3.1: one configuration in a report; the last one seen is told.
        last = max(found, key=lambda each: each.seen_at)
        policy = msgspec.json.decode(last.policy, type=DmarcPolicy)
        report = await self._workers.run(
            partial(_aggregate, policy, found, begin_at, end_at, options)
        )
        wanted = await self._wanted(policy)
        return Plan(
            kind=ResultKind.DMARC,
            domain=row.domain,
            begin_at=begin_at,
            end_at=end_at,
            due_at=self.due_at(ResultKind.DMARC, row.domain, row.begin_at),
            total=report.messages,
            targets=wanted.allowed,
            ignored=wanted.ignored,
            reason="" if wanted.allowed or wanted.failure else "nobody may be sent it",
            failure=wanted.failure,
            report=report,
            taken=tuple((each.id, each.total) for each in found),
            organization=organization_of(row.domain),
        )

    async def _tls(
        self, row: DueRow, found: Sequence[SummedRow], begin_at: int, end_at: int
    ) -> Plan:
        options = self._options
        record = await self._record(row.domain)
        sums = [
            (
                msgspec.json.decode(each.policy, type=TlsPolicyFacts),
                msgspec.json.decode(each.facts, type=TlsFacts),
                each.total,
            )
            for each in found
        ]
        return Plan(
            kind=ResultKind.TLS,
            domain=row.domain,
            begin_at=begin_at,
            end_at=end_at,
            due_at=self.due_at(ResultKind.TLS, row.domain, row.begin_at),
            total=sum(count for _, _, count in sums),
            targets=record.targets,
            ignored=record.ignored,
            reason=record.reason,
            failure=record.failure,
            report=compose_tls.report(
                row.domain, sums, begin_at=begin_at, end_at=end_at, options=options
            ),
            taken=tuple((each.id, each.total) for each in found),
            organization=organization_of(row.domain),
        )

    async def _wanted(self, policy: DmarcPolicy) -> Destinations:
        check = verify(
            policy.domain,
            policy.aggregate_uris,
            Tag.AGGREGATE,
            most=self._options.uris_max,
        )
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await run(check, self._resolver, questions_max=QUESTIONS_MAX)
        except TimeoutError:
            return Destinations(failure="the DNS took too long")

    async def _record(self, domain: str) -> TlsReporting:
        check = tlsrpt_record.find(domain, most=self._options.uris_max)
        try:
            async with asyncio.timeout(LOOK_UP_S):
                return await run(check, self._resolver)
        except TimeoutError:
            return TlsReporting(failure="the DNS took too long")


def full_outcome(organization: str) -> str:
    return f"{organization} has been sent as many reports as one organization may get"


def _aggregate(
    policy: DmarcPolicy, found: Sequence[SummedRow], begin_at: int, end_at: int, options: Options
) -> AggregateReport:
    """The same facts under two policies become one record."""
    sums: dict[DmarcFacts, int] = {}
    for each in found:
        facts = msgspec.json.decode(each.facts, type=DmarcFacts)
        sums[facts] = sums.get(facts, 0) + each.total
    return compose_dmarc.report(
        policy, list(sums.items()), begin_at=begin_at, end_at=end_at, options=options
    )


def _read(
    kind: ResultKind, row: DueRow, records_max: int, interval_us: int, tx: Transaction
) -> Owed:
    until = row.begin_at + interval_us
    return Owed(
        results=rows.results(tx, kind, row.domain, row.begin_at, limit=records_max),
        sent_until=rows.sent_until(tx, kind, row.domain, since=row.begin_at, until=until),
        sent_to_organization=sent_to(tx, row.domain, row.begin_at, interval_us),
    )


def sent_to(tx: Transaction, domain: str, begin_at: int, interval_us: int) -> int:
    """Reports about an interval that went to the domain's organization."""
    return rows.sent_to(tx, organization_of(domain), since=begin_at, until=begin_at + interval_us)
