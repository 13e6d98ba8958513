"""Which octets DKIM hashes: canonicalization of header fields and bodies (RFC 6376 §3.4).

Everything works on whole buffers and in time linear in their size. A body that is canonical
already, as base64 lines are, is hashed where it lies.

The octets are taken as they were received. In a body only CRLF ends a line: a bare LF or CR is an
octet like any other, neither a line end nor white space, so whoever changes one into CRLF breaks
the signature. In the header section a bare LF ends a line, because it does so for every reader here
(`message.fields`, H34): else a signature could cover one field where everybody else sees two. There
the line end behind a field counts as CRLF, as RFC 6376 §3.7 asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.message.fields import Field, HeaderSection

if TYPE_CHECKING:
    from hashlib import _Hash

CRLF: Final = b"\r\n"
_EMPTY_LINES: Final = tuple(CRLF * (size // 2) for size in (65_536, 4096, 256, 16, 2))
"""Looked for at the end of a body, the long ones first."""
_LONG_EMPTY: Final = _EMPTY_LINES[0]
_TABS: Final = bytes.maketrans(b"\t", b" ")
_RUN: Final = re.compile(b"  +")
_COPIED_OCTETS_MAX: Final = 8192
"""Up to here a copy costs less than not making one."""
_HALVINGS: Final = 5
"""Times that blanks are replaced two by one before the expression does the rest: that is several
times quicker for short runs, and the expression for long ones."""


class Canonicalization(Enum):
    SIMPLE = "simple"
    RELAXED = "relaxed"


# --- header fields ---


def relaxed_value(value: bytes) -> bytes:
    """A value of a header field, with or without its line end (RFC 6376 §3.4.2)."""
    if b"\n" in value:
        # Any LF in here is part of a fold or ends the field, by the rule of `message.fields`.
        value = value.replace(CRLF, b"").replace(b"\n", b"")
    if b"\t" in value or b"  " in value:
        value = _one_blank(value)
    return value.strip(b" ")


def _is_plain(octets: bytes, start: int, end: int) -> bool:
    """Whether all white space in these fields is blanks and line ends, so that `bytes.split`, the
    quickest way to relax a value by far, is right."""
    if octets.find(b"\x0b", start, end) >= 0 or octets.find(b"\x0c", start, end) >= 0:
        return False
    return octets.count(b"\r", start, end) == octets.count(CRLF, start, end)


def _one_blank(octets: bytes) -> bytes:
    """Each run of blanks as one SP."""
    if b"\t" in octets:
        octets = octets.translate(_TABS)
    for _ in range(_HALVINGS):
        shorter = octets.replace(b"  ", b" ")
        if len(shorter) == len(octets):
            return octets
        octets = shorter
    return _RUN.sub(b" ", octets)


def without_line_end(octets: bytes) -> bytes:
    if octets.endswith(CRLF):
        return octets[:-2]
    return octets[:-1] if octets.endswith(b"\n") else octets


_FIRST_B: Final = re.compile(rb"[ \t\r\n]*+b[ \t\r\n]*+=([^;]*+)")
_LATER_B: Final = re.compile(rb";[ \t\r\n]*+b[ \t\r\n]*+=([^;]*+)")


def without_b(value: bytes) -> bytes:
    """The value of a signature field with the value of b= deleted, as it is hashed (RFC 6376 §3.7);
    everything else stays as it is. For values that `read_tags` took and that have a b=."""
    found = _LATER_B.search(value) or _FIRST_B.match(value)
    return value if found is None else value[: found.start(1)] + value[found.end(1) :]


class Fields:
    """The fields of a header section as signatures choose them; each is put into canonical form
    once, however many signatures cover it. `places` has the indexes of the fields of each name."""

    __slots__ = ("_is_plain", "_relaxed", "_simple", "octets", "places", "section")

    def __init__(self, section: HeaderSection) -> None:
        self.section = section
        self.octets = section.octets
        places: dict[bytes, list[int]] = {}
        for at, field in enumerate(section.fields):
            places.setdefault(field.name, []).append(at)
        self.places = places
        self._is_plain = _is_plain(section.octets, section.start, section.end)
        self._relaxed: dict[int, bytes] = {}
        self._simple: dict[int, bytes] = {}

    def canonical(self, field: Field, how: Canonicalization) -> bytes:
        """One field with the CRLF behind it."""
        if how is Canonicalization.SIMPLE:
            return without_line_end(self.octets[field.start : field.end]) + CRLF
        return self._relaxed_field(field, self.octets[field.value_start : field.end]) + CRLF

    def _relaxed_field(self, field: Field, value: bytes) -> bytes:
        if self._is_plain:
            return b"%b:%b" % (field.name, b" ".join(value.split()))
        return b"%b:%b" % (field.name, relaxed_value(value))

    def own(self, field: Field, how: Canonicalization) -> bytes:
        """A signature field as its own signature covers it (RFC 6376 §3.7): without the value of b=
        and without a line end."""
        value = without_b(self.octets[field.value_start : field.end])
        if how is Canonicalization.SIMPLE:
            return self.octets[field.start : field.value_start] + without_line_end(value)
        return self._relaxed_field(field, value)

    def chosen(
        self, names: Iterable[bytes], how: Canonicalization
    ) -> tuple[list[bytes], dict[bytes, int]]:
        """What `h=` covers, in its order: of several fields of a name the last one first, and
        nothing for names that stand no more (RFC 6376 §5.4.2). And of each name it covers, how many
        fields are left over. Names are in lower case."""
        octets, fields, places = self.octets, self.section.fields, self.places
        is_relaxed = how is Canonicalization.RELAXED
        is_quick = is_relaxed and self._is_plain
        canonical = self._relaxed if is_relaxed else self._simple
        left: dict[bytes, int] = {}
        chosen = []
        for name in names:
            stands = places.get(name)
            if stands is None:
                continue
            place = left.get(name, len(stands)) - 1
            if place < 0:
                continue
            left[name] = place
            at = stands[place]
            form = canonical.get(at)
            if form is None:
                field = fields[at]
                if is_quick:  # as `canonical`, without a call for each field of all mail
                    value = b" ".join(octets[field.value_start : field.end].split())
                    form = b"%b:%b\r\n" % (name, value)
                else:
                    form = self.canonical(field, how)
                canonical[at] = form
            chosen.append(form)
        return chosen, left


# --- bodies ---


class BodyHash(msgspec.Struct, frozen=True):
    digest: bytes
    """SHA-256."""
    octets: int
    """Of the whole canonical body; a limit above it is a fault of the signature."""


def _content_end(octets: bytes, start: int, end: int) -> int:
    """Where the empty lines at the end begin, the last line's own CRLF counted among them."""
    for lines in _EMPTY_LINES:
        while end - start >= len(lines) and octets.endswith(lines, start, end):
            end -= len(lines)
    return end


