"""Server side of one IMAP session: octets in, commands out; the caller decides (RFC 3501 §2.2).

One event is open at a time and nothing behind it is parsed until `answered` (or what the event
names instead), so pipelined commands (RFC 3501 §5.5) need no code of their own. Whatever the
machine says itself (`+`, BAD, BYE) waits in `take_outgoing`.
"""

from __future__ import annotations

import binascii
import re
from enum import Enum, auto
from io import BytesIO
from typing import Final

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.protocol.imap.commands import COMMANDS, LOGGED_IN, Phase, from_base64
from posthouse.protocol.imap.grammar import BadCommand, Reader
from posthouse.protocol.imap.limits import DEFAULT_LIMITS, Limits
from posthouse.protocol.imap.search_keys import UnknownCharset

__all__ = ["Limits", "Phase", "ServerSession"]

PIPELINE_OCTETS_MAX: Final = 64 * 1024
"""Waiting behind an open command, before reading has to stop."""
DISCARD_BEFORE_LOGIN_OCTETS_MAX: Final = 128 * 1024
"""What is read away of a refused command of somebody unknown."""


class _Awaits(Enum):
    """What the next line is."""

    COMMAND = auto()
    DONE = auto()
    SASL = auto()


_HEAD: Final = re.compile(
    rb'([^\x00-\x20\x7f-\xff(){%*"\\+]{1,128}) ((?:UID )?[A-Z]{1,20})(?![^ ])', re.I
)
_TAG: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,128}(?= )')
_LITERAL: Final = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_TAIL_OCTETS: Final = 24
"""Of a line that is thrown away, kept to see the literal announced at its end."""


