"""The queue at work: leases what is due, hands it to the delivery agent, records what came of it.

One loop. Each turn is one unit of work that records every outcome since the last turn and leases
what there is room for, so outcomes and leases ride in the store's group commits. It wakes on
changes of the queue, on reports, and at the next due time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from posthouse.kernel.errors import Fault, StorageLost
from posthouse.kernel.ids import MessageId, RecipientId
from posthouse.kernel.ports import Clock
from posthouse.observe.log import Log
from posthouse.queue import leases, retention, schedule, second_look, window
from posthouse.queue.hot import Hot
from posthouse.queue.journal import QueueLog
from posthouse.queue.leases import Leased, Turn, Want
from posthouse.queue.loader import Loader
from posthouse.queue.options import Counts, Options
from posthouse.queue.outcomes import Recorded, Recorder
from posthouse.queue.work import DeliveryAgent, Ending, Outcome, Report, Work
from posthouse.store import queue as rows
from posthouse.store.queue_rows import RecipientRow
from posthouse.store.transaction import (
    Change,
    DatabaseChanged,
    QueueChanged,
    Store,
    Transaction,
)

__all__ = ["Counts", "Options", "Runner"]

US: Final = schedule.US
CLOCK_COUNTER: Final = "queue-clock"
REPORTS_MAX: Final = 500
"""Attempts recorded in one unit of work."""
CLOCK_MARK_S: Final = 600.0
"""How often the time is noted, so that a jump while we were down is seen."""
UNTRIED_US: Final = 3600 * US
"""How long an expired recipient may wait for its last attempt."""
UNTRIED_MAX: Final = 200
"""Recipients of one destination out of reach that are deferred in one unit of work."""
UNTRIED_DOMAINS_MAX: Final = 2
OVERDUE_MAX: Final = 200
"""Recipients expired by one sweep; the next sweep follows at once while there are more."""


_Key = tuple[RecipientId, int]


class _InHand(msgspec.Struct, eq=False):
    recipients: tuple[RecipientRow, ...]
    destination: str
    began_s: float
    loaded_octets: int


class _Turned(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    recorded: list[Recorded]
    turns: list[Turn]
    reclaimed: int
    pruned: int


class _Plan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one turn is to do."""

    reports: list[Report]
    wants: list[Want]
    renewals: list[tuple[RecipientId, int]]
    overdue: list[RecipientId]
    is_housekeeping: bool
    reclaims: bool
    prunes: bool
    is_doubtful: bool

    @property
    def is_empty(self) -> bool:
        return not (
            self.reports or self.wants or self.overdue or self.is_housekeeping or self.prunes
        )


