"""Responses: their octets (RFC 3501 §7), response codes (RFC 5530) and strings for the wire.

Texts are ours and in US-ASCII; what a client or a message said enters only through `string`,
`quoted`, `astring` or `mailbox`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Final

from posthouse.kernel.reply import printable
from posthouse.protocol.imap import utf7
from posthouse.protocol.imap.grammar import MONTHS

QUOTED_OCTETS_MAX: Final = 1_000
"""Longer strings go as literals, which readers with line limits take."""

_QUOTABLE: Final = re.compile(rb"[\x20\x21\x23-\x5b\x5d-\x7e]*\Z")
_ATOMIC: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+\Z")
_TEXT_OCTETS_MAX: Final = 480

# Codes of RFC 5530 §3 and others that text stands behind.
ALREADYEXISTS: Final = "ALREADYEXISTS"
AUTHENTICATIONFAILED: Final = "AUTHENTICATIONFAILED"
CANNOT: Final = "CANNOT"
LIMIT: Final = "LIMIT"
NONEXISTENT: Final = "NONEXISTENT"
OVERQUOTA: Final = "OVERQUOTA"
PRIVACYREQUIRED: Final = "PRIVACYREQUIRED"
SERVERBUG: Final = "SERVERBUG"
TOOBIG: Final = "TOOBIG"
TRYCREATE: Final = "TRYCREATE"
UNAVAILABLE: Final = "UNAVAILABLE"


def ok(tag: bytes, text: str, code: str | bytes = "") -> bytes:
    return _status(tag, b"OK", text, code)


def no(tag: bytes, text: str, code: str | bytes = "") -> bytes:
    return _status(tag, b"NO", text, code)


def bad(tag: bytes, text: str, code: str | bytes = "") -> bytes:
    """Args:
    tag: `b"*"` where the command had none that can be read.
    """
    return _status(tag, b"BAD", text, code)


def bye(text: str, code: str | bytes = "") -> bytes:
    return _status(b"*", b"BYE", text, code)


def untagged(*words: bytes) -> bytes:
    return b"* " + b" ".join(words) + b"\r\n"


def continuation(text: bytes) -> bytes:
    return b"+ " + text + b"\r\n"


def _status(tag: bytes, word: bytes, text: str, code: str | bytes) -> bytes:
    if isinstance(code, str):
        code = code.encode("ascii")
    bracketed = b"[" + code + b"] " if code else b""
    return b"%b %b %b%b\r\n" % (
        tag,
        word,
        bracketed,
        printable(text)[:_TEXT_OCTETS_MAX].encode("ascii"),
    )


def string(octets: bytes) -> bytes:
    """Quoted where that is allowed and short, else a literal. NUL, which no string may hold
    (RFC 3501 §4.3), becomes a space."""
    if len(octets) <= QUOTED_OCTETS_MAX and _QUOTABLE.match(octets):
        return b'"' + octets + b'"'
    return literal(octets)


def literal(octets: bytes) -> bytes:
    octets = without_nul(octets)
    return b"{%d}\r\n%b" % (len(octets), octets)


def without_nul(octets: bytes) -> bytes:
    """What a literal may hold (RFC 3501 §4.3): a NUL is shown as a space."""
    return octets.replace(b"\x00", b" ") if b"\x00" in octets else octets


def quoted(octets: bytes) -> bytes:
    """A quoted string of octets that are known to be printable ASCII."""
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def astring(octets: bytes) -> bytes:
    """An atom where that reads the same, else a string."""
    if _ATOMIC.match(octets) and octets.upper() != b"NIL":
        return octets
    if len(octets) <= QUOTED_OCTETS_MAX and octets.isascii() and not _has_control(octets):
        return quoted(octets)
    return literal(octets)


def _has_control(octets: bytes) -> bool:
    return any(octet < 0x20 or octet == 0x7F for octet in octets)


def mailbox(name: str) -> bytes:
    """A mailbox name in modified UTF-7 (RFC 3501 §5.1.3)."""
    return astring(utf7.encode(name))


def flag_list(flags: Iterable[bytes]) -> bytes:
    return b"(" + b" ".join(flags) + b")"


def date_time(at_us: int) -> bytes:
    """INTERNALDATE of microseconds since 1970, in UTC, with its quotes."""
    try:
        at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(  # noqa: UP017
            seconds=at_us // 1_000_000
        )
    except OverflowError:
        at = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (
        at.day,
        MONTHS[at.month - 1].encode("ascii"),
        at.year,
        at.hour,
        at.minute,
        at.second,
    )
