"""All sessions to one destination: pooled, reused, as many as it stands (P11).

Concurrency starts small, grows with every success, halves on trouble. A destination that cannot be
reached is dead for a while: what comes for it is deferred at once with the words of the last
failure, and then one session probes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from posthouse.protocol.smtp.client_events import MessageEnded, SessionFailed
from posthouse.queue.work import Ending, Exchange
from posthouse.relay.attempt import Job, Unsendable
from posthouse.relay.plan import Demand, Failure, RoutePlan
from posthouse.relay.session import OpenFailure, RelaySession

RESENDS_MAX: Final = 2
"""Times a message is given to another session because one that was kept ended unheard."""
FAILURES_MAX: Final = 3
"""Sessions that failed in a row, without a message taken, until a destination counts as dead."""
QUEUED_PER_SESSION: Final = 8
PATIENCE_S: Final = 0.25
STOPPING: Final = "the server stops"


class Host(Protocol):
    """What a destination needs of the pool."""

    def now_s(self) -> float: ...

    def unix_us(self) -> int: ...

    def has_room(self, destination: Destination) -> bool:
        """Whether one more session may be opened; if not, `grow` is called when one may be."""
        ...

    def open(self, destination: Destination) -> None:
        """Begin to open a session; `opened`, `not_opened` or `no_route` follows."""
        ...

    def open_elsewhere(self, destination: Destination, job: Job, plan: RoutePlan) -> None:
        """Begin to open a session for `job` alone, at hosts it has not tried."""
        ...

    def session_gone(self) -> None: ...

    def count_unknown(self, ended: MessageEnded) -> None: ...

    def later(self, seconds: float, call: Callable[[], None]) -> None: ...

    def died(self, destination: Destination, words: str) -> None: ...

    def revived(self, destination: Destination) -> None: ...


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    concurrency_first: int
    concurrency_max: int
    dead_first_s: float
    dead_max_s: float
    reply_octets_max: int


class Destination:
    """See the module."""

    __slots__ = (
        "_dead_s",
        "_dead_until_s",
        "_failures",
        "_host",
        "_is_timer_set",
        "_last_failure",
        "_limits",
        "concurrency",
        "demand",
        "died_at",
        "domain",
        "elsewhere",
        "is_closing",
        "key",
        "opening",
        "queue",
        "route",
        "sessions",
    )

    def __init__(
        self,
        key: str,
        domain: str,
        route: str | None,
        *,
        host: Host,
        limits: Limits,
        demand: Demand = Demand.NONE,
    ) -> None:
        self.key = key
        self.domain = domain
        """Any one of those that go this way; they all have the same hosts."""
        self.route = route
        self.demand = demand
        self.queue: deque[Job] = deque()  # bounded by the queue's window
        self.sessions: set[RelaySession] = set()
        self.opening = 0
        self.elsewhere: set[Job] = set()
        self.concurrency = float(limits.concurrency_first)
        self.is_closing = False
        self.died_at = 0
        """When it was last found out of reach, µs since 1970."""
        self._host = host
        self._limits = limits
        self._failures = 0
        self._dead_s = limits.dead_first_s
        self._dead_until_s = float("-inf")
        self._last_failure: Failure | None = None
        self._is_timer_set = False

    @property
    def is_unused(self) -> bool:
        """Nothing would be lost by forgetting it."""
        return not (
            self.queue
            or self.sessions
            or self.opening
            or self.elsewhere
            or self._dead_until_s > self._host.now_s()
        )

    @property
    def trouble(self) -> Failure | None:
        """While it is dead: why."""
        if self.sessions or self.opening or self._dead_until_s <= self._host.now_s():
            return None
        return self._last_failure

    @property
    def dead_until(self) -> int:
        """When it is probed again, µs since 1970."""
        return self._host.unix_us() + int((self._dead_until_s - self._host.now_s()) * 1_000_000)

    # --- work comes ---

    def submit(self, job: Job) -> None:
        if self.is_closing:
            job.settle(Ending.HANDED_BACK, "", STOPPING)
            job.finish(now_s=self._host.now_s(), was_tried=False)
            return
        if self.trouble is not None and not job.work.is_asked:
            self._defer_unheard(job, untried_until=self.dead_until)
            return
        if not self.queue:  # else every session is busy
            for session in self.sessions:
                if session.wants_message:
                    self._send(session, job)
                    return
        self.queue.append(job)
        self.grow()

    def grow(self, *, is_late: bool = False) -> None:
        """Open sessions for what waits, as far as the destination and the pool allow.

        A host that answers soon takes many messages in the time that a session costs; so there
        are few at first, and more only for those that have waited.
        """
        if is_late:
            wanted = len(self.queue)
        else:
            wanted = 0 if self.sessions else -(-len(self.queue) // QUEUED_PER_SESSION)
        while (
            self.opening < wanted
            and self.opening + len(self.sessions) < self._sessions_allowed
            and not self.is_closing
            and self._host.has_room(self)
        ):
            self.opening += 1
            self._host.open(self)
        if self.queue and not self._is_timer_set and not self.is_closing:
            self._is_timer_set = True
            self._host.later(PATIENCE_S, self._grow_late)

    def _grow_late(self) -> None:
        self._is_timer_set = False
        self.grow(is_late=True)

    @property
    def _sessions_allowed(self) -> int:
        return 1 if self._last_failure is not None else int(self.concurrency)  # a probe

    def _send(self, session: RelaySession, job: Job) -> None:
        try:
            session.send(job)
        except Unsendable as error:
            job.settle(Ending.FAILED, error.status, str(error))
            job.finish(now_s=self._host.now_s())

    def _defer_unheard(self, job: Job, *, untried_until: int | None = None) -> None:
        failure = self._last_failure
        assert failure is not None, "a dead destination knows why"
        job.is_trouble = True
        job.settle(Ending.DEFERRED, failure.status, failure.words, untried_until=untried_until)
        job.finish(now_s=self._host.now_s(), was_tried=False)

    # --- sessions come and go ---

    def opened(self, session: RelaySession) -> None:
        self.opening -= 1
        self.sessions.add(session)
        if self.is_closing:
            session.client.quit()
            return
        if self._last_failure is not None:
            self._last_failure = None
            self._dead_s = self._limits.dead_first_s
            self._host.revived(self)
        self.session_free(session)
        self.grow()

    def session_free(self, session: RelaySession) -> None:
        """Give it what waits."""
        while self.queue and session.wants_message:
            self._send(session, self.queue.popleft())

    def not_opened(self, failures: list[OpenFailure]) -> None:
        """No address of any host could be used."""
        is_permanent = all(failure.is_permanent for failure in failures)
        last = [failure for failure in failures if failure.is_permanent is is_permanent][-1]
        address = f" [{last.exchange.address}]" if last.exchange.address else ""
        words = f"{last.exchange.host}{address}: {last.exchange.reply}"
        for job in self.queue:
            for failure in failures:
                job.note(failure.exchange)
        self.no_route(Failure(is_permanent=is_permanent, status=last.status, words=words))

    def no_route(self, failure: Failure) -> None:
        """There is no host to try, or none that answers."""
        self.opening -= 1
        if self.sessions:
            self.concurrency = max(1.0, self.concurrency / 2)
            return  # those that are open take what waits
        if self.opening:
            self._last_failure = failure
            return  # another one is still trying, as the probe
        if not failure.is_permanent:
            self._die(failure)
        waiting, self.queue = self.queue, deque()
        ending = Ending.FAILED if failure.is_permanent else Ending.DEFERRED
        for job in waiting:
            job.is_trouble = not failure.is_permanent
            job.settle(ending, failure.status, failure.words)
            job.finish(now_s=self._host.now_s())

    def _die(self, failure: Failure) -> None:
        self.died_at = self._host.unix_us()
        self._dead_until_s = self._host.now_s() + self._dead_s
        self._dead_s = min(self._dead_s * 2, self._limits.dead_max_s)
        self._last_failure = failure
        self._failures = 0
        self.concurrency = 1.0
        self._host.died(self, failure.words)

    def session_ended(self, session: RelaySession, failure: SessionFailed | None) -> None:
        self._host.session_gone()
        if session not in self.sessions:
            return  # it was for one message alone
        self.sessions.discard(session)
        if failure is not None and not session.has_succeeded:
            self._failures += 1
            self.concurrency = max(1.0, self.concurrency / 2)
            if self._failures >= FAILURES_MAX and not self.sessions and not self.opening:
                reply = failure.reply
                words = str(reply) if reply is not None else failure.detail
                self._die(
                    Failure(
                        is_permanent=False,
                        status=(reply.status if reply is not None else "") or "4.4.2",
                        words=f"{session.host.name} [{session.address}]: {words}",
                    )
                )
                waiting, self.queue = self.queue, deque()
                for job in waiting:
                    self._defer_unheard(job)
        self.grow()

    # --- messages end ---

    def message_ended(self, session: RelaySession, job: Job, ended: MessageEnded) -> None:
        is_stale = not ended.was_tried and session.has_succeeded and job not in self.elsewhere
        if is_stale and job.resends < RESENDS_MAX and not self.is_closing:
            job.resends += 1
            self.queue.appendleft(job)  # the session is over; `session_ended` follows
            return
        self._host.count_unknown(ended)
        job.take(ended, session.via, reply_max=self._limits.reply_octets_max)
        if job.has_success:
            session.has_succeeded = True
            self._failures = 0
            self.concurrency = min(
                self.concurrency + 1 / self.concurrency, float(self._limits.concurrency_max)
            )
        elif job.is_trouble:
            self.concurrency = max(1.0, self.concurrency / 2)
        is_elsewhere = job in self.elsewhere
        if job.rows and not is_elsewhere and self._may_go_elsewhere(session, job):
            self.elsewhere.add(job)
            self._host.open_elsewhere(self, job, session.plan)
            return
        self.elsewhere.discard(job)
        if is_elsewhere:
            session.client.quit()
        job.finish(now_s=self._host.now_s())

    def _may_go_elsewhere(self, session: RelaySession, job: Job) -> bool:
        """RFC 5321 §5.1: a temporary failure at one host is tried at the next one."""
        if self.is_closing or len(self.elsewhere) >= self.concurrency:
            return False
        return any(host.name not in job.tried for host in session.plan.hosts)

    def nowhere_else(self, job: Job, failures: list[OpenFailure]) -> None:
        """The other hosts cannot be reached: what the first one said stands."""
        for failure in failures:
            job.note(failure.exchange)
        self.elsewhere.discard(job)
        job.finish(now_s=self._host.now_s())

    # --- the end ---

    def close(self) -> None:
        """Report everything: what was not tried is handed back."""
        self.is_closing = True
        waiting, self.queue = self.queue, deque()
        for job in waiting:
            job.settle(Ending.HANDED_BACK, "", STOPPING)
            job.finish(now_s=self._host.now_s(), was_tried=False)
        for session in list(self.sessions):
            session.client.quit()
        for job in list(self.elsewhere):
            job.note(Exchange(step="stop", reply=STOPPING))
            self.nowhere_else(job, [])
