"""Sends the reports that are due: once a day for each domain that asks for them.

What a domain is owed is in the store (`collect` puts it there). A report is composed and its
destinations are looked up outside any transaction; then one unit of work marks it as sent, takes
its results away and accepts its mail into the queue. So a crash sends none twice and loses none.
The exception is HTTPS (TLS reports only): a crash between the other side's answer and our commit
posts the same results again, under the same report id when the interval was over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address, TlsDemand
from posthouse.kernel.errors import Fault
from posthouse.kernel.ports import Chance, Clock, Fetch, FetchFailed, Resolver, Workers
from posthouse.message.address import format_address
from posthouse.message.build import BuildError
from posthouse.net.workers import WorkersBusy
from posthouse.observe import events
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.reporting import compose_dmarc, compose_tls
from posthouse.reporting.mail import BASE64_SHARE, Packed
from posthouse.reporting.model import AggregateReport, TlsReport
from posthouse.reporting.options import US, Options
from posthouse.reporting.plan import SPREAD_S, Plan, Planner, full_outcome, sent_to
from posthouse.reporting.post import (
    LIFETIME_S,
    Sign,
    Unsigned,
    accept_mail,
    new_queue_id,
    signed,
)
from posthouse.reporting.uris import Https, MailTo
from posthouse.store import reports as rows
from posthouse.store.reports import DueRow, ResultKind, SentRow
from posthouse.store.transaction import Store, Transaction

LOOK_S: Final = 300.0
RETRY_S: Final = 900.0
RETRY_MAX_S: Final = 4 * 3600.0
AT_ONCE: Final = 10_000
"""Reports of one look."""
SIDE_BY_SIDE: Final = 8
ANSWER_OCTETS_MAX: Final = 64 * 1024
POST_S: Final = 60.0
SENT_KEPT_S: Final = 60 * 86_400.0

SENT_ALREADY: Final = "it was sent already"
TOO_LATE: Final = "these results came after their report was sent"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a plan."""

    kind: ResultKind
    domain: str
    is_sent: bool
    is_over: bool
    """False: it is tried again."""
    outcome: str
    full: str = ""
    """As in the plan."""


