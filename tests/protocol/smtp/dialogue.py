"""Dialogues: text files of what a client sends and what a server must answer.

A file has settings (`mode:`, `tls:`, `hello:`, `limits:`, `bare_newlines:`, `cuts: no`) and
steps:

    C: text       send the line with CRLF; lines of C: and C~ that follow each other are one segment
    C~ bytes      send a Python expression of bytes as it is
    S: text       the next reply's last line begins so
    S~ pattern    the next reply, all its lines, matches somewhere
    T:            TLS is up, both sides know
    X: reason     the server closes; the reason, when one is given, is the machine's
    M= bytes      the last message received is exactly this      (machine only)
    M# count      messages received so far                       (machine only)

`run_dialogue` plays against anything that is a `Peer`: the machine here, a socket elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from posthouse.kernel.reply import Reply
from posthouse.protocol.sasl.events import Challenge, Credentials, Failure
from posthouse.protocol.sasl.server import ServerMechanism, server_mechanism
from posthouse.protocol.smtp import replies
from posthouse.protocol.smtp.events import (
    AuthResponded,
    AuthStarted,
    DataRequested,
    Event,
    HelloReceived,
    MessageReceived,
    RecipientOffered,
    SenderOffered,
    SessionEnded,
    StartTlsReceived,
)
from posthouse.protocol.smtp.limits import BareNewlines, Limits, Mode, ServerHello
from posthouse.protocol.smtp.server import ServerSession

FOLDER = Path(__file__).parent.parent.parent / "dialogues" / "smtp"
FULL = Reply(452, "4.2.2", "Mailbox full")
CREDENTIALS = ("user@testserver", "secretpassword")


class Step(msgspec.Struct, frozen=True):
    kind: str
    """One of C S ~ T X = #."""
    value: Any
    line: int


class Dialogue(msgspec.Struct, frozen=True):
    name: str
    settings: dict[str, str]
    steps: tuple[Step, ...]

    @property
    def may_be_cut(self) -> bool:
        return self.settings.get("cuts") != "no"


def read_dialogue(path: Path) -> Dialogue:
    settings: dict[str, str] = {}
    steps: list[Step] = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        if line[1] not in ":~=#":
            key, _, value = line.partition(": ")
            settings[key] = value
            continue
        mark, text = line[:2], line[3:]
        if mark == "C:":
            steps.append(Step("C", text.encode() + b"\r\n", number))
        elif mark == "C~":
            steps.append(Step("C", _octets(text), number))
        elif mark == "M=":
            steps.append(Step("=", _octets(text), number))
        elif mark == "M#":
            steps.append(Step("#", int(text), number))
        else:
            kind = {"S:": "S", "S~": "~", "T:": "T", "X:": "X"}[mark]
            steps.append(Step(kind, text, number))
    return Dialogue(path.stem, settings, tuple(steps))


def _octets(text: str) -> bytes:
    value = eval(text, {"__builtins__": {}})  # our own files only
    assert isinstance(value, bytes), text
    return value


def all_dialogues() -> list[Dialogue]:
    return [read_dialogue(path) for path in sorted(FOLDER.glob("*.txt"))]


class Peer(Protocol):
    def send(self, octets: bytes) -> None: ...

    def read_line(self) -> bytes | None:
        """The next line of a reply with its CRLF; None when the server has closed."""
        ...

    def start_tls(self) -> None: ...


def run_dialogue(dialogue: Dialogue, peer: Peer) -> None:
    """Fails with the file's line number."""
    pending: list[bytes] = []
    for step in dialogue.steps:
        where = f"{dialogue.name}.txt:{step.line}"
        if step.kind == "C":
            pending.append(step.value)
            continue
        if pending:
            peer.send(b"".join(pending))
            pending.clear()
        if step.kind in "S~":
            reply = read_reply(peer)
            shown = reply.decode("utf-8", "replace")
            if step.kind == "~":
                assert re.search(step.value, shown, re.DOTALL), f"{where}: {shown!r}"
            else:
                last = shown.splitlines()[-1] if shown else "nothing"
                assert last.startswith(step.value), f"{where}: wanted {step.value}, got {shown!r}"
        elif step.kind == "T":
            peer.start_tls()
        elif step.kind == "X":
            rest = peer.read_line()
            assert rest is None, f"{where}: {rest!r} instead of the end"
            if isinstance(peer, MachinePeer):
                assert peer.ended is not None, where
                assert step.value in ("", peer.ended), f"{where}: {peer.ended}"
        elif isinstance(peer, MachinePeer):
            found = len(peer.messages) if step.kind == "#" else peer.messages[-1]
            assert found == step.value, where
    if isinstance(peer, MachinePeer):
        assert peer.read_line() is None, f"{dialogue.name}: more replies than expected"