class ServerSession:
    """The machine. `phase` follows what the caller's answers achieved: see `enter`."""

    __slots__ = (
        "_awaits",
        "_collector",
        "_discarded",
        "_errors",
        "_inbox",
        "_is_discarding",
        "_limits",
        "_line_octets",
        "_literal_octets",
        "_literals",
        "_offered",
        "_open",
        "_outbox",
        "_pieces",
        "_scanned",
        "_tag",
        "_wanted",
        "has_ended",
        "phase",
        "reached",
    )

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.phase = Phase.GREETED
        self.has_ended = False
        """Nothing more is read: send what is outgoing, then close."""
        self.reached: tuple[str, int] | None = None
        """A field of `Limits` that was reached and what was asked for, until the caller has noted
        it and set this to None."""
        self._limits = limits
        self._inbox = bytearray()
        self._scanned = 0
        """Octets of the inbox that hold no line end."""
        self._outbox = b""
        self._open: e.Event | None = None
        self._awaits = _Awaits.COMMAND
        self._tag = b"*"
        self._errors = 0
        # The command being collected: its lines and literals so far.
        self._pieces: list[bytes] | None = None
        self._literals: list[bytes] | None = None
        self._line_octets = 0
        self._literal_octets = 0
        self._wanted = 0
        """Octets of the current literal still to come."""
        self._collector: BytesIO | None = None
        self._offered: tuple[int, bool] | None = None
        self._is_discarding = False
        """The command was refused; what still belongs to it is thrown away."""
        self._discarded = 0

    # --- octets in and out ---

    def receive(self, octets: bytes) -> None:
        if not self.has_ended:
            self._inbox += octets

    def take_outgoing(self) -> bytes:
        outgoing, self._outbox = self._outbox, b""
        return outgoing

    def next_event(self) -> e.Event | None:
        """The next command the caller owes an answer, or None when more octets are needed."""
        if self._open is not None:
            raise LocalProtocolError(f"{type(self._open).__name__} is unanswered")
        while not self.has_ended:
            if self._wanted and not self._fill():
                return None
            line = self._take_line()
            if line is None:
                return None
            event = self._take(line)
            if event is not None:
                self._open = event
                return event
        return None

    @property
    def is_overfull(self) -> bool:
        """So much waits behind the command at hand that the caller must stop reading."""
        limits = self._limits
        if len(self._inbox) < 2 * limits.pipeline_max:
            return False
        if len(self._inbox) >= PIPELINE_OCTETS_MAX:
            return True
        return self._inbox.count(b"\r\n") >= limits.pipeline_max

    @property
    def has_waiting(self) -> bool:
        """Something came that no event has told."""
        return bool(self._inbox)

    # --- answers ---

    def answered(self) -> None:
        """The open command has had its tagged response."""
        self._close()

    def enter(self, phase: Phase) -> None:
        """Login, SELECT or the end of either succeeded."""
        if self.phase is Phase.GREETED:
            self._errors = 0
        self.phase = phase

    def bad(self, text: str, *, code: str = "") -> None:
        """Answer the open command with BAD, which counts as an error."""
        tag = self._close().tag
        self._complain(tag, text, code)

    def challenge(self, octets: bytes) -> None:
        """Ask for the next SASL response (RFC 3501 §6.2.2)."""
        self._tag = self._close().tag
        self._awaits = _Awaits.SASL
        encoded = binascii.b2a_base64(octets, newline=False)
        self._outbox += responses.continuation(encoded)

    def idling(self) -> None:
        """IDLE is on until `IdleEnded` (RFC 2177 §3)."""
        self._tag = self._close().tag
        self._awaits = _Awaits.DONE
        self._outbox += responses.continuation(b"idling")

    def take_literal(self) -> None:
        """Read the message of `AppendOffered`."""
        self._close()
        assert self._offered is not None
        (octets, is_synchronizing), self._offered = self._offered, None
        self._expect(octets, is_synchronizing=is_synchronizing)

    def refuse_literal(self, text: str, *, code: str = "") -> None:
        """Answer `AppendOffered` with NO; the message is thrown away if it comes anyway."""
        tag = self._close().tag
        assert self._offered is not None
        (octets, is_synchronizing), self._offered = self._offered, None
        self._outbox += responses.no(tag, text, code)
        self._discard(0 if is_synchronizing else octets, is_over=is_synchronizing)

    def tls_started(self) -> None:
        """STARTTLS was answered OK. What came behind it in plaintext is thrown away and ends the
        session (RFC 3501 §6.2.1, H8)."""
        self._close()
        if self._inbox:
            self._end()

    def end(self) -> None:
        """LOGOUT, or a reason of the caller's: nothing more is read."""
        self._open = None
        self._end()

    def _close(self) -> e.Event:
        if self._open is None:
            raise LocalProtocolError("no command is open")
        event, self._open = self._open, None
        return event

    # --- lines ---

    def _take_line(self) -> bytes | None:
        inbox = self._inbox
        limit = self._line_octets_left()
        end = inbox.find(b"\r\n", self._scanned)
        if 0 <= end <= limit or (end >= 0 and self._is_discarding):
            line = bytes(inbox[:end])
            del inbox[: end + 2]
            self._scanned = 0
            if self._is_discarding:
                self._count_discarded(end + 2)
            return line
        if end < 0 and len(inbox) <= limit:
            self._scanned = max(0, len(inbox) - 1)
            return None
        if not self._is_discarding:
            self._overlong(bytes(inbox[:256]))
        return self._skip()

    def _skip(self) -> bytes | None:
        """Throw away a line that is too long, all but its tail."""
        inbox = self._inbox
        end = inbox.find(b"\r\n", self._scanned)
        if end >= 0:
            line = bytes(inbox[max(0, end - _TAIL_OCTETS) : end])
            self._count_discarded(end)
            del inbox[: end + 2]
            self._scanned = 0
            return line
        gone = max(0, len(inbox) - _TAIL_OCTETS)
        self._count_discarded(gone)
        del inbox[:gone]
        self._scanned = max(0, len(inbox) - 1)
        return None

    def _line_octets_left(self) -> int:
        if self._is_discarding:
            return _TAIL_OCTETS
        limits = self._limits
        if self.phase is Phase.GREETED:
            return limits.line_before_login_octets_max - self._line_octets
        return limits.line_octets_max - self._line_octets

    def _overlong(self, start: bytes) -> None:
        self._is_discarding = True
        if self._awaits is not _Awaits.COMMAND:
            return  # its own event tells it, once the line is over
        if self._pieces:
            start = self._pieces[0]
        is_known = self.phase in LOGGED_IN
        name = "line_octets_max" if is_known else "line_before_login_octets_max"
        self._reach(name, self._line_octets + len(self._inbox))
        self._forget()
        self._is_discarding = True
        self._complain(_tag_of(start), "Command line is too long", responses.TOOBIG)

    def _take(self, line: bytes) -> e.Event | None:
        """A whole line: a piece of a command, DONE, or a SASL response."""
        if self._awaits is _Awaits.COMMAND:
            return self._piece(line)
        awaited, self._awaits = self._awaits, _Awaits.COMMAND
        was_too_long, self._is_discarding = self._is_discarding, False
        self._discarded = 0
        if awaited is _Awaits.DONE:
            return e.IdleEnded(tag=self._tag, is_done=not was_too_long and line.upper() == b"DONE")
        if was_too_long or line == b"*":
            return e.SaslAborted(tag=self._tag, is_malformed=was_too_long)
        response = from_base64(line)
        if response is None:
            return e.SaslAborted(tag=self._tag, is_malformed=True)
        return e.SaslResponse(tag=self._tag, response=response)

    def _piece(self, line: bytes) -> e.Event | None:
        announced = _LITERAL.search(line[-_TAIL_OCTETS:]) if line[-1:] == b"}" else None
        if self._is_discarding:
            if announced is not None and announced[2]:
                self._discard(int(announced[1]), is_over=False)
            else:
                self._forget()
            return None
        if announced is None:
            pieces, literals = self._pieces or [], self._literals or []
            self._forget()
            pieces.append(line)
            return self._parse(pieces, literals)
        if self._pieces is None:
            self._pieces, self._literals = [], []
        self._pieces.append(line)
        self._line_octets += len(line) + 2
        return self._announced(int(announced[1]), is_synchronizing=not announced[2])

    # --- literals ---

    def _announced(self, octets: int, *, is_synchronizing: bool) -> e.Event | None:
        """Take a literal, offer it to the caller, or refuse the command it belongs to."""
        assert self._pieces is not None
        head = _HEAD.match(self._pieces[0])
        verb = head[2].upper() if head is not None else b""
        tag = head[1] if head is not None else _tag_of(self._pieces[0])
        known = COMMANDS.get(verb)
        limits = self._limits
        if known is None or self.phase not in known[0]:
            self._refuse(tag, _why_not(verb), "", octets, is_synchronizing=is_synchronizing)
            return None
        name, sum_octets_max = "literal_octets_max", limits.literal_octets_max
        if self.phase is Phase.GREETED:
            name = "literal_before_login_octets_max"
            sum_octets_max = limits.literal_before_login_octets_max
        elif verb == b"APPEND":
            name, sum_octets_max = "append_octets_max", limits.append_octets_max
        if self._literal_octets + octets > sum_octets_max:
            self._reach(name, self._literal_octets + octets)
            text = "Literal is too large"
            self._refuse(tag, text, responses.TOOBIG, octets, is_synchronizing=is_synchronizing)
            return None
        self._literal_octets += octets
        if verb == b"APPEND" and octets > limits.literal_octets_max:
            self._offered = (octets, is_synchronizing)
            return e.AppendOffered(tag=tag, octets=octets)
        self._expect(octets, is_synchronizing=is_synchronizing)
        return None

    def _expect(self, octets: int, *, is_synchronizing: bool) -> None:
        if is_synchronizing:
            self._outbox += responses.continuation(b"go ahead")
        if octets:
            self._wanted = octets
        else:
            self._store_literal(b"")

    def _store_literal(self, octets: bytes) -> None:
        assert self._literals is not None
        self._literals.append(octets)

    def _fill(self) -> bool:
        """Move octets from the inbox into the literal, or away; whether it is complete."""
        inbox = self._inbox
        count = min(self._wanted, len(inbox))
        if self._is_discarding:
            pass
        elif count == self._wanted and self._collector is None:
            with memoryview(inbox) as view:
                self._store_literal(bytes(view[:count]))
        elif count:
            if self._collector is None:
                self._collector = BytesIO()
            with memoryview(inbox) as view:
                self._collector.write(view[:count])
        del inbox[:count]
        self._scanned = 0
        self._wanted -= count
        if self._wanted:
            return False
        if self._collector is not None:
            # getvalue() of a BytesIO nobody writes to again shares its buffer: no second copy.
            self._store_literal(self._collector.getvalue())
            self._collector = None
        return True

    def _refuse(
        self, tag: bytes, text: str, code: str, octets: int, *, is_synchronizing: bool
    ) -> None:
        self._complain(tag, text, code)
        self._discard(0 if is_synchronizing else octets, is_over=is_synchronizing)

    def _discard(self, octets: int, *, is_over: bool) -> None:
        """Throw away a refused literal and what follows it. `is_over`: the client waits for our
        `+` and will take the tagged response instead, so nothing follows."""
        discarded = self._discarded
        self._forget()
        if is_over:
            return
        self._discarded = discarded
        self._is_discarding = True
        self._count_discarded(octets)
        if not self.has_ended:
            self._wanted = octets

    def _count_discarded(self, octets: int) -> None:
        self._discarded += octets
        limit = self._limits.literal_discard_octets_max
        if self.phase is Phase.GREETED:
            limit = min(limit, DISCARD_BEFORE_LOGIN_OCTETS_MAX)
        if self._discarded > limit and not self.has_ended:
            self._reach("literal_discard_octets_max", self._discarded)
            self._outbox += responses.bye("Too much to throw away", responses.TOOBIG)
            self._end()

    def _forget(self) -> None:
        """The command being collected is over."""
        self._pieces = self._literals = None
        self._collector = None
        self._line_octets = self._literal_octets = self._wanted = self._discarded = 0
        self._is_discarding = False

    # --- commands ---

    def _parse(self, pieces: list[bytes], literals: list[bytes]) -> e.Event | None:
        head = _HEAD.match(pieces[0])
        if head is None:
            self._complain(_tag_of(pieces[0]), "Command is malformed")
            return None
        tag, verb = head[1], head[2].upper()
        known = COMMANDS.get(verb)
        if known is None or self.phase not in known[0]:
            self._complain(tag, _why_not(verb))
            return None
        reader = Reader(pieces, literals, self._limits)
        reader.match(_HEAD, "command")
        try:
            event = known[1](tag, reader)
            reader.end()
        except UnknownCharset:
            self._outbox += responses.no(
                tag, "Charset is not supported", "BADCHARSET (US-ASCII UTF-8)"
            )
            return None
        except BadCommand as bad:
            if bad.limit:
                self._reach(bad.limit, getattr(self._limits, bad.limit) + 1)
            self._complain(tag, bad.text, bad.code)
            return None
        if isinstance(event, e.StartTls) and self._inbox:
            self._complain(tag, "Nothing may follow STARTTLS before its answer")
            self._outbox += responses.bye("Octets behind STARTTLS")
            self._end()
            return None
        return event

    def _complain(self, tag: bytes, text: str, code: str = "") -> None:
        """BAD; the last one that the budget allows ends the session."""
        if self.has_ended:
            return
        self._outbox += responses.bad(tag, text, code)
        self._errors += 1
        limits = self._limits
        is_known = self.phase in LOGGED_IN
        if self._errors >= (limits.errors_max if is_known else limits.errors_before_login_max):
            self._reach("errors_max" if is_known else "errors_before_login_max", self._errors)
            self._outbox += responses.bye("Too many errors")
            self._end()

    def _reach(self, name: str, observed: int) -> None:
        self.reached = (name, observed)

    def _end(self) -> None:
        self.has_ended = True
        self._forget()
        self._inbox.clear()
        self._scanned = 0


def _tag_of(line: bytes) -> bytes:
    found = _TAG.match(line)
    return found[0] if found is not None else b"*"


def _why_not(verb: bytes) -> str:
    if verb not in COMMANDS:
        return "Unknown command"
    return "Command is not allowed now"
