"""Our certificates, and ports 80 and 443: what a node serves, and the job that keeps it served."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509

from posthouse.app.postmaster import tell_postmaster
from posthouse.app.world import World
from posthouse.config import build, build_acme
from posthouse.config.schema import Config, Service
from posthouse.gateway.key_directory import Directory, key_directory
from posthouse.kernel.errors import Fault, UserError
from posthouse.kernel.ports import Chance, Clock, Network, Resolver
from posthouse.mimesec.pgp import wkd
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import Connections, WholeProcess
from posthouse.net.listener import Listener, ListenerOptions
from posthouse.net.stream import Peer, Stream, TlsFailure
from posthouse.net.trace_ids import TraceIds
from posthouse.net.workers import ThreadWorkers
from posthouse.observe import events
from posthouse.store import accounts as rows
from posthouse.store.reports import KEY_SUBMISSION
from posthouse.store.transaction import Change, DatabaseChanged, DirectoryChanged
from posthouse.tls import served
from posthouse.tls.acme.folder import AcmeFolder, Status
from posthouse.tls.acme.keeper import Keeper, Observer
from posthouse.tls.acme.options import Kind, Wanted
from posthouse.tls.acme.solvers import Answers, Dns01, Http01, Solver, TlsAlpn01
from posthouse.tls.certificates import Certificate, CertificateFiles, Certificates
from posthouse.tls.self_signed import KEY_NAME, ensure_self_signed
from posthouse.web.door import Door
from posthouse.web.wellknown import WellKnown

if TYPE_CHECKING:
    from posthouse.app.node import Node

LOOK_S: Final = 30.0
"""Between looks at what is due."""
ASKED_S: Final = 1.0
"""Between looks at what the command line asks for."""
AUTHORITY_WAITING_MAX: Final = 16
NAMES_TOLD_MAX: Final = 20
"""In one mail to postmaster."""
AUTHORITY_CALL_S: Final = 150.0
"""For one call of the blocking library; the longest waits for the certificate to be issued."""


class OwnCertificates:
    """What a node serves TLS with, and the answers of its web listeners."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.folder = build_acme.acme_folder(node.config)
        self.answers = Answers()
        self.known = WellKnown(self.answers.text, https_port=build_acme.https_port(node.config))
        self._door: Door | None = None
        self._served: dict[str, CertificateFiles] = {}
        self._domains: tuple[str, ...] = ()
        self._keys: Directory = {}
        self._keeper: Keeper | None = None
        self._keeper_config: Config | None = None
        self._workers: ThreadWorkers | None = None
        self._problem = ""
        self._is_stale = False
        node.store.listen(self._changed)
        node.metrics.certificate_expiry_seconds.ask = self._expiry_s

    # --- what is served ---

    def load(self, config: Config) -> Certificates:
        """The configured certificate, or a self-signed one, and all that ACME has obtained.

        Raises:
            UserError: the configured one cannot be used, a self-signed one not be made, or a key
                of [acme] or [dns_update] not be read.
        """
        build_acme.check_files(config)
        world = self._node.world
        if config.tls.certificate:
            files = CertificateFiles(chain=Path(config.tls.certificate), key=Path(config.tls.key))
        else:
            files = ensure_self_signed(
                Path(config.node.data_folder, "tls"),
                build.self_signed_names(config),
                world.clock.now(),
            )
        version = build.minimum_tls_version(config)
        certificates = Certificates([files], world.clock, minimum_version=version)
        certificates.challenge = self.answers.context
        self._served.clear()
        self._loaded(certificates.loaded[0])
        if config.acme.is_enabled:
            for name in self.folder.names():
                self._serve(certificates, config, name)
        self._note(certificates)
        return certificates

    def _loaded(self, certificate: Certificate) -> None:
        self._node.log.write(
            events.CERTIFICATE_LOADED,
            path=str(certificate.files.chain),
            expires=certificate.not_after.isoformat(),
        )

    def _note(self, certificates: Certificates) -> None:
        served.note(Path(self._node.config.node.data_folder), certificates.loaded)

    def reload_if_changed(self) -> None:
        """Take changed certificate files into use; the old ones stay where they cannot be."""
        node = self._node
        done = node.certificates.reload_if_changed()
        for each in done:
            if each.certificate is not None:
                self._loaded(each.certificate)
            else:
                node.log.write(
                    events.CERTIFICATE_REFUSED, path=str(each.files.chain), detail=each.problem
                )
        if done:
            self._note(node.certificates)

    def _serve(self, certificates: Certificates, config: Config, name: str) -> bool:
        """Take what the folder has for a name, if it is another than the one served; whether it
        was."""
        files = self.folder.files(name)
        if files is None or files == self._served.get(name):
            return False
        own = _configured(certificates, config)
        if own is not None and build_acme.is_for(own, name):
            return False  # [tls] goes first
        is_host = name == config.node.hostname.lower() and not config.tls.certificate
        before = self._served.get(name) or (certificates.loaded[0].files if is_host else None)
        self._served[name] = files  # also when it cannot be used: it is told once
        try:
            # A key that DANE knows is worth more than a date.
            taken = certificates.put(
                files, instead_of=before, is_default=is_host, may_be_expired=True
            )
        except UserError as error:
            self._node.log.write(
                events.CERTIFICATE_REFUSED, path=str(files.chain), detail=error.text
            )
            return False
        self._loaded(taken)
        return True

    def _expiry_s(self) -> float:
        loaded = self._node.certificates.loaded
        counted = [each for each in loaded if not each.is_self_signed] or loaded
        end = min(each.not_after for each in counted)
        return (end - self._node.world.clock.now()).total_seconds()

    # --- ports 80 and 443 ---

    def door(self) -> Door:
        """One for all HTTP listeners."""
        if self._door is None:
            self._door = Door(
                build_acme.web_options(self._node.config),
                self.known.respond,
                deadlines=self._node.deadlines,
                reached=self._limit_reached,
                on_tls_failed=self._tls_failed,
            )
        return self._door

    def _limit_reached(self, name: str, value: float, observed: float, peer: Peer) -> None:
        self._node.limits.reached(name, value=value, observed=observed, peer=peer.address)

    def _tls_failed(self, stream: Stream, failure: TlsFailure) -> None:
        node = self._node
        node.metrics.handshakes["failed"].add()
        node.log.write(
            events.TLS_FAILED, trace=stream.trace_id, peer=stream.peer.address, detail=failure.text
        )

    # --- the job ---

    async def run(self) -> None:
        """For as long as the node lives, where there is anything to do."""
        node = self._node
        if not (node.config.acme.is_enabled or build_acme.has_web(node.config)):
            return
        with self.folder.attended() if node.config.acme.is_enabled else nullcontext():
            await self._look_again_and_again()

    async def _look_again_and_again(self) -> None:
        clock, leisure = self._node.world.clock, self._node.world.leisure
        looked_s = float("-inf")
        while True:
            is_due = self._is_stale or clock.monotonic_s() - looked_s >= LOOK_S * leisure
            if is_due or self.folder.asked():
                looked_s, self._is_stale = clock.monotonic_s(), False
                await self._look()
            await clock.sleep(ASKED_S * leisure)

    def _changed(self, changes: Iterable[Change]) -> None:
        """A domain more or less is another name and another policy."""
        if any(isinstance(each, DirectoryChanged | DatabaseChanged) for each in changes):
            self._is_stale = True

    async def _look(self) -> None:
        node = self._node
        try:
            found = await node.store.read(rows.domains)
            self._keys = await key_directory(node.store)
        except Fault:
            return
        self._domains = tuple(domain.name for domain in found)
        self.known.sites = build_acme.sites(node.config, self._domains, self._keys)
        if not node.config.acme.is_enabled:
            return
        names = self.folder.names()  # another process may have renewed
        taken = [self._serve(node.certificates, node.config, name) for name in names]
        if any(taken):
            self._note(node.certificates)
        try:
            keeper = self.keeper()
        except UserError as error:
            if error.text != self._problem:
                self._problem = error.text
                node.log.write(events.CERTIFICATE_FAILED, detail=error.text, hint=error.hint)
            return
        await keeper.look(self.wanted())

    def wanted(self) -> tuple[Wanted, ...]:
        node = self._node
        own = _configured(node.certificates, node.config)
        return build_acme.wanted(node.config, self._domains, own, shown=_of_people(self._keys))

    def keeper(self) -> Keeper:
        """Made anew after a reload.

        Raises:
            UserError: a key file of the config cannot be read.
        """
        node = self._node
        if self._keeper is None or self._keeper_config is not node.config:
            if self._workers is None:
                self._workers = authority_workers()
            self._keeper = make_keeper(
                node.config,
                folder=self.folder,
                answers=self.answers,
                network=node.world.network,
                resolver=node.resolver,
                clock=node.world.clock,
                chance=node.world.chance,
                workers=self._workers,
                observer=self,
                on_leftover=self._leftover,
            )
            self._keeper_config = node.config
        return self._keeper

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()

    # --- what the keeper tells (`tls.acme.keeper.Observer`) ---

    def obtained(self, name: str, files: CertificateFiles, *, not_after: datetime) -> None:
        node = self._node
        node.metrics.certificate_orders["obtained"].add()
        node.log.write(events.CERTIFICATE_OBTAINED, name=name, expires=not_after.isoformat())
        if self._serve(node.certificates, node.config, name):
            self._note(node.certificates)

    def failed(self, name: str, failure: UserError, *, next_at: datetime) -> None:
        self._node.metrics.certificate_orders["failed"].add()
        self._node.log.write(
            events.CERTIFICATE_FAILED,
            name=name,
            detail=failure.text,
            hint=failure.hint,
            next=next_at.isoformat(),
        )

    def waits(self, name: str, words: str) -> None:
        self._node.log.write(events.CERTIFICATE_WAITS, name=name, detail=words)

    def wished(self, name: str, at: datetime, explanation: str) -> None:
        self._node.log.write(
            events.CERTIFICATE_WISHED, name=name, at=at.isoformat(), explanation=explanation
        )

    async def expiring(self, name: str, not_after: datetime, failure: UserError) -> bool:
        expires = f"{not_after:%Y-%m-%d %H:%M} UTC"
        self._node.log.write(
            events.CERTIFICATE_EXPIRING, name=name, expires=expires, detail=failure.text
        )
        text = (
            f"The certificate for {name} on {self._node.config.node.hostname} expires at {expires},"
            f" and it cannot be renewed:\n\n    {failure.text}\n\n"
        )
        if failure.hint:
            text += f"What to do: {failure.hint}\n\n"
        text += (
            "It is tried again by itself. `posthouse certificate list` shows where it stands,\n"
            f"`posthouse certificate renew {name}` tries at once and says what went wrong.\n"
        )
        return await tell_postmaster(
            self._node, f"The certificate for {name} cannot be renewed", text
        )

    async def missing(self, names: Mapping[str, Status]) -> bool:
        node = self._node
        for name, status in names.items():
            since = status.failing_since.isoformat() if status.failing_since else ""
            node.log.write(
                events.CERTIFICATE_MISSING, name=name, since=since, detail=status.problem
            )
        first = next(iter(names))
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return await tell_postmaster(
            node, f"No certificate yet for {first}{others}", _missing_text(node.config, names)
        )

    def _leftover(self, name: str, words: str) -> None:
        self._node.log.write(events.DNS_UPDATE_FAILED, name=name, detail=words)


