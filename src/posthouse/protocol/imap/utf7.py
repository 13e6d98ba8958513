"""Modified UTF-7, how IMAP4rev1 writes mailbox names (RFC 3501 §5.1.3). Pure."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64
from typing import Final

_SHIFTED: Final = re.compile(rb"&([A-Za-z0-9+,]*)-")
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]+|&")


def encode(name: str) -> bytes:
    """Text as modified UTF-7. Lone surrogates raise UnicodeEncodeError."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    return _UNSAFE.sub(_shift, name).encode("ascii")


def _shift(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    packed = b2a_base64(match[0].encode("utf-16-be"), newline=False)
    return "&" + packed.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def decode(octets: bytes) -> str:
    """The text, of the one spelling that `encode` makes of it.

    Raises:
        ValueError: 8-bit or control octets, a shift that does not end, superfluous or wrong
            BASE64, half a surrogate pair, or printable US-ASCII in BASE64 (overlong, H54).
    """
    name = octets.decode("ascii")
    if "&" in name:
        name = _SHIFTED.sub(_unshift, octets).decode("utf-8")
    if encode(name) != octets:
        raise ValueError("not the canonical modified UTF-7 of a name")
    return name


def _unshift(match: re.Match[bytes]) -> bytes:
    packed = match[1]
    if not packed:
        return b"&"
    try:
        octets = a2b_base64(packed.replace(b",", b"/") + b"=" * (-len(packed) % 4))
        return octets.decode("utf-16-be").encode("utf-8")
    except (Error, UnicodeError) as error:
        raise ValueError("wrong BASE64 in modified UTF-7") from error
