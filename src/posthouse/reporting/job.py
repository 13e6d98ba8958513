"""Sends the reports that are due: once a day for each domain that asks for them.

What a domain is owed is in the store (`collect` puts it there). A report is composed and its
destinations are looked up outside any transaction; then one unit of work marks it as sent, takes
its results away and accepts its mail into the queue. So a crash sends none twice and loses none.
The exception is HTTPS (TLS reports only): a crash between the other side's answer and our commit
posts the same results again, under the same report id when the interval was over.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address, BodyType, Notify, TlsDemand
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import QueueId
from posthouse.kernel.ports import Chance, Clock, Fetch, FetchFailed, Resolver, Workers
from posthouse.mailauth.questions import run
from posthouse.mailauth.results import DmarcPolicy
from posthouse.message.address import format_address
from posthouse.message.build import BuildError
from posthouse.net.workers import WorkersBusy
from posthouse.observe import events
from posthouse.observe.log import Log
from posthouse.queue import spool
from posthouse.queue.item import Origin, State
from posthouse.reporting import compose_dmarc, compose_tls, mail, tlsrpt_record
from posthouse.reporting.destinations import Destinations, Tag, verify
from posthouse.reporting.model import AggregateReport, TlsReport
from posthouse.reporting.options import US, Options
from posthouse.reporting.rows import DmarcFacts, TlsFacts, TlsPolicyFacts
from posthouse.reporting.tlsrpt_record import TlsReporting
from posthouse.reporting.uris import Https, Ignored, MailTo
from posthouse.store import reports as rows
from posthouse.store.reports import DueRow, ResultKind, SentRow, SummedRow
from posthouse.store.transaction import Store, Transaction

LOOK_S: Final = 300.0
SETTLE_S: Final = 600.0
"""After an interval's end, so that the last results are written."""
SPREAD_S: Final = 4 * 3600.0
"""Over which the reports of a day are sent, so that not all of them go at midnight (RFC 8460
§4.1)."""
LIFETIME_S: Final = 86_400.0
"""How long delivery is tried (RFC 8460 §5.5); behind the spread, then a report is given up."""
RETRY_S: Final = 900.0
RETRY_MAX_S: Final = 4 * 3600.0
AT_ONCE: Final = 10_000
"""Reports of one look."""
QUESTIONS_MAX: Final = 400
"""DNS questions for one report: ten destinations with their tree walks."""
LOOK_UP_S: Final = 60.0
"""For all questions of one report: slow DNS of one domain delays the others by no more (H45)."""
SIDE_BY_SIDE: Final = 8
ANSWER_OCTETS_MAX: Final = 64 * 1024
POST_S: Final = 60.0
SENT_KEPT_S: Final = 60 * 86_400.0

Sign = Callable[[Transaction | None, bytes, str], bytes]
"""(transaction, a mail, the domain of its From) → its DKIM-Signature fields, b"" without a key."""

