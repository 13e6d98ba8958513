"""Flags as octets, precomputed: 64 lists for the bits of a view, \\Recent among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from posthouse.mailbox.flags import FLAG_NAMES, HAS_KEYWORDS, SYSTEM_FLAGS

FLAGS: Final = SYSTEM_FLAGS
RECENT: Final = 64
"""A bit of ours beside those of `mailbox.flags`."""
_BITS: Final = {name.encode("ascii"): bit for bit, name in FLAG_NAMES.items()}
_ORDER: Final = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")


def _listed(bits: int) -> bytes:
    names = [name for name in _ORDER if bits & _BITS[name]]
    if bits & RECENT:
        names.append(b"\\Recent")
    return b" ".join(names)


LISTED: Final = tuple(_listed(bits) for bits in range(128))
"""By bits, without parentheses; HAS_KEYWORDS says nothing here."""
LISTED_TEXT: Final = tuple(octets.decode("ascii") for octets in LISTED)
MARK_RECENT: Final = bytes(octet | RECENT if octet < 128 else octet for octet in range(256))
"""For `bytes.translate`."""
assert HAS_KEYWORDS | RECENT | SYSTEM_FLAGS == 127


def shown_flags(bits: int, keywords: str, *, is_recent: bool) -> bytes:
    """`(\\Seen $Forwarded)`."""
    listed = LISTED[bits & FLAGS | (RECENT if is_recent else 0)]
    if keywords:
        listed = listed + b" " + keywords.encode() if listed else keywords.encode()
    return b"(" + listed + b")"


def permanent_flags(keywords: Iterable[str]) -> tuple[bytes, ...]:
    return (*_ORDER, *(keyword.encode() for keyword in keywords))


def split_flags(flags: Iterable[bytes]) -> tuple[int, tuple[str, ...]]:
    """What a client named, as bits and keywords."""
    bits = 0
    keywords: dict[str, None] = {}
    for flag in flags:
        if (bit := _BITS.get(flag)) is not None:
            bits |= bit
        else:
            keywords[flag.decode("ascii")] = None
    return bits, tuple(keywords)
