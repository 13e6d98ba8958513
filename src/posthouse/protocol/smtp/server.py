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

from collections.abc import Callable
from typing import Final, TypeVar

from posthouse.kernel.envelope import BodyType
from posthouse.kernel.errors import Disconnect, LocalProtocolError, Refusal
from posthouse.kernel.reply import Reply
from posthouse.protocol.sasl.grammar import (
    SaslSyntaxError,
    decode_base64,
    decode_initial,
    encode_base64,
)
from posthouse.protocol.smtp import grammar, replies
from posthouse.protocol.smtp.budget import Budget
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
    EXCESS_RECIPIENTS_MAX,
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
    """

    __slots__ = (
        "_auth_rounds",
        "_budget",
        "_content",
        "_end_reason",
        "_inbox",
        "_is_binary",
        "_is_early",
        "_is_last_chunk",
        "_is_smtputf8",
        "_left",
        "_offered",
        "_open",
        "_outbox",
        "hello",
        "hello_name",
        "is_authenticated",
        "is_extended",
        "is_tls",
        "limits",
        "mode",
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
        self._inbox = Inbox()
        self._outbox = bytearray()
        self._budget = Budget()
        self._open: Event | None = None
        self._end_reason: str | None = None
        self._content: Content | None = None  # None while a chunk is dropped
        self._left = 0  # octets of the current chunk still to come
        self._offered = self._auth_rounds = 0
        self._is_last_chunk = self._is_binary = self._is_smtputf8 = False
        self._is_early = False  # the peer spoke before our greeting

    # --- octets and events ---

    def receive(self, octets: bytes) -> None:
        """Take what the network gave, cut anywhere."""
        phase = self.phase
        if phase is Phase.NEW:
            self._is_early = self._is_early or bool(octets)
        elif phase is Phase.HANDSHAKE:
            raise LocalProtocolError("octets behind STARTTLS belong to TLS")
        elif phase is not Phase.ENDED:
            self._inbox.receive(octets)

    def next_event(self) -> Event | None:
        """The next decision the caller owes, or None when the outbox is full (take it and ask
        again) or more octets are needed."""
        if self._open is not None:
            raise LocalProtocolError(f"{type(self._open).__name__} is unanswered")
        inbox = self._inbox
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
        self._budget.delay_s = 0.0
        if not self._outbox:
            return b""
        octets = bytes(self._outbox)
        self._outbox.clear()
        return octets

    @property
    def delay_s(self) -> float:
        """Seconds to wait before what `take_outgoing` gives is written: the price of errors."""
        return self._budget.delay_s

    @property
    def is_hungry(self) -> bool:
        """False when the driver had better stop reading until the open event is answered."""
        return len(self._inbox) < INBOX_OCTETS_MAX

    @property
    def is_ended(self) -> bool:
        return self.phase is Phase.ENDED

    @property
    def is_between_messages(self) -> bool:
        """Whether no transaction is open: a good moment to end the session."""
        return self.phase in (Phase.NEW, Phase.GREETED, Phase.READY, Phase.AUTH)

    def take_limits_hit(self) -> tuple[str, ...]:
        """Names of the settings whose bound was reached since the last call, for the metrics."""
        names, self._budget.limits_hit = self._budget.limits_hit, ()
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
            self._fail_auth(reply)
        else:
            self._say(reply)
            if type(event) is DataRequested:
                self._refuse_content_behind()

    def accept_hello(self) -> None:
        """Greet back; a transaction is forgotten as by RSET (RFC 5321 §4.1.4)."""
        event = self._close(HelloReceived)
        if self._inbox:  # EHLO ends a group, RFC 2920 §3.1
            self.disconnect(replies.EARLY_TALKER, "pipelined behind hello")
            return
        self.phase = Phase.READY
        self._reset()
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
        if self._inbox:
            self.disconnect(replies.TLS_INJECTION, "octets behind STARTTLS")
            return
        self._say(replies.READY_FOR_TLS)
        self.phase = Phase.HANDSHAKE

    def tls_started(self) -> None:
        """TLS is up: everything the client said before is forgotten (RFC 3207 §4.2)."""
        if self.phase is not Phase.HANDSHAKE:
            raise LocalProtocolError("no STARTTLS was accepted")
        self._reset()
        self.is_tls = True
        self.is_authenticated = self.is_extended = False
        self.hello_name = ""
        self.phase = Phase.GREETED

    def challenge(self, octets: bytes) -> None:
        """Ask the client for its next SASL response (RFC 4954 §4)."""
        self._close(AuthStarted, AuthResponded)
        self._auth_rounds += 1
        if self._auth_rounds > AUTH_ROUNDS_MAX:
            self._fail_auth(replies.TOO_MANY_ROUNDS)
            return
        self._outbox += b"334 " + encode_base64(octets) + b"\r\n"
        self.phase = Phase.AUTH

    def accept_auth(self) -> None:
        self._close(AuthStarted, AuthResponded)
        self.is_authenticated = True
        self.phase = Phase.READY
        self._say(replies.AUTH_OK)

    def accept_data(self) -> None:
        """Send 354; the next event is the whole message."""
        self._close(DataRequested)
        self._say(replies.START_CONTENT)
        self._content = self._new_content(is_stuffed=True)
        self.phase = Phase.CONTENT

    def answer_each(self, each: list[Reply]) -> None:
        """LMTP: one reply for each accepted recipient, in order (RFC 2033 §4.2)."""
        if self.mode is not Mode.LMTP or len(each) != self.recipients:
            raise LocalProtocolError("one reply for each LMTP recipient")
        self._close(MessageReceived)
        for reply in each:
            self._say(reply)
        self._end_transaction(is_accepted=any(reply.is_positive for reply in each))

    def disconnect(self, reply: Reply, reason: str) -> None:
        """End the session in any phase: `reply` goes out and `SessionEnded` is the last event.

        An open event is closed unanswered.
        """
        if self.phase is Phase.ENDED:
            return
        self._say(reply)
        self._end_reason = reason
        self.phase = Phase.ENDED
        self._open = self._content = None
        self._inbox.clear()

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
        elif reply.is_permanent and not self._budget.count_refused_recipient(self.limits):
            self.disconnect(replies.TOO_MANY_UNKNOWN, "smtp.unknown_recipients_max")
            return
        self._say(reply)

    def _answer_sender(self, event: SenderOffered, reply: Reply) -> None:
        if reply.is_permanent:
            self._refuse(reply)
            return
        self._say(reply)
        if reply.is_positive:
            self.transactions += 1
            self._is_smtputf8 = event.is_smtputf8
            self._is_binary = event.body is BodyType.BINARY
            self.phase = Phase.MAIL

    def _answer_message(self, reply: Reply) -> None:
        for _ in range(self.recipients if self.mode is Mode.LMTP else 1):
            self._say(reply)
        self._end_transaction(is_accepted=reply.is_positive)

    def _end_transaction(self, *, is_accepted: bool) -> None:
        if is_accepted:
            self._budget.forgive_junk()
        self.phase = Phase.READY
        self._reset()

    def _reset(self) -> None:
        """Forget the transaction."""
        self.recipients = self._offered = 0
        self._content = None
        self._is_smtputf8 = self._is_binary = False

    def _fail_auth(self, reply: Reply) -> None:
        self.phase = Phase.READY
        self._auth_rounds = 0
        self._say(reply)
        if not self._budget.count_failed_login(self.limits):
            self.disconnect(replies.TOO_MANY_LOGINS, "auth.attempts_max")

    def _refuse_content_behind(self) -> None:
        """DATA was refused: what came behind it without waiting is content, never commands."""
        if self._inbox:
            self.disconnect(replies.EARLY_TALKER, "content behind a refused DATA")

    def _say(self, reply: Reply) -> None:
        self._outbox += reply.encode()

    def _refuse(self, reply: Reply) -> None:
        """Answer a command that is malformed, unknown or out of turn, and count it."""
        if self._budget.count_error(self.limits):
            self._say(reply)
        else:
            self.disconnect(replies.TOO_MANY_ERRORS, "smtp.errors_max")

    # --- lines and commands ---

    def _take_line(self) -> bytes | None:
        """The next command or SASL response; refuses bad lines on its way."""
        inbox, limits = self._inbox, self.limits
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
                self._budget.hit("smtp.auth_octets_max" if is_auth else "smtp.command_octets_max")
                reply = replies.AUTH_LINE_TOO_LONG if is_auth else replies.LINE_TOO_LONG
            else:
                reply = replies.BARE_NEWLINE_LINE
            if is_auth:
                self._fail_auth(reply)
            else:
                self._refuse(reply)
        return None

    def _parse(self, line: bytes) -> Event | None:
        """One line to an event, or None when the machine answered it itself."""
        if self.phase is Phase.AUTH:
            return self._parse_response(line)
        verb, argument = grammar.split_command(line)
        if b"\0" in line or b"\r" in line:
            raise Refusal(replies.MALFORMED_LINE)
        parse = COMMANDS.get(verb)
        if parse is None:
            if verb in FOREIGN_VERBS or verb.startswith(b"SSH-") or b"HTTP/" in line:
                raise Disconnect(replies.WRONG_PROTOCOL, detail="wrong protocol")
            raise Refusal(replies.UNKNOWN_COMMAND)
        if verb not in ALLOWED[self.phase]:
            if verb == b"BDAT":
                return self._drain_chunk(argument, replies.BAD_SEQUENCE)
            if verb == b"DATA" and self._inbox:
                raise Disconnect(replies.EARLY_TALKER, detail="content behind a refused DATA")
            raise Refusal(
                replies.HELLO_FIRST if self.phase is Phase.GREETED else replies.BAD_SEQUENCE
            )
        return parse(self, verb, argument)

    def _parse_hello(self, verb: bytes, argument: bytes) -> Event | None:
        if (verb == b"LHLO") != (self.mode is Mode.LMTP):  # RFC 2033 §4.1
            raise Refusal(replies.UNKNOWN_COMMAND)
        if self.phase is not Phase.GREETED:
            self._count_junk()
        return HelloReceived(name=grammar.parse_hello_name(argument), is_extended=verb != b"HELO")

    def _parse_starttls(self, verb: bytes, argument: bytes) -> Event | None:
        if self.is_tls:
            raise Refusal(replies.TLS_ACTIVE)
        if not self.hello.is_starttls:
            raise Refusal(replies.NOT_OFFERED)
        if self._inbox:  # RFC 3207 §4: it is the last of its group
            raise Disconnect(replies.TLS_INJECTION, detail="octets behind STARTTLS")
        if argument:
            raise Refusal(replies.BAD_ARGUMENT)
        return StartTlsReceived()

    def _parse_auth(self, verb: bytes, argument: bytes) -> Event | None:
        """RFC 4954 §4."""
        if not self.hello.mechanisms:
            raise Refusal(replies.NOT_OFFERED)
        if self.is_authenticated:
            raise Refusal(replies.AUTHENTICATED)
        if self._inbox:
            raise Disconnect(replies.EARLY_TALKER, detail="pipelined behind AUTH")
        if not self.is_tls and not self.hello.is_auth_without_tls:
            raise Refusal(replies.TLS_FOR_AUTH)
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.decode("ascii", "replace").upper()
        if name not in self.hello.mechanisms:
            raise Refusal(replies.UNKNOWN_MECHANISM if name else replies.BAD_ARGUMENT)
        try:
            octets = decode_initial(initial) if initial else None
        except SaslSyntaxError:
            self._fail_auth(replies.BAD_BASE64)
            return None
        self._auth_rounds = 0
        return AuthStarted(mechanism=name, initial=octets)

    def _parse_response(self, line: bytes) -> Event | None:
        if self._inbox:
            raise Disconnect(replies.EARLY_TALKER, detail="pipelined behind AUTH")
        if line == b"*":
            self._fail_auth(replies.AUTH_CANCELLED)
            return None
        try:
            return AuthResponded(response=decode_base64(line))
        except SaslSyntaxError:
            self._fail_auth(replies.BAD_BASE64)
            return None

    def _parse_mail(self, verb: bytes, argument: bytes) -> Event | None:
        if self.mode is Mode.SUBMISSION and not self.is_authenticated:  # RFC 6409 §4.3
            can_tls = self.hello.is_starttls and not self.is_tls
            raise Refusal(replies.TLS_FIRST if can_tls else replies.AUTH_FIRST)
        if self.transactions >= self.limits.transactions_max:
            self._budget.hit("smtp.transactions_max")
            raise Disconnect(replies.TOO_MANY_TRANSACTIONS, detail="smtp.transactions_max")
        hello = self.hello
        event = grammar.parse_sender(
            argument,
            is_smtputf8=hello.is_smtputf8,
            is_binary=hello.is_binary,
            is_dsn=hello.is_dsn,
        )
        if event.size_octets is not None and event.size_octets > self.limits.message_octets_max:
            self._budget.hit("smtp.message_octets_max")
            raise Refusal(replies.MESSAGE_TOO_BIG)  # RFC 1870 §6.1
        return event

    def _parse_rcpt(self, verb: bytes, argument: bytes) -> Event | None:
        event = grammar.parse_recipient(
            argument, is_smtputf8=self._is_smtputf8, is_dsn=self.hello.is_dsn
        )
        self._offered += 1
        if self._offered > self.limits.recipients_max + EXCESS_RECIPIENTS_MAX:
            raise Disconnect(replies.TOO_MANY_ERRORS, detail="smtp.recipients_max")
        if self.recipients < self.limits.recipients_max:
            return event
        self._budget.hit("smtp.recipients_max")
        self._say(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
        return None

    def _parse_data(self, verb: bytes, argument: bytes) -> Event | None:
        if argument or self._is_binary:  # RFC 3030 §3: BINARYMIME comes by BDAT
            if self._inbox:
                raise Disconnect(replies.EARLY_TALKER, detail="content behind a refused DATA")
            raise Refusal(replies.BAD_ARGUMENT if argument else replies.BAD_SEQUENCE)
        return DataRequested()

    def _answer_simple(self, verb: bytes, argument: bytes) -> Event | None:
        """Commands that bring no mail nearer; VRFY and EXPN reveal nothing (RFC 5321 §7.3)."""
        self._count_junk()
        if verb == b"RSET":
            if argument:
                raise Refusal(replies.BAD_ARGUMENT)
            if self.phase is not Phase.GREETED:
                self.phase = Phase.READY
            self._reset()
            self._say(replies.OK)
        elif verb == b"NOOP":
            self._say(replies.OK)
        elif verb == b"HELP":
            self._say(replies.HELP)
        elif not argument:
            raise Refusal(replies.BAD_ARGUMENT)
        else:
            self._say(replies.CANNOT_VERIFY)
        return None

    def _parse_quit(self, verb: bytes, argument: bytes) -> Event | None:
        raise Disconnect(replies.BYE, detail="quit")

    def _count_junk(self) -> None:
        if not self._budget.count_junk(self.limits):
            raise Disconnect(replies.TOO_MUCH_JUNK, detail="smtp.junk_commands_max")

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
        if content.read_data(self._inbox):
            return self._judge(content)
        if content.size > self.limits.message_octets_max + DRAIN_OCTETS_MAX:
            self._budget.hit("smtp.message_octets_max")
            self.disconnect(replies.MESSAGE_TOO_BIG, "smtp.message_octets_max")
        return None

    def _judge(self, content: Content) -> Event | None:
        """The whole message as an event, unless the machine has to refuse it itself."""
        judged = content.judged(self.hello.bare_newlines, is_binary=self._is_binary)
        if isinstance(judged, bytes):
            return MessageReceived(octets=judged)
        if content.is_too_big:
            self._budget.hit("smtp.message_octets_max")
        self._answer_message(judged)
        if not self._budget.count_error(self.limits):
            self.disconnect(replies.TOO_MANY_ERRORS, "smtp.errors_max")
        return None

    def _parse_chunk(self, verb: bytes, argument: bytes) -> Event | None:
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
            self._budget.hit("smtp.message_octets_max")
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
        self._inbox.discard(size)
        return None

    def _read_chunk(self) -> Event | None:
        content = self._content
        assert content is not None
        self._left -= content.read_chunk(self._inbox, self._left, is_last=self._is_last_chunk)
        return None if self._left else self._end_chunk()

    def _end_chunk(self) -> Event | None:
        content = self._content
        assert content is not None
        if self._is_last_chunk:
            return self._judge(content)
        self._say(replies.CHUNK_OK)
        self.phase = Phase.CHUNKS
        return None


COMMANDS: Final[dict[bytes, Callable[[ServerSession, bytes, bytes], Event | None]]] = {
    b"EHLO": ServerSession._parse_hello,
    b"HELO": ServerSession._parse_hello,
    b"LHLO": ServerSession._parse_hello,
    b"STARTTLS": ServerSession._parse_starttls,
    b"AUTH": ServerSession._parse_auth,
    b"MAIL": ServerSession._parse_mail,
    b"RCPT": ServerSession._parse_rcpt,
    b"DATA": ServerSession._parse_data,
    b"BDAT": ServerSession._parse_chunk,
    b"RSET": ServerSession._answer_simple,
    b"NOOP": ServerSession._answer_simple,
    b"VRFY": ServerSession._answer_simple,
    b"EXPN": ServerSession._answer_simple,
    b"HELP": ServerSession._answer_simple,
    b"QUIT": ServerSession._parse_quit,
}
