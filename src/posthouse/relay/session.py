"""One session with one host: opened by the host's policy, then kept for message after message.

TLS is opportunistic unless the policy says more (RFC 7435): then a host whose STARTTLS fails is
asked again in plaintext by the pool, once (F28). Under a policy no mail goes before the handshake
was judged, and none in plaintext.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from posthouse.kernel.ports import Clock
from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import SmtpClient
from posthouse.net.stream import TlsFailure, TlsTrouble
from posthouse.protocol.sasl.client import client_mechanism
from posthouse.protocol.smtp.client_events import (
    Authenticated,
    ClientEvent,
    Closed,
    MessageEnded,
    Ready,
    Refused,
    SessionFailed,
    Stage,
    TlsAgreed,
)
from posthouse.protocol.smtp.reply_reader import ReplyReader
from posthouse.queue.work import Exchange
from posthouse.relay.attempt import Job, Via
from posthouse.relay.options import Options, TlsContexts
from posthouse.relay.plan import Host, RoutePlan, Tls
from posthouse.relay.reports import host_result
from posthouse.relay.tls_result import TlsResult
from posthouse.relay.verdict import Verdict, broken_handshake, judge, without_tls

FLAWS_FOR_GOOD: Final = frozenset(
    {TlsTrouble.CERTIFICATE, TlsTrouble.VERSION, TlsTrouble.CIPHER, TlsTrouble.PLAINTEXT}
)
"""A host whose handshake fails so has no TLS as REQUIRETLS wants it; others may be bad luck."""
FAILED_BEFORE: Final = TlsFailure(TlsTrouble.OTHER, "an earlier TLS handshake failed")


class OpenFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why no session could be opened at an address."""

    exchange: Exchange
    status: str
    is_permanent: bool = False
    is_tls: bool = False
    """The handshake failed: plaintext may work."""


class Owner(Protocol):
    """What a session tells its destination."""

    def session_ended(self, session: RelaySession, failure: SessionFailed | None) -> None: ...

    def message_ended(self, session: RelaySession, job: Job, ended: MessageEnded) -> None: ...

    def session_free(self, session: RelaySession) -> None: ...


