"""What the outside world wrote down: attempts and replies, one line each in an O_APPEND file.

A line is one `write`, so lines of several processes and threads never mix, and a reader of the file
needs nothing from the server under test.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

MARK = b"X-Crash-Number: "
"""First field of every message sent: the server's own fields stand before it."""


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """An attempt begins."""

    number: int
    via: str
    sender: str
    recipients: tuple[str, ...]
    digest: str


class Replied(msgspec.Struct, frozen=True, tag="replied"):
    """What came back: an SMTP code, IMAP's OK as 250 and NO as 450; 0 when the line broke."""

    number: int
    code: int
    uid: int = 0
    validity: int = 0


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """An IMAP change to an appended message: asked (code -1), or answered as in `Replied`."""

    number: int
    what: str
    code: int
    uid: int = 0


class Selected(msgspec.Struct, frozen=True, tag="selected"):
    """What SELECT said of a mailbox (P7)."""

    account: str
    mailbox: str
    validity: int


Line = Sent | Replied | Changed | Selected


class Book:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()

    def write(self, line: Line) -> None:
        with self._lock:
            os.write(self._file, self._encoder.encode(line) + b"\n")


def read(path: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)


def fingerprint(octets: bytes) -> tuple[int, str]:
    """The message's number and the digest of what its sender sent; -1 when it is not ours."""
    start = octets.find(MARK)
    if start < 0:
        return -1, ""
    number = int(octets[start + len(MARK) : octets.index(b"\r\n", start)])
    return number, hashlib.sha256(octets[start:]).hexdigest()
