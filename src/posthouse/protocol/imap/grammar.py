"""IMAP's words: atoms, strings, literals, sets, dates and flags, to values and back.

RFC 3501 §9 (and RFC 9051 §9 where it only narrows it). `Reader` walks over one whole command, its
literals already collected; `fetch_items`, `search_keys` and `commands` are written with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

from posthouse.kernel.errors import PosthouseError
from posthouse.protocol.imap import utf7
from posthouse.protocol.imap.limits import DEFAULT_LIMITS, Limits

FLAGS_MAX: Final = 500
"""In one command; a mailbox has no more keywords either."""
NUMBER_MAX: Final = 0xFFFF_FFFF
NAME_OCTETS_MAX: Final = 1_000
"""Of a mailbox name or pattern; longer ones name nothing (H54)."""

SHORT_OCTETS_MAX: Final = 256

STAR: Final = 0
"""Stands for `*` in a sequence set, the largest number in use; no number of a set is 0."""
SequenceSet = tuple[tuple[int, int], ...]
"""Ranges as they were written: `5:2` stays (5, 2), `*` is `STAR`."""

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH: Final = {name.lower().encode(): n for n, name in enumerate(MONTHS, 1)}

_ATOM: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_LIST: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
_FLAG: Final = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_QUOTED: Final = re.compile(rb'"([^"\\\x00]*(?:\\["\\][^"\\\x00]*)*)"')
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.S)
_NUMBER: Final = re.compile(rb"[0-9]{1,10}(?![0-9])")
_SET: Final = re.compile(rb"[0-9*:,]+")
_LITERAL: Final = re.compile(rb"\{[0-9]{1,20}\+?\}\Z")
_DATE: Final = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")
_DATE_TIME: Final = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{4})"'
)
SYSTEM_FLAGS: Final = {
    name.lower(): name
    for name in (b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Draft")
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017


class BadCommand(PosthouseError):
    """The command is no IMAP: `text` goes behind its BAD, `code` in brackets before it.
    `limit` is the field of `Limits` that was reached, if one was."""

    def __init__(self, text: str, *, code: str = "", limit: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.limit = limit


class Reader:
    """One command from left to right.

    `pieces` are the lines without CRLF; each but the last ends with the `{n}` that announces the
    literal of the same index. Every method leaves the position behind what it took, or raises
    `BadCommand`.
    """

    __slots__ = ("_index", "_literals", "_pieces", "_pos", "_text", "limits")

    def __init__(
        self,
        pieces: Sequence[bytes],
        literals: Sequence[bytes],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.limits = limits
        self._pieces = pieces
        self._literals = literals
        self._index = 0
        self._text = pieces[0]
        self._pos = 0

    def peek(self) -> bytes:
        """The next octet, empty at the end."""
        return self._text[self._pos : self._pos + 1]

    def at_end(self) -> bool:
        return self._pos >= len(self._text) and self._index + 1 == len(self._pieces)

    def end(self) -> None:
        if not self.at_end():
            raise BadCommand("Unexpected text behind the command's arguments")

    def accept(self, octets: bytes) -> bool:
        """Take `octets` if they come next, in any case."""
        end = self._pos + len(octets)
        if self._text[self._pos : end].upper() != octets:
            return False
        self._pos = end
        return True

    def expect(self, octets: bytes) -> None:
        if not self.accept(octets):
            raise BadCommand(f"Expected {_shown(octets)}")

    def space(self) -> None:
        if self._text[self._pos : self._pos + 1] != b" ":
            raise BadCommand("Missing argument")
        self._pos += 1

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self._text, self._pos)
        if found is None:
            raise BadCommand(f"Invalid {what}")
        self._pos = found.end()
        return found

    def rest(self) -> bytes:
        """What is left of a command without literals."""
        text, self._pos = self._text[self._pos :], len(self._text)
        return text

    def short_rest(self) -> bytes | None:
        """As `rest` when that is short enough to be worth remembering; None, and nothing taken,
        when it is not or literals follow."""
        if self._index + 1 < len(self._pieces) or len(self._text) - self._pos > SHORT_OCTETS_MAX:
            return None
        return self.rest()

    # --- words ---

    def word(self) -> bytes:
        """An atom in upper case: a command, an item, a search key."""
        return self.match(_ATOM, "word")[0].upper()

    def atom(self) -> bytes:
        return self.match(_ATOM, "atom")[0]

    def number(self) -> int:
        """0 to 4294967295."""
        value = int(self.match(_NUMBER, "number")[0])
        if value > NUMBER_MAX:
            raise BadCommand("Number too large")
        return value

    def nonzero(self) -> int:
        if (value := self.number()) == 0:
            raise BadCommand("Zero is not allowed here")
        return value

    def astring(self) -> bytes:
        if (found := _ASTRING.match(self._text, self._pos)) is not None:
            self._pos = found.end()
            return found[0]
        return self.string()

    def string(self) -> bytes:
        """Quoted or literal. Deviation: octets above 0x7F pass in quoted strings, as clients send
        passwords and search text in UTF-8 that way."""
        if self.peek() == b'"':
            text = self.match(_QUOTED, "quoted string")[1]
            return _QUOTED_PAIR.sub(rb"\1", text) if b"\\" in text else text
        value = self.literal()
        if b"\x00" in value:
            raise BadCommand("NUL is not allowed in a literal")  # CHAR8, RFC 3501 §9
        return value

    def literal(self) -> bytes:
        """A literal with whatever it holds."""
        self.match(_LITERAL, "string")
        value = self._literals[self._index]
        self._index += 1
        self._text, self._pos = self._pieces[self._index], 0
        return value

    def nstring(self) -> bytes | None:
        if self.peek() not in (b'"', b"{") and self.accept(b"NIL"):
            return None
        return self.string()

    # --- values ---

    def mailbox(self) -> str:
        """A mailbox name; INBOX comes in capitals, also as the first level (RFC 3501 §5.1)."""
        return mailbox_name(self.astring())

    def list_mailbox(self) -> str:
        """A pattern with `%` and `*`."""
        if (found := _LIST.match(self._text, self._pos)) is not None:
            self._pos = found.end()
            return _decoded(found[0])
        return _decoded(self.string())

    def sequence_set(self) -> SequenceSet:
        text = self.match(_SET, "sequence set")[0]
        return sequence_set(text, items_max=self.limits.set_items_max)

    def at_sequence_set(self) -> bool:
        return self.peek() in b"0123456789*" and bool(self.peek())

    def flag(self) -> bytes:
        """A system flag in its usual spelling, or a keyword as it was written."""
        return _checked_flag(self.match(_FLAG, "flag")[0])

    def flag_list(self) -> tuple[bytes, ...]:
        """`(flag flag)`."""
        self.expect(b"(")
        flags: list[bytes] = []
        while not self.accept(b")"):
            if flags:
                self.space()
            flags.append(self.flag())
            if len(flags) > FLAGS_MAX:
                raise BadCommand("Too many flags", code="LIMIT")
        return tuple(flags)

    def date(self) -> int:
        """Days since 1970 of `1-Jan-2026`, bare or quoted."""
        quoted = self.accept(b'"')
        day, month, year = self.match(_DATE, "date").groups()
        if quoted:
            self.expect(b'"')
        return (_date_time(day, month, year) - _EPOCH).days

    def date_time(self) -> int:
        """Microseconds since 1970 of `" 1-Jan-2026 10:00:00 +0100"`."""
        day, month, year, hour, minute, second, sign, zone = self.match(
            _DATE_TIME, "date-time"
        ).groups()
        offset = timedelta(hours=int(zone[:2]), minutes=int(zone[2:]))
        if int(zone[2:]) > 59 or int(zone[:2]) > 23:
            raise BadCommand("Invalid zone")
        local = _date_time(day, month, year, int(hour), int(minute), int(second))
        if sign == b"+":
            offset = -offset
        try:
            utc = local + offset
        except OverflowError:
            raise BadCommand("Invalid date") from None
        return (utc - _EPOCH) // timedelta(microseconds=1)


def sequence_set(text: bytes, *, items_max: int = DEFAULT_LIMITS.set_items_max) -> SequenceSet:
    """`1:3,7,9:*` as ranges; more than `items_max` are refused."""
    items = text.split(b",")
    if len(items) > items_max:
        raise BadCommand("Too many items in the sequence set", code="LIMIT", limit="set_items_max")
    ranges: list[tuple[int, int]] = []
    for item in items:
        first, colon, last = item.partition(b":")
        low = _set_number(first)
        ranges.append((low, _set_number(last) if colon else low))
    return tuple(ranges)


def _set_number(text: bytes) -> int:
    if text == b"*":
        return STAR
    if not text or len(text) > 10 or not text.isdigit() or text[0] == 0x30:
        raise BadCommand("Invalid sequence set")
    value = int(text)
    if value > NUMBER_MAX:
        raise BadCommand("Number too large in the sequence set")
    return value


def compact_set(numbers: Sequence[int]) -> bytes:
    """Numbers, in the order given, as a sequence set: runs that rise by one become ranges."""
    out: list[bytes] = []
    start = previous = 0
    for number in numbers:
        if number == previous + 1 and out:
            previous = number
            continue
        if out and previous != start:
            out[-1] += b":%d" % previous
        out.append(b"%d" % number)
        start = previous = number
    if out and previous != start:
        out[-1] += b":%d" % previous
    return b",".join(out)


def mailbox_name(octets: bytes) -> str:
    """A wire name decoded; every spelling of INBOX, alone or as first level, is in capitals."""
    name = _decoded(octets)
    head, slash, tail = name.partition("/")
    if len(head) == 5 and head.upper() == "INBOX":
        return f"INBOX{slash}{tail}"
    return name


def _decoded(octets: bytes) -> str:
    if len(octets) > NAME_OCTETS_MAX:
        raise BadCommand("Mailbox name too long", code="LIMIT")
    try:
        name = utf7.decode(octets)
    except ValueError:
        raise BadCommand("Mailbox name is not modified UTF-7") from None
    if not name.isprintable() and any(c < " " or c == "\x7f" for c in name):
        raise BadCommand("Mailbox name holds a control character")
    return name


def _checked_flag(octets: bytes) -> bytes:
    if octets[:1] != b"\\":
        return octets
    known = SYSTEM_FLAGS.get(octets.lower())
    if known is None:
        raise BadCommand("Unknown system flag")  # \Recent is ours to give, RFC 3501 §2.3.2
    return known


def _date_time(
    day: bytes, month: bytes, year: bytes, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime:
    number = _MONTH.get(month.lower())
    if number is None:
        raise BadCommand("Invalid month")
    try:
        return datetime(
            int(year), number, int(day), hour, minute, min(second, 59), tzinfo=_EPOCH.tzinfo
        )
    except ValueError:
        raise BadCommand("Invalid date") from None


def _shown(octets: bytes) -> str:
    return {b" ": "a space", b"(": "an opening parenthesis", b")": "a closing parenthesis"}.get(
        octets, octets.decode("ascii", "replace")
    )
