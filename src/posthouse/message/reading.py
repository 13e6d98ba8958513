"""Reads mail for programs: texts, attachments, decoded header fields, reports, embedded messages.

    from posthouse.message import read

    letter = read(octets)
    print(letter.subject, letter.text, [one.name for one in letter.attachments])

The scanner is the server's own (`posthouse.message.mime`), so what a program sees is what IMAP
shows and filters judge. Nothing here raises for what a message holds, and nothing takes more than
linear time. Texts are cut at `TEXT_OCTETS_MAX`; `is_cut` tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Final

import msgspec

from posthouse.message import arf, dsn, mdn, mime, words
from posthouse.message.address import domain_to_unicode
from posthouse.message.address_list import Listed, parse_address_list
from posthouse.message.bodies import Bodies, bodies
from posthouse.message.dates import parse_date
from posthouse.message.fields import HeaderSection, unfold
from posthouse.message.html_text import to_text
from posthouse.message.mime import Part

TEXT_OCTETS_MAX: Final = 1 << 20
"""Of each text part that is decoded for `text` and `html` (H37)."""
NAME_OCTETS_MAX: Final = 255
"""Of an attachment's name in UTF-8: what file systems take."""
NAMED_MAX: Final = 2_000
"""Addresses read of one field."""
IDS_MAX: Final = 1_000

_PATH: Final = re.compile(r".*[/\\]", re.DOTALL)
# Characters that file systems or shells take for something else, or that turn the reading order
# round so that "exe.gpj" reads as "jpg.exe" (H41).
_UNSAFE_NAME: Final = re.compile(
    '[\x00-\x1f\x7f-\x9f"*:<>?|\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]'
)
_RESERVED_NAME: Final = re.compile(
    r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE | re.DOTALL
)
_MESSAGE_ID: Final = re.compile(rb"<[^<>\s]{1,998}>")
_MESSAGES: Final = frozenset({b"rfc822", b"global"})
_ENCODED: Final = frozenset({b"base64", b"quoted-printable", *mime.UUENCODED})
_ENDINGS: Final = {
    b"text/plain": "txt",
    b"text/html": "html",
    b"text/calendar": "ics",
    b"text/csv": "csv",
    b"message/rfc822": "eml",
    b"application/pdf": "pdf",
    b"application/zip": "zip",
    b"application/json": "json",
    b"application/pkcs7-signature": "p7s",
    b"application/pkcs7-mime": "p7m",
    b"application/pgp-signature": "asc",
    b"image/jpeg": "jpg",
    b"image/png": "png",
    b"image/gif": "gif",
    b"image/svg+xml": "svg",
    b"image/webp": "webp",
    b"audio/mpeg": "mp3",
    b"video/mp4": "mp4",
}


class Named(msgspec.Struct, frozen=True):
    """One address of a field. `address` is as written, its domain in U-labels."""

    address: str
    name: str = ""
    group: str = ""
    """The group it stands in ("Team: a@x.example;"); "" for none."""


class Attachment:
    """A part that is not the text."""

    __slots__ = ("_number", "part")

    def __init__(self, part: Part, number: int) -> None:
        self.part = part
        self._number = number

    def __repr__(self) -> str:
        return f"Attachment({self.name!r}, {self.content_type!r})"

    @property
    def name(self) -> str:
        """A name to save it under: never a path, never empty, no controls and nothing that turns
        the reading order (H41). Two attachments may have the same."""
        return safe_name(self.part.file_name or "") or f"attachment-{self._number}.{self._ending}"

    @property
    def content_type(self) -> str:
        """ "image/png", in lower case."""
        return _type(self.part).decode("ascii", "replace")

    @property
    def content_id(self) -> str:
        """Without its angle brackets: what HTML names as "cid:…"; "" for none."""
        value = self.part.section.first(b"content-id")
        return "" if value is None else words.decode(value).strip().strip("<>")

    @property
    def is_inline(self) -> bool:
        """To be shown in the text, says the sender."""
        disposition = self.part.disposition
        return disposition is not None and disposition[0] == b"inline"

    @property
    def description(self) -> str:
        value = self.part.section.first(b"content-description")
        return "" if value is None else words.decode(value).strip()

    @property
    def octets(self) -> bytes:
        """The content with its transfer encoding undone; decoded anew with each call."""
        return mime.content(self.part, octets_max=max(self.part.size_octets, 1))

    @property
    def _ending(self) -> str:
        return _ENDINGS.get(_type(self.part), "bin")


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """An iCalendar object in the message (RFC 6047)."""

    text: str
    method: str
    """As its field says, in upper case: REQUEST, CANCEL, REPLY; "" for none."""


