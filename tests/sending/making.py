"""What tests of composing share: a clock, chance with a seed, and a letter taken apart again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec

from posthouse.message import mime, words
from posthouse.message.mime import Part
from posthouse.sending.carrier import Letter
from posthouse.sending.compose import compose
from posthouse.sending.message import Message

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
HOST = "host.example.org"
OCTETS_MAX = 1 << 26


class Chance:
    """Octets that look like chance and are the same in each run."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, octets: int) -> bytes:
        self._count += 1
        return hashlib.sha512(b"%d" % self._count).digest()[:octets]


def letter_of(message: Message) -> Letter:
    return compose(message, now=NOW, token=Chance(), host_name=HOST)


def simple(**changes: object) -> Message:
    """A message to which a test adds what it is about."""
    given = {"sender": "ada@example.org", "to": "bob@example.net", "text": "At five?\n"}
    return Message(**(given | changes))  # type: ignore[arg-type]


class Leaf(msgspec.Struct, frozen=True):
    media_type: str
    content: bytes
    disposition: str = ""
    file_name: str | None = None


def field(letter: Letter, name: str) -> str | None:
    """A field of the message as people read it."""
    value = mime.scan(letter.octets).section.first(name.lower().encode())
    return None if value is None else words.decode(value).strip()


def raw_field(letter: Letter, name: str) -> bytes | None:
    return mime.scan(letter.octets).section.first(name.lower().encode())


def names(letter: Letter) -> list[str]:
    return [one.name.decode() for one in mime.scan(letter.octets).section.fields]


def tree(letter: Letter) -> str:
    """ "mixed(alternative(text/plain text/html) image/png)"."""
    return _tree(mime.scan(letter.octets))


def _tree(part: Part) -> str:
    if part.children:
        return f"{part.subtype.decode()}({' '.join(map(_tree, part.children))})"
    return f"{part.maintype.decode()}/{part.subtype.decode()}"


def leaves(letter: Letter) -> list[Leaf]:
    found = []
    for part in mime.scan(letter.octets).walk():
        if part.children:
            continue
        disposition = part.disposition
        found.append(
            Leaf(
                f"{part.maintype.decode()}/{part.subtype.decode()}",
                mime.content(part, octets_max=OCTETS_MAX),
                disposition[0].decode() if disposition else "",
                part.file_name,
            )
        )
    return found


def recipients(letter: Letter) -> list[str]:
    return [f"{one.address.local_part}@{one.address.domain}" for one in letter.envelope.recipients]


def check_wire(octets: bytes) -> None:
    """What every message has to be: CRLF only, lines that fit, no NUL."""
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
    assert octets.endswith(b"\r\n") and b"\0" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
