"""One IMAP session: a `net.stream` handler that runs the machine's commands one after the other.

What can be answered at once is; the first command that has to wait starts the session's single
task, which goes on with whatever is pipelined behind it and ends when nothing is left. Replies of
a group are one write. News of the mailbox come by `wake`, which only marks the session: who reads
them is the next command that may tell them, or IDLE.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from posthouse.access.imap import commands
from posthouse.access.imap.selected import News, SelectedGone, SelectedMailbox
from posthouse.access.ports import note_tls_failure
from posthouse.accounts.login import Principal
from posthouse.kernel.errors import Fault, StorageFull
from posthouse.mailbox import view as views
from posthouse.mailbox.changes import Watch
from posthouse.mailbox.errors import LimitReached, MailboxError
from posthouse.net.stream import Stream, TlsFailure, lost_words
from posthouse.protocol.imap import events as e
from posthouse.protocol.imap import responses
from posthouse.protocol.imap.server import Phase, ServerSession

if TYPE_CHECKING:
    from posthouse.access.imap.service import Service

Work = Coroutine[Any, Any, None]
AT_ONCE_MAX: Final = 64
"""Commands answered before other sessions get their turn (P10)."""
WRITE_OCTETS_MAX: Final = 256 * 1024
"""Of one write, so that TLS never has more to encrypt at once."""


class Session:
    """Between `connected` and `lost`. Commands use what is public here."""

    __slots__ = (
        "_command",
        "_has_ended",
        "_is_draining",
        "_is_idling",
        "_is_open",
        "_is_paused",
        "_is_stale",
        "_out",
        "_task",
        "_watch",
        "_work",
        "_writable",
        "attempts",
        "deadline_s",
        "machine",
        "principal",
        "selected",
        "service",
        "stream",
    )

    def __init__(self, service: Service, stream: Stream) -> None:
        self.service = service
        self.stream = stream
        self.machine = ServerSession(service.options.limits)
        self.principal: Principal | None = None
        self.selected: SelectedMailbox | None = None
        self.deadline_s = math.inf
        self.attempts = 0
        """Failed logins."""
        self._command: e.Event | None = None
        self._out: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._work: Work | None = None
        self._watch: Watch | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_stale = False
        """The account's mail changed since this session last read its news."""
        self._is_idling = False
        self._is_paused = False
        self._is_open = False
        self._is_draining = False
        self._has_ended = False

    # --- what the stream calls ---

    def connected(self, stream: Stream) -> None:
        self.stream = stream
        self.service.observer.noted("imap.opened", stream.trace_id, peer=stream.peer.address)
        self._is_open = True
        self.deadline_s = self.service.deadlines.after_s(self.service.options.login_s)
        self.service.deadlines.add(self)
        self.send(responses.ok(b"*", "Posthouse is ready", b"CAPABILITY " + self.capabilities()))
        self.flush()

    def received(self, octets: bytes) -> None:
        if self.principal is not None:
            self.deadline_s = self.service.deadlines.after_s(self.service.options.idle_s)
        self.machine.receive(octets)
        if self._task is None:
            self._advance()
        elif self.machine.is_overfull and not self._is_paused:
            self._is_paused = True
            self.stream.pause_reading()
            self.limit("imap.pipeline_max", observed=self.service.options.limits.pipeline_max)

    def tls_started(self) -> None:
        """Commands come encrypted now; LOGIN is possible."""

    def ended(self) -> None:
        self._has_ended = True
        if self._task is None:
            self.stream.close()

    def lost(self, error: Exception | None) -> None:
        self.service.deadlines.discard(self)
        self.unselect()
        if self.principal is not None:
            self.service.release(self.principal.account)
            self.principal = None
        if isinstance(error, TlsFailure):
            service, handshake_s = self.service, self.service.options.handshake_s
            note_tls_failure(
                service.observer, self.stream, error, service="imap", handshake_s=handshake_s
            )
        if self._is_open:
            self._is_open = False
            peer = self.stream.peer.address
            reason = lost_words(error)
            self.service.observer.noted(
                "imap.closed", self.stream.trace_id, peer=peer, reason=reason
            )
        if self._task is not None:
            self._task.cancel()
        if self._work is not None:  # its task never began
            self._work.close()
            self._work = None
        self._out.clear()
        self.machine.end()

    def writable(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def expired(self) -> None:
        """The deadline passed: of the login, of silence, or of output that nobody reads."""
        if self._writable is not None:
            self.limit("imap.output_octets_max", observed=self.stream.unsent_octets)
            self.stream.abort()
        elif self._task is not None:
            self.deadline_s = self.service.deadlines.after_s(self.service.options.idle_s)
        elif self.principal is None:
            self.limit("imap.login_s", observed=int(self.service.options.login_s))
            self.goodbye("You did not log in in time")
        else:
            self.limit("imap.idle_s", observed=int(self.service.options.idle_s))
            self.goodbye("You were silent for too long")

    def drain(self) -> None:
        """The process stops: finish the command at hand, then say BYE (P14)."""
        self._is_draining = True
        if self._task is None:
            self.goodbye("The server is going down", responses.UNAVAILABLE)

    # --- output ---

    def send(self, octets: bytes) -> None:
        """Into the group of replies that `flush` writes."""
        self._out.append(octets)

    def send_all(self, parts: list[bytes]) -> None:
        self._out += parts

    def flush(self) -> None:
        """Write what is waiting, in slices that TLS can encrypt without holding up others."""
        outgoing = self.machine.take_outgoing()
        if outgoing:
            self._out.append(outgoing)
        if not self._out:
            return
        octets = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        for start in range(0, len(octets), WRITE_OCTETS_MAX):
            self.stream.write(
                octets
                if len(octets) <= WRITE_OCTETS_MAX
                else octets[start : start + WRITE_OCTETS_MAX]
            )

    async def send_large(self, octets: bytes) -> None:
        """Behind what is waiting, slice by slice as the client reads them."""
        self.flush()
        for start in range(0, len(octets), WRITE_OCTETS_MAX):
            self.stream.write(octets[start : start + WRITE_OCTETS_MAX])
            await self.drained()

    async def drained(self) -> None:
        """Write, give other sessions their turn, and wait while the client does not read."""
        self.flush()
        if self.stream.unsent_octets <= self.service.options.output_octets_max:
            await asyncio.sleep(0)
            return
        before_s = self.deadline_s
        self.deadline_s = self.service.deadlines.after_s(self.service.options.output_s)
        self._writable = asyncio.get_running_loop().create_future()
        try:
            if not self.stream.is_writable:
                await self._writable
        finally:
            self._writable = None
            self.deadline_s = before_s

    def goodbye(self, text: str, code: str = "") -> None:
        """BYE and close."""
        self.send(responses.bye(text, code))
        self.close()

    def close(self) -> None:
        self.flush()
        self.machine.end()
        self.stream.close()

    # --- answers ---

    def ok(self, command: e.Command, text: str, code: str | bytes = "") -> None:
        self.send(responses.ok(command.tag, text, code))
        self._answered()

    def no(self, command: e.Command, text: str, code: str | bytes = "") -> None:
        self.send(responses.no(command.tag, text, code))
        self._answered()

    def bad(self, text: str) -> None:
        """BAD to the command at hand; counts against the session."""
        self._command = None
        self.machine.bad(text)

    def _answered(self) -> None:
        self._command = None
        self.machine.answered()

    def complete(
        self, command: e.Command, text: str, code: str | bytes = "", *, may_expunge: bool = True
    ) -> Work | None:
        """OK, after the news there may be: at once, or by the work that is returned."""
        if self.has_news(may_expunge=may_expunge):
            return self._complete(command, text, code, may_expunge=may_expunge)
        self.ok(command, text, code)
        return None

    async def _complete(
        self, command: e.Command, text: str, code: str | bytes, *, may_expunge: bool
    ) -> None:
        await self.sync(may_expunge=may_expunge)
        self.ok(command, text, code)

    async def completed(
        self, command: e.Command, text: str, code: str | bytes = "", *, may_expunge: bool = True
    ) -> None:
        """`complete` for a command that is waiting anyway."""
        if self.has_news(may_expunge=may_expunge):
            await self.sync(may_expunge=may_expunge)
        self.ok(command, text, code)

    # --- the mailbox ---

    def capabilities(self) -> bytes:
        is_secure = self.service.may_log_in(self.stream)
        return commands.capability.listed(
            is_logged_in=self.principal is not None,
            may_login=is_secure,
            may_start_tls=not self.stream.is_tls and self.service.tls_context() is not None,
        )

    def log_in(self, principal: Principal) -> None:
        self.principal = principal
        self.machine.enter(Phase.AUTHENTICATED)
        self.deadline_s = self.service.deadlines.after_s(self.service.options.idle_s)

    def watch(self) -> None:
        """Mark news from now on; before a mailbox is read, so that none falls between."""
        assert self.principal is not None
        self.unselect()
        self._watch = self.service.hub.watch(self.principal.account, self.wake)
        self._is_stale = False

    def select(self, mailbox: SelectedMailbox) -> None:
        """Of an account that is watched."""
        self.selected = mailbox
        self.machine.enter(Phase.SELECTED)

    def unselect(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self.forget_opened()
        self.selected = None
        if self.machine.phase is Phase.SELECTED:
            self.machine.enter(Phase.AUTHENTICATED)

    def wake(self) -> None:
        """Mail of the account changed."""
        self._is_stale = True
        if self._is_idling and self._task is None:
            self._start(self._tell_idler())

    def has_news(self, *, may_expunge: bool) -> bool:
        if self.selected is None:
            return False
        return self._is_stale or (may_expunge and bool(self.selected.held))

    async def sync(self, *, may_expunge: bool) -> None:
        """Read what is new and put it into the output."""
        box = self.selected
        if box is None:
            return
        if self._is_stale:
            self._is_stale = False
            news = await self.service.store.read(box.news)
            await self.tell(news, may_expunge=may_expunge)
        elif may_expunge:
            self.send_all(box.tell_held())

    async def tell(self, news: News, *, may_expunge: bool) -> None:
        """Take news in and tell them; new messages become \\Recent where none has them yet."""
        box = self.selected
        assert box is not None
        changes = news.changes
        before = box.uidnext
        self.send_all(box.tell(news, may_expunge=may_expunge))
        if not changes.added:
            return
        if self._is_idling:
            self.flush()  # nobody waits for our commit to learn of mail
        first = before if box.is_readonly else await self._claimed(box, changes)
        first = max(first, before)
        box.count_recent(sum(row[0] >= first for row in changes.added))
        box.claim(first, changes.uidnext)
        self.send(b"* %d RECENT\r\n" % box.recent_count())

    async def _claimed(self, box: SelectedMailbox, changes: views.Changes) -> int:
        """The first UID that is \\Recent to us; none when that could not be written."""
        try:
            return await self.service.store.submit(
                lambda tx: views.claim_recent(tx, box.account, box.mailbox, changes.uidnext)
            )
        except Fault as fault:
            self.fault(fault)
            return changes.uidnext

    async def loaded(self) -> views.View:
        """The selected mailbox's view, read when this is the first command to need it."""
        box = self.selected
        assert box is not None
        if box.view is None:
            box.keep(await self.service.store.read(box.load))
        assert box.view is not None
        return box.view

    def keep_opened(self, uid: int, octets: bytes) -> None:
        """Keep a message that is read in parts, so that it is not read and hashed for each of
        them, as long as all sessions together do not keep too much."""
        service, box = self.service, self.selected
        assert box is not None
        if box.opened is not None and box.opened[1] is octets:
            return
        self.forget_opened()
        if service.kept_octets + len(octets) <= service.options.kept_octets_max:
            service.kept_octets += len(octets)
            box.opened = (uid, octets)

    def forget_opened(self) -> None:
        box = self.selected
        if box is not None and box.opened is not None:
            self.service.kept_octets -= len(box.opened[1])
            box.opened = None

    # --- IDLE ---

    def start_idling(self) -> Work | None:
        """`+`, then news as they come."""
        self._command = None
        self.machine.idling()
        self._is_idling = True
        return self._tell_idler() if self.has_news(may_expunge=True) else None

    def stop_idling(self) -> None:
        self._is_idling = False

    async def _tell_idler(self) -> None:
        while self._is_idling and self.has_news(may_expunge=True):
            await self.sync(may_expunge=True)
            await self.drained()

    # --- continuations ---

    def challenge(self, octets: bytes) -> None:
        """A SASL challenge; the response is the next event."""
        self._command = None
        self.machine.challenge(octets)

    def take_literal(self) -> None:
        """The announced message is wanted."""
        self._command = None
        self.machine.take_literal()

    def refuse_literal(self, text: str, code: str) -> None:
        self._command = None
        self.machine.refuse_literal(text, code=code)

    def start_tls(self, command: e.StartTls, context: ssl.SSLContext) -> None:
        """OK in plaintext; everything after it is TLS."""
        self._command = None
        self.send(responses.ok(command.tag, "Begin TLS now"))
        self.flush()
        self.machine.tls_started()
        self.stream.start_tls(
            context, server_side=True, handshake_s=self.service.options.handshake_s
        )

    # --- running commands ---

    def _advance(self) -> None:
        """Answer what can be answered at once; start the task for the rest."""
        work = self._next_work()
        if work is not None:
            self._start(work)
            return
        self.flush()
        self._after()

    def _start(self, work: Work) -> None:
        self._work = work
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def _next_work(self) -> Work | None:
        """Run commands up to one that has to wait."""
        machine = self.machine
        for _ in range(AT_ONCE_MAX):
            command = machine.next_event()
            if machine.reached is not None:
                self._note_limit(*machine.reached)
            outgoing = machine.take_outgoing()
            if outgoing:
                self._out.append(outgoing)
            if command is None:
                return None
            self._command = command
            work: Work | None = commands.HANDLERS[type(command)](self, command)
            if work is not None:
                return work
            if self._is_draining:
                return None
        return self.drained()

    async def _serve(self) -> None:
        """The session's task."""
        work, self._work = self._work, None
        try:
            while work is not None:
                await self._guarded(work)
                if self.stream.unsent_octets > self.service.options.output_octets_max:
                    await self.drained()
                if self._is_draining:
                    break
                work = self._next_work()
            self._task = None
            self.flush()
            self._after()
        except Exception as error:
            self._task = None
            self.service.observer.noted("imap.bug", self.stream.trace_id, error=repr(error))
            asyncio.get_running_loop().call_exception_handler(
                {"message": "an IMAP command failed", "exception": error}
            )
            self.goodbye("Something went wrong here", responses.SERVERBUG)

    def _after(self) -> None:
        """Nothing runs any more."""
        if self.machine.has_ended or self._has_ended:
            self.stream.close()
        elif self._is_draining:
            self.goodbye("The server is going down", responses.UNAVAILABLE)
        elif self._is_paused:
            self._is_paused = False
            self.stream.resume_reading()
        if self._is_idling and self._is_stale and self._task is None and self.stream.is_open:
            self._start(self._tell_idler())

    async def _guarded(self, work: Work) -> None:
        """Run a command; turn what it raises into its answer."""
        try:
            await work
        except SelectedGone:
            self.goodbye("The selected mailbox was deleted")
        except MailboxError as refused:
            if isinstance(refused, LimitReached):
                self.limit_met(refused)
            self._refuse(_sentence(str(refused)), refused.code)
        except StorageFull as fault:
            self.fault(fault)
            self._refuse("There is no room left on this server", responses.OVERQUOTA)
        except Fault as fault:
            self.fault(fault)
            self._refuse("The server has trouble, try again later", responses.UNAVAILABLE)

    def _refuse(self, text: str, code: str) -> None:
        if self._command is None:
            self.goodbye(text, code)  # IDLE: its client is told nothing otherwise
        else:
            self.no(self._command, text, code)

    def fault(self, fault: Fault) -> None:
        self.service.observer.noted("imap.fault", self.stream.trace_id, detail=str(fault))

    def _note_limit(self, field: str, observed: int) -> None:
        """One of the machine's."""
        self.machine.reached = None
        name = "smtp.message_octets_max" if field == "append_octets_max" else f"imap.{field}"
        self.limit(name, observed=observed)

    def limit_met(self, refused: LimitReached) -> None:
        """One of the mailbox's; what was asked for is at least one more than there may be."""
        self.service.observer.limit_reached(
            refused.setting,
            self.stream.trace_id,
            value=refused.limit,
            observed=refused.limit + 1,
            peer=self.stream.peer.address,
        )

    def limit(self, name: str, *, observed: int) -> None:
        """A row of the limits table was reached."""
        options = self.service.options
        field = name.partition(".")[2]
        if name == "smtp.message_octets_max":
            value = options.limits.append_octets_max
        elif hasattr(options, field):
            value = int(getattr(options, field))
        else:
            value = int(getattr(options.limits, field))
        self.service.observer.limit_reached(
            name,
            self.stream.trace_id,
            value=value,
            observed=observed,
            peer=self.stream.peer.address,
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
