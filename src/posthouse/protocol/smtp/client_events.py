"""What can happen on the client side of an SMTP session, and what became of each message."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from posthouse.kernel.envelope import Envelope
from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp.extensions import Extensions


class Stage(Enum):
    """What was being waited for. The driver has a deadline for each (RFC 5321 §4.5.3.2)."""

    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BLOCK = "block"  # our content is not all written
    DOT = "dot"  # the end of the content is out, its reply is not in
    RSET = "rset"
    QUIT = "quit"
    IDLE = "idle"


class Result(Enum):
    ACCEPTED = "accepted"  # the reply to the end of the content was 2yz: theirs now
    TRANSIENT = "transient"  # not theirs; try again
    PERMANENT = "permanent"  # not theirs, and trying again is of no use
    UNKNOWN = "unknown"  # the line broke after the dot: theirs or not; a retry may duplicate


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction to make. `octets` is the whole message, lines ended by CRLF."""

    envelope: Envelope
    octets: bytes
    tag: Any = None
    """The caller's, to know the message by."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient."""

    result: Result
    stage: Stage
    reply: Reply | None
    """The remote's words; None when it said nothing."""
    status: str
    """An enhanced status code always: the remote's or, where it gave none, ours."""
    detail: str = ""
    """Where `reply` is None: what happened, in words."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The hello was answered: send, start TLS, authenticate or quit."""

    extensions: Extensions
    is_tls: bool


class TlsAgreed(msgspec.Struct, frozen=True, kw_only=True):
    """220 to STARTTLS and nothing behind it: run the handshake, then call `tls_started`."""


class Authenticated(msgspec.Struct, frozen=True, kw_only=True):
    reply: Reply


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """STARTTLS or AUTH was turned down; the session goes on."""

    stage: Stage
    reply: Reply


class MessageEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A message given to `send` is settled; outcomes are in the order of its recipients."""

    message: OutgoingMessage
    outcomes: tuple[Outcome, ...]
    was_tried: bool
    """False when the session ended before the server answered anything about it: it can be sent
    by another session at once."""


class SessionFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The session is over without QUIT: close. Every message given to `send` was settled before.

    `reply` is None when the line broke or what came was no reply.
    """

    stage: Stage
    reply: Reply | None
    is_transient: bool
    detail: str


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """QUIT was answered, or the line closed after it."""


ClientEvent = Ready | TlsAgreed | Authenticated | Refused | MessageEnded | SessionFailed | Closed