def _of_people(keys: Directory) -> tuple[str, ...]:
    """Domains that show keys of their users, besides that of their submission address: for a name
    in the DNS that nobody has asked for no certificate is wanted."""
    own = wkd.local_hash(KEY_SUBMISSION)
    return tuple(domain for domain, shown in keys.items() if any(name != own for name in shown))


def _configured(certificates: Certificates, config: Config) -> x509.Certificate | None:
    """The certificate that [tls] names, as it is served: its file may be damaged since."""
    if not config.tls.certificate:
        return None
    chain = Path(config.tls.certificate)
    return next((each.leaf for each in certificates.loaded if each.files.chain == chain), None)


def _missing_text(config: Config, names: Mapping[str, Status]) -> str:
    host = config.node.hostname
    text = f"{host} has tried for a while to obtain certificates for these names, in vain:\n\n"
    for name, status in itertools.islice(names.items(), NAMES_TOLD_MAX):
        text += f"    {name} ({status.failures} attempts)\n        {status.problem}\n"
        if status.hint:
            text += f"        What to do: {status.hint}\n"
    if len(names) > NAMES_TOLD_MAX:
        text += f"    ... and {len(names) - NAMES_TOLD_MAX} more\n"
    first = next(iter(names))
    return text + (
        "\nIt is tried again by itself. `posthouse certificate list` shows where each stands,\n"
        f"`posthouse certificate obtain {first}` tries at once and says what went wrong.\n"
        "While they are missing you are told again at most once a week.\n"
    )


