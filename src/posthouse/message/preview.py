"""The first words of a message, for lists of mail (RFC 8970)."""

from __future__ import annotations

import re
from typing import Final

from posthouse.message import words
from posthouse.message.html import to_words
from posthouse.message.mime import Part, scan, text

PREVIEW_CHARACTERS_MAX: Final = 200
PREVIEW_OCTETS_MAX: Final = 64 * 1024
"""Of a text part that are looked at."""
# What senders put in so that nothing else shows up in a preview.
_INVISIBLE: Final = re.compile("[\u00ad\u034f\u115f\u180e\u200b-\u200f\u2060-\u2064\ufeff]")
_GLANCE_OCTETS: Final = 2_048  # mostly enough
_PLAIN_OCTETS: Final = 400
PREVIEW_PARTS_MAX: Final = 100
"""Parts looked through for text."""


def preview(octets: bytes) -> str:
    """At most 200 characters of the first readable text, on one line. Never raises."""
    return preview_part(scan(octets))


def preview_part(root: Part) -> str:
    """As `preview`, for one who has scanned already. Plain text is taken before HTML."""
    markup: Part | None = None
    for count, part in enumerate(root.walk()):
        if count == PREVIEW_PARTS_MAX:
            break
        if part.maintype != b"text" or part.children or _is_attachment(part):
            continue
        if part.subtype == b"html":
            markup = markup or part
        elif shown := _beginning(part):
            return shown
    if markup is None:
        return ""
    return _words(to_words(text(markup, octets_max=PREVIEW_OCTETS_MAX)))


def _beginning(part: Part) -> str:
    if (shown := _plain_beginning(part)) is not None:
        return shown
    shown = _words(text(part, octets_max=_GLANCE_OCTETS))
    if len(shown) == PREVIEW_CHARACTERS_MAX or part.size_octets <= _GLANCE_OCTETS:
        return shown
    return _words(text(part, octets_max=PREVIEW_OCTETS_MAX))


def _plain_beginning(part: Part) -> str | None:
    """The common case without a codec: ASCII as it stands, with nothing quoted in it."""
    section = part.section
    if b"content-transfer-encoding" in section and part.encoding not in (b"7bit", b"8bit"):
        return None
    head = section.octets[part.body : min(part.end, part.body + _PLAIN_OCTETS)]
    if b">" in head or not head.isascii():
        return None
    line = " ".join(head.decode("ascii").split())
    if not line.isprintable() or len(line) <= PREVIEW_CHARACTERS_MAX:
        return None
    return f"{line[: PREVIEW_CHARACTERS_MAX - 1]}…"


def _is_attachment(part: Part) -> bool:
    disposition = part.disposition
    return disposition is not None and disposition[0] == b"attachment"


def _words(found: str) -> str:
    """Blanks collapsed, quoted lines left out where there are others."""
    lines = found.split("\n")
    own = [line for line in lines if not line.startswith(">")]
    for chosen in (own, lines):
        line = " ".join(words.shown(_INVISIBLE.sub("", " ".join(chosen))).split())
        if line:
            break
    if len(line) <= PREVIEW_CHARACTERS_MAX:
        return line
    return f"{line[: PREVIEW_CHARACTERS_MAX - 1]}…"
