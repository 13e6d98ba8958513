"""The relay: the queue's `DeliveryAgent` for other hosts.

Sessions are opened by tasks of their own, one for each session; everything behind that is
callbacks. Destinations share one bound on sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from posthouse.kernel.ports import Chance, Clock, Network, Resolver
from posthouse.kernel.tls_result import ResultType
from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import open_session
from posthouse.net.stream import TlsStart
from posthouse.net.trace_ids import TraceIds
from posthouse.observe import events
from posthouse.observe.log import Log
from posthouse.protocol.smtp.client_events import MessageEnded, Result
from posthouse.queue.work import Exchange, Report, Trouble, Work
from posthouse.relay.attempt import Job
from posthouse.relay.destination import STOPPING, Destination, Limits
from posthouse.relay.options import Options, TlsContexts
from posthouse.relay.plan import Failure, Host, Refusal, RoutePlan, Tls
from posthouse.relay.reports import host_result, trouble_result
from posthouse.relay.route import destination_of, plan_route
from posthouse.relay.secure import Policies
from posthouse.relay.session import OpenFailure, RelaySession
from posthouse.relay.tls_result import TlsResult

DESTINATIONS_MAX: Final = 10_000
"""Destinations remembered without work to do."""
PLAINTEXT_S: Final = 3600.0
"""How long an address whose handshake failed is not asked for TLS again."""
PLAINTEXT_MAX: Final = 10_000


class Counts:
    """What the relay did since it was made, for metrics."""

    __slots__ = (
        "handshakes_failed",
        "messages",
        "open_failures",
        "secured",
        "sessions",
        "tls_failures",
        "unknown",
    )

    def __init__(self) -> None:
        self.messages = 0
        self.sessions = 0
        self.open_failures = 0
        self.handshakes_failed = 0
        self.secured: Counter[str] = Counter()  # sessions opened, by what they are worth
        self.tls_failures: Counter[str] = Counter()  # by result type (RFC 8460 §4.3)
        self.unknown = 0  # recipients whose line broke after the dot: each may be a repeat (P4)


class Relay:
    """`run` has to be running before `start`."""

    def __init__(
        self,
        options: Options,
        *,
        network: Network,
        resolver: Resolver,
        clock: Clock,
        chance: Chance,
        deadlines: Deadlines,
        contexts: TlsContexts,
        trace_ids: TraceIds,
        policies: Policies | None = None,
        on_tls: Callable[[TlsResult], None] = lambda result: None,
        log: Log | None = None,
        reach: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Args:
        policies: the MTA-STS policies of others; None leaves MTA-STS out.
        on_tls: is told what TLS came to, once for each session and policy, for TLS reports.
        """
        self.on_tls = on_tls
        self._policies = policies
        self._options = options
        self._reach = reach
        self._network = network
        self._resolver = resolver
        self._clock = clock
        self._chance = chance
        self._deadlines = deadlines
        self._contexts = contexts
        self._trace_ids = trace_ids
        self._log = log
        self._limits = Limits(
            concurrency_first=options.concurrency_first,
            concurrency_max=options.concurrency_max,
            dead_first_s=options.dead_first_s,
            dead_max_s=options.dead_max_s,
            reply_octets_max=options.reply_octets_max,
        )
        self._destinations: dict[str, Destination] = {}
        self._starved: dict[str, None] = {}  # destinations that wait for room in the pool
        self._plaintext: dict[str, float] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._sessions = 0
        self.counts = Counts()

    async def run(self) -> None:
        """Until `close`."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._stop.wait()
            for task in list(self._opening):
                task.cancel()

    def set_options(self, options: Options) -> None:
        """A reloaded config: routes and time-outs of attempts from now on; concurrency and the
        sessions that are open keep theirs."""
        self._options = options

    @property
    def sessions(self) -> int:
        """Open or being opened."""
        return self._sessions

    # --- DeliveryAgent ---

    def destination(self, domain: str, route: str | None) -> str:
        return destination_of(domain, route, self._options.routes)

    def trouble(self, destination: str) -> Trouble | None:
        known = self._destinations.get(destination)
        failure = known.trouble if known is not None else None
        if known is None or failure is None:
            return None
        return Trouble(
            status=failure.status, words=failure.words, since=known.died_at, until=known.dead_until
        )

    def start(self, work: Work, report: Callable[[Report], None]) -> None:
        self.counts.messages += 1
        job = Job(work, report, began_s=self.now_s())
        # Never from inside the caller: a report may come at once.
        asyncio.get_running_loop().call_soon(self._submit, job)

    def _submit(self, job: Job) -> None:
        demand = job.demand
        key = f"{job.work.destination} {demand.value}".rstrip()
        destination = self._destinations.get(key)
        if destination is None:
            if len(self._destinations) >= DESTINATIONS_MAX:
                self._forget()
            destination = Destination(
                key,
                job.work.domain,
                job.work.route,
                host=self,
                limits=self._limits,
                demand=demand,
            )
            destination.is_closing = self._stop.is_set()
            self._destinations[key] = destination
        destination.submit(job)

    async def close(self) -> None:
        await asyncio.sleep(0)  # what was started is submitted
        self._stop.set()
        for destination in list(self._destinations.values()):
            destination.close()
        await asyncio.sleep(0)

    def _forget(self) -> None:
        for key in [key for key, one in self._destinations.items() if one.is_unused]:
            del self._destinations[key]

    # --- what destinations ask ---

    def now_s(self) -> float:
        return self._clock.monotonic_s()

    def unix_us(self) -> int:
        return self._clock.unix_us()

    def has_room(self, destination: Destination) -> bool:
        if self._sessions < self._options.sessions_max:
            return True
        self._starved[destination.key] = None
        self._close_idle()
        return False

    def _close_idle(self) -> None:
        """One session that waits for work makes room for work that waits for a session."""
        for destination in self._destinations.values():
            for session in destination.sessions:
                if session.client.is_idle:
                    session.client.quit()
                    return

    def session_gone(self) -> None:
        self._sessions -= 1
        if self._starved:
            key = next(iter(self._starved))
            del self._starved[key]
            if key in self._destinations:
                asyncio.get_running_loop().call_soon(self._destinations[key].grow)

    def count_unknown(self, ended: MessageEnded) -> None:
        self.counts.unknown += sum(said.result is Result.UNKNOWN for said in ended.outcomes)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def died(self, destination: Destination, words: str) -> None:
        if self._log is not None:
            self._log.write(events.DESTINATION_DEAD, destination=destination.key, detail=words)

    def revived(self, destination: Destination) -> None:
        if self._log is not None:
            self._log.write(events.DESTINATION_ALIVE, destination=destination.key)

    def open(self, destination: Destination) -> None:
        self._spawn(self._open(destination), partial(self._bug, destination))

    def open_elsewhere(self, destination: Destination, job: Job, plan: RoutePlan) -> None:
        self._spawn(
            self._open_elsewhere(destination, job, plan),
            lambda: destination.nowhere_else(job, []),
        )

    # --- opening sessions ---

    def _spawn(self, work: Coroutine[None, None, None], on_failure: Callable[[], None]) -> None:
        assert self._tasks is not None, "run() is not running"
        self._sessions += 1
        self.counts.sessions += 1
        task = self._tasks.create_task(self._guard(work, on_failure))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _guard(
        self, work: Coroutine[None, None, None], on_failure: Callable[[], None]
    ) -> None:
        """A bug in opening one session may not end the others."""
        try:
            await work
        except Exception as error:
            if self._log is not None:
                self._log.bug(events.FAULT_MET, error, kind="relay")
            self.session_gone()
            on_failure()

    def _bug(self, destination: Destination) -> None:
        words = "a bug of ours kept us from reaching the host"
        destination.no_route(Failure(is_permanent=False, status="4.3.0", words=words))

    async def _open(self, destination: Destination) -> None:
        plan = await plan_route(
            destination.domain,
            route=destination.route,
            resolver=self._resolver,
            chance=self._chance,
            options=self._options.routes,
            demand=destination.demand,
            policies=self._policies,
        )
        if plan.sts_trouble is not None:
            self._tell(trouble_result(plan.sts_domain, plan.sts_trouble, plan.sts))
        if plan.failure is not None:
            self.session_gone()
            destination.no_route(plan.failure)
            return
        session, failures = await self._open_any(destination, plan, plan.hosts)
        if session is not None:
            destination.opened(session)
        else:
            self.session_gone()
            destination.not_opened(failures)

    async def _open_elsewhere(self, destination: Destination, job: Job, plan: RoutePlan) -> None:
        hosts = tuple(host for host in plan.hosts if host.name not in job.tried)
        session, failures = await self._open_any(destination, plan, hosts)
        if session is None:
            self.session_gone()
            destination.nowhere_else(job, failures)
        elif destination.is_closing:
            session.client.quit()
        else:
            session.send(job)

    async def _open_any(
        self, destination: Destination, plan: RoutePlan, hosts: tuple[Host, ...]
    ) -> tuple[RelaySession | None, list[OpenFailure]]:
        """The first address that gives a session, hosts and addresses in order (RFC 5321 §5.1)."""
        failures: list[OpenFailure] = []
        deadline_s = self.now_s() + self._options.timeouts.attempt_s
        for host in hosts:
            if host.policy.refusal is not None:
                failures.append(self._passed_over(plan, host, host.policy.refusal))
                continue
            for address in host.addresses:
                if failures and self.now_s() >= deadline_s:
                    return None, failures
                session = await self._open_at(destination, plan, host, address, failures)
                if session is not None:
                    return session, failures
        return None, failures

    async def _open_at(
        self,
        destination: Destination,
        plan: RoutePlan,
        host: Host,
        address: str,
        failures: list[OpenFailure],
    ) -> RelaySession | None:
        """One address; once more in plaintext when a handshake fails that no policy asks for
        (F28)."""
        is_opportunistic = host.policy.tls is Tls.OPPORTUNISTIC
        is_plaintext = is_opportunistic and self._plaintext.get(address, 0.0) > self.now_s()
        session, failure = await self._connect(
            destination, plan, host, address, is_plaintext=is_plaintext
        )
        if failure is not None and failure.is_tls and is_opportunistic and not is_plaintext:
            self.counts.handshakes_failed += 1
            self._remember_plaintext(address)
            failures.append(failure)
            self._tell(*session.tls_results())
            session, failure = await self._connect(
                destination, plan, host, address, is_plaintext=True
            )
        else:
            self._tell(*session.tls_results())
        if failure is None:
            self._count_secured(session)
            return session
        self.counts.open_failures += 1
        failures.append(failure)
        return None

    def _passed_over(self, plan: RoutePlan, host: Host, refusal: Refusal) -> OpenFailure:
        """A host that its policy forbids before any connection."""
        if refusal.policy is not None:
            kind, result = refusal.policy, refusal.result
            self._tell(host_result(plan, host, kind, result, refusal.words))
        self.counts.open_failures += 1
        return OpenFailure(
            exchange=Exchange(step="tls policy", reply=refusal.words, host=host.name),
            status=refusal.status,
            is_permanent=refusal.is_permanent,
        )

    def _tell(self, *results: TlsResult) -> None:
        for result in results:
            if result.result is not ResultType.SUCCESS:
                self.counts.tls_failures[result.result.value] += 1
            if result.domain:
                self.on_tls(result)

    def _count_secured(self, session: RelaySession) -> None:
        verdict, policy = session.verdict, session.policy
        if session.client.tls is None:
            self.counts.secured["plaintext"] += 1
        elif policy.tlsa:
            self.counts.secured["dane"] += 1
        elif policy.sts is not None and policy.has_trusted_chain:
            self.counts.secured["mta-sts"] += 1
        else:
            is_verified = verdict is not None and verdict.is_verified
            self.counts.secured["verified" if is_verified else "unverified"] += 1

    def _remember_plaintext(self, address: str) -> None:
        if len(self._plaintext) >= PLAINTEXT_MAX:
            del self._plaintext[next(iter(self._plaintext))]
        self._plaintext[address] = self.now_s() + PLAINTEXT_S

    async def _connect(
        self,
        destination: Destination,
        plan: RoutePlan,
        host: Host,
        address: str,
        *,
        is_plaintext: bool,
    ) -> tuple[RelaySession, OpenFailure | None]:
        session = RelaySession(
            destination,
            plan=plan,
            host=host,
            address=address,
            is_plaintext=is_plaintext,
            options=self._options,
            contexts=self._contexts,
            deadlines=self._deadlines,
            clock=self._clock,
            reach=self._reach,
        )
        tls = None
        if host.policy.tls is Tls.IMPLICIT:
            tls = TlsStart(
                context=self._contexts.of(host.policy),
                server_side=False,
                server_name=host.name,
                handshake_s=self._options.timeouts.tls_s,
            )
        try:
            await open_session(
                session.client,
                self._network,
                address,
                host.port,
                trace_id=self._trace_ids.next(),
                deadlines=self._deadlines,
                connect_s=self._options.timeouts.connect_s,
                tls=tls,
            )
        except OSError as error:
            words = error.strerror or str(error) or type(error).__name__
            exchange = Exchange(step="connect", reply=words, host=host.name, address=address)
            return session, OpenFailure(exchange=exchange, status="4.4.1")
        try:
            return session, await session.opened
        except asyncio.CancelledError:
            session.fail(STOPPING)
            raise
