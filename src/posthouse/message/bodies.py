"""Which parts of a message are its text, and which are attachments (RFC 8621 §4.1.4)."""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.message.mime import Part

_SHOWN: Final = frozenset({b"image", b"audio", b"video"})
_TEXTS: Final = frozenset({b"plain", b"html"})


class Bodies(msgspec.Struct, frozen=True, kw_only=True):
    """Parts in the order they are to be shown. A part may be in `text` and in `html`: where there
    is no other form of it, each reader gets the one there is."""

    text: tuple[Part, ...]
    html: tuple[Part, ...]
    attachments: tuple[Part, ...]


class _Place:
    """A multipart that is walked: its kind, and the lists its texts go to. One of the lists is
    given up where the other form was met in it."""

    __slots__ = ("html", "html_before", "is_in_alternative", "subtype", "text", "text_before")

    def __init__(
        self,
        subtype: bytes,
        text: list[Part] | None,
        html: list[Part] | None,
        *,
        is_in_alternative: bool = False,
    ) -> None:
        self.subtype = subtype
        self.is_in_alternative = is_in_alternative or subtype == b"alternative"
        self.text = text
        self.html = html
        self.text_before = len(text) if text is not None else 0
        self.html_before = len(html) if html is not None else 0


def bodies(root: Part) -> Bodies:
    """The parts to show to a reader of plain text and of HTML, and the others. Iterative, as the
    tree may be a hundred deep."""
    text: list[Part] = []
    html: list[Part] = []
    attachments: list[Part] = []
    # Parts to look at with where they are and their number there; a place alone is its end.
    waiting: list[tuple[Part | None, _Place, int]] = [(root, _Place(b"mixed", text, html), 0)]
    while waiting:
        part, place, at = waiting.pop()
        if part is None:
            _fill(place)
        elif part.children:
            inside = _Place(
                part.subtype,
                place.text,
                place.html,
                is_in_alternative=place.is_in_alternative,
            )
            waiting.append((None, inside, 0))
            last = len(part.children) - 1
            waiting.extend(
                (child, inside, last - n) for n, child in enumerate(reversed(part.children))
            )
        else:
            _sort(part, place, at, attachments)
    return Bodies(text=tuple(text), html=tuple(html), attachments=tuple(attachments))


def _fill(place: _Place) -> None:
    """An alternative that has only one form gives it to both readers."""
    text, html = place.text, place.html
    if place.subtype != b"alternative" or text is None or html is None:
        return
    has_text, has_html = len(text) > place.text_before, len(html) > place.html_before
    if has_html and not has_text:
        text.extend(html[place.html_before :])
    elif has_text and not has_html:
        html.extend(text[place.text_before :])


def _sort(part: Part, place: _Place, at: int, attachments: list[Part]) -> None:
    kind = part.subtype if part.maintype == b"text" else b""
    if not _is_inline(part, place, at):
        attachments.append(part)
    elif place.subtype == b"alternative":
        if kind == b"plain" and place.text is not None:
            place.text.append(part)
        elif kind == b"html" and place.html is not None:
            place.html.append(part)
        elif kind not in _TEXTS:
            attachments.append(part)
    else:
        if place.is_in_alternative:  # a multipart as one form of several goes with its own kind
            if kind == b"plain":
                place.html = None
            elif kind == b"html":
                place.text = None
        if place.text is not None:
            place.text.append(part)
        if place.html is not None:
            place.html.append(part)
        if (place.text is None or place.html is None) and part.maintype in _SHOWN:
            attachments.append(part)


def _is_inline(part: Part, place: _Place, at: int) -> bool:
    """To be shown in its place: text, or a picture, that nobody marked as an attachment. Behind
    the first part, and in a multipart/related, a name makes it a file (RFC 8621 §4.1.4)."""
    disposition = part.disposition
    if disposition is not None and disposition[0] == b"attachment":
        return False
    is_text = part.maintype == b"text" and part.subtype in _TEXTS
    if not (is_text or part.maintype in _SHOWN):
        return False
    if at == 0:
        return True
    if place.subtype == b"related":
        return False
    return part.maintype in _SHOWN or part.file_name is None
