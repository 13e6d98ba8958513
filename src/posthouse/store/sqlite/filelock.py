"""A file lock that processes sharing one database take around each group commit and migrations.

SQLite's own busy handler polls with growing sleeps; a queue of writers waits far longer in it than
in a lock taken first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from posthouse.kernel.errors import StorageBusy

STEP_S = 0.002


class FileLock:
    """An advisory lock on a file beside the database; freed by the system if we die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_hold(self) -> bool:
        """Take the lock if nobody has it."""
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self._open(), fcntl.LOCK_UN)

    @contextlib.contextmanager
    def held(self, wait_s: float) -> Iterator[None]:
        """Hold the lock; raises StorageBusy when another process keeps it for `wait_s`."""
        if not self.try_hold():
            self._wait(wait_s)
        try:
            yield
        finally:
            self.release()

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _wait(self, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while not self.try_hold():
            if time.monotonic() >= end:
                raise StorageBusy("another process holds the database's lock")
            time.sleep(STEP_S)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
