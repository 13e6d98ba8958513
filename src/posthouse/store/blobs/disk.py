"""The real `Disk` port: plain files, few system calls for each append."""

from __future__ import annotations

import os
import threading
from pathlib import Path

OPEN_FILES_MAX = 64


class FileDisk:
    """Keeps descriptors open between calls; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writing: dict[str, tuple[int, int]] = {}  # path -> descriptor, length
        self._reading: dict[str, int] = {}
        self._unsynced_names: set[str] = set()

    def append(self, path: str, octets: bytes) -> int:
        descriptor, length = self._writing.get(path) or self._open(path)
        view, written = memoryview(octets), 0
        while written < len(octets):  # a short write goes on where it ended (F7)
            written += os.pwrite(descriptor, view[written:], length + written)
        self._writing[path] = (descriptor, length + len(octets))
        return length

    def _open(self, path: str) -> tuple[int, int]:
        folder = Path(path).parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not Path(path).exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for other, (old, _) in list(self._writing.items()):
            os.close(old)
            del self._writing[other]
        length = os.fstat(descriptor).st_size
        self._writing[path] = (descriptor, length)
        if is_new:
            self._unsynced_names.add(path)
        return descriptor, length

    def sync(self, path: str) -> None:
        if path in self._writing:
            os.fdatasync(self._writing[path][0])
        if path in self._unsynced_names:
            folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._unsynced_names.discard(path)

    def read(self, path: str, offset: int, length: int) -> bytes:
        with self._lock:  # held while reading, so that nobody closes the descriptor under us
            descriptor = self._reading.get(path)
            if descriptor is None:
                if len(self._reading) >= OPEN_FILES_MAX:
                    os.close(self._reading.pop(next(iter(self._reading))))
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._reading[path] = descriptor
            parts: list[bytes] = []
            while length > 0 and (part := os.pread(descriptor, length, offset)):
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self, path: str) -> int:
        if path in self._writing:
            return self._writing[path][1]
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return 0

    def remove(self, path: str) -> None:
        with self._lock:
            if (descriptor := self._reading.pop(path, None)) is not None:
                os.close(descriptor)
            Path(path).unlink(missing_ok=True)

    def list(self, folder: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(f"{folder}/{name}" for name in os.listdir(folder)))  # noqa: PTH208
        except FileNotFoundError:
            return ()

    def free_octets(self, folder: str) -> int:
        state = _state_of(folder)
        return state.f_bavail * state.f_frsize

    def free_inodes(self, folder: str) -> int | None:
        state = _state_of(folder)
        return state.f_favail if state.f_files else None  # btrfs and others count none


def _state_of(folder: str) -> os.statvfs_result:
    path = Path(folder)
    while not path.exists():
        path = path.parent
    return os.statvfs(path)
