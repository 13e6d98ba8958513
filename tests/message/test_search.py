"""The search by a rare octet finds what a plain search finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import search
from posthouse.message.search import find_marker

MARKERS = [(b"\r\n.", 2), (b"\r\n.\r\n", 2), (b"\n--", 1), (b"..", 0), (b"-", 0)]
pieces = st.sampled_from(
    [b"\r\n", b"\r\n.", b".", b"\r", b"\n", b"-", b"\n--", b"a" * 7, b"-.-.-.-.-."]
)


@given(
    octets=st.lists(pieces, max_size=60).map(b"".join),
    marker=st.sampled_from(MARKERS),
    start=st.integers(0, 80),
    stop=st.none() | st.integers(0, 200),
    plain_octets=st.integers(1, 40),
)
def test_hops_find_what_a_plain_search_finds(
    octets: bytes, marker: tuple[bytes, int], start: int, stop: int | None, plain_octets: int
) -> None:
    if stop is not None:
        stop = min(stop, len(octets))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "PLAIN_OCTETS", plain_octets)
        found = find_marker(octets, *marker, start, stop)
    assert found == octets.find(marker[0], start, stop)


@pytest.mark.parametrize("filling", [b".", b".a", b"..a\r\n", b"\r\n", b"\r\n-", b"a"])
@pytest.mark.parametrize(("marker", "rare"), MARKERS[:3])
def test_a_marker_is_found_behind_much_that_looks_like_it(
    filling: bytes, marker: bytes, rare: int
) -> None:
    for size in (1, 1_000, 60_000, 400_000):
        octets = (filling * size)[:size] + marker
        assert find_marker(octets, marker, rare) == octets.find(marker)
        assert find_marker(octets, marker, rare, 0, len(octets) - 1) == octets[:-1].find(marker)