NO_KEY: Final = "it would not be believed: no DKIM key signs yet for"
TOO_LATE: Final = "these results came after their report was sent"


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

    is_late: bool = False
    """The whole interval was reported already: no second report may cover it (RFC 9990
    §3.1.1.4)."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a plan."""

    kind: ResultKind
    domain: str
    is_sent: bool
    is_over: bool
    """False: it is tried again."""
    outcome: str


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
        leisure: float = 1.0,
    ) -> None:
        """Args:
        leisure: how many times longer than usual to wait between looks.
        """
        self._options = options
        self._store = store
        self._resolver = resolver
        self._clock = clock
        self._chance = chance
        self._workers = workers
        self._fetch = fetch
        self._sign = sign
        self._log = log
        self._leisure = leisure
        self._waits: dict[tuple[ResultKind, str, int], tuple[int, int]] = {}
        """Of reports that failed: tries so far, and when the next one may be."""

    def set_options(self, options: Options) -> None:
        """A reloaded config."""
        self._options = options

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
        """When it goes: at its own time behind the interval's end, the same after a restart."""
        interval_s = self._options.interval_s
        spread_s = min(SPREAD_S, interval_s / 2)
        seed = f"{self._options.host} {kind.value} {domain} {begin_at}"
        share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / 2**48
        return begin_at + int((interval_s + SETTLE_S + share * spread_s) * US)

    # --- one report ---

    async def plan(self, kind: ResultKind, row: DueRow) -> Plan | None:
        """Read the results, and look up who wants them. None when there are none any more."""
        options = self._options
        found, until = await self._store.read(
            partial(_read, kind, row, options.records_max, options.interval_us)
        )
        if not found:
            return None
        begin_at = max(row.begin_at, until or 0)
        end_at = max(min(row.begin_at + options.interval_us, self._clock.unix_us()), begin_at + 1)
        make = self._plan_dmarc if kind is ResultKind.DMARC else self._plan_tls
        plan = await make(row, found, begin_at, end_at)
        is_late = begin_at >= row.begin_at + options.interval_us
        return msgspec.structs.replace(plan, is_late=is_late) if is_late else plan

    async def _plan_dmarc(
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
        )

    async def _plan_tls(
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
        for at in range(0, len(due), SIDE_BY_SIDE):
            some = due[at : at + SIDE_BY_SIDE]
            # All of them end before one's fault is told.
            ends = await asyncio.gather(
                *(self._send_one(kind, row) for kind, row in some), return_exceptions=True
            )
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
                done.append(end)
        await self._store.submit(partial(_prune, now - int(SENT_KEPT_S * US)))
        return done

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
        if self._log is not None:
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
            outcome = plan.reason or "nobody may be sent it"
            await self._store.submit(partial(self._settle, plan, (), b"", outcome))
            return _done(plan, is_over=True, outcome=outcome)
        posted, failed = await self._post(plan)
        mailed = tuple(each.address for each in plan.targets if isinstance(each, MailTo))
        if not mailed and not posted:
            return _done(plan, is_over=False, outcome="; ".join(failed))
        octets = await self._workers.run(partial(self._mail, plan, mailed)) if mailed else b""
        uris = [each.uri for each in plan.targets if isinstance(each, MailTo)] + posted
        try:
            is_new = await self._store.submit(
                partial(self._settle, plan, mailed, octets, ", ".join(uris)), octets=len(octets)
            )
        except Unsigned as unsigned:
            if not posted:
                return _done(plan, is_over=False, outcome=str(unsigned))
            uris = [*posted, f"none by mail: {unsigned}"]
            is_new = await self._store.submit(partial(self._settle, plan, (), b"", ", ".join(uris)))
        if not is_new:
            return _done(plan, is_over=True, outcome="it was sent already")
        return _done(plan, is_over=True, is_sent=True, outcome=", ".join(uris))

    def can_sign(self) -> bool:
        """Whether there is a key for what we send from."""
        sender = self._options.from_address
        probe = f"From: <{format_address(sender)}>\r\n\r\n".encode()
        return bool(self._sign(None, probe, sender.domain))

    async def _post(self, plan: Plan) -> tuple[list[str], list[str]]:
        """URLs that took the report (RFC 8460 §5.4), and why others did not."""
        urls = [target.uri for target in plan.targets if isinstance(target, Https)]
        report = plan.report
        if not urls or not isinstance(report, TlsReport):
            return [], []
        most = self._options.mail_octets_max
        octets = await self._workers.run(lambda: compose_tls.packed(report, most))
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

    def _mail(self, plan: Plan, to: tuple[Address, ...]) -> bytes:
        date = datetime.fromtimestamp(self._clock.unix_us() // US, UTC)
        if isinstance(plan.report, AggregateReport):
            return compose_dmarc.compose(plan.report, to=to, date=date, options=self._options)
        assert plan.report is not None
        return compose_tls.compose(
            plan.report, plan.domain, to=to, date=date, options=self._options
        )

    def _settle(
        self, plan: Plan, to: tuple[Address, ...], octets: bytes, outcome: str, tx: Transaction
    ) -> bool:
        """The unit of work: mark it, take its results away, accept its mail. False when it was
        sent already. Raises Unsigned."""
        is_new = rows.mark_sent(
            tx,
            SentRow(
                kind=plan.kind,
                domain=plan.domain,
                begin_at=plan.begin_at,
                end_at=plan.end_at,
                sent_at=tx.now_us(),
                total=plan.total,
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


class Unsigned(Exception):
    """There is no key for the domain that reports are sent from, so none is sent by mail."""


def signed(tx: Transaction, octets: bytes, sender: Address, sign: Sign) -> bytes:
    """The mail with its signature in front.

    RFC 9990 §3.5.2: it has to pass DMARC. RFC 8460 §3: recipients ignore it unsigned. RFC 9991
    §5.1: unaligned ones make mail loops.
    """
    signature = sign(tx, octets, sender.domain)
    if not signature:
        raise Unsigned(f"{NO_KEY} {sender.domain}")
    return signature + octets


def new_queue_id(chance: Chance) -> QueueId:
    return QueueId("r" + base64.b32encode(chance.token(10)).decode().lower())


def accept_mail(
    tx: Transaction,
    octets: bytes,
    *,
    sender: Address,
    to: Sequence[Address],
    queue_id: QueueId,
    demand: TlsDemand = TlsDemand.NONE,
) -> None:
    """A report of ours becomes the queue's. Nobody is sent a DSN about it."""
    spool.accept(
        tx,
        spool.Accepted(
            queue_id=queue_id,
            reverse_path=sender,
            recipients=tuple(
                spool.AcceptedRecipient(
                    address=address, state=State.QUEUED, notify=Notify.NEVER, detail="report"
                )
                for address in to
            ),
            size=len(octets),
            blob=tx.put_blob(octets),
            body=BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT,
            is_smtputf8=mail.is_wide((sender, *to)),
            origin=Origin.LOCAL,
            tls_demand=demand,
            expires_at=tx.now_us() + int(LIFETIME_S * US),
        ),
    )


def _done(plan: Plan, *, is_over: bool, outcome: str, is_sent: bool = False) -> Done:
    return Done(
        kind=plan.kind, domain=plan.domain, is_sent=is_sent, is_over=is_over, outcome=outcome
    )


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


def _due(kind: ResultKind, before: int, tx: Transaction) -> list[DueRow]:
    return rows.due(tx, kind, begun_before=before, limit=AT_ONCE)


def _read(
    kind: ResultKind, row: DueRow, records_max: int, interval_us: int, tx: Transaction
) -> tuple[list[SummedRow], int | None]:
    """The results, and where an earlier report about the same interval ended."""
    found = rows.results(tx, kind, row.domain, row.begin_at, limit=records_max)
    until = row.begin_at + interval_us
    return found, rows.sent_until(tx, kind, row.domain, since=row.begin_at, until=until)


def _give_up(kind: ResultKind, domain: str, begin_at: int, tx: Transaction) -> None:
    rows.forget_results(tx, kind, domain, begin_at)


def _prune(before: int, tx: Transaction) -> None:
    rows.remove_sent(tx, sent_before=before)
