"""A client that says what it is told, line by line: for tests, the lab and simulated traffic.

It knows lines and the shape of SMTP replies, nothing else, so that it can say what no honest
client would.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Clock, Network
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Stream, TlsStart

PATIENCE_S: Final = 60.0
CONNECT_S: Final = 10.0


class Gone(ConnectionError):
    """The connection ended, or nothing came in time, while something was waited for."""


class Talk:
    """One connection. Made by `open`."""

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        self.inbox = bytearray()
        self.is_lost = False
        self.error: Exception | None = None
        self.stream: Stream
        self._patience_s = patience_s
        self._news = asyncio.Event()
        self._is_secret = asyncio.Event()

    @classmethod
    async def open(
        cls,
        network: Network,
        address: str,
        port: int,
        *,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        local_address: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> Talk:
        """Args:
        tls: handshake first.

        Raises:
            OSError: no connection.
            Gone: no TLS.
        """
        talk = cls(patience_s=patience_s)
        start = TlsStart(context=tls, server_side=False) if tls is not None else None
        deadlines = Deadlines(clock)
        talk.stream = Stream(talk, trace_id=TraceId("talk"), deadlines=deadlines, tls=start)
        await network.connect(
            lambda: talk.stream, address, port, timeout_s=CONNECT_S, local_address=local_address
        )
        if tls is not None:
            await talk._wait(lambda: talk.stream.tls is not None)
        return talk

    # --- what one says ---

    def send(self, octets: bytes) -> None:
        """As they are; nothing is added."""
        self.stream.write(octets)

    async def flushed(self) -> None:
        """Wait until the system took what was sent, as far as the peer reads it."""
        await self._wait(lambda: self.stream.is_writable)

    async def say(self, line: bytes) -> bytes:
        """A line, and the reply to it."""
        self.send(line + b"\r\n")
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """After the 220 to STARTTLS."""
        self.stream.start_tls(context, server_side=False)
        await self._wait(self._is_secret.is_set)

    def close(self) -> None:
        self.stream.close()

    def abort(self) -> None:
        """Drop the line without a word."""
        self.stream.abort()

    # --- what one hears ---

    async def line(self) -> bytes:
        """The next line, without CRLF.

        Raises:
            Gone: there is none.
        """
        await self._wait(lambda: b"\n" in self.inbox)
        line, _, rest = bytes(self.inbox).partition(b"\n")
        self.inbox[:] = rest
        return line.removesuffix(b"\r")

    async def reply(self) -> bytes:
        """A whole SMTP reply, its lines divided by CRLF."""
        lines = [await self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.line())
        return b"\r\n".join(lines)

    async def replies(self, count: int) -> list[bytes]:
        return [await self.reply() for _ in range(count)]

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        while not self.is_lost:
            await self._pause()
        octets = bytes(self.inbox)
        self.inbox.clear()
        return octets

    async def _wait(self, is_there: Callable[[], bool]) -> None:
        while not is_there():
            if self.is_lost:
                raise Gone(f"the connection ended: {self.error or bytes(self.inbox)!r}")
            await self._pause()

    async def _pause(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._news.wait()
        except TimeoutError:
            raise Gone("nothing came in time") from None

    # --- Handler ---

    def connected(self, stream: Stream) -> None:
        self._news.set()

    def received(self, octets: bytes) -> None:
        self.inbox += octets
        self._news.set()

    def tls_started(self) -> None:
        self._is_secret.set()
        self._news.set()

    def ended(self) -> None:
        self.stream.close()

    def lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self.error = error
        self._news.set()

    def writable(self) -> None:
        self._news.set()


def stuffed(octets: bytes) -> bytes:
    """A message as DATA carries it, with the final dot (RFC 5321 §4.5.2)."""
    lines = octets.replace(b"\r\n.", b"\r\n..")
    if lines.startswith(b"."):
        lines = b"." + lines
    return lines + (b".\r\n" if lines.endswith(b"\r\n") else b"\r\n.\r\n")


def plain(name: str, password: str) -> bytes:
    """The initial response of AUTH PLAIN (RFC 4616)."""
    return base64.b64encode(b"\0" + name.encode() + b"\0" + password.encode())


async def log_in(talk: Talk, name: str, password: str, context: ssl.SSLContext) -> bytes:
    """STARTTLS where TLS is not on, then AUTH PLAIN; the reply to it. The greeting was read."""
    await talk.say(b"EHLO client.example")
    if talk.stream.tls is None:
        await talk.say(b"STARTTLS")
        await talk.start_tls(context)
        await talk.say(b"EHLO client.example")
    return await talk.say(b"AUTH PLAIN " + plain(name, password))


async def transact(
    talk: Talk, sender: str, recipients: Sequence[str], octets: bytes
) -> tuple[bytes, list[bytes]]:
    """One transaction after EHLO: the reply that decided the message, and those to RCPT.

    Without an accepted recipient the message is not sent, and the last refusal decides.
    """
    reply = await talk.say(f"MAIL FROM:<{sender}>".encode())
    if not reply.startswith(b"2"):
        return reply, []
    answers = [await talk.say(f"RCPT TO:<{to}>".encode()) for to in recipients]
    if not any(answer.startswith(b"2") for answer in answers):
        await talk.say(b"RSET")
        return answers[-1], answers
    reply = await talk.say(b"DATA")
    if not reply.startswith(b"3"):
        return reply, answers
    talk.send(stuffed(octets))
    return await talk.reply(), answers
