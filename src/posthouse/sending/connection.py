"""One session with the server: connected, protected, logged in, and then given letters.

A session is opened once and used for many letters; the pool decides which. Whatever fails on the
way is a `SendingError` with the likely mistake.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Clock, Network
from posthouse.kernel.reply import Reply
from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import Milestone, SmtpClient, Timeouts, open_session
from posthouse.net.stream import TlsStart
from posthouse.protocol.sasl.scram import ScramClient
from posthouse.protocol.smtp.client_events import (
    Authenticated,
    ClientEvent,
    Closed,
    MessageEnded,
    OutgoingMessage,
    Ready,
    Refused,
    SessionFailed,
    Stage,
    TlsAgreed,
)
from posthouse.sending import mistakes
from posthouse.sending.carrier import Verified
from posthouse.sending.dialogue import Dialogue
from posthouse.sending.errors import SendingError
from posthouse.sending.local_names import is_this_machine
from posthouse.sending.login import certificate_hash, mechanism_for, token_of
from posthouse.sending.options import Kind, Login, Options, TlsUse
from posthouse.sending.reaching import addresses, not_reached
from posthouse.sending.receipt import Phases, TlsUsed
from posthouse.sending.tls import client_context, unchecked_context
from posthouse.sending.tls_probe import speaks_tls

if TYPE_CHECKING:
    from posthouse.protocol.sasl.client import ClientMechanism

SILENCE_S: Final = 3.0
"""Without a greeting, before somebody looks whether the port speaks TLS."""
SILENCE_SHORT_S: Final = 0.5
"""The same at the port where it usually does."""
PROBE_S: Final = 5.0
_LOG: Final = logging.getLogger("posthouse.sending")


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a session stands on."""

    network: Network
    clock: Clock
    deadlines: Deadlines
    hello_name: str


