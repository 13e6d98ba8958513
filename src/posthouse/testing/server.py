"""The server itself: the real one, on a thread of its own, with a folder that goes when it goes.

Every address there is has a mailbox here, made when mail for it comes; so a test needs no setup.
Nothing ever leaves the machine: there is no DNS to ask and nobody is relayed for.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Never, TypeVar

import msgspec
import uvloop

from posthouse.accounts import admin
from posthouse.accounts import password as passwords
from posthouse.accounts.directory import Directory, Expansion, Standing
from posthouse.accounts.password import Cost
from posthouse.app.node import Node
from posthouse.app.world import World
from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.kernel import keywords
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import PosthouseError, UserError
from posthouse.kernel.ports import (
    DnsAnswer,
    DnsStatus,
    Fetched,
    FetchFailed,
    FetchTrouble,
    RecordType,
)
from posthouse.mailbox import fetch, names
from posthouse.message import ReceivedMessage, read
from posthouse.message.address import AddressError, fold_local_part, format_address, parse_mailbox
from posthouse.message.words import shown
from posthouse.net.isolated import ProcessIsolation
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.observe.log import Log
from posthouse.observe.options import LogFormat, LogLevel, LogOptions
from posthouse.store import accounts as rows
from posthouse.store import mail
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.mail_entries import uids
from posthouse.store.transaction import Transaction
from posthouse.tls.self_signed import CHAIN_NAME

T = TypeVar("T")

__all__ = ["Arrived", "MailServer", "MailServerError", "NothingCame"]

HOST: Final = "127.0.0.1"
NAME: Final = "localhost"
"""What the certificate is for."""
WITHIN_S: Final = 5.0
START_S: Final = 30.0
STOP_S: Final = 30.0
LOG_LINES_MAX: Final = 10_000
# Password hashes here guard nothing, and a test should not wait for them.
_COST: Final = Cost(memory_kib=64, iterations=1)
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
_SERVICES: Final = (
    Service.MX,
    Service.SUBMISSION,
    Service.SUBMISSIONS,
    Service.IMAP,
    Service.IMAPS,
    Service.POP3,
    Service.POP3S,
    Service.HTTP,
)


class MailServerError(PosthouseError, ValueError):
    """The server was told or asked something that cannot be; `hint` says what to do."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.text}\nhint: {self.hint}" if self.hint else self.text


class NothingCame(AssertionError):
    """What a test waited for did not arrive in time."""


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """One message in somebody's mailbox."""

    octets: bytes
    """As a reader gets it, with the server's own fields in front."""
    message: ReceivedMessage
    sender: str
    """The reverse-path: what MAIL FROM said; "" is `<>`."""
    recipient: str
    """The address whose mailbox it is in."""


