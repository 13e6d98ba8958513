"""Letters to a Posthouse by its HTTP API, and what became of them by the same way.

A letter whose answer was lost is sent again under the same key, and the server takes it once.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from posthouse.kernel.envelope import Envelope, Notify, TlsDemand
from posthouse.kernel.reply import Reply
from posthouse.message.address import format_address
from posthouse.net.tls_adapter import TlsFailure, TlsTrouble
from posthouse.protocol.submission_api import (
    ANSWER_OCTETS_MAX,
    KEY_FIELD,
    MESSAGE_TYPE,
    PATH,
    MessageState,
    Problem,
    State,
    Taken,
    Turned,
)
from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.errors import (
    AuthError,
    CapabilityError,
    ConnectError,
    EnvelopeError,
    MessageError,
    OptionError,
    ProtocolError,
    SendingError,
    SendTimeout,
    TlsError,
    again,
)
from posthouse.sending.mistakes import tls_failed
from posthouse.sending.options import Options, TlsUse
from posthouse.sending.proxying import proxy_not_reached, proxy_said_no
from posthouse.sending.receipt import (
    Outcome,
    OutcomeState,
    Phases,
    Receipt,
    Rejected,
    TlsUsed,
    outcome_of,
)
from posthouse.sending.tls import client_context

__all__ = ["PosthouseCarrier"]

T = TypeVar("T", bound=msgspec.Struct)

TRIES: Final = 3
"""Of a letter whose answer does not come."""
WAIT_S: Final = 1.0
REFUSED_S: Final = 10.0
"""How long a login that was refused is not tried again, as at a mail server (`pool`)."""
ASK_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between two questions about a letter, the last again and again."""
_NOTIFY: Final = {
    Notify.NEVER: "never",
    Notify.SUCCESS: "success",
    Notify.FAILURE: "failure",
    Notify.DELAY: "delay",
}
_STATES: Final = {
    State.QUEUED: OutcomeState.ACCEPTED,
    State.DEFERRED: OutcomeState.DEFERRED,
    State.DELIVERED: OutcomeState.DELIVERED,
    State.RETURNED: OutcomeState.RETURNED,
}
_ENDS: Final = frozenset({OutcomeState.DELIVERED, OutcomeState.RETURNED})


