"""A server on loopback that does what a test tells it: replies as scripted, silence, dropped lines,
TLS where plain text is expected and the other way round."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final

DROP: Final = "(drop)"
"""In the place of a reply: the line breaks."""
SILENCE: Final = "(silence)"
"""In the place of a reply: none comes."""
USUAL: Final = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000", "DSN")

_REPLIES: Final[Mapping[str, str]] = {
    "GREETING": "220 bad.test ESMTP",
    "EHLO": "",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "DOT": "250 2.0.0 ok: queued as Q{n}",
    "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}
_ADDRESS: Final = re.compile(r"<([^>]*)>")


class Taken:
    """One message that was taken."""

    def __init__(self, sender: str, recipients: list[str], octets: bytes, parameters: str) -> None:
        self.sender = sender
        self.recipients = recipients
        self.octets = octets
        self.parameters = parameters
        """Of MAIL."""


class BadServer:
    """`async with BadServer(…) as server`: it listens at `server.port`."""

    def __init__(
        self,
        *,
        extensions: Sequence[str] = USUAL,
        replies: Mapping[str, str | Sequence[str]] | None = None,
        context: ssl.SSLContext | None = None,
        is_implicit: bool = False,
        is_lmtp: bool = False,
        drop_after_content_octets: int | None = None,
        challenges: Sequence[bytes] = (),
        host: str = "127.0.0.1",
        socket_path: str = "",
    ) -> None:
        """Args:
        replies: by command (and GREETING, DOT); several are given in turn, the last again and
            again. DROP and SILENCE say what they say.
        challenges: of AUTH, before its reply.
        """
        self._extensions = list(extensions)
        given = {k: [v] if isinstance(v, str) else list(v) for k, v in (replies or {}).items()}
        self._replies = {**{k: [v] for k, v in _REPLIES.items()}, **given}
        self._context = context
        self._is_implicit = is_implicit
        self._is_lmtp = is_lmtp
        self._drop_after = drop_after_content_octets
        self._challenges = list(challenges)
        self._host = host
        self._socket_path = socket_path
        """Of a Unix socket, in the place of host and port."""
        self.commands: list[str] = []
        self.auth_lines: list[str] = []
        """What came in answer to AUTH and its challenges, decoded."""
        self.taken: list[Taken] = []
        self.connections = 0
        self.open = 0
        self.open_most = 0
        self.port = 0

    async def __aenter__(self) -> BadServer:
        context = self._context if self._is_implicit else None
        if self._socket_path:
            self._server = await asyncio.start_unix_server(self._serve, self._socket_path)
        else:
            self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=context)
            self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.open_most = max(self.open, self.open_most)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await _Talk(self, reader, writer).run()
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.transport.abort()

    def reply(self, verb: str) -> str:
        scripted = self._replies.get(verb, ["502 5.5.1 what?"])
        return scripted.pop(0) if len(scripted) > 1 else scripted[0]


class _Talk:
    def __init__(
        self, server: BadServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.is_tls = server._is_implicit
        self.sender = ""
        self.parameters = ""
        self.recipients: list[str] = []
        self.is_over = False
        self.has_sender = False

    async def say(self, verb: str) -> str:
        reply = self.server.reply(verb)
        if reply == DROP:
            self.is_over = True
            self.writer.transport.abort()
            return ""
        if reply == SILENCE:
            await asyncio.Event().wait()
        await self.write(reply)
        return reply

    async def write(self, reply: str) -> None:
        self.writer.write(reply.encode("utf-8").replace(b"\n", b"\r\n") + b"\r\n")
        await self.writer.drain()

    async def run(self) -> None:
        if not (await self.say("GREETING")).startswith("220"):
            return
        while not self.is_over and (line := await self.reader.readline()):
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self.server.commands.append(text)
            await self.command(text)

    async def command(self, text: str) -> None:
        verb = text.split(" ")[0].upper()
        match verb:
            case "EHLO" | "LHLO" | "HELO":
                await self.hello()
            case "STARTTLS":
                if (await self.say("STARTTLS")).startswith("220"):
                    await self.start_tls()
            case "AUTH":
                await self.auth(text)
            case "MAIL":
                self.recipients, self.has_sender = [], False
                if (await self.say("MAIL")).startswith("250"):
                    found = _ADDRESS.search(text)
                    self.sender = found[1] if found else ""
                    self.parameters = text.partition(">")[2].strip()
                    self.has_sender = True
            case "RCPT" if not self.has_sender:
                await self.write("503 5.5.1 MAIL first")
            case "RCPT":
                if (await self.say("RCPT")).startswith("250"):
                    found = _ADDRESS.search(text)
                    self.recipients.append(found[1] if found else "")
            case "DATA" if not self.recipients:
                await self.write("554 5.5.1 no valid recipients")
            case "DATA":
                if (await self.say("DATA")).startswith("354"):
                    await self.content()
            case "QUIT":
                await self.say("QUIT")
                self.is_over = True
            case _:
                await self.say(verb)

    async def hello(self) -> None:
        scripted = self.server.reply("EHLO")
        if scripted == DROP:
            self.is_over = True
        elif scripted:
            await self.write(scripted)
        else:
            offered = list(self.server._extensions)
            if self.server._context is not None and not self.is_tls:
                offered.append("STARTTLS")
            lines = ["bad.test", *offered]
            text = "\n".join(f"250-{line}" for line in lines[:-1])
            await self.write(f"{text}\n250 {lines[-1]}" if text else f"250 {lines[-1]}")

    async def start_tls(self) -> None:
        assert self.server._context is not None
        await self.writer.start_tls(self.server._context)
        self.is_tls = True

    async def auth(self, text: str) -> None:
        words = text.split(" ")
        if len(words) > 2:
            self.keep(words[2])
        for challenge in self.server._challenges:
            await self.write(f"334 {base64.b64encode(challenge).decode()}")
            line = (await self.reader.readline()).decode().strip()
            self.keep(line)
        await self.say("AUTH")

    def keep(self, line: str) -> None:
        decoded = base64.b64decode(line) if line not in ("*", "=") else line.encode()
        self.server.auth_lines.append(decoded.decode("utf-8", "replace"))

    async def content(self) -> None:
        server = self.server
        octets = b""
        while not octets.endswith(b"\r\n.\r\n") and octets != b".\r\n":
            line = await self.reader.readline()
            if not line:
                return
            octets += line
            if server._drop_after is not None and len(octets) > server._drop_after:
                self.is_over = True
                self.writer.transport.abort()
                return
        content = octets[:-3].replace(b"\r\n..", b"\r\n.")
        for _ in self.recipients if server._is_lmtp else [""]:
            reply = server.reply("DOT").replace("{n}", str(len(server.taken) + 1))
            if reply == DROP:
                self.is_over = True
                self.writer.transport.abort()
                return
            if reply == SILENCE:
                await asyncio.Event().wait()
            await self.write(reply)
        if reply.startswith("250"):
            taken = Taken(self.sender, list(self.recipients), content, self.parameters)
            server.taken.append(taken)