class MailServer:
    """`with MailServer.ephemeral() as server` or `async with …`: the same server, on a thread of
    its own either way, so that neither a loop nor its absence is in the way."""

    def __init__(
        self, accounts: Mapping[str, str] | None = None, *, takes_anything: bool = True
    ) -> None:
        """As `ephemeral`."""
        self._accounts = _checked(accounts or {})
        given: object = takes_anything  # what a caller without a type checker gave
        if not isinstance(given, bool):
            kind = type(given).__name__
            raise MailServerError(f"takes_anything has to be True or False, and this is {kind}")
        self._takes_anything = takes_anything
        self._folder: Path
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        """None before the server runs and when it has ended."""
        self._is_ended = False
        self._node: Node
        self._stop: asyncio.Event
        self._seen: dict[str, int] = {}
        self.log_lines: list[bytes] = []
        """What the server logged, one JSON object a line."""

    @classmethod
    def ephemeral(
        cls,
        accounts: Mapping[str, str] | None = None,
        *,
        takes_anything: bool = True,
        **unknown: Never,
    ) -> MailServer:
        """A server that is gone with its folder at the end of the block.

        Args:
            accounts: who may log in, address to password.
            takes_anything: make a mailbox for every address that mail comes for. False refuses
                addresses that no account has, as a server in earnest does.

        Raises:
            MailServerError: there are no such arguments, or an account cannot be.
        """
        _refuse("MailServer.ephemeral", unknown, _ARGUMENTS)
        return cls(accounts, takes_anything=takes_anything)

    # --- where it is ---

    def address(self, service: str) -> tuple[str, int]:
        """Host and port of "mx", "submission", "submissions", "imap", "imaps", "pop3", "pop3s" and
        "http"."""
        known = [one.value for one in Service]
        if service not in known:
            words = f"there is no service {service!r}; there is {', '.join(known)}"
            raise MailServerError(words)
        self._must_run()
        return self._node.address(Service(service))

    @property
    def url(self) -> str:
        """For a `Transport` that needs no login: STARTTLS, with `ca` as the certificate."""
        return f"smtp+starttls://{NAME}:{self.address('mx')[1]}"

    @property
    def plain_url(self) -> str:
        """The same without TLS, for programs that have none."""
        return f"smtp://{HOST}:{self.address('mx')[1]}?tls=off"

    def login_url(self, address: str) -> str:
        """Submission, logged in as one of `accounts`. Others' From fields are refused there."""
        from urllib.parse import quote

        user, password = quote(address, safe=""), quote(self._password(address), safe="")
        return f"smtp+starttls://{user}:{password}@{NAME}:{self.address('submission')[1]}"

    def api_url(self, address: str) -> str:
        """Submission by the HTTP API, as one of `accounts`."""
        from urllib.parse import quote

        user, password = quote(address, safe=""), quote(self._password(address), safe="")
        return f"posthouse+http://{user}:{password}@{HOST}:{self.address('http')[1]}"

    def _password(self, address: str) -> str:
        if address not in self._accounts:
            known = ", ".join(self._accounts) or "none: give MailServer.ephemeral a dict of them"
            words = f"{address!r} is not one of the accounts with a password: {known}"
            raise MailServerError(words)
        return self._accounts[address]

    @property
    def ca(self) -> str:
        """Path of the server's certificate (PEM), for `localhost`."""
        self._must_run()
        return str(self._folder / "tls" / CHAIN_NAME)

    def client_context(self) -> ssl.SSLContext:
        """Trusts this server and nobody else, for other clients."""
        return ssl.create_default_context(cafile=self.ca)

    # --- what arrived ---

    def inbox(self, address: str) -> list[Arrived]:
        """What came for an address since the start or the last `clear`, the oldest first."""
        folded = _folded(address)
        since = self._seen.get(folded, 0)
        found = self._ask(lambda tx: _messages(tx, folded, since))
        return [_arrived(octets, address) for _, octets in found]

    def addresses(self) -> list[str]:
        """Who has a mailbox here: whoever was written to, and the accounts."""
        return self._ask(lambda tx: sorted(row.name for row in rows.accounts(tx)))

    def wait_for(
        self, address: str, *, count: int = 1, timeout_s: float = WITHIN_S, **unknown: Never
    ) -> list[Arrived]:
        """`inbox`, once there are `count` messages in it. Raises NothingCame."""
        _refuse("wait_for", unknown, _WAITING)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise MailServerError(
                f"count is {count!r}, and has to be a whole number from 1",
                hint=f"that nothing came is seen by inbox({address!r}) == []",
            )
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
            kind = type(timeout_s).__name__
            raise MailServerError(f"timeout_s has to be a number of seconds, and this is {kind}")
        until = time.monotonic() + timeout_s
        while len(found := self.inbox(address)) < count:
            if time.monotonic() > until:
                others = ", ".join(self.addresses()) or "nobody"
                raise NothingCame(
                    f"{len(found)} of {count} messages came for {address} within {timeout_s:g} s;"
                    f" mailboxes here: {others}"
                )
            time.sleep(0.005)
        return found

    async def arrival(
        self, address: str, *, count: int = 1, timeout_s: float = WITHIN_S, **unknown: Never
    ) -> list[Arrived]:
        """As `wait_for`, for a test with a loop."""
        _refuse("arrival", unknown, _WAITING)
        return await asyncio.to_thread(self.wait_for, address, count=count, timeout_s=timeout_s)

    def clear(self) -> None:
        """What came until now is forgotten."""
        self._seen = self._ask(_last_uids)

    # --- living ---

    def __enter__(self) -> MailServer:
        if self._thread is not None:
            raise MailServerError(
                "the server runs already", hint="use it within the block that started it"
            )
        self._is_ended, self._seen = False, {}
        parent = _MEMORY if _MEMORY.is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="posthouse-test-", dir=parent))
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="posthouse-mail-server", daemon=True
        )
        self._thread.start()
        try:
            started.result(START_S)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._close()

    async def __aenter__(self) -> MailServer:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _close(self) -> None:
        thread, self._thread, self._is_ended = self._thread, None, True
        if thread is not None:
            thread.join(STOP_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, started: Future[None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._live(started))

    async def _live(self, started: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        workers, isolated = ThreadWorkers(), ProcessIsolation()
        try:
            world = _world(workers, isolated)
            log = Log(self._put, unix_us=world.clock.unix_us, options=_LOG)
            node_class = _CatchingNode if self._takes_anything else Node
            async with node_class(_config(self._folder), world, log=log) as node:
                self._node = node
                try:
                    for address, password in self._accounts.items():
                        await node.store.submit(_account(address, password, world))
                except UserError as error:
                    raise MailServerError(f"accounts: {error.text}", hint=error.hint) from None
                started.set_result(None)
                await self._stop.wait()
                await node.stop(drain_s=0.0)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            isolated.close()
            workers.close()

    def _put(self, line: bytes) -> None:
        if len(self.log_lines) < LOG_LINES_MAX:
            self.log_lines.append(line)

    def _must_run(self) -> None:
        if self._thread is not None:
            return
        what = "has ended" if self._is_ended else "does not run yet"
        hint = "ask it within the block: with MailServer.ephemeral() as server: …"
        raise MailServerError(f"the server {what}", hint=hint)

    def _ask(self, question: Callable[[Transaction], T]) -> T:
        """Read from the store, whichever thread asks."""
        self._must_run()

        async def ask() -> T:
            return await self._node.store.read(question)

        return self._call(ask())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)


_ARGUMENTS: Final = ("accounts", "takes_anything")
_WAITING: Final = ("address", "count", "timeout_s")
_DICT: Final = 'accounts={"ada@example.test": "password"}'
_FREE: Final = "nothing: ports are those that are free, and server.address(…) says which"
_MEANT: Final = {
    **dict.fromkeys(("account", "user", "users", "username", "password", "login"), _DICT),
    **dict.fromkeys(("mailbox", "mailboxes", "addresses", "credentials", "auth"), _DICT),
    **dict.fromkeys(
        ("domain", "domains", "hostname", "host"), "nothing: it takes mail for every domain"
    ),
    **dict.fromkeys(("port", "ports", "smtp_port", "imap_port"), _FREE),
    **dict.fromkeys(("catch_all", "catchall", "accept_all", "strict"), "takes_anything"),
    **dict.fromkeys(("timeout", "within", "wait", "seconds"), "timeout_s"),
}
"""What else the arguments may be called."""


def _refuse(call: str, unknown: Mapping[str, object], known: Sequence[str]) -> None:
    """Raises MailServerError about a keyword that nobody takes."""
    for name in unknown:
        found = keywords.unknown(call, name, known, _MEANT)
        raise MailServerError(found.text, hint=found.hint)


def _checked(accounts: object) -> dict[str, str]:
    """Raises MailServerError where one cannot be."""
    if not isinstance(accounts, Mapping):
        kind = type(accounts).__name__
        raise MailServerError(
            f"accounts has to be a dict of address to password, and this is {kind}",
            hint=f"write {_DICT}",
        )
    known: dict[str, str] = {}
    for address, password in accounts.items():
        other = known.setdefault(_folded(address, "accounts: "), address)
        if other is not address:
            raise MailServerError(
                f"accounts: {address!r} is there already, as {other!r}",
                hint="leave one of them out",
            )
        if not isinstance(password, str) or not password:
            what = "empty" if isinstance(password, str) else type(password).__name__
            raise MailServerError(
                f"accounts: the password of {address!r} has to be text, and is {what}",
                hint="give any: it guards nothing",
            )
    return dict(accounts)


_LOG: Final = LogOptions(format=LogFormat.JSON, level=LogLevel.INFO)


def _config(folder: Path) -> Config:
    """Defaults but for what a test needs: free ports, no checks that ask the DNS, and no limits on
    how often one address connects, as all clients have the same."""
    return Config(
        node=schema.Node(hostname=NAME, data_folder=str(folder), drain_s=1.0),
        listener=tuple(
            schema.Listener(service=service, addresses=(HOST,), port=0) for service in _SERVICES
        ),
        net=schema.Net(exempt_networks=("127.0.0.0/8",)),
        smtp=schema.Smtp(messages_per_minute=1_000_000),
        submission=schema.Submission(per_hour=1_000_000, per_day=10_000_000),
        store=schema.Store(free_octets_min=1 << 20),
        mailauth=schema.Mailauth(is_enabled=False),
        reports=schema.Reports(is_enabled=False),
        metrics=schema.Metrics(is_enabled=False),
        web=schema.Web(serves_api=True),
    )


def _world(workers: ThreadWorkers, isolated: ProcessIsolation) -> World:
    return World(
        clock=SystemClock(),
        chance=SystemChance(),
        network=SystemNetwork(),
        disk=FileDisk(),
        workers=workers,
        isolated=isolated,
        resolver=lambda config: _NoDns(),
        fetch=lambda config, resolver: _NoFetch(),
        password_cost=_COST,
    )


class _NoDns:
    """Nothing outside is known, so nothing goes there."""

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        return DnsAnswer(status=DnsStatus.NO_NAME, name=name)

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return DnsAnswer(status=DnsStatus.NO_NAME, name=name)


class _NoFetch:
    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        raise FetchFailed("a server for tests asks nobody", FetchTrouble.CONNECT)

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        raise FetchFailed("a server for tests asks nobody", FetchTrouble.CONNECT)


_NOBODY: Final = (Standing.UNKNOWN, Standing.FOREIGN)


class _CatchingDirectory(Directory):
    """Every address is somebody's: one that is nobody's yet gets an account."""

    def known(self, address: Address) -> Expansion | None:
        found = super().known(address)
        # That it is nobody's is no answer: its account is being made.
        return found if found is None or found.standing not in _NOBODY else None

    async def look_up(self, address: Address) -> Expansion:
        found = await super().look_up(address)
        if found.standing in _NOBODY and address.domain:
            await self._store.submit(_account(format_address(address), None, None))
            found = await super().look_up(address)
        return found


class _CatchingNode(Node):
    def _build_services(self) -> None:
        super()._build_services()
        self.directory = _CatchingDirectory(self.store, self.directory_options)


def _account(
    address: str, password: str | None, world: World | None
) -> Callable[[Transaction], None]:
    hashed = None
    if password is not None and world is not None:
        salt = world.chance.token(passwords.SALT_OCTETS)
        hashed = passwords.derive(password, salt=salt, cost=world.password_cost)

    def make(tx: Transaction) -> None:
        parsed = admin.parse_typed(address)
        if rows.domain_by_name(tx, parsed.domain) is None:
            admin.add_domain(tx, parsed.domain)
        if rows.account_by_address(tx, parsed.local_part, parsed.domain) is None:
            account = admin.add_account(tx, address, password_hash=hashed, quota_octets=None)
            names.create_default_mailboxes(tx, account)

    return make


def _folded(address: object, place: str = "") -> str:
    """Raises MailServerError about what is no address.

    Args:
        place: in front of the error's text.
    """
    if not isinstance(address, str):
        kind = type(address).__name__
        raise MailServerError(
            f"{place}an address has to be text, and this is {kind}", hint=_AN_ADDRESS
        )
    try:
        parsed = parse_mailbox(address)
    except AddressError as error:
        words = f"{place}{shown(address)!r} is no address: {error}"
        raise MailServerError(words, hint=_AN_ADDRESS) from None
    return f"{fold_local_part(parsed.local_part)}@{parsed.domain}"


_AN_ADDRESS: Final = "write it whole, without a name: bob@example.test"


def _messages(tx: Transaction, folded: str, since: int) -> list[tuple[int, bytes]]:
    local_part, _, domain = folded.rpartition("@")
    account = rows.account_by_address(tx, local_part, domain)
    if account is None:
        return []
    mailbox = names.find(tx, account.id, names.INBOX)
    found = []
    for uid in uids(tx, mailbox, ((since + 1, mail.UID_MAX),)):
        if (got := fetch.octets(tx, account.id, mailbox, uid)) is not None:
            found.append((int(uid), got.whole()))
    return found


def _last_uids(tx: Transaction) -> dict[str, int]:
    last = {}
    for row in rows.accounts(tx):
        with contextlib.suppress(KeyError):
            mailbox = names.find(tx, row.id, names.INBOX)
            found = uids(tx, mailbox, ((1, mail.UID_MAX),))
            last[_folded(row.name)] = int(found[-1]) if found else 0
    return last


def _arrived(octets: bytes, address: str) -> Arrived:
    message = read(octets)
    sender = message.header("Return-Path").strip("<>")
    return Arrived(octets=octets, message=message, sender=sender, recipient=address)
