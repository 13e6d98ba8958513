"""Checkpoints: on a thread and connection of their own, so that no commit waits for them.

A passive checkpoint moves nearly all of the WAL into the database while commits go on; the writer
then moves the few frames that came meanwhile and begins the WAL anew, so it stays bounded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import apsw

from posthouse.kernel.errors import StorageLost
from posthouse.store.options import Options
from posthouse.store.sqlite.connection import as_fault
from posthouse.store.sqlite.units import CommitStats

PAGE_OCTETS = 4096
RESTART_WAIT_S = 0.02
RESTART_WAIT_OVER_S = 0.5
"""How long the writer waits for readers of old frames; longer once the WAL is over its bound."""


class Checkpoints:
    """Of one store. `note_wal` and `restart` belong to the writer, `run` to a thread."""

    def __init__(
        self,
        options: Options,
        *,
        connect: Callable[[], apsw.Connection],
        stats: CommitStats,
        lose: Callable[[StorageLost], None],
    ) -> None:
        self._options = options
        self._connect = connect
        self._stats = stats
        self._lose = lose
        self._wanted = threading.Event()
        self._is_closing = False
        self.is_restart_wanted = False

    def note_wal(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """SQLite's WAL hook: called after each commit."""
        self._stats.wal_octets = pages * PAGE_OCTETS
        if self._stats.wal_octets >= self._options.wal_checkpoint_octets:
            self._wanted.set()
        return apsw.SQLITE_OK

    def run(self) -> None:
        """The thread."""
        connection: apsw.Connection | None = None
        while True:
            self._wanted.wait()
            if self._is_closing:
                break
            self._wanted.clear()
            try:
                connection = connection or self._connect()
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self.is_restart_wanted = True
            except apsw.BusyError:
                continue
            except apsw.Error as error:
                if isinstance(fault := as_fault(error), StorageLost):
                    self._lose(fault)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        self._is_closing = True
        self._wanted.set()

    def restart(self, writer: apsw.Connection) -> None:
        """On the writer: move what the passive checkpoint left, so that the WAL begins anew."""
        self.is_restart_wanted = False
        is_over = self._stats.wal_octets > self._options.wal_octets_max
        wait_s = RESTART_WAIT_OVER_S if is_over else RESTART_WAIT_S
        writer.set_busy_timeout(int(wait_s * 1000))
        try:
            writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return  # a reader still needs the old frames; the next checkpoint tries again
        except apsw.Error as error:
            if isinstance(fault := as_fault(error), StorageLost):
                self._lose(fault)
        finally:
            writer.set_busy_timeout(int(self._options.busy_s * 1000))
