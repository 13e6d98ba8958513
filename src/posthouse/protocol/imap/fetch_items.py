"""The data items of FETCH (RFC 3501 §6.4.5), to values.

The three macros become their items, `RFC822` and its parts become body sections that are shown
under their own name, so that whoever answers knows two kinds only: attributes and sections.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec

from posthouse.protocol.imap.grammar import BadCommand, Reader
from posthouse.protocol.imap.responses import astring

FIELDS_MAX: Final = 1_000
"""Names in all HEADER.FIELDS of one command together."""
PARTS_MAX: Final = 100
"""Numbers in a part's path; MIME goes no deeper here, so a longer one names nothing (H53)."""

_PATH: Final = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_SIMPLE: Final = re.compile(
    rb"(FLAGS|INTERNALDATE|ENVELOPE|BODYSTRUCTURE|RFC822(?:\.(?:HEADER|SIZE|TEXT))?|UID"
    rb"|BODY(?:\.PEEK)?(?=\[)|BODY)(?![A-Z0-9.])",
    re.I,
)
_FIELD_NAME: Final = re.compile(rb"[!-9;-~]{1,200}\Z")


class Attribute(Enum):
    """What a message has besides its octets."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"


class SectionText(Enum):
    """Which part of the part."""

    WHOLE = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Octets of a message: `BODY[1.2.HEADER.FIELDS (FROM)]<0.100>`."""

    label: bytes
    """How the response names it, with the origin octet behind it."""
    path: tuple[int, ...] = ()
    text: SectionText = SectionText.WHOLE
    fields: tuple[bytes, ...] = ()
    """Upper case, in the client's order."""
    origin: int | None = None
    """First octet wanted; None when the whole section is."""
    octets: int = 0
    is_peek: bool = False
    """Does not set \\Seen."""


FetchItem = Attribute | Section

_A = Attribute
MACROS: Final = {
    b"FAST": (_A.FLAGS, _A.INTERNALDATE, _A.SIZE),
    b"ALL": (_A.FLAGS, _A.INTERNALDATE, _A.SIZE, _A.ENVELOPE),
    b"FULL": (_A.FLAGS, _A.INTERNALDATE, _A.SIZE, _A.ENVELOPE, _A.BODY),
}
RFC822: Final = {
    b"RFC822": Section(label=b"RFC822"),
    b"RFC822.HEADER": Section(label=b"RFC822.HEADER", text=SectionText.HEADER, is_peek=True),
    b"RFC822.TEXT": Section(label=b"RFC822.TEXT", text=SectionText.TEXT),
}
_ATTRIBUTES: Final = {item.value: item for item in Attribute}


def read_items(reader: Reader) -> tuple[FetchItem, ...]:
    """A macro, one item, or a list of items; an item named twice is told once."""
    if not reader.accept(b"("):
        for name, items in MACROS.items():
            if reader.accept(name):
                return items
        return (_read_item(reader),)
    found: dict[FetchItem, None] = {}
    count = fields = 0
    while True:
        item = _read_item(reader)
        found[item] = None
        count += 1
        fields += len(item.fields) if isinstance(item, Section) else 0
        if count > reader.limits.fetch_items_max or fields > FIELDS_MAX:
            raise BadCommand("Too many items to fetch", code="LIMIT", limit="fetch_items_max")
        if reader.accept(b")"):
            return tuple(found)
        reader.space()


def _read_item(reader: Reader) -> FetchItem:
    name = reader.match(_SIMPLE, "fetch item")[1].upper()
    if reader.peek() == b"[":
        if name not in (b"BODY", b"BODY.PEEK"):
            raise BadCommand("Only BODY takes a section")
        return _read_section(reader, is_peek=name == b"BODY.PEEK")
    if (section := RFC822.get(name)) is not None:
        return section
    return _ATTRIBUTES[name]


def _read_section(reader: Reader, *, is_peek: bool) -> Section:
    reader.expect(b"[")
    path: tuple[int, ...] = ()
    label = b""
    if reader.peek().isdigit():
        label = reader.match(_PATH, "section")[0]
        path = tuple(int(number) for number in label.split(b"."))
        if len(path) > PARTS_MAX:
            path = path[: PARTS_MAX + 1]
    text = SectionText.WHOLE
    fields: tuple[bytes, ...] = ()
    if not path or reader.accept(b"."):
        text = _read_text(reader, is_part=bool(path))
    if text in (SectionText.FIELDS, SectionText.FIELDS_NOT):
        fields = _read_fields(reader)
    reader.expect(b"]")
    shown = b".".join(part for part in (label, text.value) if part)
    if fields:
        shown += b" (%b)" % b" ".join(map(astring, fields))
    origin, octets = _read_partial(reader)
    tail = b"]" if origin is None else b"]<%d>" % origin
    return Section(
        label=b"BODY[" + shown + tail,
        path=path,
        text=text,
        fields=fields,
        origin=origin,
        octets=octets,
        is_peek=is_peek,
    )


def _read_text(reader: Reader, *, is_part: bool) -> SectionText:
    if not is_part and reader.peek() == b"]":
        return SectionText.WHOLE
    word = reader.word()
    if word == b"MIME" and not is_part:
        raise BadCommand("MIME needs a part number")  # RFC 3501 §6.4.5
    try:
        text = SectionText(word)
    except ValueError:
        raise BadCommand("Unknown section") from None
    return text


def _read_fields(reader: Reader) -> tuple[bytes, ...]:
    """`(FROM "SUBJECT")`, at least one."""
    reader.space()
    reader.expect(b"(")
    fields: list[bytes] = []
    while True:
        name = reader.astring()
        if not _FIELD_NAME.match(name):
            raise BadCommand("Invalid header field name")
        fields.append(name.upper())
        if len(fields) > FIELDS_MAX:
            raise BadCommand("Too many header fields", code="LIMIT")
        if reader.accept(b")"):
            return tuple(fields)
        reader.space()


def _read_partial(reader: Reader) -> tuple[int | None, int]:
    if not reader.accept(b"<"):
        return None, 0
    origin = reader.number()
    reader.expect(b".")
    octets = reader.nonzero()
    reader.expect(b">")
    return origin, octets
