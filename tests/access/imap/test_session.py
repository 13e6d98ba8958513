"""IMAP sessions: logging in, limits, deadlines, faults, and peers that do not play along."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tracemalloc
from typing import Any

import pytest
import trustme

from posthouse.access.imap.options import Options
from posthouse.accounts.login import LoginFailure
from posthouse.kernel.errors import Fault, StorageBusy, StorageFull, StorageLost
from posthouse.protocol.imap import utf7
from posthouse.protocol.imap.limits import Limits
from tests.access.imap.house import Client, House, message


class Failing:
    """The store in front of another, whose writes (and, if told so, reads) fail."""

    def __init__(self, store: Any, fault: Fault) -> None:
        self._store = store
        self.fault: Fault | None = fault
        self.reads_fail = False

    def _failed(self) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        assert self.fault is not None
        future.set_exception(self.fault)
        return future

    def submit(self, unit: Any, *, octets: int = 0, is_short: bool = False) -> asyncio.Future[Any]:
        if self.fault is not None:
            return self._failed()
        return self._store.submit(unit, octets=octets, is_short=is_short)  # type: ignore[no-any-return]

    def read(self, query: Any) -> asyncio.Future[Any]:
        if self.reads_fail and self.fault is not None:
            return self._failed()
        return self._store.read(query)  # type: ignore[no-any-return]


def plain(**changes: Any) -> Options:
    return Options(is_plaintext_login_allowed=True, **changes)


# --- TLS and login ---


class TlsClient:
    """A TLS client in memory over a plain one."""

    def __init__(self, client: Client, authority: trustme.CA) -> None:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="mail.example.org")
        self._client = client

    def shake_hands(self) -> None:
        for _ in range(5):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
            self._client.stream.data_received(self._out.read() or b"")
            self._in.write(self._client.read())

    async def exchange(self, octets: bytes) -> bytes:
        self._tls.write(octets)
        self._in.write(await self._client.exchange(self._out.read()))
        try:
            return self._tls.read(65_536)
        except ssl.SSLWantReadError:
            return b""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mail.example.org").configure_cert(context)
    return context


# P12
async def test_no_password_travels_without_tls(store: Any, context: ssl.SSLContext) -> None:
    house = await House(store, options=Options(), tls=context).settle_in()
    client = house.connect()
    assert b"LOGINDISABLED" in client.greeting and b"STARTTLS" in client.greeting
    assert b"A NO [PRIVACYREQUIRED]" in await client.command("LOGIN ada ada")
    assert b"A NO [PRIVACYREQUIRED]" in await client.command("AUTHENTICATE PLAIN AGFkYQBhZGE=")
    assert house.authenticator.asked == []


async def test_starttls_begins_anew_and_then_a_login_works(
    store: Any, context: ssl.SSLContext, authority: trustme.CA
) -> None:
    house = await House(store, options=Options(), tls=context).settle_in()
    client = house.connect()
    assert await client.command("STARTTLS") == b"A OK Begin TLS now\r\n"
    tls = TlsClient(client, authority)
    tls.shake_hands()
    answer = await tls.exchange(b"a CAPABILITY\r\n")
    assert b"AUTH=PLAIN" in answer and b"STARTTLS" not in answer and b"DISABLED" not in answer
    assert (await tls.exchange(b"b LOGIN ada ada\r\n")).startswith(b"b OK [CAPABILITY IMAP4rev1")
    assert (await tls.exchange(b"c SELECT INBOX\r\n")).endswith(
        b"c OK [READ-WRITE] SELECT completed\r\n"
    )


# H8
async def test_a_command_behind_starttls_is_never_run(store: Any, context: ssl.SSLContext) -> None:
    house = await House(store, options=Options(), tls=context).settle_in()
    client = house.connect()
    answer = await client.exchange(b"a STARTTLS\r\nb LOGIN ada ada\r\n")
    assert b"a BAD" in answer and b"* BYE" in answer and client.transport.is_closed
    assert house.authenticator.asked == []


# H59
async def test_every_wrong_login_hears_the_same_and_the_third_is_the_last(house: House) -> None:
    client = house.connect()
    answers = [
        await client.command("LOGIN nobody x"),
        await client.command("AUTHENTICATE PLAIN bm8="),
        await client.command('LOGIN "ada" {4+}\r\n\xc3\xa4\xc3\xa4'.encode("latin-1")),
    ]
    wrong = b"A NO [AUTHENTICATIONFAILED] User name or password is wrong\r\n"
    assert [answer[: len(wrong)] for answer in answers] == [wrong] * 3
    assert answers[2].endswith(b"* BYE Too many failed logins\r\n")
    assert client.transport.is_closed
    assert house.clock.slept_s == [1.0] * 3


async def test_acting_as_somebody_else_is_refused(house: House) -> None:
    client = house.connect()  # authzid bob, user ada, password ada
    assert b"A NO [AUTH" in await client.command("AUTHENTICATE PLAIN Ym9iAGFkYQBhZGE=")


# F22
@pytest.mark.parametrize("failure", [LoginFailure.TEMPORARY, LoginFailure.BANNED])
async def test_a_login_that_cannot_be_checked_is_unavailable(
    house: House, failure: LoginFailure
) -> None:
    house.authenticator.failure = failure
    assert b"A NO [UNAVAILABLE]" in await house.connect().command("LOGIN ada no")


async def test_an_account_has_so_many_sessions_and_no_more(store: Any) -> None:
    house = await House(store, options=plain(sessions_max=2)).settle_in()
    first, _ = await house.client(), await house.client()
    third = house.connect()
    assert b"A NO [LIMIT]" in await third.command("LOGIN ada ada")
    assert house.observer.limits == ["imap.sessions_max"]
    assert b"A OK" in await house.connect().command("LOGIN bob bob")
    first.hang_up()
    assert b"A OK" in await third.command("LOGIN ada ada")


# --- deadlines ---


async def test_whoever_does_not_log_in_is_sent_away(house: House) -> None:
    client = house.connect()
    house.clock.elapsed_s += 100
    await client.command("NOOP")
    house.deadlines.sweep()
    assert not client.transport.is_closed
    house.clock.elapsed_s += 21  # commands do not move this deadline
    house.deadlines.sweep()
    assert b"* BYE" in client.read() and client.transport.is_closed


# H56
@pytest.mark.parametrize("last", ["NOOP", "IDLE"])
async def test_a_silent_session_ends_after_half_an_hour(house: House, last: str) -> None:
    client = await house.client(mailbox="INBOX")
    await client.command(last)
    house.clock.elapsed_s += 1_799
    house.deadlines.sweep()
    assert not client.transport.is_closed
    house.clock.elapsed_s += 2
    house.deadlines.sweep()
    assert b"* BYE" in client.read() and client.transport.is_closed
    client.hang_up()
    assert house.service.sessions == {} and len(house.deadlines) == 0


# P14
async def test_a_server_going_down_says_bye(house: House) -> None:
    client = await house.client(mailbox="INBOX")
    client.session.drain()
    assert client.read() == b"* BYE [UNAVAILABLE] The server is going down\r\n"
    busy = await house.client()
    busy.stream.data_received(b"a STATUS INBOX (MESSAGES)\r\nb STATUS INBOX (MESSAGES)\r\n")
    busy.session.drain()
    await busy.settle()
    answer = busy.read()
    assert b"a OK STATUS completed\r\n" in answer and b"b OK" not in answer
    assert answer.endswith(b"* BYE [UNAVAILABLE] The server is going down\r\n")


# --- peers that stop reading or go away ---


# F33
async def test_a_client_that_does_not_read_is_waited_for_and_then_cut(store: Any) -> None:
    house = await House(store, options=plain(output_octets_max=100_000)).settle_in()
    client = await house.client(mailbox="INBOX")
    for _ in range(10):
        await client.append(message(body="x" * 60_000))
    client.transport.is_stuck = True
    client.stream.data_received(b"a FETCH 1:* BODY.PEEK[]\r\n" * 5)
    async with asyncio.timeout(20):
        while client.session._writable is None:  # until then its deadline is another one
            await store.read(lambda tx: None)
            await asyncio.sleep(0)
    assert client.session._task is not None
    assert client.transport.get_write_buffer_size() < 2 * 1024 * 1024 + 100_000
    house.clock.elapsed_s += 301
    house.deadlines.sweep()
    assert client.transport.is_aborted
    assert house.observer.limits == ["imap.output_octets_max"]
    client.hang_up()


# F33
async def test_one_large_message_waits_for_its_reader_too(store: Any) -> None:
    house = await House(store, options=plain(output_octets_max=100_000)).settle_in()
    client = await house.client(mailbox="INBOX")
    octets = message() + b"x" * 3_000_000
    await client.exchange(b"a APPEND INBOX {%d+}\r\n" % len(octets) + octets + b"\r\n")
    client.transport.is_stuck = True
    client.stream.data_received(b"b FETCH 1 BODY.PEEK[]\r\n")
    async with asyncio.timeout(20):
        while client.transport.get_write_buffer_size() <= 100_000:
            await store.read(lambda tx: None)
    for _ in range(50):
        await store.read(lambda tx: None)
        await asyncio.sleep(0)
    assert 100_000 < client.transport.get_write_buffer_size() < 700_000
    got = b""
    while client.session._task is not None:
        got += client.read()
        await asyncio.sleep(0)
    assert octets in got + client.read()


async def test_a_client_that_reads_again_gets_everything(store: Any) -> None:
    house = await House(store, options=plain(output_octets_max=100_000)).settle_in()
    client = await house.client(mailbox="INBOX")
    for _ in range(5):
        await client.append(message(body="x" * 60_000))
    client.transport.is_stuck = True
    client.stream.data_received(b"a FETCH 1:* BODY.PEEK[]\r\n" * 3)
    got = b""
    while not got.endswith(b"a OK FETCH completed\r\n") or got.count(b"a OK") < 3:
        await store.read(lambda tx: None)
        await asyncio.sleep(0)
        got += client.read()
    assert got.count(b" FETCH (BODY[]") == 15
    assert client.session._writable is None


# F32
@pytest.mark.parametrize("sent", [10, 70_000])
async def test_a_client_lost_in_a_literal_leaves_nothing(house: House, sent: int) -> None:
    client = await house.client(mailbox="INBOX")
    await client.exchange(b"a APPEND INBOX {1000000+}\r\n" + b"x" * sent)
    machine = client.session.machine
    client.hang_up(ConnectionResetError())
    assert machine._collector is None and not machine._inbox and machine._pieces is None
    other = await house.client()
    assert b"(MESSAGES 0)" in await other.command("STATUS INBOX (MESSAGES)")


async def test_a_client_lost_while_a_command_runs_leaves_nothing(house: House) -> None:
    client = await house.client(mailbox="INBOX")
    await client.append(message())
    client.stream.data_received(b"a FETCH 1 BODY[]\r\nb FETCH 1 ENVELOPE\r\n")
    task = client.session._task
    assert task is not None
    client.hang_up()
    await asyncio.wait({task})
    assert task.cancelled() and client.read().count(b"OK") == 0
    assert house.service.sessions == {} and len(house.deadlines) == 0
    assert house.hub._watches == {}


async def test_ten_thousand_commands_in_one_segment_are_answered_in_turns(house: House) -> None:
    client = await house.client()
    client.stream.data_received(b"a NOOP\r\n" * 10_000)
    assert client.transport.is_paused is False
    client.stream.data_received(b"a NOOP\r\n" * 10)
    assert client.transport.is_paused
    turns = 0
    while client.session._task is not None:  # P10
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert client.read().count(b"a OK NOOP completed\r\n") == 10_010
    assert not client.transport.is_paused


async def test_the_end_of_the_peers_octets_ends_the_session_when_all_is_answered(
    house: House,
) -> None:
    client = await house.client()
    client.stream.data_received(b"a STATUS INBOX (MESSAGES)\r\n")
    client.stream.eof_received()
    await client.settle()
    assert b"a OK STATUS completed\r\n" in client.read() and client.transport.is_closed


# --- faults ---


# F4
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StorageFull("disk"), b"[OVERQUOTA]"),
        (StorageBusy("busy"), b"[UNAVAILABLE]"),
        (StorageLost("lost"), b"[UNAVAILABLE]"),
        (Fault("?"), b"[UNAVAILABLE]"),
    ],
)
async def test_a_fault_is_told_and_the_session_goes_on(
    store: Any, fault: Fault, code: bytes
) -> None:
    house = await House(store).settle_in()
    client = await house.client(mailbox="INBOX")
    await client.append(message())
    house.service.store = Failing(store, fault)
    for command in ("CREATE x", "STORE 1 FLAGS (\\Seen)", "COPY 1 Sent", "EXPUNGE", "CLOSE"):
        assert b"A NO " + code in await client.command(command), command
    assert b"A NO " + code in await client.append(message())
    # F3: what needs no writing goes on, also where \Seen or \Recent cannot be written
    answer = await client.command("FETCH 1 BODY[TEXT]")
    assert b"body" in answer and b"A OK" in answer
    assert b"A OK [READ-WRITE]" in await client.command("SELECT INBOX")
    house.service.store.fault = None
    assert b"A OK" in await client.command("CREATE x")


async def test_a_fault_in_idle_ends_the_session_rather_than_the_news(store: Any) -> None:
    house = await House(store).settle_in()
    client = await house.client(mailbox="INBOX")
    await client.command("IDLE")
    failing = Failing(store, StorageBusy("busy"))
    failing.reads_fail = True
    house.service.store = failing
    client.session.wake()
    await client.settle()
    assert b"* BYE [UNAVAILABLE]" in client.read() and client.transport.is_closed


# F10
async def test_a_damaged_message_is_named_and_the_others_are_served(
    house: House, store: Any, tmp_path: Any
) -> None:
    client = await house.client(mailbox="INBOX")
    for name in ("one", "two", "three"):
        await client.append(message(name))
    await store.submit(
        lambda tx: tx.run(
            "UPDATE blob SET octets = x'00' WHERE id = (SELECT blob_id FROM email"
            " JOIN entry ON entry.email_id = email.id WHERE entry.uid = 2)"
        )
    )
    answer = await client.command("FETCH 1:3 (BODY[] FLAGS)")
    assert b"Subject: one" in answer and b"Subject: three" in answer
    assert b"* 2 FETCH (FLAGS (\\Recent) BODY" not in answer
    assert b"A NO [SERVERBUG] Some messages cannot be read\r\n" in answer
    assert b"(FLAGS (\\Seen \\Recent))" in answer and b"* 2 FETCH" not in answer
    assert b"Subject" not in await client.command("FETCH 2 (ENVELOPE)")
    assert b"* 2 FETCH (ENVELOPE" in await client.command("FETCH 2 (ENVELOPE)")


# H51
async def test_a_message_larger_than_the_quota_is_refused_before_it_travels(store: Any) -> None:
    house = await House(store).settle_in("ada", quota_octets=2_000_000)
    client = await house.client()
    assert b"A NO [OVERQUOTA]" in await client.command("APPEND INBOX {3000000}")
    answer = await client.exchange(b"b APPEND INBOX {1900000}\r\n")
    assert answer == b"+ go ahead\r\n"
    body = message() + b"x" * (1_900_000 - len(message()))
    assert b"b OK [APPENDUID" in await client.exchange(body + b"\r\n")
    assert b"A NO [OVERQUOTA]" in await client.append(b"y: z\r\n\r\n" + b"x" * 200_000)
    assert b"A BAD [TOOBIG]" in await client.command("APPEND INBOX {99999999}")


async def test_a_bug_ends_the_session_and_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    client = await house.client(mailbox="INBOX")

    def broken(query: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(house.service, "store", type("S", (), {"read": staticmethod(broken)})())
    answer = await client.command("STATUS INBOX (MESSAGES)")
    assert answer == b"* BYE [SERVERBUG] Something went wrong here\r\n"
    assert client.transport.is_closed and len(seen) == 1


# P9
async def test_a_message_of_many_mebibytes_goes_out_in_slices(house: House) -> None:
    limits = Limits(append_octets_max=10_000_000)
    assert limits.append_octets_max < Options().limits.append_octets_max
    client = await house.client(mailbox="INBOX")
    octets = message() + b"x" * 3_000_000
    await client.exchange(b"a APPEND INBOX {%d+}\r\n" % len(octets) + octets + b"\r\n")
    client.stream.data_received(b"b FETCH 1 BODY.PEEK[]\r\n")
    await client.settle()
    assert max(map(len, client.transport.written)) <= 256 * 1024
    assert octets in client.read()


# P9
async def test_an_idle_session_is_small(house: House) -> None:
    options = plain(sessions_max=200)
    house.service.options = options
    clients = [await house.client(mailbox="INBOX") for _ in range(2)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(50):
        client = await house.client(mailbox="INBOX")
        await client.exchange(b"i IDLE\r\n")
        clients.append(client)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 50 < 6 * 1024  # with stream, transport and the test's own client


async def test_every_limit_that_a_peer_meets_is_told(house: House) -> None:
    client = await house.client(mailbox="INBOX")
    for command in (
        "x" * 70_000,
        "SEARCH TEXT {2000000}",
        "APPEND INBOX {99999999}",
        "FETCH " + ",".join(["1"] * 10_001) + " FLAGS",
        "SEARCH " + "NOT " * 60 + "SEEN",
        "SEARCH " + "SEEN " * 1_000 + "SEEN",
        "FETCH 1 (" + " ".join(["UID"] * 1_001) + ")",
    ):
        assert b" BAD [" in await client.command(command)
    assert house.observer.limits == [
        "imap.line_octets_max",
        "imap.literal_octets_max",
        "smtp.message_octets_max",
        "imap.set_items_max",
        "imap.depth_max",
        "imap.search_keys_max",
        "imap.fetch_items_max",
    ]
    client.hang_up()
    opened = [event for event, _ in house.observer.events if event == "imap.opened"]
    closed = [event for event, _ in house.observer.events if event == "imap.closed"]
    assert len(opened) == len(closed) == 1


async def test_limits_of_mailboxes_are_answered_and_told(house: House) -> None:
    client = await house.client()
    long = utf7.encode("中" * 370).decode()  # 1,110 octets in UTF-8, fewer on the wire
    for command in (
        f"CREATE {long}",
        "CREATE " + "/".join("x" * 21),
        f"SELECT {long}",
        f"STATUS {long} (MESSAGES)",
    ):
        assert b" NO [LIMIT] " in await client.command(command)
    assert house.observer.limits == [
        "imap.name_octets_max",
        "imap.hierarchy_max",
        "imap.name_octets_max",
        "imap.name_octets_max",
    ]


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (LoginFailure.WRONG, "refused"),
        (LoginFailure.BANNED, "banned"),
        (LoginFailure.TEMPORARY, "unavailable"),
    ],
)
async def test_a_failed_login_is_told_with_its_outcome(
    house: House, failure: LoginFailure, outcome: str
) -> None:
    house.authenticator.failure = failure
    client = house.connect()
    await client.command("LOGIN ada wrong")
    told = [fields for event, fields in house.observer.events if event == "imap.login"]
    assert [(f["outcome"], f["peer"]) for f in told] == [(outcome, "192.0.2.1")]
