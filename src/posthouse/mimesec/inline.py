"""OpenPGP inside plain text, without MIME: read, never written (RFC 9580 §6.2, §7).

Only the text inside a block is proven by it. Whoever shows it shows the block's text apart from the
text around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

BLOCKS_MAX: Final = 16
"""Of one text; the others are left as text."""

_ARMOUR_LINE: Final = re.compile(
    rb"^-----(BEGIN|END) PGP (SIGNED MESSAGE|MESSAGE|SIGNATURE)-----[ \t]*+\r?$", re.MULTILINE
)
# The names that there are, old ones too (RFC 9580 §9.5, RFC 4880 §9.4), and nothing that could be a
# sentence; SaltedHash was in drafts only.
_HASH_NAME: Final = (
    rb"(?:MD5|SHA1|RIPEMD160|MD2|TIGER192|HAVAL-5-160|SHA(?:224|256|384|512)|SHA3-(?:256|512))"
)
_HASH: Final = re.compile(
    rb"Hash:[ \t]*+%b(?:,[ \t]*+%b){0,9}[ \t]*+" % (_HASH_NAME, _HASH_NAME), re.IGNORECASE
)


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A signed text or an encrypted message in a text."""

    start: int
    end: int
    """Behind its last line, without that line's end."""
    sealed: bytes = b""
    """The armour of an encrypted message; b"" for a signed text."""
    text: bytes = b""
    """What is signed, as it was signed: CRLF, no blanks before it, dashes as they were."""
    signature: bytes = b""
    """Its armour."""


def blocks(octets: bytes) -> list[Block]:
    """The blocks in a decoded text, in order; one that is cut off or malformed is none."""
    if b"-----BEGIN PGP " not in octets:
        return []
    found: list[Block] = []
    for block in _blocks(octets):
        found.append(block)
        if len(found) == BLOCKS_MAX:
            break
    return found


def is_alone(block: Block, octets: bytes) -> bool:
    """Whether there is nothing but blanks around it."""
    return not octets[: block.start].strip() and not octets[block.end :].strip()


def _blocks(octets: bytes) -> Iterator[Block]:
    begin: re.Match[bytes] | None = None
    middle: re.Match[bytes] | None = None
    for line in _ARMOUR_LINE.finditer(octets):
        what = (line[1], line[2])
        if what in ((b"BEGIN", b"SIGNED MESSAGE"), (b"BEGIN", b"MESSAGE")):
            begin, middle = line, None
        elif begin is None:
            continue
        elif what == (b"END", b"MESSAGE") and begin[2] == b"MESSAGE":
            sealed = octets[begin.start() : line.end()]
            yield Block(start=begin.start(), end=line.end(), sealed=sealed)
            begin = None
        elif what == (b"BEGIN", b"SIGNATURE") and begin[2] == b"SIGNED MESSAGE" and not middle:
            middle = line
        elif what == (b"END", b"SIGNATURE") and middle is not None:
            text = _signed_text(octets[begin.end() : middle.start()])
            if text is not None:
                yield Block(
                    start=begin.start(),
                    end=line.end(),
                    text=text,
                    signature=octets[middle.start() : line.end()],
                )
            begin = middle = None
        else:
            begin = middle = None


def _signed_text(octets: bytes) -> bytes | None:
    """Behind the Hash fields and an empty line. Other fields, and other words in these, would be
    text that looks signed and is not (RFC 9580 §7), so with one there is no block."""
    lines = octets.replace(b"\r\n", b"\n").split(b"\n")
    at = 1  # the rest of the first line is empty
    while at < len(lines) and lines[at].strip(b" \t"):
        if _HASH.fullmatch(lines[at]) is None:
            return None
        at += 1
    text = lines[at + 1 : -1]  # the line end in front of the signature is not part of it
    if at >= len(lines) - 1 or any(one[:1] == b"-" and one[:2] != b"- " for one in text):
        return None
    return b"\r\n".join(one.removeprefix(b"- ").rstrip(b" \t") for one in text)