class Runner:
    """See the module. `run` until cancelled or `drain`ed; `keep` and `counts` are for others."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        clock: Clock,
        agent: DeliveryAgent,
        recorder: Recorder,
        log: Log | None = None,
    ) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._agent = agent
        self._recorder = recorder
        self._log = QueueLog(log)
        self.counts = Counts()
        self._window = window.Window(options.window)
        self._hot = Hot(options.hot_octets_max)
        self._look = second_look.SecondLook(options.second_look, clock=clock, last_seen_us=None)
        self._lease_us = int(options.lease_s * US)
        self._wake = asyncio.Event()
        self._ended: list[Report] = []
        self._in_hand: dict[_Key, _InHand] = {}
        self._loader = Loader(store, octets_max=options.content_octets_max, loaded=self._loaded)
        self._lone_reports = 0  # to be recorded one by one: one of them meets a bug
        self._overdue: list[RecipientId] = []
        self._is_scan_wanted = True
        self._is_scanning = False
        self._cursor = ""
        self._scan_from_s = float("-inf")
        self._next_due: int | None = None
        self._keep_house_s = float("-inf")
        self._is_housekeeping = False
        self._mark_clock_s = float("-inf")
        self._sweep_s = float("-inf")
        self._reclaim_from_s = float("-inf")
        self._prunes = False
        self._is_draining = False
        self._is_over = False

    # --- for others ---

    def keep(self, message: MessageId, content: bytes) -> None:
        """Spare us reading a message that was just accepted; call it after the commit."""
        if len(content) <= self._options.inline_octets_max:
            self._hot.put(message, content)

    def set_options(self, options: Options) -> None:
        """A reloaded config: leases, retention and schedule from the next turn on. The owner stays,
        as open leases bear its name."""
        self._options = msgspec.structs.replace(options, owner=self._options.owner)
        self._lease_us = int(options.lease_s * US)
        self._recorder.set_schedule(options.schedule)

    @property
    def in_hand(self) -> int:
        """Recipients under way."""
        return self._window.recipients

    async def drain(self, within_s: float) -> None:
        """Lease no more, let attempts end, record them; `run` returns then (P14)."""
        self._is_draining = True
        deadline_s = self._clock.monotonic_s() + within_s
        while self._in_hand and self._clock.monotonic_s() < deadline_s:
            await self._clock.sleep(min(0.05, within_s))
        await self._agent.close()
        for leased in self._loader.take_waiting():
            self._end_untried(leased, Ending.HANDED_BACK, "the server stops")
        self._is_over = True
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled or drained.

        Raises:
            StorageLost: the store cannot be written any more.
        """
        stop_listening = self._store.listen(self._changed)
        self._is_scan_wanted = True
        try:
            await self._recover()
            while not (self._is_over and not self._ended):
                self._wake.clear()
                await self._scan()
                if not await self._turn():
                    await self._rest()
        finally:
            stop_listening()

    async def _recover(self) -> None:
        """Start-up is recovery: what an earlier life of this process held is due again (P6)."""
        last_seen_us = await self._store.read(lambda tx: rows.counter(tx, CLOCK_COUNTER))
        self._look = second_look.SecondLook(
            self._options.second_look, clock=self._clock, last_seen_us=last_seen_us
        )
        if self._look.is_doubtful:
            self._log.clock_jumped(self._look.jumped_s)
        recover = partial(leases.recover, owner=self._options.owner)
        while count := await self._store.submit(recover):
            self.counts.reclaimed += count

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, QueueChanged | DatabaseChanged):
                self._is_scan_wanted = True
                self._wake.set()
                return

    # --- finding what is due ---

    async def _scan(self) -> None:
        """Look at the next part of the domains, if that is wanted, allowed and there is room."""
        now_us, now_s = self._clock.unix_us(), self._clock.monotonic_s()
        if self._next_due is not None and self._next_due <= now_us:
            self._is_scan_wanted = True
        if self._is_draining or self._window.is_full_of_ready:
            return
        if not self._is_scanning:
            if not self._is_scan_wanted or now_s < self._scan_from_s:
                return
            self._is_scanning, self._is_scan_wanted = True, False
            self._cursor, self._next_due = "", None
        limit = self._options.scan_domains
        try:
            found = await self._store.read(
                lambda tx: rows.due_domains(tx, after=self._cursor, limit=limit)
            )
        except StorageLost:
            raise
        except Fault as fault:
            await self._pause(fault)
            self._is_scan_wanted, self._is_scanning = True, False
            return
        self._note_domains(found)
        if len(found) < limit:
            took_s = self._clock.monotonic_s() - now_s
            self._is_scanning = False
            gap_s = max(self._options.scan_gap_s, took_s / self._options.scan_share)
            self._scan_from_s = self._clock.monotonic_s() + gap_s
        else:
            self._cursor = found[-1][0]
            self._wake.set()

    def _note_domains(self, found: Sequence[tuple[str, int]]) -> None:
        now = self._clock.unix_us()
        latest = now + int(self._options.schedule.wait_max_s * US)
        for domain, due_at in found:
            if due_at <= now or due_at > latest:
                self._window.offer(domain, self._agent.destination(domain, None))
            else:
                self._note_due(due_at)

    def _note_due(self, due_at: int | None) -> None:
        if due_at is not None and (self._next_due is None or due_at < self._next_due):
            self._next_due = due_at

    # --- a turn: one unit of work ---

    async def _turn(self) -> bool:
        """Record, lease and begin; False when there was nothing to do."""
        await self._look_around()
        plan = self._plan()
        if plan.is_empty:
            return False
        try:
            turned = await self._store.submit(partial(self._unit, plan))
        except StorageLost:
            raise
        except Fault as fault:
            self._put_back(plan)
            await self._pause(fault)
        except Exception as error:  # a bug: find the one report that meets it
            await self._isolate(plan, error)
        else:
            self._finish(plan, turned)
        return True

    def _plan(self) -> _Plan:
        now_s = self._clock.monotonic_s()
        if self._look.observe():
            self.counts.clock_jumps += 1
            self._log.clock_jumped(self._look.jumped_s)
            self._is_housekeeping = True  # renew our leases in the new time first
            self._reclaim_from_s = now_s + self._options.lease_s
            self._is_scan_wanted = True
        count = 1 if self._lone_reports else REPORTS_MAX
        reports, self._ended = self._ended[:count], self._ended[count:]
        is_housekeeping, self._is_housekeeping = self._is_housekeeping, False
        can_lease = not self._is_draining and not self._lone_reports and self._window.has_turn()
        wants = self._window.take_turn() if can_lease else []
        overdue, self._overdue = self._overdue, []
        prunes, self._prunes = self._prunes, False
        return _Plan(
            reports=reports,
            wants=self._wants(wants),
            renewals=self._held() if is_housekeeping else [],
            overdue=[] if self._look.is_doubtful else overdue,
            is_housekeeping=is_housekeeping,
            reclaims=is_housekeeping and now_s >= self._reclaim_from_s,
            prunes=prunes and not self._look.is_doubtful,
            is_doubtful=self._look.is_doubtful,
        )

    def _wants(self, turns: list[tuple[str, str, int]]) -> list[Want]:
        """What to lease. Where the destination is out of reach most of it is only to be deferred,
        which takes no room in the window, but time of the store: for few destinations in a turn."""
        wants: list[Want] = []
        untried = 0
        for domain, destination, messages in turns:
            trouble = self._agent.trouble(destination)
            if trouble is None:
                wants.append(Want(domain, destination, messages))
            elif untried < UNTRIED_DOMAINS_MAX:
                untried += 1
                wants.append(Want(domain, destination, messages, trouble, UNTRIED_MAX))
            else:
                self._window.leased(domain, destination, may_have_more=True)
        return wants

    def _held(self) -> list[tuple[RecipientId, int]]:
        """Everything whose outcome is not recorded yet."""
        held = [(row.id, row.step) for hand in self._in_hand.values() for row in hand.recipients]
        for report in self._ended:
            held += [(row.id, row.step) for row in report.work.recipients]
        return held

    def _unit(self, plan: _Plan, tx: Transaction) -> _Turned:
        """The turn's unit of work, on a store thread."""
        recorded = expired = None
        reclaimed = pruned = 0
        if plan.reports:
            recorded = self._recorder.record(tx, plan.reports, is_doubtful=plan.is_doubtful)
        if plan.overdue:
            expired = self._recorder.expire(tx, plan.overdue)
        if plan.is_housekeeping:
            now = tx.now_us()
            rows.set_counter(tx, CLOCK_COUNTER, now)
            rows.renew_leases(tx, plan.renewals, until=now + self._lease_us)
        if plan.reclaims:
            mine = {recipient for recipient, _ in plan.renewals}
            mine.update(row.id for report in plan.reports for row in report.work.recipients)
            reclaimed = leases.reclaim(tx, lease_us=self._lease_us, mine=frozenset(mine))
        if plan.prunes:
            before = tx.now_us() - int(self._options.retention_s * US)
            pruned = retention.prune(tx, accepted_before=before)
        turns = leases.lease(
            tx,
            plan.wants,
            owner=self._options.owner,
            lease_us=self._lease_us,
            wait_max_us=int(self._options.schedule.wait_max_s * US),
            content_octets_max=self._options.inline_octets_max,
            known=self._hot.contents,
        )
        deferred = [
            self._recorder.defer_untried(tx, turn, turn.want.trouble, is_doubtful=plan.is_doubtful)
            for turn in turns
            if turn.want.trouble is not None and turn.untried
        ]
        return _Turned(
            recorded=[one for one in (recorded, expired, *deferred) if one is not None],
            turns=turns,
            reclaimed=reclaimed,
            pruned=pruned,
        )

    def _finish(self, plan: _Plan, turned: _Turned) -> None:
        """After the commit, on the event loop."""
        self.counts.turns += 1
        self._lone_reports = max(0, self._lone_reports - len(plan.reports))
        for recorded in turned.recorded:
            self._count(recorded)
        if turned.reclaimed:
            self.counts.reclaimed += turned.reclaimed
            self._is_scan_wanted = True
            if turned.reclaimed == leases.RECLAIM_MAX:
                self._keep_house_s = float("-inf")
        self._prunes = turned.pruned == retention.PRUNED_MAX
        for turn in turned.turns:
            want = turn.want
            for leased in turn.leased:
                self._begin(leased)
            self._window.leased(want.domain, want.destination, may_have_more=turn.may_have_more)
            self._note_due(turn.next_due)

    def _count(self, recorded: Recorded) -> None:
        self._note_due(recorded.next_due)
        self.counts.notices += recorded.notices
        endings = self.counts.endings
        for queue_id, change in recorded.moves:
            endings[change.reason] = endings.get(change.reason, 0) + 1
            self._log.moved(queue_id, change)
        self.counts.refused += len(recorded.refused)
        for recipient in recorded.refused:
            self._log.lease_lost(recipient)

    def _put_back(self, plan: _Plan) -> None:
        """Nothing of the turn happened."""
        self._ended = plan.reports + self._ended
        self._overdue = plan.overdue + self._overdue
        self._prunes = plan.prunes
        self._is_housekeeping = self._is_housekeeping or plan.is_housekeeping
        for want in plan.wants:
            self._window.leased(want.domain, want.destination, may_have_more=True)

    async def _isolate(self, plan: _Plan, error: Exception) -> None:
        """A unit met a bug. Record reports one by one; pause the recipients of the one at fault."""
        self._log.bug(error)
        if len(plan.reports) == 1 and not plan.wants:
            self._lone_reports = max(0, self._lone_reports - 1)
            report = plan.reports[0]
            words = f"a bug kept us from recording an attempt ({type(error).__name__}: {error})"
            try:
                await self._store.submit(
                    lambda tx: self._recorder.hold(tx, report, words),
                )
            except StorageLost:
                raise
            except Exception as second:  # its lease runs out and it is tried again
                self._log.bug(second)
            return
        self._put_back(plan)
        self._lone_reports = len(plan.reports)
        if not plan.reports:
            await self._clock.sleep(self._options.fault_pause_s)

    async def _pause(self, fault: Fault) -> None:
        self._log.fault("store", str(fault))
        await self._clock.sleep(self._options.fault_pause_s)

    async def _look_around(self) -> None:
        """Now and then: leases to renew or to take over, recipients no attempt reached."""
        now_s = self._clock.monotonic_s()
        try:
            if now_s >= self._keep_house_s:
                await self._keep_house(now_s)
            if now_s >= self._sweep_s and not self._is_draining and not self._overdue:
                await self._sweep(now_s)
        except StorageLost:
            raise
        except Fault as fault:
            await self._pause(fault)

    async def _keep_house(self, now_s: float) -> None:
        """An idle queue is only read, not written, but for the clock's mark now and then."""
        is_busy = bool(self._in_hand or self._ended)
        self._keep_house_s = now_s + self._options.lease_s / (3 if is_busy else 2)
        if now_s >= self._mark_clock_s:
            self._mark_clock_s = now_s + CLOCK_MARK_S
            is_busy = True
        has_dead = partial(leases.has_dead, lease_us=self._lease_us)
        self._is_housekeeping = is_busy or await self._store.read(has_dead)

    async def _sweep(self, now_s: float) -> None:
        self._sweep_s = now_s + self._options.sweep_s
        self._prunes = True
        now = self._clock.unix_us()
        self._overdue = await self._store.read(
            lambda tx: rows.overdue(
                tx, expired_before=now, due_before=now - UNTRIED_US, limit=OVERDUE_MAX
            )
        )
        if len(self._overdue) == OVERDUE_MAX:
            self._sweep_s = now_s

    # --- work under way ---

    def _begin(self, leased: Leased) -> None:
        first = leased.recipients[0]
        destination = self._agent.destination(first.domain, first.route)
        self.counts.leased += len(leased.recipients)
        self._window.began(destination, len(leased.recipients))
        self._in_hand[_key(leased.recipients)] = _InHand(
            recipients=leased.recipients,
            destination=destination,
            began_s=self._clock.monotonic_s(),
            loaded_octets=leased.message.size if leased.content is None else 0,
        )
        if leased.content is None:
            self._loader.add(leased)
            return
        if leased.message.pending == len(leased.recipients):
            self._hot.drop(leased.message.id)
        self._agent.start(self._work(leased, leased.content), self._report)

    def _loaded(self, leased: Leased, content: bytes | BaseException) -> None:
        if isinstance(content, bytes):
            self._agent.start(self._work(leased, content), self._report)
            return
        # F10: altered octets never leave; P8: our own fault is temporary.
        self._log.fault("blob", f"{leased.message.queue_id}: {content}")
        words = "our copy of the message cannot be read at the moment"
        self._end_untried(leased, Ending.DEFERRED, words)

    def _work(self, leased: Leased, content: bytes) -> Work:
        destination = self._in_hand[_key(leased.recipients)].destination
        return Work(
            message=leased.message,
            recipients=leased.recipients,
            destination=destination,
            octets=leased.message.prefix + content,
            is_asked=leased.is_asked,
        )

    def _end_untried(self, leased: Leased, ending: Ending, words: str) -> None:
        """The same outcome for all recipients of a message that could not be begun."""
        status = "4.3.0" if ending is Ending.DEFERRED else ""
        outcomes = tuple(
            Outcome(recipient=row.id, ending=ending, status=status, words=words)
            for row in leased.recipients
        )
        self._report(Report(work=self._work(leased, b""), outcomes=outcomes))

    def _report(self, report: Report) -> None:
        work = report.work
        hand = self._in_hand.pop(_key(work.recipients), None)
        if hand is None:
            return  # reported twice
        took_s = self._clock.monotonic_s() - hand.began_s
        if hand.loaded_octets:
            self._loader.release(hand.loaded_octets)
        self._ended.append(report)
        if self._window.ended(
            hand.destination,
            len(hand.recipients),
            took_s=took_s,
            is_trouble=report.is_trouble,
        ):
            self._is_scan_wanted = True
        self._wake.set()

    # --- waiting ---

    async def _rest(self) -> None:
        """Until something changes or the next thing is due."""
        if self._wake.is_set() or self._is_over:
            return
        wait_s = min(self._keep_house_s, self._sweep_s) - self._clock.monotonic_s()
        if self._is_draining:
            wait_s = min(wait_s, 1.0)
        elif self._is_scan_wanted and not self._window.is_full_of_ready:
            wait_s = min(wait_s, self._scan_from_s - self._clock.monotonic_s())
        elif self._next_due is not None:
            wait_s = min(wait_s, (self._next_due - self._clock.unix_us()) / US)
        alarm = asyncio.ensure_future(self._clock.sleep(max(wait_s, 0.001)))
        alarm.add_done_callback(self._ring)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    def _ring(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled():
            self._wake.set()


def _key(recipients: tuple[RecipientRow, ...]) -> _Key:
    """Names a lease: the same recipient may be leased again before an old attempt reports."""
    return recipients[0].id, recipients[0].step
