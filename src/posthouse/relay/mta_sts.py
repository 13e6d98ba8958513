"""MTA-STS policies of the domains we write to: found, fetched, kept, refreshed (RFC 8461 §3, §5).

A policy is fetched when the DNS shows a record we have no policy for. Whoever sends mail waits for
that no longer than `wait_s`; the fetch goes on without them. What was fetched once counts until it
expires, whatever happens to the record or the web server meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from posthouse.kernel.errors import Fault
from posthouse.kernel.ports import (
    Clock,
    DnsStatus,
    Fetch,
    Fetched,
    FetchFailed,
    FetchTrouble,
    RecordType,
    Resolver,
)
from posthouse.kernel.tls_result import ResultType
from posthouse.observe import events
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.relay.reports import trouble_result
from posthouse.relay.sts_policy import (
    PATH,
    POLICY_OCTETS_MAX,
    BadPolicy,
    Mode,
    StsPolicy,
    parse_policy,
    record_id,
)
from posthouse.relay.tls_result import StsTrouble, TlsResult
from posthouse.store import mta_sts as rows
from posthouse.store.mta_sts import StsRow
from posthouse.store.transaction import Store

KNOWN_MAX: Final = 10_000
"""Policies kept in memory; the others are read from the store again."""
FAILED_MAX: Final = 10_000
FAILED_S: Final = 300.0
"""How long a fetch that failed is not repeated (RFC 8461 §3.3)."""
FETCHES_MAX: Final = 50
"""At the same time."""
REFRESH_LOOK_S: Final = 3_600.0
REFRESH_AFTER_S: Final = 86_400.0
"""RFC 8461 §3.3 suggests once a day."""
REFRESH_MAX: Final = 500
"""In one round; the rest has its turn in the next."""
USED_WITHIN_S: Final = 30 * 86_400.0
"""Policies of domains that nobody wrote to for so long are not refreshed."""
US: Final = 1_000_000
_MEDIA_TYPE: Final = "text/plain"
_DECODER: Final = msgspec.json.Decoder(StsPolicy)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    wait_s: float = 10.0
    """How long a message waits for a policy that is being fetched."""
    fetch_s: float = 60.0
    octets_max: int = POLICY_OCTETS_MAX


class StsFound(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a domain."""

    policy: StsPolicy | None = None
    """None where there is none, or one of mode none."""
    trouble: StsTrouble | None = None
    """The policy announced now could not be had; `policy` is an older one that still counts."""


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    record: str
    policy: StsPolicy
    fetched_at: int
    expires_at: int
    used_at: int


NOTHING: Final = StsFound()
LATE: Final = StsTrouble(
    result=ResultType.STS_POLICY_FETCH_ERROR, words="the policy is still being fetched"
)
_RESULTS: Final = {FetchTrouble.TLS: ResultType.STS_WEBPKI_INVALID}


