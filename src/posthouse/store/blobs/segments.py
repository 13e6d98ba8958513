"""Segment files: larger blobs, appended one behind the other, synced once for each group commit.

A row of `blob` names segment, position and size; a file tail no row names (after a crash) is dead
space, which the sweep removes with the segment. A process begins segments of its own (under the
store's file lock, so their numbers differ) and appends to no other's. Used by a store's writer
thread and its readers.
"""

from __future__ import annotations

from posthouse.kernel.errors import Fault, PosthouseError, StorageFull, StorageLost
from posthouse.kernel.ports import Disk

SEGMENT_SUFFIX = ".seg"
NO_ROOM = frozenset({28, 122, 27})
"""ENOSPC, EDQUOT and EFBIG (F4, F6), as numbers of Linux and the BSDs agree on them."""


class BlobDamaged(PosthouseError):
    """A blob is missing or its octets changed (F10): its message is unreadable, others are not."""


class Segments:
    """The blob folder of one store. `append` and `sync` belong to the writer thread."""

    def __init__(self, disk: Disk, folder: str, *, octets_max: int) -> None:
        self._disk = disk
        self._folder = folder
        self._octets_max = octets_max
        self._current: int | None = None
        self._is_dirty = False

    def numbers(self) -> list[int]:
        """The segments on the disk, rising."""
        names = (path.rsplit("/", 1)[-1] for path in self._disk.list(self._folder))
        return sorted(int(n[: -len(SEGMENT_SUFFIX)]) for n in names if n.endswith(SEGMENT_SUFFIX))

    def path(self, segment: int) -> str:
        return f"{self._folder}/{segment:08d}{SEGMENT_SUFFIX}"

    @property
    def current(self) -> int | None:
        """The segment being appended to; the sweep leaves it alone."""
        return self._current

    def append(self, octets: bytes) -> tuple[int, int]:
        """Append and return (segment, position); not durable before `sync`."""
        try:
            if self._current is None or self._disk.size(self.path(self._current)) >= (
                self._octets_max
            ):
                self.sync()
                self._current = max(self.numbers(), default=0) + 1
            self._is_dirty = True
            return self._current, self._disk.append(self.path(self._current), octets)
        except OSError as error:
            self._current = None  # a torn tail stays behind; go on in a fresh file
            raise as_fault(error) from error

    def sync(self) -> None:
        """Make all that was appended durable.

        Raises:
            StorageLost: the sync failed; it is never tried again (F2).
        """
        if not self._is_dirty or self._current is None:
            return
        try:
            self._disk.sync(self.path(self._current))
        except OSError as error:
            raise StorageLost(f"syncing a blob segment failed: {error}") from error
        self._is_dirty = False

    def read(self, segment: int, position: int, size: int) -> bytes:
        try:
            return self._disk.read(self.path(segment), position, size)
        except FileNotFoundError as error:
            raise BlobDamaged(f"segment {segment} is missing") from error
        except OSError as error:
            raise Fault(f"reading segment {segment} failed: {error}") from error

    def size(self, segment: int) -> int:
        return self._disk.size(self.path(segment))

    def remove(self, segment: int) -> None:
        self._disk.remove(self.path(segment))


def as_fault(error: OSError) -> Fault:
    if error.errno in NO_ROOM:
        return StorageFull("the disk is full")
    return StorageLost(f"writing a blob segment failed: {error}")
