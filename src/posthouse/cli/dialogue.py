"""One SMTP session for `posthouse send`: submits a message, shows the dialogue, keeps secrets.

What is shown is taken between TLS and the client machine, so it is what both sides said. Lines that
carry credentials show `***`, and a message shows as its size.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import msgspec

from posthouse.cli.output import say
from posthouse.kernel.ids import TraceId
from posthouse.kernel.reply import Reply
from posthouse.kernel.secret import HIDDEN, Secret
from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import SmtpClient, Timeouts
from posthouse.net.stream import Stream, TlsStart, TlsTrouble
from posthouse.net.world import SystemClock, SystemNetwork
from posthouse.protocol.sasl.client import client_mechanism
from posthouse.protocol.smtp.client_events import (
    Authenticated,
    ClientEvent,
    Closed,
    MessageEnded,
    OutgoingMessage,
    Ready,
    Refused,
    SessionFailed,
    Stage,
    TlsAgreed,
)

LINE_SHOWN_OCTETS_MAX: Final = 500
_CHUNK: Final = re.compile(rb"(?i:BDAT) ([0-9]{1,20})")


class TlsUse(Enum):
    """What --tls may say."""

    AUTO = "auto"  # implicit on 465, else STARTTLS if it is offered
    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    host: str
    """As it was typed; certificates must carry `server_name`."""
    addresses: tuple[str, ...]
    port: int
    server_name: str
    tls: TlsUse
    """Never AUTO for port 465."""
    context: ssl.SSLContext
    name: str
    """Ours, for EHLO."""
    user: str | None = None
    password: Secret | None = None
    timeout_s: float = 30.0
    message: OutgoingMessage

    @property
    def place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Trouble(Enum):
    """Why a submission came to nothing, for the words that help."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"  # no greeting in time
    PLAINTEXT = "plaintext"  # it does not speak TLS from the start
    CERTIFICATE = "certificate"
    TLS = "tls"
    NO_STARTTLS = "no-starttls"
    NO_AUTH = "no-auth"
    UNSAFE_AUTH = "unsafe-auth"  # a password would go in plain text
    AUTH = "auth"  # the login was refused
    LOST = "lost"


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended."""

    ended: MessageEnded | None = None
    trouble: Trouble | None = None
    reply: Reply | None = None
    detail: str = ""


class Dialogue:
    """Shows lines as they go, both ways."""

    def __init__(self, show: Callable[[str], None] = say) -> None:
        self._show = show
        self._sent = b""
        self._received = b""
        self._is_secret = False  # between AUTH and its last reply
        self._is_content = False  # behind the reply to DATA
        self._content_octets = 0
        self._chunk_left = 0

    def note(self, words: str) -> None:
        self._show(f"== {words}")

    def received(self, octets: bytes) -> None:
        self._received += octets
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            self._show(f"<- {_text(line)}")
            if self._is_secret and line[:3] != b"334" and line[3:4] != b"-":
                self._is_secret = False
            if line[:3] == b"354":
                self._is_content = True

    def sent(self, octets: bytes) -> None:
        self._sent += octets
        while self._sent:
            if self._chunk_left:
                self._chunk_left -= (taken := len(self._sent[: self._chunk_left]))
                self._sent = self._sent[taken:]
                continue
            line, end, rest = self._sent.partition(b"\r\n")
            if not end:
                return
            self._sent = rest
            if self._is_content:
                self._content_line(line)
            else:
                self._command(line)

    def _content_line(self, line: bytes) -> None:
        if line != b".":
            self._content_octets += len(line) + 2
            return
        self._show(f"-> (message of {self._content_octets} octets)")
        self._show("-> .")
        self._is_content, self._content_octets = False, 0

    def _command(self, line: bytes) -> None:
        verb = line[:5].upper()
        if self._is_secret:
            self._show(f"-> {HIDDEN}")
        elif verb == b"AUTH ":
            self._is_secret = True
            words = line.split(b" ", 2)
            self._show(f"-> {_text(b' '.join(words[:2]))}{' ' + HIDDEN if words[2:] else ''}")
        else:
            self._show(f"-> {_text(line)}")
        if verb == b"BDAT " and (chunk := _CHUNK.match(line)):
            self._chunk_left = int(chunk[1])
            self._show(f"-> (message of {self._chunk_left} octets)")


def _text(line: bytes) -> str:
    return line.rstrip(b"\r")[:LINE_SHOWN_OCTETS_MAX].decode("utf-8", "replace")


class _ShownStream(Stream):
    """A stream that shows what is written to it."""

    __slots__ = ("_dialogue",)

    def __init__(self, handler: _ShownHandler, dialogue: Dialogue, **options: Any) -> None:
        super().__init__(handler, **options)
        self._dialogue = dialogue

    def write(self, octets: bytes) -> None:
        self._dialogue.sent(octets)
        super().write(octets)


class _ShownHandler:
    """Shows what is received and hands it on."""

    def __init__(self, client: SmtpClient, dialogue: Dialogue) -> None:
        self._client = client
        self._dialogue = dialogue
        self._stream: Stream | None = None
        self.ended = client.ended
        self.lost = client.lost
        self.writable = client.writable

    def connected(self, stream: Stream) -> None:
        self._stream = stream
        self._note_tls()
        self._client.connected(stream)

    def received(self, octets: bytes) -> None:
        self._dialogue.received(octets)
        self._client.received(octets)

    def tls_started(self) -> None:
        self._note_tls()
        self._client.tls_started()

    def _note_tls(self) -> None:
        tls = self._stream.tls if self._stream is not None else None
        if tls is not None:
            self._dialogue.note(f"{tls.version} with {tls.cipher}")


class _Session:
    """Reacts to what the client machine tells."""

    def __init__(self, wish: Submission, deadlines: Deadlines, dialogue: Dialogue) -> None:
        self.done: asyncio.Future[Submitted] = asyncio.get_running_loop().create_future()
        self._wish = wish
        self._dialogue = dialogue
        self._result = Submitted()
        self._is_logged_in = False
        timeout_s = wish.timeout_s
        self.client = SmtpClient(
            name=wish.name,
            timeouts=Timeouts(
                connect_s=timeout_s,
                helo_s=timeout_s,
                tls_s=timeout_s,
                mail_s=timeout_s,
                rcpt_s=timeout_s,
                data_s=timeout_s,
                block_s=timeout_s,
            ),
            deadlines=deadlines,
            on_event=self._on_event,
            is_tls=wish.tls is TlsUse.IMPLICIT,
        )

    def _on_event(self, event: ClientEvent) -> None:
        match event:
            case Ready():
                self._ready(event)
            case TlsAgreed():
                self.client.handshake(self._wish.context, server_name=self._wish.server_name)
            case Authenticated():
                self.client.send(self._wish.message)
            case Refused(stage=Stage.AUTH):
                self._give_up(Trouble.AUTH, event.reply)
            case Refused():
                self._give_up(Trouble.NO_STARTTLS, event.reply)
            case MessageEnded():
                self._result = Submitted(ended=event)
                self.client.quit()
            case SessionFailed():
                self._failed(event)
            case Closed():
                self._finish(self._result)

    def _ready(self, event: Ready) -> None:
        wish = self._wish
        if not event.is_tls and wish.tls in (TlsUse.AUTO, TlsUse.STARTTLS):
            if event.extensions.is_starttls:
                self.client.start_tls()
                return
            if wish.tls is TlsUse.STARTTLS:
                self._give_up(Trouble.NO_STARTTLS)
                return
        if wish.user is None or wish.password is None:
            self.client.send(wish.message)
            return
        mechanism = client_mechanism(event.extensions.mechanisms, wish.user, wish.password.reveal())
        is_local = all(ipaddress.ip_address(a).is_loopback for a in wish.addresses)
        if not event.is_tls and not is_local:
            self._give_up(Trouble.UNSAFE_AUTH)
        elif mechanism is None:
            self._give_up(Trouble.NO_AUTH)
        else:
            self.client.authenticate(mechanism, is_plaintext_allowed=is_local)

    def _give_up(self, trouble: Trouble, reply: Reply | None = None) -> None:
        self._result = Submitted(trouble=trouble, reply=reply)
        self.client.quit()

    def _failed(self, event: SessionFailed) -> None:
        if self._result != Submitted():  # all that mattered was over
            self._finish(self._result)
            return
        failure = self.client.tls_failure
        detail = failure.text if failure is not None else event.detail
        trouble = Trouble.LOST
        if failure is not None:
            trouble = {
                TlsTrouble.PLAINTEXT: Trouble.PLAINTEXT,
                TlsTrouble.CERTIFICATE: Trouble.CERTIFICATE,
            }.get(failure.trouble, Trouble.TLS)
        elif event.stage is Stage.GREETING and event.reply is None and "in time" in detail:
            trouble = Trouble.SILENT
        self._finish(Submitted(trouble=trouble, reply=event.reply, detail=detail))

    def _finish(self, result: Submitted) -> None:
        if not self.done.done():
            self.done.set_result(result)


async def submit(wish: Submission, dialogue: Dialogue) -> Submitted:
    """Connect to the first address that answers and submit the message there."""
    deadlines = Deadlines(SystemClock())
    watch = asyncio.create_task(deadlines.run())
    try:
        result = Submitted(trouble=Trouble.UNREACHABLE)
        for address in wish.addresses:  # at most `send.ADDRESSES_MAX`
            session = _Session(wish, deadlines, dialogue)
            try:
                await _connect(wish, session, address, deadlines, dialogue)
            except OSError as error:
                words = os.strerror(error.errno) if error.errno else "no answer in time"
                dialogue.note(f"{address} port {wish.port}: {words}")
                result = Submitted(trouble=Trouble.UNREACHABLE, detail=words)
                continue
            return await session.done
        return result
    finally:
        watch.cancel()


async def _connect(
    wish: Submission, session: _Session, address: str, deadlines: Deadlines, dialogue: Dialogue
) -> None:
    tls = None
    if wish.tls is TlsUse.IMPLICIT:
        tls = TlsStart(
            context=wish.context,
            server_side=False,
            server_name=wish.server_name,
            handshake_s=wish.timeout_s,
        )
    dialogue.note(f"connecting to {address} port {wish.port}")
    handler = _ShownHandler(session.client, dialogue)
    await SystemNetwork().connect(
        lambda: _ShownStream(
            handler, dialogue, trace_id=TraceId("send"), deadlines=deadlines, tls=tls
        ),
        address,
        wish.port,
        timeout_s=wish.timeout_s,
    )
