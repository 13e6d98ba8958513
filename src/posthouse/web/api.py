"""Submission over HTTP: `protocol.submission_api` spoken by the server.

Who may do what is decided by the submission service itself, which every message goes through
(`web.inner`). An answer of 202 is sent when the message is in the queue or in its mailboxes, in one
commit, as the 250 of SMTP.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec
from aiohttp import web

from posthouse.accounts import login_events
from posthouse.accounts.login import Authenticator, LoginFailure, Principal
from posthouse.kernel.envelope import Address, Envelope, ForwardPath, Notify, Ret
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import AccountId, TraceId
from posthouse.kernel.ports import Clock
from posthouse.kernel.secret import Secret
from posthouse.message.address import AddressError, needs_smtputf8, parse_mailbox
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Peer
from posthouse.observe.log import Log
from posthouse.observe.metrics import Metrics
from posthouse.protocol.submission_api import (
    KEY_FIELD,
    KEY_MAX,
    MESSAGE_TYPE,
    PATH,
    PROBLEM_TYPE,
    RECIPIENTS_MAX,
    MessageState,
    Problem,
    RecipientState,
    State,
    Taken,
    Turned,
)
from posthouse.queue import admin as queue
from posthouse.queue.admin import History
from posthouse.queue.item import State as QueueState
from posthouse.sending.carrier import Letter
from posthouse.sending.errors import (
    AuthError,
    CapabilityError,
    EnvelopeError,
    MessageError,
    SendingError,
    SendTimeout,
)
from posthouse.sending.options import Login, Options, TlsUse
from posthouse.sending.receipt import Receipt, Rejected
from posthouse.sending.smtp_carrier import SmtpCarrier
from posthouse.store import queue as rows
from posthouse.store.queue_rows import RecipientRow
from posthouse.store.transaction import Store, Transaction
from posthouse.web.door import PAGE_HEADERS, is_tls
from posthouse.web.inner import Door, InnerNetwork

T = TypeVar("T")

SERVICE: Final = "api"
REALM: Final = 'Basic realm="Posthouse", charset="UTF-8"'
MARK_CHARACTERS: Final = 16
SUBMIT_S: Final = 300.0
"""For the whole of a submission, once the message is here."""
QUERY_FIELDS_MAX: Final = RECIPIENTS_MAX + 10
# xtext (RFC 3461 §4) writes "+" and "=" in another way, and a key is compared as it is.
_KEY: Final = re.compile(rf"[!-*,-<>-~]{{1,{KEY_MAX}}}")
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_NOTIFY: Final = {
    "never": Notify.NEVER,
    "success": Notify.SUCCESS,
    "failure": Notify.FAILURE,
    "delay": Notify.DELAY,
}
_ENDS: Final = {
    QueueState.STORED: State.DELIVERED,
    QueueState.RELAYED: State.DELIVERED,
    QueueState.RETURNED: State.RETURNED,
    QueueState.DROPPED: State.RETURNED,
}


class _Refused(Exception):
    """The request gets this answer."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        rejected: tuple[Turned, ...] = (),
        is_about_content: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.problem = Problem(
            status=status,
            title=title,
            detail=detail,
            rejected=rejected,
            is_about_content=is_about_content,
        )
        self.headers = headers or {}


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class Api:
    """One for each process."""

    def __init__(
        self,
        *,
        door: Door,
        store: Store,
        authenticator: Authenticator,
        clock: Clock,
        deadlines: Deadlines,
        trace_id: Callable[[], TraceId],
        log: Log,
        metrics: Metrics,
        message_octets_max: Callable[[], int],
    ) -> None:
        self._door = door
        self._store = store
        self._authenticator = authenticator
        self._clock = clock
        self._deadlines = deadlines
        self._trace_id = trace_id
        self._log = log
        self._metrics = metrics
        self._message_octets_max = message_octets_max
        self._turns: dict[tuple[AccountId, str], _Turn] = {}

    @staticmethod
    def is_for(path: str) -> bool:
        return path == PATH or path.startswith((f"{PATH}?", f"{PATH}/"))

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except _Refused as refused:
            return _json(
                refused.problem, refused.problem.status, refused.headers, media_type=PROBLEM_TYPE
            )
        except Fault:
            problem = Problem(
                status=503, title="The server cannot do it at the moment", detail="Try again later"
            )
            return _json(problem, 503, {"Retry-After": "60"}, media_type=PROBLEM_TYPE)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        peer = _peer(request)
        if not is_tls(request) and not _is_loopback(peer.address):
            raise _Refused(403, "Passwords are taken over https only", "Ask again with https://")
        if path == PATH:
            if request.method != "POST":
                raise _not_allowed("POST")
            return await self._submit(request, query, peer)
        if request.method not in ("GET", "HEAD"):
            raise _not_allowed("GET, HEAD")
        principal = (await self._logged_in(request, peer))[0]
        return await self._told(principal, unquote(path.removeprefix(f"{PATH}/")))

    # --- who asks ---

    async def _logged_in(
        self, request: web.BaseRequest, peer: Peer
    ) -> tuple[Principal, str, Secret]:
        name, password = _credentials(request)
        result = await self._authenticator.authenticate(
            name=name, password=password.reveal(), authzid="", peer=peer.address, service=SERVICE
        )
        login_events.note(
            self._log,
            self._metrics,
            result,
            trace=self._trace_id(),
            service=SERVICE,
            peer=peer.address,
            name=name,
        )
        if result.delay_s:
            await self._clock.sleep(result.delay_s)
        if result.principal is not None:
            return result.principal, name, password
        match result.failure:
            case LoginFailure.BANNED:
                raise _Refused(429, "Too many failed logins", "Try again later")
            case LoginFailure.TEMPORARY:
                raise _Refused(503, "Logins are not possible at the moment", "Try again later")
            case _:
                raise _unknown("Name or password is wrong")

    # --- submitting ---

    async def _submit(self, request: web.BaseRequest, query: str, peer: Peer) -> web.Response:
        principal, name, password = await self._logged_in(request, peer)
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != MESSAGE_TYPE:
            raise _Refused(
                415, "What is sent has to be a message", f"Say Content-Type: {MESSAGE_TYPE}"
            )
        key = request.headers.get(KEY_FIELD, "")
        if key and _KEY.fullmatch(key) is None:
            detail = f'It has 1 to {KEY_MAX} printable characters, without "+" and "="'
            raise _Refused(400, f"{KEY_FIELD} cannot be used", detail)
        envelope = _envelope(query, key)
        octets = await self._body(request)
        letter = Letter(message_id="", envelope=envelope, octets=octets)
        if not key:
            return _taken(await self._carry(letter, name, password, peer, self._trace_id()))
        mark = _mark(query, octets)
        async with self._alone(principal.account, key):
            known = await self._store.read(
                lambda tx: rows.queue_id_of_envelope(tx, principal.account, key)
            )
            if known is None:
                trace = TraceId(f"{self._trace_id()}{mark}")
                return _taken(await self._carry(letter, name, password, peer, trace))
            if not known.rpartition(".")[0].endswith(mark):
                raise _Refused(
                    422,
                    f"This {KEY_FIELD} names another letter: {known}",
                    "Give each letter a key of its own, and repeat a request as it was",
                )
            return await self._again(principal, known)

    @contextlib.asynccontextmanager
    async def _alone(self, account: AccountId, key: str) -> AsyncIterator[None]:
        """One request of a key at a time: the next one sees what became of it."""
        turn = self._turns.setdefault((account, key), _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[account, key]

    async def _body(self, request: web.BaseRequest) -> bytes:
        limit = self._message_octets_max()
        if request.content_length is not None and request.content_length > limit:
            raise _too_large(limit)
        pieces: list[bytes] = []
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
        if not size:
            raise _Refused(400, "There is no message", "Send it as the body of the request")
        return _with_crlf(b"".join(pieces))

    async def _carry(
        self, letter: Letter, name: str, password: Secret, peer: Peer, trace: TraceId
    ) -> Receipt:
        options = Options(
            tls=TlsUse.OFF,
            login=Login(user=name, password=password, mechanism="PLAIN"),
            connections_max=1,
            hello_name="api.invalid",
        )
        network = InnerNetwork(
            self._door, peer=peer, trace_id=lambda: trace, deadlines=self._deadlines
        )
        carrier = SmtpCarrier(options, network=network)
        try:
            async with asyncio.timeout(SUBMIT_S):
                return await carrier.carry(letter)
        except TimeoutError:
            raise _Refused(503, "It took too long", "Try again with the same key") from None
        except SendingError as error:
            raise _of(error) from None
        finally:
            await carrier.close()

    async def _again(self, principal: Principal, queue_id: str) -> web.Response:
        """The answer was lost on its way: it is given again."""
        found = await self._store.read(partial(_histories, queue_id, principal.account))
        accepted = tuple(row.address for one in found for row in one.recipients)
        taken = Taken(id=queue_id, accepted=accepted, response=f"Accepted as {queue_id} before")
        return _json(taken, 202, {"Location": f"{PATH}/{queue_id}"})

    # --- telling ---

    async def _told(self, principal: Principal, queue_id: str) -> web.Response:
        found: list[History] = []
        if _ID.fullmatch(queue_id) is not None:
            found = await self._store.read(partial(_histories, queue_id, principal.account))
        # Whose it is makes no difference in the answer: nobody learns what others send.
        if not found:
            raise _Refused(404, "There is no such message", "Give the id that the 202 named")
        told = MessageState(
            id=queue_id,
            recipients=tuple(_recipient(row, one) for one in found for row in one.recipients),
        )
        return _json(told, 200)


def _histories(queue_id: str, account: AccountId, tx: Transaction) -> list[History]:
    """Of a submission, which may have become several messages: each hidden recipient of what is
    encrypted has one of their own, with the same ENVID, by the same session, and so has whose own
    copy waits."""
    asked = queue.show(tx, queue_id)
    if asked is None or asked.message.account != account:
        return []
    envelope_id, trace = asked.message.envelope_id, queue_id.rpartition(".")[0]
    is_alone = envelope_id is None or not trace
    ids = rows.queue_ids_of_trace(tx, queue_id if is_alone else trace, limit=RECIPIENTS_MAX)
    if is_alone:
        ids.insert(0, queue_id)
    found = [history for one in ids if (history := queue.show(tx, one)) is not None]
    return [
        one
        for one in found
        if one.message.account == account and one.message.envelope_id == envelope_id
    ]


def _recipient(row: RecipientRow, history: History) -> RecipientState:
    state = _ENDS.get(row.state)
    detail = row.last_reply or ""
    if state is not None:
        steps = history.ledger.get(row.id, ())
        return RecipientState(
            recipient=row.address, state=state, detail=detail or (steps[-1].detail if steps else "")
        )
    due = None
    if row.due_at is not None:
        due = datetime.fromtimestamp(row.due_at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    waiting = State.DEFERRED if row.attempts else State.QUEUED
    return RecipientState(recipient=row.address, state=waiting, detail=detail, next_try_at=due)


# --- requests ---


def _envelope(query: str, key: str) -> Envelope:
    try:
        given = parse_qs(
            query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise _Refused(400, "The query cannot be read", "Write ?from=…&to=…&to=…") from None
    for name in given:
        if name not in ("from", "to", "notify", "ret"):
            raise _Refused(
                400, f"There is no parameter {name[:40]!r}", "There is from, to, notify, ret"
            )
    senders, recipients = given.get("from", []), given.get("to", [])
    if len(senders) != 1:
        raise _Refused(400, "One ?from= is needed", "It is empty for the null reverse-path")
    if not 0 < len(recipients) <= RECIPIENTS_MAX:
        raise _Refused(400, f"1 to {RECIPIENTS_MAX} times &to= is needed")
    sender = _address("from", senders[0]) if senders[0] else None
    notify = _notify(given.get("notify", [""])[-1])
    paths = tuple(
        ForwardPath(address=_address("to", one), notify=notify, original_recipient=None)
        for one in dict.fromkeys(recipients)
    )
    is_smtputf8 = any(
        needs_smtputf8(one) for one in (sender, *(path.address for path in paths)) if one
    )
    return Envelope(
        reverse_path=sender,
        recipients=paths,
        is_smtputf8=is_smtputf8,
        envelope_id=key or None,
        ret=_ret(given.get("ret", [""])[-1]),
    )


def _ret(text: str) -> Ret | None:
    if not text:
        return None
    try:
        return Ret(text.upper())
    except ValueError:
        raise _Refused(400, f"ret cannot be {text[:40]!r}", "There is full, hdrs") from None


def _mark(query: str, octets: bytes) -> str:
    """Of a request. The id of its message ends in it, in the same commit as the message: so a key
    that is used for another letter is noticed whatever became of the first, and after a restart."""
    given = parse_qs(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    what = {
        "from": given["from"],
        "to": sorted(set(given["to"])),
        "notify": given.get("notify", [""])[-1],
        "ret": given.get("ret", [""])[-1],
    }
    digest = hashlib.sha256(msgspec.json.encode(what))
    digest.update(octets)
    return f"-{digest.hexdigest()[:MARK_CHARACTERS]}"


def _notify(text: str) -> Notify | None:
    if not text:
        return None
    found = Notify(0)
    for word in text.split(","):
        flag = _NOTIFY.get(word.strip().lower())
        if flag is None:
            words = ", ".join(_NOTIFY)
            raise _Refused(400, f"notify cannot be {word[:40]!r}", f"There is {words}")
        found |= flag
    return found


def _address(name: str, text: str) -> Address:
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise _Refused(400, f"?{name}= is no address: {error}") from None


def _credentials(request: web.BaseRequest) -> tuple[str, Secret]:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise _unknown("Log in first")
    try:
        octets = base64.b64decode(text.strip(), validate=True)
        name, colon, password = octets.decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise _unknown("The login cannot be read")
    return name, Secret(password)


def _peer(request: web.BaseRequest) -> Peer:
    transport = request.transport
    found = transport.get_extra_info("peername") if transport is not None else None
    return Peer(*found) if found else Peer("", 0)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _with_crlf(octets: bytes) -> bytes:
    """Files of Unix have LF; a message has CRLF."""
    if b"\r\n" in octets:
        return octets if octets.endswith(b"\r\n") else octets + b"\r\n"
    octets = octets.replace(b"\n", b"\r\n")
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


# --- answers ---


def _taken(receipt: Receipt) -> web.Response:
    taken = Taken(
        id=receipt.queue_id,
        accepted=receipt.accepted,
        rejected=tuple(map(_turned, receipt.rejected)),
        response=receipt.response,
    )
    return _json(taken, 202, {"Location": f"{PATH}/{receipt.queue_id}"})


def _turned(one: Rejected) -> Turned:
    return Turned(recipient=one.recipient, code=one.code, status=one.status, text=one.text)


def _of(error: SendingError) -> _Refused:
    """What the submission service said, as HTTP."""
    reply = error.reply
    rejected = tuple(map(_turned, getattr(error, "rejected", ())))
    if isinstance(error, AuthError):
        return _unknown("Name or password is wrong")
    is_about_content = isinstance(error, MessageError | CapabilityError)
    if (reply is not None and reply.is_transient) or isinstance(error, SendTimeout):
        words = reply.text if reply is not None else error.text
        return _Refused(
            503,
            words,
            "Try again later",
            rejected=rejected,
            is_about_content=is_about_content,
            headers={"Retry-After": "60"},
        )
    if isinstance(error, EnvelopeError | MessageError | CapabilityError):
        words = reply.text if reply is not None else error.text
        return _Refused(
            422, words, error.hint, rejected=rejected, is_about_content=is_about_content
        )
    return _Refused(503, error.text, "Try again later", headers={"Retry-After": "60"})


def _json(
    value: msgspec.Struct,
    status: int,
    headers: dict[str, str] | None = None,
    *,
    media_type: str = "application/json",
) -> web.Response:
    more = {**PAGE_HEADERS, "Cache-Control": "no-store", **(headers or {})}
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type=media_type, headers=more
    )


def _unknown(title: str) -> _Refused:
    detail = "Send Authorization: Basic with the account's address and password"
    return _Refused(401, title, detail, headers={"WWW-Authenticate": REALM})


def _too_large(limit: int) -> _Refused:
    return _Refused(413, f"The message is larger than {limit} octets")


def _not_allowed(methods: str) -> _Refused:
    return _Refused(405, "This is not asked so", f"Use {methods}", headers={"Allow": methods})
