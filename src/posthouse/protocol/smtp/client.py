"""Client side of SMTP as a pure machine, for relay, smart-hosts and `posthouse send`.

RFC 5321, 1870, 2920, 3030, 3207, 3461, 4954, 6531, 8689. A driver feeds `receive`, calls
`next_event` until it gives None, then writes what `take_outgoing` gives until that is empty.
`waiting_for` names the deadline that runs; when one passes or the line breaks it calls
`connection_lost`, and events go on until None. `Ready` says when messages may be sent; each comes
back in `MessageEnded`.
"""

from __future__ import annotations

from collections import deque

from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.reply import Reply
from posthouse.protocol.sasl.client import ClientMechanism
from posthouse.protocol.sasl.grammar import SaslSyntaxError, decode_base64, encode_base64
from posthouse.protocol.smtp.client_events import (
    Authenticated,
    ClientEvent,
    Closed,
    OutgoingMessage,
    Ready,
    Refused,
    SessionFailed,
    Stage,
    TlsAgreed,
)
from posthouse.protocol.smtp.extensions import Extensions, parse_extensions
from posthouse.protocol.smtp.limits import AUTH_ROUNDS_MAX
from posthouse.protocol.smtp.outgoing import (
    BLOCK_OCTETS,
    OutgoingContent,
    format_mail,
    format_rcpt,
)
from posthouse.protocol.smtp.reply_reader import Nonsense, ReplyReader
from posthouse.protocol.smtp.transaction import Transaction, outcome_of

FLYING_MAX = 2  # transactions begun and not settled
EAGER_CHUNK_OCTETS_MAX = 65_536
"""Content of up to this goes by BDAT right behind its envelope; more waits for RCPT's replies."""