class ReceivedMessage:
    """A message as somebody would read it. Everything is read when first asked for."""

    def __init__(self, root: Part) -> None:
        self.root = root
        """The tree of parts, for what is not here."""

    def __repr__(self) -> str:
        return f"ReceivedMessage({self.subject!r})"

    # --- header fields ---

    @property
    def section(self) -> HeaderSection:
        return self.root.section

    def header(self, name: str) -> str:
        """The first field of that name, decoded, on one line; "" when there is none."""
        value = self.section.first(name.lower().encode("utf-8", "replace"))
        return "" if value is None else words.decode(value).strip()

    def headers(self, name: str) -> tuple[str, ...]:
        """All fields of that name, decoded, in their order."""
        values = self.section.every(name.lower().encode("utf-8", "replace"))
        return tuple(words.decode(value).strip() for value in values)

    def header_fields(self) -> Iterator[tuple[str, str]]:
        """Name (as written) and decoded value of each field."""
        section = self.section
        for field in section.fields:
            name = section.octets[field.start : field.start + len(field.name)]
            yield (
                name.decode("ascii"),
                words.decode(unfold(section.value(field))).strip(),
            )

    @property
    def subject(self) -> str:
        return self.header("subject")

    @property
    def date(self) -> datetime | None:
        """Aware, in the sender's zone; None for what is no date (H36)."""
        value = self.section.first(b"date")
        return None if value is None else parse_date(value)

    @property
    def message_id(self) -> str:
        """With its angle brackets; "" for none."""
        found = self._ids(b"message-id")
        return found[0] if found else ""

    @property
    def in_reply_to(self) -> tuple[str, ...]:
        return self._ids(b"in-reply-to")

    @property
    def references(self) -> tuple[str, ...]:
        return self._ids(b"references")

    @cached_property
    def authors(self) -> tuple[Named, ...]:
        """Of From."""
        return self.named("from")

    @property
    def sender(self) -> Named | None:
        """Of Sender, else the first author: who sent it, by its own word."""
        found = self.named("sender") or self.authors
        return found[0] if found else None

    @cached_property
    def to(self) -> tuple[Named, ...]:
        return self.named("to")

    @cached_property
    def cc(self) -> tuple[Named, ...]:
        return self.named("cc")

    @cached_property
    def bcc(self) -> tuple[Named, ...]:
        return self.named("bcc")

    @cached_property
    def reply_to(self) -> tuple[Named, ...]:
        return self.named("reply-to")

    def named(self, name: str) -> tuple[Named, ...]:
        """The addresses of the first field of that name; groups are taken apart (H33)."""
        value = self.section.first(name.lower().encode("utf-8", "replace"))
        if value is None:
            return ()
        return tuple(_named(parse_address_list(value, addresses_max=NAMED_MAX).items))

    def _ids(self, name: bytes) -> tuple[str, ...]:
        value = self.section.first(name)
        if value is None:
            return ()
        found = _MESSAGE_ID.findall(value)[:IDS_MAX]
        return tuple(one.decode("utf-8", "replace") for one in found)

    # --- content ---

    @cached_property
    def bodies(self) -> Bodies:
        return bodies(self.root)

    @cached_property
    def text(self) -> str:
        """The text for a reader without HTML: the plain parts, or what the HTML says in words."""
        return "\n".join(
            _lines(part, is_html=part.subtype == b"html")
            for part in self.bodies.text
            if part.maintype == b"text"
        )

    @cached_property
    def html(self) -> str:
        """The HTML as it came, unsafe to show without cleaning; "" where there is none."""
        return "\n".join(
            mime.text(part, octets_max=TEXT_OCTETS_MAX)
            for part in self.bodies.html
            if part.maintype == b"text" and part.subtype == b"html"
        )

    @property
    def is_cut(self) -> bool:
        """A text was longer than `TEXT_OCTETS_MAX`, and its end is left out."""
        shown = {id(part): part for part in (*self.bodies.text, *self.bodies.html)}
        return any(
            part.maintype == b"text"
            and part.size_octets > TEXT_OCTETS_MAX
            and len(mime.content(part, octets_max=TEXT_OCTETS_MAX + 1)) > TEXT_OCTETS_MAX
            for part in shown.values()
        )

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """All that is not the text, embedded messages and inline pictures included."""
        parts = list(self.bodies.attachments)
        seen = {id(part) for part in parts}
        # Pictures between texts are shown there, and somebody may want to save them, too.
        for part in (*self.bodies.text, *self.bodies.html):
            if part.maintype != b"text" and id(part) not in seen:
                seen.add(id(part))
                parts.append(part)
        return tuple(Attachment(part, at + 1) for at, part in enumerate(parts))

    @cached_property
    def calendars(self) -> tuple[Calendar, ...]:
        """Invitations and their answers."""
        found = []
        for part in self.root.own_parts():
            if part.maintype == b"text" and part.subtype == b"calendar":
                method = part.parameters.text(b"method") or ""
                text = mime.text(part, octets_max=TEXT_OCTETS_MAX)
                found.append(Calendar(text=text, method=method.upper()))
        return tuple(found)

    @cached_property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """The messages embedded in this one, not those inside them."""
        found = (_embedded(part) for part in self.root.own_parts())
        return tuple(ReceivedMessage(one) for one in found if one is not None)

    # --- reports ---

    @cached_property
    def delivery_report(self) -> dsn.Report | None:
        """What a DSN says (RFC 3464); None when this is none."""
        return dsn.parse_part(self.root)

    @cached_property
    def disposition_report(self) -> mdn.Notification | None:
        """What an MDN says (RFC 8098); None when this is none."""
        part = mdn.find(self.root)
        return None if part is None else mdn.read(part)

    @cached_property
    def feedback_report(self) -> arf.FeedbackReport | None:
        """What an ARF report says (RFC 5965); None when this is none."""
        part = arf.find(self.root)
        return None if part is None else arf.read(self.root, part)


