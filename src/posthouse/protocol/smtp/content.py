"""The content of a message between DATA and its dot, or in the chunks of BDAT.

Only CRLF.CRLF ends it, wherever the network cut the octets (RFC 5321 §4.1.1.4). Used by the
server machine; everything here is linear in what came and works on whole segments.
"""

from __future__ import annotations

import re
from io import BytesIO, IncrementalNewlineDecoder
from typing import Final

from posthouse.kernel.reply import Reply
from posthouse.message.search import find_marker
from posthouse.protocol.smtp import replies
from posthouse.protocol.smtp.inbox import Inbox
from posthouse.protocol.smtp.limits import BareNewlines

END: Final = b"\r\n.\r\n"
_NOTHING_YET: Final = b"\r\n"  # as if a line had just ended
_NO_BARE: Final = (None, "\r\n")
_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def unstuffed(octets: bytes) -> bytes:
    """Each line's first dot removed (RFC 5321 §4.5.2). `octets` begins at a line's beginning."""
    if octets.startswith(b"."):
        octets = octets[1:]
    return octets.replace(b"\r\n.", b"\r\n")


def find_end(octets: bytes, start: int = 0) -> tuple[int, bool]:
    """The offset of the first CRLF.CRLF, -1 for none, and whether a line before it, the first
    one apart, may begin with a dot. One search for both, as the first dot is mostly the last."""
    dot = find_marker(octets, b"\r\n.", 2, start)
    if dot < 0 or octets.startswith(END, dot):
        return dot, False
    return find_marker(octets, END, 2, dot + 3), True


def has_bare_newline(octets: bytes) -> bool:
    """Whether a CR or LF stands alone, which RFC 5321 §2.3.8 forbids."""
    kinds = _line_end_kinds()
    kinds.decode(octets.decode("latin-1"), final=True)
    return kinds.newlines not in _NO_BARE


def _line_end_kinds() -> IncrementalNewlineDecoder:
    """Notes which kinds of line ends there are, in one pass for what would take three counts."""
    return IncrementalNewlineDecoder(None, translate=False)


def normalized(octets: bytes) -> bytes:
    """Each bare LF made CRLF and each bare CR a space."""
    return _BARE.sub(lambda match: b"\r\n" if match[0] == b"\n" else b" ", octets)


def has_nul_in_header(octets: bytes) -> bool:
    nul = octets.find(b"\0")
    if nul < 0:
        return False
    if octets.startswith(b"\r\n"):
        return False  # the header section is empty
    end = octets.find(b"\r\n\r\n")
    return end < 0 or nul < end


def open_line_octets(octets: bytes, before: int, maximum: int) -> int:
    """Octets in the last, unfinished line, or -1 when a line has more than `maximum`.

    Args:
        before: what the first line had already.
    """
    start, size = -before, len(octets)
    while size - start > maximum:
        newline = octets.rfind(b"\n", max(start, 0), start + maximum)
        if newline < 0:
            return -1
        start = newline + 1
    newline = octets.rfind(b"\n")
    return size - start if newline < 0 else size - newline - 1


