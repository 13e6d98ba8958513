"""Changes of octets that parsers get wrong: cuts, repeats, splices, numbers at the edge, tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.fuzz.oracle import Shape

OCTETS_MAX = 32 * 1024
NUMBERS = (b"0", b"-1", b"1", b"65536", b"2147483648", b"4294967296", b"9" * 20)
OCTETS = b"\0\r\n\t \"'()<>[]{}\\/@:;,.=?*%+-_~\x7f\x80\xc0\xff"
REPEATS = (2, 10, 100, 1000)

Change = Callable[[Random, bytearray, Sequence[bytes]], None]


def _place(rng: Random, octets: bytearray) -> tuple[int, int]:
    """A random, mostly short, piece."""
    start = rng.randint(0, len(octets))
    return start, min(len(octets), start + rng.choice((1, 1, 2, 4, 8, 16, 64, 256)))


def _replace(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    start, _ = _place(rng, octets)
    octets[start : start + 1] = bytes((rng.choice(OCTETS),))


def _insert(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    start, _ = _place(rng, octets)
    octets[start:start] = bytes(rng.choices(OCTETS, k=rng.randint(1, 4)))


def _delete(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    start, end = _place(rng, octets)
    del octets[start:end]


def _repeat(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    start, end = _place(rng, octets)
    octets[start:end] = octets[start:end] * rng.choice(REPEATS)


def _splice(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    other = bytearray(rng.choice(pool))
    start, _ = _place(rng, octets)
    first, last = _place(rng, other)
    octets[start:start] = other[first:last]


def _cross(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    other = rng.choice(pool)
    octets[rng.randint(0, len(octets)) :] = other[rng.randint(0, len(other)) :]


def _number(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    digits = [at for at, octet in enumerate(octets) if 48 <= octet <= 57]
    if digits:
        start = end = rng.choice(digits)
        while end < len(octets) and 48 <= octets[end] <= 57:
            end += 1
        octets[start:end] = rng.choice(NUMBERS)


def _token(rng: Random, octets: bytearray, pool: Sequence[bytes]) -> None:
    """A word of another input, where words are what stands between blanks."""
    words = rng.choice(pool).split()
    if words:
        start, _ = _place(rng, octets)
        octets[start:start] = b" " + rng.choice(words) + b" "


CHANGES: tuple[Change, ...] = (
    *(_replace, _insert, _delete, _repeat),
    *(_splice, _cross, _number, _token),
)


def mutated(rng: Random, octets: bytes, pool: Sequence[bytes]) -> bytes:
    """`octets` after one to a few changes, never longer than `OCTETS_MAX`."""
    changed = bytearray(octets)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        rng.choice(CHANGES)(rng, changed, pool)
    return bytes(changed[:OCTETS_MAX])


def shape(rng: Random, octets: bytes, pool: Sequence[bytes]) -> Shape:
    """`octets` with a short piece of it, or of another input, to be repeated at one place."""
    other = bytearray(octets if rng.random() < 0.7 else rng.choice(pool))
    first, last = _place(rng, other)
    piece = bytes(other[first:last]) or bytes((rng.choice(OCTETS),))
    at = rng.randint(0, len(octets))
    tail = octets[at:] if rng.random() < 0.7 else b""
    return Shape(octets[:at], piece, tail)
