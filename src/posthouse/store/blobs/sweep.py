"""Gives the room of dead blobs back: rows nobody owns, segment files that are mostly dead.

Runs beside everything else in small units. A segment's file goes only after a grace period, for
readers that still look at where a blob was.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.kernel.ids import BlobId
from posthouse.kernel.ports import Clock
from posthouse.store.blobs.segments import BlobDamaged, Segments
from posthouse.store.transaction import Store, Transaction

ROWS_AT_ONCE: Final = 500
OCTETS_AT_ONCE: Final = 8 * 1024 * 1024
DEAD_SHARE: Final = 0.5


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    moved: int
    files: int


class Sweeper:
    """One for each process that keeps a store open."""

    def __init__(self, store: Store, segments: Segments, clock: Clock, *, grace_s: float) -> None:
        self._store = store
        self._segments = segments
        self._clock = clock
        self._grace_s = grace_s
        self._sizes: dict[int, int] = {}
        self._empty_since: dict[int, float] = {}

    async def run_once(self) -> Swept:
        """One round. Raises Fault when the store cannot be written."""
        rows = moved = 0
        while removed := await self._store.submit(_remove_unowned):
            rows += removed
        sizes = await self._store.read(lambda tx: self._live(tx))
        for segment, (live, size) in sizes.items():
            is_settled = self._sizes.get(segment) == size and segment != self._segments.current
            if is_settled and 0 < live < size * (1 - DEAD_SHARE):
                moved += await self._empty(segment)
        self._sizes = {segment: size for segment, (_, size) in sizes.items()}
        files = await self._store.read(lambda tx: self._remove_empty(tx))
        return Swept(rows=rows, moved=moved, files=files)

    def _live(self, tx: Transaction) -> dict[int, tuple[int, int]]:
        """Segment → (octets of blobs in it, octets of the file)."""
        live: dict[int, int] = dict(
            tx.all("SELECT segment, sum(size) FROM blob WHERE segment IS NOT NULL GROUP BY segment")
        )
        return {
            number: (live.get(number, 0), self._segments.size(number))
            for number in self._segments.numbers()
        }

    async def _empty(self, segment: int) -> int:
        moved = 0
        while count := await self._store.submit(lambda tx: _move_some(tx, segment)):
            moved += count
        return moved

    def _remove_empty(self, tx: Transaction) -> int:
        removed = 0
        now = self._clock.monotonic_s()
        for segment, (octets, size) in self._live(tx).items():
            is_settled = self._sizes.get(segment) == size and segment != self._segments.current
            if octets or not is_settled:
                self._empty_since.pop(segment, None)
            elif now - self._empty_since.setdefault(segment, now) >= self._grace_s:
                self._segments.remove(segment)
                del self._empty_since[segment]
                removed += 1
        return removed


def _remove_unowned(tx: Transaction) -> int:
    return tx.run(
        "DELETE FROM blob WHERE id IN (SELECT id FROM blob WHERE refs <= 0 LIMIT ?)",
        (ROWS_AT_ONCE,),
    )


def _move_some(tx: Transaction, segment: int) -> int:
    """Move blobs out of the segment, about `OCTETS_AT_ONCE`; how many were moved."""
    moved = octets = 0
    rows = tx.all(
        "SELECT id, size FROM blob WHERE segment = ? ORDER BY id LIMIT ?", (segment, ROWS_AT_ONCE)
    )
    for blob, size in rows:
        try:
            tx.move_blob(BlobId(blob))
        except BlobDamaged:
            continue  # it stays where it is, for the ledger check to name
        moved += 1
        octets += size
        if octets >= OCTETS_AT_ONCE:
            break
    return moved