class StsPolicies:
    """The policies of one process. `run` keeps them fresh; without it nothing is fetched beyond
    what somebody waits for."""

    def __init__(
        self,
        options: Options,
        *,
        resolver: Resolver,
        fetch: Fetch,
        clock: Clock,
        store: Store | None = None,
        log: Log | None = None,
        limits: LimitWatch | None = None,
        on_tls: Callable[[TlsResult], None] = lambda result: None,
        leisure: float = 1.0,
    ) -> None:
        """Args:
        store: keeps policies over a restart; None for a look from the command line.
        on_tls: is told of a policy that cannot be refreshed.
        leisure: how many times longer than usual to wait between rounds.
        """
        self.on_tls = on_tls
        self._options = options
        self._resolver = resolver
        self._port = fetch
        self._clock = clock
        self._store = store
        self._log = log
        self._limits = limits
        self._leisure = leisure
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: OrderedDict[tuple[str, str], tuple[float, StsTrouble]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[StsFound]] = {}
        self._turns = asyncio.Semaphore(FETCHES_MAX)
        self._tasks: asyncio.TaskGroup | None = None

    def set_options(self, options: Options) -> None:
        self._options = options

    async def policy_for(self, domain: str) -> StsFound:
        """The policy that counts for mail to `domain` (A-labels) now. Never raises for anything
        the network does, and takes `wait_s` at most beside what the DNS takes."""
        answer = await self._resolver.resolve(f"_mta-sts.{domain}", RecordType.TXT)
        record = record_id(answer.records) if answer.status is DnsStatus.FOUND else None
        known = await self._recall(domain)
        if known is not None:
            self._note_use(domain, known)
            if record is None or record == known.record:
                return _found(known.policy)
        elif record is None:
            return NOTHING
        assert record is not None
        fresh = self._remembered_failure(domain, record) or await self._fetch_within(domain, record)
        if fresh.trouble is None:
            return fresh
        old = None if known is None or known.policy.mode is Mode.NONE else known.policy
        return StsFound(policy=old, trouble=fresh.trouble)

    async def run(self) -> None:
        """Until cancelled: refresh what is used, forget what is expired."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    await self._clock.sleep(REFRESH_LOOK_S * self._leisure)
                    await self.refresh()
            finally:
                self._tasks = None

    # --- what is known ---

    async def _recall(self, domain: str) -> _Known | None:
        """From memory or the store, unless it is expired."""
        known = self._known.get(domain)
        if known is None and self._store is not None:
            try:
                row = await self._store.read(partial(rows.policy_of, domain=domain))
            except Fault:
                row = None
            known = None if row is None else _of_row(row)
            if known is not None:
                self._remember(domain, known)
        if known is None or known.expires_at <= self._clock.unix_us():
            return None
        self._known.move_to_end(domain)
        return known

    def _remember(self, domain: str, known: _Known) -> None:
        self._known[domain] = known
        self._known.move_to_end(domain)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _note_use(self, domain: str, known: _Known) -> None:
        """To the day, so that few messages cost a write."""
        now = self._clock.unix_us()
        if now - known.used_at < REFRESH_AFTER_S * US:
            return
        self._remember(domain, msgspec.structs.replace(known, used_at=now))
        if self._store is not None and self._store.is_writable:
            unit = partial(rows.touch, domain=domain, used_at=now)
            self._store.submit(unit, is_short=True).add_done_callback(_let_go)

    def _remembered_failure(self, domain: str, record: str) -> StsFound | None:
        until_s, trouble = self._failed.get((domain, record), (0.0, LATE))
        return StsFound(trouble=trouble) if until_s > self._clock.monotonic_s() else None

    # --- fetching ---

    async def _fetch_within(self, domain: str, record: str) -> StsFound:
        """Fetch, or wait for somebody else's fetch, no longer than `wait_s`."""
        task = self._fetching.get(domain)
        if task is None and self._tasks is not None:
            task = self._tasks.create_task(self._fetch(domain, record))
            self._fetching[domain] = task
            task.add_done_callback(lambda done: self._fetching.pop(domain, None))
        if task is not None:
            await asyncio.wait({task}, timeout=self._options.wait_s)
            is_done = task.done() and not task.cancelled()
            return task.result() if is_done else self._late(domain)
        try:
            async with asyncio.timeout(self._options.wait_s):
                return await self._fetch(domain, record)
        except TimeoutError:
            return self._late(domain)

    def _late(self, domain: str) -> StsFound:
        if self._limits is not None:
            wait_s = self._options.wait_s
            self._limits.reached("fetch.mail_waits_s", value=wait_s, observed=wait_s, peer=domain)
        return StsFound(trouble=LATE)

    def _note_limit(self, kind: FetchTrouble, domain: str) -> None:
        options, limits = self._options, self._limits
        if limits is None:
            return
        if kind is FetchTrouble.TOO_BIG:
            most = options.octets_max
            limits.reached("fetch.octets_max", value=most, observed=most + 1, peer=domain)
        elif kind is FetchTrouble.TIMEOUT:
            most_s = options.fetch_s
            limits.reached("fetch.timeout_s", value=most_s, observed=most_s, peer=domain)

    async def _fetch(self, domain: str, record: str, *, used_at: int | None = None) -> StsFound:
        options = self._options
        url = f"https://mta-sts.{domain}{PATH}"
        try:
            async with self._turns:
                fetched = await self._port.get(
                    url, octets_max=options.octets_max, timeout_s=options.fetch_s
                )
            policy = _read(fetched)
        except FetchFailed as error:
            self._note_limit(error.kind, domain)
            result = _RESULTS.get(error.kind, ResultType.STS_POLICY_FETCH_ERROR)
            return self._note_failure(domain, record, result, str(error))
        except BadPolicy as error:
            return self._note_failure(domain, record, ResultType.STS_POLICY_INVALID, str(error))
        except Exception as error:  # a bug in fetching may not stop mail
            if self._log is not None:
                self._log.bug(events.FAULT_MET, error, kind="mta-sts")
            words = "a bug of ours kept us from fetching it"
            return self._note_failure(domain, record, ResultType.STS_POLICY_FETCH_ERROR, words)
        await self._keep(domain, record, policy, used_at)
        return _found(policy)

    def _note_failure(self, domain: str, record: str, result: ResultType, words: str) -> StsFound:
        trouble = StsTrouble(result=result, words=words)
        self._failed[domain, record] = (self._clock.monotonic_s() + FAILED_S, trouble)
        self._failed.move_to_end((domain, record))
        if len(self._failed) > FAILED_MAX:
            self._failed.popitem(last=False)
        if self._log is not None:
            self._log.write(events.MTA_STS_FAILED, domain=domain, detail=words)
        return StsFound(trouble=trouble)

    async def _keep(self, domain: str, record: str, policy: StsPolicy, used_at: int | None) -> None:
        now = self._clock.unix_us()
        known = _Known(
            record=record,
            policy=policy,
            fetched_at=now,
            expires_at=now + policy.max_age_s * US,
            used_at=now if used_at is None else used_at,
        )
        self._remember(domain, known)
        self._failed.pop((domain, record), None)
        if self._store is None or not self._store.is_writable:
            return
        row = StsRow(
            domain=domain,
            record_id=record,
            policy=msgspec.json.encode(policy),
            fetched_at=known.fetched_at,
            expires_at=known.expires_at,
            used_at=known.used_at,
        )
        try:
            await self._store.submit(partial(rows.put, row=row))
        except Fault:
            return  # it is in memory, and fetched again after a restart

    # --- refreshing ---

    async def refresh(self) -> None:
        """One round (RFC 8461 §3.3): what was fetched more than a day ago and is in use."""
        store, now = self._store, self._clock.unix_us()
        if store is None or not store.is_writable:
            return
        try:
            await store.submit(partial(rows.forget_expired, before=now))
            stale = await store.read(
                partial(
                    rows.stale,
                    fetched_before=now - int(REFRESH_AFTER_S * US),
                    used_after=now - int(USED_WITHIN_S * US),
                    limit=REFRESH_MAX,
                )
            )
        except Fault:
            return
        await asyncio.gather(*(self._refresh(row) for row in stale))

    async def _refresh(self, row: StsRow) -> None:
        known = _of_row(row)
        answer = await self._resolver.resolve(f"_mta-sts.{row.domain}", RecordType.TXT)
        record = record_id(answer.records) if answer.status is DnsStatus.FOUND else None
        found = await self._fetch(row.domain, record or row.record_id, used_at=row.used_at)
        if found.trouble is None or known is None or known.policy.mode is Mode.NONE:
            return
        if self._log is not None:
            self._log.write(
                events.MTA_STS_NOT_REFRESHED,
                domain=row.domain,
                days=max(0, row.expires_at - self._clock.unix_us()) // int(REFRESH_AFTER_S * US),
                detail=found.trouble.words,
            )
        self.on_tls(trouble_result(row.domain, found.trouble, known.policy))


def _found(policy: StsPolicy) -> StsFound:
    return NOTHING if policy.mode is Mode.NONE else StsFound(policy=policy)


def _read(fetched: Fetched) -> StsPolicy:
    """Raises BadPolicy, and FetchFailed for what is no answer at all (RFC 8461 §3.3)."""
    if fetched.status != 200:
        words = f"the policy host answers with {fetched.status} in place of a policy"
        raise FetchFailed(words, FetchTrouble.PROTOCOL)
    if fetched.media_type != _MEDIA_TYPE:
        raise BadPolicy(f"the policy host sends {fetched.media_type or 'no media type'}, not text")
    return parse_policy(fetched.octets)


def _of_row(row: StsRow) -> _Known | None:
    try:
        policy = _DECODER.decode(row.policy)
    except msgspec.DecodeError:  # of another release: fetched again
        return None
    return _Known(
        record=row.record_id,
        policy=policy,
        fetched_at=row.fetched_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )


def _let_go(future: asyncio.Future[None]) -> None:
    """A date of use that could not be written costs nothing."""
    if not future.cancelled():
        future.exception()
