"""One SMTP session as a client: drives `protocol.smtp.client` over a `Stream`.

No task and no timer for a command: octets come in by callback, what they mean goes to `on_event`,
and everything to be written leaves in one write. Deadlines are those of RFC 5321 §4.5.3.2, one for
what is being waited for and one for each message as a whole, so that a peer which drips octets or
takes messages slowly is cut off (F27).
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol

import msgspec

from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Network
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Stream, TlsFailure, TlsInfo, TlsStart, TlsTrouble, lost_words
from posthouse.protocol.sasl.client import ClientMechanism
from posthouse.protocol.smtp.client import ClientSession
from posthouse.protocol.smtp.client_events import (
    ClientEvent,
    Closed,
    MessageEnded,
    OutgoingMessage,
    SessionFailed,
    Stage,
)
from posthouse.protocol.smtp.extensions import Extensions
from posthouse.protocol.smtp.reply_reader import ReplyReader

QUIT_S: Final = 5.0
"""How long the reply to QUIT is waited for; nothing hangs on it."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds; RFC 5321 §4.5.3.2 gives the least of most of them."""

    connect_s: float = 30.0
    helo_s: float = 300.0
    tls_s: float = 20.0
    mail_s: float = 300.0
    rcpt_s: float = 300.0
    data_s: float = 120.0
    block_s: float = 180.0
    dot_s: float = 600.0
    idle_s: float = 10.0
    """How long a session is kept for the next message."""
    attempt_s: float = 900.0
    """One message, beside what sending takes at `data_rate_min`."""
    data_rate_min: int = 500
    """Octets a second."""

    def of(self, stage: Stage) -> float:
        match stage:
            case Stage.GREETING | Stage.EHLO | Stage.STARTTLS | Stage.AUTH | Stage.RSET:
                return self.helo_s
            case Stage.MAIL:
                return self.mail_s
            case Stage.RCPT:
                return self.rcpt_s
            case Stage.DATA:
                return self.data_s
            case Stage.BLOCK:
                return self.block_s
            case Stage.DOT:
                return self.dot_s
            case Stage.QUIT:
                return QUIT_S
            case Stage.IDLE:
                return self.idle_s

    def of_message(self, octets: int) -> float:
        return self.attempt_s + octets / self.data_rate_min


class SessionWatch(Protocol):
    """Sees the octets of a session in the clear, as they go; it must not raise."""

    def sent(self, octets: bytes) -> None: ...

    def received(self, octets: bytes) -> None: ...

    def tls_began(self, tls: TlsInfo) -> None: ...


class Milestone(Enum):
    """What no event tells, for whoever times a session."""

    PROTECTED = auto()  # TLS is up, by STARTTLS or from the first octet on
    CONTENT = auto()  # the envelope of the oldest message is answered; perhaps told twice


_CONTENT: Final = frozenset({Stage.BLOCK, Stage.DOT})


