"""The `Isolated` port: what strangers sent is worked on in child processes with bounds on all.

One process, started when it is first needed (`isolated_child`), holds what work needs loaded and
forks for each piece. A child has its own session, no environment, no descriptors but its channel,
an address space, CPU time and wall time that end, and no core dumps; it is killed when its time is
over, when nobody waits for it any more, and when this process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from posthouse.kernel.ports import IsolationFailed
from posthouse.net.isolated_child import (
    FRAME,
    GRACE_S,
    NOTICE,
    ORDER,
    READ_OCTETS,
    Notice,
    Order,
    Outcome,
    work_parts,
)

RUNNING_MAX: Final = 2
WAITING_MAX: Final = 100
WAIT_S: Final = 60.0
"""How long work may wait for its turn; its own time begins behind that."""
START_S: Final = 30.0
"""For the process to start, and to load what work needs for the first time."""
PACKAGE: Final = "posthouse"
_NAME_OCTETS_MAX: Final = 100
# What a Python needs to find its libraries, and no secret.
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_CRASHES: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
"""Its own doing; SIGKILL is that of the kernel, when the whole machine lacks memory."""
_START: Final = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from posthouse.net.isolated_child import main; main(int(sys.argv[1]), sys.argv[2])"
)
_MIB: Final = 1024 * 1024
_NEAR: Final = 3
"""Of its memory bound a child that broke had used at least this part: a buffer that is to become
twice as long, beside what it is copied from, fails from a third on. Code in C seldom says that it
was refused memory; it crashes, or raises something else."""


class ProcessIsolation:
    """`Isolated` for real; belongs to the loop that uses it first, until it is closed."""

    def __init__(
        self,
        *,
        running_max: int = RUNNING_MAX,
        waiting_max: int = WAITING_MAX,
        package: str = PACKAGE,
    ) -> None:
        """
        Args:
            running_max: children at once, best not more than the cores.
            waiting_max: work that may wait besides.
            package: functions below it may be named, and no others.
        """
        self._running_max = running_max
        self._waiting_max = waiting_max
        self._package = package
        self._running = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._zygote: _Zygote | None = None

    async def run(
        self, work: str, octets: bytes, *, timeout_s: float, memory_octets: int, result_octets: int
    ) -> bytes:
        """As the port says; `timeout_s` counts from when the child has begun."""
        work_parts(work, self._package)  # a bug of the caller's, not a failure
        await self._take_turn()
        job = None
        try:
            zygote = self._zygote_now()
            await zygote.is_ready()
            job = zygote.order(work, timeout_s, memory_octets, result_octets)
            return await job.result(octets)
        finally:
            # The next one's turn is when this child is really gone.
            if job is None:
                self._give_turn()
            else:
                job.abandon()
                job.ended.add_done_callback(lambda ended: self._give_turn())

    def close(self) -> None:
        """End the process and all work in it."""
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    async def _take_turn(self) -> None:
        if self._running < self._running_max:
            self._running += 1
            return
        if len(self._waiting) >= self._waiting_max:
            raise IsolationFailed("too much work is waiting already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_turn()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise IsolationFailed(f"no turn came within {WAIT_S:g} s") from None
            raise

    def _give_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.pop(0)
            if not turn.done() and not turn.get_loop().is_closed():
                turn.set_result(None)
                return
        self._running -= 1

    def _zygote_now(self) -> _Zygote:
        zygote = self._zygote
        if zygote is not None and not zygote.is_usable():
            zygote.close()
            zygote = None
        if zygote is None:
            self._zygote = zygote = _Zygote(self._package)
        return zygote


class _Job:
    """One piece of work in its child."""

    def __init__(
        self,
        zygote: _Zygote,
        number: int,
        channel: socket.socket,
        limits: tuple[float, int, int],
    ) -> None:
        self._zygote = zygote
        self._number = number
        self._channel = channel
        self._timeout_s, self._memory_octets, self._result_octets = limits
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        """With the status of waitpid; -1 when it never began, or nobody knows."""
        self.peak_octets = 0
        """Memory it has used, with what it was given, known when it has ended."""
        self._given_octets = 0

    async def result(self, octets: bytes) -> bytes:
        try:
            async with asyncio.timeout(START_S):
                await self.started
        except TimeoutError:
            self._zygote.close()
            raise IsolationFailed(f"the child did not start within {START_S:g} s") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._exchange(octets)
        except TimeoutError:
            raise self._too_long() from None
        return await self._read(answer)

    def abandon(self) -> None:
        """Nobody waits any more, or all is done."""
        self._channel.close()
        if not self.ended.done():
            self._zygote.kill(self._number)
            self._zygote.expect_end(self.ended)

    async def _exchange(self, octets: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        self._given_octets = 2 * len(octets)  # the child has it in pieces, and joined
        with contextlib.suppress(ConnectionError):  # it ended before it read all: it has said why
            await loop.sock_sendall(self._channel, octets)
            self._channel.shutdown(socket.SHUT_WR)
        pieces, size = [], 0
        bound = FRAME.size + max(self._result_octets, _NAME_OCTETS_MAX)
        with contextlib.suppress(ConnectionError):
            while piece := await loop.sock_recv(self._channel, READ_OCTETS):
                pieces.append(piece)
                size += len(piece)
                if size > bound:
                    raise self._too_big()
        return b"".join(pieces)

    async def _read(self, answer: bytes) -> bytes:
        if len(answer) >= FRAME.size:
            outcome, size = FRAME.unpack_from(answer)
            content = answer[FRAME.size :]
            if len(content) == size:
                return await self._content(outcome, content)
        status = await self._end()
        raise IsolationFailed("the child broke off") if status is None else self._death(status)

    async def _content(self, outcome: int, content: bytes) -> bytes:
        match outcome:
            case Outcome.RESULT:
                if len(content) > self._result_octets:
                    raise self._too_big()
                return content
            case Outcome.TOO_BIG:
                raise self._too_big()
            case Outcome.NO_MEMORY:
                raise self._no_memory()
            case Outcome.RAISED:
                await self._end()
                if self._is_near_memory():
                    raise self._no_memory()
                name = content[:_NAME_OCTETS_MAX].decode("ascii", "replace")
                raise IsolationFailed(f"it failed with {name}")
            case _:
                raise IsolationFailed("the child answered something that cannot be understood")

    async def _end(self) -> int | None:
        """How it ended, which comes by another way than what it answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                return await asyncio.shield(self.ended)
        return None

    def _too_big(self) -> IsolationFailed:
        return IsolationFailed(
            f"its result is larger than {self._result_octets} octets", is_for_now=False
        )

    def _too_long(self) -> IsolationFailed:
        """Which may be the fault of a busy machine."""
        return IsolationFailed(f"it took longer than {self._timeout_s:g} s")

    def _no_memory(self) -> IsolationFailed:
        return IsolationFailed(
            f"it needed more than {max(self._memory_octets // _MIB, 1)} MiB of memory",
            is_for_now=False,
        )

    def _is_near_memory(self) -> bool:
        return (self.peak_octets - self._given_octets) * _NEAR >= self._memory_octets

    def _death(self, status: int) -> IsolationFailed:
        if status < 0:
            return IsolationFailed("the process that isolates work ended")
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number in (signal.SIGXCPU, signal.SIGALRM):
            return self._too_long()
        if number in _CRASHES and self._is_near_memory():
            return self._no_memory()
        if number:
            with contextlib.suppress(ValueError):
                return IsolationFailed(f"it crashed ({signal.Signals(number).name})")
        return IsolationFailed("it ended without a result")


