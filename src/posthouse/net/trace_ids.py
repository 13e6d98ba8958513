"""Names for connections: short, sortable by time, never the same on two nodes."""

from __future__ import annotations

from typing import Final

from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Chance, Clock

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS: Final = 11  # 55 bits of microseconds: enough until the year 3111
_CHANCE_OCTETS: Final = 2


class TraceIds:
    """`next()` gives 14 letters and digits: 11 of time, 3 of chance, so nodes never collide."""

    __slots__ = ("_chance", "_clock", "_pool")

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance
        self._pool = b""

    def next(self) -> TraceId:
        if not self._pool:  # one call to the system for many connections
            self._pool = self._chance.token(_CHANCE_OCTETS * 256)
        chance = int.from_bytes(self._pool[:_CHANCE_OCTETS], "big") & 0x7FFF
        self._pool = self._pool[_CHANCE_OCTETS:]
        number = self._clock.unix_us() << 15 | chance
        digits = [_DIGITS[number >> shift & 31] for shift in range(5 * (_TIME_DIGITS + 2), -1, -5)]
        return TraceId("".join(digits))
