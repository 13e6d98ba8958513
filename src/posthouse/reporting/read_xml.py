"""XML of strangers as a stream of events, with bounds on everything (H40).

The only module that may import an XML parser, and only expat: it builds no tree. A document type
declaration ends the reading, so there are no entities to expand or fetch. Octets that are not text
in the encoding become U+FFFD first, as several reporters write them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import Final, Protocol
from xml.parsers import expat

from posthouse.reporting.model import Unreadable

TOKEN_OCTETS_MAX: Final = 256 * 1024
"""Of one tag or comment: expat keeps it in memory until it ends."""
HEAD_OCTETS_MAX: Final = 64 * 1024
"""In which the root element has to begin."""

_DECLARED: Final = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._\-]{1,40})")
_ENCODINGS: Final = {
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
"""Others are read as UTF-8, which US-ASCII is a part of."""
# Characters that XML 1.0 §2.2 does not know.
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Handler(Protocol):
    """What is told of a document, straight from expat, as each call between would cost as much
    again. It bounds depth and count itself. Names come as written, prefix included."""

    @property
    def is_done(self) -> bool:
        """The root has ended; whatever else it is told is to be ignored."""
        ...

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


def parse(pieces: Iterable[bytes], root: str, handler: Handler) -> None:
    """Tell the handler of the first element named `root` (prefixed or not) and all in it.

    What stands behind its end is not looked at.

    Raises:
        Unreadable: there is none, it is not well formed, or it is over a bound; and whatever
            the handler raises.
    """
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    parser.ExternalEntityRefHandler = _refuse_doctype
    fed = 0
    try:
        for text in _from_root(_decoded(iter(pieces)), root):
            octets = text.encode("utf-8", "replace")
            fed += len(octets)
            parser.Parse(octets, False)
            if handler.is_done:
                return
            if fed - max(0, parser.CurrentByteIndex) > TOKEN_OCTETS_MAX + len(octets):
                raise Unreadable("the XML has a tag that is too long")
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        if not handler.is_done:  # what follows the root may be anything
            raise Unreadable(f"the XML is not well formed: {error}") from error


def _refuse_doctype(*_: object) -> int:
    raise Unreadable("the XML declares a document type, which no report does")


def _decoded(pieces: Iterator[bytes]) -> Iterator[str]:
    first = next(pieces, b"")
    decoder = codecs.getincrementaldecoder(_encoding(first))(errors="replace")
    yield _FORBIDDEN.sub("\ufffd", decoder.decode(first))
    for piece in pieces:
        yield _FORBIDDEN.sub("\ufffd", decoder.decode(piece))
    yield _FORBIDDEN.sub("\ufffd", decoder.decode(b"", True))


def _encoding(octets: bytes) -> str:
    if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if octets.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    match = _DECLARED.match(octets.lstrip()[:300])
    return "utf-8" if match is None else _ENCODINGS.get(match[1].decode().lower(), "utf-8")


def _from_root(texts: Iterator[str], root: str) -> Iterator[str]:
    """The text from the root's tag on: some reporters write a stray tag in front of it."""
    head = ""
    opening = re.compile(rf"<(?:[A-Za-z_][\w.\-]{{0,40}}:)?{re.escape(root)}(?=[\s>/])")
    for text in texts:
        head += text
        at, is_sure = _root_at(head, opening)
        if at is not None:
            yield head[at:]
            yield from texts
            return
        if is_sure or len(head) > HEAD_OCTETS_MAX:
            break
    raise Unreadable(f"there is no <{root}> in it")


def _root_at(head: str, opening: re.Pattern[str]) -> tuple[int | None, bool]:
    """Where the root begins, outside comments; and whether a missing one cannot come later."""
    at = 0
    while True:
        comment = head.find("<!--", at)
        stop = len(head) if comment < 0 else comment
        if head.find("<!DOCTYPE", at, stop) >= 0:
            _refuse_doctype()
        match = opening.search(head, at, stop)
        if match is not None:
            return match.start(), True
        if comment < 0:
            return None, False
        end = head.find("-->", comment + 4)
        if end < 0:
            return None, False
        at = end + 3