class Silent:
    """The observer of a command: who asked hears it anyway."""

    def obtained(self, name: str, files: CertificateFiles, *, not_after: datetime) -> None: ...

    def failed(self, name: str, failure: UserError, *, next_at: datetime) -> None: ...

    def waits(self, name: str, words: str) -> None: ...

    def wished(self, name: str, at: datetime, explanation: str) -> None: ...

    async def expiring(self, name: str, not_after: datetime, failure: UserError) -> bool:
        return False

    async def missing(self, names: Mapping[str, Status]) -> bool:
        return False


async def obtain_alone(
    config: Config, world: World, names: Sequence[str]
) -> dict[str, UserError | None]:
    """Orders without a running server: this process answers on ports 80 and 443 for the while.

    Raises:
        UserError: a port cannot be opened, or a key file not be read.
    """
    answers, workers = Answers(), authority_workers()
    folder = build_acme.acme_folder(config)
    keeper = make_keeper(
        config,
        folder=folder,
        answers=answers,
        network=world.network,
        resolver=world.resolver(config),
        clock=world.clock,
        chance=world.chance,
        workers=workers,
        observer=Silent(),
        on_leftover=lambda name, words: None,
    )
    listeners: list[Listener] = []
    try:
        if not build_acme.proves_by_dns(config):
            listeners = await _open_alone(config, world, answers)
        return {name: await keeper.attempt(name) for name in names}
    finally:
        for listener in listeners:
            await listener.drain(0.0)
        workers.close()


