"""Server side of SMTP and LMTP as a pure machine: octets in, events out, replies to be taken.

RFC 5321, 2033 (LMTP), 1870, 2920, 3030, 3207, 3461, 4954, 6152, 6409, 6531, 9422. Called by
`net.driver` for reception and submission; it knows no socket, clock or database.

For each segment a driver does this::

    session.receive(octets)
    while True:
        event = session.next_event()
        if event is not None:
            ...  # decide and answer; on SessionEnded write what is outgoing and close
        else:
            delay_s = session.delay_s  # to wait before writing
            out = session.take_outgoing()
            if not out:
                break  # until more octets come
            write(out)
"""

from __future__ import annotations

from typing import TypeVar

from posthouse.kernel.envelope import BodyType
from posthouse.kernel.errors import Disconnect, LocalProtocolError, Refusal
from posthouse.kernel.reply import Reply
from posthouse.protocol.sasl.grammar import (
    encode_base64,
)
from posthouse.protocol.smtp import grammar, replies
from posthouse.protocol.smtp.budget import Budget
from posthouse.protocol.smtp.commands import COMMANDS, read_response
from posthouse.protocol.smtp.content import Content
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
from posthouse.protocol.smtp.inbox import Inbox, LineFault
from posthouse.protocol.smtp.limits import (
    AUTH_ROUNDS_MAX,
    DRAIN_OCTETS_MAX,
    INBOX_OCTETS_MAX,
    OUTBOX_OCTETS_MAX,
    Limits,
    Mode,
    ServerHello,
    ehlo_octets,
)
from posthouse.protocol.smtp.phases import ALLOWED, FOREIGN_VERBS, Phase, is_foreign

E = TypeVar("E", bound=Event)