class Sender:
    """One for each process that sends. `run` is for a server, the rest for commands too."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        resolver: Resolver,
        clock: Clock,
        chance: Chance,
        workers: Workers,
        fetch: Fetch,
        sign: Sign,
        log: Log | None = None,
        limits: LimitWatch | None = None,
        leisure: float = 1.0,
    ) -> None:
        """Args:
        leisure: how many times longer than usual to wait between looks.
        """
        self._options = options
        self._store = store
        self._planner = Planner(
            options, store=store, resolver=resolver, clock=clock, workers=workers
        )
        self._clock = clock
        self._chance = chance
        self._workers = workers
        self._fetch = fetch
        self._sign = sign
        self._log = log
        self._limits = limits
        self._leisure = leisure
        self._waits: dict[tuple[ResultKind, str, int], tuple[int, int]] = {}
        """Of reports that failed: tries so far, and when the next one may be."""

    def set_options(self, options: Options) -> None:
        """A reloaded config."""
        self._options = options
        self._planner.set_options(options)

    async def run(self) -> None:
        """Look every few minutes, for ever."""
        while True:
            try:
                await self.send_due()
            except Fault as fault:
                if self._log is not None:
                    self._log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
            await self._clock.sleep(LOOK_S * self._leisure)

    # --- what is due ---

    async def due(self, *, is_everything: bool = False) -> list[tuple[ResultKind, DueRow]]:
        """What may be sent now.

        Args:
            is_everything: also of intervals that are not over or not yet due.
        """
        now = self._clock.unix_us()
        found: list[tuple[ResultKind, DueRow]] = []
        for kind in self._kinds():
            before = now + 1 if is_everything else now - self._options.interval_us + 1
            query = partial(_due, kind, before)
            for row in await self._store.read(query):
                if is_everything or self.due_at(kind, row.domain, row.begin_at) <= now:
                    found.append((kind, row))
        return found

    def _kinds(self) -> list[ResultKind]:
        wanted = {
            ResultKind.DMARC: self._options.sends_dmarc,
            ResultKind.TLS: self._options.sends_tls,
        }
        return [kind for kind, is_sent in wanted.items() if is_sent]

    def due_at(self, kind: ResultKind, domain: str, begin_at: int) -> int:
        """When a report goes."""
        return self._planner.due_at(kind, domain, begin_at)

    async def plan(self, kind: ResultKind, row: DueRow) -> Plan | None:
        """What is to be sent, and to whom. None when there are no results any more."""
        return await self._planner.plan(kind, row)

    # --- sending ---

    async def send_due(self, *, is_everything: bool = False) -> list[Done]:
        """Send what is due, a few at a time. Raises Fault when the store fails."""
        done: list[Done] = []
        now = self._clock.unix_us()
        due = [
            (kind, row)
            for kind, row in await self.due(is_everything=is_everything)
            if is_everything or self._waits.get((kind, row.domain, row.begin_at), (0, 0))[1] <= now
        ]
        try:
            for at in range(0, len(due), SIDE_BY_SIDE):
                some = due[at : at + SIDE_BY_SIDE]
                # All of them end before one's fault is told.
                ends = await asyncio.gather(
                    *(self._send_one(kind, row) for kind, row in some), return_exceptions=True
                )
                done += [end for end in ends if isinstance(end, Done)]
                for end in ends:
                    if isinstance(end, BaseException):
                        raise end
        finally:
            self._tell_full(done)
        await self._store.submit(partial(_prune, now - int(SENT_KEPT_S * US)))
        return done

    def _tell_full(self, done: Sequence[Done]) -> None:
        """One line for each organization, not for each of its names."""
        most = self._options.per_organization_max
        for organization, refused in Counter(each.full for each in done if each.full).items():
            self._reached("reports.per_organization_max", most, most + refused, organization)

    def _reached(self, name: str, value: int, observed: int, peer: str) -> None:
        if self._limits is not None:
            self._limits.reached(name, value=value, observed=observed, peer=peer)

    async def _send_one(self, kind: ResultKind, row: DueRow) -> Done:
        try:
            plan = await self.plan(kind, row)
            if plan is None:
                return Done(
                    kind=kind, domain=row.domain, is_sent=False, is_over=True, outcome="it is gone"
                )
            done = await self.send(plan)
        except (BuildError, msgspec.MsgspecError, WorkersBusy) as error:
            # Results that no report can be made of must not stop those behind them for ever.
            done = Done(
                kind=kind, domain=row.domain, is_sent=False, is_over=False, outcome=str(error)
            )
        key = (kind, row.domain, row.begin_at)
        if done.is_over:
            self._waits.pop(key, None)
        else:
            done = await self._try_later(key, done, row)
        if self._log is not None and not done.full:
            self._log.write(
                events.REPORT_SENT if done.is_sent else events.REPORT_NOT_SENT,
                kind=kind.value,
                domain=row.domain,
                detail=done.outcome,
            )
        return done

    async def _try_later(self, key: tuple[ResultKind, str, int], done: Done, row: DueRow) -> Done:
        """Again in a while, or never more when it is a day late."""
        kind, domain, begin_at = key
        now = self._clock.unix_us()
        ends_at = begin_at + self._options.interval_us + int((SPREAD_S + LIFETIME_S) * US)
        if now >= ends_at:
            self._waits.pop(key, None)
            await self._store.submit(partial(_give_up, kind, domain, begin_at))
            return msgspec.structs.replace(done, is_over=True, outcome=f"given up: {done.outcome}")
        tries = self._waits.get(key, (0, 0))[0] + 1
        wait_s = min(RETRY_MAX_S, RETRY_S * 2 ** min(tries - 1, 10))
        self._waits[key] = (tries, now + int(wait_s * US))
        return done

    async def send(self, plan: Plan) -> Done:
        """Send one planned report.

        Raises:
            Fault: the store failed; nothing was sent by mail.
            BuildError: no mail can be made of it.
        """
        if plan.is_late:
            await self._store.submit(partial(rows.take_results, kind=plan.kind, taken=plan.taken))
            return _done(plan, is_over=True, outcome=TOO_LATE)
        if plan.failure and not plan.targets:
            return _done(plan, is_over=False, outcome=plan.failure)
        if not plan.targets:
            return await self._end_unsent(plan, plan.reason or "nobody may be sent it")
        packed = await self._pack(plan)
        posted, failed = await self._post(plan, packed)
        mailed = tuple(each.address for each in plan.targets if isinstance(each, MailTo))
        if not mailed and not posted:
            return _done(plan, is_over=False, outcome="; ".join(failed))
        octets = b""
        if mailed:
            octets = await self._workers.run(partial(self._mail, plan, packed, mailed))
        uris = [each.uri for each in plan.targets if isinstance(each, MailTo)] + posted
        try:
            is_new = await self._store.submit(
                partial(self._settle, plan, mailed, octets, ", ".join(uris)), octets=len(octets)
            )
        except (Unsigned, Full) as problem:
            if not posted:
                if isinstance(problem, Full):
                    full = msgspec.structs.replace(plan, full=plan.organization)
                    return await self._end_unsent(full, str(problem))
                return _done(plan, is_over=False, outcome=str(problem))
            uris = [*posted, f"none by mail: {problem}"]
            is_new = await self._store.submit(partial(self._settle, plan, (), b"", ", ".join(uris)))
        if not is_new:
            return _done(plan, is_over=True, outcome=SENT_ALREADY)
        return _done(plan, is_over=True, is_sent=True, outcome=", ".join(uris))

    async def _end_unsent(self, plan: Plan, outcome: str) -> Done:
        settle = partial(self._settle, plan, (), b"", outcome, is_sent=False)
        is_new = await self._store.submit(settle)
        return _done(plan, is_over=True, outcome=outcome if is_new else SENT_ALREADY)

    async def _pack(self, plan: Plan) -> bytes:
        """The report's file, and a word where it would be too large with all that is in it."""
        report, most = plan.report, self._options.mail_octets_max
        assert report is not None
        packed = await self._workers.run(partial(_packed, report, most))
        if packed.whole_octets > most * BASE64_SHARE:
            whole = int(packed.whole_octets / BASE64_SHARE)
            self._reached("reports.mail_octets_max", most, whole, plan.domain)
        return packed.octets

    def can_sign(self) -> bool:
        """Whether there is a key for what we send from."""
        sender = self._options.from_address
        probe = f"From: <{format_address(sender)}>\r\n\r\n".encode()
        return bool(self._sign(None, probe, sender.domain))

    async def _post(self, plan: Plan, octets: bytes) -> tuple[list[str], list[str]]:
        """URLs that took the report (RFC 8460 §5.4), and why others did not."""
        urls = [target.uri for target in plan.targets if isinstance(target, Https)]
        if not urls or not isinstance(plan.report, TlsReport):
            return [], []
        troubles = await asyncio.gather(*(self._post_one(url, octets) for url in urls))
        posted = [url for url, trouble in zip(urls, troubles) if not trouble]
        return posted, [trouble for trouble in troubles if trouble]

    async def _post_one(self, url: str, octets: bytes) -> str:
        """Why it was not taken, or ""."""
        try:
            answer = await self._fetch.post(
                url,
                octets,
                media_type=compose_tls.MEDIA_TYPE,
                octets_max=ANSWER_OCTETS_MAX,
                timeout_s=POST_S,
            )
        except FetchFailed as error:
            return f"{url}: {error}"
        return "" if 200 <= answer.status < 300 else f"{url} answered {answer.status}"

    def _mail(self, plan: Plan, file: bytes, to: tuple[Address, ...]) -> bytes:
        date = datetime.fromtimestamp(self._clock.unix_us() // US, UTC)
        if isinstance(plan.report, AggregateReport):
            return compose_dmarc.compose(plan.report, file, to=to, date=date, options=self._options)
        assert plan.report is not None
        return compose_tls.compose(
            plan.report, plan.domain, file, to=to, date=date, options=self._options
        )

    def _settle(
        self,
        plan: Plan,
        to: tuple[Address, ...],
        octets: bytes,
        outcome: str,
        tx: Transaction,
        *,
        is_sent: bool = True,
    ) -> bool:
        """The unit of work: mark it, take its results away, accept its mail. False when it was
        sent already. Raises Unsigned, and Full when others were faster than the plan."""
        # What was posted is out; only mail can still be held back.
        if to and self._planner.is_full(plan.domain, self._sent_to(tx, plan)):
            raise Full(full_outcome(plan.organization))
        is_new = rows.mark_sent(
            tx,
            SentRow(
                kind=plan.kind,
                domain=plan.domain,
                begin_at=plan.begin_at,
                end_at=plan.end_at,
                sent_at=tx.now_us(),
                total=plan.total,
                organization=plan.organization,
                is_sent=is_sent,
                outcome=outcome,
            ),
        )
        if not is_new:
            return False
        rows.take_results(tx, plan.kind, plan.taken)
        if to:
            accept_mail(
                tx,
                signed(tx, octets, self._options.from_address, self._sign),
                sender=self._options.from_address,
                to=to,
                queue_id=new_queue_id(self._chance),
                demand=TlsDemand.OPTIONAL if plan.kind is ResultKind.TLS else TlsDemand.NONE,
            )
        return True

    def _sent_to(self, tx: Transaction, plan: Plan) -> int:
        interval_us = self._options.interval_us
        return sent_to(tx, plan.domain, plan.begin_at - plan.begin_at % interval_us, interval_us)


class Full(Exception):
    """The organization was sent as many reports as one may get."""


def _done(plan: Plan, *, is_over: bool, outcome: str, is_sent: bool = False) -> Done:
    return Done(
        kind=plan.kind,
        domain=plan.domain,
        is_sent=is_sent,
        is_over=is_over,
        outcome=outcome,
        full=plan.full,
    )


def _packed(report: AggregateReport | TlsReport, octets_max: int) -> Packed:
    if isinstance(report, AggregateReport):
        return compose_dmarc.packed(report, octets_max)
    return compose_tls.packed(report, octets_max)


def _due(kind: ResultKind, before: int, tx: Transaction) -> list[DueRow]:
    return rows.due(tx, kind, begun_before=before, limit=AT_ONCE)


def _give_up(kind: ResultKind, domain: str, begin_at: int, tx: Transaction) -> None:
    rows.forget_results(tx, kind, domain, begin_at)


def _prune(before: int, tx: Transaction) -> None:
    rows.remove_sent(tx, sent_before=before)
