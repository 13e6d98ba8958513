"""One server: built from its config over a world of ports, listening, drained and closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final

import msgspec

from posthouse.access.imap import service as imap_service
from posthouse.access.pop3 import service as pop3_service
from posthouse.accounts.directory import Directory
from posthouse.accounts.login import Authenticator
from posthouse.accounts.policies import Policies
from posthouse.accounts.rotation import Rotation
from posthouse.accounts.sealing import NodeKey
from posthouse.accounts.signers import Signers
from posthouse.app import housekeeping, key_submissions, key_warnings
from posthouse.app.api import submission_api
from posthouse.app.authentication import Authentication
from posthouse.app.certificates import OwnCertificates
from posthouse.app.gateway import Gateway
from posthouse.app.reports import Reports
from posthouse.app.restart import kept_until_restart
from posthouse.app.world import Room, World
from posthouse.config import build, build_acme, build_keys, build_mimesec, limits
from posthouse.config.schema import Config, Service
from posthouse.delivery.agent import Dispatch, LocalAgent
from posthouse.delivery.notices import to_owners
from posthouse.gateway.at_rest import AtRest
from posthouse.guard.admission import Admission
from posthouse.guard.auth_failures import AuthFailures
from posthouse.guard.login_guard import LoginGuard
from posthouse.kernel.errors import Fault, StorageLost, UserError
from posthouse.kernel.ports import DnsUpdater
from posthouse.mailbox.changes import ChangesHub
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import Connections, WholeProcess
from posthouse.net.listener import Listener, ListenerOptions, Refused
from posthouse.net.listener import Service as ListenerService
from posthouse.net.trace_ids import TraceIds
from posthouse.observe import events
from posthouse.observe.access import AccessObserver
from posthouse.observe.lag import INTERVAL_S, watch_loop
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics
from posthouse.queue.dsn import Notices
from posthouse.queue.outcomes import Recorder
from posthouse.queue.runner import Runner
from posthouse.reception.door import Door
from posthouse.reception.refusals import Refusals
from posthouse.reception.service import Service as SmtpService
from posthouse.relay.mta_sts import StsPolicies
from posthouse.relay.options import Options as RelayOptions
from posthouse.relay.options import tls_contexts
from posthouse.relay.pool import Relay
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.tls.certificates import Certificates
from posthouse.web.metrics import MetricsServer

TLS_FROM_THE_START: Final = frozenset(
    {Service.SUBMISSIONS, Service.IMAPS, Service.POP3S, Service.HTTPS}
)
AFTER_BUG_S: Final = 1.0
NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""How a machine without IPv6 refuses to listen on `::`."""


