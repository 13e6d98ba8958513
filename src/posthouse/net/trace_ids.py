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

    __slots__ = ("_chance", "_clock")

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance

    def next(self) -> TraceId:
        chance = int.from_bytes(self._chance.token(_CHANCE_OCTETS), "big") & 0x7FFF
        number = self._clock.unix_us() << 15 | chance
        digits = [_DIGITS[number >> shift & 31] for shift in range(5 * (_TIME_DIGITS + 2), -1, -5)]
        return TraceId("".join(digits))
