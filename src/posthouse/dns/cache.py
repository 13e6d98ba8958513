"""Answers kept for as long as they may be, the least recently used ones going first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from posthouse.kernel.ports import DnsAnswer, RecordType

Key = tuple[str, RecordType]

ENTRY_OCTETS: Final = 512
"""What an entry costs beside its records, roughly."""


class _Entry(msgspec.Struct, frozen=True):
    answer: DnsAnswer
    expires_s: float
    octets: int


class Cache:
    """Bounded by entries and by octets. Times are the monotonic clock's, in seconds."""

    def __init__(self, *, entries_max: int, octets_max: int) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._entries_max = entries_max
        self._octets_max = octets_max
        self.octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now_s: float) -> DnsAnswer | None:
        """The answer with the lifetime it has left, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_s <= now_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return msgspec.structs.replace(entry.answer, ttl_s=entry.expires_s - now_s)

    def put(self, key: Key, answer: DnsAnswer, *, now_s: float, octets: int) -> None:
        """Keep `answer` for its `ttl_s`; `octets` is its size on the wire."""
        if key in self._entries:
            self._drop(key)
        size = octets + ENTRY_OCTETS
        self._entries[key] = _Entry(answer, now_s + answer.ttl_s, size)
        self.octets += size
        while len(self._entries) > self._entries_max or self.octets > self._octets_max:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        self._entries.clear()
        self.octets = 0

    def _drop(self, key: Key) -> None:
        self.octets -= self._entries.pop(key).octets