class Node:
    """One server. `async with Node(...)` has it listening inside; `run` also waits for its end."""

    def __init__(self, config: Config, world: World, *, log: Log) -> None:
        self.config = config
        self.world = world
        self.log = log
        self.metrics = Metrics(limits.limit_names())
        self.limits = LimitWatch(log, self.metrics)
        self.deadlines = Deadlines(world.clock)
        self.listeners: list[tuple[Service, Listener]] = []
        self.process = WholeProcess(config.net.connections_max)
        self.smtp_services: list[SmtpService] = []
        self.store: SqliteStore
        self.runner: Runner
        self.certificates: Certificates
        self.lost: asyncio.Future[StorageLost]
        """A sync failed: the process has to begin anew."""
        self.revived: asyncio.Future[None]
        """The data, open for reading only since the start, can be written again."""
        self.open_recipients = 0
        self.connections: list[Connections] = []
        self._trace_ids = TraceIds(world.clock, world.chance)
        self._metrics_server: MetricsServer | None = None
        self._exit = contextlib.AsyncExitStack()
        self._tasks: asyncio.TaskGroup
        self._background: list[asyncio.Task[None]] = []
        self._runner_task: asyncio.Task[None] | None = None
        self._is_stopping = False

    # --- start ---

    async def __aenter__(self) -> Node:
        try:
            await self._start()
        except BaseException as error:
            await self._undo(error)
            raise
        return self

    async def _undo(self, error: BaseException) -> None:
        for task in self._background:
            task.cancel()
        for _, listener in self.listeners:
            listener.close()
        with contextlib.suppress(BaseException):
            await self._exit.__aexit__(type(error), error, error.__traceback__)

    async def _start(self) -> None:
        config, world = self.config, self.world
        self.lost = asyncio.get_running_loop().create_future()
        self.revived = asyncio.get_running_loop().create_future()
        self.store = SqliteStore.open(
            build.store_options(config),
            clock=world.clock,
            disk=world.disk,
            is_inline=world.is_store_inline,
            vfs=world.vfs,
            reach=world.reach,
        )
        self.store.on_lost = self._store_lost
        self.room = Room(self.store, world.disk, config.node.data_folder, world.clock)
        self.store.on_commit = self._committed
        self._exit.push_async_callback(self.store.close)
        self.log.write(events.STORE_OPENED, path=config.node.data_folder)
        self.own_certificates = OwnCertificates(self)
        self._exit.callback(self.own_certificates.close)
        self.certificates = self.own_certificates.load(config)
        self.node_key = NodeKey(build_keys.node_key_path(config), world.chance)
        self.signers = Signers(self.store, self.node_key, log=self.log)
        self._exit.callback(self.signers.close)
        await self.signers.refresh()
        self.policies = Policies(self.store)
        self._exit.callback(self.policies.close)
        await self.policies.refresh()
        self._tasks = await self._exit.enter_async_context(asyncio.TaskGroup())
        self._build_services()
        await self._build_queue()
        await self._open_listeners()
        self._start_background()
        self.log.write(
            events.SERVER_STARTED,
            listeners=[f"{s.value} {li.address[0]}:{li.address[1]}" for s, li in self.listeners],
        )

    def tls_context(self) -> ssl.SSLContext:
        return self.certificates.context()

    def _build_services(self) -> None:
        config, world, store = self.config, self.world, self.store
        own = frozenset(a for li in config.listeners() for a in li.addresses)
        self.directory_options = build.directory_options(config, own_addresses=own)
        self.directory = Directory(store, self.directory_options)
        self.failures = AuthFailures(build.auth_failure_options(config))
        self.authenticator = Authenticator(
            store,
            clock=world.clock,
            chance=world.chance,
            workers=world.workers,
            guard=LoginGuard(self.failures, world.clock, build.auth_failure_options(config)),
            cost=world.password_cost,
            cache_s=config.auth.cache_s,
        )
        self.admission = Admission(build.admission_options(config))
        self.at_rest = AtRest(store, self.policies, clock=world.clock, workers=world.workers)
        self.hub = ChangesHub(store)
        observer = AccessObserver(self.log, self.metrics, self.limits)
        self.imap = imap_service.Service(
            build.imap_options(config),
            store=store,
            hub=self.hub,
            authenticator=self.authenticator,
            clock=world.clock,
            workers=world.workers,
            deadlines=self.deadlines,
            observer=observer,
            tls_context=self.tls_context,
            at_rest=self.at_rest,
        )
        self.pop3 = pop3_service.Service(
            build.pop3_options(config),
            store=store,
            authenticator=self.authenticator,
            clock=world.clock,
            deadlines=self.deadlines,
            observer=observer,
            tls_context=self.tls_context,
        )

    def _smtp_service(self, service: Service) -> SmtpService:
        config, world = self.config, self.world
        made = SmtpService(
            build.reception_options(config, service),
            store=self.store,
            room=self.room,
            directory=self.directory,
            authenticator=self.authenticator,
            admission=self.admission,
            clock=world.clock,
            workers=world.workers,
            deadlines=self.deadlines,
            log=self.log,
            metrics=self.metrics,
            limits=self.limits,
            limit_value=lambda name: build.limit_value(self.config, name),
            tls_context=self.tls_context,
            tasks=self._tasks,
            open_recipients=lambda: self.open_recipients,
            notices=self.notices,
            examiner=self.authentication.examiner,
            signers=self.authentication.signer,
            refusals=self.refusals,
            keep=self.runner.keep,
            own_copies=self.gateway.own_copies,
            outgoing=self.gateway.outgoing,
            reach=world.reach,
        )
        self.smtp_services.append(made)
        return made

    async def _build_queue(self) -> None:
        config, world, store = self.config, self.world, self.store
        schedule = build.schedule_options(config)
        self.resolver = world.resolver(config)
        self.fetch = world.fetch(config, self.resolver)
        self.authentication = Authentication(
            config,
            resolver=self.resolver,
            clock=world.clock,
            workers=world.workers,
            metrics=self.metrics,
            signers=self.signers,
            on_checked=lambda report: self.reports.checked(report),
        )
        self.gateway = Gateway(
            config,
            world=world,
            store=store,
            policies=self.policies,
            node_key=self.node_key,
            resolver=self.resolver,
            fetch=self.fetch,
            examiner=self.authentication.examiner,
            at_rest=self.at_rest,
        )
        self.reports = Reports(
            config,
            world=world,
            store=store,
            resolver=self.resolver,
            fetch=self.fetch,
            signer=self.authentication.signer,
            node_key=self.node_key,
            log=self.log,
            limits=self.limits,
        )
        self._exit.push_async_callback(self.reports.close)
        self.refusals = Refusals(store, world.clock, keep_s=config.store.decisions_days * 86_400.0)
        self._exit.push_async_callback(self.refusals.flush)
        self.notices = Notices(
            build.dsn_options(config),
            accept=to_owners(schedule, self.directory_options, self.at_rest),
            chance=world.chance,
            sign=self.authentication.signer.sign_now,
        )
        self._build_relay()
        local = LocalAgent(
            directory=self.directory_options,
            workers=world.workers,
            chance=world.chance,
            tasks=self._tasks,
            own_copies=self.gateway.own_copies,
        )
        self.dispatch = Dispatch(local=local, remote=self.relay, store=store)
        await self.dispatch.refresh()
        self.runner = Runner(
            build.runner_options(config),
            store=store,
            clock=world.clock,
            agent=self.dispatch,
            recorder=Recorder(schedule, notices=self.notices, chance=world.chance),
            log=self.log,
        )
        self.rotation = self._rotation()

    def _build_relay(self) -> None:
        config, world = self.config, self.world
        self.sts_policies = StsPolicies(
            build.mta_sts_options(config),
            resolver=self.resolver,
            fetch=self.fetch,
            clock=world.clock,
            store=self.store,
            log=self.log,
            limits=self.limits,
            leisure=world.leisure,
            on_tls=self.reports.tls_ended,
        )
        self.relay = Relay(
            self._relay_options(config),
            network=world.network,
            resolver=self.resolver,
            clock=world.clock,
            chance=world.chance,
            deadlines=self.deadlines,
            contexts=tls_contexts(world.ca_file),
            trace_ids=self._trace_ids,
            policies=self.sts_policies,
            on_tls=self.reports.tls_ended,
            log=self.log,
            reach=world.reach,
        )

    def _rotation(self) -> Rotation:
        config, world = self.config, self.world
        return Rotation(
            self.store,
            clock=world.clock,
            resolver=self.resolver,
            workers=world.workers,
            node_key=self.node_key,
            options=build_keys.rotation_options(config),
            log=self.log,
            updater=self._dns_updater(config),
        )

    def _dns_updater(self, config: Config) -> DnsUpdater | None:
        world = self.world
        return build_acme.dns_updater(
            config, network=world.network, resolver=self.resolver, chance=world.chance
        )

    def _relay_options(self, config: Config) -> RelayOptions:
        options = build.relay_options(config)
        routes = msgspec.structs.replace(options.routes, mx_port=self.world.mx_port)
        return msgspec.structs.replace(options, routes=routes)

    async def _open_listeners(self) -> None:
        config, world = self.config, self.world
        smtp = Connections(build.smtp_connections(config), self.process)
        access = Connections(build.access_connections(config), self.process)
        web = Connections(build_acme.web_connections(config), self.process)
        self.connections = [smtp, access, web]
        if config.web.serves_api:
            self.own_certificates.known.api = submission_api(
                self, self._smtp_service(Service.SUBMISSION), self._trace_ids.next
            )
        for at, wanted in enumerate(config.listeners()):
            if wanted.service is Service.METRICS:
                await self._open_metrics(wanted.addresses, wanted.port or 0)
                continue
            for address in wanted.addresses:
                door, connections = self._door(wanted.service, *self.connections)
                listener = Listener(
                    ListenerOptions(
                        name=wanted.service.value,
                        address=address,
                        port=wanted.port or 0,
                        proxy_networks=tuple(wanted.proxy_networks),
                        handshake_s=config.tls.handshake_s,
                        descriptors_max=world.descriptors_max,
                    ),
                    door,
                    clock=world.clock,
                    deadlines=self.deadlines,
                    connections=connections,
                    trace_ids=self._trace_ids.next,
                    tls=self.tls_context if wanted.service in TLS_FROM_THE_START else None,
                    on_refused=self._refused,
                )
                try:
                    await listener.open(world.network)
                except UserError as error:
                    is_named = at < len(config.listener) and config.listener[at].addresses
                    if is_named or not _is_without_ipv6(address, error):
                        raise
                    self.log.write(
                        events.LISTENER_FAILED,
                        service=wanted.service.value,
                        detail=f"{error.text}; it goes on with IPv4, as no address is configured",
                    )
                else:
                    self.listeners.append((wanted.service, listener))
                    self.log.write(
                        events.LISTENER_OPENED,
                        service=wanted.service.value,
                        address=listener.address[0],
                        port=listener.address[1],
                    )

    def _door(
        self, service: Service, smtp: Connections, access: Connections, web: Connections
    ) -> tuple[ListenerService, Connections]:
        if service in (Service.IMAP, Service.IMAPS):
            return self.imap, access
        if service in (Service.POP3, Service.POP3S):
            return self.pop3, access
        if service in (Service.HTTP, Service.HTTPS):
            return self.own_certificates.door(), web
        return Door(self._smtp_service(service)), smtp

    async def _open_metrics(self, addresses: tuple[str, ...], port: int) -> None:
        if self._metrics_server is None:
            self._metrics_server = MetricsServer(self.metrics, self.health)
            self._exit.push_async_callback(self._metrics_server.close)
        for address in addresses:
            try:
                await self._metrics_server.start(address, port)
            except OSError as error:
                raise UserError(
                    f"the metrics port {address}:{port} cannot be opened: {error.strerror}",
                    hint="set another with [metrics] port, or is_enabled = false",
                ) from error

    def _refused(self, refused: Refused) -> None:
        self.metrics.connections_refused[refused.listener].add()
        if refused.reached is not None:
            self.limits.reached(
                refused.reached.limit.value,
                value=refused.reached.value,
                observed=refused.reached.observed,
                peer=refused.peer.address,
            )
        self.log.write(
            events.SESSION_REFUSED,
            service=refused.listener,
            peer=refused.peer.address,
            reason=refused.reason,
        )

    # --- what goes on beside the sessions ---

    def _start_background(self) -> None:
        clock = self.world.clock
        lag = self.metrics.loop_lag_seconds
        look_s = INTERVAL_S * self.world.leisure
        for name, work in (
            ("deadlines", self.deadlines.run),
            ("loop watch", lambda: watch_loop(clock, lag, self.log, interval_s=look_s)),
            ("housekeeping", partial(housekeeping.keep_house, self)),
            ("blob sweep", partial(housekeeping.sweep, self)),
            ("key warnings", partial(key_warnings.run, self)),
            ("submitted keys", partial(key_submissions.run, self)),
            ("certificates", partial(housekeeping.watch_certificates, self)),
            ("web and ACME", self.own_certificates.run),
        ):
            self._background.append(self._tasks.create_task(self._guarded(name, work)))
        if not self.store.is_writable:
            probe = self._guarded("disk probe", partial(housekeeping.probe_disk, self))
            self._background.append(self._tasks.create_task(probe))
            return
        relay = self._guarded("relay", self.relay.run)
        self._background.append(self._tasks.create_task(relay))
        policies = self._guarded("mta-sts", self.sts_policies.run)
        self._background.append(self._tasks.create_task(policies))
        for name, job in (("refusals", self.refusals.run), *self.reports.jobs()):
            self._background.append(self._tasks.create_task(self._guarded(name, job)))
        rotation = self._guarded("key rotation", self.rotation.run)
        self._background.append(self._tasks.create_task(rotation))
        self._runner_task = self._tasks.create_task(self._guarded("queue", self._run_queue))

    async def _guarded(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A bug in one of these must not end the server: log it, wait a little, begin again."""
        while True:
            try:
                return await work()
            except Exception as error:
                self.metrics.faults["bug"].add()
                self.log.bug(events.SESSION_FAILED, error, service=name)
                await self.world.clock.sleep(AFTER_BUG_S)

    async def _run_queue(self) -> None:
        try:
            await self.runner.run()
        except StorageLost as fault:
            self._store_lost(fault)
        except Fault as fault:
            self.log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))

    def _committed(self, seconds: float, units: int) -> None:
        self.metrics.commit_seconds.observe(seconds)
        self.metrics.commit_units.observe(units)

    def reload(self, config: Config) -> None:
        """Apply a changed config to what can change while running (F36).

        All new options are made before the first is applied. What cannot change while running
        keeps its value and is named in the log.

        Raises:
            UserError: nothing was applied.
        """
        config, kept = kept_until_restart(self.config, config)
        smtp = [
            build.reception_options(config, Service(made.options.service))
            for made in self.smtp_services
        ]
        imap, pop3 = build.imap_options(config), build.pop3_options(config)
        relay = self._relay_options(config)
        runner, dsn = build.runner_options(config), build.dsn_options(config)
        build_acme.check_files(config)
        gateway = build_mimesec.gateway_options(config)
        rotation, updater = build_keys.rotation_options(config), self._dns_updater(config)
        if config.tls != self.config.tls:
            self.certificates = self.own_certificates.load(config)
        for made, options in zip(self.smtp_services, smtp, strict=True):
            made.set_options(options)
        self.imap.options, self.pop3.options = imap, pop3
        self.relay.set_options(relay)
        self.sts_policies.set_options(build.mta_sts_options(config))
        self.runner.set_options(runner)
        accept = to_owners(runner.schedule, self.directory_options, self.at_rest)
        self.notices.set_options(dsn, accept=accept)
        self.admission.set_options(build.admission_options(config))
        self.authentication.set_options(config)
        self.reports.set_options(config)
        self.rotation.options, self.rotation.updater = rotation, updater
        self.gateway.set_options(config, gateway)
        self.process.connections_max = config.net.connections_max
        self.config = config
        if kept:
            self.log.write(events.CONFIG_RESTART_NEEDED, keys=list(kept))
        self.reload_certificates()

    def reload_certificates(self) -> None:
        """Take changed certificate files into use; the old ones stay where they cannot be."""
        self.own_certificates.reload_if_changed()

    def _store_lost(self, fault: StorageLost) -> None:
        """A sync failed (F2): nothing more may be written, the process has to begin anew."""
        if not self.lost.done():
            self.log.write(events.STORE_LOST, detail=str(fault))
            self.lost.set_result(fault)

    def health(self) -> tuple[bool, dict[str, str | int | float | bool]]:
        """For /health: whether all is well, and each part."""
        is_writable = self.store.is_writable
        return is_writable and not self._is_stopping, {
            "store": "ok" if is_writable else "can only be read",
            "draining": self._is_stopping,
            "queue": self.open_recipients,
            "sessions": self.process.open,
            "stress": bool(self.metrics.stress.value),
        }

    # --- stop ---

    async def stop(self, *, drain_s: float | None = None) -> None:
        """Accept no more, let sessions and attempts finish, then close (P14)."""
        if self._is_stopping:
            return
        self._is_stopping = True
        within_s = self.config.node.drain_s if drain_s is None else drain_s
        self.log.write(events.SERVER_DRAINING, reason="stop")
        for service in self.smtp_services:
            service.is_draining = True
        await asyncio.gather(
            *(listener.drain(within_s) for _, listener in self.listeners),
            self.runner.drain(within_s),
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop(drain_s=0.0 if kind else None)
        if self._runner_task is not None and self.lost.done():
            self._runner_task.cancel()
        for task in self._background:
            task.cancel()
        await self._exit.__aexit__(None, None, None)
        self.log.write(events.SERVER_STOPPED)

    def address(self, service: Service) -> tuple[str, int]:
        """Where a service listens, for tests and the demo."""
        return next(listener.address for kind, listener in self.listeners if kind is service)


def _is_without_ipv6(address: str, error: UserError) -> bool:
    cause = error.__cause__
    return ":" in address and isinstance(cause, OSError) and cause.errno in NO_IPV6
