"""Legacy display elements: what readers that know nothing of header protection see of a hidden
Subject, put in front of the text and taken away again (RFC 9788 §4.5.3, §5.2.2, §5.2.3)."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator, Sequence
from typing import Final

from posthouse.message import mime, words
from posthouse.message.mime import Part
from posthouse.message.parameters import Parameters
from posthouse.mimesec.entity import (
    Edit,
    edited,
    encoded,
    field_named,
    field_octets,
    is_clean,
    is_unnamed,
    with_parameters,
)
from posthouse.mimesec.header_policy import Header

PARAMETER: Final = b"hp-legacy-display"
CLASS: Final = "header-protection-legacy-display"

_BODY: Final = re.compile(r"<body\b[^>]*+>", re.IGNORECASE)
_FRONT: Final = re.compile(
    r"\s*+(?:<!doctype\b[^>]*+>\s*+)?(?:<html\b[^>]*+>\s*+)?(?:<head\b[^>]*+>.*?</head\s*+>)?",
    re.IGNORECASE | re.DOTALL,
)
_DIV: Final = re.compile(
    r"<(?:!--.*?(?:-->|\Z)|(/?)div\b((?:[^>\"']|\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))*+)(?:>|\Z))",
    re.IGNORECASE | re.DOTALL,
)
_CLASS: Final = re.compile(
    r"(?<![\w-])class\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))", re.I
)
_UP_TO_EMPTY_LINE: Final = re.compile(r"(?:[^\r\n]++\r?\n)*+\r?\n")
_ENCODING: Final = b"content-transfer-encoding"


# --- putting in ---


def add(entity: bytes, headers: Sequence[Header]) -> bytes:
    """The entity with those fields in front of each main text (RFC 9787 §7.1); unchanged where it
    has none that can take them."""
    if not headers:
        return entity
    root = mime.scan(entity)
    return edited(entity, [edit for part in _main_bodies(root) for edit in _added(part, headers)])


def _main_bodies(root: Part) -> Iterator[Part]:
    """In the order of the octets: the first child of each multipart, all of an alternative."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.children:
            if part.subtype == b"alternative":
                waiting.extend(reversed(part.children))
            elif part.subtype not in (b"signed", b"encrypted"):
                waiting.append(part.children[0])
        elif part.maintype == b"text" and part.subtype in (b"plain", b"html"):
            disposition = part.disposition
            if disposition is None or disposition[0] != b"attachment":
                yield part


def _added(part: Part, headers: Sequence[Header]) -> Iterator[Edit]:
    text, charset = _text(part)
    if text is None or (is_unnamed(part) and charset != "utf-8" and not text.isascii()):
        return  # nobody knows what it is in
    lines = "".join(f"{one.name}: {words.decode(one.value)}\r\n" for one in headers)
    if part.subtype == b"plain":
        new = f"{lines}\r\n{text}"
    else:
        shown = html.escape(lines, quote=False)
        element = f'<div class="{CLASS}">\r\n<pre>\r\n{shown}</pre>\r\n</div>'
        found = _BODY.search(text)
        at = found.end() if found is not None else _end_of_front(text)
        new = f"{text[:at]}{element}{text[at:]}"  # so that taking it away leaves what was there
    try:
        octets = new.encode(charset)
    except (UnicodeEncodeError, LookupError):
        octets, charset = new.encode("utf-8"), "utf-8"
    kept = [(key, value) for key, value in part.parameters.items if key not in _OWN_PARAMETERS]
    given = ((b"charset", charset.encode("ascii")), *kept, (PARAMETER, b"1"))
    yield from _rewritten(part, octets, Parameters(given))


_OWN_PARAMETERS: Final = (PARAMETER, b"charset")


def _end_of_front(text: str) -> int:
    match = _FRONT.match(text)
    return 0 if match is None else match.end()


def _text(part: Part) -> tuple[str | None, str]:
    """The whole text and the charset to write it in; None where it cannot be read exactly."""
    if part.encoding not in (b"7bit", b"8bit", b"binary", b"quoted-printable", b"base64"):
        return None, ""
    charset = (part.parameters.raw(b"charset") or b"us-ascii").decode("ascii", "replace")
    octets = mime.content(part, octets_max=max(part.size_octets, 1))
    if octets.isascii() and charset.lower() in ("us-ascii", "utf-8", "iso-8859-1"):
        return octets.decode("ascii"), charset.lower()
    codec = words.codec_for(charset)
    if codec is None:
        return None, ""
    if codec == "cp1252":  # as `words.to_text` reads what is UTF-8 and says another thing
        with contextlib.suppress(UnicodeDecodeError):
            return octets.decode("utf-8"), "utf-8"
    try:
        text = octets.decode(codec)
        return (text, charset.lower()) if text.encode(codec) == octets else (None, "")
    except UnicodeError:
        return None, ""


