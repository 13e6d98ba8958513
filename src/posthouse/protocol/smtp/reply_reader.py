"""Replies as a client reads them: bounded, tolerant in form, never raising (RFC 5321 §4.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.reply import Reply, printable

REPLY_LINES_MAX: Final = 100
LINE_OCTETS_MAX: Final = 2048
TEXT_OCTETS_MAX: Final = 4096
"""Kept of one reply's text."""
_CACHED_LINE_OCTETS_MAX: Final = 128

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


class Nonsense(msgspec.Struct, frozen=True):
    """Something that is no reply: to be treated as a temporary failure, and the session closed."""

    words: str
    """What came, cut and printable."""


class ReplyReader:
    """Octets in, replies out. A bare LF ends a line too: some servers send it, nothing hangs on
    it. After `Nonsense` no more can be told apart and nothing more comes out."""

    __slots__ = ("_at", "_inbox", "_is_lost", "_lines", "line_octets_max", "lines_max")

    def __init__(
        self, *, lines_max: int = REPLY_LINES_MAX, line_octets_max: int = LINE_OCTETS_MAX
    ) -> None:
        self.lines_max = lines_max
        self.line_octets_max = line_octets_max
        self._inbox = b""
        self._at = 0
        self._lines: list[bytes] | None = None  # of a reply whose last line has not come
        self._is_lost = False

    @property
    def has_octets(self) -> bool:
        return self._at < len(self._inbox) or self._lines is not None

    def receive(self, octets: bytes) -> None:
        if not self._is_lost:
            rest = self._inbox[self._at :]
            self._inbox = rest + octets if rest else octets
            self._at = 0

    def next_reply(self) -> Reply | Nonsense | None:
        """The next whole reply, or None when more octets are needed."""
        while True:
            inbox, at = self._inbox, self._at
            end = inbox.find(b"\n", at, at + self.line_octets_max)
            if end < 0:
                if len(inbox) - at >= self.line_octets_max:
                    return self._lose(inbox[at : at + self.line_octets_max])
                return None
            line = inbox[at:end].removesuffix(b"\r")
            self._at = end + 1
            if self._lines is None and len(line) <= _CACHED_LINE_OCTETS_MAX:
                single = _single_line(line)
                if single is not None:
                    return single
            match = _LINE.fullmatch(line)
            if match is None:
                return self._lose(line)
            if self._lines is None:
                self._lines = []
            self._lines.append(match[3] or b"")
            if match[2] != b"-":
                lines, self._lines = self._lines, None
                return _reply(int(match[1]), lines)
            if len(self._lines) >= self.lines_max:
                return self._lose(line)

    def _lose(self, octets: bytes) -> Nonsense:
        self._is_lost = True
        self._inbox, self._at, self._lines = b"", 0, None
        return Nonsense(printable(octets[:200].decode("latin-1")))


@lru_cache(maxsize=1024)
def _single_line(line: bytes) -> Reply | None:
    """A reply of one line, the usual kind; None when it is not one."""
    match = _LINE.fullmatch(line)
    return None if match is None or match[2] == b"-" else _reply(int(match[1]), [match[3] or b""])


def _reply(code: int, lines: list[bytes]) -> Reply:
    """The last line's code counts. The enhanced status must agree with it (RFC 2034 §4)."""
    text = b"\n".join(lines)[:TEXT_OCTETS_MAX].decode("latin-1")
    words = [printable(line.rstrip("\r")) for line in text.split("\n")]
    match = _STATUS.match(words[-1]) or _STATUS.match(words[0])
    status = match[1] if match is not None and int(match[1][0]) == code // 100 else ""
    if status:
        words = [word.removeprefix(status).lstrip(" ") for word in words]
    return Reply(code, status, "\n".join(words))
