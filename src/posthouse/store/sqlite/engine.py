"""The embedded engine: one SQLite file, one writer thread with group commit, readers beside it.

The writer takes everything that waits, runs each unit inside a savepoint, syncs the blob segments
and commits once; only then do the units' futures complete, all of a group by one wake-up of the
event loop. A failed sync ends this store for good (F2): what the file holds is known only after
it is opened again.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from posthouse.kernel.errors import Fault, StorageBusy, StorageLost, UserError
from posthouse.kernel.ports import Clock, Disk
from posthouse.store.blobs.segments import Segments
from posthouse.store.migrations import migrate
from posthouse.store.options import Options
from posthouse.store.sqlite.connection import (
    CACHE_KIB,
    SqliteTransaction,
    as_fault,
    connect,
)
from posthouse.store.sqlite.filelock import FileLock
from posthouse.store.transaction import Change, DatabaseChanged, Listener, Transaction

T = TypeVar("T")
PAGE_OCTETS: Final = 4096
READER_CACHE_KIB: Final = 16_384
Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


class _Unit:
    """A function that waits for its turn, with the future of its result."""

    __slots__ = ("function", "future", "octets")

    def __init__(
        self, function: Callable[[Transaction], Any], future: asyncio.Future[Any], octets: int
    ) -> None:
        self.function = function
        self.future = future
        self.octets = octets


class CommitStats:
    """What `observe.metrics` shows of the writer; plain numbers, written by one thread."""

    __slots__ = ("commits", "seconds", "slowest_s", "units", "unknown_commits", "wal_octets")

    def __init__(self) -> None:
        self.commits = 0
        self.units = 0
        self.seconds = 0.0
        self.slowest_s = 0.0
        self.wal_octets = 0
        self.unknown_commits = 0


class SqliteStore:
    """The `Store` of `posthouse.store.transaction` on SQLite.

    Made by `open`. With `is_inline` there are no threads: every unit runs and commits at once in
    the caller, as the simulator and the command line want it.
    """

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock,
        disk: Disk,
        is_inline: bool = False,
        vfs: str | None = None,
        reach: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._disk = disk
        self._vfs = vfs
        self._is_inline = is_inline
        self._reach = reach
        folder = Path(options.folder)
        self._path = folder / "posthouse.db"
        self._segments = Segments(
            disk, str(folder / "blobs"), octets_max=options.segment_octets_max
        )
        self._lock = FileLock(folder / "posthouse.lock")
        self._listeners: list[Listener] = []
        self._waiting: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._waiting_octets = 0
        self._checkpoint = threading.Event()
        self._is_restart_wanted = False
        self._is_closing = False
        self._threads: list[threading.Thread] = []
        self._readers: list[apsw.Connection] = []
        self._writer: apsw.Connection
        self._transaction: SqliteTransaction
        self._loop: asyncio.AbstractEventLoop | None = None
        self._data_version = 0
        self._free_octets = (-1.0, 0)
        self.lost: StorageLost | None = None
        self.on_lost: Callable[[StorageLost], None] | None = None
        self.stats = CommitStats()

    # --- opening and closing ---

    @classmethod
    def open(cls, options: Options, **ports: Any) -> SqliteStore:
        """Open the data, creating, recovering and migrating it as needed. Start-up is recovery.

        Raises:
            UserError: the folder cannot be used, or a newer release wrote the data.
        """
        store = cls(options, **ports)
        try:
            Path(options.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            store._open_writer()
        except OSError as error:
            raise UserError(
                f"the data folder {options.folder} cannot be used: {error.strerror or error}",
                hint="check that it exists and belongs to the user Posthouse runs as",
            ) from error
        store._transaction = SqliteTransaction(
            store._writer,
            clock=store._clock,
            segments=store._segments,
            inline_octets_max=options.inline_octets_max,
        )
        if store.lost is None:
            try:
                store._migrate()
            except BaseException:
                store._writer.close()
                raise
        if not store._is_inline:
            store._start_threads()
        return store

    def _open_writer(self) -> None:
        with self._lock.held(self._options.busy_s):
            try:
                self._writer = connect(
                    self._path,
                    busy_s=self._options.busy_s,
                    is_writing=True,
                    cache_kib=CACHE_KIB,
                    vfs=self._vfs,
                )
            except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
                raise OSError(str(error)) from error
            # After a failed sync the WAL may rest on pages the kernel wrongly calls clean: move
            # all of it into the database and sync that before the first accept (F2).
            try:
                self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                pass  # another process has it open and so has recovered it already
            except apsw.Error as error:
                fault = as_fault(error)
                if fault is None:
                    raise
                self.lost = StorageLost(f"recovery failed, reading only: {error}")
        self._writer.set_wal_hook(self._note_wal)
        self._writer.set_profile(None)

    def _migrate(self) -> None:
        with self._lock.held(self._options.busy_s):
            self._writer.execute("BEGIN IMMEDIATE").fetchall()
            try:
                found = self._transaction.one(
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema'"
                )
                migrate(self._transaction, has_schema=found is not None)
            except BaseException:
                self._writer.execute("ROLLBACK").fetchall()
                raise
            self._writer.execute("COMMIT").fetchall()
        self._data_version = self._read_data_version()

    def _start_threads(self) -> None:
        self._loop = asyncio.get_running_loop()
        work: list[tuple[str, Callable[[], None]]] = [
            ("store-writer", self._write_forever),
            ("store-checkpoint", self._checkpoint_forever),
        ]
        work += [(f"store-reader-{n}", self._read_forever) for n in range(self._options.readers)]
        for name, run in work:
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    async def close(self) -> None:
        """Finish what waits, stop the threads, close the file."""
        if self._is_closing:
            return
        self._is_closing = True
        self._waiting.put(None)
        for _ in range(self._options.readers):
            self._reads.put(None)
        self._checkpoint.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self.close_now()

    def close_now(self) -> None:
        """Close without threads to wait for (inline stores)."""
        self._is_closing = True
        self._writer.close()
        for reader in self._readers:
            reader.close()
        self._lock.close()

    # --- the Store port ---

    @property
    def is_writable(self) -> bool:
        return self.lost is None

    @property
    def segments(self) -> Segments:
        """The blob folder, for the sweep."""
        return self._segments

    @property
    def waiting_units(self) -> int:
        return self._waiting.qsize()

    @property
    def waiting_share(self) -> float:
        """How full the waiting queue is, 0 to 1, for stress."""
        return max(
            self._waiting.qsize() / self._options.waiting_units_max,
            self._waiting_octets / self._options.waiting_octets_max,
        )

    def free_octets(self) -> int:
        """Room left on the disk, asked at most twice a second."""
        now = self._clock.monotonic_s()
        if now - self._free_octets[0] > 0.5 or self._free_octets[0] < 0:
            self._free_octets = (now, self._disk.free_octets(self._options.folder))
        return self._free_octets[1]

    def submit(self, unit: Callable[[Transaction], T], *, octets: int = 0) -> asyncio.Future[T]:
        if self._is_inline:
            return self._completed(self.write_now, unit)
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        if self.lost is not None or self._is_closing:
            future.set_exception(StorageLost(str(self.lost or "the store is closed")))
        elif (
            self._waiting.qsize() >= self._options.waiting_units_max
            or self._waiting_octets + octets > self._options.waiting_octets_max
        ):
            future.set_exception(StorageBusy("too many units wait for the writer"))
        else:
            self._waiting_octets += octets
            self._waiting.put(_Unit(unit, future, octets))
        return future

    def read(self, query: Callable[[Transaction], T]) -> asyncio.Future[T]:
        if self._is_inline:
            return self._completed(self.read_now, query)
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        if self._is_closing:
            future.set_exception(StorageLost("the store is closed"))
        elif self._reads.qsize() >= self._options.waiting_reads_max:
            future.set_exception(StorageBusy("too many reads wait"))
        else:
            self._reads.put(_Unit(query, future, 0))
        return future

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _completed(
        self, run: Callable[[Callable[[Transaction], T]], T], unit: Callable[[Transaction], T]
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(run(unit))
        except Exception as error:
            future.set_exception(error)
        return future

    # --- inline: the command line and the simulator ---

    def write_now(self, unit: Callable[[Transaction], T]) -> T:
        """Run one unit and commit it, in this thread (inline stores only)."""
        results: list[Outcome] = []
        future: Any = _Slot()
        changes = self._commit_group([_Unit(unit, future, 0)], results)
        if results[0][2] is not None:
            raise results[0][2]
        self._tell(changes)
        return results[0][1]  # type: ignore[no-any-return]

    def read_now(self, query: Callable[[Transaction], T]) -> T:
        """Run a reading function in this thread (inline stores only)."""
        return query(self._transaction)

    # --- the writer thread ---

    def _write_forever(self) -> None:
        while True:
            group, is_last = self._next_group()
            results: list[Outcome] = []
            changes: Sequence[Change] = ()
            if group:
                changes = self._commit_group(group, results)
            elif not is_last:
                changes = self._foreign_changes()
            if results or changes:
                self._call_loop(self._finish, results, changes)
            if self._is_restart_wanted and self.lost is None:
                self._restart_wal()
            if is_last:
                return

    def _next_group(self) -> tuple[list[_Unit], bool]:
        try:
            unit = self._waiting.get(timeout=self._options.poll_s)
        except queue.Empty:
            return [], False
        group: list[_Unit] = []
        octets = 0
        while unit is not None:
            group.append(unit)
            octets += unit.octets
            if (
                len(group) >= self._options.batch_units_max
                or octets >= self._options.batch_octets_max
            ):
                return group, False
            try:
                unit = self._waiting.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit_group(self, group: list[_Unit], results: list[Outcome]) -> list[Change]:
        """Run the units and commit once. Appends an outcome for each unit to `results`."""
        if self.lost is not None:
            results += [(unit.future, None, StorageLost(str(self.lost))) for unit in group]
            return []
        started = self._clock.monotonic_s()
        transaction = self._transaction
        transaction.changes = []
        outcomes: list[Outcome] = []
        try:
            with self._lock.held(self._options.busy_s):
                execute = self._writer.execute
                execute("BEGIN IMMEDIATE").fetchall()
                is_foreign = self._note_data_version()
                for unit in group:
                    outcomes.append(self._run_unit(unit, transaction))
                self._reach("store.before-sync")
                self._segments.sync()
                self._reach("store.before-commit")
                execute("COMMIT").fetchall()
        except (apsw.Error, Fault) as error:
            results += self._abandon(group, error)
            return []
        finally:
            self._count(group, self._clock.monotonic_s() - started)
        self._reach("store.after-commit")
        results += outcomes
        changes = list(dict.fromkeys(transaction.changes))
        return [DatabaseChanged(), *changes] if is_foreign else changes

    def _run_unit(self, unit: _Unit, transaction: SqliteTransaction) -> Outcome:
        """Run one unit inside a savepoint of its own; one that fails rolls back alone."""
        execute = self._writer.execute
        kept = len(transaction.changes)
        execute("SAVEPOINT unit").fetchall()
        try:
            result = unit.function(transaction)
        except Exception as error:
            fault = as_fault(error) if isinstance(error, apsw.Error) else None
            if isinstance(fault, StorageLost) or isinstance(error, StorageLost):
                raise  # nothing more may be written
            if not self._writer.in_transaction:
                raise  # SQLite rolled the whole group back (disk full)
            execute("ROLLBACK TO unit").fetchall()
            execute("RELEASE unit").fetchall()
            del transaction.changes[kept:]
            return unit.future, None, fault or error
        execute("RELEASE unit").fetchall()
        return unit.future, result, None

    def _abandon(self, group: list[_Unit], error: Exception) -> list[Outcome]:
        """The group as a whole failed: none of its units happened."""
        fault: Exception | None = error if isinstance(error, Fault) else None
        if isinstance(error, apsw.Error):
            fault = as_fault(error)
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK").fetchall()
        except apsw.Error:
            fault = StorageLost(f"rolling back failed: {error}")
        if isinstance(fault, StorageLost):
            self._lose(fault)
            self.stats.unknown_commits += len(group)
        failure = fault or error
        return [(unit.future, None, failure) for unit in group]

    def _lose(self, fault: StorageLost) -> None:
        if self.lost is None:
            self.lost = fault
            if self.on_lost is not None:
                if self._is_inline:
                    self.on_lost(fault)
                else:
                    self._call_loop(self.on_lost, fault)

    def _count(self, group: list[_Unit], seconds: float) -> None:
        self._waiting_octets -= sum(unit.octets for unit in group)
        self.stats.commits += 1
        self.stats.units += len(group)
        self.stats.seconds += seconds
        self.stats.slowest_s = max(self.stats.slowest_s, seconds)

    # --- other processes on the same file ---

    def _read_data_version(self) -> int:
        version: int = self._writer.pragma("data_version")
        return version

    def _note_data_version(self) -> bool:
        version = self._read_data_version()
        is_foreign = version != self._data_version
        self._data_version = version
        return is_foreign

    def _foreign_changes(self) -> Sequence[Change]:
        try:
            return (DatabaseChanged(),) if self._note_data_version() else ()
        except apsw.Error:
            return ()  # the next commit meets the same trouble and says so

    # --- back on the event loop ---

    def _call_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _finish(self, results: list[Outcome], changes: Sequence[Change]) -> None:
        for future, result, error in results:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if changes:
            self._tell(changes)

    def _tell(self, changes: Sequence[Change]) -> None:
        if changes:
            for listener in list(self._listeners):
                listener(changes)

    # --- readers ---

    def _read_forever(self) -> None:
        connection: apsw.Connection | None = None
        while (unit := self._reads.get()) is not None:
            try:
                if connection is None:
                    connection = self._open_reader()
                outcome = self._run_read(unit, connection)
            except Exception as error:
                fault = as_fault(error) if isinstance(error, apsw.Error) else None
                outcome = (unit.future, None, fault or error)
            self._call_loop(self._finish, [outcome], ())

    def _open_reader(self) -> apsw.Connection:
        connection = connect(
            self._path,
            busy_s=self._options.busy_s,
            is_writing=False,
            cache_kib=READER_CACHE_KIB,
            vfs=self._vfs,
        )
        self._readers.append(connection)
        return connection

    def _run_read(self, unit: _Unit, connection: apsw.Connection) -> Outcome:
        transaction = SqliteTransaction(
            connection,
            clock=self._clock,
            segments=self._segments,
            inline_octets_max=self._options.inline_octets_max,
        )
        connection.execute("BEGIN").fetchall()
        try:
            return unit.future, unit.function(transaction), None
        finally:
            connection.execute("COMMIT").fetchall()

    # --- checkpoints: on a thread and connection of their own ---

    def _note_wal(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self.stats.wal_octets = pages * PAGE_OCTETS
        if self.stats.wal_octets >= self._options.wal_checkpoint_octets:
            self._checkpoint.set()
        return apsw.SQLITE_OK

    def _checkpoint_forever(self) -> None:
        connection: apsw.Connection | None = None
        while True:
            self._checkpoint.wait()
            if self._is_closing:
                break
            self._checkpoint.clear()
            if self.lost is not None:
                continue
            try:
                if connection is None:
                    connection = connect(
                        self._path, busy_s=1.0, is_writing=True, cache_kib=256, vfs=self._vfs
                    )
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self._is_restart_wanted = True
            except apsw.BusyError:
                continue
            except apsw.Error as error:
                if isinstance(fault := as_fault(error), StorageLost):
                    self._lose(fault)
        if connection is not None:
            connection.close()

    def _restart_wal(self) -> None:
        """Move the few frames the passive checkpoint left behind, so that the WAL begins anew."""
        self._is_restart_wanted = False
        is_over = self.stats.wal_octets > self._options.wal_octets_max
        self._writer.set_busy_timeout(500 if is_over else 20)
        try:
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            return  # a reader still needs the old frames; the next checkpoint tries again
        except apsw.Error as error:
            if isinstance(fault := as_fault(error), StorageLost):
                self._lose(fault)
        finally:
            self._writer.set_busy_timeout(int(self._options.busy_s * 1000))


class _Slot:
    """Stands where a future would, for units that run in the caller."""

    def cancelled(self) -> bool:
        return False


def crash_point(name: str) -> Callable[[str], None]:
    """A `reach` that kills this process without warning at the named point (F8, F30)."""

    def reach(point: str) -> None:
        if point == name:
            os.kill(os.getpid(), 9)

    return reach
