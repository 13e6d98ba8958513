"""`Transport`: the same as `AsyncTransport` for programs without a loop, or beside one.

A thread of its own runs the loop of the one asynchronous core; it starts with the first letter and
ends with `close`. Any number of threads may use one transport at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
import weakref
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from posthouse.sending.carrier import Letter, Verified
from posthouse.sending.errors import ConnectError, SendingError
from posthouse.sending.options import Keywords, Options
from posthouse.sending.receipt import Outcome, Receipt
from posthouse.sending.transport import AHEAD_FACTOR, AsyncTransport, Progress, Sent

if TYPE_CHECKING:
    from typing import Unpack

    from posthouse.sending.message import Message

__all__ = ["Transport"]

T = TypeVar("T")

CLOSE_S: Final = 60.0
"""How long `close` waits for what is under way."""


class _Loop:
    """A loop on a thread, for one process: a fork begins anew."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = _new_loop()
        self.thread = threading.Thread(target=self._run, name="posthouse-sending", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stop(self) -> None:
        if self.process != os.getpid() or self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSE_S)
        if not self.thread.is_alive():
            self.loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # pragma: no cover  it is there wherever Posthouse is
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Transport:
    """Sends messages; `with` closes it. Options are those of `Keywords`."""

    def __init__(
        self, url: str | None = None, *, service: str | None = None, **keywords: Unpack[Keywords]
    ) -> None:
        """As `AsyncTransport`. Raises OptionError."""
        self._async = AsyncTransport(url, service=service, **keywords)
        self._lock = threading.Lock()
        self._running: _Loop | None = None
        self._is_closed = False
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
        self, messages: Iterable[Message], *, on_progress: Progress | None = None
    ) -> Iterator[Sent]:
        """Send many; results come in the order of their ends.

        Messages are taken from the source on the caller's thread, as there is room to send them.
        An error of one ends none of the others.
        """
        running = self._ready()
        ended: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        ahead = self.options.connections_max * AHEAD_FACTOR
        futures: set[Future[None]] = set()
        source = iter(messages)
        given = done = failed = 0
        is_over = False

        async def one(index: int, message: Message) -> None:
            ended.put(await self._async._send_one(index, message))

        try:
            while True:
                while not is_over and given - done < ahead:
                    message = next(source, None)
                    if message is None:
                        is_over = True
                        break
                    future = running.call(one(given, message))
                    futures.add(future)
                    future.add_done_callback(futures.discard)
                    given += 1
                if done == given:
                    return
                sent = ended.get()
                done += 1
                failed += sent.error is not None
                if on_progress is not None:
                    on_progress(done, failed)
                yield sent
        finally:
            for future in list(futures):
                future.cancel()

    def prepare(self, message: Message) -> Letter:
        """What would be sent. Raises SendingError."""
        return self._wait(self._async.prepare(message))

    def verify(self) -> Verified:
        """Prove that name, TLS and login are right, without sending. Raises SendingError."""
        return self._wait(self._async.verify())

    def outcome(self, receipt: Receipt, *, timeout_s: float = 0.0) -> tuple[Outcome, ...]:
        """What happened to each recipient's copy since: see `Receipt.outcome`."""
        return self._wait(receipt.outcome(timeout_s=timeout_s))

    @property
    def letters(self) -> list[Letter]:
        """What was sent by a transport of `memory:`, for tests."""
        return self._async.letters

    def close(self) -> None:
        """Let what is under way end, and leave. Twice is once."""
        with self._lock:
            running, self._running = self._running, None
            self._is_closed = True
        _OPEN.discard(self)
        if running is None or running.process != os.getpid():
            return
        try:
            running.call(self._async.close()).result(CLOSE_S)
        finally:
            running.stop()

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
            if self._running is None or self._running.process != os.getpid():
                if self._running is not None:  # a fork: sockets and thread are the parent's
                    self._async._forget()
                self._running = _Loop()
            return self._running

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            running = self._ready()
        except SendingError:
            work.close()
            raise
        future = running.call(work)
        try:
            return future.result()
        except BaseException:  # Ctrl-C: nobody waits for it any more
            future.cancel()
            raise


_OPEN: Final[weakref.WeakSet[Transport]] = weakref.WeakSet()


def _close_all() -> None:
    """At exit: letters under way get their chance, and servers a goodbye."""
    for transport in list(_OPEN):
        transport.close()


atexit.register(_close_all)