class ServerSession:
    """One session: the caller decides, the machine keeps order and budgets.

    One event is open at a time and nothing behind it is parsed until it is answered, so pipelined
    commands (RFC 2920 §3.2) need no code of their own and their replies leave in one write.
    `inbox`, `budget`, `say`, `reset` and `begin_chunk` are there for `commands.py`.
    """

    __slots__ = (
        "_content",
        "_end_reason",
        "_is_early",
        "_is_last_chunk",
        "_left",
        "_open",
        "_outbox",
        "auth_rounds",
        "budget",
        "hello",
        "hello_name",
        "inbox",
        "is_authenticated",
        "is_binary",
        "is_extended",
        "is_smtputf8",
        "is_tls",
        "limits",
        "mode",
        "offered",
        "phase",
        "recipients",
        "transactions",
    )

    def __init__(
        self, *, limits: Limits, hello: ServerHello, mode: Mode, is_tls: bool = False
    ) -> None:
        """
        Args:
            limits: may be replaced while the session runs (`session.limits = stressed`).
            is_tls: implicit TLS is up already (port 465).
        """
        self.limits = limits
        self.hello = hello
        self.mode = mode
        self.phase = Phase.NEW
        self.is_tls = is_tls
        self.is_authenticated = False
        self.is_extended = False
        self.hello_name = ""
        self.recipients = 0  # accepted in this transaction
        self.transactions = 0  # MAIL accepted in this session
        self.inbox = Inbox()
        self._outbox = bytearray()
        self.budget = Budget()
        self._open: Event | None = None
        self._end_reason: str | None = None
        self._content: Content | None = None  # None while a chunk is dropped
        self._left = 0  # octets of the current chunk still to come
        self.offered = self.auth_rounds = 0
        self._is_last_chunk = self.is_binary = self.is_smtputf8 = False
        self._is_early = False  # the peer spoke before our greeting

    # --- octets and events ---

    def receive(self, octets: bytes) -> None:
        """Take what the network gave, cut anywhere."""
        phase = self.phase
        if not octets:
            return
        if phase is Phase.NEW:
            self._is_early = True
        elif phase is Phase.HANDSHAKE:
            raise LocalProtocolError("octets behind STARTTLS belong to TLS")
        elif phase is not Phase.ENDED:
            self.inbox.receive(octets)

    def next_event(self) -> Event | None:
        """The next decision the caller owes, or None when the outbox is full (take it and ask
        again) or more octets are needed."""
        if self._open is not None:
            raise LocalProtocolError(f"{type(self._open).__name__} is unanswered")
        inbox = self.inbox
        inbox.gather()
        while inbox and len(self._outbox) < OUTBOX_OCTETS_MAX:
            phase = self.phase
            if phase is Phase.CONTENT:
                self._open = self._read_content()
            elif phase is Phase.CHUNK:
                self._open = self._read_chunk()
            elif (line := self._take_line()) is None:
                break
            else:
                try:
                    self._open = self._parse(line)
                except Disconnect as refusal:
                    self.disconnect(refusal.reply, refusal.detail or refusal.reply.text)
                except Refusal as refusal:  # the session goes on
                    self._refuse(refusal.reply)
            if self._open is not None:
                return self._open
        if self._end_reason is not None:
            reason, self._end_reason = self._end_reason, None
            return SessionEnded(reason=reason)
        return None

    def take_outgoing(self) -> bytes:
        """What is to be written now; b"" when nothing is."""
        self.budget.delay_s = 0.0
        if not self._outbox:
            return b""
        octets = bytes(self._outbox)
        self._outbox.clear()
        return octets

    @property
    def delay_s(self) -> float:
        """Seconds to wait before what `take_outgoing` gives is written: the price of errors."""
        return self.budget.delay_s

    @property
    def is_hungry(self) -> bool:
        """False when the driver had better stop reading until the open event is answered."""
        return len(self.inbox) < INBOX_OCTETS_MAX

    @property
    def is_ended(self) -> bool:
        return self.phase is Phase.ENDED

    @property
    def is_between_messages(self) -> bool:
        """Whether no transaction is open: a good moment to end the session."""
        return self.phase in (Phase.NEW, Phase.GREETED, Phase.READY, Phase.AUTH)

    def take_limits_hit(self) -> tuple[str, ...]:
        """Names of the settings whose bound was reached since the last call, for the metrics."""
        names, self.budget.limits_hit = self.budget.limits_hit, ()
        return names

    # --- answers ---

    def greet(self) -> None:
        """Put our 220 in the outbox (RFC 5321 §3.1). To turn a client away: `disconnect`."""
        if self.phase is not Phase.NEW:
            raise LocalProtocolError("greeted already")
        if self._is_early:
            self.disconnect(replies.EARLY_TALKER, "early talker")
            return
        self._outbox += self.hello.greeting(self.mode)
        self.phase = Phase.GREETED

    def answer(self, reply: Reply) -> None:
        """Accept or refuse the open event.

        A positive reply opens the transaction (MAIL), adds a recipient (RCPT) or takes the message
        over. Hello, STARTTLS, AUTH and DATA are accepted by methods of their own. Any reply to a
        message ends its transaction; in LMTP it is given once for each recipient. 421 to anything
        ends the session.
        """
        event, self._open = self._open, None
        if event is None:
            raise LocalProtocolError("no event is open")
        if reply.code == 421:
            self.disconnect(reply, "refused by policy")
        elif type(event) is RecipientOffered:
            self._answer_recipient(reply)
        elif type(event) is SenderOffered:
            self._answer_sender(event, reply)
        elif type(event) is MessageReceived:
            self._answer_message(reply)
        elif reply.is_positive:
            self._open = event
            raise LocalProtocolError(f"{type(event).__name__} has a method to accept it")
        elif isinstance(event, AuthStarted | AuthResponded):
            self.fail_auth(reply)
        else:
            self.say(reply)
            if type(event) is DataRequested:
                self._refuse_content_behind()

    def accept_hello(self) -> None:
        """Greet back; a transaction is forgotten as by RSET (RFC 5321 §4.1.4)."""
        event = self._close(HelloReceived)
        if self.inbox:  # EHLO ends a group, RFC 2920 §3.1
            self.disconnect(replies.EARLY_TALKER, "pipelined behind hello")
            return
        self.phase = Phase.READY
        self.reset()
        self.hello_name = event.name
        self.is_extended = event.is_extended
        if event.is_extended:
            self._outbox += ehlo_octets(
                self.hello, self.limits, is_tls=self.is_tls, is_authenticated=self.is_authenticated
            )
        else:
            self._outbox += f"250 {self.hello.host}\r\n".encode()

    def accept_starttls(self) -> None:
        """Put the 220 in the outbox. The caller writes it, runs the handshake, then calls
        `tls_started`; until then `receive` may not be called."""
        self._close(StartTlsReceived)
        if self.inbox:
            self.disconnect(replies.TLS_INJECTION, "octets behind STARTTLS")
            return
        self.say(replies.READY_FOR_TLS)
        self.phase = Phase.HANDSHAKE

    def tls_started(self) -> None:
        """TLS is up: everything the client said before is forgotten (RFC 3207 §4.2)."""
        if self.phase is not Phase.HANDSHAKE:
            raise LocalProtocolError("no STARTTLS was accepted")
        self.reset()
        self.is_tls = True
        self.is_authenticated = self.is_extended = False
        self.hello_name = ""
        self.phase = Phase.GREETED

    def challenge(self, octets: bytes) -> None:
        """Ask the client for its next SASL response (RFC 4954 §4)."""
        self._close(AuthStarted, AuthResponded)
        self.auth_rounds += 1
        if self.auth_rounds > AUTH_ROUNDS_MAX:
            self.fail_auth(replies.TOO_MANY_ROUNDS)
            return
        self._outbox += b"334 " + encode_base64(octets) + b"\r\n"
        self.phase = Phase.AUTH

    def accept_auth(self) -> None:
        self._close(AuthStarted, AuthResponded)
        self.is_authenticated = True
        self.phase = Phase.READY
        self.say(replies.AUTH_OK)

    def accept_data(self) -> None:
        """Send 354; the next event is the whole message."""
        self._close(DataRequested)
        self.say(replies.START_CONTENT)
        self._content = self._new_content(is_stuffed=True)
        self.phase = Phase.CONTENT

    def answer_each(self, each: list[Reply]) -> None:
        """LMTP: one reply for each accepted recipient, in order (RFC 2033 §4.2)."""
        if self.mode is not Mode.LMTP or len(each) != self.recipients:
            raise LocalProtocolError("one reply for each LMTP recipient")
        self._close(MessageReceived)
        for reply in each:
            self.say(reply)
        self._end_transaction(is_accepted=any(reply.is_positive for reply in each))

    def disconnect(self, reply: Reply, reason: str) -> None:
        """End the session in any phase: `reply` goes out and `SessionEnded` is the last event.

        An open event is closed unanswered.
        """
        if self.phase is Phase.ENDED:
            return
        self.say(reply)
        self._end_reason = reason
        self.phase = Phase.ENDED
        self._open = self._content = None
        self.inbox.clear()

    # --- what the answers do ---

    def _close(self, *kinds: type[E]) -> E:
        event = self._open
        if not isinstance(event, kinds):
            raise LocalProtocolError(f"{event!r} is open")
        self._open = None
        return event

    def _answer_recipient(self, reply: Reply) -> None:
        if reply.is_positive:
            self.recipients += 1
            self.phase = Phase.RCPT
        elif reply.is_permanent and not self.budget.count_refused_recipient(self.limits):
            self.disconnect(replies.TOO_MANY_UNKNOWN, "smtp.unknown_recipients_max")
            return
        self.say(reply)

    def _answer_sender(self, event: SenderOffered, reply: Reply) -> None:
        if reply.is_permanent:
            self._refuse(reply)
            return
        self.say(reply)
        if reply.is_positive:
            self.transactions += 1
            self.is_smtputf8 = event.is_smtputf8
            self.is_binary = event.body is BodyType.BINARY
            self.phase = Phase.MAIL

    def _answer_message(self, reply: Reply) -> None:
        for _ in range(self.recipients if self.mode is Mode.LMTP else 1):
            self.say(reply)
        self._end_transaction(is_accepted=reply.is_positive)

    def _end_transaction(self, *, is_accepted: bool) -> None:
        if is_accepted:
            self.budget.forgive_junk()
        self.phase = Phase.READY
        self.reset()

    def reset(self) -> None:
        """Forget the transaction."""
        self.recipients = self.offered = 0
        self._content = None
        self.is_smtputf8 = self.is_binary = False

    def fail_auth(self, reply: Reply) -> None:
        self.phase = Phase.READY
        self.auth_rounds = 0
        self.say(reply)
        if reply.is_permanent and not self.budget.count_failed_login(self.limits):
            self.disconnect(replies.TOO_MANY_LOGINS, "auth.attempts_max")

    def _refuse_content_behind(self) -> None:
        """DATA was refused: what came behind it without waiting is content, never commands."""
        if self.inbox:
            self.disconnect(replies.EARLY_TALKER, "content behind a refused DATA")

    def say(self, reply: Reply) -> None:
        self._outbox += reply.encode()

    def _refuse(self, reply: Reply) -> None:
        """Answer a command that is malformed, unknown or out of turn, and count it."""
        if self.budget.count_error(self.limits):
            self.say(reply)
        else:
            self.disconnect(replies.TOO_MANY_ERRORS, "smtp.errors_max")

    # --- lines and commands ---

    def _take_line(self) -> bytes | None:
        """The next command or SASL response; refuses bad lines on its way."""
        inbox, limits = self.inbox, self.limits
        while self.phase is not Phase.ENDED:
            if self.phase is Phase.GREETED and inbox and is_foreign(inbox.octets, inbox.at):
                self.disconnect(replies.WRONG_PROTOCOL, "wrong protocol")
                break
            is_auth = self.phase is Phase.AUTH
            line = inbox.take_line(
                limits.auth_octets_max if is_auth else limits.command_octets_max,
                limits.auth_octets_max,
            )
            if not isinstance(line, LineFault):
                return line
            if line is LineFault.TOO_LONG:
                self.budget.hit("smtp.auth_octets_max" if is_auth else "smtp.command_octets_max")
                reply = replies.AUTH_LINE_TOO_LONG if is_auth else replies.LINE_TOO_LONG
            else:
                reply = replies.BARE_NEWLINE_LINE
            if is_auth:
                self.fail_auth(reply)
            else:
                self._refuse(reply)
        return None

    def _parse(self, line: bytes) -> Event | None:
        """One line to an event, or None when the machine answered it itself."""
        if self.phase is Phase.AUTH:
            return read_response(self, line)
        verb, argument = grammar.split_command(line)
        if b"\0" in line or b"\r" in line:
            raise Refusal(replies.MALFORMED_LINE)
        read = COMMANDS.get(verb)
        if read is None:
            if verb in FOREIGN_VERBS or verb.startswith(b"SSH-") or b"HTTP/" in line:
                raise Disconnect(replies.WRONG_PROTOCOL, detail="wrong protocol")
            raise Refusal(replies.UNKNOWN_COMMAND)
        if verb not in ALLOWED[self.phase]:
            if verb == b"BDAT":
                return self._drain_chunk(argument, replies.BAD_SEQUENCE)
            if verb == b"DATA" and self.inbox:
                raise Disconnect(replies.EARLY_TALKER, detail="content behind a refused DATA")
            raise Refusal(
                replies.HELLO_FIRST if self.phase is Phase.GREETED else replies.BAD_SEQUENCE
            )
        return read(self, verb, argument)

    # --- content ---

    def _new_content(self, *, is_stuffed: bool) -> Content:
        return Content(
            octets_max=self.limits.message_octets_max,
            line_octets_max=self.limits.text_line_octets_max,
            is_stuffed=is_stuffed,
        )

    def _read_content(self) -> Event | None:
        content = self._content
        assert content is not None
        if content.read_data(self.inbox):
            return self._judge(content)
        if content.size > self.limits.message_octets_max + DRAIN_OCTETS_MAX:
            self.budget.hit("smtp.message_octets_max")
            self.disconnect(replies.MESSAGE_TOO_BIG, "smtp.message_octets_max")
        return None

    def _judge(self, content: Content) -> Event | None:
        """The whole message as an event, unless the machine has to refuse it itself."""
        judged = content.judged(self.hello.bare_newlines, is_binary=self.is_binary)
        if isinstance(judged, bytes):
            return MessageReceived(octets=judged)
        if content.is_too_big:
            self.budget.hit("smtp.message_octets_max")
        self._answer_message(judged)
        if not self.budget.count_error(self.limits):
            self.disconnect(replies.TOO_MANY_ERRORS, "smtp.errors_max")
        return None

    def begin_chunk(self, argument: bytes) -> Event | None:
        """BDAT in its turn (RFC 3030 §2): its octets follow at once, whatever we answer."""
        if not self.hello.is_chunking:
            return self._drain_chunk(argument, replies.NOT_OFFERED)
        try:
            self._left, self._is_last_chunk = grammar.parse_chunk(argument)
        except Refusal as refusal:
            return self._drain_chunk(argument, refusal.reply)
        if self._content is None:
            self._content = self._new_content(is_stuffed=False)
        if self._content.size + self._left > self.limits.message_octets_max:
            self.budget.hit("smtp.message_octets_max")
            return self._drain_chunk(argument, replies.MESSAGE_TOO_BIG)
        self.phase = Phase.CHUNK
        return None if self._left else self._end_chunk()

    def _drain_chunk(self, argument: bytes, reply: Reply) -> Event | None:
        """Refuse a chunk: answer, then read its octets and drop them; the transaction is over.

        Where its size cannot be told, what follows must not become commands: the session ends.
        """
        size = grammar.chunk_octets(argument)
        if size is None or size > max(self.limits.message_octets_max, DRAIN_OCTETS_MAX):
            raise Disconnect(reply, detail="chunk of unknown or absurd size")
        if self.phase is not Phase.GREETED:
            self._end_transaction(is_accepted=False)
        self._refuse(reply)
        self.inbox.discard(size)
        return None

    def _read_chunk(self) -> Event | None:
        content = self._content
        assert content is not None
        self._left -= content.read_chunk(self.inbox, self._left, is_last=self._is_last_chunk)
        return None if self._left else self._end_chunk()

    def _end_chunk(self) -> Event | None:
        content = self._content
        assert content is not None
        if self._is_last_chunk:
            return self._judge(content)
        self.say(replies.CHUNK_OK)
        self.phase = Phase.CHUNKS
        return None
