"""Where log lines go: a bounded queue and a thread that writes them, so that a blocked pipe, a
slow disk or a full one never holds up mail (fault F39). Lines without room are dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from posthouse.kernel.errors import UserError

GATHER_S: Final = 0.02
"""How long the thread lets lines gather, so that it wakes at most 50 times a second."""
BATCH_LINES_MAX: Final = 512
STDERR_FD: Final = 2
FILE_MODE: Final = 0o640
POLL_MS: Final = 500

Report = Callable[[str, dict[str, str | int]], bytes]
"""Makes a line about the log itself: the name of its event and its fields."""


def _no_report(name: str, fields: dict[str, str | int]) -> bytes:
    return b""


class ThreadSink:
    """Takes lines from any thread; one thread of its own writes them in order.

    `put` never blocks and never raises. Call `close` at the end.
    """

    def __init__(
        self,
        path: str,
        *,
        lines_waiting_max: int,
        gather_s: float = GATHER_S,
        fd: int | None = None,
    ) -> None:
        """Opens the file at once, so that a wrong path is told at start.

        Args:
            path: file to append to; "" is standard error.
            fd: an open descriptor to use in place of `path`, owned from now on.

        Raises:
            UserError: the file cannot be opened.
        """
        self.report: Report = _no_report
        """Set by who formats lines, to tell of drops and of reopening in the log itself."""
        self._path = path
        self._fd = open_target(path) if fd is None else fd
        self._lines_max = lines_waiting_max
        self._gather_s = gather_s
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._drained = threading.Event()
        self._is_waiting = False
        self._is_closing = False
        self._next_path: str | None = None
        self._refused = 0  # counted by who puts
        self._lost = 0  # counted by the thread
        self._told = 0
        self._is_mid_line = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue a line that ends with a newline, or count it as dropped."""
        if len(self._lines) >= self._lines_max:
            self._refused += 1
            return
        self._lines.append(line)
        if self._is_waiting:
            self._is_waiting = False
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        return len(self._lines)

    def reopen(self, path: str | None = None) -> None:
        """Open the file again, or another one, for log rotation and reload. It happens on the
        thread, after the lines put before; when it fails the old file goes on and says so."""
        self._next_path = self._path if path is None else path
        self._is_waiting = False
        self._wake.set()

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until everything put before is written; False when the time runs out."""
        self._drained.clear()
        self._wake.set()
        return self._drained.wait(timeout_s)

    def close(self, timeout_s: float = 1.0) -> bool:
        """Write what waits and end the thread; False when a blocked sink did not let it."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            if not self._lines and self._next_path is None:
                self._drained.set()
                if self._is_closing:
                    break
                self._is_waiting = True
                if not self._lines:  # put may have looked just before
                    self._wake.wait()
                self._is_waiting = False
                self._wake.clear()
                if not self._is_closing and self._gather_s:
                    time.sleep(self._gather_s)
            self._write_batch()
            if not self._lines and self._next_path is not None:
                self._reopen(self._next_path)
        if self._fd != STDERR_FD:
            os.close(self._fd)

    def _write_batch(self) -> None:
        if (dropped := self.dropped) != self._told:
            line = self.report("log.dropped", {"lines": dropped - self._told})
            if self._write(line, counts=False):
                self._told = dropped
        count = min(len(self._lines), BATCH_LINES_MAX)
        if count:
            self._write(b"".join(self._lines.popleft() for _ in range(count)))

    def _write(self, octets: bytes, *, counts: bool = True) -> bool:
        """All of it, or False, and then the lines from the first that did not fit are lost."""
        if self._is_mid_line and octets:
            octets = b"\n" + octets
        view = memoryview(octets)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the shared descriptor non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(POLL_MS)
            except OSError:  # disk full, reader gone: mail goes on without its log
                done = len(octets) - len(view)
                self._is_mid_line = done > 0 and octets[done - 1 : done] != b"\n"
                self._lost += bytes(view).count(b"\n") if counts else 0
                return False
            self._is_mid_line = False
        return True

    def _reopen(self, path: str) -> None:
        self._next_path = None
        try:
            fd = open_target(path)
        except UserError as error:
            line = self.report("log.reopen_failed", {"path": path, "detail": error.text})
        else:
            old, self._fd, self._path = self._fd, fd, path
            if old != STDERR_FD:
                with contextlib.suppress(OSError):
                    os.close(old)
            line = self.report("log.reopened", {"path": path or "standard error"})
        self._write(line, counts=False)


def open_target(path: str) -> int:
    """A descriptor to append lines to; "" is standard error.

    Raises:
        UserError: it cannot be opened; a pipe that nobody reads is such a case too.
    """
    if not path:
        return STDERR_FD
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, FILE_MODE)
    except OSError as error:
        raise UserError(
            f"the log file {path} cannot be opened: {error.strerror}",
            hint="set log.file to a file that may be written, or leave it out for standard error",
        ) from None
    os.set_blocking(fd, True)
    return fd
