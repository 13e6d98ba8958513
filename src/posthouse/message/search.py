"""Finding short marks in big octets through the one octet of theirs that is rare.

A search for one octet runs at memory speed, one for several costs about a nanosecond an octet, and
much more at each line end. Where a mark holds an octet that most content has not (the dot behind
a line end, a delimiter's dash; base64 has neither), the hops from one such octet to the next are
all the search there is. `bench/micro.py` has the figures.
"""

from __future__ import annotations

from typing import Final

HOPS_MAX: Final = 4
"""Of the rare octet in a row that were no mark; then it is not rare here."""
PLAIN_OCTETS: Final = 16_384
"""Searched in the plain way before hops are tried again, and four times as many after each failure,
so that they cost a few per cent at most whatever the octets are."""


def find_marker(
    octets: bytes, marker: bytes, rare: int, start: int = 0, stop: int | None = None
) -> int:
    """The same as `octets.find(marker, start, stop)` for offsets that are not negative.

    Args:
        rare: the offset in `marker` of its rare octet.
    """
    if stop is None:
        stop = len(octets)
    octet, first = marker[rare], marker[0]
    start += rare
    find = octets.find
    plain_octets = PLAIN_OCTETS
    while True:
        for _ in range(HOPS_MAX):
            at = find(octet, start, stop)
            if at < 0:
                return -1
            if octets[at - rare] == first and octets.startswith(marker, at - rare, stop):
                return at - rare
            start = at + 1
        edge = start + plain_octets  # of where a mark's rare octet may stand
        plain_stop = edge - rare + len(marker) - 1
        at = find(marker, start - rare, min(plain_stop, stop))
        if at >= 0 or plain_stop >= stop:
            return at
        start = edge
        plain_octets *= 4
