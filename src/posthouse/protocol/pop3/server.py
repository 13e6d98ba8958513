"""Server side of POP3: octets in, events and replies out (RFC 1939, 2449, 2595, 5034).

One event is open at a time and nothing behind it is parsed until it is answered, so pipelining
(RFC 2449 §6.6) needs no code of its own. Long listings leave in pieces: after each `take_outgoing`
ask `has_more`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.pop3 import grammar
from posthouse.protocol.pop3.events import (
    Event,
    LoginAttempted,
    MessageWanted,
    QuitReceived,
    StartTlsReceived,
)
from posthouse.protocol.pop3.grammar import BadCommand
from posthouse.protocol.sasl import grammar as sasl
from posthouse.protocol.sasl.events import Challenge, Credentials
from posthouse.protocol.sasl.server import PlainServer

LISTING_LINES: Final = 2_000
"""Of one piece of a long listing."""
WAITING_OCTETS_MAX: Final = 64 * 1024
"""Of pipelined commands behind an open one; with more, reading has to stop."""
TURN_COMMANDS_MAX: Final = 200
"""Answered in one go; then the caller writes and lets others have their turn."""
TURN_OCTETS_MAX: Final = 64 * 1024
"""Of answers in one go."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Each is named like its setting under `pop3.`."""

    line_octets_max: int = grammar.COMMAND_OCTETS_MAX
    errors_max: int = 3
    """Malformed or unknown commands in a row, then the session ends."""


class Phase(Enum):
    AUTHORIZATION = auto()
    SASL = auto()  # AUTH waits for the client's response
    TRANSACTION = auto()
    OVER = auto()


class Maildrop:
    """The messages of a session, fixed when it is opened (RFC 1939 §5)."""

    __slots__ = ("deleted", "octets", "sizes", "uids", "uidvalidity")

    def __init__(self, uidvalidity: int, uids: array[int], sizes: array[int]) -> None:
        self.uidvalidity = uidvalidity
        self.uids = uids
        self.sizes = sizes
        self.deleted: set[int] = set()
        """Indexes marked by DELE."""
        self.octets = sum(sizes)
        """Of the messages that are not marked, kept up to date so that STAT counts nothing."""

    def __len__(self) -> int:
        return len(self.uids)

    def mark(self, index: int) -> None:
        self.deleted.add(index)
        self.octets -= self.sizes[index]

    def unmark_all(self) -> None:
        self.octets += sum(self.sizes[index] for index in self.deleted)
        self.deleted.clear()


# What each phase allows; a known command out of turn is an error like an unknown one.
ALLOWED: Final = {
    Phase.AUTHORIZATION: frozenset({b"USER", b"PASS", b"AUTH", b"STLS", b"CAPA", b"QUIT"}),
    Phase.TRANSACTION: frozenset(
        {b"STAT", b"LIST", b"UIDL", b"RETR", b"TOP", b"DELE", b"RSET", b"NOOP", b"CAPA", b"QUIT"}
    ),
    Phase.SASL: frozenset[bytes](),
    Phase.OVER: frozenset[bytes](),
}
_CAPABILITIES: Final = (
    b"TOP",
    b"UIDL",
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"PIPELINING",
    b"EXPIRE NEVER",
    b"IMPLEMENTATION Posthouse",
)


