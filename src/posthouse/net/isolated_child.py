"""The process behind `net.isolated`: it loads the modules that work needs, once, and forks for each
piece of work, so that one costs a few milliseconds and not an interpreter's start.

It has one thread, no environment, and talks to its parent over one socket in messages of one size.
A child never comes back here: it does its work under its limits, writes the result into its own
channel and ends. When the parent is gone this process kills what runs and ends, and what runs is
killed by the kernel when this process is gone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import re
import resource
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from posthouse.net.own_process import end_with_parent, keep_memory_private

WORK_OCTETS_MAX: Final = 200
"""Of "package.module:function"."""
DESCRIPTORS_MAX: Final = 32
"""Of a child; loading a cipher of OpenSSL's takes one."""
GRACE_S: Final = 2.0
"""A child is killed when its time is over; if nobody does, it ends by itself so much later."""
READ_OCTETS: Final = 256 * 1024

_WORK: Final = re.compile(r"([a-z_][a-z0-9_]*+(?:\.[a-z_][a-z0-9_]*+)*+):([a-z_][a-z0-9_]*+)")
_DESCRIPTORS: Final = 65_536
"""More than this process ever has."""


class Order(IntEnum):
    """What the parent wants."""

    RUN = 1  # with the child's end of a channel
    KILL = 2


class Notice(IntEnum):
    """What it is told."""

    READY = 1
    STARTED = 2
    ENDED = 3  # the value is the status of waitpid
    NOT_LOADED = 4


class Outcome(IntEnum):
    """The first octet in a channel; the length and as many octets follow."""

    RESULT = 1
    RAISED = 2  # the class of what it raised: its words may quote secrets
    NO_MEMORY = 3
    TOO_BIG = 4


ORDER: Final = struct.Struct(f"!BQQQd{WORK_OCTETS_MAX}s")
"""An order, the work's number, memory and result in octets, time in seconds, the work."""
NOTICE: Final = struct.Struct("!BQqQ")
"""A notice, the work's number, a value, and how many octets of memory the work has used."""
FRAME: Final = struct.Struct("!BQ")


class Request(msgspec.Struct, frozen=True):
    number: int
    memory_octets: int
    result_octets: int
    timeout_s: float
    work: str


def work_parts(work: str, package: str) -> tuple[str, str]:
    """Module and function of a "package.module:function" of ours.

    Raises:
        ValueError: it is no such name, or not inside the package.
    """
    match = _WORK.fullmatch(work) if len(work) <= WORK_OCTETS_MAX else None
    if match is None or not match[1].startswith(f"{package}."):
        raise ValueError(f"{work!r} is no function of {package}")
    return match[1], match[2]


