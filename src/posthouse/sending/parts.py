"""The body of a new message: which parts it has, and how they are nested.

    mixed ── alternative ─┬ text/plain
      │                   ├ other texts (AMP, Markdown, watch HTML)
      │                   ├ html, or related ── html, pictures by cid
      │                   └ text/calendar
      ├ attachments
      └ invite.ics

A level with one child is left out. The order within alternative is RFC 2046 §5.1.4's, the best
last, but for readers that show the last one whatever it is: no text of a rare type stands behind
the HTML.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.message import build, html_text
from posthouse.message.build import Encoding, Entity
from posthouse.message.transfer import with_crlf
from posthouse.sending.attachments import (
    Attached,
    attach,
    check_plain,
    leaf,
    octets_of,
    part_head,
    read_encoding,
)
from posthouse.sending.content_type import MediaType, read_type, type_field, written
from posthouse.sending.inline import content_ids
from posthouse.sending.message import Alternative, CalendarEvent, Content, Message
from posthouse.sending.naming import fault, named, one_of, several, shown, text_of

__all__ = ["body"]

CALENDAR_FILE: Final = MediaType("application", "ics")
METHOD_DEFAULT: Final = "PUBLISH"
CALENDAR_HEAD: Final = 4_096
"""Characters of a calendar object in which its METHOD is looked for."""

_LOG: Final = logging.getLogger("posthouse.sending")
_METHOD: Final = re.compile(r"[A-Za-z0-9-]{1,40}")
_METHOD_LINE: Final = re.compile(r"^METHOD(?:;[^:\r\n]*+)?:[ \t]*+([^\r\n]*+)", re.M | re.I)


def body(message: Message, token: Callable[[int], bytes]) -> Entity:
    """The whole body of a message whose contents were gathered.

    Args:
        token: chance for the boundaries, so that no content can hold one.

    Raises:
        MessageError: about the argument that is wrong.
    """
    texts = _texts(message)
    attached = attach(message.attachments)
    file = None if message.calendar is None else _invitation_file(message.calendar)
    attached += [] if file is None else [file]
    boundaries = _Boundaries(token)
    if texts.html is not None:
        _tell_of_missing(_text("html", message.html or ""), attached)
        related = [one.entity for one in attached if one.cid]
        attached = [one for one in attached if not one.cid]
        if related:
            kind = ['type="text/html"']  # RFC 2387 §3.1
            html = boundaries.multipart("related", [texts.html, *related], kind)
            texts = msgspec.structs.replace(texts, html=html)
    alternatives = texts.in_order()
    if not alternatives and len(attached) == 1 and _may_be_root(attached[0]):
        return attached[0].entity
    inner = [boundaries.multipart("alternative", alternatives)] if alternatives else []
    if not inner and not attached:
        return build.text_entity("")
    parts = [*inner, *(one.entity for one in attached)]
    return boundaries.multipart("mixed", parts, is_needed=not inner)


def _tell_of_missing(markup: str, attached: Sequence[Attached]) -> None:
    """Pictures that nobody will see; that may be meant, so it is no error."""
    known = {one.cid for one in attached}
    for cid in content_ids(markup):
        if cid not in known:
            _warn(shown(cid))


@lru_cache(maxsize=1_000)
def _warn(cid: str) -> None:
    """Once for each, as a thousand letters may have the same HTML."""
    _LOG.warning(
        "the HTML shows a picture by the cid %s, which no part of the message has: readers see none"
        " in its place",
        cid,
    )


def _may_be_root(attached: Attached) -> bool:
    """Whether a part can be the whole message; one without a last line end cannot."""
    chunks = attached.entity.chunks
    return attached.may_be_root and (not chunks or chunks[-1].endswith(b"\r\n"))


class _Boundaries:
    """Makes multiparts; the boundaries of one message differ from each other at the end."""

    def __init__(self, token: Callable[[int], bytes]) -> None:
        self._token = token
        self._chance = ""
        self._count = 0

    def multipart(
        self,
        subtype: str,
        parts: Sequence[Entity],
        more: Sequence[str] = (),
        *,
        is_needed: bool = False,
    ) -> Entity:
        """A multipart, or the one part there is where `is_needed` does not ask for more."""
        if len(parts) == 1 and not is_needed:
            return parts[0]
        self._chance = self._chance or self._token(12).hex()
        self._count += 1
        boundary = f"=_{self._chance}_{self._count}"
        return build.multipart(subtype, parts, parameters=more, boundary=boundary)


# --- texts ---


class _Texts(msgspec.Struct, frozen=True, kw_only=True):
    plain: Entity | None = None
    before_html: tuple[Entity, ...] = ()
    html: Entity | None = None
    behind_html: tuple[Entity, ...] = ()

    def in_order(self) -> list[Entity]:
        html = () if self.html is None else (self.html,)
        plain = () if self.plain is None else (self.plain,)
        return [*plain, *self.before_html, *html, *self.behind_html]


def _texts(message: Message) -> _Texts:
    encoding = read_encoding("text_encoding", message.text_encoding)
    plain = "" if message.text is None else _text("text", message.text)
    markup = "" if message.html is None else _text("html", message.html)
    is_plain = bool(plain) or (message.text is not None and not markup)
    if not plain and markup:
        plain = html_text.to_text(markup)
        is_plain = bool(plain)
    before: list[Entity] = []
    behind: list[Entity] = []
    for at, given in enumerate(several("alternatives", message.alternatives)):
        field = f"alternatives[{at}]"
        kind, entity = _alternative(field, one_of(field, given, Alternative))
        is_rare = kind.maintype == "text" and kind.subtype != "calendar"
        (before if is_rare else behind).append(entity)
    if message.calendar is not None:
        event = one_of("calendar", message.calendar, CalendarEvent)
        behind.append(_invitation(event, encoding))
    return _Texts(
        plain=_text_entity("text", plain, "plain", encoding) if is_plain else None,
        before_html=tuple(before),
        html=_text_entity("html", markup, "html", encoding) if markup else None,
        behind_html=tuple(behind),
    )


def _text(field: str, content: Content) -> str:
    if isinstance(content, str):
        return text_of(field, content)
    try:
        return octets_of(field, content).decode("utf-8")
    except UnicodeDecodeError:
        raise fault(field, "the octets are not UTF-8", hint="decode them, and give text") from None


def _text_entity(
    field: str,
    text: str,
    subtype: str,
    encoding: Encoding | None,
    more: Sequence[str] = (),
    fields: tuple[bytes, ...] = (),
) -> Entity:
    entity = named(
        field,
        build.text_entity,
        text,
        subtype=subtype,
        encoding=encoding,
        parameters=more,
        fields=fields,
    )
    if encoding in (Encoding.SEVEN_BIT, Encoding.EIGHT_BIT):
        check_plain(field, entity.body, encoding)
    return entity


def _alternative(field: str, given: Alternative) -> tuple[MediaType, Entity]:
    kind = read_type(f"{field}.content_type", given.content_type)
    encoding = read_encoding(f"{field}.encoding", given.encoding)
    where = f"{field}.content"
    is_ours = (kind.value("charset") or "utf-8").lower() in ("utf-8", "us-ascii")
    if kind.maintype == "text" and (is_ours or isinstance(given.content, str)):
        more = written(f"{field}.content_type", kind, without="charset")
        text = _text(where, given.content)
        return kind, _text_entity(where, text, kind.subtype, encoding, more)
    head = type_field(f"{field}.content_type", kind)
    return kind, leaf(where, kind, (head,), octets_of(where, given.content), encoding)


# --- calendar ---


def _invitation(event: CalendarEvent, encoding: Encoding | None) -> Entity:
    """The part that readers show as an invitation (RFC 6047 §2.4)."""
    text = _text("calendar.content", event.content)
    method = f"method={_method(event, text)}"
    return _text_entity("calendar.content", text, "calendar", encoding, (method,))


def _method(event: CalendarEvent, text: str) -> str:
    """What the object says of itself, which has to be what the part says (RFC 6047 §2.4)."""
    field = "calendar.method"
    line = _METHOD_LINE.search(text, 0, CALENDAR_HEAD)
    said = line[1].strip().upper() if line else ""
    given = (text_of(field, event.method) if event.method is not None else said) or METHOD_DEFAULT
    if _METHOD.fullmatch(given) is None:
        raise fault(field, f"{shown(given)} is no method", hint="REQUEST, CANCEL, REPLY, PUBLISH …")
    if said and given.upper() != said:
        hint = "make them the same, or leave `method` out"
        words = f"{given.upper()} was given, and the content has METHOD:{said[:40]!r}"
        raise fault(field, words, hint=hint)
    return given.upper()


def _invitation_file(event: CalendarEvent) -> Attached | None:
    if not event.filename:
        return None
    text = with_crlf(octets_of("calendar.content", event.content))
    fields = part_head("calendar.filename", CALENDAR_FILE, event.filename, "attachment")
    return Attached(leaf("calendar.content", CALENDAR_FILE, fields, text, None))
