"""DNS octets: names, questions and resource records (RFC 1035 §3, §4), bounded and linear.

Written by hand although dnspython is there: it takes 12 s for a 64 KiB answer of MX records whose
names are compressed chains of 127 labels, and anybody with a domain can send us that. Here a name
is decoded once for each octet it may begin at. dnspython is the oracle of the tests.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from posthouse.kernel.errors import PosthouseError

HEADER_OCTETS: Final = 12
LABEL_OCTETS_MAX: Final = 63
NAME_OCTETS_MAX: Final = 255
"""With all length octets and the root's (RFC 1035 §3.1)."""
CLASS_IN: Final = 1
OPT: Final = 41
_POINTER: Final = 0xC0
_TTL_TOP: Final = 1 << 31

_PLAIN_LABEL: Final = re.compile(rb"[A-Za-z0-9_-]+\Z")
_ESCAPED: Final = re.compile(r"\\([0-9]{3})|\\(.)", re.DOTALL)
_ESCAPE_ALSO: Final = frozenset(b'"().;\\@$')


class BadName(PosthouseError):
    """A name that cannot be asked for: an empty or overlong label, or more than 255 octets."""


class Malformed(PosthouseError):
    """Octets that are no DNS message."""


class Record(msgspec.Struct, frozen=True):
    """One resource record. The data lies at `start` up to `end` of the message: its names may be
    compressed against the rest."""

    name: str
    type: int
    rdclass: int
    ttl: int
    start: int
    end: int


def name_octets(name: str) -> bytes:
    """A name as an uncompressed sequence of labels.

    Raises:
        BadName: no server needs to be asked.
    """
    try:
        labels = _labels(name)
    except ValueError as error:
        raise BadName(f"{name[:NAME_OCTETS_MAX]!r} cannot be a domain name") from error
    if any(not 0 < len(label) <= LABEL_OCTETS_MAX for label in labels):
        raise BadName(f"{name[:NAME_OCTETS_MAX]!r} has an empty or overlong label")
    octets = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(octets) > NAME_OCTETS_MAX:
        raise BadName(f"{name[:NAME_OCTETS_MAX]!r} is longer than {NAME_OCTETS_MAX} octets")
    return octets


def _labels(name: str) -> list[bytes]:
    """Without the root's. Raises ValueError, of which UnicodeEncodeError is a kind."""
    if name in ("", "."):
        return []
    if "\\" not in name:
        return [label.encode("ascii") for label in name.removesuffix(".").split(".")]
    labels: list[bytes] = []
    octets, begin = bytearray(), 0
    for match in _ESCAPED.finditer(name):  # RFC 1035 §5.1
        _collect(name[begin : match.start()], octets, labels)
        octets += bytes((int(match[1]),)) if match[1] else match[2].encode("ascii")
        begin = match.end()
    _collect(name[begin:], octets, labels)
    if octets or not labels:  # else the name ended with its dot
        labels.append(bytes(octets))
    return labels


def _collect(text: str, octets: bytearray, labels: list[bytes]) -> None:
    first, *others = text.split(".")
    octets += first.encode("ascii")
    for other in others:
        labels.append(bytes(octets))
        octets[:] = other.encode("ascii")


def label_text(label: bytes) -> str:
    """Lower case; octets that a name in text could not hold are escaped (RFC 1035 §5.1)."""
    if _PLAIN_LABEL.match(label):
        return label.decode("ascii").lower()
    return "".join(
        f"\\{chr(octet)}"
        if octet in _ESCAPE_ALSO
        else chr(octet).lower()
        if 0x20 < octet < 0x7F
        else f"\\{octet:03}"
        for octet in label
    )


class Reader:
    """Reads one message from front to back. Every method raises Malformed."""

    __slots__ = ("_known", "_octets", "position")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._known: dict[int, tuple[str, int]] = {}
        self.position = HEADER_OCTETS

    def number(self, octets: int) -> int:
        """An unsigned number of so many octets."""
        return int.from_bytes(self.take(octets))

    def take(self, octets: int) -> bytes:
        end = self.position + octets
        if end > len(self._octets):
            raise Malformed("the message ends too soon")
        taken = self._octets[self.position : end]
        self.position = end
        return taken

    def question(self) -> tuple[str, int, int]:
        """Name, type, class."""
        return self.name(), self.number(2), self.number(2)

    def record(self) -> Record:
        name, rdtype, rdclass = self.question()
        ttl = self.number(4)
        start = self.position + 2
        self.position = start + self.number(2)
        if self.position > len(self._octets):
            raise Malformed("a record is longer than the message")
        # A TTL with its top bit set means 0 (RFC 2181 §8); OPT keeps flags there.
        if ttl >= _TTL_TOP and rdtype != OPT:
            ttl = 0
        return Record(name, rdtype, rdclass, ttl, start, self.position)

    def name(self) -> str:
        """A name, in lower case without the final dot, "" for the root (RFC 1035 §4.1.4)."""
        parts: list[tuple[int, str, int]] = []  # where, label ("" for a pointer), its octets
        at = segment = self.position
        after: int | None = None  # where reading goes on, known at the first pointer
        tail: tuple[str, int] | None = None
        while tail is None:
            length = self._octet(at)
            if length == 0:
                tail = ("", 1)
                after = at + 1 if after is None else after
            elif length >= _POINTER:
                after = at + 2 if after is None else after
                parts.append((at, "", 0))
                at = (length & 0x3F) << 8 | self._octet(at + 1)
                if not HEADER_OCTETS <= at < segment:  # always backwards, so it ends
                    raise Malformed("a pointer that does not point back")
                segment = at
                tail = self._known.get(at)
            elif length > LABEL_OCTETS_MAX:
                raise Malformed("a label of an unknown kind")
            else:
                label = self._octets[at + 1 : at + 1 + length]
                parts.append((at, label_text(label), length + 1))
                at += 1 + length
                tail = None if after is None else self._known.get(at)
        assert after is not None
        self.position = after
        return self._remember(parts, *tail)

    def _remember(self, parts: list[tuple[int, str, int]], text: str, size: int) -> str:
        """Join the labels from the last one, keeping the name that begins at each of them."""
        if size + sum(octets for _, _, octets in parts) > NAME_OCTETS_MAX:
            raise Malformed("a name longer than 255 octets")
        for where, label, octets in reversed(parts):
            size += octets
            if label:
                text = f"{label}.{text}" if text else label
            self._known[where] = (text, size)
        return text

    def _octet(self, at: int) -> int:
        if at >= len(self._octets):
            raise Malformed("a name runs past the message")
        return self._octets[at]
