"""ASCII armour (RFC 9580 §6): OpenPGP packets as text, read with bounds and written."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

import msgspec

from posthouse.mimesec.pgp import sequoia
from posthouse.mimesec.pgp.packets import walk

OCTETS_MAX: Final = 256 * 1024 * 1024
HEADERS_MAX: Final = 20
"""Lines of one block between its first line and the empty one."""


class Kind(Enum):
    MESSAGE = "MESSAGE"
    SIGNATURE = "SIGNATURE"
    PUBLIC_KEY = "PUBLIC KEY BLOCK"
    PRIVATE_KEY = "PRIVATE KEY BLOCK"


class BadArmour(ValueError):
    """The text is no armour; `str()` says why, in plain words."""


class Block(msgspec.Struct, frozen=True):
    kind: str
    """As its first line says: "MESSAGE"."""
    octets: bytes


_BEGIN: Final = re.compile(rb"^-----BEGIN PGP ([A-Z ]{1,40})-----[ \t]*+\r?$", re.MULTILINE)
_END: Final = re.compile(rb"^-----END PGP ([A-Z ]{1,40})-----[ \t]*+\r?$", re.MULTILINE)
_CHECKSUM: Final = re.compile(rb"^=[A-Za-z0-9+/]{4}\n(?=-----END PGP )", re.MULTILINE)
_HEADER: Final = re.compile(rb"[A-Za-z][A-Za-z0-9-]{0,60}: ?[^\r\n]*+")


def is_armoured(octets: bytes) -> bool:
    """Whether there is armour in it; the first octet of a packet has its high bit set."""
    return bool(octets) and octets[0] < 0x80 and b"-----BEGIN PGP " in octets


def blocks(octets: bytes) -> Iterator[Block]:
    """All blocks of a text, in order. Linear.

    Raises:
        BadArmour: one of them has no end, or is no base64. The checksum behind it is not looked at
            (RFC 9580 §6.1): nobody depends on it, and everything that matters is authenticated.
    """
    if len(octets) > OCTETS_MAX:
        raise BadArmour(f"it has more than {OCTETS_MAX >> 20} MiB")
    at = 0
    while (begin := _BEGIN.search(octets, at)) is not None:
        end = _END.search(octets, begin.end())
        if end is None or end[1] != begin[1]:
            raise BadArmour("a block of it does not end")
        yield Block(begin[1].decode("ascii"), _content(octets[begin.end() : end.start()]))
        at = end.end()


def one(octets: bytes, kind: Kind) -> bytes:
    """The packets of octets that are armoured, or packets already.

    Raises:
        BadArmour: there is not exactly one block, or it is of another kind.
    """
    if not is_armoured(octets):
        return octets
    found = list(blocks(octets))
    if len(found) != 1:
        raise BadArmour(f"there are {len(found)} blocks in it, and one is expected")
    if found[0].kind != kind.value:
        raise BadArmour(f"it is a PGP {found[0].kind}, and a PGP {kind.value} is expected")
    return found[0].octets


def write(octets: bytes, kind: Kind) -> bytes:
    """With LF ends. RFC 9580 §6.1 wants no checksum where only readers of its own packets can read
    what is in it; old ones, GnuPG 2.2 too, do not find the end without one."""
    text = sequoia.armoured(octets, kind.name)
    return _CHECKSUM.sub(b"", text) if _is_new(octets) else text


def _is_new(octets: bytes) -> bool:
    """Whether the first packet is one that RFC 9580 brought: a key, signature or encrypted session
    key of version 6."""
    first = next(walk(octets), None)
    return first is not None and first.body[:1] == b"\x06"


def _content(text: bytes) -> bytes:
    # Whatever is blank in it says nothing; "=abcd" at the end is the checksum, other "=" pad.
    body = text[_behind_headers(text) :].translate(None, b" \t\r\n")
    if len(body) >= 5 and body[-5:-4] == b"=" and body[-1:] != b"=":
        body = body[:-5]
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except binascii.Error:
        raise BadArmour("what is in it is no base64") from None


def _behind_headers(text: bytes) -> int:
    """Where the first empty line ends."""
    at = text.find(b"\n") + 1  # the rest of the line that begins the block is empty
    for _ in range(HEADERS_MAX + 1):
        end = text.find(b"\n", at)
        line = text[at:end].rstrip(b"\r") if end >= 0 else text[at:]
        if not line.strip(b" \t"):
            return end + 1 if end >= 0 else len(text)
        if _HEADER.fullmatch(line) is None:
            break
        if end < 0:
            return len(text)
        at = end + 1
    raise BadArmour("what stands above its first empty line is no header")