def _rewritten(part: Part, octets: bytes, given: Parameters) -> Iterator[Edit]:
    """New content for a leaf, with those parameters of its type."""
    if is_clean(octets):
        encoding, written = "7bit", octets
    else:
        chosen, written = encoded(octets, is_text=True)
        encoding = chosen.value
    said = field_named(b"Content-Transfer-Encoding", encoding.encode("ascii"))
    yield _typed_anew(part, given, without=_ENCODING, more=said)
    yield part.body, part.end, written


def _typed_anew(part: Part, given: Parameters, *, without: bytes = b"", more: bytes = b"") -> Edit:
    """Another header section for a leaf: with those parameters, without a field and with more."""
    section = part.section
    fields = [
        field_octets(section, field)
        for field in section.fields
        if field.name not in (b"content-type", without)
    ]
    what = f"{part.maintype.decode('ascii')}/{part.subtype.decode('ascii')}"
    # A boundary divides nothing here, and may be one that nobody can write.
    kept = tuple(item for item in given.items if item[0] != b"boundary")
    fields.append(with_parameters("Content-Type", what, Parameters(kept)))
    return part.start, part.body, b"".join((*fields, more, b"\r\n"))


# --- taking away ---


def unmarked(entity: bytes) -> bytes:
    """The entity without marks that were there before it is encrypted: they would make its readers
    take away text that everybody saw. Inside of what is signed they have no meaning."""
    edits = []
    for part in _marked(mime.scan(entity)):
        kept = tuple(item for item in part.parameters.items if not _is_mark(item[0]))
        edits.append(_typed_anew(part, Parameters(kept)))
    return edited(entity, edits)


def remove(entity: bytes) -> bytes:
    """The entity without these elements, in all parts that say they have one (RFC 9788 §4.5.3).
    Only of what was encrypted."""
    edits: list[Edit] = []
    for part in _marked(mime.scan(entity)):
        if part.parameters.raw(PARAMETER) != b"1":
            continue
        text, charset = _text(part)
        if text is None:
            continue
        new = _without_lines(text) if part.subtype == b"plain" else _without_elements(text)
        if part.subtype in (b"plain", b"html") and new != text:
            codec = words.codec_for(charset) or "utf-8"
            # Nor the mark, or whoever encrypts it again makes readers take away more.
            kept = tuple(item for item in part.parameters.items if not _is_mark(item[0]))
            edits += _rewritten(part, new.encode(codec, "replace"), Parameters(kept))
    return edited(entity, edits)


def _marked(root: Part) -> Iterator[Part]:
    """The texts that may have such an element, in order; none inside of a signature, which would
    not be good any more."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.children:
            if part.subtype not in (b"signed", b"encrypted"):
                waiting.extend(reversed(part.children))
        elif part.maintype == b"text" and any(_is_mark(item[0]) for item in part.parameters.items):
            yield part


def _is_mark(name: bytes) -> bool:
    return name.partition(b"*")[0] == PARAMETER  # in another form some may read it, too


def _without_lines(text: str) -> str:
    match = _UP_TO_EMPTY_LINE.match(text)
    return text if match is None else text[match.end() :]


def _without_elements(text: str) -> str:
    """Without each such <div> up to its own end; one that is never closed stays."""
    pieces: list[str] = []
    at = depth = 0
    begin = -1
    for tag in _DIV.finditer(text):
        if tag[1] is None:  # a comment
            continue
        if begin < 0:
            if not tag[1] and _has_class(tag[2]):
                begin, depth = tag.start(), 1
            continue
        depth += -1 if tag[1] else 1
        if not depth:
            pieces.append(text[at:begin])
            at, begin = tag.end(), -1
    pieces.append(text[at:])
    return "".join(pieces)


def _has_class(attributes: str) -> bool:
    match = _CLASS.search(attributes)
    return match is not None and CLASS in (match[1] or match[2] or match[3] or "").split()