class ServerSession:
    """One session, greeting to close. `is_over` tells the caller to write and close."""

    __slots__ = (
        "_errors",
        "_has_overlong",
        "_inbox",
        "_is_turn_over",
        "_listing",
        "_mechanism",
        "_name",
        "_open",
        "_outbox",
        "limits",
        "maildrop",
        "may_log_in",
        "may_start_tls",
        "phase",
    )

    def __init__(
        self, limits: Limits | None = None, *, may_log_in: bool, may_start_tls: bool
    ) -> None:
        """Args:
        may_log_in: passwords may come over this connection: it is encrypted, or its network is
            one where that is not needed (P12).
        """
        self.limits = limits or Limits()
        self.may_log_in = may_log_in
        self.may_start_tls = may_start_tls
        self.phase = Phase.AUTHORIZATION
        self.maildrop: Maildrop | None = None
        self._inbox = bytearray()
        self._outbox = bytearray(b"+OK Posthouse is ready\r\n")
        self._is_turn_over = False
        self._open: Event | None = None
        self._name: str | None = None
        self._mechanism: PlainServer | None = None
        self._listing: Iterator[bytes] | None = None
        self._errors = 0
        self._has_overlong = False

    # --- octets ---

    def receive(self, octets: bytes) -> None:
        if self.phase is not Phase.OVER:
            self._inbox += octets

    def take_outgoing(self) -> bytes:
        """What to write now; of a long listing the next piece."""
        self._is_turn_over = False
        if self._listing is not None:
            piece = next(self._listing, None)
            if piece is None:
                self._listing = None
            else:
                self._outbox += piece
        octets = bytes(self._outbox)
        self._outbox.clear()
        return octets

    @property
    def has_more(self) -> bool:
        """A listing or the commands at hand are not at their end: write, see that the client
        reads, and take more."""
        return self._listing is not None or self._is_turn_over

    @property
    def is_over(self) -> bool:
        return self.phase is Phase.OVER

    @property
    def is_overfull(self) -> bool:
        return len(self._inbox) > WAITING_OCTETS_MAX

    def end(self) -> None:
        """The connection is gone or about to be."""
        self.phase = Phase.OVER
        self._inbox.clear()
        self._listing = None
        self._is_turn_over = False

    def next_event(self) -> Event | None:
        """The next decision the caller owes. None: write what there is, then ask again if
        `has_more` was true, else wait for octets."""
        if self._open is not None:
            raise LocalProtocolError(f"{type(self._open).__name__} is unanswered")
        answered = 0
        while self.phase is not Phase.OVER and not self.has_more:
            line = self._take_line()
            if line is None:
                return None
            try:
                self._open = self._parse(line)
            except BadCommand as error:
                self._mistake(str(error))
            else:
                self._errors = 0
                if self._open is not None:
                    return self._open
            answered += 1
            if answered == TURN_COMMANDS_MAX or len(self._outbox) >= TURN_OCTETS_MAX:
                self._is_turn_over = True
        return None

    def _take_line(self) -> bytes | None:
        while True:
            is_sasl = self.phase is Phase.SASL
            bound = sasl.EXCHANGE_OCTETS_MAX + 2 if is_sasl else self.limits.line_octets_max
            end = self._inbox.find(b"\r\n", 0, bound)
            if end < 0 and self._has_overlong:  # somewhere in the rest of it
                end = self._inbox.find(b"\r\n")
            if end >= 0:
                line = bytes(self._inbox[:end])
                del self._inbox[: end + 2]
                if not self._has_overlong:
                    return line
                self._has_overlong = False
                continue
            if self._has_overlong:
                del self._inbox[:-1]  # its last octet may be the CR
                return None
            if len(self._inbox) < bound:
                return None
            self._has_overlong = True
            self._leave_sasl()
            self._mistake("that line is too long")
            if self.is_over:
                return None

    # --- commands ---

    def _parse(self, line: bytes) -> Event | None:
        if self.phase is Phase.SASL:
            return self._respond(line)
        verb, argument = grammar.parse_command(line)
        if verb not in COMMANDS:
            raise BadCommand("unknown command")
        if verb not in ALLOWED[self.phase]:
            raise BadCommand(
                "log in first" if self.phase is Phase.AUTHORIZATION else "you are logged in"
            )
        takes_argument, run = COMMANDS[verb]
        if bool(argument) is not takes_argument and takes_argument is not None:
            raise BadCommand("wrong arguments")
        return run(self, argument)

    def _capa(self, argument: bytes) -> None:
        listed = list(_CAPABILITIES)
        if self.phase is Phase.AUTHORIZATION:
            if self.may_log_in:
                listed += [b"USER", b"SASL PLAIN"]
            if self.may_start_tls:
                listed.append(b"STLS")
        self._outbox += b"+OK\r\n" + b"".join(b"%b\r\n" % name for name in listed) + b".\r\n"

    def _stls(self, argument: bytes) -> Event | None:
        if not self.may_start_tls:
            raise BadCommand("TLS is on already, or not offered")
        if self._inbox:
            # Octets that came in plaintext must not be taken for encrypted ones (H8).
            self._error("commands behind STLS are not allowed", over=True)
            return None
        return StartTlsReceived()

    def _require_security(self) -> None:
        if not self.may_log_in:
            raise BadCommand("passwords need TLS here, say STLS first")

    def _user(self, argument: bytes) -> None:
        self._require_security()
        try:
            self._name = sasl.decode_name(argument)
        except sasl.SaslSyntaxError as error:
            raise BadCommand("that is not a name") from error
        self._outbox += b"+OK\r\n"  # the same for names that do not exist (H23)

    def _pass(self, argument: bytes) -> Event | None:
        self._require_security()
        name, self._name = self._name, None
        if name is None:
            raise BadCommand("USER comes first")
        try:
            password = sasl.decode_password(argument)
        except sasl.SaslSyntaxError as error:
            raise BadCommand("that is not a password") from error
        return LoginAttempted(credentials=Credentials(name, "", password))

    def _auth(self, argument: bytes) -> Event | None:
        if not argument:  # RFC 5034 has CAPA for this; old clients ask so
            listed = b"PLAIN\r\n" if self.may_log_in else b""
            self._outbox += b"+OK\r\n" + listed + b".\r\n"
            return None
        self._require_security()
        mechanism, blank, initial = argument.partition(b" ")
        if mechanism.upper() != b"PLAIN":
            raise BadCommand("only PLAIN is offered")
        self._mechanism = PlainServer()
        try:
            return self._step(sasl.decode_initial(initial) if blank else None)
        except sasl.SaslSyntaxError as error:
            self._leave_sasl()
            raise BadCommand("that is not a SASL response") from error

    def _respond(self, line: bytes) -> Event | None:
        """A line while AUTH is open; "*" cancels it (RFC 5034 §4)."""
        if line == b"*":
            self._leave_sasl()
            raise BadCommand("cancelled")
        try:
            return self._step(sasl.decode_base64(line))
        except sasl.SaslSyntaxError as error:
            self._leave_sasl()
            raise BadCommand("that is not a SASL response") from error

    def _step(self, response: bytes | None) -> Event | None:
        assert self._mechanism is not None  # AUTH made it
        step = self._mechanism.step(response)
        if isinstance(step, Challenge):
            self.phase = Phase.SASL
            self._outbox += b"+ " + sasl.encode_base64(step.octets) + b"\r\n"
            return None
        self._leave_sasl()
        if isinstance(step, Credentials):
            return LoginAttempted(credentials=step)
        raise BadCommand("that is not a SASL response")

    def _leave_sasl(self) -> None:
        self._mechanism = None
        if self.phase is Phase.SASL:
            self.phase = Phase.AUTHORIZATION

    def _stat(self, argument: bytes) -> None:
        drop = self._drop
        self._outbox += b"+OK %d %d\r\n" % (len(drop) - len(drop.deleted), drop.octets)

    def _list(self, argument: bytes) -> None:
        sizes = self._drop.sizes
        self._show(argument, lambda index: b"%d" % sizes[index])

    def _uidl(self, argument: bytes) -> None:
        drop = self._drop
        self._show(argument, lambda index: grammar.unique_id(drop.uidvalidity, drop.uids[index]))

    def _show(self, argument: bytes, value: Callable[[int], bytes]) -> None:
        if argument:
            index = self._index(grammar.parse_number(argument))
            if index is not None:
                self._outbox += b"+OK %d %b\r\n" % (index + 1, value(index))
            return
        self._outbox += b"+OK\r\n"
        self._listing = self._pieces(value)

    def _pieces(self, value: Callable[[int], bytes]) -> Iterator[bytes]:
        drop = self._drop
        for start in range(0, len(drop), LISTING_LINES):
            chunk = range(start, min(start + LISTING_LINES, len(drop)))
            yield b"".join(
                b"%d %b\r\n" % (index + 1, value(index))
                for index in chunk
                if index not in drop.deleted
            )
        yield b".\r\n"

    def _retr(self, argument: bytes) -> Event | None:
        index = self._index(grammar.parse_number(argument))
        return None if index is None else MessageWanted(index=index, lines=None)

    def _top(self, argument: bytes) -> Event | None:
        number, lines = grammar.parse_top(argument)
        index = self._index(number)
        return None if index is None else MessageWanted(index=index, lines=lines)

    def _dele(self, argument: bytes) -> None:
        index = self._index(grammar.parse_number(argument))
        if index is not None:
            self._drop.mark(index)
            self._outbox += b"+OK\r\n"

    def _rset(self, argument: bytes) -> None:
        self._drop.unmark_all()
        self._outbox += b"+OK\r\n"

    def _noop(self, argument: bytes) -> None:
        self._outbox += b"+OK\r\n"

    def _quit(self, argument: bytes) -> Event | None:
        if self.phase is Phase.TRANSACTION and self._drop.deleted:
            return QuitReceived(deleted=tuple(sorted(self._drop.deleted)))
        self._outbox += b"+OK\r\n"
        self.end()
        return None

    @property
    def _drop(self) -> Maildrop:
        assert self.maildrop is not None  # ALLOWED keeps its commands to TRANSACTION
        return self.maildrop

    def _index(self, number: int) -> int | None:
        """Of a message that is there; else the error is in the outbox."""
        if not 1 <= number <= len(self._drop) or number - 1 in self._drop.deleted:
            self._error("there is no such message")
            return None
        return number - 1

    def _mistake(self, text: str) -> None:
        self._errors += 1
        self._error(text, over=self._errors >= self.limits.errors_max)

    def _error(self, text: str, *, over: bool = False) -> None:
        self._outbox += b"-ERR %b\r\n" % text.encode("ascii")
        if over:
            self.end()

    # --- answers ---

    def _answered(self, *kinds: type[Event]) -> None:
        if not isinstance(self._open, kinds):
            raise LocalProtocolError(f"the open event is {type(self._open).__name__}")
        self._open = None

    def accept_starttls(self) -> None:
        """The reply to STLS; whatever the client said before is forgotten (RFC 2595 §4)."""
        self._answered(StartTlsReceived)
        self._outbox += b"+OK begin TLS now\r\n"
        self._name = None
        self._inbox.clear()
        self.may_start_tls = False

    def tls_started(self) -> None:
        self.may_log_in = True

    def open_maildrop(self, maildrop: Maildrop) -> None:
        self._answered(LoginAttempted)
        self.maildrop = maildrop
        self.phase = Phase.TRANSACTION
        self._outbox += b"+OK %d messages\r\n" % len(maildrop)

    def refuse_login(self, text: str, *, code: str, over: bool = False) -> None:
        """Args:
        code: of RFC 2449 §8 or RFC 3206: IN-USE, AUTH, SYS/TEMP, SYS/PERM.
        over: the session ends.
        """
        self._answered(LoginAttempted)
        self._error(f"[{code}] {text}", over=over)

    def send_message(self, octets: bytes) -> None:
        """The whole message; TOP's part of it is cut here."""
        wanted = self._open
        self._answered(MessageWanted)
        assert isinstance(wanted, MessageWanted)
        if wanted.lines is not None:
            octets = grammar.top(octets, wanted.lines)
        self._outbox += b"+OK\r\n"
        self._outbox += grammar.multiline(octets)

    def refuse_message(self, text: str, *, code: str = "SYS/PERM") -> None:
        self._answered(MessageWanted)
        self._error(f"[{code}] {text}")

    def farewell(self, *, is_done: bool) -> None:
        """Args:
        is_done: the marked messages are removed (RFC 1939 §6).
        """
        self._answered(QuitReceived)
        if is_done:
            self._outbox += b"+OK\r\n"
            self.end()
        else:
            self._error("[SYS/TEMP] the messages could not be removed", over=True)


# Whether a command takes an argument (None: it may), and what runs it.
COMMANDS: Final[dict[bytes, tuple[bool | None, Callable[[ServerSession, bytes], Event | None]]]] = {
    b"USER": (True, ServerSession._user),
    b"PASS": (True, ServerSession._pass),
    b"AUTH": (None, ServerSession._auth),
    b"STLS": (False, ServerSession._stls),
    b"CAPA": (False, ServerSession._capa),
    b"STAT": (False, ServerSession._stat),
    b"LIST": (None, ServerSession._list),
    b"UIDL": (None, ServerSession._uidl),
    b"RETR": (True, ServerSession._retr),
    b"TOP": (True, ServerSession._top),
    b"DELE": (True, ServerSession._dele),
    b"RSET": (False, ServerSession._rset),
    b"NOOP": (False, ServerSession._noop),
    b"QUIT": (False, ServerSession._quit),
}
