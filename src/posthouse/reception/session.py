"""One SMTP session of reception (25, LMTP) or submission (587, 465): the machine's decisions.

The session is the `Handler` of its stream. What can be decided from memory is answered at once;
what has to wait (a look-up, a login, the commit) leaves the event open and goes on from there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, assert_never

import msgspec

from posthouse.accounts import login_events
from posthouse.accounts.directory import Expansion
from posthouse.accounts.login import LoginFailure, Principal
from posthouse.accounts.rights import may_send_as
from posthouse.kernel.envelope import Envelope, ForwardPath
from posthouse.kernel.errors import Fault, StorageBusy, StorageFull, StorageLost
from posthouse.kernel.ids import QueueId
from posthouse.kernel.reply import Reply
from posthouse.mailbox import quota
from posthouse.mailbox.append import Prepared, prepare
from posthouse.message.fields import HeaderSection, read_section
from posthouse.net.stream import Stream
from posthouse.observe import events
from posthouse.protocol.sasl.events import Challenge, Credentials, Failure
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
from posthouse.queue.item import Origin
from posthouse.reception import recipients as rcpt
from posthouse.reception import submission, trace, verdict
from posthouse.reception.accept import Acceptance, AllFull, Taken, decision_record, ends
from posthouse.reception.decision import SessionFacts
from posthouse.reception.recipients import Accepted
from posthouse.reception.service import Service

PREPARE_INLINE_OCTETS: Final = 256 * 1024
"""Larger messages are scanned by a worker, so that others are served meanwhile (P10)."""
SHORT_OCTETS: Final = 16 * 1024
SHORT_RECIPIENTS: Final = 10
"""Up to here accepting a message is a short unit of work."""
RATE_WINDOW_S: Final = 60.0
FAULT_KINDS: Final[dict[type[Fault], str]] = {
    StorageFull: "full",
    StorageBusy: "busy",
    StorageLost: "lost",
}

SENDER_OK: Final = Reply(250, "2.1.0", "Sender ok")
LOGIN_FIRST: Final = Reply(530, "5.7.0", "Log in first")
TLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
MALFORMED_LOGIN: Final = Reply(501, "5.5.2", "The login data cannot be read")
WRONG_LOGIN: Final = Reply(535, "5.7.8", "Name or password is wrong")
LOGIN_REFUSALS: Final = {
    LoginFailure.WRONG: WRONG_LOGIN,
    LoginFailure.TEMPORARY: Reply(454, "4.7.0", "Logins are not possible at the moment"),
    LoginFailure.BANNED: Reply(421, "4.7.0", "Too many failed logins, try again later"),
}
NOT_YOURS: Final = Reply(553, "5.7.1", "This sender address is not yours")
FROM_NOT_YOURS: Final = Reply(550, "5.7.1", "An address in the From field is not yours")
NO_FROM: Final = Reply(550, "5.6.0", "The From field is missing or cannot be read")
CLOSING: Final = Reply(421, "4.3.2", "Closing for a restart, please try again soon")
IDLE: Final = Reply(421, "4.4.2", "Nothing came for too long, closing")
TOO_SLOW: Final = Reply(421, "4.4.2", "The message comes too slowly, closing")
SESSION_OVER: Final = Reply(421, "4.3.2", "The session is too old, please connect again")
NO_TLS_NOW: Final = Reply(454, "4.7.0", "TLS is not available at the moment")
BUG: Final = Reply(451, "4.3.0", "An error of ours, it has been logged; please try again later")


class Session:
    """Made for each connection; `service` is what all of them share."""

    __slots__ = (
        "_accepted",
        "_content_octets",
        "_content_since_s",
        "_exchange",
        "_facts",
        "_hop",
        "_is_waiting",
        "_opened_s",
        "_sender",
        "_transactions",
        "deadline_s",
        "machine",
        "principal",
        "service",
        "stream",
    )

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stream: Stream
        self.machine: ServerSession
        self.principal: Principal | None = None
        self.deadline_s = math.inf
        self._sender: SenderOffered | None = None
        self._accepted: list[Accepted] = []
        self._exchange: ServerMechanism | None = None
        self._facts: SessionFacts | None = None
        self._hop: trace.Hop | None = None
        self._is_waiting = False
        self._transactions = 0
        self._opened_s = 0.0
        self._content_since_s = 0.0
        self._content_octets = 0

    # --- Handler ---

    def connected(self, stream: Stream) -> None:
        service = self.service
        options = service.options
        self.stream = stream
        self._opened_s = service.clock.monotonic_s()
        self.machine = ServerSession(
            limits=self._limits(), hello=options.hello, mode=options.mode, is_tls=stream.is_tls
        )
        service.sessions.add(1)
        service.deadlines.add(self)
        if service.is_draining:
            self.machine.disconnect(CLOSING, "drain")
        else:
            self.machine.greet()
        self._advance()

    def received(self, octets: bytes) -> None:
        machine = self.machine
        if machine.phase is Phase.HANDSHAKE:  # the stream hands us no plaintext any more
            return
        machine.receive(octets)
        if machine.phase is Phase.CONTENT or machine.phase is Phase.CHUNK:
            self._content_octets += len(octets)
        if not self._is_waiting:
            self._advance()
        elif not machine.is_hungry:
            self.stream.pause_reading()

    def tls_started(self) -> None:
        self.machine.tls_started()
        self.principal = None
        self._facts = self._hop = None
        self._forget()
        self._advance()

    def ended(self) -> None:
        if not self._is_waiting:
            self.stream.close()

    def lost(self, error: Exception | None) -> None:
        service = self.service
        self.deadline_s = math.inf
        service.deadlines.discard(self)
        if hasattr(self, "machine"):
            service.sessions.add(-1)
            if not self.machine.is_ended:
                self._log_end(str(error or "the peer closed"))
        self._forget()

    def writable(self) -> None:
        if not self._is_waiting:
            self._advance()

    # --- deadlines and draining ---

    def expired(self) -> None:
        """The deadline passed: say so and close (RELIABILITY: idle, command, data, login)."""
        if self._is_waiting:
            self.deadline_s = self.service.deadlines.after_s(self.service.options.idle_s)
            return
        phase = self.machine.phase
        in_content = phase is Phase.CONTENT or phase is Phase.CHUNK
        name = "smtp.data_idle_s" if in_content else "smtp.idle_s"
        if in_content and self._is_content_alive():
            self._set_deadline(has_moved=True)
            return
        self._limit(name, self.service.options.idle_s)
        self.machine.disconnect(TOO_SLOW if in_content else IDLE, name)
        self._advance()

    def _is_content_alive(self) -> bool:
        """Whether enough came in the last window (`smtp.data_rate_min`); begins a new one."""
        now = self.service.deadlines.now_s
        window_s = now - self._content_since_s
        is_enough = self._content_octets >= self.service.options.data_rate_min * window_s
        self._content_since_s, self._content_octets = now, 0
        return is_enough

    def drain(self) -> None:
        """End at the next moment no transaction is open (P14)."""
        if hasattr(self, "machine") and not self._is_waiting and self.machine.is_between_messages:
            self.machine.disconnect(CLOSING, "drain")
            self._advance()

    def _set_deadline(self, *, has_moved: bool) -> None:
        """Called after every segment. One that completes no command only shortens the wait: a
        whole command has to come within `smtp.command_s` of its first octet."""
        service = self.service
        options, now = service.options, service.deadlines.now_s
        phase = self.machine.phase
        if phase is Phase.CONTENT or phase is Phase.CHUNK:
            if self._content_since_s == 0.0:
                self._content_since_s = now
            # To the end of the window, however much comes: what drips in is weighed there (H15).
            window_s = min(RATE_WINDOW_S, options.data_idle_s)
            self.deadline_s = self._content_since_s + window_s
            return
        self._content_since_s, self._content_octets = 0.0, 0
        if not has_moved:
            self.deadline_s = min(self.deadline_s, now + options.command_s)
        elif self.principal is not None:
            self.deadline_s = now + options.idle_s
        else:
            end = now + (options.stressed_idle_s if service.is_stressed else options.idle_s)
            if options.mode is Mode.SUBMISSION:
                end = min(end, self._opened_s + options.login_s)
            self.deadline_s = end

    def _limits(self) -> Limits:
        options = self.service.options
        if self.service.is_stressed and options.stressed_limits and self.principal is None:
            return options.stressed_limits
        return options.limits

    # --- the machine's events ---

    def _advance(self) -> None:
        """Decide what can be decided, then write all of it at once."""
        machine, stream = self.machine, self.stream
        if self.service.is_stressed or machine.limits is not self.service.options.limits:
            machine.limits = self._limits()
        has_moved = False
        try:
            while not self._is_waiting:
                event = machine.next_event()
                if event is not None:
                    has_moved = True
                    self._decide(event)
                    if not stream.is_open:
                        return
                elif machine.delay_s:
                    self._wait(self._write_later(machine.delay_s))
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
            self._bug(error)
            return
        if self.service.is_draining and not machine.is_ended:
            self.drain()  # what was open is finished now (P14)
        if machine.phase is Phase.HANDSHAKE and not self._is_waiting:
            self._start_tls()
        self._set_deadline(has_moved=has_moved)

    def _bug(self, error: BaseException) -> None:
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
                self._recipient(event)
            case SenderOffered():
                self._offered(event)
            case DataRequested():
                self._content_since_s = 0.0
                self.machine.accept_data()
            case MessageReceived():
                self._message(event)
            case HelloReceived():
                self._facts = self._hop = None
                self.machine.accept_hello()
            case StartTlsReceived():
                if self.service.tls_context() is None:
                    self.machine.answer(NO_TLS_NOW)
                else:
                    self.machine.accept_starttls()
            case AuthStarted():
                self._exchange = server_mechanism(event.mechanism)
                self._step(event.initial)
            case AuthResponded():
                self._step(event.response)
            case SessionEnded():
                self._finish(event.reason)
            case _:
                assert_never(event)

    def _finish(self, reason: str) -> None:
        octets = self.machine.take_outgoing()
        if octets:
            self.stream.write(octets)
        for name in self.machine.take_limits_hit():
            self._limit(name, 0)
        if reason != "quit":
            self._log_end(reason)
        self.stream.close()

    def _log_end(self, reason: str) -> None:
        service = self.service
        service.log.write(
            events.SESSION_CLOSED,
            trace=self.stream.trace_id,
            service=service.options.service,
            peer=self.stream.peer.address,
            reason=reason,
            transactions=self._transactions,
        )

    def _start_tls(self) -> None:
        context = self.service.tls_context()
        assert context is not None
        self.stream.start_tls(
            context, server_side=True, handshake_s=self.service.options.handshake_s
        )

    def _forget(self) -> None:
        self._sender = None
        self._accepted = []

    # --- waiting ---

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that will answer the open event, then go on."""
        self._is_waiting = True
        self.service.spawn(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Fault as fault:
            self._fault(fault)
        except asyncio.CancelledError:
            self.stream.abort()
            raise
        except Exception as error:
            self._bug(error)
        self._resume()

    def _resume(self) -> None:
        self._is_waiting = False
        if not self.stream.is_open:
            return
        self.stream.resume_reading()
        self._advance()

    def _fault(self, fault: Fault) -> None:
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

    # --- AUTH ---

    def _step(self, response: bytes | None) -> None:
        exchange = self._exchange
        assert exchange is not None  # the machine only lets offered mechanisms through
        step = exchange.step(response)
        if isinstance(step, Challenge):
            self.machine.challenge(step.octets)
            return
        self._exchange = None
        match step:
            case Credentials():
                self._wait(self._log_in(step))
            case Failure():
                self.machine.answer(MALFORMED_LOGIN if step.is_malformed else WRONG_LOGIN)

    async def _log_in(self, credentials: Credentials) -> None:
        service = self.service
        result = await service.authenticator.authenticate(
            name=credentials.authentication_id,
            password=credentials.password,
            authzid=credentials.authorization_id,
            peer=self.stream.peer.address,
            service=service.options.service,
        )
        login_events.note(
            service.log,
            service.metrics,
            result,
            trace=self.stream.trace_id,
            service=service.options.service,
            peer=self.stream.peer.address,
            name=credentials.authentication_id,
        )
        if result.delay_s:
            await service.clock.sleep(result.delay_s)
        if result.principal is not None:
            self.principal = result.principal
            self._facts = self._hop = None
            self.machine.accept_auth()
        else:
            assert result.failure is not None
            self.machine.answer(LOGIN_REFUSALS[result.failure])

    # --- MAIL and RCPT ---

    def _offered(self, event: SenderOffered) -> None:
        service = self.service
        refusal = self._cannot_take(event)
        if refusal is not None:
            self._forget()
            self.machine.answer(refusal)
            return
        principal = self.principal
        if principal is not None and event.reverse_path is not None:
            self._wait(self._check_sender(event, principal))
            return
        if principal is None and service.options.mode is Mode.MX:
            reason = service.admission.message(
                self.stream.peer.address, event.size_octets or 0, service.clock.monotonic_s()
            )
            if reason is not None:
                self._limit("smtp.messages_per_minute", 0)
                self.machine.answer(Reply(451, "4.7.1", reason))
                return
        self._open(event)

    def _open(self, event: SenderOffered) -> None:
        self._sender = event
        self._accepted = []
        self.machine.answer(SENDER_OK)

    def _cannot_take(self, event: SenderOffered) -> Reply | None:
        """Rules and room, before anything is looked up."""
        service = self.service
        options, room = service.options, service.room
        if options.mode is Mode.SUBMISSION and self.principal is None:
            return LOGIN_FIRST if self.stream.is_tls else TLS_FIRST
        if service.clock.monotonic_s() - self._opened_s > options.session_s:
            return SESSION_OVER
        if service.is_draining:
            return CLOSING
        if not room.is_writable:
            return rcpt.TROUBLE
        needed = max(options.free_octets_min, 2 * (event.size_octets or 0))
        if room.free_octets() < needed:
            self._limit("store.free_octets_min", room.free_octets())
            return rcpt.NO_ROOM
        if service.open_recipients() >= options.queue_recipients_max:
            self._limit("queue.recipients_max", service.open_recipients())
            return rcpt.NO_ROOM
        return None

    async def _check_sender(self, event: SenderOffered, principal: Principal) -> None:
        address = event.reverse_path
        assert address is not None
        separator = self.service.options.subaddress_separator
        is_own = await self.service.store.read(
            lambda tx: may_send_as(tx, principal.account, address, subaddress_separator=separator)
        )
        if is_own:
            self._open(event)
        else:
            self.machine.answer(NOT_YOURS)

    def _recipient(self, event: RecipientOffered) -> None:
        known = self.service.directory.known(event.address)
        if known is not None and not any(target.has_quota for target in known.local):
            self._answer_recipient(event, known)
        else:
            self._wait(self._look_up(event))

    async def _look_up(self, event: RecipientOffered) -> None:
        service = self.service
        expansion = await service.directory.look_up(event.address)
        size = self._sender.size_octets or 0 if self._sender is not None else 0
        for target in expansion.local:
            if target.has_quota:
                account = target.account
                usage = await service.store.read(partial(quota.usage, account=account))
                if len(expansion.local) == 1 and not usage.has_room(max(size, 1)):
                    never_fits = usage.quota_octets is not None and size > usage.quota_octets
                    self.machine.answer(rcpt.OVER_QUOTA if never_fits else rcpt.OVER_QUOTA_SOON)
                    return
        self._answer_recipient(event, expansion)

    def _answer_recipient(self, event: RecipientOffered, expansion: Expansion) -> None:
        service = self.service
        sender = self._sender
        assert sender is not None
        address = event.address
        if not sender.is_smtputf8 and not address.local_part.isascii():
            self.machine.answer(rcpt.NO_SMTPUTF8)
            return
        may_relay = self.principal is not None or (
            service.options.mode is Mode.MX and service.may_relay_from(self.stream.peer.address)
        )
        path = ForwardPath(
            address=address,
            notify=event.notify,
            original_recipient=event.original_recipient,
        )
        decided = rcpt.decide(path, expansion, may_relay=may_relay)
        if isinstance(decided, Accepted):
            if self.principal is not None and (
                reason := service.admission.submission(
                    self.principal.account, service.clock.monotonic_s()
                )
            ):
                self._limit("submission.per_hour", 0)
                self.machine.answer(Reply(450, "4.7.1", reason))
                return
            self._accepted.append(decided)
            self.machine.answer(rcpt.ACCEPTED)
            return
        service.metrics.recipients_refused.add()
        service.log.write(
            events.RECIPIENT_REFUSED,
            trace=self.stream.trace_id,
            peer=self.stream.peer.address,
            recipient=rcpt.shown(address),
            reply=str(decided),
        )
        self.machine.answer(decided)

    # --- the message ---

    def _message(self, event: MessageReceived) -> None:
        self._content_since_s, self._content_octets = 0.0, 0
        if self.principal is not None:
            self._wait(self._submit(event.octets, self.principal))
            return
        acceptance = self._judge(read_section(event.octets), event.octets, b"")
        if acceptance is None:
            return
        if acceptance.local and acceptance.prepared is None:
            self._wait(self._prepare_and_commit(acceptance))
            return
        self._is_waiting = True
        octets = len(event.octets)
        is_short = octets <= SHORT_OCTETS and len(acceptance.local) <= SHORT_RECIPIENTS
        done = partial(self._committed_queued, acceptance) if acceptance.remote else self._committed
        self.service.store.submit_then(acceptance, done, octets=octets, is_short=is_short)

    async def _prepare_and_commit(self, acceptance: Acceptance) -> None:
        octets = acceptance.octets
        if acceptance.local and acceptance.prepared is None:
            prepared = await self.service.workers.run(lambda: prepare(octets))
            acceptance = msgspec.structs.replace(acceptance, prepared=prepared)
        try:
            taken = await self.service.store.submit(acceptance, octets=len(octets))
        except AllFull:
            self._answer_message(rcpt.OVER_QUOTA_SOON)
        else:
            self._taken(taken, acceptance)

    async def _submit(self, octets: bytes, principal: Principal) -> None:
        """Submission: whose message it may be, and what is mended in it (RFC 6409 §6, §8)."""
        service = self.service
        section = read_section(octets)
        found = submission.authors(section)
        if found is None:
            self._answer_message(NO_FROM)
            return
        separator = service.options.subaddress_separator
        are_own = await service.store.read(
            lambda tx: all(
                may_send_as(tx, principal.account, author, subaddress_separator=separator)
                for author in found
            )
        )
        if not are_own:
            self._answer_message(FROM_NOT_YOURS)
            return
        added, mended = submission.mend(
            section,
            host=service.options.host,
            queue_id=self._next_queue_id(),
            at=service.clock.now(),
        )
        acceptance = self._judge(section, mended, added)
        if acceptance is not None:
            await self._prepare_and_commit(acceptance)

    def _next_queue_id(self) -> QueueId:
        return QueueId(f"{self.stream.trace_id}.{self._transactions + 1}")

    def _judge(self, section: HeaderSection, octets: bytes, added: bytes) -> Acceptance | None:
        """Check the content and gather what the unit of work needs, or answer the refusal.

        Args:
            section: of the message as it was received; `octets` may have lost fields of it.
        """
        service = self.service
        options = service.options
        local, remote = ends(self._accepted)
        refused = verdict.judge(section, options=options, local=local)
        if refused is not None:
            if refused.limit:
                self._limit(refused.limit, refused.observed)
            self._answer_message(refused.reply)
            return None
        sender = self._sender
        assert sender is not None
        queue_id = self._next_queue_id()
        self._transactions += 1
        is_small = len(octets) <= PREPARE_INLINE_OCTETS
        only = self._accepted[0].path.address if len(self._accepted) == 1 else None
        prefix = trace.received(
            self._session_hop(),
            queue_id=queue_id,
            recipient=only,
            is_smtputf8=sender.is_smtputf8,
            at=service.clock.now(),
        )
        return Acceptance(
            queue_id=queue_id,
            envelope=Envelope(
                reverse_path=sender.reverse_path,
                recipients=(),
                body=sender.body,
                is_smtputf8=sender.is_smtputf8,
                ret=sender.ret,
                envelope_id=sender.envelope_id,
            ),
            octets=octets,
            prepared=self._prepared(octets, section) if local and is_small else None,
            local=local,
            remote=remote,
            local_prefix=prefix + added,
            origin=Origin(options.mode.value),
            account=self.principal.account if self.principal is not None else None,
            expires_at=service.clock.unix_us() + int(options.lifetime_s * 1_000_000),
            decision=decision_record(self._session_facts(), self._accepted),
            notices=service.notices,
        )

    @staticmethod
    def _prepared(octets: bytes, section: HeaderSection) -> Prepared:
        return prepare(octets, section if section.octets is octets else None)

    def _committed_queued(
        self, acceptance: Acceptance, taken: Taken | None, error: BaseException | None
    ) -> None:
        if taken is not None:
            self.service.keep(taken.message, acceptance.octets)
        self._committed(taken, error)

    def _committed(self, taken: Taken | None, error: BaseException | None) -> None:
        """The commit is over, one way or the other."""
        if not self.stream.is_open:  # the peer left; what was committed is ours all the same
            return
        if taken is not None:
            self._taken(taken, None)
        elif isinstance(error, AllFull):
            self._answer_message(rcpt.OVER_QUOTA_SOON)
        elif isinstance(error, Fault):
            if isinstance(error, StorageBusy):
                self._limit("store.waiting_max", 0)
            self._fault(error)
        elif error is not None:
            self._bug(error)
        self._resume()

    def _taken(self, taken: Taken, acceptance: Acceptance | None) -> None:
        service = self.service
        if acceptance is not None and acceptance.remote:
            service.keep(taken.message, acceptance.octets)
        service.reach("reception.before-reply")
        service.messages_accepted.add()
        service.metrics.recipients_settled["delivered"].add(taken.stored)
        sender = self._sender
        service.log.write(
            events.MESSAGE_ACCEPTED,
            trace=self.stream.trace_id,
            id=taken.queue_id,
            peer=self.stream.peer.address,
            sender=""
            if sender is None or sender.reverse_path is None
            else rcpt.shown(sender.reverse_path),
            stored=taken.stored,
            queued=taken.queued,
        )
        if self.service.options.mode is Mode.LMTP:
            self._answer_lmtp(taken)
        else:
            self.machine.answer(Reply(250, "2.0.0", f"Accepted as {taken.queue_id}"))
        self._forget()

    def _answer_lmtp(self, taken: Taken) -> None:
        """One reply for each recipient (RFC 2033 §4.2)."""
        ok = Reply(250, "2.0.0", f"Accepted as {taken.queue_id}")
        self.machine.answer_each([ok for _ in self._accepted])

    def _answer_message(self, reply: Reply) -> None:
        service = self.service
        decision, event = (
            ("deferred", events.MESSAGE_DEFERRED)
            if reply.is_transient
            else ("refused", events.MESSAGE_REFUSED)
        )
        service.metrics.messages[decision].add()
        service.log.write(
            event,
            trace=self.stream.trace_id,
            peer=self.stream.peer.address,
            reply=str(reply),
        )
        self.machine.answer(reply)
        self._forget()

    # --- facts ---

    def _session_facts(self) -> SessionFacts:
        if self._facts is None:
            self._facts = SessionFacts(
                trace=self.stream.trace_id,
                service=self.service.options.service,
                peer=self.stream.peer.address,
                hello=self.machine.hello_name,
                tls=self._tls(),
                login=self.principal.name if self.principal is not None else "",
            )
        return self._facts

    def _session_hop(self) -> trace.Hop:
        if self._hop is None:
            self._hop = trace.Hop(
                hello=self.machine.hello_name or "unknown",
                peer=self.stream.peer.address,
                by=self.service.options.host,
                is_extended=self.machine.is_extended,
                tls=self._tls(),
                is_authenticated=self.principal is not None,
                is_lmtp=self.service.options.mode is Mode.LMTP,
            )
        return self._hop

    def _tls(self) -> str:
        info = self.stream.tls
        return f"{info.version} {info.cipher}" if info is not None else ""

    def _limit(self, name: str, observed: float) -> None:
        service = self.service
        service.limits.reached(
            name,
            value=service.limit_value(name),
            observed=observed,
            peer=self.stream.peer.address,
            trace=self.stream.trace_id,
        )
