"""What a port says to somebody who comes from outside: a greeting, STARTTLS, a certificate.

A session of its own, because it wants what clients throw away: the greeting's words and the chain
of an untrusted certificate. It sends EHLO, STARTTLS and QUIT, never a message.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import msgspec

from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Network
from posthouse.kernel.reply import Reply
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Stream, TlsStart
from posthouse.protocol.smtp.reply_reader import Nonsense, ReplyReader
from posthouse.tls.contexts import opportunistic_client_context

TIMEOUT_S: Final = 15.0


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard. `trouble` says in words why there is no more."""

    is_open: bool = False
    greeting: str = ""
    """Of SMTP: the text of the 220."""
    hello: str = ""
    """Of SMTP: the name in the reply to EHLO."""
    has_starttls: bool = False
    tls_version: str = ""
    """ "" without TLS."""
    chain: tuple[bytes, ...] = ()
    """DER, leaf first, whatever it is worth."""
    trouble: str = ""


class _Session:
    """A `Handler` that goes through the steps and then closes."""

    def __init__(self, *, name: str, server_name: str, is_smtp: bool) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.found = Probed(is_open=True)
        self._name = name
        self._server_name = server_name
        self._is_smtp = is_smtp
        self._reader = ReplyReader()
        self._step = "greeting"
        self._stream: Stream | None = None

    def connected(self, stream: Stream) -> None:
        self._stream = stream
        if stream.is_tls:
            self._note_tls(stream)
        if not self._is_smtp:
            stream.close()

    def received(self, octets: bytes) -> None:
        self._reader.receive(octets)
        while (reply := self._reader.next_reply()) is not None:
            if isinstance(reply, Nonsense):
                return self._end(f"it does not speak SMTP: {reply.words}")
            self._answered(reply)
        return None

    def _answered(self, reply: Reply) -> None:
        stream = self._stream
        assert stream is not None
        if self._step == "greeting":
            self.found = msgspec.structs.replace(self.found, greeting=reply.text)
            if reply.code != 220:
                return self._end(f"it greets with {reply}")
            self._step = "ehlo"
            stream.write(f"EHLO {self._name}\r\n".encode("ascii", "replace"))
        elif self._step == "ehlo":
            self._heard_hello(reply, stream)
        elif self._step == "starttls":
            if reply.code != 220:
                return self._end(f"it answers STARTTLS with {reply}")
            self._step = "tls"
            stream.start_tls(
                opportunistic_client_context(), server_side=False, server_name=self._server_name
            )
        return None

    def _heard_hello(self, reply: Reply, stream: Stream) -> None:
        if reply.code != 250:
            return self._end(f"it answers EHLO with {reply}")
        first, *others = reply.text.split("\n")
        has_starttls = "STARTTLS" in (line.split(" ")[0].upper() for line in others)
        self.found = msgspec.structs.replace(
            self.found, hello=first.split(" ")[0], has_starttls=has_starttls
        )
        if not has_starttls or stream.is_tls:
            return self._end("")
        self._step = "starttls"
        stream.write(b"STARTTLS\r\n")
        return None

    def tls_started(self) -> None:
        assert self._stream is not None
        self._note_tls(self._stream)
        self._end("")

    def _note_tls(self, stream: Stream) -> None:
        tls = stream.tls
        self.found = msgspec.structs.replace(
            self.found, tls_version=tls.version if tls else "", chain=stream.peer_chain()
        )

    def _end(self, trouble: str) -> None:
        self.found = msgspec.structs.replace(self.found, trouble=trouble)
        if self._stream is not None:
            self._stream.write(b"QUIT\r\n" if self._is_smtp else b"")
            self._stream.close()

    def ended(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def lost(self, error: Exception | None) -> None:
        if error is not None and not self.found.trouble and not self.found.tls_version:
            self.found = msgspec.structs.replace(self.found, trouble=str(error))
        if not self.done.done():
            self.done.set_result(None)

    def writable(self) -> None:
        pass


async def probe(
    network: Network,
    address: str,
    port: int,
    *,
    name: str,
    server_name: str,
    deadlines: Deadlines,
    is_smtp: bool,
    is_tls: bool,
    timeout_s: float = TIMEOUT_S,
) -> Probed:
    """Never raises for what the network or the other side does.

    Args:
        name: ours, for EHLO.
        server_name: for SNI.
        is_smtp: speak SMTP; else only connect, with TLS where `is_tls` says so.
        is_tls: TLS from the start.
    """
    session = _Session(name=name, server_name=server_name, is_smtp=is_smtp)
    tls = _start(server_name, timeout_s) if is_tls else None
    try:
        async with asyncio.timeout(timeout_s):
            await network.connect(
                lambda: Stream(session, trace_id=TraceId("probe"), deadlines=deadlines, tls=tls),
                address,
                port,
                timeout_s=timeout_s,
            )
            await session.done
    except TimeoutError:
        words = "nothing answers" if not session.found.greeting else "it stops answering"
        return msgspec.structs.replace(session.found, is_open=False, trouble=f"{words} in time")
    except OSError as error:
        return Probed(trouble=(error.strerror or str(error) or "unreachable").lower())
    return session.found


def _start(server_name: str, timeout_s: float) -> TlsStart:
    context: ssl.SSLContext = opportunistic_client_context()
    return TlsStart(
        context=context, server_side=False, server_name=server_name, handshake_s=timeout_s
    )