class PosthouseCarrier:
    """The `Carrier` of posthouse: URLs; made on the loop that uses it."""

    def __init__(self, options: Options) -> None:
        login = options.login
        self._options = options
        scheme = "http" if options.tls is TlsUse.OFF else "https"
        self._base = f"{scheme}://{options.place}{PATH}"
        self._context: ssl.SSLContext | bool = True
        if scheme == "https":
            self._context = options.context or client_context(is_verifying=options.is_verifying)
        self._fields = {"User-Agent": "Posthouse"}
        if login is not None:
            word = login.password.reveal() if login.password is not None else ""
            octets = base64.b64encode(f"{login.user}:{word}".encode())
            self._fields["Authorization"] = f"Basic {octets.decode('ascii')}"
        self._refusal: AuthError | None = None
        self._refused_until_s = 0.0
        self._is_login_tried = login is None
        self._first = asyncio.Lock()
        self._proxy, self._proxy_auth = _proxy(options)
        self._loop = asyncio.get_running_loop()
        self._session = self._new_session()

    def _new_session(self) -> aiohttp.ClientSession:
        options = self._options
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=options.connections_max),
            headers=self._fields,
            timeout=aiohttp.ClientTimeout(
                total=options.data_timeout_s, connect=options.connect_timeout_s
            ),
            auto_decompress=False,
            response_class=_Answer,
            trace_configs=[_trace()],
        )

    async def carry(self, letter: Letter) -> Receipt:
        envelope = letter.envelope
        if envelope.tls_demand is TlsDemand.REQUIRED:
            raise CapabilityError(
                "tls_demand=REQUIRED cannot be asked for by posthouse://",
                hint="send it by smtps:// to the same server",
                server=self._options.place,
            )
        key = envelope.envelope_id or os.urandom(16).hex()
        url = f"{self._base}?{_query(envelope)}"
        fields = {"Content-Type": MESSAGE_TYPE, KEY_FIELD: key}
        if self._is_login_tried:
            return await self._handed_over(letter, url, fields)
        async with self._first:  # a wrong password is wrong once
            if self._refusal is not None:
                if asyncio.get_running_loop().time() < self._refused_until_s:
                    raise again(self._refusal)
                self._refusal = None
            try:
                return await self._handed_over(letter, url, fields)
            finally:
                self._is_login_tried = self._refusal is None

    async def _handed_over(self, letter: Letter, url: str, fields: dict[str, str]) -> Receipt:
        if letter.begin is not None:
            letter.begin()
        call = _Call(self._session, self._loop.time())
        for left in reversed(range(TRIES)):
            try:
                status, octets = await self._asked("POST", url, fields, letter.octets, call)
                break
            except SendingError as error:
                # Whether it is there or not, the same key does not send it twice.
                if not left or not error.may_have_been_sent:
                    raise
                await asyncio.sleep(WAIT_S)
        if status != 202:
            refused = self._error(status, octets)
            if isinstance(refused, AuthError):
                self._refusal, self._is_login_tried = refused, False
                self._refused_until_s = asyncio.get_running_loop().time() + REFUSED_S
            raise refused
        return self._receipt(letter, self._read(octets, Taken), call)

    async def verify(self) -> Verified:
        """A question about no message: the login counts, and that the API is there."""
        call = _Call(self._session, self._loop.time())
        status, octets = await self._asked("GET", f"{self._base}/none", {}, None, call)
        problem = self._problem(octets)
        if status != 404 or problem is None:
            raise self._error(status, octets)
        return Verified(
            server=self._options.place, greeting_name="Posthouse", is_logged_in=True, tls=call.tls
        )

    async def close(self) -> None:
        await self._session.close()

    # --- HTTP ---

    async def _asked(
        self, method: str, url: str, fields: dict[str, str], content: bytes | None, call: _Call
    ) -> tuple[int, bytes]:
        """Raises SendingError, whatever goes wrong."""
        place = self._options.place
        try:
            async with call.session.request(
                method,
                url,
                data=content,
                headers=fields,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_auth,
                server_hostname=self._options.server_name or None,
                trace_request_ctx=call,
            ) as answer:
                call.tls = getattr(answer, "tls", None)
                octets = await answer.content.read(ANSWER_OCTETS_MAX)
                return answer.status, octets
        except aiohttp.ClientConnectorCertificateError as error:
            raise tls_failed(self._options, _untrusted(error.certificate_error)) from None
        except aiohttp.ClientSSLError:
            raise TlsError(
                f"{place} does not speak HTTPS", hint="check the port", server=place
            ) from None
        except aiohttp.ClientHttpProxyError as error:
            raise self._proxy_failed(error) from None
        except aiohttp.ClientConnectorError as error:
            if self._options.proxy is not None:
                raise self._proxy_failed(error) from None
            words = error.os_error.strerror or "it cannot be reached"
            raise ConnectError(
                f"{place}: {words}",
                hint="is web.serves_api switched on there, and is it the HTTPS port?",
                server=place,
                is_transient=True,
            ) from None
        except TimeoutError:
            raise SendTimeout(
                f"{place} did not answer in time",
                server=place,
                is_transient=True,
                may_have_been_sent=content is not None,
            ) from None
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            words = f"{place} hung up in the middle"
            if call.session.closed:
                words = "the transport was closed while this was under way"
            raise ProtocolError(
                words, server=place, is_transient=True, may_have_been_sent=content is not None
            ) from error

    def _proxy_failed(
        self, error: aiohttp.ClientHttpProxyError | aiohttp.ClientConnectorError
    ) -> SendingError:
        options = self._options
        assert options.proxy is not None
        if isinstance(error, aiohttp.ClientHttpProxyError):
            failed = proxy_said_no(options.proxy, error.status, error.message)
        else:
            timeout_s = options.connect_timeout_s
            failed = proxy_not_reached(options.proxy, error.os_error, timeout_s=timeout_s)
        return failed.told(options.place)

    def _read(self, octets: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(octets, type=kind)
        except msgspec.MsgspecError:
            raise ProtocolError(
                f"{self._options.place} does not answer as a Posthouse does",
                hint="check host and port; the API is at /api/v1 of its HTTPS port",
                server=self._options.place,
            ) from None

    def _problem(self, octets: bytes) -> Problem | None:
        try:
            return msgspec.json.decode(octets, type=Problem)
        except msgspec.MsgspecError:
            return None

    def _error(self, status: int, octets: bytes) -> SendingError:
        place = self._options.place
        problem = self._problem(octets)
        if problem is None:
            return ProtocolError(
                f"{place} answers {status}, not as a Posthouse does",
                hint="is web.serves_api switched on there?",
                server=place,
            )
        text, hint = problem.title, problem.detail
        rejected = tuple(map(_rejected, problem.rejected))
        if status == 401:
            user = self._options.login.user if self._options.login is not None else "nobody"
            return AuthError(
                f"{place} refused the login of {user}: {text}",
                hint="check user and password",
                server=place,
            )
        is_transient = status in (429, 503)
        reply = None
        if rejected:
            first = rejected[0]
            reply = Reply(first.code, first.status, first.text)
        is_envelope = rejected and not problem.is_about_content
        kind = EnvelopeError if is_envelope else MessageError
        return kind(
            text,
            hint=hint,
            server=place,
            reply=reply,
            is_transient=is_transient,
            rejected=rejected,
        )

    # --- receipts ---

    def _receipt(self, letter: Letter, taken: Taken, call: _Call) -> Receipt:
        sender = letter.envelope.reverse_path
        return Receipt(
            message_id=letter.message_id,
            sender=format_address(sender, unicode=True) if sender is not None else "",
            recipients=tuple(
                format_address(path.address, unicode=True) for path in letter.envelope.recipients
            ),
            accepted=taken.accepted,
            rejected=tuple(map(_rejected, taken.rejected)),
            response=taken.response,
            server=self._options.place,
            queue_id=taken.id,
            size_octets=len(letter.octets),
            sent_at=datetime.now(UTC),
            phases=call.phases(self._loop.time()),
            tls=call.tls,
            tag=letter.tag,
            ask=self._ask,
        )

    async def _ask(self, receipt: Receipt, timeout_s: float) -> tuple[Outcome, ...]:
        """On any loop, and behind the transport's end, too: then by a session of its own.

        Raises:
            SendingError: the server cannot be asked.
        """
        if self._loop is asyncio.get_running_loop() and not self._session.closed:
            return await self._ask_by(self._session, receipt, timeout_s)
        async with self._new_session() as session:
            return await self._ask_by(session, receipt, timeout_s)

    async def _ask_by(
        self, session: aiohttp.ClientSession, receipt: Receipt, timeout_s: float
    ) -> tuple[Outcome, ...]:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        asked = 0
        while True:
            outcomes = await self._outcomes(_Call(session, loop.time()), receipt)
            left = until - loop.time()
            if left <= 0 or all(one.state in _ENDS for one in outcomes):
                return outcomes
            await asyncio.sleep(min(ASK_S[min(asked, len(ASK_S) - 1)], left))
            asked += 1

    async def _outcomes(self, call: _Call, receipt: Receipt) -> tuple[Outcome, ...]:
        url = f"{self._base}/{receipt.queue_id}"
        status, octets = await self._asked("GET", url, {}, None, call)
        if status == 404 and self._problem(octets) is not None:  # it is no longer remembered there
            return tuple(
                Outcome(recipient=one, state=OutcomeState.UNKNOWN, detail="the server forgot it")
                for one in receipt.accepted
            ) + tuple(map(outcome_of, receipt.rejected))
        if status != 200:
            raise self._error(status, octets)
        found = self._read(octets, MessageState)
        outcomes = tuple(
            Outcome(
                recipient=one.recipient,
                state=_STATES[one.state],
                detail=one.detail,
                next_try_at=_moment(one.next_try_at),
            )
            for one in found.recipients
        )
        return outcomes + tuple(map(outcome_of, receipt.rejected))


class _Call:
    """One thing asked, in as many tries as it takes: by which session, and what it took."""

    def __init__(self, session: aiohttp.ClientSession, began_s: float) -> None:
        self.session = session
        self.tls: TlsUsed | None = None
        self.connect_s = self.waiting_s = 0.0
        self._began_s = began_s
        self._since_s = 0.0

    def begin(self) -> None:
        self._since_s = asyncio.get_running_loop().time()

    def connected(self) -> None:
        self.connect_s += asyncio.get_running_loop().time() - self._since_s

    def let_in(self) -> None:
        self.waiting_s += asyncio.get_running_loop().time() - self._since_s

    def phases(self, now_s: float) -> Phases:
        """Envelope and content go in one request, so all of that is the content's."""
        message_s = max(now_s - self._began_s - self.connect_s - self.waiting_s, 0.0)
        return Phases(
            connect_s=self.connect_s,
            waiting_s=self.waiting_s,
            content_s=message_s,
            message_s=message_s,
        )


def _trace() -> aiohttp.TraceConfig:
    """Tells a `_Call` what its way to the server takes."""

    async def begin(session: object, context: Any, _: object) -> None:
        context.trace_request_ctx.begin()

    async def connected(session: object, context: Any, _: object) -> None:
        context.trace_request_ctx.connected()

    async def let_in(session: object, context: Any, _: object) -> None:
        context.trace_request_ctx.let_in()

    trace = aiohttp.TraceConfig()
    trace.on_connection_queued_start.append(begin)
    trace.on_connection_queued_end.append(let_in)
    trace.on_connection_create_start.append(begin)
    trace.on_connection_create_end.append(connected)
    return trace


class _Answer(aiohttp.ClientResponse):
    """Sees the TLS it came by, as the connection is given back before anybody can ask."""

    tls: TlsUsed | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        transport = connection.transport
        session = transport.get_extra_info("ssl_object") if transport is not None else None
        if session is not None and (cipher := session.cipher()) is not None:
            self.tls = TlsUsed(
                version=session.version() or "",
                cipher=cipher[0],
                is_verified=session.context.verify_mode is ssl.CERT_REQUIRED,
            )
        return await super().start(connection)


def _untrusted(error: Exception) -> TlsFailure:
    """As the handshake of a mail server fails."""
    words = getattr(error, "verify_message", "") or "it is not trusted"
    return TlsFailure(
        TlsTrouble.CERTIFICATE,
        f"the peer's certificate does not verify: {words}",
        verify_code=getattr(error, "verify_code", 0),
    )


def _proxy(options: Options) -> tuple[str | None, dict[str, str]]:
    """Its URL, and the field with its login."""
    proxy = options.proxy
    if proxy is None:
        return None, {}
    if proxy.scheme != "http":
        raise OptionError("proxy", "has to be an HTTP proxy with posthouse:", hint="write http://…")
    fields = {}
    if proxy.user:
        octets = base64.b64encode(f"{proxy.user}:{proxy.password.reveal()}".encode())
        fields["Proxy-Authorization"] = f"Basic {octets.decode('ascii')}"
    return f"http://{proxy.host}:{proxy.port}", fields


def _query(envelope: Envelope) -> str:
    sender = envelope.reverse_path
    given = [("from", format_address(sender) if sender is not None else "")]
    given += [("to", format_address(path.address)) for path in envelope.recipients]
    notify = next((path.notify for path in envelope.recipients if path.notify is not None), None)
    if notify is not None:
        words = [word for flag, word in _NOTIFY.items() if flag and flag in notify]
        given.append(("notify", ",".join(words) or "never"))
    if envelope.ret is not None:
        given.append(("ret", envelope.ret.value.lower()))
    return urlencode(given)


def _rejected(one: Turned) -> Rejected:
    return Rejected(
        recipient=one.recipient,
        code=one.code,
        status=one.status,
        text=one.text,
        is_transient=400 <= one.code < 500,
        response=f"{one.code} {one.status} {one.text}".strip(),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
