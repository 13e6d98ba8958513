"""The MIME structure of a message as offsets into its octets (RFC 2045, RFC 2046).

`scan` is the one MIME parser: IMAP's BODYSTRUCTURE and sections, search, previews and filters all
read its tree, so that none sees another message than the others (H32). It never raises, never
recurses, and takes time linear in the octets whatever the boundaries are (H28).
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Iterator
from typing import Final

from posthouse.message import words
from posthouse.message.fields import (
    HeaderSection,
    body_start,
    header_end,
    read_section,
    section_between,
)
from posthouse.message.parameters import Parameters, parse_disposition, parse_type
from posthouse.message.search import find_marker

DEPTH_MAX: Final = 100
"""`mime.depth_max`: what is deeper is one opaque leaf."""
PARTS_MAX: Final = 10_000
"""`mime.parts_max`: the last part holds all the rest."""
BOUNDARY_OCTETS_MAX: Final = 200
"""`mime.boundary_octets_max`; RFC 2046 §5.1.1 allows 70."""
STRAY_LINES_MAX: Final = 1_000_000
"""Lines that begin as a delimiter would and are none; behind so many nothing is divided."""
_STRAY_LINES_HOPS: Final = STRAY_LINES_MAX - 200  # left; behind so many hops are in vain

_DELIMITER_OCTETS_MAX: Final = BOUNDARY_OCTETS_MAX + 56  # with "--" and blanks behind it
UUENCODED: Final = frozenset({b"x-uuencode", b"uuencode", b"x-uue", b"uue"})
"""Transfer encodings that no standard has and old mail does."""
_UU_BEGIN: Final = re.compile(rb"(?:\A|\n)begin [0-7]{3,4} [^\n]*\n")
_FIRST_LINE: Final = re.compile(rb"[!-9;-~]++[ \t]*+:|\r?\n|\Z")
_PLAIN_PARAMETERS: Final = Parameters(((b"charset", b"us-ascii"),))  # RFC 2045 §5.2
_NO_PARAMETERS: Final = Parameters()
# Parameters of a type that decide what is seen of it, or what its layer is.
_DECIDING: Final = (b"boundary", b"protocol", b"smime-type")
# What is made of parts has none but these (RFC 2045 §6.4), in whatever spelling.
_AS_IT_IS: Final = frozenset({b"7bit", b"8bit", b"binary", b"7-bit", b"8-bit", b""})


class Part:
    """One body part, or the message itself.

    The part's octets are `start` to `end`: its header section to `section.end`, its body from
    `body`. The line end in front of the next delimiter belongs to the delimiter (RFC 2046 §5.1.1).
    """

    __slots__ = (
        "body",
        "children",
        "end",
        "is_cut",
        "is_opaque",
        "maintype",
        "message",
        "parameters",
        "section",
        "start",
        "subtype",
    )

    def __init__(self, section: HeaderSection, end: int, *, is_in_digest: bool = False) -> None:
        self.section = section
        self.start = section.start
        self.body = section.body
        self.end = end
        self.children: list[Part] = []
        """Of a multipart."""
        self.message: Part | None = None
        """Of a message/rfc822: the message in it."""
        self.is_opaque = False
        """It may hold parts, but they are not divided: too deep, no boundary, no delimiter."""
        self.is_cut = False
        """Behind its last part, or in it, there may be more that were not looked for: `parts_max`,
        `STRAY_LINES_MAX`."""
        value = section.first(b"content-type")
        parsed = None if value is None else parse_type(value)
        if parsed is not None:
            self.maintype, self.subtype, self.parameters = parsed
        elif value is None and is_in_digest:  # RFC 2046 §5.1.5
            self.maintype, self.subtype, self.parameters = b"message", b"rfc822", _NO_PARAMETERS
        else:
            self.maintype, self.subtype, self.parameters = b"text", b"plain", _PLAIN_PARAMETERS

    @property
    def is_multipart(self) -> bool:
        """With parts that were found."""
        return bool(self.children)

    @property
    def size_octets(self) -> int:
        """Of the body."""
        return self.end - self.body

    @property
    def lines(self) -> int:
        """Of the body, as line ends in it."""
        return self.section.octets.count(b"\n", self.body, self.end)

    @property
    def encoding(self) -> bytes:
        """The Content-Transfer-Encoding in lower case, "7bit" for none (RFC 2045 §6.1)."""
        value = self.section.first(b"content-transfer-encoding")
        if value is None:
            return b"7bit"
        found = value.split(b"(")[0].split(b";")[0].strip().lower()
        return found[:100] or b"7bit"

    @property
    def disposition(self) -> tuple[bytes, Parameters] | None:
        value = self.section.first(b"content-disposition")
        return None if value is None else parse_disposition(value)

    @property
    def file_name(self) -> str | None:
        """The name a sender gave to it, from the disposition or else the type; never a path to
        use, only text to show."""
        disposition = self.disposition
        name = None if disposition is None else disposition[1].text(b"filename")
        return name if name is not None else self.parameters.text(b"name")

    @property
    def is_ambiguous(self) -> bool:
        """Two fields say what it is, or one says two things, and other readers may take the second
        (H32). Or it is made of parts and says that it is encoded, which some undo first
        (RFC 2045 §6.4), or not all of its parts were looked for."""
        section = self.section
        return (
            self.is_cut
            or section.count(b"content-type") > 1
            or section.count(b"content-transfer-encoding") > 1
            or any(map(self.parameters.is_doubtful, _DECIDING))
            or self._is_encoded_whole
        )

    @property
    def _is_encoded_whole(self) -> bool:
        if self.maintype != b"multipart" and not _is_message(self):
            return False
        encoding = self.section.first(b"content-transfer-encoding") or b""
        return encoding.lower() not in _AS_IT_IS

    @property
    def has_odd_delimiters(self) -> bool:
        """In this multipart are lines that begin as its delimiters and go on. They divide it for
        those who look at the beginning of a line only, as RFC 2046 §5.1.1 has it, and not here.
        Looks through all of it."""
        octets, start = self.section.octets, max(self.body - 1, 0)
        boundary = b"\n--" + (self.parameters.raw(b"boundary") or b"").rstrip(b" \t")
        ends = octets.count(boundary + b"--", start, self.end)
        return ends > 1 or octets.count(boundary, start, self.end) != len(self.children) + ends

    def own_parts(self) -> Iterator[Part]:
        """As `walk`, without what embedded messages hold: a bounce that somebody forwards makes no
        bounce of the letter."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children))

    def walk(self) -> Iterator[Part]:
        """This part and all below it, in the order of the octets."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            if part.message is not None:
                waiting.append(part.message)
            waiting.extend(reversed(part.children))


def scan(
    octets: bytes,
    *,
    section: HeaderSection | None = None,
    depth_max: int = DEPTH_MAX,
    parts_max: int = PARTS_MAX,
) -> Part:
    """The structure of a message. CRLF and bare LF both end lines.

    Args:
        section: of these octets, for one who has read it already.
    """
    root = Part(section or read_section(octets), len(octets))
    if root.maintype == b"multipart" or _is_message(root):
        _Scanner(octets, depth_max, parts_max).run(root)
    return root


def _is_message(part: Part) -> bool:
    return part.subtype == b"rfc822" and part.maintype == b"message"


class _Scanner:
    """Goes through the octets once; `_open` are the parts whose end is not known yet."""

    def __init__(self, octets: bytes, depth_max: int, parts_max: int) -> None:
        self._octets = octets
        self._depth_max = depth_max
        self._parts_left = parts_max
        self._stray_left = STRAY_LINES_MAX
        self._open: list[tuple[Part, bytes]] = []
        # Where two open multiparts have the same boundary it is the outer one's: what ends a
        # part for its parent ends it, whatever the part says of itself.
        self._depths: dict[bytes, int] = {}
        self._empty_line = -1

    def run(self, root: Part) -> None:
        at = self._enter(root)
        while (found := self._delimiter(at, len(self._octets))) is not None:
            line, behind, depth, is_last = found
            if not is_last and self._parts_left <= 0:
                self._cut()
                break
            self._close(depth + 1, line)
            parent, boundary = self._open[depth]
            if is_last:
                self._forget(depth, boundary)
                at = behind - 1
            else:
                is_in_digest = parent.subtype == b"digest"
                part = self._read_part(behind, is_in_digest=is_in_digest)
                parent.children.append(part)
                at = self._enter(part)
        if self._stray_left <= 0:
            self._cut()
        self._close(0, len(self._octets))

    def _cut(self) -> None:
        for part, _ in self._open:
            part.is_cut = True

    def _enter(self, part: Part) -> int:
        """Open a part, and the message in it; where to look for the next delimiter from."""
        while True:
            self._parts_left -= 1
            boundary = b""
            is_message = _is_message(part)
            may_divide = len(self._open) < self._depth_max - 1
            if part.maintype == b"multipart" and may_divide:
                boundary = (part.parameters.raw(b"boundary") or b"").rstrip(b" \t")
                boundary = boundary if len(boundary) <= BOUNDARY_OCTETS_MAX else b""
            if boundary:
                self._depths.setdefault(boundary, len(self._open))
            self._open.append((part, boundary))
            if not (is_message and may_divide and self._parts_left > 0):
                part.is_opaque = is_message
                return max(part.body - 1, 0)
            part.message = part = self._read_part(part.body, is_message=True)

    def _read_part(
        self, start: int, *, is_in_digest: bool = False, is_message: bool = False
    ) -> Part:
        """Read a header section, which a delimiter cuts off when no empty line comes first."""
        octets = self._octets
        start = min(start, len(octets))
        if self._empty_line < start:
            self._empty_line = header_end(octets, start)
        end = self._empty_line
        if not (is_message or _FIRST_LINE.match(octets, start)):
            # A part without its empty line is a mistake that mail has; it is all body.
            return Part(
                section_between(octets, start, start, start),
                len(octets),
                is_in_digest=is_in_digest,
            )
        cut = self._delimiter(max(start - 1, 0), end)
        body = body_start(octets, end)
        if cut is not None:
            end = body = max(cut[0] + 1, start)
        return Part(
            section_between(octets, start, end, body), len(octets), is_in_digest=is_in_digest
        )

    def _delimiter(self, at: int, stop: int) -> tuple[int, int, int, bool] | None:
        """The next delimiter line at or behind the LF at `at`: the offset of the LF in front of
        it, the offset behind the line, the depth of its multipart, and whether it is the last."""
        octets, depths = self._octets, self._depths
        while depths and self._stray_left > 0:
            if self._stray_left > _STRAY_LINES_HOPS:
                line = find_marker(octets, b"\n--", 1, at, stop)
            else:
                line = octets.find(b"\n--", at, stop)
            if line < 0:
                return None
            end = octets.find(b"\n", line + 3, line + 3 + _DELIMITER_OCTETS_MAX)
            if end < 0:
                end = len(octets) if len(octets) - line <= _DELIMITER_OCTETS_MAX else line + 3
            text = octets[line + 3 : end].rstrip(b" \t\r")
            depth = depths.get(text)
            is_last = depth is None and text.endswith(b"--")
            if is_last:
                depth = depths.get(text[:-2])
            if depth is not None:
                return line, min(end + 1, len(octets)), depth, is_last
            self._stray_left -= 1
            at = end
        return None

    def _close(self, depth: int, line: int) -> None:
        """End all parts from that depth on, in front of the line end at `line`."""
        end = line
        if line < len(self._octets) and self._octets[line - 1 : line] == b"\r":
            end = line - 1
        while len(self._open) > depth:
            part, boundary = self._open.pop()
            part.end = max(end, part.body)
            self._forget(len(self._open), boundary)
            if part.maintype == b"multipart" and not part.children:
                part.is_opaque = True

    def _forget(self, depth: int, boundary: bytes) -> None:
        if self._depths.get(boundary) == depth:
            del self._depths[boundary]


def content(part: Part, *, octets_max: int) -> bytes:
    """The first octets of a leaf's body with its transfer encoding undone; junk is skipped."""
    octets = part.section.octets
    encoding = part.encoding
    if encoding == b"base64":
        # Four digits for three octets, and a line end of two in each line of 76.
        raw = octets[part.body : min(part.end, part.body + octets_max * 3 // 2)]
        return words.base64_octets(raw)[:octets_max]
    if encoding == b"quoted-printable":
        raw = octets[part.body : min(part.end, part.body + octets_max * 3)]
        return binascii.a2b_qp(raw)[:octets_max]
    if encoding in UUENCODED:
        raw = octets[part.body : min(part.end, part.body + octets_max * 3 // 2 + 1024)]
        return _uudecoded(raw)[:octets_max]
    return octets[part.body : min(part.end, part.body + octets_max)]


def _uudecoded(octets: bytes) -> bytes:
    """Lines between "begin" and "end", or all where neither is there. Those that are none are
    left out, as other readers do."""
    begun = _UU_BEGIN.search(octets)
    pieces = []
    for line in octets[begun.end() if begun is not None else 0 :].splitlines():
        if line == b"end":
            break
        with contextlib.suppress(binascii.Error):
            # Some senders say the right number of octets and then write too many digits.
            digits = 1 + (((line[:1] or b" ")[0] - 32 & 63) * 4 + 5) // 3
            pieces.append(binascii.a2b_uu(line[:digits]))
    return b"".join(pieces)


def text(part: Part, *, octets_max: int) -> str:
    """A text part's beginning as text; what the charset does not explain is U+FFFD."""
    charset = part.parameters.raw(b"charset")
    name = charset.decode("ascii", "replace") if charset else None
    return words.to_text(content(part, octets_max=octets_max), name)
