"""A house with two accounts, and clients that talk to IMAP sessions over transports in memory."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

from posthouse.access.imap.options import Options
from posthouse.access.imap.service import Service
from posthouse.accounts.login import LoginFailure, LoginResult, Principal
from posthouse.kernel.ids import AccountId, TraceId
from posthouse.mailbox import names
from posthouse.mailbox.changes import ChangesHub
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Stream
from posthouse.store import accounts as rows


class ToldClock:
    """Time passes when it is told to."""

    def __init__(self) -> None:
        self.elapsed_s = 1_000.0
        self.slept_s: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed_s)

    def unix_us(self) -> int:
        return int(self.now().timestamp() * 1_000_000)

    def monotonic_s(self) -> float:
        return self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await asyncio.sleep(0)


class Workers:
    """Runs work at once."""

    async def run(self, work: Any) -> Any:
        return work()


class Transport:
    """Keeps what is written; while `is_stuck` nothing leaves it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_stuck = False
        self.is_closed = False
        self.is_aborted = False
        self.is_paused = False
        self.stream: Stream

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))
        if self.is_stuck and self.get_write_buffer_size() > 65_536:
            self.stream.pause_writing()

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written)) if self.is_stuck else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1025), "sockname": ("192.0.2.9", 143)}.get(name, default)


class Authenticator:
    """Knows `ada` and `bob`, whose passwords are their names."""

    def __init__(self) -> None:
        self.accounts: dict[str, AccountId] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.failure = LoginFailure.WRONG

    async def authenticate(
        self, *, name: str, password: str, authzid: str = "", peer: str, service: str
    ) -> LoginResult:
        self.asked.append((name, password, authzid))
        if name in self.accounts and password == name and authzid in ("", name):
            principal = Principal(account=self.accounts[name], name=name, credential_version=1)
            return LoginResult(principal=principal)
        return LoginResult(failure=self.failure, delay_s=1.0, detail="wrong password")


class Observer:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.limits: list[str] = []

    def noted(self, event: str, trace: TraceId, **fields: object) -> None:
        self.events.append((event, fields))

    def limit_reached(
        self, name: str, trace: TraceId, *, value: int, observed: int, peer: str
    ) -> None:
        assert observed > 0 and value > 0 and peer == "192.0.2.1"
        self.limits.append(name)


class House:
    """One IMAP service over a store."""

    def __init__(
        self, store: Any, *, options: Options | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.store = store
        self.clock = ToldClock()
        self.deadlines = Deadlines(self.clock)
        self.authenticator = Authenticator()
        self.observer = Observer()
        self.hub = ChangesHub(store)
        self.service = Service(
            options or Options(is_plaintext_login_allowed=True),
            store=store,
            hub=self.hub,
            authenticator=self.authenticator,
            clock=self.clock,
            workers=Workers(),
            deadlines=self.deadlines,
            observer=self.observer,
            tls_context=lambda: tls,
        )

    async def settle_in(self, *people: str, quota_octets: int | None = None) -> House:
        for name in people or ("ada", "bob"):

            def add(tx: Any, name: str = name) -> AccountId:
                account = rows.add_account(tx, name=name, password=None, quota_octets=quota_octets)
                names.create_default_mailboxes(tx, account)
                return account

            self.authenticator.accounts[name] = await self.store.submit(add)
        return self

    def connect(self) -> Client:
        return Client(self)

    async def client(self, name: str = "ada", *, mailbox: str | None = None) -> Client:
        """Logged in, and with a mailbox selected if one is named."""
        client = Client(self)
        assert b" OK " in await client.command(f"LOGIN {name} {name}")
        if mailbox is not None:
            assert b" OK " in await client.command(f"SELECT {mailbox}")
        return client


class Client:
    """The other end of one session."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.transport = Transport()
        self._tag = 0
        nobody: Any = None
        self.stream = Stream(nobody, trace_id=TraceId("t1"), deadlines=house.deadlines)
        self.session = house.service.session(self.stream)
        self.stream._handler = self.session
        self.transport.stream = self.stream
        self.stream.connection_made(self.transport)  # type: ignore[arg-type]
        self.greeting = self.read()

    def read(self) -> bytes:
        """What was sent since."""
        octets = b"".join(self.transport.written)
        self.transport.written.clear()
        if self.transport.is_stuck:
            self.stream.resume_writing()
        return octets

    async def exchange(self, octets: bytes) -> bytes:
        """Send octets and read until the session has nothing more to do."""
        self.stream.data_received(octets)
        await self.settle()
        return self.read()

    async def settle(self) -> None:
        while (task := self.session._task) is not None and not task.done():
            await asyncio.wait({task})

    async def command(self, text: str | bytes) -> bytes:
        """One command with a tag of its own; the whole answer, its tag made `A`."""
        self._tag += 1
        tag = b"t%d" % self._tag
        octets = text.encode() if isinstance(text, str) else text
        answer = await self.exchange(tag + b" " + octets + b"\r\n")
        return (b"\r\n" + answer).replace(b"\r\n" + tag + b" ", b"\r\nA ")[2:]

    async def append(
        self, octets: bytes, *, mailbox: str = "INBOX", flags: str = "", date: str = ""
    ) -> bytes:
        words = " ".join(filter(None, (f"APPEND {mailbox}", flags, date)))
        return await self.command(words.encode() + b" {%d+}\r\n" % len(octets) + octets)

    def hang_up(self, error: Exception | None = None) -> None:
        self.stream.connection_lost(error)


def message(subject: str = "hello", body: str = "body", **fields: str) -> bytes:
    """A small message; extra fields come with `_` for `-`."""
    lines = [
        "From: Ada <ada@example.org>",
        "To: bob@example.org",
        f"Subject: {subject}",
        "Date: Sat, 24 Mar 2007 23:00:00 +0200",
        "Message-ID: <1@example.org>",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + f"\r\n\r\n{body}\r\n").encode()
