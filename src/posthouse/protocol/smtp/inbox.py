"""Octets received and not yet parsed, whatever the network's cuts; lines come off its front."""

from __future__ import annotations

from enum import Enum, auto


class LineFault(Enum):
    """Why a command line is refused unread; its rest is dropped without being kept."""

    BARE_NEWLINE = auto()
    TOO_LONG = auto()


class Inbox:
    """`octets[at:]` is what is to be parsed next, once `gather` was called."""

    __slots__ = ("_discard", "_is_skipping", "_later", "at", "octets")

    def __init__(self) -> None:
        self.octets = b""
        self.at = 0
        self._later: list[bytes] | None = None  # came before the rest was parsed
        self._is_skipping = False  # the rest of a refused line
        self._discard = 0  # octets of a refused chunk still to come

    def receive(self, octets: bytes) -> None:
        if self._discard:
            dropped = min(self._discard, len(octets))
            self._discard -= dropped
            octets = octets[dropped:]
        if self._later is not None:
            self._later.append(octets)
        elif self.at == len(self.octets):
            self.octets = octets
            self.at = 0
        else:
            self._later = [octets]

    def gather(self) -> None:
        """Make one piece of all that came; octets are copied once each time, not once a segment."""
        if self._later is not None:
            self.octets = b"".join((self.octets[self.at :], *self._later))
            self.at = 0
            self._later = None

    def discard(self, count: int) -> None:
        """Drop the next `count` octets, those that have not come yet too. After `gather`."""
        here = min(count, len(self.octets) - self.at)
        self.at += here
        self._discard = count - here

    def take_rest(self) -> bytes:
        rest = self.octets[self.at :] if self.at else self.octets
        self.clear()
        return rest

    def clear(self) -> None:
        self.octets, self.at, self._later = b"", 0, None

    def __bool__(self) -> bool:
        return self.at < len(self.octets) or self._later is not None

    def __len__(self) -> int:
        later = 0 if self._later is None else sum(map(len, self._later))
        return len(self.octets) - self.at + later

    def take_line(self, line_octets_max: int, auth_octets_max: int) -> bytes | LineFault | None:
        """The next line without its CRLF, or None when it is not all there.

        Only CRLF ends a line (RFC 5321 §2.3.8). A line with a bare LF, or with more than
        `line_octets_max` octets (`auth_octets_max` for AUTH), is reported once, and what is left
        of it passed over up to its CRLF.
        """
        if self._is_skipping and not self._skip():
            return None
        octets, at = self.octets, self.at
        end = octets.find(b"\n", at, at + line_octets_max)
        if end < 0 and len(octets) - at >= line_octets_max:
            if octets[at : at + 5].upper() == b"AUTH ":
                line_octets_max = auth_octets_max
                end = octets.find(b"\n", at, at + line_octets_max)
            if end < 0 and len(octets) - at >= line_octets_max:
                self._is_skipping = True
                return LineFault.TOO_LONG
        if end < 0:
            return None
        if end > at and octets[end - 1] == 13:
            self.at = end + 1
            return octets[at : end - 1]
        self.at = end + 1
        self._is_skipping = True
        return LineFault.BARE_NEWLINE

    def _skip(self) -> bool:
        """Drop octets up to the next CRLF; whether it came."""
        end = self.octets.find(b"\r\n", self.at)
        if end < 0:
            self.at = len(self.octets) - self.octets.endswith(b"\r", self.at)
            return False
        self.at = end + 2
        self._is_skipping = False
        return True