class SmtpClient:
    """A `Handler` of its stream. `on_event` gets every event of the session, also those that
    follow from a lost line, the last one being `SessionFailed` or `Closed`; nothing comes after.

    A TLS handshake that fails ends the session with `tls_failure` set.
    """

    __slots__ = (
        "_deadlines",
        "_is_ended",
        "_is_handshaking",
        "_is_pumping",
        "_message_deadlines",
        "_on_event",
        "_on_milestone",
        "_stage",
        "_stream",
        "_timeouts",
        "_watch",
        "deadline_s",
        "session",
        "tls_failure",
    )

    def __init__(
        self,
        *,
        name: str,
        timeouts: Timeouts,
        deadlines: Deadlines,
        on_event: Callable[[ClientEvent], None],
        reader: ReplyReader | None = None,
        is_tls: bool = False,
        is_lmtp: bool = False,
        watch: SessionWatch | None = None,
        on_milestone: Callable[[Milestone], None] | None = None,
    ) -> None:
        """Args:
        name: ours, for EHLO.
        is_tls: the stream begins with TLS.
        is_lmtp: the server speaks LMTP (RFC 2033).
        """
        self.session = ClientSession(name=name, is_tls=is_tls, is_lmtp=is_lmtp, reader=reader)
        self.tls_failure: TlsFailure | None = None
        self.deadline_s = math.inf
        self._timeouts = timeouts
        self._deadlines = deadlines
        self._on_event = on_event
        self._watch = watch
        self._on_milestone = on_milestone
        self._stream: Stream | None = None
        self._stage: Stage | None = None
        self._message_deadlines: deque[float] = deque()
        self._is_pumping = False
        self._is_handshaking = False
        self._is_ended = False

    # --- for the caller ---

    @property
    def extensions(self) -> Extensions:
        return self.session.extensions

    @property
    def wants_message(self) -> bool:
        """A message given to `send` now leaves at once."""
        return self.session.wants_message and not self._is_ended

    @property
    def is_idle(self) -> bool:
        return self.session.is_idle

    @property
    def tls(self) -> TlsInfo | None:
        return self._stream.tls if self._stream is not None else None

    def peer_chain(self) -> tuple[bytes, ...]:
        """The host's certificates as DER, leaf first; empty without TLS."""
        return self._stream.peer_chain() if self._stream is not None else ()

    @property
    def local_address(self) -> str:
        """Our end of the connection; "" where there is none."""
        return self._stream.local.address if self._stream is not None else ""

    def send(self, message: OutgoingMessage) -> None:
        seconds = self._timeouts.of_message(len(message.octets))
        self._message_deadlines.append(self._deadlines.after_s(seconds))
        self.session.send(message)
        self._pump()

    def start_tls(self) -> None:
        """Send STARTTLS; `handshake` follows upon `TlsAgreed`."""
        self.session.start_tls()
        self._pump()

    def handshake(self, context: ssl.SSLContext, *, server_name: str) -> None:
        assert self._stream is not None
        self._is_handshaking = True
        self._stream.start_tls(
            context,
            server_side=False,
            server_name=server_name,
            handshake_s=self._timeouts.tls_s,
        )

    def authenticate(
        self, mechanism: ClientMechanism, *, is_plaintext_allowed: bool = False
    ) -> None:
        self.session.authenticate(mechanism, is_plaintext_allowed=is_plaintext_allowed)
        self._pump()

    def quit(self) -> None:
        """Say goodbye if that is in order, else close."""
        if self.session.is_idle:
            self.session.quit()
            self._pump()
        else:
            self.abort("closed by us")

    def abort(self, detail: str) -> None:
        """Close at once; what is under way ends as if the line had broken."""
        self.session.connection_lost(detail)
        self._pump()

    # --- what the stream and the deadlines call ---

    def connected(self, stream: Stream) -> None:
        self._stream = stream
        self._tell_tls()
        self._deadlines.add(self)
        self._pump()

    def received(self, octets: bytes) -> None:
        if self._watch is not None:
            self._watch.received(octets)
        self.session.receive(octets)
        self._pump()

    def tls_started(self) -> None:
        self._is_handshaking = False
        self._tell_tls()
        self.session.tls_started()
        self._pump()

    def ended(self) -> None:
        self.abort("the other host closed the connection")

    def lost(self, error: Exception | None) -> None:
        if isinstance(error, TlsFailure):
            self.tls_failure = error
        elif self._is_handshaking:
            words = (
                f"the connection ended during the TLS handshake: {lost_words(error) or 'closed'}"
            )
            self.tls_failure = TlsFailure(TlsTrouble.CUT, words)
        self.session.connection_lost(lost_words(error) or "the connection is closed")
        self._pump()
        self._deadlines.discard(self)

    def writable(self) -> None:
        self._pump()

    def expired(self) -> None:
        stage = self.session.waiting_for
        if stage is Stage.IDLE and self.session.is_idle:
            self.quit()
        else:
            self.abort(f"no answer in time ({stage.value})")

    # --- inside ---

    def _pump(self) -> None:
        """Tell events, write what there is, set the deadline. Calls from inside come to nothing:
        the outer one goes on until there is no more to do."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            has_moved = self._tell()
            while self._write():
                has_moved = True
                self._tell()
        finally:
            self._is_pumping = False
        self._set_deadline(has_moved=has_moved)

    def _tell(self) -> bool:
        has_moved = False
        while not self._is_ended and (event := self.session.next_event()) is not None:
            has_moved = True
            if isinstance(event, MessageEnded) and self._message_deadlines:
                self._message_deadlines.popleft()
            if isinstance(event, SessionFailed | Closed):
                self._is_ended = True
            self._on_event(event)
        if self._is_ended and self._stream is not None and self._stream.is_open:
            self._stream.close()
        return has_moved

    def _write(self) -> bool:
        stream = self._stream
        if stream is None or not stream.is_writable or not stream.is_open:
            return False
        octets = self.session.take_outgoing()
        if octets:
            if self._watch is not None:
                self._watch.sent(octets)
            stream.write(octets)
        return bool(octets)

    def _tell_tls(self) -> None:
        if self._stream is None or not self._stream.is_tls:
            return
        if self._watch is not None and (tls := self.tls) is not None:
            self._watch.tls_began(tls)
        if self._on_milestone is not None:
            self._on_milestone(Milestone.PROTECTED)

    def _set_deadline(self, *, has_moved: bool) -> None:
        """A deadline runs on while octets drip in: only what they add up to moves it."""
        if self._is_ended:
            self.deadline_s = math.inf
            return
        stage = self.session.waiting_for
        if has_moved or stage is not self._stage:
            self._stage = stage
            after_s = self._deadlines.after_s(self._timeouts.of(stage))
            first = self._message_deadlines[0] if self._message_deadlines else math.inf
            self.deadline_s = min(after_s, first)
            if self._on_milestone is not None and stage in _CONTENT:
                self._on_milestone(Milestone.CONTENT)


async def open_session(
    client: SmtpClient,
    network: Network,
    address: str,
    port: int,
    *,
    trace_id: TraceId,
    deadlines: Deadlines,
    connect_s: float,
    tls: TlsStart | None = None,
    local_address: str | None = None,
) -> None:
    """Connect `client`; its events begin with the greeting.

    Raises:
        OSError: the connection was refused, cannot be made, or took longer than `connect_s`.
    """
    await network.connect(
        lambda: Stream(client, trace_id=trace_id, deadlines=deadlines, tls=tls),
        address,
        port,
        timeout_s=connect_s,
        local_address=local_address,
    )
