"""One SQLite connection with the settings the store relies on, and its `Transaction`.

Called by `engine.py` alone; nothing else imports apsw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import apsw

from posthouse.kernel.errors import Fault, StorageBusy, StorageFull, StorageLost
from posthouse.kernel.ids import BlobId
from posthouse.kernel.ports import Clock
from posthouse.store.blobs.segments import BlobDamaged, Segments
from posthouse.store.transaction import Change, Row, Value

STATEMENTS_CACHED = 400
CACHE_KIB = 65_536


def connect(
    path: Path, *, busy_s: float, is_writing: bool, cache_kib: int, vfs: str | None
) -> apsw.Connection:
    """Open a connection to the database file, creating it when `is_writing`."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
    if is_writing:
        flags |= apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(
        str(path), flags=flags, vfs=vfs, statementcachesize=STATEMENTS_CACHED
    )
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    connection.set_busy_timeout(int(busy_s * 1000))
    for pragma in (
        "journal_mode=wal",
        "synchronous=full",
        "wal_autocheckpoint=0",
        "foreign_keys=on",
        "trusted_schema=off",
        "temp_store=memory",
        f"cache_size=-{cache_kib}",
        f"query_only={'off' if is_writing else 'on'}",
    ):
        connection.execute(f"pragma {pragma}").fetchall()
    return connection


def as_fault(error: apsw.Error) -> Fault | None:
    """The fault an error of SQLite stands for, or None when it is a bug of ours (wrong SQL)."""
    if isinstance(error, apsw.FullError):
        return StorageFull("the disk is full")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StorageBusy("the database is locked by another process")
    if isinstance(error, apsw.NoMemError):
        return StorageBusy("not enough memory for this transaction")
    if isinstance(
        error,
        apsw.IOError | apsw.CorruptError | apsw.NotADBError | apsw.CantOpenError,
    ):
        return StorageLost(f"the database failed: {error}")
    if isinstance(error, apsw.ReadOnlyError):
        return StorageLost("the database can only be read")
    return None


class SqliteTransaction:
    """The `Transaction` of `posthouse.store.transaction` on one connection."""

    __slots__ = ("_clock", "_connection", "_execute", "_segments", "changes", "inline_octets_max")

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        clock: Clock,
        segments: Segments,
        inline_octets_max: int,
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._clock = clock
        self._segments = segments
        self.inline_octets_max = inline_octets_max
        self.changes: list[Change] = []

    def all(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        return self._execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        rows = self._execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        self._execute(sql, parameters).fetchall()
        return self._connection.changes()

    def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        self._connection.executemany(sql, rows).fetchall()

    def insert(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        self._execute(sql, parameters).fetchall()
        return self._connection.last_insert_rowid()

    def now_us(self) -> int:
        return self._clock.unix_us()

    def put_blob(
        self, octets: bytes, *, sha256: bytes | None = None, references: int = 1
    ) -> BlobId:
        digest = sha256 or hashlib.sha256(octets).digest()
        if len(octets) <= self.inline_octets_max:
            return BlobId(
                self.insert(
                    "INSERT INTO blob (refs, size, sha256, octets) VALUES (?, ?, ?, ?)",
                    (references, len(octets), digest, octets),
                )
            )
        segment, position = self._segments.append(octets)
        return BlobId(
            self.insert(
                "INSERT INTO blob (refs, size, sha256, segment, position) VALUES (?, ?, ?, ?, ?)",
                (references, len(octets), digest, segment, position),
            )
        )

    def blob(self, blob: BlobId) -> bytes:
        row = self.one(
            "SELECT size, sha256, octets, segment, position FROM blob WHERE id = ?", (blob,)
        )
        if row is None:
            raise BlobDamaged(f"blob {blob} has no row")
        size, digest, octets, segment, position = row
        if segment is not None:
            octets = self._segments.read(segment, position, size)
        if len(octets) != size or hashlib.sha256(octets).digest() != digest:
            raise BlobDamaged(f"blob {blob} does not have the octets it was stored with")
        return cast("bytes", octets)

    def keep_blob(self, blob: BlobId, references: int = 1) -> None:
        self.run("UPDATE blob SET refs = refs + ? WHERE id = ?", (references, blob))

    def move_blob(self, blob: BlobId) -> None:
        """Append the octets of a blob in a segment again and let its row name the new place."""
        segment, position = self._segments.append(self.blob(blob))
        self.run(
            "UPDATE blob SET segment = ?, position = ? WHERE id = ?", (segment, position, blob)
        )

    def release_blob(self, blob: BlobId, references: int = 1) -> None:
        self.run("UPDATE blob SET refs = refs - ? WHERE id = ?", (references, blob))

    def changed(self, change: Change) -> None:
        self.changes.append(change)
