"""The header section, read over the exact octets and never changing them (RFC 5322 §2.2).

One rule for where the header section ends and what is a field in it, for reception, DKIM, the
filter and IMAP alike (H34):

- it ends at the first empty line, where CRLF or a bare LF ends a line, and nothing else ends it; a
  line of blanks only is a continuation (RFC 5322 §4.2). So fields put in front never move the end;
- a line inside it that is neither a field nor a continuation (8-bit or a blank in the name, no
  colon, mbox's "From ") is kept but belongs to no field.

Where a name stands more than once, the first field counts (H32).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Final

import msgspec

HEADER_OCTETS_MAX: Final = 256 * 1024
FIELD_OCTETS_MAX: Final = 100 * 1024
FIELDS_MAX: Final = 1_000
_WINDOW_OCTETS: Final = 4096
"""Searched for the empty line at first; most header sections fit."""

# Field names are 33-126 without the colon; blanks in front of the colon are the obsolete syntax
# (RFC 5322 §3.6.8, §4.5).
_FIELD: Final = re.compile(
    rb"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)", re.MULTILINE
)
_BLANK_LINE: Final = re.compile(rb"^[ \t]++\r?$", re.MULTILINE)


class Field(msgspec.Struct, frozen=True, gc=False):
    """One header field as offsets into the octets it was read from."""

    name: bytes
    """In lower case."""
    start: int
    value_start: int
    """Behind the colon."""
    end: int
    """Behind the line end of its last line."""


class HeaderSection:
    """The fields of one header section, with the octets they stand in.

    `start` to `end` is the section without its empty line, `body` is where the body begins. Only
    the first `HEADER_OCTETS_MAX` octets and `FIELDS_MAX` fields are read as fields; `exceeded`
    tells whether there was more.
    """

    __slots__ = ("_first", "body", "end", "fields", "octets", "start")

    def __init__(self, octets: bytes, start: int, end: int, body: int, fields: list[Field]) -> None:
        self.octets = octets
        self.start = start
        self.end = end
        self.body = body
        self.fields = fields
        self._first = {field.name: field for field in reversed(fields)}

    def __contains__(self, name: bytes) -> bool:
        return name in self._first

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Whether a field of one of those (lower-case) names is there."""
        return not names.isdisjoint(self._first)

    def raw(self, name: bytes) -> bytes | None:
        """The octets behind the colon of the first field of that (lower-case) name, as they are,
        cut to `FIELD_OCTETS_MAX`."""
        field = self._first.get(name)
        return None if field is None else self.value(field)

    def first(self, name: bytes) -> bytes | None:
        """The unfolded value of the first field of that (lower-case) name."""
        field = self._first.get(name)
        return None if field is None else unfold(self.value(field))

    def every(self, name: bytes) -> list[bytes]:
        """The unfolded values of all fields of that (lower-case) name, in order."""
        return [unfold(self.value(field)) for field in self.fields if field.name == name]

    def count(self, name: bytes) -> int:
        return sum(field.name == name for field in self.fields)

    @property
    def is_cut(self) -> bool:
        """There may be fields in it that are not read."""
        return len(self.fields) >= FIELDS_MAX or self.end - self.start > HEADER_OCTETS_MAX

    @property
    def has_stray_lines(self) -> bool:
        """Not all of it is fields that are read, each in lines that end as lines do. At a line that
        is neither a field nor a continuation, or is blanks only, the body begins for some readers,
        and at a bare CR a field: they see another message (H34)."""
        octets, start, end = self.octets, self.start, self.end
        if sum(field.end - field.start for field in self.fields) != end - start:
            return True
        if octets.count(b"\r", start, end) != octets.count(b"\r\n", start, end):
            return True
        return _BLANK_LINE.search(octets, start, end) is not None

    def value(self, field: Field) -> bytes:
        start, end = field.value_start, field.end
        if end - start > FIELD_OCTETS_MAX:
            end = start + FIELD_OCTETS_MAX
        return self.octets[start:end]


def header_end(octets: bytes, start: int = 0, stop: int | None = None) -> int:
    """Where the header section that begins at `start` ends: the offset of its empty line, or
    `stop` (the end of the octets) when there is none (H34)."""
    if stop is None:
        stop = len(octets)
    if octets.startswith((b"\r\n", b"\n"), start, stop):
        return start
    # In windows: where all lines end in one way, the other is not looked for up to the end of the
    # octets for each of ten thousand parts.
    window = _WINDOW_OCTETS
    while True:
        edge = min(start + window, stop)
        crlf = octets.find(b"\n\r\n", start, edge)
        lf = octets.find(b"\n\n", start, edge if crlf < 0 else crlf + 1)
        at = crlf if lf < 0 else lf
        if at >= 0:
            return at + 1
        if edge == stop:
            return stop
        start = edge - 2  # an empty line may lie across the edge
        window *= 4


def body_start(octets: bytes, end: int, stop: int | None = None) -> int:
    """Where the body begins when the header section ended at `end`: behind its empty line."""
    if stop is None:
        stop = len(octets)
    if octets.startswith(b"\r\n", end, stop):
        return end + 2
    return end + octets.startswith(b"\n", end, stop)