class _Zygote:
    def __init__(self, control: socket.socket, package: str) -> None:
        self._control = control
        self._package = package
        self._running: dict[int, int] = {}
        """Numbers of work by process."""
        self._own_octets: dict[int, int] = {}
        """Memory that each began with, by process."""
        self._received = bytearray()
        self._channels: list[int] = []
        """Descriptors that came and whose orders are not read yet."""
        self._woken, self._waker = socket.socketpair()

    def serve(self) -> None:
        for one in (self._woken, self._waker, self._control):
            one.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        self._tell(Notice.READY)
        try:
            while self._read_orders():
                selector.select()
                with contextlib.suppress(BlockingIOError):
                    while self._woken.recv(READ_OCTETS):
                        pass
                self._reap()
        finally:
            for process in self._running:
                _kill(process)

    def _read_orders(self) -> bool:
        """Everything that is there; False when the parent is gone."""
        while True:
            try:
                octets, channels, _, _ = socket.recv_fds(self._control, READ_OCTETS, 16)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if not octets:
                return False
            self._channels += channels
            self._received += octets
            while len(self._received) >= ORDER.size:
                order, number, memory, result, time, work = ORDER.unpack_from(self._received)
                del self._received[: ORDER.size]
                if order == Order.KILL:
                    for process in [p for p, n in self._running.items() if n == number]:
                        _kill(process)
                elif self._channels:
                    name = work.rstrip(b"\0").decode("ascii", "replace")
                    self._run(
                        Request(number, memory, result, time, name),
                        socket.socket(fileno=self._channels.pop(0)),
                    )

    def _run(self, request: Request, channel: socket.socket) -> None:
        with channel:
            try:
                module, name = work_parts(request.work, self._package)
                work = getattr(importlib.import_module(module), name)
            except Exception:
                self._tell(Notice.NOT_LOADED, request.number)
                return
            gc.freeze()  # what is loaded is shared with the children as long as nobody writes on it
            parent = os.getpid()
            own_octets = _own_octets()
            try:
                process = os.fork()
            except OSError:
                self._tell(Notice.NOT_LOADED, request.number)
                return
            if not process:
                self._become_child(parent, request, channel, work)
        self._running[process] = request.number
        self._own_octets[process] = own_octets
        self._tell(Notice.STARTED, request.number, process)

    def _reap(self) -> None:
        options = os.WEXITED | os.WNOHANG
        for process in list(self._running):
            if os.waitid(os.P_PID, process, options | os.WNOWAIT) is not None:
                _kill(process)  # what it has left of its session, while the number is still its own
                _, status, used = os.wait4(process, 0)
                peak_octets = used.ru_maxrss * 1024 - self._own_octets.pop(process)
                number = self._running.pop(process)
                self._tell(Notice.ENDED, number, status, max(peak_octets, 0))

    def _tell(self, notice: Notice, number: int = 0, value: int = 0, peak_octets: int = 0) -> None:
        # The parent reads while there is any work, and there is little at once: it always fits.
        with contextlib.suppress(OSError):
            self._control.send(NOTICE.pack(notice, number, value, peak_octets))

    def _become_child(
        self,
        parent: int,
        request: Request,
        channel: socket.socket,
        work: Callable[[bytes], bytes],
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _alone(parent, request.timeout_s)
            os.closerange(3, channel.fileno())
            os.closerange(channel.fileno() + 1, _DESCRIPTORS)
            channel.setblocking(True)
            _work(request, channel, work)
        finally:
            os._exit(0)


def _work(request: Request, channel: socket.socket, work: Callable[[bytes], bytes]) -> None:
    octets = _everything(channel)
    outcome, result = Outcome.RESULT, b""
    try:
        _limit_memory(request.memory_octets)
        result = work(octets)
        if len(result) > request.result_octets:
            outcome, result = Outcome.TOO_BIG, b""
    except MemoryError:
        outcome = Outcome.NO_MEMORY
    except BaseException as error:
        outcome, result = Outcome.RAISED, type(error).__name__[:100].encode("ascii", "replace")
    with contextlib.suppress(OSError):  # nobody waits any more
        channel.sendall(FRAME.pack(outcome, len(result)))
        channel.sendall(result)


def _everything(channel: socket.socket) -> bytes:
    pieces = []
    while piece := channel.recv(READ_OCTETS):
        pieces.append(piece)
    return b"".join(pieces)


def _alone(parent: int, timeout_s: float) -> None:
    """A session of its own, no core dumps, no files written, bounded time: first of all."""
    os.setsid()
    end_with_parent()
    keep_memory_private()
    if os.getppid() != parent:
        os._exit(0)  # the parent went before the kernel was told
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, DESCRIPTORS_MAX))
    cpu_s = math.ceil(timeout_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout_s + GRACE_S)


def _limit_memory(memory_octets: int) -> None:
    """Of address space, which is what an allocator asks for; where nobody tells how much there is
    already (it stands in /proc), there is no such limit."""
    with contextlib.suppress(FileNotFoundError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_octets
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _own_octets() -> int:
    """Memory that a child begins with: what is mapped from files it gets when it looks there."""
    try:
        _, resident, shared = Path("/proc/self/statm").read_text().split()[:3]
    except FileNotFoundError:
        return sys.maxsize  # no bound either
    return (int(resident) - int(shared)) * resource.getpagesize()


def _kill(process: int) -> None:
    """With all of its session."""
    with contextlib.suppress(OSError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(process, signal.SIGKILL)  # where it has none yet


def main(descriptor: int, package: str) -> None:
    # Threads and signals of the terminal are the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as control:
        _Zygote(control, package).serve()
