"""One SMTP session of reception (25, LMTP) or submission (587, 465): the machine's decisions.

The session is the `Handler` of its stream. What can be decided from memory is answered at once;
what has to wait (a look-up, a login, the commit) leaves the event open and goes on from there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Final, assert_never

from posthouse.accounts.login import Principal
from posthouse.kernel.errors import Fault, StorageBusy, StorageFull, StorageLost
from posthouse.kernel.reply import Reply
from posthouse.net.stream import Stream, TlsFailure, TlsTrouble, lost_words
from posthouse.observe import events
from posthouse.protocol.sasl.server import ServerMechanism, server_mechanism
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
from posthouse.protocol.smtp.limits import OUTBOX_OCTETS_MAX, Limits, Mode
from posthouse.protocol.smtp.phases import Phase
from posthouse.protocol.smtp.server import ServerSession
from posthouse.reception import content, envelope, login, trace
from posthouse.reception import recipients as rcpt
from posthouse.reception.decision import SessionFacts
from posthouse.reception.envelope import CLOSING
from posthouse.reception.recipients import Accepted
from posthouse.reception.service import Service

RATE_WINDOW_S: Final = 60.0
FAULT_KINDS: Final[dict[type[Fault], str]] = {
    StorageFull: "full",
    StorageBusy: "busy",
    StorageLost: "lost",
}

IDLE: Final = Reply(421, "4.4.2", "Nothing came for too long, closing")
TOO_SLOW: Final = Reply(421, "4.4.2", "The message comes too slowly, closing")
NO_TLS_NOW: Final = Reply(454, "4.7.0", "TLS is not available at the moment")
BUG: Final = Reply(451, "4.3.0", "An error of ours, it has been logged; please try again later")


class Session:
    """Made for each connection; `service` is what all of them share."""

    __slots__ = (
        "_has_ended",
        "accepted",
        "content_octets",
        "content_since_s",
        "deadline_of",
        "deadline_s",
        "dns_questions_left",
        "exchange",
        "is_unread",
        "is_waiting",
        "known_facts",
        "known_hop",
        "machine",
        "opened_s",
        "principal",
        "sender",
        "service",
        "stream",
        "transactions",
    )

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stream: Stream
        self.machine: ServerSession
        self.principal: Principal | None = None
        self.deadline_s = math.inf
        self.deadline_of = "smtp.idle_s"
        """The setting that `deadline_s` comes of."""
        self._has_ended = False
        self.sender: SenderOffered | None = None
        self.accepted: list[Accepted] = []
        self.exchange: ServerMechanism | None = None
        self.known_facts: SessionFacts | None = None
        self.known_hop: trace.Hop | None = None
        self.is_waiting = False
        self.is_unread = False
        """The peer leaves our replies unread: nothing more is taken or answered (F33)."""
        self.transactions = 0
        self.dns_questions_left = service.examiner.options.questions_per_session_max
        """That checking this session's messages may still cause (`dns.per_session_max`)."""
        self.opened_s = 0.0
        self.content_since_s = 0.0
        self.content_octets = 0

    # --- Handler ---

    def connected(self, stream: Stream) -> None:
        service = self.service
        options = service.options
        self.stream = stream
        self.opened_s = service.clock.monotonic_s()
        self.machine = ServerSession(
            limits=self._limits(), hello=options.hello, mode=options.mode, is_tls=stream.is_tls
        )
        service.sessions.add(1)
        service.deadlines.add(self)
        if service.is_draining:
            self.machine.disconnect(CLOSING, "drain")
        elif stream.is_tls or not stream.has_unread_octets:
            self.machine.greet()
        self._advance()

    def received(self, octets: bytes) -> None:
        machine = self.machine
        if machine.phase is Phase.HANDSHAKE:  # the stream hands us no plaintext any more
            return
        machine.receive(octets)
        if machine.phase is Phase.NEW:  # it spoke before we greeted: turned away (H6)
            machine.greet()
        if machine.phase is Phase.CONTENT or machine.phase is Phase.CHUNK:
            self.content_octets += len(octets)
        if not self.is_waiting:
            self._advance()
        elif not machine.is_hungry:
            self.stream.pause_reading()

    def tls_started(self) -> None:
        self.machine.tls_started()
        self.principal = None
        self.known_facts = self.known_hop = None
        self.forget()
        self._advance()

    def ended(self) -> None:
        self._has_ended = True
        if not self.is_waiting:
            self.stream.close()

    def lost(self, error: Exception | None) -> None:
        service = self.service
        if isinstance(error, TlsFailure):
            self._log_handshake(error)
        self.deadline_s = math.inf
        service.deadlines.discard(self)
        if hasattr(self, "machine"):
            service.sessions.add(-1)
            if not self.machine.is_ended:
                self._log_end(lost_words(error) or "the peer closed")
        self.forget()

    def writable(self) -> None:
        if self.is_unread:
            self.is_unread = False
            self.stream.resume_reading()
        if not self.is_waiting:
            self._advance()

    # --- deadlines and draining ---

    def expired(self) -> None:
        """The deadline passed: say so and close (RELIABILITY: idle, command, data, login)."""
        if self.is_waiting:
            self.deadline_s = self.service.deadlines.after_s(self.service.options.idle_s)
            return
        if self.is_unread:
            self.limit("smtp.output_octets_max", self.stream.unsent_octets)
            self._log_end("our replies are not read")
            self.machine.disconnect(IDLE, "net.write_s")  # nobody would read it
            self.stream.abort()
            return
        phase = self.machine.phase
        in_content = phase is Phase.CONTENT or phase is Phase.CHUNK
        name = self.deadline_of
        observed = self.service.limit_value(name)
        if in_content:
            rate = self._content_rate()
            if rate >= self.service.options.data_rate_min:
                self._set_deadline(has_moved=True)
                return
            if rate or name == "smtp.data_rate_min":
                name, observed = "smtp.data_rate_min", rate
        self.limit(name, observed)
        self.machine.disconnect(TOO_SLOW if in_content else IDLE, name)
        self._advance()

    def _content_rate(self) -> float:
        """Octets a second in the window that ends now (`smtp.data_rate_min`); begins a new one."""
        now = self.service.deadlines.now_s
        window_s = now - self.content_since_s
        rate = self.content_octets / window_s if window_s > 0 else math.inf
        self.content_since_s, self.content_octets = now, 0
        return rate

    def drain(self) -> None:
        """End at the next moment no transaction is open (P14)."""
        if hasattr(self, "machine") and not self.is_waiting and self.machine.is_between_messages:
            self.machine.disconnect(CLOSING, "drain")
            self._advance()

    def _set_deadline(self, *, has_moved: bool) -> None:
        """Called after every segment. One that completes no command only shortens the wait: a
        whole command has to come within `smtp.command_s` of its first octet."""
        service = self.service
        options, now = service.options, service.deadlines.now_s
        phase = self.machine.phase
        if phase is Phase.CONTENT or phase is Phase.CHUNK:
            if self.content_since_s == 0.0:
                self.content_since_s = now
            # To the end of the window, however much comes: what drips in is weighed there (H15).
            is_idle_first = options.data_idle_s <= RATE_WINDOW_S
            window_s = options.data_idle_s if is_idle_first else RATE_WINDOW_S
            self.deadline_s = self.content_since_s + window_s
            self.deadline_of = "smtp.data_idle_s" if is_idle_first else "smtp.data_rate_min"
            return
        self.content_since_s, self.content_octets = 0.0, 0
        if not has_moved:
            if now + options.command_s < self.deadline_s:
                self.deadline_s, self.deadline_of = now + options.command_s, "smtp.command_s"
        elif self.principal is None and service.is_stressed:
            self.deadline_s, self.deadline_of = now + options.stressed_idle_s, "smtp.idle_stress_s"
        else:
            self.deadline_s, self.deadline_of = now + options.idle_s, "smtp.idle_s"
        if self.principal is None and options.mode is Mode.SUBMISSION:
            login_end_s = self.opened_s + options.login_s
            if login_end_s < self.deadline_s:
                self.deadline_s, self.deadline_of = login_end_s, "smtp.login_s"

    def _limits(self) -> Limits:
        options = self.service.options
        if self.service.is_stressed and options.stressed_limits and self.principal is None:
            return options.stressed_limits
        return options.limits

    # --- the machine's events ---

    def _advance(self) -> None:
        """Decide what can be decided, then write all of it at once."""
        machine, stream = self.machine, self.stream
        if self._holds_back():
            return
        if self.service.is_stressed or machine.limits is not self.service.options.limits:
            machine.limits = self._limits()
        has_moved = False
        try:
            while not self.is_waiting:
                event = machine.next_event()
                if event is not None:
                    has_moved = True
                    self._decide(event)
                    if not stream.is_open:
                        return
                elif machine.delay_s:
                    self.wait(self._write_later(machine.delay_s))
                else:
                    octets = machine.take_outgoing()
                    if not octets:
                        break
                    has_moved = True
                    stream.write(octets)
                    # A full outbox made the machine stop parsing; else it has seen everything.
                    if len(octets) < OUTBOX_OCTETS_MAX or not stream.is_writable:
                        break
        except Exception as error:  # a bug: end the session, keep the traceback
            self.bug(error)
            return
        if self.service.is_draining and not machine.is_ended:
            self.drain()  # what was open is finished now (P14)
        if machine.phase is Phase.HANDSHAKE and not self.is_waiting:
            self._start_tls()
        if not self._holds_back():
            self._set_deadline(has_moved=has_moved)

    def _holds_back(self) -> bool:
        """Whether more of our replies are unread than `smtp.output_octets_max`. Then reading stops
        too, and the peer has `net.write_s` to catch up."""
        stream, options = self.stream, self.service.options
        if stream.is_writable or stream.unsent_octets <= options.output_octets_max:
            return False
        stream.pause_reading()
        if not self.is_unread:
            self.is_unread = True
            self.deadline_s = self.service.deadlines.after_s(options.write_s)
        return True

    def bug(self, error: BaseException) -> None:
        service = self.service
        service.metrics.faults["bug"].add()
        service.log.bug(
            events.SESSION_FAILED,
            error,
            trace=self.stream.trace_id,
            service=service.options.service,
            peer=self.stream.peer.address,
        )
        self.machine.disconnect(BUG, "bug")
        self._finish("bug")

    def _decide(self, event: Event) -> None:
        match event:
            case RecipientOffered():
                envelope.recipient(self, event)
            case SenderOffered():
                envelope.offered(self, event)
            case DataRequested():
                self.content_since_s = 0.0
                self.machine.accept_data()
            case MessageReceived():
                content.received(self, event)
            case HelloReceived():
                self.known_facts = self.known_hop = None
                self.machine.accept_hello()
            case StartTlsReceived():
                if self.service.tls_context() is None:
                    self.machine.answer(NO_TLS_NOW)
                else:
                    self.machine.accept_starttls()
            case AuthStarted():
                self.exchange = server_mechanism(event.mechanism)
                login.step(self, event.initial)
            case AuthResponded():
                login.step(self, event.response)
            case SessionEnded():
                self._finish(event.reason)
            case _:
                assert_never(event)

    def _finish(self, reason: str) -> None:
        octets = self.machine.take_outgoing()
        if octets:
            self.stream.write(octets)
        for name in self.machine.take_limits_hit():
            self.limit(name, 0)
        if reason != "quit":
            self._log_end(reason)
        self.stream.close()

    def _log_handshake(self, failure: TlsFailure) -> None:
        service = self.service
        service.metrics.handshakes["failed"].add()
        service.log.write(
            events.TLS_FAILED,
            trace=self.stream.trace_id,
            peer=self.stream.peer.address,
            detail=str(failure),
        )
        if failure.trouble is TlsTrouble.TIMEOUT:
            self.limit("tls.handshake_s", service.options.handshake_s)

    def _log_end(self, reason: str) -> None:
        service = self.service
        service.log.write(
            events.SESSION_CLOSED,
            trace=self.stream.trace_id,
            service=service.options.service,
            peer=self.stream.peer.address,
            reason=reason,
            transactions=self.transactions,
        )

    def _start_tls(self) -> None:
        context = self.service.tls_context()
        assert context is not None
        self.stream.start_tls(
            context, server_side=True, handshake_s=self.service.options.handshake_s
        )

    def forget(self) -> None:
        self.sender = None
        self.accepted = []

    # --- waiting ---

    def wait(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that will answer the open event, then go on."""
        self.is_waiting = True
        self.service.spawn(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Fault as fault:
            self.fault(fault)
        except asyncio.CancelledError:
            self.stream.abort()
            raise
        except Exception as error:
            self.bug(error)
        self.resume()

    def resume(self) -> None:
        self.is_waiting = False
        if not self.stream.is_open:
            return
        self.stream.resume_reading()
        self._advance()
        if self._has_ended and not self.is_waiting:  # answered; nothing more can come
            self.stream.close()

    def fault(self, fault: Fault) -> None:
        """Our own trouble: 4yz for the open event, logged once."""
        service = self.service
        service.metrics.faults[FAULT_KINDS.get(type(fault), "disk")].add()
        service.log.write(
            events.FAULT_MET,
            trace=self.stream.trace_id,
            kind=type(fault).__name__,
            detail=str(fault),
        )
        if self.machine.is_ended:
            return
        self.machine.answer(rcpt.reply_for_fault(fault))

    async def _write_later(self, delay_s: float) -> None:
        await self.service.clock.sleep(delay_s)
        octets = self.machine.take_outgoing()
        if octets:
            self.stream.write(octets)

    # --- facts ---

    def facts(self) -> SessionFacts:
        if self.known_facts is None:
            self.known_facts = SessionFacts(
                trace=self.stream.trace_id,
                service=self.service.options.service,
                peer=self.stream.peer.address,
                hello=self.machine.hello_name,
                tls=self._tls(),
                login=self.principal.name if self.principal is not None else "",
            )
        return self.known_facts

    def hop(self) -> trace.Hop:
        if self.known_hop is None:
            self.known_hop = trace.Hop(
                hello=self.machine.hello_name or "unknown",
                peer=self.stream.peer.address,
                by=self.service.options.host,
                is_extended=self.machine.is_extended,
                tls=self._tls(),
                is_authenticated=self.principal is not None,
                is_lmtp=self.service.options.mode is Mode.LMTP,
            )
        return self.known_hop

    def _tls(self) -> str:
        info = self.stream.tls
        return f"{info.version} {info.cipher}" if info is not None else ""

    def limit(self, name: str, observed: float) -> None:
        service = self.service
        service.limits.reached(
            name,
            value=service.limit_value(name),
            observed=observed,
            peer=self.stream.peer.address,
            trace=self.stream.trace_id,
        )
