"""`Transport`: the same as `AsyncTransport` for programs without a loop, or beside one.

A thread of its own runs the loop of the one asynchronous core; it starts with the first letter and
ends with `close`. Any number of threads may use one transport at once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.errors import ConnectError, SendingError
from posthouse.sending.options import Keywords, Options
from posthouse.sending.receipt import Outcome, Receipt
from posthouse.sending.transport import AHEAD_FACTOR, AsyncTransport, Begun, Progress, Sent, many

if TYPE_CHECKING:
    from typing import Unpack

    from posthouse.sending.message import Message

__all__ = ["Transport"]

T = TypeVar("T")

CLOSE_S: Final = 60.0
"""How long the end of a program waits for what is under way."""
LOOK_S: Final = 1.0
"""How often who waits looks whether the loop is still there."""
SETTLE_S: Final = 2.0
"""And then for what was broken off to be told so."""


class _Loop:
    """A loop on a thread, for one process: a fork begins anew."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = _new_loop()
        self.thread = threading.Thread(target=self._run, name="posthouse-sending", daemon=True)
        self.thread.start()

    @property
    def is_ours(self) -> bool:
        return self.process == os.getpid()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def leave(self, transport: AsyncTransport, *, within_s: float | None) -> Future[None]:
        """Close the transport, within that time or by force, and end the thread. Nobody is left to
        wait for ever."""
        return self.call(self._leave(transport, within_s))

    async def _leave(self, transport: AsyncTransport, within_s: float | None) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await transport.close()
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                await asyncio.wait(left, timeout=SETTLE_S)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=SETTLE_S)
            # Behind what tells the threads that wait.
            self.loop.call_soon(self.loop.call_soon, self.loop.stop)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # pragma: no cover  it is there wherever Posthouse is
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _load() -> None:
    """What the first letter needs: when the program ends nothing can be loaded any more, and the
    letter that says why it ends may be the first."""
    import concurrent.futures.thread  # noqa: F401

    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401


def _abandon(running: _Loop, transport: AsyncTransport, name: str) -> None:
    """Nobody has the transport any more, and nobody closed it."""
    if running.is_ours and not running.loop.is_closed():
        warnings.warn(f"{name} was not closed", ResourceWarning, stacklevel=2)
        running.leave(transport, within_s=CLOSE_S)


class Transport:
    """Sends messages; `with` closes it. Options are those of `Keywords`."""

    def __init__(
        self, url: str | None = None, *, service: str | None = None, **keywords: Unpack[Keywords]
    ) -> None:
        """As `AsyncTransport`. Raises OptionError."""
        self._async = AsyncTransport(url, service=service, **keywords)
        self._lock = threading.RLock()
        self._running: _Loop | None = None
        self._is_closed = False
        self._abandoned: weakref.finalize[Any, Transport] | None = None
        _load()
        _OPEN.add(self)

    def __repr__(self) -> str:
        return f"Transport({self.options.kind.value}, {self.options.place})"

    @property
    def options(self) -> Options:
        return self._async.options

    # --- sending ---

    def send(self, message: Message) -> Receipt:
        """Send one message. Raises SendingError."""
        return self._wait(self._async.send(message))

    def send_all(
        self,
        messages: Iterable[Message],
        *,
        on_progress: Progress | None = None,
        on_begin: Begun | None = None,
    ) -> Iterator[Sent]:
        """Send many; results come in the order of their ends.

        Messages are taken from the source on the caller's thread, as there is room to send them;
        one that makes the caller wait makes those wait who have ended, to be told.
        An error of one ends none of the others; what the source raises comes through, when those
        under way have ended. After Ctrl-C nothing more is begun; what is under way ends and is
        told, then KeyboardInterrupt comes through. A second one waits for nothing.

        Args:
            on_progress: called as each ends.
            on_begin: called on another thread as each is handed to the other side, to keep a
                journal: what was not begun was not sent. What it raises ends that letter unsent,
                and comes through.
        """
        source = iter(many(messages, is_plain=True))
        batch = _Batch(self._ready(), self._async, on_begin)
        ahead = self.options.connections_max * AHEAD_FACTOR
        done = failed = 0
        is_over = False
        trouble: BaseException | None = None
        try:
            while not is_over or batch.told < batch.given:
                try:
                    has_room = not is_over and batch.given - batch.told < ahead
                    if has_room and not batch.has_ended:
                        message = next(source, _NO_MORE)
                        if message is _NO_MORE:
                            is_over = True
                        else:
                            batch.give(cast("Message", message))
                        continue
                    ended = batch.next_end()
                    if not isinstance(ended, Sent):
                        batch.told += 1
                        if ended is not None:
                            raise ended
                        continue
                    is_failed = ended.error is not None
                    if on_progress is not None:
                        on_progress(done + 1, failed + is_failed)
                    # Ctrl-C comes behind calls only: each end is told once, and none is lost.
                    done, failed = done + 1, failed + is_failed
                    batch.told += 1
                    yield ended
                except (Exception, KeyboardInterrupt) as error:
                    if isinstance(trouble, KeyboardInterrupt) or batch.is_over:
                        raise
                    if isinstance(error, KeyboardInterrupt):
                        batch.stop()
                    trouble, is_over = trouble or error, True
        finally:
            if batch.told < batch.given:
                batch.leave()
        if trouble is not None:
            raise trouble

    def prepare(self, message: Message) -> Letter:
        """What would be sent. Raises SendingError."""
        return self._wait(self._async.prepare(message))

    def verify(self) -> Verified:
        """Prove that name, TLS and login are right, without sending. Raises SendingError."""
        return self._wait(self._async.verify())

    def outcome(self, receipt: Receipt, *, timeout_s: float = 0.0) -> tuple[Outcome, ...]:
        """What happened to each recipient's copy since: see `Receipt.outcome`."""
        return self._wait(self._async.outcome(receipt, timeout_s=timeout_s))

    @property
    def letters(self) -> list[Letter]:
        """What was sent by a transport of `memory:`, for tests."""
        return self._async.letters

    def close(self) -> None:
        """Let what is under way end, and leave. Twice is once.

        Each wait has the end that the options give it.
        """
        self._close(within_s=None)

    def _close(self, *, within_s: float | None) -> None:
        with self._lock:
            running, self._running = self._running, None
            self._is_closed = True
            if self._abandoned is not None:
                self._abandoned.detach()
        _OPEN.discard(self)
        if running is None or not running.is_ours:
            return
        try:
            running.leave(self._async, within_s=within_s).result()
        finally:
            running.thread.join(SETTLE_S)

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside ---

    def _ready(self) -> _Loop:
        with self._lock:
            if self._is_closed:
                raise ConnectError("the transport is closed", hint="make a new one")
            if self._running is None or not self._running.is_ours:
                if self._running is not None:  # a fork: sockets and thread are the parent's
                    self._async._forget()
                if self._abandoned is not None:
                    self._abandoned.detach()
                try:
                    self._running = _Loop()
                except RuntimeError as error:  # no thread can be started any more
                    raise ConnectError(f"the program is ending: {error}") from None
                self._abandoned = weakref.finalize(
                    self, _abandon, self._running, self._async, repr(self)
                )
                self._abandoned.atexit = False  # `_close_all` does that
            return self._running

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            with self._lock:  # so that nothing is given to a loop that has left
                future = self._ready().call(work)
        except SendingError:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise ConnectError(
                "the transport was closed while this was under way",
                may_have_been_sent=True,
                server=self.options.place,
            ) from None
        except BaseException:  # Ctrl-C: nobody waits for it any more
            future.cancel()
            raise


