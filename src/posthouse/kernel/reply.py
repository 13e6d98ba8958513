"""An SMTP reply: three digits, an enhanced status code and text (RFC 5321 §4.2, RFC 3463)."""

from __future__ import annotations

from functools import lru_cache

import msgspec

TEXT_OCTETS_MAX = 480
"""Of one line, so that with code and CRLF it stays under 512 (RFC 5321 §4.5.3.1.5)."""


class Reply(msgspec.Struct, frozen=True):
    """`code` with `status` (an enhanced code like "5.1.1", or "" for none) and lines of text.

    Text is 0x20–0x7E and may hold several lines divided by "\\n"; other octets are sent as "?".
    """

    code: int
    status: str
    text: str

    @property
    def is_positive(self) -> bool:
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def encode(self) -> bytes:
        """The octets for the wire, CRLF included."""
        return _encode(self)

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.code), self.status, self.text.replace("\n", " / "))))


@lru_cache(maxsize=1024)
def _encode(reply: Reply) -> bytes:
    lines = [printable(line)[:TEXT_OCTETS_MAX] for line in reply.text.split("\n")]
    head = f"{reply.code}"
    status = f"{reply.status} " if reply.status else ""
    out = [f"{head}-{status}{line}".rstrip() for line in lines[:-1]]
    out.append(f"{head} {status}{lines[-1]}".rstrip(" "))
    if not lines[-1] and not status:
        out[-1] = f"{head} "
    return "".join(f"{line}\r\n" for line in out).encode("ascii")


def printable(text: str) -> str:
    """Text with everything outside 0x20–0x7E made "?", for replies."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)
