"""ASN.1 octets (X.690): BER made definite in linear time, reading by fields, writing DER.

asn1crypto reads structures well, but joins the chunks of a streamed BER string in quadratic time
(six minutes for 40 MB as `openssl cms -stream` writes it, where this takes 0.2 s), refuses strings
constructed with a definite length, and parses lazily, so that what is wrong with a stranger's
octets shows up anywhere. CMS of strangers is therefore read here; nothing
but `BadStructure` is raised, and depth and the count of elements are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

DEPTH_MAX: Final = 40
ELEMENTS_MAX: Final = 200_000
"""Of one structure; 200 MB in the chunks of 1024 octets that OpenSSL streams."""
INTEGER_OCTETS_MAX: Final = 2048
OID_OCTETS_MAX: Final = 64
TIME_TEXT: Final = re.compile(rb"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z")

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
ENUMERATED: Final = 0x0A
UTF8_STRING: Final = 0x0C
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONSTRUCTED: Final = 0x20
_HIGH_TAG: Final = 0x1F
_INDEFINITE: Final = 0x80
_MERGED: Final = frozenset({0x24})  # OCTET STRINGs, the only strings that anybody streams


class BadStructure(ValueError):
    """Octets are not what they should be; `str()` says in a few words what was met."""


def context(number: int, *, is_constructed: bool = True) -> int:
    """The identifier octet of a context-specific tag."""
    return 0x80 | number | (CONSTRUCTED if is_constructed else 0)


# --- reading ---


class Element:
    """One value: its identifier octet, its content, and both as they stand."""

    __slots__ = ("content", "identifier", "whole")

    def __init__(self, identifier: int, content: bytes, whole: bytes) -> None:
        self.identifier = identifier
        self.content = content
        self.whole = whole


def _header(octets: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Identifier, where the content begins, and its length; -1 for an indefinite one."""
    if at + 2 > end:
        raise BadStructure("it ends in the middle")
    identifier, length = octets[at], octets[at + 1]
    at += 2
    if identifier & _HIGH_TAG == _HIGH_TAG:
        raise BadStructure("a tag of more than one octet")
    if length == _INDEFINITE:
        if not identifier & CONSTRUCTED:
            raise BadStructure("a simple value without a length")
        return identifier, at, -1
    if length > _INDEFINITE:
        count = length & 0x7F
        if count > 8 or at + count > end:
            raise BadStructure("a length that cannot be")
        length = int.from_bytes(octets[at : at + count], "big")
        at += count
    if at + length > end:
        raise BadStructure("it ends in the middle")
    return identifier, at, length


def elements(octets: bytes, *, count_max: int = ELEMENTS_MAX) -> list[Element]:
    """The definite values that follow each other in some octets.

    Raises:
        BadStructure: they are not values, or more than `count_max`.
    """
    found: list[Element] = []
    at, end = 0, len(octets)
    while at < end:
        identifier, begin, length = _header(octets, at, end)
        if length < 0:
            raise BadStructure("a length that is not definite")
        if len(found) == count_max:
            raise BadStructure(f"more than {count_max} values in one place")
        stop = begin + length
        found.append(Element(identifier, octets[begin:stop], octets[at:stop]))
        at = stop
    return found


def element(octets: bytes, identifier: int) -> Element:
    """The one value that some octets are."""
    found = elements(octets, count_max=1)
    if len(found) != 1 or found[0].identifier != identifier:
        raise BadStructure("another value than it should be")
    return found[0]


class Fields:
    """The values of a SEQUENCE, taken in their order."""

    def __init__(self, octets: bytes, *, count_max: int = ELEMENTS_MAX) -> None:
        self._values = elements(octets, count_max=count_max)
        self._at = 0

    @classmethod
    def of(cls, sequence: bytes) -> Fields:
        """Those of a SEQUENCE given with its header."""
        return cls(element(sequence, SEQUENCE).content)

    def take(self, *identifiers: int) -> Element:
        """The next value, which has to be of one of these tags (of any, when none is given)."""
        if self._at == len(self._values):
            raise BadStructure("a field is missing")
        value = self._values[self._at]
        if identifiers and value.identifier not in identifiers:
            raise BadStructure("a field of another type than it should be")
        self._at += 1
        return value

    def take_if(self, *identifiers: int) -> Element | None:
        """The next value when it is of one of these tags."""
        if self._at < len(self._values) and self._values[self._at].identifier in identifiers:
            return self.take()
        return None

    def rest(self) -> list[Element]:
        left = self._values[self._at :]
        self._at = len(self._values)
        return left


def definite(octets: bytes) -> bytes:
    """The first BER value in some octets with definite lengths and OCTET STRINGs in one piece.

    What is DER already stays octet for octet, so signatures inside stay good. A context-specific
    value may be an implicit string in chunks, which only its reader can know: `string` joins it.

    Raises:
        BadStructure: no whole value, or past one of the bounds.
    """
    return _Walk(octets).value()


class _Open:
    """A constructed value whose end has not been reached."""

    __slots__ = ("end", "has_changed", "identifier", "limit", "pieces", "start")

    def __init__(self, identifier: int, start: int, end: int, limit: int) -> None:
        self.identifier = identifier
        self.start = start
        self.end = end  # -1: where its end-of-contents is
        self.limit = limit  # where it ends at the latest
        self.has_changed = end < 0 or identifier in _MERGED
        self.pieces: list[bytes] = []