class _Zygote:
    """The process that forks, seen from here."""

    def __init__(self, package: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[int, _Job] = {}
        self._last = 0
        self._received = bytearray()
        self._is_open = True
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        try:
            with theirs:
                self._process = _started(theirs, package)
        except BaseException as error:
            self._control.close()
            if isinstance(error, OSError):
                raise IsolationFailed(f"no process could be started: {error.strerror}") from error
            raise
        self._loop.add_reader(self._control, self._read_notices)

    def is_usable(self) -> bool:
        """Still there, and of the loop that runs."""
        return self._is_open and self._loop is asyncio.get_running_loop()

    async def is_ready(self) -> None:
        """Wait until it has started."""
        try:
            async with asyncio.timeout(START_S):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self.close()
            raise IsolationFailed(f"the process did not start within {START_S:g} s") from None

    def order(self, work: str, timeout_s: float, memory_octets: int, result_octets: int) -> _Job:
        self._last += 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        job = _Job(self, self._last, ours, (timeout_s, memory_octets, result_octets))
        self._jobs[self._last] = job
        limits = (memory_octets, result_octets, timeout_s)
        order = ORDER.pack(Order.RUN, self._last, *limits, work.encode("ascii"))
        with theirs:
            self._send(order, (theirs.fileno(),))
        return job

    def kill(self, number: int) -> None:
        self._send(ORDER.pack(Order.KILL, number, 0, 0, 0.0, b""), ())

    def expect_end(self, ended: asyncio.Future[int]) -> None:
        """A process that does not kill as it is told is no use."""
        if self._is_open:
            timer = self._loop.call_later(GRACE_S, self._close_unless, ended)
            ended.add_done_callback(lambda ended: timer.cancel())

    def _close_unless(self, ended: asyncio.Future[int]) -> None:
        # The loop may have stood still all the while, with the notice unread.
        if self._is_open and not ended.done():
            self._read_notices()
        if not ended.done():
            self.close()

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if not self._loop.is_closed():
            self._loop.remove_reader(self._control)
        self._control.close()
        # Its end of the socket tells it to kill its children; the kernel does where it cannot.
        self._process.kill()
        self._process.wait()
        if self._loop.is_closed():
            return
        if not self._ready.done():
            self._ready.set_exception(IsolationFailed("the process that isolates work ended"))
            self._ready.exception()  # whoever waits hears it; there may be nobody
        for job in list(self._jobs.values()):
            self._settle(job, -1, IsolationFailed("the process that isolates work ended"))

    def _send(self, octets: bytes, descriptors: tuple[int, ...]) -> None:
        if not self._is_open:
            return
        try:
            sent = socket.send_fds(self._control, [octets], descriptors)
        except OSError:
            sent = 0
        if sent != len(octets):  # it is stuck, or gone
            self.close()

    def _read_notices(self) -> None:
        try:
            octets = self._control.recv(READ_OCTETS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            octets = b""
        if not octets:
            self.close()
            return
        self._received += octets
        while len(self._received) >= NOTICE.size:
            notice, number, value, peak_octets = NOTICE.unpack_from(self._received)
            del self._received[: NOTICE.size]
            if notice == Notice.READY and not self._ready.done():
                self._ready.set_result(None)
            elif (job := self._jobs.get(number)) is not None:
                job.peak_octets = peak_octets
                self._notice(job, notice, value)

    def _notice(self, job: _Job, notice: int, value: int) -> None:
        if notice == Notice.STARTED and not job.started.done():
            job.started.set_result(None)
        elif notice == Notice.ENDED:
            self._settle(job, value, IsolationFailed("the child ended before it began"))
        elif notice == Notice.NOT_LOADED:
            self._settle(
                job,
                -1,
                IsolationFailed("what the work needs is not installed, or no fork was left"),
            )

    def _settle(self, job: _Job, status: int, problem: IsolationFailed) -> None:
        self._jobs = {number: one for number, one in self._jobs.items() if one is not job}
        if not job.started.done():
            job.started.set_exception(problem)
            job.started.exception()  # as above
        if not job.ended.done():
            job.ended.set_result(status)


def _started(control: socket.socket, package: str) -> subprocess.Popen[bytes]:
    folders = [str(Path(folder).absolute()) for folder in sys.path]
    return subprocess.Popen(  # noqa: S603  # this Python, by its whole path
        # -I: nothing of the environment, the user's folder or the current one is looked at.
        [sys.executable, "-I", "-c", _START, str(control.fileno()), package, *folders],
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )
