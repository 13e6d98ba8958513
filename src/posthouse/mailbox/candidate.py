"""One message that a search has to judge; what is dear is read when it is asked for and kept.

All text is compared folded (`str.casefold`), with charsets, encoded-words and transfer encodings
undone.
"""

from __future__ import annotations

import re
from typing import Any, Final

from posthouse.kernel.ids import BlobId
from posthouse.message import mime, words
from posthouse.message.fields import HEADER_OCTETS_MAX, HeaderSection, read_section, unfold
from posthouse.store.transaction import Transaction

TEXT_OCTETS_MAX: Final = 1024 * 1024
"""Of one message that BODY and TEXT look at (H37)."""
ENVELOPE_FIELDS: Final = {
    "date": 0,
    "subject": 1,
    "from": 2,
    "to": 5,
    "cc": 6,
    "bcc": 7,
    "in-reply-to": 8,
    "message-id": 9,
}
"""Where a field stands in ENVELOPE. Sender and Reply-To are not there when From stands in."""

_TOKEN: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"|(NIL)|([()])|\{(\d{1,9})\}\r\n', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
Values = list["Values | bytes | None"]


class Budget:
    """What a slice of a search may still read."""

    __slots__ = ("octets_left", "text_octets_max")

    def __init__(self, octets_left: int, text_octets_max: int) -> None:
        self.octets_left = octets_left
        self.text_octets_max = text_octets_max


class Candidate:
    """Made of a row of `mail_search.candidates`."""

    __slots__ = (
        "_blob",
        "_budget",
        "_envelope",
        "_header",
        "_octets",
        "_prefix",
        "_section",
        "_texts",
        "_tx",
        "_values",
        "flags",
        "keywords",
        "modseq",
        "received_at_us",
        "sent_day",
        "size_octets",
        "uid",
    )

    def __init__(self, tx: Transaction, row: tuple[Any, ...], budget: Budget) -> None:
        self.uid: int = row[0]
        self.flags: int = row[1]
        self.keywords: str = row[2]
        self.modseq: int = row[3]
        self.size_octets: int = row[4]
        self.received_at_us: int = row[5]
        self.sent_day: int | None = row[6]
        self._envelope: bytes = row[7]
        self._prefix: bytes = row[8]
        self._blob = BlobId(row[9])
        self._tx = tx
        self._budget = budget
        self._values: Values | None = None
        self._octets: bytes | None = None
        self._section: HeaderSection | None = None
        self._header: str | None = None
        self._texts: list[str] | None = None

    def has_field(self, name: str, wanted: str) -> bool:
        """A header field of that (lower-case) name has the folded text; any such field when the
        text is empty."""
        at = ENVELOPE_FIELDS.get(name)
        if at is not None and wanted:
            if self._values is None:
                self._values = parse_values(self._envelope)
            return wanted in value_text(self._values[at])
        try:
            key = name.encode("ascii")
        except UnicodeEncodeError:
            return False
        section = self._read_section()
        return any(
            wanted in words.decode(unfold(section.value(field))).casefold()
            for field in section.fields
            if field.name == key
        )

    def header_contains(self, wanted: str) -> bool:
        if self._header is None:
            self._header = header_text(self._read_section())
        return wanted in self._header

    def body_contains(self, wanted: str) -> bool:
        if self._texts is None:
            self._texts = body_texts(self._read(), octets_max=self._budget.text_octets_max)
        return any(wanted in text for text in self._texts)

    def _read(self) -> bytes:
        if self._octets is None:
            self._budget.octets_left -= self.size_octets
            self._octets = self._tx.blob(self._blob)
        return self._octets

    def _read_section(self) -> HeaderSection:
        if self._section is None:
            self._section = read_section(self._prefix + self._read()[:HEADER_OCTETS_MAX])
        return self._section


def header_text(section: HeaderSection) -> str:
    """All fields, decoded and folded, one on each line."""
    return "\n".join(
        f"{words.shown(words.to_text(field.name))}: {words.decode(unfold(section.value(field)))}"
        for field in section.fields
    ).casefold()


def body_texts(octets: bytes, *, octets_max: int = TEXT_OCTETS_MAX) -> list[str]:
    """The text parts and the header sections of messages inside, decoded and folded; not what
    comes after `octets_max` octets of them."""
    texts: list[str] = []
    left = octets_max
    for part in mime.scan(octets).walk():
        if left <= 0:
            break
        if part.message is not None:
            text = header_text(part.message.section)
        elif part.children or part.maintype not in (b"text", b"message", b"multipart"):
            continue
        else:
            text = mime.text(part, octets_max=left).casefold()
        left -= len(text)
        texts.append(text)
    return texts


# --- ENVELOPE back to text ---


def parse_values(octets: bytes) -> Values:
    """The values inside the outer parentheses of a stored ENVELOPE."""
    top: Values = []
    stack: list[Values] = [top]
    at = 0
    while (match := _TOKEN.search(octets, at)) is not None:
        at = match.end()
        quoted, nil, parenthesis, length = match.groups()
        if quoted is not None:
            stack[-1].append(_ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted)
        elif nil is not None:
            stack[-1].append(None)
        elif length is not None:
            stack[-1].append(octets[at : at + int(length)])
            at += int(length)
        elif parenthesis == b"(":
            inner: Values = []
            stack[-1].append(inner)
            stack.append(inner)
        else:
            stack.pop()
    values = top[0]
    assert isinstance(values, list)  # we have rendered it
    return values


def value_text(value: Values | bytes | None) -> str:
    """One of the values as folded text; addresses as `name <local-part@domain>`."""
    return _text(value).casefold()


def _text(value: Values | bytes | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return words.decode(value)
    return ", ".join(_address(address) for address in value if isinstance(address, list))


def _address(address: Values) -> str:
    name, _, local_part, domain = (_text(value) for value in address)
    whole = f"{local_part}@{domain}" if domain else local_part
    return f"{name} <{whole}>" if name else whole