class _Walk:
    """Goes once over the octets, with a stack in place of recursion."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._stack: list[_Open] = []
        self._result: bytes | None = None

    def value(self) -> bytes:
        octets, stack, at = self._octets, self._stack, 0
        for _ in range(ELEMENTS_MAX):
            at = self._close(at)
            if self._result is not None:
                return self._result
            limit = stack[-1].limit if stack else len(octets)
            identifier, begin, length = _header(octets, at, limit)
            if identifier & CONSTRUCTED:
                if len(stack) == DEPTH_MAX:
                    raise BadStructure(f"values nested more than {DEPTH_MAX} deep")
                end = begin + length if length >= 0 else -1
                stack.append(_Open(identifier, at, end, limit if end < 0 else end))
                at = begin
            else:
                self._add(octets[at : begin + length], octets[begin : begin + length])
                at = begin + length
        raise BadStructure(f"more than {ELEMENTS_MAX} values")

    def _close(self, at: int) -> int:
        """End all values that end here; where the next one begins."""
        while self._stack and self._result is None:
            last = self._stack[-1]
            if last.end < 0:
                if self._octets[at : at + 2] != b"\0\0":
                    break
                at += 2
            elif at != last.end:
                break
            self._stack.pop()
            self._finish(last, at)
        return at

    def _finish(self, done: _Open, at: int) -> None:
        if not done.has_changed:
            self._add(self._octets[done.start : at], b"")
            return
        content = b"".join(done.pieces)
        is_merged = done.identifier in _MERGED
        if self._stack:
            self._stack[-1].has_changed = True
        if is_merged and self._stack and self._stack[-1].identifier in _MERGED:
            self._stack[-1].pieces.append(content)
            return
        identifier = OCTET_STRING if is_merged else done.identifier
        whole = tlv(identifier, content)
        self._add(whole, content)

    def _add(self, whole: bytes, content: bytes) -> None:
        if not self._stack:
            self._result = whole
            return
        parent = self._stack[-1]
        if parent.identifier in _MERGED:
            if whole[0] != OCTET_STRING:
                raise BadStructure("a string made of other things than strings")
            parent.pieces.append(content)
        else:
            parent.pieces.append(whole)


def string(value: Element) -> bytes:
    """The octets of an implicitly tagged OCTET STRING, which may be in chunks (of a structure that
    is definite already)."""
    if not value.identifier & CONSTRUCTED:
        return value.content
    chunks = elements(value.content)
    if any(chunk.identifier != OCTET_STRING for chunk in chunks):
        raise BadStructure("a string made of other things than strings")
    return b"".join(chunk.content for chunk in chunks)


def integer(value: Element) -> int:
    if not 0 < len(value.content) <= INTEGER_OCTETS_MAX:
        raise BadStructure("a number that cannot be")
    return int.from_bytes(value.content, "big", signed=True)


def small(value: Element) -> int:
    """A number that is used as such: up to 31 bits, not negative."""
    found = integer(value)
    if not 0 <= found < 1 << 31:
        raise BadStructure("a number that cannot be")
    return found


@lru_cache(maxsize=1024)
def dotted(content: bytes) -> str:
    """An object identifier as text, from its content octets."""
    if not 0 < len(content) <= OID_OCTETS_MAX or content[-1] & 0x80:
        raise BadStructure("an object identifier that cannot be")
    numbers: list[int] = []
    number = 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def moment(value: Element) -> datetime:
    """A UTCTime or GeneralizedTime in the form DER demands (RFC 5652 §11.3): seconds, "Z"."""
    match = TIME_TEXT.fullmatch(value.content)
    is_short = value.identifier == UTC_TIME
    if match is None or len(match[1]) != (2 if is_short else 4):
        raise BadStructure("a time that cannot be")
    year, *rest = (int(group) for group in match.groups())
    if is_short:
        year += 1900 if year >= 50 else 2000
    try:
        return datetime(year, *rest, tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        raise BadStructure("a time that cannot be") from None


# --- writing ---


def tlv(identifier: int, content: bytes) -> bytes:
    size = len(content)
    if size < _INDEFINITE:
        return bytes((identifier, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((identifier, _INDEFINITE | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, b"".join(parts))


def set_of(parts: Iterable[bytes], *, identifier: int = SET) -> bytes:
    """In the order of DER (X.690 §11.6)."""
    return tlv(identifier, b"".join(sorted(parts)))


def number(value: int) -> bytes:
    bits = (value if value >= 0 else ~value).bit_length()
    return tlv(INTEGER, value.to_bytes(bits // 8 + 1, "big", signed=True))


@lru_cache(maxsize=256)
def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    content = bytearray()
    for value in (first * 40 + second, *rest):
        septets = [value & 0x7F]
        while value := value >> 7:
            septets.append(value & 0x7F | 0x80)
        content += bytes(reversed(septets))
    return tlv(OID, bytes(content))


def octet_string(octets: bytes) -> bytes:
    return tlv(OCTET_STRING, octets)


def time(value: datetime) -> bytes:
    """UTCTime through 2049, GeneralizedTime from 2050 (RFC 5652 §11.3)."""
    value = value.astimezone(UTC)
    if 1950 <= value.year < 2050:
        return tlv(UTC_TIME, value.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(GENERALIZED_TIME, value.strftime("%Y%m%d%H%M%SZ").encode().rjust(15, b"0"))


NULL_VALUE: Final = b"\x05\0"
