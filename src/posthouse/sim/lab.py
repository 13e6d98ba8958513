"""A small internet of mail hosts: Posthouse nodes with their domains and accounts, an
authoritative DNS, and peers with a personality.

`Lab()` is on loopback with real sockets and files, for people (`posthouse demo`) and tests;
`Lab(Simulated(world))` is the same in virtual time. `LabNode` is one server in it.

    async with Lab() as lab:
        await lab.send("ada@north.example", "bob@south.example", subject="hello")
        [message] = await lab.inbox("bob@south.example", count=1)
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from posthouse.accounts import admin, domain_keys
from posthouse.accounts import password as passwords
from posthouse.accounts.domain_keys import KeyState
from posthouse.app import Node
from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.kernel.envelope import Address
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailbox import fetch, names
from posthouse.message import build
from posthouse.message.address import parse_mailbox
from posthouse.observe.log import Log, Put
from posthouse.observe.options import LogFormat, LogLevel, LogOptions
from posthouse.protocol.dns.grammar import reverse_name
from posthouse.queue.ledger import LedgerReport, check
from posthouse.sim.dns import Zones
from posthouse.sim.ground import Ground, Loopback
from posthouse.sim.peers import SmtpPeer
from posthouse.sim.personality import ACCEPTS, Personality
from posthouse.sim.talk import Talk, log_in, transact
from posthouse.store import accounts as rows
from posthouse.store import mail
from posthouse.store import queue as queue_rows
from posthouse.store.mail_entries import uids
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import Transaction
from posthouse.tls.contexts import opportunistic_client_context

T = TypeVar("T")

PASSWORD: Final = "lab-password-1"  # noqa: S105  of accounts that hold nothing
ACCOUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "north.example": ("ada", "alan"),
    "south.example": ("bob", "grace"),
}
WITHIN_S: Final = 20.0
LOG_LINES_MAX: Final = 200_000
ALL_UIDS: Final = ((1, mail.UID_MAX),)
Change = Callable[[Config], Config]


class NeverHappened(AssertionError):
    """What was waited for did not come in time."""


def as_it_is(config: Config) -> Config:
    return config


class LabNode:
    """One server of the laboratory: `start`, `stop` and `start` again keep its data."""

    def __init__(self, lab: Lab, name: str, domain: str, number: int, folder: Path) -> None:
        self.lab = lab
        self.name = name
        self.domain = domain
        self.hostname = f"mail.{domain}"
        self.address = lab.ground.address(number)
        self.folder = folder
        self.log_lines: deque[bytes] = deque(maxlen=LOG_LINES_MAX)
        self.node: Node
        self.config: Config
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def store(self) -> SqliteStore:
        return self.node.store

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def place(self, service: Service) -> tuple[str, int]:
        return self.address, self.lab.ground.ports[service]

    async def start(self) -> None:
        """Raises whatever keeps the node from starting."""
        ground = self.lab.ground
        self.config = self.lab.change(self._config())
        ports = ground.ports_of(self.address, self.folder)
        log = Log(self._put, unix_us=ground.clock.unix_us, options=self.lab.log_options)
        self.node = Node(self.config, ports, log=log)
        self._stop = asyncio.Event()
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(self.node, started))
        await started
        self.node.store.listen(lambda changes: self.lab.stir())

    async def _live(self, node: Node, started: asyncio.Future[None]) -> None:
        try:
            async with node:
                started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
                return
            raise

    def raise_failure(self) -> None:
        """Raise what ended the node by itself."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()

    async def stop(self) -> None:
        """Drain and close, as SIGTERM does."""
        self._stop.set()
        task, self._task = self._task, None
        if task is not None:
            await task

    async def kill(self) -> None:
        """End it without draining; what it says while it falls is nobody's business."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _put(self, line: bytes) -> None:
        self.log_lines.append(line)
        if self.lab.put is not None:
            self.lab.put(line)

    def _config(self) -> Config:
        """Defaults but for what a laboratory needs: its own addresses, quick first retries, and
        no limits on how often one address connects, as all clients have the same."""
        ground = self.lab.ground
        return Config(
            node=schema.Node(hostname=self.hostname, data_folder=str(self.folder), drain_s=5.0),
            listener=tuple(
                schema.Listener(service=service, addresses=(self.address,), port=port)
                for service, port in ground.ports.items()
            ),
            net=schema.Net(exempt_networks=("127.0.0.0/8", "198.51.100.0/24", "192.0.2.0/24")),
            smtp=schema.Smtp(messages_per_minute=1_000_000),
            submission=schema.Submission(per_hour=100_000, per_day=1_000_000),
            store=schema.Store(free_octets_min=1 << 20),
            relay=schema.Relay(allow_private_addresses=True),
            dns=schema.Dns(servers=ground.dns_servers, failure_ttl_s=0.0, ttl_min_s=0.0),
            metrics=schema.Metrics(is_enabled=False),
        )

    # --- what is inside ---

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        return await self.store.submit(unit)

    async def add_account(
        self, address: str, *, password: str = PASSWORD, quota_octets: int | None = None
    ) -> None:
        cost = self.node.world.password_cost
        salt = self.lab.ground.chance.token(passwords.SALT_OCTETS)
        hashed = passwords.derive(password, salt=salt, cost=cost)

        def unit(tx: Transaction) -> None:
            account = admin.add_account(
                tx, address, password_hash=hashed, quota_octets=quota_octets
            )
            names.create_default_mailboxes(tx, account)
            admin.ensure_postmaster(tx, parse_mailbox(address).domain, address)

        await self.write(unit)

    async def add_alias(self, address: str, target: str) -> None:
        await self.write(lambda tx: admin.add_alias(tx, address, target))

    async def messages(self, address: str, *, mailbox: str = "INBOX") -> list[bytes]:
        """Everything in a mailbox, the oldest first, as a reader gets it."""
        return await self.store.read(lambda tx: _messages(tx, address, mailbox))

    async def queued(self) -> int:
        """Recipients that have no end yet."""
        return sum((await self.store.read(queue_rows.open_counts)).values())

    async def ledger(self) -> LedgerReport:
        return await self.store.read(lambda tx: check(tx, reads_octets=True))


class Lab:
    """See the module. Everything it made is gone at the end, its folder too."""

    def __init__(
        self,
        ground: Ground | None = None,
        *,
        domains: Mapping[str, Sequence[str]] = ACCOUNTS,
        folder: Path | None = None,
        change: Change = as_it_is,
        password: str = PASSWORD,
        put: Put | None = None,
        log_options: LogOptions | None = None,
    ) -> None:
        """Args:
        domains: local-parts of the accounts of each domain; every domain has a node.
        folder: where data goes; None makes one and removes it at the end.
        change: what is different in the config of every node.
        put: takes the log lines of all nodes, besides `LabNode.log_lines`.
        """
        self.ground: Ground = ground or Loopback()
        self.change = change
        self.put = put
        self.log_options = log_options or LogOptions(format=LogFormat.JSON, level=LogLevel.DEBUG)
        self.nodes: dict[str, LabNode] = {}
        self.peers: dict[str, SmtpPeer] = {}
        self.client_tls = opportunistic_client_context()
        self._domains = domains
        self._password = password
        self._is_own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="posthouse-lab-"))
        self._hosts = 0
        self._stirred = asyncio.Event()

    @property
    def zones(self) -> Zones:
        return self.ground.zones

    async def __aenter__(self) -> Lab:
        try:
            await self.ground.open()
            for domain, local_parts in self._domains.items():
                node = await self.add_node(domain)
                for local_part in local_parts:
                    await node.add_account(f"{local_part}@{domain}", password=self._password)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for peer in self.peers.values():
            peer.close()
        stops = [node.stop() for node in self.nodes.values()]
        ends = await asyncio.gather(*stops, return_exceptions=True)
        try:
            for error in ends:
                if error is not None:
                    raise error
        finally:
            self.ground.close()
            if self._is_own_folder:
                shutil.rmtree(self.folder, ignore_errors=True)

    # --- who is there ---

    async def add_node(self, domain: str) -> LabNode:
        """One more server, known by the first label of its domain."""
        name = domain.partition(".")[0]
        self._hosts += 1
        node = LabNode(self, name, domain, self._hosts, self.folder / name)
        self.publish(domain, node.hostname, node.address)
        await node.start()
        self.nodes[name] = node
        await node.write(lambda tx: admin.add_domain(tx, domain))
        await self.give_keys(node)
        return node

    async def give_keys(self, node: LabNode) -> None:
        """The domain's mail is signed by DKIM from now on, and the DNS shows the keys."""
        new = self.ground.dkim_keys()
        made = await node.write(
            lambda tx: domain_keys.make_keys(
                tx, node.domain, new, node.node.node_key, state=KeyState.SIGNING
            )
        )
        for key in made:
            record = key_record(key.algorithm, key.public)
            strings = [record[at : at + 255] for at in range(0, len(record), 255)]
            self.ground.zones.add(key.record_name, "TXT", " ".join(f'"{s}"' for s in strings))
        await node.node.signers.refresh()

    async def peer(
        self,
        personality: Personality = ACCEPTS,
        *,
        domain: str | None = None,
        preference: int = 10,
        tls: ssl.SSLContext | None = None,
    ) -> SmtpPeer:
        """A host that behaves as told, as one more MX of `domain` (a new one without)."""
        self._hosts += 1
        domain = domain or f"peer{self._hosts}.example"
        hostname, address = f"mx{self._hosts}.{domain}", self.ground.address(self._hosts)
        peer = SmtpPeer(personality, tls=tls)
        await peer.serve(self.ground.network, address, self.ground.ports[Service.MX])
        self.publish(domain, hostname, address, preference=preference)
        self.peers[hostname] = peer
        return peer

    def publish(self, domain: str, hostname: str, address: str, *, preference: int = 10) -> None:
        """MX, A, PTR and SPF records."""
        zones = self.ground.zones
        zones.add(reverse_name(address), "PTR", f"{hostname}.")
        zones.add(domain, "MX", f"{preference} {hostname}.")
        zones.add(hostname, "A", address)
        zones.remove(domain, "TXT")
        zones.add(domain, "TXT", '"v=spf1 mx -all"')
        zones.remove(hostname, "TXT")
        zones.add(hostname, "TXT", '"v=spf1 a -all"')

    def node(self, name: str) -> LabNode:
        return self.nodes[name]

    def home(self, address: str) -> LabNode | None:
        """The node that has the address's domain."""
        return self.nodes.get(address.rpartition("@")[2].partition(".")[0])

    # --- mail ---

    async def connect(
        self, name: str, service: Service = Service.MX, *, local_address: str | None = None
    ) -> Talk:
        """A client of a node's service, with TLS where the service begins with it."""
        is_tls = service in (Service.SUBMISSIONS, Service.IMAPS, Service.POP3S)
        address, port = self.node(name).place(service)
        return await Talk.open(
            self.ground.network,
            address,
            port,
            clock=self.ground.clock,
            tls=self.client_tls if is_tls else None,
            local_address=local_address,
        )

    async def send(
        self,
        sender: str,
        *recipients: str,
        subject: str = "a message",
        text: str = "Hello.\n",
        attachment: tuple[str, bytes] | None = None,
        octets: bytes | None = None,
    ) -> str:
        """Send a message: from an account by submission with TLS and its password, from anybody
        else straight to the first recipient's node. Returns the reply that decided it.

        Args:
            attachment: a file's name and content.
            octets: the whole message, in place of one made here.
        """
        if octets is None:
            octets = self.compose(
                sender, *recipients, subject=subject, text=text, attachment=attachment
            )
        home = self.home(sender)
        target = home or self.home(recipients[0])
        assert target is not None, "neither the sender nor the recipient is at home here"
        talk = await self.connect(target.name, Service.SUBMISSION if home else Service.MX)
        try:
            await talk.reply()
            if home:
                reply = await log_in(talk, sender, self._password, self.client_tls)
                if not reply.startswith(b"2"):
                    return reply.decode()
            else:
                await talk.say(b"EHLO client.example")
            reply, _ = await transact(talk, sender, recipients, octets)
            talk.send(b"QUIT\r\n")
        finally:
            talk.close()
        return reply.decode()

    def compose(
        self,
        sender: str,
        *recipients: str,
        subject: str = "a message",
        text: str = "Hello.\n",
        attachment: tuple[str, bytes] | None = None,
    ) -> bytes:
        """A message of text, with a file where there is one."""
        author = parse_mailbox(sender) if sender else Address("nobody", "nowhere.example")
        token = self.ground.chance.token(8).hex()
        fields = [
            build.date_field(self.ground.clock.now()),
            build.address_field("From", [build.Mailbox(author)]),
            build.address_field("To", [build.Mailbox(parse_mailbox(to)) for to in recipients]),
            build.message_id_field(f"<{token}@{author.domain}>"),
            build.text_field("Subject", subject),
        ]
        body = build.text_entity(text)
        if attachment is not None:
            name, content = attachment
            file = build.octets_entity("application/octet-stream", content, file_name=name)
            body = build.multipart("mixed", [body, file])
        return build.message(fields, body)

    async def inbox(
        self, address: str, *, count: int = 0, mailbox: str = "INBOX", within_s: float = WITHIN_S
    ) -> list[bytes]:
        """The messages of an account, once there are `count` of them.

        Raises:
            NeverHappened: fewer came.
        """
        node = self.home(address)
        assert node is not None, f"{address} is nobody's here"
        found: list[bytes] = []

        async def has_come() -> bool:
            found[:] = await node.messages(address, mailbox=mailbox)
            return len(found) >= count

        await self.until(has_come, within_s=within_s, what=f"{count} messages for {address}")
        return found

    async def settled(self, *, within_s: float = WITHIN_S) -> None:
        """Wait until no node owes anything to anybody."""

        async def is_empty() -> bool:
            return not any([await node.queued() for node in self.nodes.values()])

        await self.until(is_empty, within_s=within_s, what="empty queues")

    async def until(
        self,
        check: Callable[[], Awaitable[bool]],
        *,
        within_s: float = WITHIN_S,
        what: str = "the change",
    ) -> None:
        """Wait until `check` says so; asked again whenever a node committed something.

        Raises:
            NeverHappened: not in time.
        """
        clock = self.ground.clock
        end_s = clock.monotonic_s() + within_s
        while True:
            self._stirred.clear()
            for node in self.nodes.values():
                node.raise_failure()
            if await check():
                return
            if clock.monotonic_s() > end_s:
                raise NeverHappened(f"{what}: not within {within_s:g} s")
            try:
                async with asyncio.timeout(self.ground.look_s):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    def stir(self) -> None:
        """Something was committed somewhere."""
        self._stirred.set()


def _messages(tx: Transaction, address: str, name: str) -> list[bytes]:
    account = rows.account_by_name(tx, address)
    assert account is not None, f"there is no account {address}"
    mailbox = names.find(tx, account.id, name)
    found = [fetch.octets(tx, account.id, mailbox, uid) for uid in uids(tx, mailbox, ALL_UIDS)]
    return [message.whole() for message in found if message is not None]


def quick_retries(first_s: float = 0.1) -> Change:
    """Retries after parts of a second: for laboratories on loopback."""

    def change(config: Config) -> Config:
        retry = schema.RelayRetry(first_s=first_s, max_s=first_s * 4)
        return msgspec.structs.replace(
            config, relay=msgspec.structs.replace(config.relay, retry=retry)
        )

    return change
