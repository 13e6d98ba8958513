"""The packets OpenPGP data is made of (RFC 9580 §4), walked with bounds before anybody else reads
them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

PACKETS_MAX: Final = 20_000
"""Of one message, signature or file of keys."""
CRITICAL_MAX: Final = 39
"""Whoever does not know a packet of a higher number passes over it (§4.3)."""
PARTS_MAX: Final = 100_000
"""Of a body that comes in parts of 512 octets and more (§4.2.1.4)."""


class Tag(IntEnum):
    """Those that matter here (§5)."""

    PKESK = 1
    SIGNATURE = 2
    SKESK = 3
    ONE_PASS = 4
    SECRET_KEY = 5
    PUBLIC_KEY = 6
    SECRET_SUBKEY = 7
    COMPRESSED = 8
    SED = 9
    MARKER = 10
    LITERAL = 11
    TRUST = 12
    USER_ID = 13
    PUBLIC_SUBKEY = 14
    USER_ATTRIBUTE = 17
    SEIPD = 18
    MDC = 19
    AEAD = 20
    PADDING = 21


_FILLING: Final = frozenset({Tag.MARKER, Tag.PADDING})


class BadPackets(ValueError):
    """The octets are no OpenPGP data; `str()` says why, in plain words."""


class Packet(msgspec.Struct, frozen=True):
    tag: int
    body: bytes
    octets: bytes
    """The whole packet as it came."""

    @property
    def is_filling(self) -> bool:
        """Whether it may stand anywhere in a message and means nothing (§4.3, §5.8, §5.14)."""
        return self.tag in _FILLING or self.tag > CRITICAL_MAX


def walk(octets: bytes, *, packets_max: int = PACKETS_MAX) -> Iterator[Packet]:
    """The packets at the outside, in order. Linear; nothing in them is opened.

    Raises:
        BadPackets: a packet is cut off or malformed, or there are too many.
    """
    at = count = 0
    while at < len(octets):
        count += 1
        if count > packets_max:
            raise BadPackets(f"it has more than {packets_max} packets")
        start, head = at, octets[at]
        if not head & 0x80:
            raise BadPackets("it is no OpenPGP data")
        if head & 0x40:
            tag = head & 0x3F
            body, at = _new_body(octets, at + 1)
        else:
            tag = head >> 2 & 0x0F
            body, at = _old_body(octets, at + 1, head & 3)
        yield Packet(tag, body, octets[start:at])


def encoded(tag: int, body: bytes) -> bytes:
    """A packet in the present form (§4.2.1)."""
    size = len(body)
    if size < 192:
        length = bytes((size,))
    elif size < 8384:
        length = bytes(((size - 192 >> 8) + 192, size - 192 & 0xFF))
    else:
        length = b"\xff" + size.to_bytes(4, "big")
    return bytes((0xC0 | tag,)) + length + body


def _old_body(octets: bytes, at: int, kind: int) -> tuple[bytes, int]:
    if kind == 3:  # to the end of all
        return octets[at:], len(octets)
    size, at = _number(octets, at, 1 << kind)
    return _taken(octets, at, size)


def _new_body(octets: bytes, at: int) -> tuple[bytes, int]:
    parts: list[bytes] = []
    while True:
        first, at = _number(octets, at, 1)
        if first < 192:
            size = first
        elif first < 224:
            second, at = _number(octets, at, 1)
            size = (first - 192 << 8) + second + 192
        elif first == 255:
            size, at = _number(octets, at, 4)
        else:
            if len(parts) == PARTS_MAX:
                raise BadPackets(f"a packet comes in more than {PARTS_MAX} parts")
            part, at = _taken(octets, at, 1 << (first & 0x1F))
            parts.append(part)
            continue
        last, at = _taken(octets, at, size)
        return (b"".join((*parts, last)) if parts else last), at


def _number(octets: bytes, at: int, size: int) -> tuple[int, int]:
    taken, at = _taken(octets, at, size)
    return int.from_bytes(taken, "big"), at


def _taken(octets: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(octets) - at:
        raise BadPackets("it is cut off")
    return octets[at : at + size], at + size
