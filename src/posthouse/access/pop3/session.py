"""One POP3 session: a `net.stream` handler around the machine of `protocol.pop3`.

What the machine answers itself goes out at once. Logging in, reading a message, a long listing and
QUIT have to wait for something: they run in the session's single task, which goes on with what is
pipelined behind them and ends when nothing is left.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, assert_never

from posthouse.access.pop3.counted import CountedSession
from posthouse.access.ports import note_login, note_tls_failure
from posthouse.accounts.login import LoginFailure, Principal
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.mailbox import expunge, fetch, view
from posthouse.mailbox.errors import MailboxError, NoSuchMailbox
from posthouse.mailbox.flags import normalised
from posthouse.net.stream import Stream, TlsFailure, lost_words
from posthouse.protocol.pop3.events import (
    Event,
    LoginAttempted,
    MessageWanted,
    QuitReceived,
    StartTlsReceived,
)
from posthouse.protocol.pop3.server import Maildrop, ServerSession
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.transaction import Transaction

if TYPE_CHECKING:
    from posthouse.access.pop3.service import Service

WRITE_OCTETS_MAX: Final = 256 * 1024
"""Of one write, so that TLS never has more to encrypt at once."""
BUSY: Final = "try again later"


class Session:
    """Between `connected` and `lost`."""

    __slots__ = (
        "_attempts",
        "_has_ended",
        "_is_draining",
        "_is_open",
        "_is_paused",
        "_machine",
        "_mailbox",
        "_principal",
        "_service",
        "_stream",
        "_task",
        "_writable",
        "deadline_s",
    )

    def __init__(self, service: Service, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._machine: CountedSession | None = None
        self._principal: Principal | None = None
        self._mailbox: MailboxId | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._attempts = 0
        self._has_ended = False
        self._is_paused = False
        self._is_draining = False
        self._is_open = False
        self.deadline_s = math.inf

    # --- what the stream calls ---

    def connected(self, stream: Stream) -> None:
        self._stream = stream
        options = self._service.options
        self._note("opened")
        self._is_open = True
        is_tls = stream.is_tls
        self._machine = CountedSession(
            options.limits,
            may_log_in=self._service.may_log_in(stream),
            may_start_tls=not is_tls and self._service.tls_context() is not None,
        )
        self.deadline_s = self._service.deadlines.after_s(options.login_s)
        self._service.deadlines.add(self)
        self._flush(self._machine)

    def received(self, octets: bytes) -> None:
        machine = self._machine
        if machine is None:
            return
        if self._principal is not None:
            self.deadline_s = self._service.deadlines.after_s(self._service.options.idle_s)
        machine.receive(octets)
        if self._task is None:
            self._advance(machine)
        elif machine.is_overfull and not self._is_paused:
            self._is_paused = True
            self._stream.pause_reading()

    def tls_started(self) -> None:
        if self._machine is not None:
            self._machine.tls_started()

    def ended(self) -> None:
        self._has_ended = True
        if self._task is None:
            self._stream.close()

    def lost(self, error: Exception | None) -> None:
        """Without QUIT nothing is removed (RFC 1939 §6)."""
        self._service.deadlines.discard(self)
        if isinstance(error, TlsFailure):
            service, handshake_s = self._service, self._service.options.handshake_s
            note_tls_failure(
                service.observer, self._stream, error, service="pop3", handshake_s=handshake_s
            )
        if self._is_open:
            self._is_open = False
            self._note("closed", reason=lost_words(error))
        if self._principal is not None:
            self._service.give_back(self._principal.account)
            self._principal = None
        if self._task is not None:
            self._task.cancel()
        if self._machine is not None:
            self._machine.end()

    def writable(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def expired(self) -> None:
        """The deadline passed: of the login, of silence, or of output that nobody reads."""
        if self._writable is not None:
            output_octets_max = self._service.options.output_octets_max
            self._limit("imap.output_octets_max", output_octets_max, self._stream.unsent_octets)
            self._stream.abort()
        elif self._task is not None:
            self.deadline_s = self._service.deadlines.after_s(self._service.options.idle_s)
        elif self._principal is None:
            login_s = int(self._service.options.login_s)
            self._limit("pop3.login_s", login_s, login_s)
            self._stream.write(b"-ERR [SYS/TEMP] you did not log in in time\r\n")
            self._stream.close()
        else:  # RFC 1939 §3: the session ends without removing anything and without a response
            idle_s = int(self._service.options.idle_s)
            self._limit("pop3.idle_s", idle_s, idle_s)
            self._stream.close()

    def drain(self) -> None:
        """The process stops: finish the command at hand, then close (P14)."""
        self._is_draining = True
        if self._task is None:
            self._stream.close()

    # --- running commands ---

    def _advance(self, machine: CountedSession) -> None:
        """Let the machine answer what it can; start the task for the rest."""
        event = self._next_event(machine)
        if isinstance(event, StartTlsReceived):
            self._start_tls(machine)
        elif event is not None or machine.has_more:
            self._task = asyncio.get_running_loop().create_task(self._serve(machine, event))
        else:
            self._flush(machine)
            self._close_if_over(machine)

    async def _serve(self, machine: CountedSession, event: Event | None) -> None:
        """The session's task."""
        try:
            while True:
                if event is not None and not isinstance(event, StartTlsReceived):
                    await self._answer(machine, event)
                await self._drained(machine)
                if self._is_draining or machine.is_over:
                    break
                event = self._next_event(machine)
                if isinstance(event, StartTlsReceived):
                    self._start_tls(machine)
                    event = None
                elif event is None and not machine.has_more:
                    break
                elif event is None:
                    await asyncio.sleep(0)  # others get their turn (P10)
            self._flush(machine)
        except Exception as error:  # a bug: the session ends, others go on
            self._note("bug", error=f"{type(error).__name__}: {error}")
            machine.end()
        finally:
            self._task = None
        if self._is_paused:
            self._is_paused = False
            self._stream.resume_reading()
        self._close_if_over(machine)

    def _next_event(self, machine: CountedSession) -> Event | None:
        event = machine.next_event()
        for name, value, observed in machine.take_reached():
            self._limit(name, value, observed)
        return event

    def _close_if_over(self, machine: ServerSession) -> None:
        if machine.is_over or self._is_draining or self._has_ended:
            self._stream.close()

    def _flush(self, machine: ServerSession) -> None:
        octets = machine.take_outgoing()
        for start in range(0, len(octets), WRITE_OCTETS_MAX):
            self._stream.write(octets[start : start + WRITE_OCTETS_MAX])

    async def _drained(self, machine: ServerSession) -> None:
        """Write everything, a piece at a time while the client reads."""
        while True:
            octets = machine.take_outgoing()
            for start in range(0, len(octets), WRITE_OCTETS_MAX):
                self._stream.write(octets[start : start + WRITE_OCTETS_MAX])
                await self._until_read()
            if not machine.has_more:
                return
            await asyncio.sleep(0)  # others get their turn (P10)

    async def _until_read(self) -> None:
        options = self._service.options
        if self._stream.unsent_octets <= options.output_octets_max or self._stream.is_writable:
            return
        before_s = self.deadline_s
        self.deadline_s = self._service.deadlines.after_s(options.output_s)
        self._writable = asyncio.get_running_loop().create_future()
        try:
            await self._writable
        finally:
            self._writable = None
            self.deadline_s = before_s

    def _start_tls(self, machine: ServerSession) -> None:
        context = self._service.tls_context()
        machine.accept_starttls()
        self._flush(machine)
        if context is None:  # it was there at the greeting
            self._stream.close()
            return
        self._stream.start_tls(
            context, server_side=True, handshake_s=self._service.options.handshake_s
        )

    async def _answer(
        self, machine: ServerSession, event: LoginAttempted | MessageWanted | QuitReceived
    ) -> None:
        match event:
            case LoginAttempted():
                await self._log_in(machine, event)
            case MessageWanted():
                await self._send(machine, event)
            case QuitReceived():
                await self._quit(machine, event)
            case _:
                assert_never(event)

    # --- logging in ---

    async def _log_in(self, machine: ServerSession, event: LoginAttempted) -> None:
        service, credentials = self._service, event.credentials
        result = await service.authenticator.authenticate(
            name=credentials.authentication_id,
            password=credentials.password,
            authzid=credentials.authorization_id,
            peer=self._stream.peer.address,
            service="pop3",
        )
        note_login(
            service.observer,
            self._stream,
            result,
            service="pop3",
            name=credentials.authentication_id,
            mechanism="",
        )
        if result.delay_s > 0:
            await service.clock.sleep(result.delay_s)
        if result.principal is None:
            self._refuse_login(machine, result.failure)
            return
        account = result.principal.account
        if not service.take(account):
            machine.refuse_login("another session has this mailbox open", code="IN-USE")
            return
        try:
            mailbox, maildrop = await service.store.read(lambda tx: open_maildrop(tx, account))
        except (Fault, MailboxError) as error:
            service.give_back(account)
            self._fault(error)
            machine.refuse_login(BUSY, code="SYS/TEMP")
            return
        except BaseException:
            service.give_back(account)
            raise
        self._principal = result.principal
        self._mailbox = mailbox
        self.deadline_s = service.deadlines.after_s(service.options.idle_s)
        machine.open_maildrop(maildrop)

    def _refuse_login(self, machine: ServerSession, failure: LoginFailure | None) -> None:
        self._attempts += 1
        is_last = self._attempts >= self._service.options.attempts_max
        if failure is LoginFailure.WRONG:
            machine.refuse_login("wrong name or password", code="AUTH", over=is_last)
        else:
            machine.refuse_login(BUSY, code="SYS/TEMP", over=is_last)

    # --- messages ---

    async def _send(self, machine: ServerSession, event: MessageWanted) -> None:
        principal, mailbox, maildrop = self._principal, self._mailbox, machine.maildrop
        assert principal is not None and mailbox is not None and maildrop is not None
        uid = maildrop.uids[event.index]
        try:
            message = await self._service.store.read(
                lambda tx: fetch.octets(tx, principal.account, mailbox, uid)
            )
        except BlobDamaged as error:  # F10: this one cannot be read, others can
            self._fault(error)
            machine.refuse_message("this message is damaged")
        except Fault as error:
            self._fault(error)
            machine.refuse_message(BUSY, code="SYS/TEMP")
        else:
            if message is None:
                machine.refuse_message("another session removed this message")
            else:
                machine.send_message(message.whole())

    async def _quit(self, machine: ServerSession, event: QuitReceived) -> None:
        principal, mailbox, maildrop = self._principal, self._mailbox, machine.maildrop
        assert principal is not None and mailbox is not None and maildrop is not None
        account = principal.account
        uids = [maildrop.uids[index] for index in event.deleted]
        try:
            await self._service.store.submit(lambda tx: remove(tx, account, mailbox, uids))
        except Fault as error:
            self._fault(error)
            machine.farewell(is_done=False)
        except NoSuchMailbox:
            machine.farewell(is_done=True)  # they are gone with it
        else:
            machine.farewell(is_done=True)

    def _fault(self, error: Exception) -> None:
        self._note("fault", detail=str(error))

    def _note(self, event: str, **fields: object) -> None:
        stream = self._stream
        peer = stream.peer.address
        self._service.observer.noted(f"pop3.{event}", stream.trace_id, peer=peer, **fields)

    def _limit(self, name: str, value: int, observed: int) -> None:
        """A row of the limits table was reached."""
        stream = self._stream
        self._service.observer.limit_reached(
            name, stream.trace_id, value=value, observed=observed, peer=stream.peer.address
        )


def open_maildrop(tx: Transaction, account: AccountId) -> tuple[MailboxId, Maildrop]:
    """INBOX as it is now. Raises: NoSuchMailbox."""
    selected = view.select(tx, account, "INBOX")
    found = fetch.sizes(tx, account, selected.mailbox)
    return selected.mailbox, Maildrop(
        selected.uidvalidity,
        array("I", [uid for uid, _ in found]),
        array("Q", [size for _, size in found]),
    )


def remove(tx: Transaction, account: AccountId, mailbox: MailboxId, uids: Sequence[int]) -> None:
    ranges = normalised([(uid, uid) for uid in uids])
    expunge.expunge(tx, account, mailbox, ranges, only_deleted=False)
