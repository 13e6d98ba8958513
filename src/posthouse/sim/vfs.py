"""SQLite's files on a `SimDisk`: a VFS over the system's that asks the disk before each change."""

from __future__ import annotations

import errno
import itertools
from typing import TYPE_CHECKING, Any, Final

import apsw

if TYPE_CHECKING:
    from posthouse.sim.disk import SimDisk

BASE: Final = "unix"
_numbers = itertools.count()


class SimVfs(apsw.VFS):
    """Registered under `name` until `unregister`."""

    def __init__(self, disk: SimDisk) -> None:
        self.name = f"posthouse-sim-{next(_numbers)}"
        self._disk = disk
        super().__init__(self.name, BASE)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:  # a temporary file; losing it loses nothing
            return apsw.VFSFile(BASE, name, flags)
        try:
            is_creating = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
            self._disk.note_open(path, is_creating=is_creating)
        except OSError as error:
            raise apsw.CantOpenError(str(error)) from error
        return _SimFile(self._disk, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        try:
            self._disk.refuse_changes()
        except OSError as error:
            raise _io_error(error, apsw.SQLITE_IOERR_DELETE) from error
        super().xDelete(filename, syncdir)
        self._disk.note_remove(filename, is_synced=syncdir)


class _SimFile(apsw.VFSFile):
    def __init__(self, disk: SimDisk, path: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        # SQLite syncs the folder with a new journal or WAL, not with a new database.
        self._has_folder = not flags[0] & apsw.SQLITE_OPEN_MAIN_DB
        super().__init__(BASE, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        try:
            room = self._disk.room(self._path, offset, len(data))
        except OSError as error:
            raise _io_error(error, apsw.SQLITE_IOERR_WRITE) from error
        octets = bytes(data[:room])
        if octets:
            super().xWrite(octets, offset)
            self._disk.note_write(self._path, offset, octets)
        if room < len(data):
            raise _io_error(self._disk.shortage(), apsw.SQLITE_IOERR_WRITE)

    def xTruncate(self, newsize: int) -> None:
        try:
            self._disk.note_truncate(self._path, newsize)
        except OSError as error:
            raise _io_error(error, apsw.SQLITE_IOERR_TRUNCATE) from error
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        try:
            self._disk.note_sync(self._path, has_folder=self._has_folder)
        except OSError as error:
            raise _io_error(error, apsw.SQLITE_IOERR_FSYNC) from error


def _io_error(error: OSError, extended: int) -> apsw.Error:
    """As SQLite's own VFS reports it: full, read-only, or an I/O error of a kind."""
    if error.errno == errno.ENOSPC:
        return apsw.FullError(str(error))
    if error.errno == errno.EROFS:
        return apsw.ReadOnlyError(str(error))
    failed = apsw.IOError(str(error))
    failed.extendedresult = extended  # type: ignore[attr-defined]
    return failed
