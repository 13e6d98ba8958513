"""What a loss of power would leave of a file: its synced octets, and by chance the rest."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.sim.chance import SeededChance

SECTOR_OCTETS: Final = 512
"""Written whole or not at all; larger writes may be torn between sectors."""


class Fate(Enum):
    """How sure a change is to survive."""

    PENDING = auto()  # not synced yet
    DOUBTFUL = auto()  # its sync failed: the kernel calls it clean, the disk may not have it
    CERTAIN = auto()


class Change(msgspec.Struct):
    """A write at `offset`, or with `octets` None a cut to `offset`, or a removal at -1."""

    offset: int
    octets: bytes | None
    fate: Fate = Fate.PENDING


REMOVAL: Final = -1


class History:
    """One path: what it surely holds, and the changes since, in order."""

    def __init__(self, durable: bytes | None) -> None:
        """Args:
        durable: what a disk that was quiet for long has; None for no such file.
        """
        self._durable = None if durable is None else bytearray(durable)
        self._changes: list[Change] = []
        self._creation: Change | None = None

    def create(self) -> None:
        """A new, empty file."""
        self._creation = Change(0, None)
        self._changes.append(self._creation)

    def write(self, offset: int, octets: bytes) -> None:
        self._changes.append(Change(offset, octets))

    def truncate(self, size: int) -> None:
        self._changes.append(Change(size, None))

    def remove(self, *, is_synced: bool) -> None:
        self._changes.append(Change(REMOVAL, None))
        if is_synced:
            self.sync()

    def sync(self) -> None:
        """What is pending is certain now, the name too; what an earlier sync failed for is not."""
        for change in self._changes:
            if change.fate is Fate.PENDING:
                change.fate = Fate.CERTAIN
        self._creation = None
        self._settle()

    def sync_name(self) -> None:
        """The folder is synced: whether there is such a file is certain, not what it holds."""
        removals = [at for at, each in enumerate(self._changes) if each.offset == REMOVAL]
        if removals:
            for change in self._changes[: removals[-1] + 1]:
                change.fate = Fate.CERTAIN
        if self._creation is not None:
            self._creation.fate, self._creation = Fate.CERTAIN, None
        self._settle()

    @property
    def is_new(self) -> bool:
        """Made, and its name not synced since."""
        return self._creation is not None

    def _settle(self) -> None:
        while self._changes and self._changes[0].fate is Fate.CERTAIN:
            self._durable = _applied(self._durable, self._changes.pop(0))

    def fail_sync(self) -> None:
        """The kernel forgets that the pages are dirty (F2): no later sync will write them."""
        for change in self._changes:
            if change.fate is Fate.PENDING and change.offset != REMOVAL:  # that is the folder's
                change.fate = Fate.DOUBTFUL

    def survivor(self, chance: SeededChance) -> bytes | None:
        """What is found after a loss of power; None for no file. Each sector of what is not certain
        is kept or dropped, which is also how writes come to be reordered and torn (F9)."""
        kept_share = chance.uniform(0, 1)
        content = None if self._durable is None else bytearray(self._durable)
        for change in self._changes:
            if change.fate is Fate.CERTAIN:
                content = _applied(content, change)
            elif change.offset == REMOVAL and not chance.happens(kept_share):
                break  # the old file is back, and what came after was another one
            elif change.octets is None:
                if chance.happens(kept_share):
                    content = _applied(content, change)
            else:
                for part in _sectors(change):
                    if chance.happens(kept_share):
                        content = _applied(content, part)
        return None if content is None else bytes(content)


def _sectors(change: Change) -> list[Change]:
    assert change.octets is not None
    parts, at, end = [], change.offset, change.offset + len(change.octets)
    while at < end:
        until = min(end, (at // SECTOR_OCTETS + 1) * SECTOR_OCTETS)
        parts.append(Change(at, change.octets[at - change.offset : until - change.offset]))
        at = until
    return parts


def _applied(content: bytearray | None, change: Change) -> bytearray | None:
    if change.offset == REMOVAL:
        return None
    content = bytearray() if content is None else content
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))  # a hole
    if change.octets is None:
        del content[change.offset :]
    else:
        content[change.offset : change.offset + len(change.octets)] = change.octets
    return content