def read(octets: bytes) -> ReceivedMessage:
    """A message as it came from a server or a file. Never raises: anything is a message."""
    return ReceivedMessage(mime.scan(octets))


def safe_name(name: str) -> str:
    """A file name out of what a sender wrote; "" when nothing of it can be used (H40, H41)."""
    name = _UNSAFE_NAME.sub("", _PATH.sub("", name))
    name = name.strip(" .") or ""
    if _RESERVED_NAME.fullmatch(name):
        name = f"_{name}"
    if len(name.encode("utf-8")) <= NAME_OCTETS_MAX:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode("utf-8")) > 20:
        stem, ending = name, ""
    room = NAME_OCTETS_MAX - len(ending.encode("utf-8")) - len(dot if ending else "")
    stem = stem.encode("utf-8")[:room].decode("utf-8", "ignore").rstrip(" .")
    return f"{stem}.{ending}" if ending else stem


def _embedded(part: Part) -> Part | None:
    """The message in it, also of two kinds that the scanner leaves whole: those of RFC 6532, and
    those in a transfer encoding, which RFC 2046 §5.2.1 forbids and some send."""
    if part.maintype != b"message" or part.subtype not in _MESSAGES:
        return None
    if part.encoding in _ENCODED:
        return mime.scan(mime.content(part, octets_max=max(part.size_octets, 1)))
    if part.message is not None or part.is_opaque:
        return part.message
    return mime.scan(part.section.octets[part.body : part.end])


def _lines(part: Part, *, is_html: bool) -> str:
    text = mime.text(part, octets_max=TEXT_OCTETS_MAX).replace("\r\n", "\n")
    return to_text(text) if is_html else text


def _named(items: tuple[Listed, ...]) -> Iterator[Named]:
    group = ""
    for item in items:
        if item.is_mailbox:
            local_part = (item.local_part or b"").decode("utf-8", "replace")
            domain = (item.domain or b"").decode("utf-8", "replace")
            address = f"{local_part}@{domain_to_unicode(domain)}" if domain else local_part
            yield Named(words.shown(address), item.display_name, group)
        else:
            group = "" if item.local_part is None else words.decode(item.local_part)


def _type(part: Part) -> bytes:
    return part.maintype + b"/" + part.subtype