async def _open_alone(config: Config, world: World, answers: Answers) -> list[Listener]:
    """The web listeners of the config; they end with the process at the latest, so nobody sweeps
    their deadlines."""
    files = ensure_self_signed(
        Path(config.node.data_folder, "tls"), build.self_signed_names(config), world.clock.now()
    )
    certificates = Certificates([files], world.clock)
    certificates.challenge = answers.context
    deadlines = Deadlines(world.clock)
    door = Door(
        build_acme.web_options(config),
        WellKnown(answers.text).respond,
        deadlines=deadlines,
        reached=lambda name, value, observed, peer: None,
        on_tls_failed=lambda stream, failure: None,
    )
    connections = Connections(build_acme.web_connections(config), WholeProcess())
    trace_ids = TraceIds(world.clock, world.chance)
    opened: list[Listener] = []
    for wanted in config.listeners():
        if wanted.service not in (Service.HTTP, Service.HTTPS):
            continue
        for address in wanted.addresses:
            listener = Listener(
                ListenerOptions(name=wanted.service.value, address=address, port=wanted.port or 0),
                door,
                clock=world.clock,
                deadlines=deadlines,
                connections=connections,
                trace_ids=trace_ids.next,
                tls=certificates.context if wanted.service is Service.HTTPS else None,
            )
            try:
                await listener.open(world.network)
            except UserError:
                if ":" in address and opened:  # without IPv6, IPv4 has to do
                    continue
                raise
            opened.append(listener)
    return opened


def authority_workers() -> ThreadWorkers:
    """Threads for the blocking ACME library, apart from those that hash passwords."""
    return ThreadWorkers(hash_max=1, queue_max=AUTHORITY_WAITING_MAX, work_s=AUTHORITY_CALL_S)


def make_keeper(
    config: Config,
    *,
    folder: AcmeFolder,
    answers: Answers,
    network: Network,
    resolver: Resolver,
    clock: Clock,
    chance: Chance,
    workers: ThreadWorkers,
    observer: Observer,
    on_leftover: Callable[[str, str], None],
) -> Keeper:
    """A keeper with the ways of proving that the config opens.

    Raises:
        UserError: a key file of the config cannot be read.
    """
    services = {listener.service for listener in config.listeners()}
    solvers: dict[Kind, Solver] = {}
    if Service.HTTP in services:
        solvers[Kind.HTTP_01] = Http01(answers)
    if Service.HTTPS in services:
        solvers[Kind.TLS_ALPN_01] = TlsAlpn01(answers, clock)
    updater = build_acme.dns_updater(config, network=network, resolver=resolver, chance=chance)
    if updater is not None:
        solvers[Kind.DNS_01] = Dns01(
            updater,
            resolver=resolver,
            clock=clock,
            settle_s=config.dns_update.settle_s,
            on_leftover=on_leftover,
        )
    return Keeper(
        build_acme.acme_options(config),
        folder=folder,
        solvers=solvers,
        resolver=resolver,
        workers=workers,
        clock=clock,
        chance=chance,
        observer=observer,
        first_key=lambda name: _present_key(config, name),
    )


def _present_key(config: Config, name: str) -> bytes | None:
    """The self-signed key that the host name is served with until its first order."""
    if name != config.node.hostname.lower() or config.tls.certificate:
        return None
    try:
        return Path(config.node.data_folder, "tls", KEY_NAME).read_bytes()
    except OSError:
        return None
