"""What both sides of a session say, as lines for people to read; secrets and contents stay out.

It is taken between TLS and the client machine, so it is what went over the line. Whatever belongs
to a login shows as `***`, the server's challenges too, as passwords can be guessed from a SCRAM
exchange (RFC 5802 §9); a message shows as its size.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from posthouse.kernel.secret import HIDDEN
from posthouse.net.stream import TlsInfo
from posthouse.sending.options import Watch

__all__ = ["Dialogue"]

LINE_SHOWN_OCTETS_MAX: Final = 500
_LOG: Final = logging.getLogger("posthouse.sending")
_CHUNK: Final = re.compile(rb"(?i:BDAT) ([0-9]{1,20})")


class Dialogue:
    """Of one connection; a `net.smtp_client.SessionWatch`.

    Lines begin with "-> " for ours, "<- " for the server's and "== " for what happened besides.
    """

    def __init__(self, show: Watch) -> None:
        self._watch: Watch | None = show
        self._sent = b""
        self._received = b""
        self._is_secret = False  # between AUTH and its last reply
        self._is_content = False  # behind the reply to DATA
        self._content_octets = 0
        self._chunk_left = 0

    def note(self, words: str) -> None:
        self._show(f"== {words}")

    def tls_began(self, tls: TlsInfo) -> None:
        self.note(f"{tls.version} with {tls.cipher}")

    def received(self, octets: bytes) -> None:
        *lines, self._received = (self._received + octets).split(b"\n")
        for line in lines:
            self._reply(line)

    def sent(self, octets: bytes) -> None:
        octets = self._sent + octets
        at = 0
        while at < len(octets):
            if self._chunk_left:
                taken = min(self._chunk_left, len(octets) - at)
                self._chunk_left -= taken
                at += taken
                continue
            end = octets.find(b"\r\n", at)
            if end < 0:
                break
            line, at = octets[at:end], end + 2
            if self._is_content:
                self._content_line(line)
            else:
                self._command(line)
        self._sent = octets[at:]

    def _reply(self, line: bytes) -> None:
        if not self._is_secret:
            self._show(f"<- {_text(line)}")
            self._is_content = self._is_content or line[:3] == b"354"
        elif line[:3] == b"334":
            self._show(f"<- 334 {HIDDEN}" if line[4:].strip() else "<- 334")
        else:
            self._show(f"<- {_text(line)}")
            self._is_secret = line[3:4] == b"-"

    def _content_line(self, line: bytes) -> None:
        if line != b".":
            self._content_octets += len(line) + 2
            return
        self._show(f"-> (message of {self._content_octets} octets)")
        self._show("-> .")
        self._is_content, self._content_octets = False, 0

    def _command(self, line: bytes) -> None:
        verb = line[:5].upper()
        if self._is_secret:
            self._show(f"-> {HIDDEN}")
        elif verb == b"AUTH ":
            self._is_secret = True
            words = line.split(b" ", 2)
            self._show(f"-> {_text(b' '.join(words[:2]))}{' ' + HIDDEN if words[2:] else ''}")
        else:
            self._show(f"-> {_text(line)}")
        if verb == b"BDAT " and (chunk := _CHUNK.match(line)):
            self._chunk_left = int(chunk[1])
            self._show(f"-> (message of {self._chunk_left} octets)")

    def _show(self, line: str) -> None:
        """What watches may fail; the message goes out all the same."""
        if self._watch is None:
            return
        try:
            self._watch(line)
        except Exception:
            self._watch = None
            _LOG.warning("the option watch raised, and is not called any more", exc_info=True)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r")[:LINE_SHOWN_OCTETS_MAX].decode("utf-8", "replace")