class Connection:
    """`open` it, then `send` while it `wants_message`.

    `on_settled` gets every message back; `on_ended` comes once, when nothing more can be sent.
    """

    __slots__ = (
        "_began_s",
        "_client",
        "_content_began_s",
        "_content_s",
        "_dialogue",
        "_error",
        "_ground",
        "_has_refreshed",
        "_is_logged_in",
        "_is_quitting",
        "_mechanism",
        "_on_ended",
        "_on_settled",
        "_options",
        "_peer",
        "_phases",
        "_ready",
        "_tasks",
        "_token",
        "_under_way",
        "is_over",
        "sent",
    )

    def __init__(
        self,
        options: Options,
        ground: Ground,
        *,
        on_settled: Callable[[Connection, MessageEnded], None],
        on_ended: Callable[[Connection], None],
    ) -> None:
        self.sent = 0
        """Messages given to it."""
        self.is_over = False
        self._options = options
        self._ground = ground
        self._on_settled = on_settled
        self._on_ended = on_ended
        self._client: SmtpClient
        self._dialogue: Dialogue | None = None
        self._ready: asyncio.Future[None]
        self._error: SendingError | None = None
        self._is_logged_in = False
        self._is_quitting = False
        self._has_refreshed = False
        self._mechanism: ClientMechanism | None = None
        self._token = ""
        self._peer = ""
        self._phases: dict[str, float] = {}
        self._began_s = 0.0
        self._under_way: deque[OutgoingMessage] = deque()
        self._content_began_s = 0.0
        """Of the first that is under way; 0.0 while its envelope is not answered."""
        self._content_s = 0.0
        """Of the one that is being settled."""
        self._tasks: set[asyncio.Task[None]] = set()

    # --- opening ---

    async def open(self) -> None:
        """Connect, protect, log in. Raises SendingError."""
        options = self._options
        warn_if_unchecked(options)
        last: OSError = OSError("no address")
        port = 0 if options.socket_path else options.port
        for address in await addresses(options):
            self._renew()
            self._began_s = self._ground.clock.monotonic_s()
            self._peer = address
            where = f"{address} port {port}" if port else address
            self._note(f"connecting to {where}")
            try:
                await open_session(
                    self._client,
                    self._ground.network,
                    address,
                    port,
                    trace_id=TraceId("send"),
                    deadlines=self._ground.deadlines,
                    connect_s=options.connect_timeout_s,
                    tls=self._tls_start(),
                    local_address=options.local_address,
                )
            except OSError as error:
                last = error
                self._note(f"{where}: {mistakes.error_words(error)}")
                continue
            self._mark("connect_s")
            try:
                await self._greeted()
                await self._ready
            except BaseException:
                self.abort()
                raise
            return
        raise not_reached(options, last) from last

    async def _greeted(self) -> None:
        """Servers greet at once, or make strangers wait. One that is silent waits for us where TLS
        begins with the first octet, and would not say so.

        Nobody is asked at port 25: servers there make strangers wait to see who speaks first.

        Raises:
            TlsError: it does.
        """
        options = self._options
        if options.tls is TlsUse.IMPLICIT or options.port == mistakes.SMTP_PORT:
            return
        if options.socket_path:
            return
        is_usual = options.port == mistakes.SUBMISSIONS_PORT
        await asyncio.wait((self._ready,), timeout=SILENCE_SHORT_S if is_usual else SILENCE_S)
        if self._has_greeted:
            return
        probe = asyncio.create_task(
            speaks_tls(
                self._ground.network,
                self._peer,
                options.port,
                server_name=self._server_name,
                timeout_s=PROBE_S,
            )
        )
        try:
            await asyncio.wait((self._ready, probe), return_when=asyncio.FIRST_COMPLETED)
            if probe.done() and probe.result() and not self._has_greeted:
                raise mistakes.tls_from_the_start(options)
        finally:
            probe.cancel()

    @property
    def _has_greeted(self) -> bool:
        return self._ready.done() or self._client.session.waiting_for is not Stage.GREETING

    def _renew(self) -> None:
        options = self._options
        self._phases = {}
        self._ready = asyncio.get_running_loop().create_future()
        self._dialogue = Dialogue(options.watch) if options.watch is not None else None
        self._client = SmtpClient(
            name=self._ground.hello_name,
            timeouts=_timeouts(options),
            deadlines=self._ground.deadlines,
            on_event=self._on_event,
            is_tls=options.tls is TlsUse.IMPLICIT,
            is_lmtp=options.kind is Kind.LMTP,
            watch=self._dialogue,
            on_milestone=self._on_milestone,
        )

    def _tls_start(self) -> TlsStart | None:
        if self._options.tls is not TlsUse.IMPLICIT:
            return None
        return TlsStart(
            context=self._context(),
            server_side=False,
            server_name=self._server_name,
            handshake_s=self._options.greeting_timeout_s,
        )

    @property
    def _server_name(self) -> str:
        return self._options.server_name or self._options.host

    @property
    def _is_local(self) -> bool:
        """Octets do not leave this machine. What a proxy elsewhere calls localhost is there."""
        proxy = self._options.proxy
        if self._options.socket_path:
            return True
        return is_this_machine(self._peer) and (proxy is None or is_this_machine(proxy.host))

    @property
    def _is_tls_optional(self) -> bool:
        use = self._options.tls
        if use is TlsUse.AUTO:
            return self._is_local or self._options.kind is Kind.LMTP
        return use is TlsUse.OPPORTUNISTIC

    def _context(self) -> ssl.SSLContext:
        options = self._options
        if options.context is not None:
            return options.context
        if self._is_tls_optional:
            return _unchecked()
        return _usual(options.is_verifying)

    # --- what the session says ---

    def _on_event(self, event: ClientEvent) -> None:
        match event:
            case MessageEnded():
                self._take_ended(event)
            case Ready():
                self._take_ready(event)
            case TlsAgreed():
                self._client.handshake(self._context(), server_name=self._server_name)
            case Authenticated():
                self._take_login()
            case Refused(stage=Stage.AUTH):
                self._take_refused_login(event.reply)
            case Refused():
                self._mark("greeting_s")
                if self._is_tls_optional:
                    self._log_in()
                else:
                    self._give_up(mistakes.no_starttls(self._options, event.reply))
            case SessionFailed():
                self._take_failure(event)
            case Closed():
                self._end()

    def _on_milestone(self, milestone: Milestone) -> None:
        if milestone is Milestone.PROTECTED:
            self._mark("tls_s")
        elif not self._content_began_s:
            self._content_began_s = self._ground.clock.monotonic_s()

    def _take_ended(self, event: MessageEnded) -> None:
        """In their order, but for those that cannot be sent at all."""
        if self._under_way[0] is event.message:
            self._under_way.popleft()
            if self._content_began_s:
                self._content_s = self._ground.clock.monotonic_s() - self._content_began_s
            self._content_began_s = 0.0
        else:
            at = next(n for n, one in enumerate(self._under_way) if one is event.message)
            del self._under_way[at]
        self._on_settled(self, event)
        self._content_s = 0.0

    def _take_ready(self, event: Ready) -> None:
        self._mark("greeting_s")
        use = self._options.tls
        if event.is_tls or use is TlsUse.OFF:
            self._log_in()
        elif event.extensions.is_starttls:
            self._client.start_tls()
        elif self._is_tls_optional:
            self._log_in()
        else:
            self._give_up(mistakes.no_starttls(self._options, None))

    def _take_failure(self, event: SessionFailed) -> None:
        if self._error is None:
            failure = self._client.tls_failure
            self._error = (
                mistakes.tls_failed(self._options, failure)
                if failure is not None
                else mistakes.session_failed(self._options, event)
            )
        self._end()

    def _give_up(self, error: SendingError) -> None:
        self._error = error
        self._client.quit()

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if not self._ready.done():
            error = self._error or mistakes.session_failed(
                self._options,
                SessionFailed(
                    stage=Stage.GREETING, reply=None, is_transient=True, detail="it was closed"
                ),
            )
            self._ready.set_exception(error)
            self._ready.exception()  # whoever waited may be gone
        else:
            self._on_ended(self)

    # --- logging in ---

    def _log_in(self) -> None:
        login = self._options.login
        if login is None or self._is_logged_in:
            self._finish_opening()
        elif login.token is not None:
            self._start(self._log_in_by_token(login))
        else:
            self._authenticate(login)

    async def _log_in_by_token(self, login: Login) -> None:
        if await self._fetch_token(login):
            self._authenticate(login)

    async def _fetch_token(self, login: Login) -> bool:
        """Whether there is one, and still somebody to show it to."""
        assert login.token is not None
        try:
            async with asyncio.timeout(self._options.command_timeout_s):
                self._token = await token_of(login.token)
        except Exception as error:
            failed = mistakes.token_failed(self._options, error)
            failed.__cause__ = error
            self._give_up(failed)
            return False
        return not self.is_over

    def _authenticate(self, login: Login) -> None:
        client, options = self._client, self._options
        binding = None
        if client.tls is not None and "SCRAM-SHA-256-PLUS" in client.extensions.mechanisms:
            chain = client.peer_chain()
            binding = certificate_hash(chain[0]) if chain else None
        try:
            mechanism = mechanism_for(
                login,
                client.extensions.mechanisms,
                host=options.host,
                port=options.port,
                token=self._token,
                binding=binding,
            )
        except ValueError as error:
            self._give_up(mistakes.token_failed(options, error))
            return
        if mechanism is None:
            self._give_up(mistakes.login_impossible(options, client.extensions.mechanisms))
        elif client.tls is None and not self._is_local:
            self._give_up(mistakes.login_unsafe(options))
        else:
            self._mechanism = mechanism
            client.authenticate(mechanism, is_plaintext_allowed=self._is_local)

    def _take_login(self) -> None:
        mechanism = self._mechanism
        if isinstance(mechanism, ScramClient) and not mechanism.is_proven:
            # It says yes and cannot show that it knows the password: somebody in between.
            reply = Reply(235, "", "the server did not prove that it knows the password")
            self._give_up(mistakes.login_refused(self._options, reply, mechanism=mechanism.name))
            return
        self._is_logged_in = True
        self._mark("login_s")
        self._finish_opening()

    def _take_refused_login(self, reply: Reply) -> None:
        login = self._options.login
        assert login is not None
        if callable(login.token) and not self._has_refreshed and not reply.is_transient:
            self._has_refreshed = True
            self._start(self._refresh_token(login, reply))
            return
        self._give_up_login(reply)

    async def _refresh_token(self, login: Login, reply: Reply) -> None:
        """A newer token may do where one was refused; the same one would be refused again."""
        refused = self._token
        if not await self._fetch_token(login):
            return
        if self._token != refused:
            self._authenticate(login)
        else:
            self._give_up_login(reply)

    def _give_up_login(self, reply: Reply) -> None:
        name = self._mechanism.name if self._mechanism is not None else ""
        self._give_up(mistakes.login_refused(self._options, reply, mechanism=name))

    def _finish_opening(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    # --- using ---

    @property
    def is_ready(self) -> bool:
        """Opened, and not on its way out."""
        return not (self.is_over or self._is_quitting) and self._ready.done()

    @property
    def wants_message(self) -> bool:
        """One more leaves at once, behind those under way."""
        return self.is_ready and self._client.wants_message and not self.is_used_up

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self._client.is_idle

    @property
    def is_used_up(self) -> bool:
        """It has had as many messages as it may."""
        most = self._options.messages_per_connection_max
        offered = self._client.extensions.transactions_max
        return self.sent >= (most if offered is None else min(most, offered))

    @property
    def recipients_max(self) -> int | None:
        """Of one transaction, as the server says (RFC 9422)."""
        return self._client.extensions.recipients_max

    @property
    def domains_max(self) -> int | None:
        """Different ones among them, likewise."""
        return self._client.extensions.domains_max

    def send(self, message: OutgoingMessage) -> None:
        self.sent += 1
        self._under_way.append(message)
        self._client.send(message)

    def take_phases(self, *, given_s: float, waiting_s: float) -> Phases:
        """Of the message that is being settled; what opening took is told to the first of them.

        Args:
            given_s: the moment that it was given to `send`.
        """
        phases, self._phases = self._phases, {}
        message_s = self._ground.clock.monotonic_s() - given_s
        content_s = min(self._content_s, message_s)
        return Phases(
            waiting_s=waiting_s,
            envelope_s=message_s - content_s,
            content_s=content_s,
            message_s=message_s,
            **phases,
        )

    @property
    def tls(self) -> TlsUsed | None:
        info = self._client.tls
        if info is None:
            return None
        return TlsUsed(version=info.version, cipher=info.cipher, is_verified=self.is_verified)

    @property
    def is_verified(self) -> bool:
        """By TLS, with a certificate that was checked."""
        return self._client.tls is not None and (self._context().verify_mode is ssl.CERT_REQUIRED)

    def verified(self) -> Verified:
        extensions = self._client.extensions
        return Verified(
            server=self._options.place,
            greeting_name=extensions.host,
            is_logged_in=self._is_logged_in,
            tls=self.tls,
            extensions=extensions.offered,
        )

    # --- leaving ---

    def quit(self) -> None:
        """Say goodbye when that is in order; `on_ended` follows."""
        if self.is_over or self._is_quitting:
            return
        self._is_quitting = True
        self._client.quit()

    def abort(self) -> None:
        """Close at once; messages under way come back as lost."""
        for task in self._tasks:
            task.cancel()
        if not self.is_over:
            self._client.abort("closed by us")

    # --- inside ---

    def _start(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, words: str) -> None:
        if self._dialogue is not None:
            self._dialogue.note(words)

    def _mark(self, phase: str) -> None:
        """The time since the last mark was spent in that phase."""
        now = self._ground.clock.monotonic_s()
        self._phases[phase] = self._phases.get(phase, 0.0) + now - self._began_s
        self._began_s = now


def warn_if_unchecked(options: Options) -> None:
    """Once for each place: certificates are not checked because somebody said so."""
    if not options.is_verifying and options.tls is not TlsUse.OFF:
        _warn(options.place)


@lru_cache(maxsize=1_000)
def _warn(place: str) -> None:
    _LOG.warning(
        "the certificate of %s is not checked (verify=False): anybody on the way can read along",
        place,
    )


@lru_cache(maxsize=2)
def _usual(is_verifying: bool) -> ssl.SSLContext:
    """Loading the system's roots takes a tenth of a second: once is enough."""
    return client_context(is_verifying=is_verifying)


@lru_cache(maxsize=1)
def _unchecked() -> ssl.SSLContext:
    return unchecked_context()


def _timeouts(options: Options) -> Timeouts:
    return Timeouts(
        connect_s=options.connect_timeout_s,
        helo_s=options.greeting_timeout_s,
        tls_s=options.greeting_timeout_s,
        mail_s=options.command_timeout_s,
        rcpt_s=options.command_timeout_s,
        data_s=options.command_timeout_s,
        block_s=options.data_timeout_s,
        dot_s=options.data_timeout_s,
        idle_s=options.idle_s,
        attempt_s=options.command_timeout_s * 3 + options.data_timeout_s * 2,
    )