def read_section(
    octets: bytes, start: int = 0, stop: int | None = None, *, times: int = 1
) -> HeaderSection:
    """Read the header section of the message or body part that begins at `start`.

    Args:
        times: as many times the bounds are read, for a section that says its fields twice.
    """
    end = header_end(octets, start, stop)
    return section_between(octets, start, end, body_start(octets, end, stop), times=times)


def section_between(
    octets: bytes, start: int, end: int, body: int, *, times: int = 1
) -> HeaderSection:
    """As `read_section`, for a scanner that knows the ends already."""
    limit = min(end, start + times * HEADER_OCTETS_MAX)
    # A section that begins inside the octets has a line end in front, so "^" matches there too.
    fields = [
        Field(match[1].lower(), match.start(), match.start(2), match.end())
        for match in islice(_FIELD.finditer(octets, start, limit), times * FIELDS_MAX)
    ]
    return HeaderSection(octets, start, end, body, fields)


def first(octets: bytes, name: bytes) -> bytes | None:
    """The unfolded value of one field; for more than one, keep `read_section`'s answer."""
    return read_section(octets).first(name)


def unfold(value: bytes) -> bytes:
    """The value on one line (RFC 5322 §2.2.3): line ends go, the blanks behind them stay."""
    value = value.strip(b" \t\r\n")
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return value


# --- what reception refuses ---


class HeaderLimit(Enum):
    """A bound on header sections, named as its setting."""

    HEADER_OCTETS = "message.header_octets_max"
    FIELD_OCTETS = "message.field_octets_max"
    FIELDS = "message.fields_max"


class LimitExceeded(msgspec.Struct, frozen=True):
    limit: HeaderLimit
    observed: int
    """At least: counting stops soon behind the bound."""


def exceeded(
    section: HeaderSection,
    *,
    header_octets_max: int = HEADER_OCTETS_MAX,
    field_octets_max: int = FIELD_OCTETS_MAX,
    fields_max: int = FIELDS_MAX,
) -> LimitExceeded | None:
    """The first bound the section is over, or None (H26, H27).

    Settings above the defaults do not make readers look further, so they are bounds on what is
    let in, not on what is understood.
    """
    octets = section.end - section.start
    if octets > header_octets_max:
        return LimitExceeded(HeaderLimit.HEADER_OCTETS, octets)
    longest = max((field.end - field.start for field in section.fields), default=0)
    if longest > field_octets_max:
        return LimitExceeded(HeaderLimit.FIELD_OCTETS, longest)
    count = len(section.fields)
    if count >= min(fields_max, FIELDS_MAX):
        matches = _FIELD.finditer(section.octets, section.start, section.end)
        count = sum(1 for _ in islice(matches, fields_max + 1))
    if count > fields_max:
        return LimitExceeded(HeaderLimit.FIELDS, count)
    return None


def has_nul(section: HeaderSection) -> bool:
    """Whether a NUL stands in the header section (RFC 5322 §2.2 allows none)."""
    return section.octets.find(b"\0", section.start, section.end) >= 0


class FromFault(Enum):
    """What port 25 does not take about From (RFC 5322 §3.6); the value is the reply's text."""

    MISSING = "the message has no From field"
    SEVERAL = "the message has more than one From field"


def from_fault(section: HeaderSection) -> FromFault | None:
    """H33: exactly one From field, so that everybody judges and shows the same author."""
    count = section.count(b"from")
    if count == 1:
        return None
    return FromFault.SEVERAL if count else FromFault.MISSING


# --- putting fields in front, taking fields out ---


def prepend(octets: bytes, fields: Iterable[bytes]) -> bytes:
    """New octets with whole fields (made by `build`) in front; what was received stays as it is."""
    return b"".join((*fields, octets))


def without(section: HeaderSection, names: frozenset[bytes]) -> bytes:
    """The octets of a message without its fields of those lower-case names, for what submission
    takes away (Bcc) before the message is anybody's."""
    octets, kept, at = section.octets, [], 0
    for field in section.fields:
        if field.name in names:
            kept.append(octets[at : field.start])
            at = field.end
    return octets if not at else b"".join((*kept, octets[at:]))


@lru_cache(maxsize=512)
def _selector(names: frozenset[bytes]) -> re.Pattern[bytes]:
    alternatives = b"|".join(re.escape(name) for name in sorted(names))
    return re.compile(
        rb"^(?:" + alternatives + rb")[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z)",
        re.MULTILINE | re.IGNORECASE,
    )


def header_fields(
    octets: bytes, start: int, end: int, names: frozenset[bytes], *, negate: bool = False
) -> bytes:
    """The fields of those names (or of all others), as they are, and an empty line behind them.

    For HEADER.FIELDS and HEADER.FIELDS.NOT (RFC 3501 §6.4.5). `start` to `end` is a header
    section without its empty line. Several fields of one name are all given.
    """
    if not names:
        chosen = octets[start:end] if negate else b""
    elif negate:
        chosen = _selector(names).sub(b"", octets[start:end])
    else:
        chosen = b"".join(_selector(names).findall(octets, start, end))
    if chosen and not chosen.endswith(b"\n"):
        chosen += b"\r\n"
    return chosen + b"\r\n"