class RelaySession:
    """`opened` gives None once messages can be sent, or the reason why not."""

    def __init__(
        self,
        owner: Owner,
        *,
        plan: RoutePlan,
        host: Host,
        address: str,
        is_plaintext: bool,
        options: Options,
        contexts: TlsContexts,
        deadlines: Deadlines,
        clock: Clock,
        reach: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Args:
        is_plaintext: leave STARTTLS alone, as it failed before.
        """
        self.plan = plan
        self.host = host
        self.policy = host.policy
        self.address = address
        self.verdict: Verdict | None = None
        """Of TLS; None until that was tried, and where a session failed before."""
        self.sent = 0
        """Messages given to it."""
        self.has_succeeded = False
        self.is_open = False
        self.opened: asyncio.Future[OpenFailure | None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._options = options
        self._contexts = contexts
        self._clock = clock
        self._reach = reach
        self._is_plaintext = is_plaintext
        self._messages_max = options.messages_max
        self._via: Via | None = None
        self.client = SmtpClient(
            name=options.host,
            timeouts=options.timeouts,
            deadlines=deadlines,
            on_event=self._on_event,
            is_tls=self.policy.tls is Tls.IMPLICIT,
            reader=ReplyReader(
                lines_max=options.reply_lines_max, line_octets_max=options.line_octets_max
            ),
        )

    @property
    def wants_message(self) -> bool:
        return self.is_open and self.sent < self._messages_max and self.client.wants_message

    @property
    def is_used_up(self) -> bool:
        return self.sent >= self._messages_max

    @property
    def via(self) -> Via:
        if self._via is None:
            tls = self.client.tls
            self._via = Via(
                route=self.plan.kind.value,
                host=self.host.name,
                address=self.address,
                tls=f"{tls.version} {tls.cipher}" if tls is not None else "",
                tls_policy=self.policy.words,
                certificate=self.verdict.certificate if self.verdict is not None else "",
                is_dsn=self.client.extensions.is_dsn,
            )
        return self._via

    def send(self, job: Job) -> None:
        """Raises Unsendable when the job cannot be made an SMTP transaction."""
        message = job.message()
        self.sent += 1
        self.client.send(message)

    def fail(self, detail: str) -> None:
        """Give up; what is under way ends as if the line had broken."""
        self.client.abort(detail)

    def tls_results(self) -> tuple[TlsResult, ...]:
        """What to tell of it in TLS reports: one result for each policy of the destination."""
        if self.verdict is None:
            return ()
        return tuple(
            host_result(
                self.plan,
                self.host,
                finding.policy,
                finding.result,
                finding.words,
                helo=self.client.extensions.host,
                receiving_ip=self.address,
                sending_ip=self.client.local_address,
            )
            for finding in self.verdict.findings
        )

    # --- events ---

    def _on_event(self, event: ClientEvent) -> None:
        match event:
            case Ready():
                self._ready(event)
            case TlsAgreed():
                context = self._contexts.of(self.policy)
                self.client.handshake(context, server_name=self.policy.sni or self.host.name)
            case Authenticated():
                self._usable()
            case Refused(stage=stage):
                reply = event.reply
                if stage is Stage.STARTTLS:
                    self._without_tls(str(reply), is_for_good=reply.is_permanent)
                else:
                    self._refuse(stage.value, str(reply), reply.status or "4.7.0")
            case MessageEnded(message=message):
                job: Job = message.tag
                self._reach("relay.after-dot")  # the host has answered, nothing is recorded (F30)
                self._owner.message_ended(self, job, event)
                if self.wants_message:
                    self._owner.session_free(self)
                elif self.is_used_up and self.client.is_idle:
                    self.client.quit()
            case SessionFailed():
                self._failed(event)
            case Closed():
                self._ended(None)

    def _ready(self, event: Ready) -> None:
        policy = self.policy
        if event.is_tls:
            self._judge(event)
        elif policy.tls is Tls.OFF:
            self._authenticate()
        elif self._is_plaintext:
            self.verdict = broken_handshake(policy, FAILED_BEFORE)
            self._authenticate()
        elif event.extensions.is_starttls:
            self.client.start_tls()
        else:
            self._without_tls("the host does not offer STARTTLS", is_for_good=True)

    def _judge(self, event: Ready) -> None:
        """The handshake is over: whether the host is who it has to be."""
        now = self._clock.now()
        verdict = self.verdict = judge(
            self.policy, self.client.peer_chain(), self.host.name, now, self._contexts.verifier
        )
        if verdict.problem:
            self._refuse_tls("tls", verdict.problem, "4.7.5", is_for_good=True)
        elif self.policy.is_requiretls and not event.extensions.is_requiretls:
            words = "the host does not offer REQUIRETLS, which the sender demands"
            self._refuse("ehlo", words, "5.7.30", is_permanent=True)  # RFC 8689 §4.2.1
        else:
            self._authenticate()

    def _without_tls(self, words: str, *, is_for_good: bool) -> None:
        self.verdict = without_tls(self.policy, words)
        if self.verdict.problem:
            self._refuse_tls("starttls", words, "4.7.10", is_for_good=is_for_good)
        else:
            self._is_plaintext = True
            self._authenticate()

    def _refuse_tls(self, step: str, words: str, status: str, *, is_for_good: bool) -> None:
        """The host's TLS is not what its policy asks: another host, or later. What a sender
        demands is not waited for: they are told (RFC 8689 §4.2.1)."""
        words = f"{words} (TLS policy: {self.policy.words})"
        if self.policy.is_requiretls and is_for_good:
            self._refuse(step, words, "5.7.10", is_permanent=True)
        else:
            self._refuse(step, words, status)

    def _authenticate(self) -> None:
        login = self.plan.login
        if login is None:
            self._usable()
            return
        is_local = ipaddress.ip_address(self.address).is_loopback
        mechanism = client_mechanism(
            self.client.extensions.mechanisms, login.username, login.password
        )
        if mechanism is None or not (self.client.session.is_tls or is_local):
            self._refuse("auth", "no way to log in that is safe and that we know", "4.7.0")
        else:
            self.client.authenticate(mechanism, is_plaintext_allowed=is_local)

    def _usable(self) -> None:
        self.is_open = True
        limit = self.client.extensions.transactions_max  # MAILMAX, RFC 9422 §4.1
        self._messages_max = min(self._options.messages_max, limit or self._options.messages_max)
        if not self.opened.done():
            self.opened.set_result(None)

    def _refuse(self, step: str, words: str, status: str, *, is_permanent: bool = False) -> None:
        """What is asked of the host cannot be had. But for what the sender demands that may
        change, so it is temporary (P8)."""
        self._not_opened(
            OpenFailure(
                exchange=self._exchange(step, words),
                status=status if is_permanent else f"4{status[1:]}",
                is_permanent=is_permanent,
            )
        )
        self.client.quit()

    def _failed(self, event: SessionFailed) -> None:
        words = str(event.reply) if event.reply is not None else event.detail
        failure = self.client.tls_failure
        if not self.opened.done():
            if failure is not None:
                self.verdict = broken_handshake(self.policy, failure)
            self._not_opened(self._open_failure(event, failure, words))
        self._ended(event)

    def _open_failure(
        self, event: SessionFailed, failure: TlsFailure | None, words: str
    ) -> OpenFailure:
        if failure is None:
            return OpenFailure(
                exchange=self._exchange(event.stage.value, words),
                status=_status(event),
                is_permanent=not event.is_transient,
            )
        if not self.policy.allows_plaintext:
            words = f"{words} (TLS policy: {self.policy.words})"
        is_permanent = self.policy.is_requiretls and failure.trouble in FLAWS_FOR_GOOD
        return OpenFailure(
            exchange=self._exchange("tls", words),
            status="5.7.10" if is_permanent else "4.7.5",
            is_permanent=is_permanent,
            is_tls=True,
        )

    def _not_opened(self, failure: OpenFailure) -> None:
        if not self.opened.done():
            self.opened.set_result(failure)

    def _exchange(self, step: str, words: str) -> Exchange:
        return Exchange(
            step=step,
            reply=words[: self._options.reply_octets_max],
            host=self.host.name,
            address=self.address,
        )

    def _ended(self, failure: SessionFailed | None) -> None:
        was_open, self.is_open = self.is_open, False
        if was_open:
            self._owner.session_ended(self, failure)


def _status(event: SessionFailed) -> str:
    """RFC 3463 §3.5 and §3.8: the host's own status, or ours for it."""
    if event.reply is not None:
        return event.reply.status or ("4.3.2" if event.is_transient else "5.3.2")
    return "4.4.2"
