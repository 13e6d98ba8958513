"""A disk that fails as told: syncs, space, speed, and the loss of power (F2–F7, F9, F13).

Files are real ones below a folder, which stand for the kernel's page cache; what a loss of power
would leave of them is kept beside. `SimDisk` is the port `Disk`, and `SimDisk.vfs` is the name by
which SQLite opens its files on the same disk: `apsw.Connection(path, vfs=disk.vfs)`.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from posthouse.sim.chance import SeededChance
from posthouse.sim.disk_history import History
from posthouse.sim.vfs import SimVfs

FREE_OCTETS: Final = 1 << 40


class Countdown:
    """A fault at the n-th call from when it was set, once or from there on."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._is_lasting = False

    def start(self, nth: int, *, for_ever: bool) -> None:
        assert nth >= 1
        self._left, self._is_lasting = nth, for_ever

    def stop(self) -> None:
        self._left = None

    def strikes(self) -> bool:
        """Count one call; whether it fails."""
        if self._left is None:
            return False
        self._left -= 1
        if self._left > 0:
            return False
        if not self._is_lasting:
            self._left = None
        return True


class SimDisk:
    """See the module. Safe from several threads. `close` it when every connection is closed."""

    def __init__(
        self,
        folder: str | Path,
        chance: SeededChance,
        *,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args:
        folder: everything on this disk is below it.
        wait: lets the time of a slow sync pass; real time unless the test has its own.
        """
        self.folder = str(Path(folder).absolute())
        self.syncs = 0
        self.writes = 0
        self._chance = chance
        self._wait = wait
        self._lock = threading.RLock()
        self._histories: dict[str, History] = {}
        self._sizes: dict[str, int] = {}
        self._sync_fault = Countdown()
        self._write_fault = Countdown()
        self._sync_delay_s = 0.0
        self._capacity_octets: int | None = None
        self.inodes: int | None = None  # free ones; None is no bound
        self._is_read_only = False
        self._has_inodes = True
        self._is_powered = True
        self._vfs = SimVfs(self)
        self.vfs: str = self._vfs.name

    def close(self) -> None:
        """Take the VFS away; its files stay."""
        self._vfs.unregister()

    # --- faults ---

    def fail_sync(self, nth: int = 1, *, for_ever: bool = False) -> None:
        """The n-th sync from now, of any file, ends with EIO (F2; `for_ever`: F3)."""
        self._sync_fault.start(nth, for_ever=for_ever)

    def fail_write(self, nth: int = 1, *, for_ever: bool = False) -> None:
        """The n-th write from now puts down a part of its octets and ends with EIO (F7)."""
        self._write_fault.start(nth, for_ever=for_ever)

    def slow_sync(self, seconds: float) -> None:
        """Each sync takes so long (F13)."""
        self._sync_delay_s = seconds

    def fill(self, *, free_octets: int = 0) -> None:
        """Leave so much space; a write that needs more ends with ENOSPC (F4, F5)."""
        with self._lock:
            self._capacity_octets = sum(self._sizes.values()) + free_octets

    def remount(self, *, is_read_only: bool = False, has_inodes: bool = True) -> None:
        """EROFS for every change, or ENOSPC for every new file (F6)."""
        self._is_read_only, self._has_inodes = is_read_only, has_inodes

    def heal(self) -> None:
        """No faults, space and power again."""
        self._is_powered = True
        self._sync_fault.stop()
        self._write_fault.stop()
        self._sync_delay_s = 0.0
        self._capacity_octets = None
        self.inodes = None
        self.remount()

    def cut_power(self) -> None:
        """From now on nothing reaches the disk: every write and sync ends with EIO, and `survive`
        may be asked for what is left. `heal` after that, so that connections close in peace."""
        self._is_powered = False

    def survive(self, folder: str | Path) -> None:
        """Write what a loss of power now would leave into another folder (F9). Different each
        time, repeatable from the seed."""
        with self._lock:
            found = {
                path: history.survivor(self._chance)
                for path, history in sorted(self._histories.items())
            }
            found |= self._untouched(found)
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, octets in found.items():
            if octets is not None:
                target = Path(folder) / os.path.relpath(path, self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(octets)
                target.chmod(0o600)  # as all files of a server are

    def _untouched(self, known: dict[str, bytes | None]) -> dict[str, bytes | None]:
        """Files that lay here before and were not opened since; shared memory is none."""
        return {
            str(path): path.read_bytes()
            for path in sorted(Path(self.folder).rglob("*"))
            if path.is_file() and str(path) not in known and not path.name.endswith("-shm")
        }

    # --- the port Disk ---

    def append(self, path: str, octets: bytes) -> int:
        path = str(Path(path).absolute())
        with self._lock:
            self.note_open(path, is_creating=True)
            offset = self._sizes[path]
            room = self.room(path, offset, len(octets))
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write(octets[:room])
            self.note_write(path, offset, octets[:room])
            if room < len(octets):
                raise self.shortage()
            return offset

    def sync(self, path: str) -> None:
        self.note_sync(str(Path(path).absolute()))

    def read(self, path: str, offset: int, length: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def size(self, path: str) -> int:
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return 0

    def remove(self, path: str) -> None:
        path = str(Path(path).absolute())
        with self._lock:
            self.refuse_changes()
            Path(path).unlink(missing_ok=True)
            self.note_remove(path, is_synced=False)

    def list(self, folder: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(f"{folder}/{each.name}" for each in Path(folder).iterdir()))
        except FileNotFoundError:
            return ()

    def free_octets(self, folder: str) -> int:
        with self._lock:
            if self._capacity_octets is None:
                return FREE_OCTETS
            return max(0, self._capacity_octets - sum(self._sizes.values()))

    def free_inodes(self, folder: str) -> int | None:
        return self.inodes

    # --- what the VFS asks and tells; all raise OSError for the faults that are set ---

    def note_open(self, path: str, *, is_creating: bool) -> None:
        """A file is about to be opened, and made where there is none."""
        with self._lock:
            if path in self._sizes:
                return
            file = Path(path)
            is_there = file.exists()
            if not is_there:
                if not is_creating:
                    return
                self.refuse_changes()
                if not self._has_inodes:
                    raise OSError(errno.ENOSPC, "no inode left")
            history = self._histories.get(path)
            if history is None:
                history = History(file.read_bytes() if is_there else None)
                self._histories[path] = history
            if not is_there:
                history.create()
            self._sizes[path] = file.stat().st_size if is_there else 0

    def room(self, path: str, offset: int, octets: int) -> int:
        """How many of the octets a write may put down; fewer than all means it must fail."""
        with self._lock:
            self.refuse_changes()
            self.writes += 1
            if self._write_fault.strikes():
                return min(octets - 1, self._chance.below(max(1, octets)))
            if self._capacity_octets is None:
                return octets
            grows = max(0, offset + octets - self._sizes.get(path, 0))
            lacking = grows - self.free_octets(path)
            return octets if lacking <= 0 else max(0, octets - lacking)

    def shortage(self) -> OSError:
        """The error of a write that did not get all its room."""
        if self._capacity_octets is not None:
            return OSError(errno.ENOSPC, "the disk is full")
        return OSError(errno.EIO, "the write failed half-way")

    def note_write(self, path: str, offset: int, octets: bytes) -> None:
        with self._lock:
            self._histories[path].write(offset, octets)
            self._sizes[path] = max(self._sizes[path], offset + len(octets))

    def note_truncate(self, path: str, size: int) -> None:
        with self._lock:
            self.refuse_changes()
            self._histories[path].truncate(size)
            self._sizes[path] = size

    def note_remove(self, path: str, *, is_synced: bool) -> None:
        with self._lock:
            self._sizes.pop(path, None)
            if path in self._histories:
                self._histories[path].remove(is_synced=is_synced)

    def note_sync(self, path: str, *, has_folder: bool = True) -> None:
        """With `has_folder` the first sync of a new file makes all names beside it certain."""
        if self._sync_delay_s:
            self._wait(self._sync_delay_s)
        with self._lock:
            self.syncs += 1
            history = self._histories.get(path)
            if not self._is_powered or self._sync_fault.strikes():
                if history is not None and self._is_powered:
                    history.fail_sync()
                raise OSError(errno.EIO, "the sync failed")
            if history is None:
                return
            if has_folder and history.is_new:
                for other in self._histories:
                    if Path(other).parent == Path(path).parent:
                        self._histories[other].sync_name()
            history.sync()

    def refuse_changes(self) -> None:
        if not self._is_powered:
            raise OSError(errno.EIO, "the power is gone")
        if self._is_read_only:
            raise OSError(errno.EROFS, "the disk is mounted read-only")
