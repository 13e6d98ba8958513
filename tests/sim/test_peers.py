"""SMTP hosts with a personality, spoken to by hand."""

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from posthouse.sim.peers import SmtpPeer
from posthouse.sim.personality import (
    BARE_LF,
    CODE_25,
    CODE_999,
    NO_SPACE,
    PERMANENT,
    SHUTS_DOWN,
    TEMPORARY,
    Behaviour,
    Drip,
    Drop,
    Flood,
    Personality,
    Say,
    Stage,
    Stall,
    Starttls,
)
from posthouse.sim.world import World, run_virtual

PEER = "192.0.2.25"
MESSAGE = b"Subject: x\r\n\r\n..dot\r\n.\r\n"


class Client(asyncio.Protocol):
    """Sends lines, waits for what comes back."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.inbox = bytearray()
        self.news = asyncio.Event()
        self.error: Exception | None = None
        self.is_lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.inbox += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error, self.is_lost = exc, True
        self.news.set()

    async def line(self) -> bytes:
        """The next line; b"" at the end of the connection."""
        while (end := self.inbox.find(b"\n")) < 0:
            if self.is_lost:
                return b""
            self.news.clear()
            await self.news.wait()
        line = bytes(self.inbox[: end + 1])
        del self.inbox[: end + 1]
        return line

    async def reply(self) -> bytes:
        """The last line of the next reply."""
        while (line := await self.line())[3:4] == b"-":
            pass
        return line

    async def say(self, *lines: bytes) -> list[bytes]:
        """Send all of them at once; the code of each reply."""
        self.transport.write(b"".join(line + b"\r\n" for line in lines))
        return [(await self.reply())[:3] for _ in lines]


async def meet(world: World, personality: Personality) -> tuple[SmtpPeer, Client]:
    peer = SmtpPeer(personality)
    await peer.serve(world.network, PEER)
    return peer, await call(world)


async def call(world: World) -> Client:
    client = Client()
    await world.network.connect(lambda: client, PEER, 25, timeout_s=30)
    return client


async def deliver(client: Client, recipient: bytes = b"b@peer.test") -> list[bytes]:
    codes = [(await client.reply())[:3]]
    mail, rcpt = b"MAIL FROM:<a@c.test> SIZE=9", b"RCPT TO:<" + recipient + b">"
    codes += await client.say(b"EHLO c.test", mail, rcpt, b"DATA")
    if codes[-1] == b"354":
        client.transport.write(MESSAGE)
        codes.append((await client.reply())[:3])
    return codes


def test_a_friendly_host_keeps_what_it_was_given() -> None:
    async def main(world: World) -> SmtpPeer:
        peer, client = await meet(world, Personality())
        assert await deliver(client) == [b"220", b"250", b"250", b"250", b"354", b"250"]
        bdat = [b"MAIL FROM:<>", b"RCPT TO:<c@peer.test>", b"BDAT 4\r\nabcdBDAT 2 LAST\r\n\r"]
        client.transport.write(b"\r\n".join(bdat) + b"\n")
        assert [(await client.reply())[:3] for _ in range(4)] == [b"250"] * 4
        assert await client.say(b"RCPT TO:<x>", b"WHAT", b"NOOP", b"RSET", b"QUIT") == [
            b"503",
            b"500",
            b"250",
            b"250",
            b"221",
        ]
        assert await client.line() == b""
        return peer

    first, second = run_virtual(main).messages
    assert (first.reverse_path, first.forward_paths) == ("a@c.test", ("b@peer.test",))
    assert first.content == b"Subject: x\r\n\r\n.dot\r\n"
    assert (first.helo, first.is_tls, first.is_acknowledged) == (b"c.test", False, True)
    assert (second.reverse_path, second.content) == ("", b"abcd\r\n")


def test_very_many_pipelined_commands_are_all_answered() -> None:
    async def main(world: World) -> list[bytes]:
        _, client = await meet(world, Personality())
        await client.reply()
        return await client.say(*[b"NOOP"] * 5000)

    assert set(run_virtual(main)) == {b"250"}


def test_a_greylisting_host_accepts_the_triple_later() -> None:
    async def main(world: World) -> list[list[bytes]]:
        _, client = await meet(world, Personality(greylist_s=300))
        tries = [await deliver(client)]
        for wait_s in (100, 300):
            await world.clock.sleep(wait_s)
            tries.append(await deliver(await call(world)))
        tries.append(await deliver(await call(world), b"other@peer.test"))
        return [codes[3:] for codes in tries]

    deferred = [b"451", b"554"]
    assert run_virtual(main) == [deferred, deferred, [b"250", b"354", b"250"], deferred]


def test_a_throttling_host_shuts_the_door() -> None:
    async def main(world: World) -> None:
        limits = Personality(messages_per_connection=1, connections_max=2, messages_per_minute=2)
        peer, client = await meet(world, limits)
        assert (await deliver(client))[-1] == b"250"
        assert await client.say(b"MAIL FROM:<a@c.test>") == [b"421"]
        assert await client.line() == b""
        second, third, fourth = [await call(world) for _ in range(3)]
        assert (await deliver(second))[-1] == b"250"
        assert (await third.reply())[:3] == b"220"
        assert await third.say(b"EHLO c.test", b"MAIL FROM:<a@c.test>") == [b"250", b"421"]
        assert (await fourth.reply())[:3] == b"421"
        assert await fourth.line() == b""
        await world.clock.sleep(61)
        assert (await deliver(await call(world)))[-1] == b"250"
        assert len(peer.messages) == 3

    run_virtual(main)


@pytest.mark.parametrize("behaviour", [TEMPORARY, PERMANENT, SHUTS_DOWN])
@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
def test_a_host_refuses_at_any_stage(stage: Stage, behaviour: Say) -> None:
    async def main(world: World) -> None:
        peer, client = await meet(world, Personality(at={stage: behaviour}))
        codes = await deliver(client)
        assert behaviour.octets[:3] in codes
        assert not peer.messages
        if behaviour is SHUTS_DOWN:
            assert await client.line() == b""

    run_virtual(main)


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO])
def test_a_host_greets_with_421(stage: Stage) -> None:
    async def main(world: World) -> None:
        _, client = await meet(world, Personality(at={stage: SHUTS_DOWN}))
        if stage is Stage.EHLO:
            assert (await client.reply())[:3] == b"220"
            client.transport.write(b"EHLO c.test\r\n")
        assert await client.line() == SHUTS_DOWN.octets
        assert await client.line() == b""

    run_virtual(main)


def test_a_recipient_has_a_reply_of_its_own() -> None:
    async def main(world: World) -> tuple[str, ...]:
        chosen: dict[str, Behaviour] = {"gone@peer.test": PERMANENT, "full@peer.test": TEMPORARY}
        peer, client = await meet(world, Personality(recipients=chosen))
        await client.reply()
        recipients = [b"RCPT TO:<%s@peer.test>" % name for name in (b"Gone", b"full", b"b")]
        codes = await client.say(b"EHLO c", b"MAIL FROM:<a@c.test>", *recipients, b"DATA")
        assert codes == [b"250", b"250", b"550", b"451", b"250", b"354"]
        client.transport.write(MESSAGE)
        assert (await client.reply())[:3] == b"250"
        return peer.messages[0].forward_paths

    assert run_virtual(main) == ("b@peer.test",)


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.MAIL, Stage.DATA, Stage.DOT])
def test_a_host_drops_the_line_at_any_stage(stage: Stage, is_reset: bool) -> None:
    async def main(world: World) -> None:
        drops = Personality(at={stage: Drop(is_reset=is_reset)})
        peer, client = await meet(world, drops)
        assert b"" in await deliver(client)
        assert isinstance(client.error, ConnectionResetError) is is_reset
        assert [each.is_acknowledged for each in peer.messages] == (
            [False] if stage is Stage.DOT else []
        )

    run_virtual(main)


def test_a_host_drops_the_line_in_the_middle_of_the_content() -> None:
    async def main(world: World) -> None:
        peer, client = await meet(world, Personality(content_octets_until_drop=1000))
        await client.reply()
        await client.say(b"EHLO c", b"MAIL FROM:<a@c.test>", b"RCPT TO:<b@peer.test>", b"DATA")
        client.transport.write(b"x" * 2000)
        assert await client.reply() == b""
        assert not peer.messages

    run_virtual(main)


@pytest.mark.parametrize(
    ("behaviour", "took_s"), [(Stall(seconds=900), 900), (Drip(seconds=100), 1300)]
)
def test_a_host_takes_its_time(behaviour: Behaviour, took_s: float) -> None:
    async def main(world: World) -> float:
        _, client = await meet(world, Personality(at={Stage.MAIL: behaviour}))
        await client.reply()
        assert await client.say(b"EHLO c", b"MAIL FROM:<a@c.test>") == [b"250", b"250"]
        return world.clock.monotonic_s()

    assert run_virtual(main) == pytest.approx(took_s, abs=1)


def test_a_host_stalls_for_ever_or_floods() -> None:
    async def main(world: World) -> int:
        peer, client = await meet(world, Personality(at={Stage.MAIL: Stall()}))
        await client.reply()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1_000_000):
                await client.say(b"EHLO c", b"MAIL FROM:<a@c.test>")
        peer.personality = Personality(at={Stage.MAIL: Flood(octets=1_000_000)})
        other = await call(world)
        await other.reply()
        await other.say(b"EHLO c")
        other.transport.write(b"MAIL FROM:<a@c.test>\r\n")
        octets = 0
        while (line := await other.line())[3:4] == b"-":
            octets += len(line)
        return octets

    assert 990_000 < run_virtual(main) <= 1_000_000


@pytest.mark.parametrize("behaviour", [CODE_999, CODE_25, NO_SPACE, BARE_LF])
def test_a_host_says_what_is_no_reply(behaviour: Any) -> None:
    async def main(world: World) -> bytes:
        _, client = await meet(world, Personality(at={Stage.RCPT: behaviour}))
        await client.reply()
        await client.say(b"EHLO c", b"MAIL FROM:<a@c.test>")
        client.transport.write(b"RCPT TO:<b@peer.test>\r\n")
        return await client.line()

    assert run_virtual(main) == behaviour.octets


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("peer.test").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_starttls_works_on_real_sockets(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    import smtplib

    async def main() -> SmtpPeer:
        peer = SmtpPeer(Personality(starttls=Starttls.WORKS), tls=contexts[0])
        await peer.serve_loopback()

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", peer.address[1], local_hostname="c.test") as client:
                client._host = "peer.test"  # type: ignore[attr-defined]
                client.starttls(context=contexts[1])
                client.sendmail("a@c.test", ["b@peer.test"], b"Subject: s\r\n\r\nbody\r\n")

        await asyncio.to_thread(send)
        peer.close()
        return peer

    peer = asyncio.run(main())
    assert [(each.is_tls, each.content) for each in peer.messages] == [
        (True, b"Subject: s\r\n\r\nbody\r\n")
    ]


@pytest.mark.parametrize(
    ("starttls", "is_offered", "code", "behind"),
    [
        (Starttls.ABSENT, False, b"502", None),
        (Starttls.REFUSED, True, b"454", None),
        (Starttls.ABORTED, True, b"220", b""),
        (Starttls.GARBAGE, True, b"220", b"this is no TLS record at all, and never will be\r\n"),
        (Starttls.INJECTED, True, b"220", b"250-peer.test\r\n"),
    ],
)
def test_a_host_breaks_starttls(
    starttls: Starttls, is_offered: bool, code: bytes, behind: bytes | None
) -> None:
    async def main(world: World) -> None:
        peer = SmtpPeer(Personality(starttls=starttls), tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        await peer.serve(world.network, PEER)
        client = await call(world)
        await client.reply()
        client.transport.write(b"EHLO c.test\r\n")
        lines = []
        while not lines or lines[-1][3:4] == b"-":
            lines.append(await client.line())
        assert any(b"STARTTLS" in line for line in lines) is is_offered
        assert await client.say(b"STARTTLS") == [code]
        if behind is not None:
            client.transport.write(b"\x16\x03\x01 a ClientHello")
            assert await client.line() == behind
        else:
            assert await client.say(b"NOOP") == [b"250"]

    run_virtual(main)