def read_reply(peer: Peer) -> bytes:
    lines = b""
    while (line := peer.read_line()) is not None:
        lines += line
        if line[3:4] != b"-":
            break
    return lines


def decide(event: RecipientOffered | SenderOffered) -> Reply:
    """A little policy for dialogues: some local-parts have a meaning."""
    if isinstance(event, SenderOffered):
        refused = event.reverse_path is not None and event.reverse_path.local_part == "refused"
        return Reply(550, "5.7.1", "Not you") if refused else replies.SENDER_OK
    if event.address.local_part.startswith("unknown"):
        return replies.UNKNOWN_USER
    if event.address.local_part.startswith("later"):
        return Reply(451, "4.7.1", "Come back later")
    return replies.RECIPIENT_OK


class MachinePeer:
    """A server session with a driver that decides by `decide`."""

    def __init__(
        self,
        settings: dict[str, str] | None = None,
        *,
        limits: Limits | None = None,
        cut: Callable[[bytes], Iterable[bytes]] = lambda octets: (octets,),
    ) -> None:
        """
        Args:
            cut: into what segments the network makes of what is sent.
        """
        settings = settings or {}
        self.session = ServerSession(
            limits=limits or Limits(**_numbers(settings.get("limits", ""))),
            hello=ServerHello(
                host="mx.example",
                mechanisms=tuple(
                    filter(None, settings.get("hello", "").removeprefix("mechanisms=").split(","))
                ),
                bare_newlines=BareNewlines(settings.get("bare_newlines", "refuse")),
            ),
            mode=Mode(settings.get("mode", "mx")),
            is_tls=settings.get("tls") == "yes",
        )
        self.events: list[Event] = []
        self.messages: list[bytes] = []
        self.ended: str | None = None
        self.delays_s = 0.0
        self.written = b""
        self._cut = cut
        self._exchange: ServerMechanism | None = None
        self._names: list[str] = []
        self._at = 0
        self.session.greet()
        self.drive()

    def send(self, octets: bytes) -> None:
        for segment in self._cut(octets):
            self.session.receive(segment)
            self.drive()

    def read_line(self) -> bytes | None:
        end = self.written.find(b"\n", self._at) + 1
        if end == 0:
            return None
        line, self._at = self.written[self._at : end], end
        return line

    def start_tls(self) -> None:
        self.session.tls_started()

    def drive(self) -> None:
        while True:
            event = self.session.next_event()
            if event is None:
                self.delays_s += self.session.delay_s
                out = self.session.take_outgoing()
                if not out:
                    return
                self.written += out
                continue
            self.events.append(event)
            self._answer(event)

    def _answer(self, event: Event) -> None:
        session = self.session
        match event:
            case HelloReceived():
                session.accept_hello()
            case StartTlsReceived():
                session.accept_starttls()
            case AuthStarted():
                self._exchange = server_mechanism(event.mechanism)
                self._step(event.initial)
            case AuthResponded():
                self._step(event.response)
            case SenderOffered():
                self._names = []
                session.answer(decide(event))
            case RecipientOffered():
                reply = decide(event)
                if reply.is_positive:
                    self._names.append(event.address.local_part)
                session.answer(reply)
            case DataRequested():
                session.accept_data()
            case MessageReceived():
                self.messages.append(event.octets)
                if session.mode is Mode.LMTP:
                    session.answer_each(
                        [FULL if name == "full" else replies.MESSAGE_OK for name in self._names]
                    )
                else:
                    session.answer(replies.MESSAGE_OK)
            case SessionEnded():
                self.ended = event.reason

    def _step(self, response: bytes | None) -> None:
        assert self._exchange is not None
        match self._exchange.step(response):
            case Challenge(octets=octets):
                self.session.challenge(octets)
            case Credentials() as credentials:
                if (credentials.authentication_id, credentials.password) == CREDENTIALS:
                    self.session.accept_auth()
                else:
                    self.session.answer(replies.AUTH_FAILED)
            case Failure(is_malformed=is_malformed):
                self.session.answer(replies.AUTH_MALFORMED if is_malformed else replies.AUTH_FAILED)


def _numbers(text: str) -> dict[str, int]:
    words = (word.split("=") for word in text.split())
    return {name: int(value) for name, value in words}