class ClientSession:
    """One session, from the server's greeting to QUIT.

    With PIPELINING an envelope and its DATA go in one write, and the next envelope goes behind
    the end of the content (RFC 2920 §3.1); without, each command waits for its reply.
    """

    __slots__ = (
        "_auth_rounds",
        "_events",
        "_expected",
        "_flying",
        "_is_helo",
        "_is_lmtp",
        "_is_over",
        "_is_ready",
        "_lost_detail",
        "_mechanism",
        "_name",
        "_needs_reset",
        "_outbox",
        "_reader",
        "_waiting",
        "extensions",
        "is_tls",
    )

    def __init__(
        self,
        *,
        name: str,
        is_tls: bool = False,
        is_lmtp: bool = False,
        reader: ReplyReader | None = None,
    ) -> None:
        """
        Args:
            name: ours, for EHLO: a domain or an address literal.
            is_tls: implicit TLS is up already.
            is_lmtp: LHLO, and behind the content one reply for each recipient that was accepted
                (RFC 2033 §4.2).
            reader: one with other bounds.
        """
        self.extensions = Extensions()
        self.is_tls = is_tls
        self._name = name
        self._is_lmtp = is_lmtp
        self._reader = reader or ReplyReader()
        self._expected: deque[tuple[Stage, Transaction | None, int]] = deque(
            ((Stage.GREETING, None, 0),)
        )
        self._outbox: deque[bytes | OutgoingContent] = deque()
        self._events: deque[ClientEvent] = deque()
        self._waiting: deque[OutgoingMessage] = deque()
        self._flying: deque[Transaction] = deque()
        self._mechanism: ClientMechanism | None = None
        self._auth_rounds = 0
        self._is_helo = self._is_ready = self._is_over = False
        self._needs_reset = False  # the server may have a transaction open
        self._lost_detail: str | None = None

    # --- octets and events ---

    def receive(self, octets: bytes) -> None:
        if not self._is_over:  # nothing more is read then, so nothing more is kept
            self._reader.receive(octets)

    def next_event(self) -> ClientEvent | None:
        """What happened next, or None when more octets are needed."""
        while not self._events:
            if self._is_over:
                return None
            reply = self._reader.next_reply()
            if reply is not None:
                self._take_reply(reply)
            elif self._lost_detail is None:
                return None
            else:
                self._fail(self.waiting_for, None, self._lost_detail)
        return self._events.popleft()

    def take_outgoing(self) -> bytes:
        """What is to be written next, at most some 256 KiB at a time; b"" when nothing is."""
        outbox = self._outbox
        parts: list[bytes] = []
        size = 0
        while outbox and size < BLOCK_OCTETS:
            item = outbox[0]
            if isinstance(item, bytes):
                part = item
                outbox.popleft()
            else:
                part = item.take()
                if item.is_sent:
                    outbox.popleft()
            parts.append(part)
            size += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def waiting_for(self) -> Stage:
        """Whose deadline runs (RFC 5321 §4.5.3.2); IDLE when the server owes nothing."""
        if not self._expected:
            return Stage.IDLE
        stage, transaction, _ = self._expected[0]
        if stage is Stage.DOT and transaction is not None:
            content = transaction.content
            if content is not None and not content.is_sent:
                return Stage.BLOCK
        return stage

    @property
    def is_idle(self) -> bool:
        """Ready and with nothing to do: the session may be kept for the next message, or quit."""
        return self._is_ready and not (self._flying or self._waiting or self._expected)

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def wants_message(self) -> bool:
        """Whether a message given now would leave at once."""
        return self._is_ready and not self._waiting and self._has_room

    # --- what the caller asks for ---

    def start_tls(self) -> None:
        """Ask for TLS (RFC 3207); answered by `TlsAgreed`, `Refused` or `SessionFailed`."""
        self._need_idle()
        if self.is_tls:
            raise LocalProtocolError("TLS is active already")
        self._write(b"STARTTLS\r\n", Stage.STARTTLS)

    def tls_started(self) -> None:
        """TLS is up: all the server said before is forgotten (RFC 3207 §4.2); EHLO again."""
        if self._expected or self.is_tls or self._is_ready or self._is_over:
            raise LocalProtocolError("no handshake was due")
        if self._reader.has_octets:
            self._fail(Stage.STARTTLS, None, "octets behind the reply to STARTTLS")
            return
        self.is_tls = True
        self.extensions = Extensions()
        self._is_ready = self._is_helo = False
        self._say_hello()

    def authenticate(
        self, mechanism: ClientMechanism, *, is_plaintext_allowed: bool = False
    ) -> None:
        """Log in (RFC 4954); answered by `Authenticated` or `Refused`.

        Args:
            is_plaintext_allowed: send a password without TLS, to a loopback address only.
        """
        self._need_idle()
        if not self.is_tls and not is_plaintext_allowed:
            raise LocalProtocolError("a password needs TLS")
        self._mechanism = mechanism
        self._auth_rounds = 0
        initial = mechanism.initial()
        line = b"AUTH " + mechanism.name.encode()
        if initial is not None:
            line += b" " + (encode_base64(initial) or b"=")
        self._write(line + b"\r\n", Stage.AUTH)

    def send(self, message: OutgoingMessage) -> None:
        """Make a transaction of it as soon as its turn comes; any number may wait.

        A message for a session that is over or was lost comes back at once, untried.
        """
        if not message.envelope.recipients:
            raise LocalProtocolError("a message needs a recipient")
        if not (self._is_ready or self._is_over):
            raise LocalProtocolError("the session is not ready")
        self._waiting.append(message)
        if self._is_over:
            self._give_back("the session is over")
        else:
            self._start_next()

    def reset(self) -> None:
        """RSET, to find out whether a session that was kept is still alive."""
        self._need_idle()
        self._write(b"RSET\r\n", Stage.RSET)

    def quit(self) -> None:
        """Say goodbye once all is settled; answered by `Closed`."""
        self._need_idle()
        self._is_ready = False
        self._write(b"QUIT\r\n", Stage.QUIT)

    def connection_lost(self, detail: str) -> None:
        """The line broke, or a deadline passed: nothing more will be read. `detail` in words."""
        if self._lost_detail is None:
            self._lost_detail = detail

    def _need_idle(self) -> None:
        if not self.is_idle:
            raise LocalProtocolError("the session is busy, not ready or over")

    # --- replies ---

    def _take_reply(self, reply: Reply | Nonsense) -> None:
        if not self._expected:
            self._take_unasked(reply)
            return
        if isinstance(reply, Nonsense):
            self._fail(self.waiting_for, None, f"unreadable reply: {reply.words}")
            return
        early = self.waiting_for is Stage.BLOCK
        stage, transaction, index = self._expected.popleft()
        if transaction is not None:
            self._take_answer(transaction, stage, index, reply, is_early=early)
        elif reply.code == 421:
            self._fail(stage, reply, reply.text)
        elif stage is Stage.GREETING:
            self._take_greeting(reply)
        elif stage is Stage.EHLO:
            self._take_hello(reply)
        elif stage is Stage.STARTTLS:
            self._take_starttls(reply)
        elif stage is Stage.AUTH:
            self._take_auth(reply)
        elif stage is Stage.QUIT:
            self._end(Closed())
        # Else RSET: whatever it is, the next MAIL shows how things stand.

    def _take_unasked(self, reply: Reply | Nonsense) -> None:
        """421 tells that an idle session ends (RFC 5321 §3.8); nothing else is expected here."""
        if isinstance(reply, Reply) and reply.code == 421:
            self._fail(Stage.IDLE, reply, reply.text)
        else:
            self._fail(Stage.IDLE, None, "a reply to nothing")

    def _take_greeting(self, reply: Reply) -> None:
        if reply.code < 300:
            self._say_hello()
        else:
            self._fail(Stage.GREETING, reply, reply.text)

    def _say_hello(self) -> None:
        verb = "LHLO" if self._is_lmtp else "EHLO"
        self._write(f"{verb} {self._name}\r\n".encode(), Stage.EHLO)

    def _take_hello(self, reply: Reply) -> None:
        if reply.code < 300:
            self.extensions = (
                Extensions(host=reply.text.partition(" ")[0])
                if self._is_helo
                else parse_extensions(reply)
            )
            self._is_ready = True
            self._events.append(Ready(extensions=self.extensions, is_tls=self.is_tls))
        elif reply.is_permanent and not (self._is_helo or self._is_lmtp):  # RFC 5321 §3.2
            self._is_helo = True
            self._write(f"HELO {self._name}\r\n".encode(), Stage.EHLO)
        else:
            self._fail(Stage.EHLO, reply, reply.text)

    def _take_starttls(self, reply: Reply) -> None:
        if reply.code >= 300:
            self._events.append(Refused(stage=Stage.STARTTLS, reply=reply))
        elif self._reader.has_octets:  # somebody in the middle speaks for the server
            self._fail(Stage.STARTTLS, None, "octets behind the reply to STARTTLS")
        else:
            self._is_ready = False
            self._events.append(TlsAgreed())

    def _take_auth(self, reply: Reply) -> None:
        if reply.code == 334 and self._mechanism is not None:
            self._auth_rounds += 1
            try:
                if self._auth_rounds > AUTH_ROUNDS_MAX:
                    raise SaslSyntaxError("too many challenges")
                challenge = decode_base64(reply.text.strip().encode())
                response = encode_base64(self._mechanism.step(challenge))
            except SaslSyntaxError:
                self._mechanism = None
                response = b"*"
            self._write(response + b"\r\n", Stage.AUTH)
            return
        self._mechanism = None
        if reply.code == 235:
            self._events.append(Authenticated(reply=reply))
        elif reply.code < 400:
            self._fail(Stage.AUTH, None, f"unexpected reply to AUTH: {reply}")
        else:
            self._events.append(Refused(stage=Stage.AUTH, reply=reply))

    def _take_answer(
        self, transaction: Transaction, stage: Stage, index: int, reply: Reply, *, is_early: bool
    ) -> None:
        """A reply about a message."""
        transaction.expecting -= 1
        transaction.is_answered = True
        transaction.stage = stage
        if reply.is_positive and (is_early or (reply.code >= 300) != (stage is Stage.DATA)):
            self._fail(stage, None, f"unexpected reply: {reply}")
            return
        if stage is Stage.RCPT or (self._is_lmtp and stage is Stage.DOT and not is_early):
            if transaction.outcomes[index] is None and (reply.code >= 400 or stage is Stage.DOT):
                transaction.outcomes[index] = outcome_of(reply, stage)
        elif stage is Stage.DATA and reply.is_positive:
            self._send_content(transaction)
        elif stage is not Stage.MAIL or reply.code >= 400:
            if stage is Stage.DOT and reply.is_positive and len(self._flying) == 1:
                self._needs_reset = False
            transaction.settle(outcome_of(reply, Stage.BLOCK if is_early else stage))
        if reply.code == 421 or is_early:
            self._fail(stage, reply, reply.text)
            return
        if not transaction.expecting:
            self._go_on(transaction)

    def _go_on(self, transaction: Transaction) -> None:
        """All that was asked about the message is answered: ask on, or be done with it."""
        envelope = transaction.message.envelope
        if transaction.has_asked or not transaction.is_open:
            self._flying.popleft()
            self._events.append(transaction.ended())
            self._start_next()
        elif transaction.next_recipient < len(envelope.recipients):
            self._offer_recipient(transaction)
        else:
            self._ask_to_send(transaction)

    # --- transactions ---

    @property
    def _has_room(self) -> bool:
        """Whether an envelope may go out now: behind content whose end is queued is safe."""
        if not self._flying:
            return True
        return (
            self.extensions.is_pipelining
            and len(self._flying) < FLYING_MAX
            and self._flying[-1].content is not None
        )

    def _start_next(self) -> None:
        while self._waiting and self._has_room:
            transaction = Transaction(self._waiting.popleft())
            transaction.refuse_what_cannot_be_sent(self.extensions, is_tls=self.is_tls)
            if transaction.is_open:
                self._flying.append(transaction)
                self._offer_sender(transaction)
            else:
                self._events.append(transaction.ended())

    def _offer_sender(self, transaction: Transaction) -> None:
        message = transaction.message
        if self._needs_reset:
            self._write(b"RSET\r\n", Stage.RSET)
        self._needs_reset = True
        mail = format_mail(
            message.envelope,
            self.extensions,
            size_octets=len(message.octets),
            is_smtputf8=transaction.is_smtputf8,
            is_tls=self.is_tls,
        )
        self._ask(transaction, mail, Stage.MAIL)
        if not self.extensions.is_pipelining:
            return
        recipients = message.envelope.recipients
        while transaction.next_recipient < len(recipients):
            self._offer_recipient(transaction)
        if self._is_lmtp:
            return  # whom the replies behind the content are of is known when RCPT was answered
        if not self.extensions.is_chunking or len(message.octets) <= EAGER_CHUNK_OCTETS_MAX:
            self._ask_to_send(transaction)

    def _offer_recipient(self, transaction: Transaction) -> None:
        """The next one that is not settled; there may be none left."""
        recipients = transaction.message.envelope.recipients
        while transaction.next_recipient < len(recipients):
            index = transaction.next_recipient
            transaction.next_recipient += 1
            if transaction.outcomes[index] is None:
                rcpt = format_rcpt(recipients[index], self.extensions)
                self._ask(transaction, rcpt, Stage.RCPT, index)
                return
        if not transaction.expecting:
            self._ask_to_send(transaction)

    def _ask_to_send(self, transaction: Transaction) -> None:
        """DATA, or BDAT with the whole message as its only chunk."""
        transaction.has_asked = True
        if not self.extensions.is_chunking or self._is_lmtp:
            self._ask(transaction, b"DATA\r\n", Stage.DATA)
            return
        octets = transaction.message.octets
        transaction.content = OutgoingContent(octets, is_stuffed=False)
        self._ask(transaction, f"BDAT {len(octets)} LAST\r\n".encode(), Stage.DOT)
        self._outbox.append(transaction.content)

    def _send_content(self, transaction: Transaction) -> None:
        """354 came. When no recipient was taken a lone dot ends it (RFC 2920 §3.1)."""
        octets = transaction.message.octets if transaction.is_open else b""
        transaction.content = OutgoingContent(octets, is_stuffed=True)
        self._outbox.append(transaction.content)
        if self._is_lmtp and transaction.is_open:
            for index, outcome in enumerate(transaction.outcomes):
                if outcome is None:
                    self._expect(transaction, Stage.DOT, index)
        else:
            self._expect(transaction, Stage.DOT)
        self._needs_reset = False  # whatever the reply, the dot ends the transaction
        self._start_next()

    def _ask(self, transaction: Transaction, command: bytes, stage: Stage, index: int = 0) -> None:
        self._outbox.append(command)
        self._expect(transaction, stage, index)

    def _expect(self, transaction: Transaction, stage: Stage, index: int = 0) -> None:
        transaction.expecting += 1
        self._expected.append((stage, transaction, index))

    def _write(self, command: bytes, stage: Stage) -> None:
        self._outbox.append(command)
        self._expected.append((stage, None, 0))

    # --- the end ---

    def _fail(self, stage: Stage, reply: Reply | None, detail: str) -> None:
        """The session is over before its time; what is not settled is told to be tried again."""
        if stage is Stage.QUIT:
            self._end(Closed())
            return
        for transaction in self._flying:
            transaction.lost(detail, reply)
            self._events.append(transaction.ended())
        self._flying.clear()
        self._give_back(detail)
        is_opening = stage in (Stage.GREETING, Stage.EHLO)
        is_transient = reply is None or reply.is_transient or not is_opening
        self._end(SessionFailed(stage=stage, reply=reply, is_transient=is_transient, detail=detail))

    def _give_back(self, detail: str) -> None:
        while self._waiting:
            transaction = Transaction(self._waiting.popleft())
            transaction.lost(detail, None)
            self._events.append(transaction.ended())

    def _end(self, event: ClientEvent) -> None:
        self._events.append(event)
        self._is_over = True
        self._is_ready = False
        self._expected.clear()
        self._outbox.clear()
