"""The embedded engine: one SQLite file, one writer thread with group commit, readers beside it.

A group takes everything that waits, runs each unit inside a savepoint, syncs the blob segments and
commits once; only then do the units' futures complete, all of a group by one wake-up of the event
loop. A failed sync ends this store for good (F2): what the file holds is known only after it is
opened again.

Where a group's units run: on the writer thread, unless all of them are short (a handful of
statements on rows that are at hand, such as accepting one message). Those run on the event loop
and only sync and commit, which need no interpreter, are the thread's. Every statement gives the
GIL up and has to win it back from a busy loop: ten statements of 8 µs each cost a message 1.2 ms
on the thread, 0.08 ms here.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from posthouse.kernel.errors import DataUnusable, Fault, StorageBusy, StorageLost
from posthouse.kernel.ports import Clock, Disk
from posthouse.store.blobs.segments import Segments
from posthouse.store.migrations import migrate
from posthouse.store.options import Options
from posthouse.store.sqlite.checkpoints import Checkpoints
from posthouse.store.sqlite.connection import (
    CACHE_KIB,
    SqliteTransaction,
    as_fault,
    connect,
)
from posthouse.store.sqlite.filelock import FileLock
from posthouse.store.sqlite.readers import Readers
from posthouse.store.sqlite.units import (
    CommitStats,
    Group,
    Outcome,
    Unit,
    hand_over,
    nobody,
    settle,
)
from posthouse.store.transaction import Change, DatabaseChanged, Listener, Transaction

T = TypeVar("T")
READER_CACHE_KIB: Final = 16_384


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
        self._waiting: deque[Unit] = deque()
        self._groups: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._is_group_open = False
        self._idle: asyncio.Future[None] | None = None
        self._waiting_octets = 0
        self._is_closing = False
        self._threads: list[threading.Thread] = []
        self._writer: apsw.Connection
        self._transaction: SqliteTransaction
        self._loop: asyncio.AbstractEventLoop | None = None
        self._data_version = 0
        self._free_octets = (-1.0, 0)
        self.lost: StorageLost | None = None
        self.on_lost: Callable[[StorageLost], None] | None = None
        self.on_commit: Callable[[float, int], None] = lambda seconds, units: None
        """Told of each commit on the event loop: its duration, and how many units shared it."""
        self.stats = CommitStats()
        self._readers = Readers(
            connect=partial(self._connect, is_writing=False, cache_kib=READER_CACHE_KIB),
            transaction=self._transaction_on,
            tell=lambda outcome: self._call_loop(self._finish, [outcome], ()),
        )
        self._checkpoints = Checkpoints(
            options,
            connect=partial(self._connect, is_writing=True, cache_kib=256, busy_s=1.0),
            stats=self.stats,
            lose=self._lose,
        )

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
            raise DataUnusable(
                f"the data folder {options.folder} cannot be used: {error.strerror or error}",
                hint="check that it exists and belongs to the user Posthouse runs as",
            ) from error
        store._transaction = store._transaction_on(store._writer)
        if store.lost is None:
            try:
                store._migrate()
            except BaseException:
                store._writer.close()
                raise
        if not store._is_inline:
            store._start_threads()
        return store

    def _connect(
        self, *, is_writing: bool, cache_kib: int, busy_s: float | None = None
    ) -> apsw.Connection:
        return connect(
            self._path,
            busy_s=self._options.busy_s if busy_s is None else busy_s,
            is_writing=is_writing,
            cache_kib=cache_kib,
            vfs=self._vfs,
        )

    def _transaction_on(self, connection: apsw.Connection) -> SqliteTransaction:
        return SqliteTransaction(
            connection,
            clock=self._clock,
            segments=self._segments,
            inline_octets_max=self._options.inline_octets_max,
        )

    def _open_writer(self) -> None:
        with self._lock.held(self._options.busy_s):
            try:
                self._writer = self._connect(is_writing=True, cache_kib=CACHE_KIB)
            except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
                raise OSError(str(error)) from error
            except (apsw.NotADBError, apsw.CorruptError) as error:
                raise DataUnusable(
                    f"{self._path} is not a Posthouse database, or damaged: {error}",
                    hint="restore it from a backup; nothing was changed",
                ) from error
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
        self._writer.set_wal_hook(self._checkpoints.note_wal)

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
            ("store-checkpoint", self._checkpoints.run),
        ]
        work += [(f"store-reader-{n}", self._readers.run) for n in range(self._options.readers)]
        for name, run in work:
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    async def close(self) -> None:
        """Finish what waits, stop the threads, close the file."""
        if self._is_closing:
            return
        if self._is_group_open:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._is_closing = True
        self._groups.put(None)
        self._readers.close(self._options.readers)
        self._checkpoints.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self.close_now()

    def close_now(self) -> None:
        """Close without threads to wait for (inline stores)."""
        self._is_closing = True
        self._writer.close()
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
        return len(self._waiting)

    @property
    def waiting_share(self) -> float:
        """How full the waiting queue is, 0 to 1, for stress."""
        return max(
            len(self._waiting) / self._options.waiting_units_max,
            self._waiting_octets / self._options.waiting_octets_max,
        )

    def free_octets(self) -> int:
        """Room left on the disk, asked at most twice a second."""
        now = self._clock.monotonic_s()
        if now - self._free_octets[0] > 0.5 or self._free_octets[0] < 0:
            self._free_octets = (now, self._disk.free_octets(self._options.folder))
        return self._free_octets[1]

    def submit(
        self, unit: Callable[[Transaction], T], *, octets: int = 0, is_short: bool = False
    ) -> asyncio.Future[T]:
        if self._is_inline:
            return self._completed(self.write_now, unit)
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self.submit_then(unit, partial(settle, future), octets=octets, is_short=is_short)
        return future

    def submit_then(
        self,
        unit: Callable[[Transaction], T],
        done: Callable[[T | None, BaseException | None], None],
        *,
        octets: int = 0,
        is_short: bool = False,
    ) -> None:
        if self._is_inline:
            future = self._completed(self.write_now, unit)
            future.add_done_callback(partial(hand_over, done))
            return
        assert self._loop is not None
        if self.lost is not None or self._is_closing:
            refusal: Fault = StorageLost(str(self.lost or "the store is closed"))
        elif (
            len(self._waiting) >= self._options.waiting_units_max
            or self._waiting_octets + octets > self._options.waiting_octets_max
        ):
            refusal = StorageBusy("too many units wait for the writer")
        else:
            self._waiting_octets += octets
            self._waiting.append(Unit(unit, done, octets, is_short=is_short))
            if not self._is_group_open:
                self._is_group_open = True
                self._loop.call_soon(self._open_group)
            return
        self._loop.call_soon(done, None, refusal)

    def read(self, query: Callable[[Transaction], T]) -> asyncio.Future[T]:
        if self._is_inline:
            return self._completed(self.read_now, query)
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        if self._is_closing:
            future.set_exception(StorageLost("the store is closed"))
        elif self._readers.waiting >= self._options.waiting_reads_max:
            future.set_exception(StorageBusy("too many reads wait"))
        else:
            self._readers.put(Unit(query, partial(settle, future), 0))
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
        group = Group([Unit(unit, nobody, 0)], self._clock.monotonic_s())
        changes = self._write_group(group)
        _, result, error = group.outcomes[0]
        if error is not None:
            raise error
        self._tell(changes)
        return result  # type: ignore[no-any-return]

    def read_now(self, query: Callable[[Transaction], T]) -> T:
        """Run a reading function in this thread (inline stores only): all that it asks is answered
        from one moment, whatever other processes write meanwhile."""
        if self._writer.in_transaction:
            return query(self._transaction)
        self._writer.execute("BEGIN").fetchall()
        try:
            return query(self._transaction)
        finally:
            self._writer.execute("COMMIT").fetchall()

    # --- groups: taken on the loop, committed on the writer thread ---

    def _open_group(self) -> None:
        """Take what waits, short units or long ones: a long one among short ones would send all of
        them to the thread. Short ones run here, unless another process holds the database."""
        units: list[Unit] = []
        octets, is_short = 0, self._waiting[0].is_short
        while (
            self._waiting
            and self._waiting[0].is_short is is_short
            and len(units) < self._options.batch_units_max
        ):
            unit = self._waiting.popleft()
            units.append(unit)
            octets += unit.octets
            if octets >= self._options.batch_octets_max:
                break
        self._waiting_octets -= octets
        group = Group(units, self._clock.monotonic_s())
        if is_short and self.lost is None and self._lock.try_hold():
            self._run_here(group)
        self._groups.put(group)

    def _run_here(self, group: Group) -> None:
        """The lock is held; it stays held until the thread has committed."""
        self._writer.set_busy_timeout(0)
        try:
            self._begin(group)
        except apsw.BusyError:
            self._lock.release()
            return  # the thread waits for the other process
        except (apsw.Error, Fault) as error:
            self._abandon(group, error)
        else:
            try:
                self._run_units(group)
            except (apsw.Error, Fault) as error:
                self._abandon(group, error)
        finally:
            self._writer.set_busy_timeout(int(self._options.busy_s * 1000))
        group.has_run = True

    def _write_forever(self) -> None:
        while True:
            try:
                group = self._groups.get(timeout=self._options.poll_s)
            except queue.Empty:
                changes = self._foreign_changes()
                if changes:
                    self._call_loop(self._tell, changes)
                continue
            if group is None:
                return
            try:
                changes = self._write_group(group)
            except Exception as bug:  # nobody may wait for ever
                self._abandon(group, bug)
                changes = ()
            self._call_loop(self._finish_group, group, changes)

    def _write_group(self, group: Group) -> Sequence[Change]:
        """What is left to do for a group: all of it, or sync and commit when its units have run."""
        try:
            if group.has_run:
                try:
                    return self._commit(group)
                finally:
                    self._lock.release()
            return self._run_and_commit(group)
        finally:
            self._count(group)
            if self._checkpoints.is_restart_wanted and self.lost is None:
                self._checkpoints.restart(self._writer)

    def _run_and_commit(self, group: Group) -> Sequence[Change]:
        try:
            with self._lock.held(self._options.busy_s):
                if self.lost is not None:
                    raise StorageLost(str(self.lost))
                self._begin(group)
                self._run_units(group)
                return self._commit(group)
        except (apsw.Error, Fault) as error:
            self._abandon(group, error)
            return ()

    def _begin(self, group: Group) -> None:
        self._transaction.changes = []
        self._writer.execute("BEGIN IMMEDIATE").fetchall()
        group.is_foreign = self._note_data_version()

    def _run_units(self, group: Group) -> None:
        for unit in group.units:
            group.outcomes.append(self._run_unit(unit, self._transaction))

    def _commit(self, group: Group) -> Sequence[Change]:
        """Sync and commit; on failure none of the units happened."""
        if not self._writer.in_transaction:
            return ()  # abandoned on the loop
        try:
            self._reach("store.before-sync")
            self._segments.sync()
            self._reach("store.before-commit")
            self._writer.execute("COMMIT").fetchall()
        except (apsw.Error, Fault) as error:
            self._abandon(group, error)
            return ()
        self._reach("store.after-commit")
        changes = list(dict.fromkeys(self._transaction.changes))
        return [DatabaseChanged(), *changes] if group.is_foreign else changes

    def _finish_group(self, group: Group, changes: Sequence[Change]) -> None:
        self.on_commit(group.seconds, len(group.units))
        self._finish(group.outcomes, changes)
        if self._waiting:
            self._open_group()
        else:
            self._is_group_open = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _run_unit(self, unit: Unit, transaction: SqliteTransaction) -> Outcome:
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
            return unit.done, None, fault or error
        execute("RELEASE unit").fetchall()
        return unit.done, result, None

    def _abandon(self, group: Group, error: Exception) -> None:
        """The group as a whole failed: none of its units happened."""
        fault: Exception | None = error if isinstance(error, Fault) else None
        if isinstance(error, apsw.Error):
            fault = as_fault(error)
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK").fetchall()
        except apsw.Error:
            fault = StorageLost(f"rolling back failed: {error}")
        if isinstance(fault, StorageLost) and self.lost is None:
            self.stats.unknown_commits += len(group.units)
            self._lose(fault)
        failure = fault or error
        group.outcomes = [(unit.done, None, failure) for unit in group.units]

    def _lose(self, fault: StorageLost) -> None:
        if self.lost is None:
            self.lost = fault
            if self.on_lost is not None:
                if self._is_inline:
                    self.on_lost(fault)
                else:
                    self._call_loop(self.on_lost, fault)

    def _count(self, group: Group) -> None:
        seconds = group.seconds = self._clock.monotonic_s() - group.started_s
        self.stats.commits += 1
        self.stats.units += len(group.units)
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
        for done, result, error in results:
            try:
                done(result, error)
            except Exception as bug:  # of one caller; the others still hear of their units
                self._loop_exception(bug)
        if changes:
            self._tell(changes)

    def _loop_exception(self, bug: Exception) -> None:
        assert self._loop is not None
        self._loop.call_exception_handler(
            {"message": "whoever waited for a unit of work failed", "exception": bug}
        )

    def _tell(self, changes: Sequence[Change]) -> None:
        if changes:
            for listener in list(self._listeners):
                listener(changes)
