"""POP3 sessions over a store, on transports in memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme

from posthouse.access.pop3.options import Options
from posthouse.access.pop3.service import Service
from posthouse.accounts.login import LoginFailure, LoginResult, Principal
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import AccountId, TraceId
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import Limit
from posthouse.net.stream import Peer, Stream, TlsStart
from tests.mailbox.world import World, message


class ToldClock:
    def __init__(self) -> None:
        self.elapsed_s = 1_000.0
        self.slept_s: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 11, 2, tzinfo=UTC)

    def unix_us(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await asyncio.sleep(0)


class Transport:
    """Keeps what is written; while `is_stuck` it stays in the buffer."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_stuck = self.is_closed = self.is_aborted = self.is_paused = False
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
        return {"peername": ("192.0.2.1", 1025)}.get(name, default)


class House:
    """One POP3 service whose users are ann and bob; their passwords are their names."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = ToldClock()
        self.deadlines = Deadlines(self.clock)
        self.accounts = {"ann": world.account, "bob": world.new_account("bob")}
        self.failure = LoginFailure.WRONG
        self.noted_events: list[str] = []
        self.outcomes: list[object] = []
        self.ban: dict[str, Any] = {}
        self.limits: list[str] = []
        self.tls: ssl.SSLContext | None = None
        self.options = Options(is_plaintext_login_allowed=True)
        self.fault: Exception | None = None
        self.service = self.make()

    def make(self) -> Service:
        return Service(
            self.options,
            store=self,  # type: ignore[arg-type]
            authenticator=self,
            clock=self.clock,
            deadlines=self.deadlines,
            observer=self,
            tls_context=lambda: self.tls,
        )

    # the store, which fails when it is told to

    def read(self, query: Any) -> Any:
        return self.failing() or self.world.store.read(query)

    def submit(self, unit: Any) -> Any:
        return self.failing() or self.world.store.submit(unit)

    def failing(self) -> Any:
        if self.fault is None:
            return None
        future = asyncio.get_running_loop().create_future()
        future.set_exception(self.fault)
        return future

    # the authenticator and the observer

    async def authenticate(
        self, *, name: str, password: str, authzid: str = "", peer: str, service: str
    ) -> LoginResult:
        assert (peer, service) == ("192.0.2.1", "pop3")
        if name in self.accounts and password == name and not authzid:
            account = AccountId(self.accounts[name])
            return LoginResult(
                principal=Principal(account=account, name=name, credential_version=1)
            )
        return LoginResult(failure=self.failure, delay_s=2.0, **self.ban)

    def noted(self, event: str, trace: TraceId, **fields: object) -> None:
        assert fields["peer"] == "192.0.2.1"
        self.noted_events.append(event)
        if event == "pop3.login":
            self.outcomes.append(fields["outcome"])

    def limit_reached(
        self, name: str, trace: TraceId, *, value: int, observed: int, peer: str
    ) -> None:
        assert observed >= value > 0 and peer == "192.0.2.1"
        self.limits.append(name)

    def connect(self) -> Client:
        return Client(self)

    async def client(self, name: str = "ann") -> Client:
        client = Client(self)
        await client.exchange(f"USER {name}\r\nPASS {name}\r\n")
        return client


class Client:
    def __init__(self, house: House) -> None:
        self.transport = Transport()
        nobody: Any = None
        self.stream = Stream(nobody, trace_id=TraceId("t1"), deadlines=house.deadlines)
        self.session = house.service.session(self.stream)
        self.stream._handler = self.session
        self.transport.stream = self.stream
        self.stream.connection_made(self.transport)  # type: ignore[arg-type]
        self.greeting = self.read()

    def read(self) -> bytes:
        octets = b"".join(self.transport.written)
        self.transport.written.clear()
        return octets

    async def exchange(self, text: str | bytes) -> bytes:
        self.stream.data_received(text.encode() if isinstance(text, str) else text)
        await self.settle()
        return self.read()

    async def settle(self) -> None:
        while (task := self.session._task) is not None and not task.done():
            await asyncio.wait({task})

    def hang_up(self) -> None:
        self.stream.connection_lost(None)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def house(world: World) -> House:
    return House(world)


async def test_a_client_reads_and_removes_its_mail(house: House) -> None:
    for subject in (b"a", b"b", b"c"):
        house.world.deliver(message(subject), prefix=b"Received: by us\r\n")
    client = house.connect()
    assert client.greeting.startswith(b"+OK ")
    octets = len(message(b"a")) + len(b"Received: by us\r\n")
    answers = await client.exchange("USER ann\r\nPASS ann\r\nSTAT\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n")
    assert b"+OK 3 messages\r\n+OK 3 %d\r\n" % (3 * octets) in answers
    assert b"Received: by us\r\n" + message(b"b") + b".\r\n" in answers
    assert answers.endswith(b"+OK\r\n+OK\r\n") and client.transport.is_closed
    assert list(house.world.view().uids) == [1, 3]
    assert house.world.counters_differ() == []


async def test_unique_ids_last_over_sessions(house: House) -> None:
    house.world.deliver()
    house.world.deliver()
    first = await house.client()
    before = await first.exchange("UIDL 2\r\n")
    await first.exchange("DELE 1\r\nQUIT\r\n")
    first.hang_up()
    after = await (await house.client()).exchange("UIDL 1\r\n")
    assert before.split()[2] == after.split()[2]


async def test_nothing_is_removed_without_quit(house: House) -> None:  # RFC 1939 §6
    house.world.deliver()
    for end in ("hang up", "half-close", "deadline"):
        client = await house.client()
        assert await client.exchange("DELE 1\r\n") == b"+OK\r\n"
        if end == "half-close":
            client.stream.eof_received()
            assert client.transport.is_closed
        elif end == "deadline":
            house.clock.elapsed_s += 601
            house.deadlines.sweep()
            assert client.transport.is_closed
        client.hang_up()
        assert list(house.world.view().uids) == [1]


async def test_one_session_has_the_maildrop(house: House) -> None:  # RFC 1939 §4
    first = await house.client()
    second = house.connect()
    assert (await second.exchange("USER ann\r\nPASS ann\r\n")).startswith(b"+OK\r\n-ERR [IN-USE]")
    assert b"+OK 0" in await (house.connect()).exchange("USER bob\r\nPASS bob\r\n")
    first.hang_up()
    assert b"+OK 0" in await second.exchange("USER ann\r\nPASS ann\r\n")


async def test_each_account_sees_its_own_mail_only(house: House) -> None:  # P12
    house.world.deliver(message(b"hers"))
    house.world.deliver(message(b"his"), account=house.accounts["bob"])
    hers = await (await house.client("ann")).exchange("RETR 1\r\n")
    his = await (await house.client("bob")).exchange("RETR 1\r\nRETR 2\r\n")
    assert b"hers" in hers and b"his" not in hers
    assert b"his" in his and b"hers" not in his and b"no such message" in his


async def test_three_wrong_passwords_end_the_session(house: House) -> None:
    client = house.connect()
    for _ in range(2):
        assert b"-ERR [AUTH]" in await client.exchange("USER ann\r\nPASS wrong\r\n")
    assert not client.transport.is_closed
    assert b"-ERR [AUTH]" in await client.exchange("USER nobody\r\nPASS wrong\r\n")
    assert client.transport.is_closed and house.clock.slept_s == [2.0] * 3


async def test_a_failing_back_end_is_no_but_not_wrong(house: House) -> None:  # P8 P12
    house.failure = LoginFailure.TEMPORARY
    assert b"-ERR [SYS/TEMP]" in await house.connect().exchange("USER x\r\nPASS y\r\n")
    house.fault = Fault("the disk")
    client = house.connect()
    assert b"-ERR [SYS/TEMP]" in await client.exchange("USER ann\r\nPASS ann\r\n")
    house.fault = None
    assert b"+OK 0" in await client.exchange("USER ann\r\nPASS ann\r\n")


async def test_a_damaged_message_leaves_the_others_readable(house: House) -> None:  # F10
    house.world.deliver(message(b"good"))
    house.world.deliver(message(b"bad"))
    house.world.store.write_now(
        lambda tx: tx.run("UPDATE blob SET octets = x'00' WHERE id = (SELECT max(id) FROM blob)")
    )
    client = await house.client()
    assert (await client.exchange("RETR 2\r\n")) == b"-ERR [SYS/PERM] this message is damaged\r\n"
    assert b"good" in await client.exchange("RETR 1\r\n")
    assert house.noted_events[-1] == "pop3.fault"


async def test_a_failing_store_at_quit_is_told_and_nothing_is_removed(house: House) -> None:  # F2
    house.world.deliver()
    client = await house.client()
    await client.exchange("DELE 1\r\n")
    house.fault = Fault("the disk")
    assert (await client.exchange("QUIT\r\n")).startswith(b"-ERR [SYS/TEMP]")
    assert client.transport.is_closed and list(house.world.view().uids) == [1]


async def test_a_message_removed_by_imap_meanwhile_is_told(house: House) -> None:
    from posthouse.mailbox import expunge

    house.world.deliver()
    client = await house.client()
    house.world.write(
        expunge.expunge, house.world.account, house.world.mailbox(), only_deleted=False
    )
    assert b"-ERR [SYS/PERM] another session" in await client.exchange("RETR 1\r\n")
    assert (await client.exchange("DELE 1\r\nQUIT\r\n")).endswith(b"+OK\r\n+OK\r\n")


async def test_a_client_that_does_not_read_is_waited_for_then_cut(house: House) -> None:
    big = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 78 + b"\r\n") * 65_536
    house.world.deliver(big)
    client = await house.client()
    client.transport.is_stuck = True
    client.stream.data_received(b"RETR 1\r\n")
    for _ in range(20):
        await asyncio.sleep(0)
    assert 1024 * 1024 < client.stream.unsent_octets < 1024 * 1024 + 300_000
    got = b""
    for _ in range(40):  # the client reads after all
        got += client.read()
        client.stream.resume_writing()
        for _ in range(5):
            await asyncio.sleep(0)
    assert got == b"+OK\r\n" + big + b".\r\n"
    client.stream.data_received(b"RETR 1\r\n")
    for _ in range(20):
        await asyncio.sleep(0)
    house.clock.elapsed_s += 301
    house.deadlines.sweep()
    assert client.transport.is_aborted and house.limits == ["imap.output_octets_max"]
    client.hang_up()
    await asyncio.sleep(0)
    assert house.service.taken == set()


async def test_reading_pauses_behind_many_pipelined_commands(house: House) -> None:
    client = await house.client()
    client.stream.data_received(b"LIST\r\n")
    client.stream.data_received(b"NOOP\r\n" * 20_000)
    assert client.transport.is_paused
    await client.settle()
    assert not client.transport.is_paused
    assert client.read().count(b"+OK") == 20_001


async def test_a_silent_client_is_closed(house: House) -> None:
    client = house.connect()
    house.clock.elapsed_s += 121
    house.deadlines.sweep()
    assert client.transport.is_closed


async def test_draining_ends_sessions_between_commands(house: House) -> None:  # P14
    client = await house.client()
    client.session.drain()
    assert client.transport.is_closed


async def test_no_plaintext_login_unless_the_network_may(house: House) -> None:  # P12
    house.options = Options()
    house.service = house.make()
    client = house.connect()
    assert b"-ERR passwords need TLS" in await client.exchange("USER ann\r\n")


async def test_stls_and_then_a_login(house: House) -> None:
    authority = trustme.CA()
    server, own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("mail.example.org").configure_cert(server)
    authority.configure_trust(own)
    house.tls = server
    house.options = Options()
    house.service = house.make()
    client = house.connect()
    assert await client.exchange("STLS\r\n") == b"+OK begin TLS now\r\n"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = own.wrap_bio(incoming, outgoing, server_hostname="mail.example.org")

    async def exchanged() -> None:
        incoming.write(await client.exchange(outgoing.read()) if outgoing.pending else b"")

    for _ in range(4):
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            await exchanged()
    await exchanged()
    tls.write(b"USER ann\r\nPASS ann\r\nCAPA\r\n")
    await exchanged()
    assert b"+OK 0 messages\r\n" in tls.read()


async def test_commands_behind_stls_are_never_answered(house: House) -> None:  # H8
    house.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = house.connect()
    answers = await client.exchange("STLS\r\nUSER ann\r\nPASS ann\r\n")
    assert answers == b"-ERR commands behind STLS are not allowed\r\n"
    assert client.transport.is_closed and house.service.taken == set()


def test_a_refused_connection_hears_why(house: House) -> None:
    assert b"your network" in house.service.refusal(Limit.PER_ADDRESS)
    assert house.service.refusal(Limit.CONNECTIONS).endswith(b"try again later\r\n")
    assert house.service.turned_away(Peer("192.0.2.1", 1)) is None


async def test_every_login_is_told_with_its_outcome(house: House) -> None:
    client = house.connect()
    house.ban = {"limit": "auth.failures.per_minute", "limit_value": 10.0, "observed": 10.0}
    await client.exchange("USER ann\r\nPASS wrong\r\n")
    assert house.limits == ["auth.failures.per_minute"]
    house.ban = {}
    house.failure = LoginFailure.BANNED
    await client.exchange("USER ann\r\nPASS wrong\r\n")
    await client.exchange("USER ann\r\nPASS ann\r\n")
    house.failure = LoginFailure.TEMPORARY
    await house.connect().exchange("USER x\r\nPASS y\r\n")
    assert house.outcomes == ["refused", "banned", "accepted", "unavailable"]
    client.hang_up()
    assert house.noted_events.count("pop3.opened") == 2
    assert house.noted_events.count("pop3.closed") == 1


async def test_who_does_not_log_in_in_time_is_told_so(house: House) -> None:
    client = house.connect()
    house.clock.elapsed_s += 121
    house.deadlines.sweep()
    assert client.read().endswith(b"-ERR [SYS/TEMP] you did not log in in time\r\n")
    assert client.transport.is_closed and house.limits == ["pop3.login_s"]


async def test_silence_after_login_is_counted_and_ends_without_words(house: House) -> None:
    client = await house.client()  # RFC 1939 §3
    client.read()
    house.clock.elapsed_s += 601
    house.deadlines.sweep()
    assert (client.read(), client.transport.is_closed) == (b"", True)
    assert house.limits == ["pop3.idle_s"]


async def test_long_lines_and_repeated_errors_are_counted(house: House) -> None:
    client = house.connect()
    await client.exchange(b"x" * 600 + b"\r\n")
    assert house.limits == ["pop3.line_octets_max"] and not client.transport.is_closed
    await client.exchange("NONSENSE\r\nNONSENSE\r\n")
    assert client.transport.is_closed
    assert house.limits == ["pop3.line_octets_max", "pop3.errors_max"]


def test_a_handshake_that_takes_too_long_is_counted(house: House) -> None:  # H15
    nobody: Any = None
    transport = Transport()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls = TlsStart(context=context, server_side=True)
    stream = Stream(nobody, trace_id=TraceId("t1"), deadlines=house.deadlines, tls=tls)
    stream._handler = house.service.session(stream)
    stream.connection_made(transport)  # type: ignore[arg-type]
    house.clock.elapsed_s += 21
    house.deadlines.sweep()
    assert transport.is_aborted
    stream.connection_lost(None)
    assert house.limits == ["tls.handshake_s"] and house.noted_events == ["pop3.tls_failed"]