def _is_reduced(octets: bytes, start: int) -> bool:
    """Whether white space is as relaxed canonicalization leaves it."""
    if octets.find(b"\t", start) >= 0:
        return False
    if octets.find(b" ", start) < 0:
        return True
    # From the end, which takes half the time here.
    return (
        octets.rfind(b"  ", start) < 0
        and octets.rfind(b" \r\n", start) < 0
        and not octets.endswith(b" ")
    )


def _reduced(octets: bytes) -> bytes:
    """RFC 6376 §3.4.4 step (a); the end of the octets ends a line."""
    octets = _one_blank(octets)
    if octets.endswith(b" "):
        octets = octets[:-1]
    return octets.replace(b" \r\n", CRLF)


def hash_body(
    octets: bytes, start: int, how: Canonicalization, limits: Sequence[int | None] = (None,)
) -> dict[int | None, BodyHash]:
    """The hash of the body that begins at `start`, for each limit (`l=`), in one pass."""
    if how is Canonicalization.RELAXED and not _is_reduced(octets, start):
        octets, start = _reduced(octets[start:]), 0
    end = _content_end(octets, start, len(octets))
    # An empty body is a CRLF in simple (§3.4.3) and nothing in relaxed canonicalization (§3.4.4).
    last = CRLF if end > start or how is Canonicalization.SIMPLE else b""
    size = end - start + len(last)
    if limits == (None,):
        if last and octets.startswith(CRLF, end):  # where it lies already, as nearly always
            end, last = end + 2, b""
        if size < _COPIED_OCTETS_MAX:
            state = sha256(octets[start:end] + last)
        else:
            with memoryview(octets) as view:
                state = sha256(view[start:end])
            state.update(last)
        return {None: BodyHash(state.digest(), size)}
    return _hash_to_limits(octets[start:end], last, limits)


def _hash_to_limits(
    content: bytes, last: bytes, limits: Sequence[int | None]
) -> dict[int | None, BodyHash]:
    size = len(content) + len(last)
    found = {}
    state, done = sha256(), 0
    with memoryview(content) as view:
        for limit in sorted({size if limit is None else min(limit, size) for limit in limits}):
            state.update(view[done:limit])
            if limit > len(content):
                state.update(last[max(0, done - len(content)) : limit - len(content)])
            done = limit
            found[limit] = BodyHash(state.digest(), size)
    return {limit: found[size if limit is None else min(limit, size)] for limit in limits}


class BodyHasher:
    """The same hash, of a body that comes in pieces."""

    def __init__(self, how: Canonicalization, limit: int | None = None) -> None:
        self._is_relaxed = how is Canonicalization.RELAXED
        self._limit = limit
        self._state: _Hash = sha256()
        self._octets = 0
        self._lines = 0
        """Line ends seen since the last content; they count once more content comes."""
        self._held = b""
        """"" or " ", and a CR behind it: what the next octet decides about."""

    def update(self, chunk: bytes) -> None:
        octets = self._held + chunk
        held = b""
        if octets.endswith(b"\r"):
            octets, held = octets[:-1], b"\r"
        if self._is_relaxed:
            octets = _one_blank(octets).replace(b" \r\n", CRLF)
            if octets.endswith(b" "):
                octets, held = octets[:-1], b" " + held
        self._held = held
        self._take(octets)

    def _take(self, octets: bytes) -> None:
        end = _content_end(octets, 0, len(octets))
        if end:
            self._empty_lines()
            self._hash(octets[:end])
        self._lines += (len(octets) - end) // 2

    def _empty_lines(self) -> None:
        many, few = divmod(self._lines * 2, len(_LONG_EMPTY))
        for _ in range(many):
            self._hash(_LONG_EMPTY)
        self._hash(_LONG_EMPTY[:few])
        self._lines = 0

    def _hash(self, octets: bytes) -> None:
        if self._limit is not None:
            self._state.update(octets[: max(0, self._limit - self._octets)])
        else:
            self._state.update(octets)
        self._octets += len(octets)

    def digest(self) -> BodyHash:
        """Ends the body; nothing more may come."""
        held = self._held if self._held.endswith(b"\r") else b""
        self._held = b""
        self._take(held)
        self._lines = 0
        if self._octets or not self._is_relaxed:
            self._hash(CRLF)
        return BodyHash(self._state.digest(), self._octets)
