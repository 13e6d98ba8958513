"""One session with one host: opened by the route's policy, then kept for message after message.

TLS is opportunistic unless the route says more (RFC 7435): a host whose STARTTLS fails is asked
again in plaintext by the pool, once (F28).
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from typing import Protocol

import msgspec

from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import SmtpClient
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
        reach: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Args:
        is_plaintext: leave STARTTLS alone, as it failed before.
        """
        self.plan = plan
        self.host = host
        self.address = address
        self.sent = 0
        """Messages given to it."""
        self.has_succeeded = False
        self.is_open = False
        self.opened: asyncio.Future[OpenFailure | None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._options = options
        self._contexts = contexts
        self._reach = reach
        self._is_plaintext = is_plaintext
        self._messages_max = options.messages_max
        self._via: Via | None = None
        self.client = SmtpClient(
            name=options.host,
            timeouts=options.timeouts,
            deadlines=deadlines,
            on_event=self._on_event,
            is_tls=plan.tls is Tls.IMPLICIT,
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

    # --- events ---

    def _on_event(self, event: ClientEvent) -> None:
        match event:
            case Ready():
                self._ready(event)
            case TlsAgreed():
                self.client.handshake(self._context, server_name=self.host.name)
            case Authenticated():
                self._usable()
            case Refused(stage=stage):
                if stage is Stage.STARTTLS and self.plan.tls is Tls.OPPORTUNISTIC:
                    self._is_plaintext = True
                    self._authenticate()
                else:
                    self._refuse(stage.value, str(event.reply), event.reply.status or "4.7.0")
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

    @property
    def _context(self) -> ssl.SSLContext:
        is_checked = self.plan.tls in (Tls.VERIFIED, Tls.IMPLICIT)
        return self._contexts.verifying if is_checked else self._contexts.opportunistic

    def _ready(self, event: Ready) -> None:
        tls = self.plan.tls
        if event.is_tls or tls is Tls.OFF or self._is_plaintext:
            self._authenticate()
        elif event.extensions.is_starttls:
            self.client.start_tls()
        elif tls is Tls.OPPORTUNISTIC:
            self._authenticate()
        else:
            self._refuse("starttls", "the host does not offer STARTTLS", "4.7.10")

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

    def _refuse(self, step: str, words: str, status: str) -> None:
        """What the route asks of the host cannot be had: ours to repair, so temporary (P8)."""
        self._not_opened(OpenFailure(exchange=self._exchange(step, words), status=f"4{status[1:]}"))
        self.client.quit()

    def _failed(self, event: SessionFailed) -> None:
        words = str(event.reply) if event.reply is not None else event.detail
        failure = self.client.tls_failure
        if not self.opened.done():
            is_tls = failure is not None and not self.is_open
            self._not_opened(
                OpenFailure(
                    exchange=self._exchange("tls" if is_tls else event.stage.value, words),
                    status=_status(event, is_tls=is_tls),
                    is_permanent=not event.is_transient,
                    is_tls=is_tls,
                )
            )
        self._ended(event)

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


def _status(event: SessionFailed, *, is_tls: bool) -> str:
    """RFC 3463 §3.5 and §3.8: the host's own status, or ours for it."""
    if is_tls:
        return "4.7.5"
    if event.reply is not None:
        return event.reply.status or ("4.3.2" if event.is_transient else "5.3.2")
    return "4.4.2"
