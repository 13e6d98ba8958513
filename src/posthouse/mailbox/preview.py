"""The first words of a message, for lists of messages (RFC 8970 §3.1). Pure."""

from __future__ import annotations

import re
from typing import Final

from posthouse.message import mime
from posthouse.message.words import shown

PREVIEW_CHARACTERS: Final = 200
SOURCE_OCTETS_MAX: Final = 4_096
"""Of a text part that are looked at."""
HTML_OCTETS_MAX: Final = 32_768
PARTS_MAX: Final = 100

# What is invisible and pads the previews of newsletters; text direction with it.
_INVISIBLE: Final = dict.fromkeys(
    (0xAD, 0x34F, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)
)
_TAG: Final = re.compile(r"<[^<>]*+>")
_ENTITY: Final = re.compile(r"&(#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos|nbsp);")
_ENTITIES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " "}
_SILENT: Final = ("style", "script", "title", "head")
"""Elements whose content nobody sees."""


def preview(root: mime.Part) -> str:
    """Of the first text part, on one line; "" when there is none."""
    for count, part in enumerate(root.walk()):
        if count >= PARTS_MAX:
            break
        if part.maintype != b"text" or part.is_multipart:
            continue
        disposition = part.disposition
        if disposition is not None and disposition[0] == b"attachment":
            continue
        if part.subtype == b"html":
            words = html_words(mime.text(part, octets_max=HTML_OCTETS_MAX))
        else:
            words = mime.text(part, octets_max=SOURCE_OCTETS_MAX)
        if line := _one_line(words):
            return line
    return ""


def _one_line(text: str) -> str:
    text = shown(text[: PREVIEW_CHARACTERS * 8])
    if not text.isascii():
        text = text.translate(_INVISIBLE)
    return " ".join(text.split())[:PREVIEW_CHARACTERS].rstrip()


def html_words(html: str) -> str:
    """What is left of HTML without tags, comments and what is not shown. Linear."""
    return _ENTITY.sub(_entity, _TAG.sub(" ", _visible(html)))


def _visible(html: str) -> str:
    """Cut out comments and the elements of `_SILENT`; what is not closed lasts to the end."""
    folded = html.lower() if html.isascii() else html.translate(_ASCII_LOWER)
    kept: list[str] = []
    at = 0
    while (opened := folded.find("<", at)) >= 0:
        if folded.startswith("<!--", opened):
            end = folded.find("-->", opened + 4)
        else:
            name = next((n for n in _SILENT if folded.startswith(n, opened + 1)), None)
            if name is None or folded[opened + 1 + len(name) : opened + 2 + len(name)].isalnum():
                kept.append(html[at : opened + 1])
                at = opened + 1
                continue
            end = folded.find(f"</{name}", opened + 1)
        kept.append(html[at:opened])
        closed = folded.find(">", end) if end >= 0 else -1
        if closed < 0:
            return "".join(kept)
        at = closed + 1
    kept.append(html[at:])
    return "".join(kept)


_ASCII_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _entity(match: re.Match[str]) -> str:
    name = match[1]
    if name[0] != "#":
        return _ENTITIES[name]
    code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    return chr(code) if 32 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else " "