class Content:
    """The content of one message as it comes: found to its end, checked and, past the limit,
    dropped."""

    __slots__ = (
        "_buffer",
        "_is_dropping",
        "_is_line_too_long",
        "_is_stuffed",
        "_line_octets",
        "_line_octets_max",
        "_newlines",
        "_octets_max",
        "_tail",
        "_whole",
        "size",
    )

    def __init__(self, *, octets_max: int, line_octets_max: int, is_stuffed: bool) -> None:
        """
        Args:
            is_stuffed: it comes by DATA; else by BDAT.
        """
        self._octets_max = octets_max
        self._line_octets_max = line_octets_max
        self._is_stuffed = is_stuffed
        self._whole: bytes | None = None  # all of it came in one segment
        self._buffer: BytesIO | None = None  # hands its octets over without copying them
        self._tail = _NOTHING_YET  # of what came
        self._newlines: IncrementalNewlineDecoder | None = None
        self._line_octets = 0
        self._is_dropping = self._is_line_too_long = False
        self.size = 0
        """Octets so far without the dots, dropped ones counted too."""

    @property
    def is_too_big(self) -> bool:
        return self.size > self._octets_max

    def read_data(self, inbox: Inbox) -> bool:
        """Take content from the inbox; whether CRLF.CRLF came."""
        octets, at = inbox.octets, inbox.at
        end, has_dots = find_end(octets, at)
        if end >= 0 and self._tail is _NOTHING_YET and not octets.startswith(b".\r\n", at):
            inbox.at = end + len(END)
            self._whole = octets[at : end + 2]
            self._is_stuffed = has_dots or octets.startswith(b".", at)
            return True
        octets = inbox.take_rest()
        used = self._feed(octets, end - at if end >= 0 else -1, has_dots=has_dots)
        if used < 0:
            return False
        if used < len(octets):
            inbox.octets, inbox.at = octets, used
        return True

    def read_chunk(self, inbox: Inbox, count: int, *, is_last: bool) -> int:
        """Take up to `count` octets of a chunk from the inbox; how many there were."""
        octets, at = inbox.octets, inbox.at
        taken = octets[at : at + count]
        inbox.at = at + len(taken)
        if is_last and len(taken) == count and not self.size:
            self._whole = taken
        else:
            self._add(taken, has_dots=False)
        return len(taken)

    def judged(self, bare_newlines: BareNewlines, *, is_binary: bool) -> bytes | Reply:
        """The content's octets, or why it is refused (RFC 5321 §2.3.8, §4.5.3.1.7)."""
        octets = self._whole
        if octets is not None:
            is_bare = has_bare_newline(octets)
            if len(octets) > self._line_octets_max:
                self._is_line_too_long = open_line_octets(octets, 0, self._line_octets_max) < 0
            if self._is_stuffed:
                octets = unstuffed(octets)
            self.size = len(octets)
        else:
            is_bare = self._has_bare_newline()
            octets = b"" if self._buffer is None else self._buffer.getvalue()
        if self.is_too_big:
            return replies.MESSAGE_TOO_BIG
        if is_bare and not is_binary and bare_newlines is not BareNewlines.ALLOW:
            if bare_newlines is BareNewlines.REFUSE:
                return replies.BARE_NEWLINE
            octets = normalized(octets)
        if self._is_line_too_long and not is_binary:
            return replies.TEXT_LINE_TOO_LONG
        return replies.NUL_IN_HEADER if has_nul_in_header(octets) else octets

    def _feed(self, octets: bytes, end: int, *, has_dots: bool) -> int:
        """The count of octets that belong to the content and its end, or -1 when all of them do
        and the end has not come. `end` and `has_dots` are `find_end`'s."""
        tail = self._tail
        split = (tail + octets[:4]).find(END)  # an end cut by the network
        if split >= 0:
            here = len(tail) - split  # octets of the end that came before
            if here == 1:
                self._add(b"\n", has_dots=False)
            elif here == 4:
                self._drop_carriage_return()
            return len(END) - here
        self._add(octets if end < 0 else octets[: end + 2], has_dots=has_dots)
        return -1 if end < 0 else end + len(END)

    def _add(self, octets: bytes, *, has_dots: bool) -> None:
        """Keep octets that are surely content."""
        tail = self._tail
        self._tail = (tail + octets if len(octets) < 4 else octets)[-4:]
        self._line_octets = open_line_octets(octets, self._line_octets, self._line_octets_max)
        if self._line_octets < 0:
            self._is_line_too_long = True
            self._line_octets = 0
        if not self._is_dropping:
            if self._newlines is None:
                self._newlines = _line_end_kinds()
            self._newlines.decode(octets.decode("latin-1"))
        if self._is_stuffed:
            octets = _unstuffed_behind(tail, octets, has_dots=has_dots)
        self.size += len(octets)
        if self._is_dropping:
            return
        if self.size > self._octets_max + len(END):  # some of the last octets may be the end's
            self._is_dropping = True
            self._buffer = None
            return
        if self._buffer is None:
            self._buffer = BytesIO()
        self._buffer.write(octets)

    def _has_bare_newline(self) -> bool:
        if self._newlines is None:
            return False
        if not self._is_stuffed:  # by DATA what ends is a line
            self._newlines.decode("", final=True)
        return self._newlines.newlines not in _NO_BARE

    def _drop_carriage_return(self) -> None:
        """The CR behind the final dot was taken for content when it came alone; no LF came behind
        it, so `_newlines` has not counted it yet."""
        self.size -= 1
        if self._buffer is not None:
            self._buffer.truncate(self._buffer.tell() - 1)


def _unstuffed_behind(tail: bytes, octets: bytes, *, has_dots: bool) -> bytes:
    """`unstuffed` for octets that come behind those that ended in `tail`."""
    if octets.startswith(b".") and tail.endswith(b"\r\n"):
        octets = octets[1:]
    elif octets.startswith(b"\n.") and tail.endswith(b"\r"):
        octets = b"\n" + octets[2:]
    return octets.replace(b"\r\n.", b"\r\n") if has_dots else octets