class _Batch:
    """The letters of one `send_all`, between the caller's thread and the loop's.

    Ctrl-C may come behind any call on the caller's thread, so what is counted is counted where it
    belongs to what it counts.
    """

    def __init__(self, running: _Loop, transport: AsyncTransport, on_begin: Begun | None) -> None:
        self.given = 0
        self.told = 0
        """Of their ends, to the caller."""
        self._running = running
        self._loop = running.loop
        self._transport = transport
        self._on_begin = on_begin
        self._given: deque[tuple[int, Message]] = deque()
        self._is_called = False
        """The loop was asked to look at what is given, and has not come to it yet."""
        self._ends: dict[int, Sent | Exception | None] = {}
        """In their order, from `told` on; None: it was not begun, and will not be."""
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        # The loop's alone:
        self._ended = 0
        self._waiting: dict[int, asyncio.Task[Any]] = {}
        self._begun: dict[int, asyncio.Task[Any]] = {}
        self._is_stopped = False

    # --- on the caller's thread ---

    @property
    def has_ended(self) -> bool:
        """There is one to be told of."""
        return self.told in self._ends

    @property
    def is_over(self) -> bool:
        """The loop has left, and all was told."""
        return not self._running.thread.is_alive() and not self.has_ended

    def next_end(self) -> Sent | Exception | None:
        """Waits for it; the same again until `told` is one more. Raises ConnectError when the
        transport was closed meanwhile."""
        self._ends.pop(self.told - 1, None)
        while not self.has_ended:
            if self.is_over:
                raise ConnectError("the transport was closed", hint="make a new one")
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=LOOK_S)
        return self._ends[self.told]

    def give(self, message: Message) -> None:
        index = self.given
        self.given += 1
        self._given.append((index, message))
        if not self._is_called:  # once for all that is given until it looks
            self._is_called = True
            self._call(self._take)

    def stop(self) -> None:
        """Begin nothing more."""
        self._call(self._stop)

    def leave(self) -> None:
        """Wait for nothing more, either."""
        self._call(self._leave)

    def _call(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has left; `next_end` says so
            self._loop.call_soon_threadsafe(work)

    # --- on the loop ---

    def _take(self) -> None:
        self._is_called = False
        while self._given:
            index, message = self._given.popleft()
            self._loop.create_task(self._send(index, message))

    async def _send(self, index: int, message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._waiting[index] = task  # only now: what is cancelled before it runs tells nobody
        ended: Sent | Exception | None = None
        try:
            if not self._is_stopped:
                ended = await self._transport._send_one(index, message, self._begin)
        except Exception as error:
            ended = error
        finally:
            self._waiting.pop(index, None)
            self._begun.pop(index, None)
            self._ends[self._ended] = ended
            self._ended += 1
            self._wake.put(None)

    def _begin(self, index: int) -> None:
        if self._on_begin is not None:
            self._on_begin(index)
        if (task := self._waiting.pop(index, None)) is not None:
            self._begun[index] = task

    def _stop(self) -> None:
        self._is_stopped = True
        self._take()  # also what nobody came to say was given
        for task in self._waiting.values():
            task.cancel()

    def _leave(self) -> None:
        self._stop()
        for task in self._begun.values():
            task.cancel()


_NO_MORE: Final = object()
_OPEN: Final[weakref.WeakSet[Transport]] = weakref.WeakSet()


def _close_all() -> None:
    """At exit: letters under way get their chance, and servers a goodbye."""
    for transport in list(_OPEN):
        transport._close(within_s=CLOSE_S)


def _begin_anew() -> None:
    """In the child of a fork: another thread may have held a lock, and is not there any more."""
    for transport in list(_OPEN):
        transport._lock = threading.RLock()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
