"""The sink writes in order, and never lets a blocked or full one hold up who logs."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.kernel.errors import UserError
from posthouse.observe import events, sink
from posthouse.observe.log import open_log
from posthouse.observe.options import LogOptions
from posthouse.observe.sink import ThreadSink


def opened(path: Path | str = "", *, fd: int | None = None, lines: int = 1_000) -> ThreadSink:
    return ThreadSink(str(path), lines_waiting_max=lines, gather_s=0, fd=fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_lines_are_written_in_order(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    for at in range(900):
        log.put(b"%d\n" % at)
    assert log.close()
    assert (tmp_path / "log").read_bytes() == b"".join(b"%d\n" % at for at in range(900))
    assert log.dropped == 0


def test_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", lines=10_000)

    def work(name: bytes) -> None:
        for _ in range(500):
            log.put(name * 50 + b"\n")

    threads = [threading.Thread(target=work, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close()
    written = (tmp_path / "log").read_bytes().splitlines()
    assert sorted(written) == [b"a" * 50] * 500 + [b"b" * 50] * 500 + [b"c" * 50] * 500


def filled(pipe: int) -> int:
    """Fill a pipe, so that the next write to it blocks; how many octets it took."""
    os.set_blocking(pipe, False)
    total = 0
    try:
        while True:
            total += os.write(pipe, b" " * 4_096)
    except BlockingIOError:
        os.set_blocking(pipe, True)
    return total


# F39
def test_a_blocked_pipe_drops_lines_and_counts_them_and_never_blocks(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    full = filled(writer)
    log = opened(fd=writer, lines=50)
    log.report = lambda name, fields: f"{name} {fields['lines']}\n".encode()
    line = b"x" * 999 + b"\n"
    for _ in range(1_000):
        log.put(line)
    assert log.waiting == 50
    dropped = log.dropped
    assert dropped > 100
    assert not log.flush(0.01)

    received = bytearray()
    while received.count(b"\n") < 1_000 - dropped:
        received += os.read(reader, 65_536)
    del received[:full]
    log.put(b"after\n")
    assert log.close()
    while chunk := os.read(reader, 65_536):
        received += chunk
    lines = bytes(received).splitlines()
    assert lines[-1] == b"after"
    assert b"log.dropped %d" % dropped in lines
    assert lines.count(line[:-1]) == 1_000 - dropped


# F39
def test_a_pipe_whose_reader_has_gone_loses_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    reader, gone = os.pipe()
    os.close(reader)
    os.dup2(gone, writer)
    os.close(gone)
    log = opened(fd=writer)
    for _ in range(10):
        log.put(b"line\n")
    assert log.close()
    assert log.dropped == 10


class Disk:
    """A disk that is full after some octets, until it has room again."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written = bytearray()

    def write(self, fd: int, octets: memoryview) -> int:
        taken = bytes(octets[: self.room])
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(taken)
        self.written += taken
        return len(taken)


# F39 F4
def test_a_full_disk_loses_whole_lines_and_writing_goes_on_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = Disk(room=12)
    monkeypatch.setattr(sink.os, "write", disk.write)
    log = opened(tmp_path / "log")
    log.report = lambda name, fields: f"{name} {fields['lines']}\n".encode()
    log.put(b"line one\n")
    assert log.flush()
    log.put(b"line two\n")
    assert log.flush()
    assert (log.dropped, bytes(disk.written)) == (1, b"line one\nlin")
    disk.room = 1_000
    log.put(b"line three\n")
    assert log.close()
    assert bytes(disk.written) == b"line one\nlin\nlog.dropped 1\nline three\n"


# F39
def test_a_disk_quota_of_the_process_does_not_kill_it(tmp_path: Path) -> None:
    """As `ulimit -f`: a write beyond it raises SIGXFSZ, which Python ignores, and EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        log = opened(tmp_path / "log")
        for _ in range(100):
            log.put(b"x" * 99 + b"\n")
        assert log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "log").stat().st_size == 4_096
    assert log.dropped == 60


def test_a_shared_descriptor_made_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    log = opened(fd=writer)
    for _ in range(200):
        log.put(b"x" * 999 + b"\n")
    received = bytearray()
    while len(received) < 200_000:
        received += os.read(reader, 65_536)
    assert log.close()
    assert log.dropped == 0


def test_reopening_follows_a_rotated_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = opened(path)
    log.put(b"old\n")
    assert log.flush()
    path.rename(tmp_path / "log.1")
    log.put(b"still old\n")
    log.reopen()
    assert log.flush()
    log.put(b"new\n")
    assert log.close()
    assert (tmp_path / "log.1").read_bytes() == b"old\nstill old\n"
    assert path.read_bytes() == b"new\n"


# F36
def test_a_file_that_cannot_be_opened_again_leaves_the_old_one(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    log.report = lambda name, fields: f"{name}\n".encode()
    log.reopen(str(tmp_path / "missing" / "log"))
    assert log.flush()
    log.put(b"goes on\n")
    assert log.close()
    assert (tmp_path / "log").read_bytes() == b"log.reopen_failed\ngoes on\n"


def test_a_log_file_that_cannot_be_opened_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened: No such file or directory"):
        opened(tmp_path / "missing" / "log")


# F39
def test_a_fifo_that_nobody_reads_is_refused_at_start_rather_than_waited_for(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="cannot be opened"):
        opened(tmp_path / "fifo")


def test_a_log_and_its_sink_work_together(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log, out = open_log(LogOptions(file=str(path)), unix_us=lambda: 0)
    log.write(events.SERVER_STARTED, version="1")
    assert out.flush()
    out.reopen()
    assert out.flush()
    assert out.close()
    said = [json.loads(line)["event"] for line in path.read_bytes().splitlines()]
    assert said == ["server.started", "log.reopened"]
    assert path.stat().st_mode & 0o007 == 0
