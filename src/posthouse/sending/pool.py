"""Sessions that are kept and shared: who sends waits for the first that has room.

There are never more sessions than are needed: one more is opened only when letters wait and all
that are open are busy. A session takes the next letter behind the one under way (RFC 2920), so a
busy one has two in flight. A letter whose session was lost goes to another one only where that
cannot send it twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

from posthouse.kernel.envelope import Envelope, TlsDemand
from posthouse.protocol.smtp.client_events import (
    MessageEnded,
    Outcome,
    OutgoingMessage,
    Result,
    Stage,
)
from posthouse.sending import mistakes
from posthouse.sending.carrier import Letter
from posthouse.sending.connection import Connection, Ground
from posthouse.sending.errors import AuthError, ConnectError, SendingError, again
from posthouse.sending.options import Options
from posthouse.sending.rate import Rate
from posthouse.sending.receipt import Phases, TlsUsed

TRIES_MAX: Final = 3
"""The first and two more, where it is known that the letter was not taken."""
REFUSED_S: Final = 10.0
"""How long a login that was refused is not tried again: thousands of letters with a wrong password
would get their sender banned."""
PAUSE_S: Final = 10.0
"""How long no further session is tried where one was turned away and others work: a server that
takes two at once is not asked for a third before each letter."""
GIVEN_UP_S: Final = 1.0
"""How long `close` waits for letters that nobody waits for any more."""
_MAY_HAVE: Final = frozenset({Result.ACCEPTED, Result.UNKNOWN})
_BEFORE_CONTENT: Final = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA})


class Carried:
    """How one letter ended: what the server said of each recipient, and over which session."""

    __slots__ = ("ended", "phases", "tls")

    def __init__(self, ended: MessageEnded, phases: Phases, tls: TlsUsed | None) -> None:
        self.ended = ended
        self.phases = phases
        self.tls = tls


class _Job:
    """A letter on its way, or what is left of it when the server takes few recipients at once."""

    __slots__ = (
        "began_s",
        "connection",
        "future",
        "given_s",
        "has_begun",
        "is_under_way",
        "letter",
        "open",
        "outcomes",
        "tries",
        "waited_s",
    )

    def __init__(self, letter: Letter, future: asyncio.Future[Carried], began_s: float) -> None:
        self.letter = letter
        self.future = future
        self.began_s = began_s
        self.given_s = began_s
        self.waited_s = 0.0
        self.tries = 0
        self.has_begun = False
        """Its `begin` was called."""
        self.is_under_way = False
        self.connection: Connection | None = None
        """The session that settled some recipients last."""
        self.outcomes: dict[int, Outcome] = {}
        """Settled recipients by their number."""
        self.open: tuple[int, ...] = tuple(range(len(letter.envelope.recipients)))


class Pool:
    """Of one place. Everything happens on one loop."""

    def __init__(self, options: Options, ground: Ground) -> None:
        self._options = options
        self._ground = ground
        self._rate = Rate(options.rate, options.rate_per_s) if options.rate else None
        self._waiting: deque[_Job] = deque()
        self._connections: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._room: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = self._is_leaving = False
        self._is_login_proven = options.login is None
        self._refusal: AuthError | None = None
        self._refused_until_s = 0.0
        self._enough_until_s = 0.0
        self._under_way = 0
        self._given_up: set[_Job] = set()
        """Of those under way."""
        self._drained: asyncio.Future[None] | None = None

    # --- for the carrier ---

    @property
    def has_room(self) -> bool:
        """One more letter would not have to wait outside."""
        return len(self._waiting) < self._options.pending_max

    async def carry(self, letter: Letter) -> Carried:
        """Hand a letter to a session and wait for its end.

        Raises:
            SendingError: no session can be had, or the line broke.
        """
        while not self.has_room:
            await self._wait_for_room()
        if self._is_closing:
            raise ConnectError("the transport is closed", server=self._options.place)
        if self._refusal is not None:
            if self._ground.clock.monotonic_s() < self._refused_until_s:
                raise again(self._refusal)
            self._refusal = None
        future: asyncio.Future[Carried] = asyncio.get_running_loop().create_future()
        job = _Job(letter, future, self._ground.clock.monotonic_s())
        self._waiting.append(job)
        self._pump()
        try:
            return await future
        except asyncio.CancelledError:
            self._forget(job)
            raise

    async def opened(self) -> Connection:
        """A new session, for `verify`; the pool keeps it for the next letter."""
        if self._is_full:
            idle = next((one for one in self._connections if one.is_idle), None)
            if idle is None and self._connections:
                return self._connections[0]  # it works at this moment, and no more are allowed
            if idle is not None:
                idle.quit()
        connection = self._new()
        await connection.open()
        self._is_login_proven, self._refusal = True, None
        self._connections.append(connection)
        self._pump()
        return connection

    async def close(self) -> None:
        """Let what is under way end, then say goodbye to all."""
        self._is_closing = True
        if self._waiting or self._under_way:
            self._drained = asyncio.get_running_loop().create_future()
            self._tell_drained()
            await self._drained
        self._drained = asyncio.get_running_loop().create_future()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._opening):
            task.cancel()
        self._is_leaving = True
        for connection in list(self._connections):
            connection.quit()
        self._tell_drained()
        await self._drained  # bounded by the deadline of QUIT

    def abort(self) -> None:
        """Drop everything at once; whoever waits is told."""
        self._is_closing = True
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            self._fail(job, ConnectError("the transport is closed", server=self._options.place))
        self._let_in()  # and then hears the same
        for task in list(self._opening):
            task.cancel()
        for connection in list(self._connections):
            connection.abort()

    # --- the flow of letters ---

    def _pump(self) -> None:
        """Give letters to sessions with room; open another where letters still wait."""
        while self._waiting:
            if (pause := self._pause_s()) > 0:
                self._look_again(pause)
                return
            connection = self._free()
            if connection is None:
                self._open_another()
                return
            if not connection.is_idle:  # all are busy: one more, and meanwhile behind another
                self._open_another()
            job = self._waiting.popleft()
            if not job.future.done():  # else it was cancelled a moment ago
                self._give(connection, job)
        if self._room:
            self._let_in()

    def _free(self) -> Connection | None:
        """A session that takes a letter now, one without work before one with some."""
        busy = None
        for connection in self._connections:
            if connection.wants_message:
                if connection.is_idle:
                    return connection
                busy = busy or connection
        return busy

    @property
    def _is_full(self) -> bool:
        return len(self._connections) + len(self._opening) >= self._options.connections_max

    def _pause_s(self) -> float:
        if self._rate is None:
            return 0.0
        return self._rate.wait_s(self._ground.clock.monotonic_s())

    def _look_again(self, after_s: float) -> None:
        if self._timer is None or self._timer.cancelled():
            self._timer = asyncio.get_running_loop().call_later(after_s, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer = None
        self._pump()

    def _give(self, connection: Connection, job: _Job) -> None:
        envelope = job.letter.envelope
        if envelope.tls_demand is TlsDemand.REQUIRED and not connection.is_verified:
            self._fail(job, mistakes.not_verified(self._options))
            return
        if job.letter.begin is not None and not job.has_begun:
            job.has_begun = True
            try:
                job.letter.begin()
            except Exception as error:
                job.future.set_exception(error)
                return
        now = self._ground.clock.monotonic_s()
        if self._rate is not None:
            self._rate.took(now)
        job.given_s = now
        job.waited_s = now - job.began_s
        job.tries += 1
        asked = _asked(job, connection.recipients_max, connection.domains_max)
        if len(asked) != len(envelope.recipients):
            envelope = _with_recipients(envelope, asked)
        self._under_way += 1
        job.is_under_way = True
        connection.send(
            OutgoingMessage(envelope=envelope, octets=job.letter.octets, tag=(job, asked))
        )

    def _settled(self, connection: Connection, ended: MessageEnded) -> None:
        """A letter came back from a session."""
        self._under_way -= 1
        job, asked = ended.message.tag
        job.is_under_way = False
        if self._given_up:
            self._given_up.discard(job)
        if self._is_to_be_repeated(job, ended):
            self._waiting.appendleft(job)
        else:
            self._take(connection, job, asked, ended)
        if connection.is_used_up and connection.is_idle:
            connection.quit()
        self._pump()
        self._tell_drained()

    def _take(
        self, connection: Connection, job: _Job, asked: tuple[int, ...], ended: MessageEnded
    ) -> None:
        job.outcomes.update(zip(asked, ended.outcomes, strict=True))
        too_many = [
            at
            for at, outcome in zip(asked, ended.outcomes, strict=True)
            if _is_too_many(outcome) and len(asked) > 1
        ]
        took_some = any(outcome.result is Result.ACCEPTED for outcome in ended.outcomes)
        left = [*(too_many if took_some else ()), *(at for at in job.open if at not in asked)]
        job.open = tuple(left)
        job.connection = connection
        if job.future.done():
            return
        if left:
            job.tries = 0
            self._waiting.appendleft(job)
            return
        self._end(job)

    def _end(self, job: _Job) -> None:
        """All of its recipients are settled."""
        whole = MessageEnded(
            message=OutgoingMessage(envelope=job.letter.envelope, octets=job.letter.octets),
            outcomes=tuple(job.outcomes[at] for at in sorted(job.outcomes)),
            was_tried=True,
        )
        assert job.connection is not None
        phases = job.connection.take_phases(given_s=job.given_s, waiting_s=job.waited_s)
        job.future.set_result(Carried(whole, phases, job.connection.tls))

    def _fail(self, job: _Job, error: SendingError) -> None:
        """It cannot go on: an error where nobody has it, else the recipients that are left hear
        why."""
        if job.future.done():
            return
        if not any(one.result in _MAY_HAVE for one in job.outcomes.values()):
            job.future.set_exception(error)
            return
        left = Outcome(
            result=Result.TRANSIENT if error.is_transient else Result.PERMANENT,
            stage=Stage.MAIL,
            reply=None,
            status="4.4.1" if error.is_transient else "5.4.1",
            detail=error.text,
        )
        job.outcomes.update(dict.fromkeys(job.open, left))
        self._end(job)

    def _is_to_be_repeated(self, job: _Job, ended: MessageEnded) -> bool:
        """The session was lost before the end of the content was out, so nobody has it."""
        if job.tries >= TRIES_MAX or job.future.done() or self._is_closing:
            return False
        if not ended.was_tried:
            return True
        return all(
            outcome.result is Result.TRANSIENT
            and (outcome.reply is None or outcome.reply.code == 421)
            and outcome.stage in _BEFORE_CONTENT
            and mistakes.IN_TIME not in outcome.detail
            for outcome in ended.outcomes
        )

    # --- sessions ---

    def _new(self) -> Connection:
        return Connection(
            self._options, self._ground, on_settled=self._settled, on_ended=self._ended
        )

    def _open_another(self) -> bool:
        """Begin to open one more, where one is needed and allowed.

        Until a login was taken there is one at a time: a wrong password is wrong once.
        """
        if self._is_full or len(self._opening) >= len(self._waiting):
            return False
        if self._opening and not self._is_login_proven:
            return False
        if self._enough_until_s and (self._connections or self._opening):
            if self._ground.clock.monotonic_s() < self._enough_until_s:
                return False
            self._enough_until_s = 0.0
        task = asyncio.get_running_loop().create_task(self._open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self) -> None:
        connection = self._new()
        try:
            await connection.open()
        except SendingError as error:
            self._no_longer_opening()
            self._could_not_open(error)
            return
        self._no_longer_opening()
        self._connections.append(connection)
        is_first, self._is_login_proven = not self._is_login_proven, True
        self._pump()
        while is_first and self._open_another():
            pass

    def _no_longer_opening(self) -> None:
        """Before what follows counts sessions; the task itself ends a moment later."""
        if (task := asyncio.current_task()) is not None:
            self._opening.discard(task)

    def _could_not_open(self, error: SendingError) -> None:
        """Where other sessions work they go on alone, and those that are still being opened may;
        else whoever waits is told at once."""
        if self._connections or self._opening:
            self._enough_until_s = self._ground.clock.monotonic_s() + PAUSE_S
            return
        if isinstance(error, AuthError) and not error.is_transient:
            self._refusal = error
            self._refused_until_s = self._ground.clock.monotonic_s() + REFUSED_S
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            self._fail(job, again(error))
        self._let_in()
        self._tell_drained()

    def _ended(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
        self._pump()
        self._tell_drained()

    # --- waiting outside ---

    async def _wait_for_room(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(future)
        await future

    def _let_in(self) -> None:
        free = self._options.pending_max - len(self._waiting)
        while self._room and free > 0:
            future = self._room.popleft()
            if not future.done():
                future.set_result(None)
                free -= 1

    def _forget(self, job: _Job) -> None:
        """Nobody waits for it any more: it is not begun, and if it is under way it goes on."""
        if job in self._waiting:
            self._waiting.remove(job)
            self._let_in()
        elif job.is_under_way:
            self._given_up.add(job)
        self._tell_drained()

    def _tell_drained(self) -> None:
        """To `close`: first that no letter is left, then that no session is."""
        drained = self._drained
        if drained is None or drained.done() or self._waiting:
            return
        if not (self._under_way or (self._is_leaving and self._connections)):
            drained.set_result(None)
        elif self._under_way == len(self._given_up) and not self._is_leaving:
            drained.get_loop().call_later(GIVEN_UP_S, _end_wait, drained)


def _end_wait(drained: asyncio.Future[None]) -> None:
    if not drained.done():
        drained.set_result(None)


def _asked(job: _Job, most: int | None, domains_max: int | None) -> tuple[int, ...]:
    """Those of its recipients that one transaction may have (RFC 9422 §4)."""
    if domains_max is None:
        return job.open if most is None else job.open[:most]
    recipients = job.letter.envelope.recipients
    domains: set[str] = set()
    asked: list[int] = []
    for at in job.open:
        domain = recipients[at].address.domain
        if domain in domains or len(domains) < domains_max:
            domains.add(domain)
            asked.append(at)
    return tuple(asked[:most])


def _with_recipients(envelope: Envelope, asked: tuple[int, ...]) -> Envelope:
    chosen = tuple(envelope.recipients[at] for at in asked)
    return msgspec.structs.replace(envelope, recipients=chosen)


def _is_too_many(outcome: Outcome) -> bool:
    """RFC 5321 §4.5.3.1.10: not this one with so many others."""
    reply = outcome.reply
    return (
        outcome.stage is Stage.RCPT
        and reply is not None
        and (reply.code == 452 or (reply.code == 552 and reply.status in ("", "5.5.3")))
        and reply.status in ("", "4.5.3", "5.5.3")
    )
