"""The MIME entity inside a message: taken out, made fit to be signed, put back.

A signature covers octets, and relays change octets: they encode 8-bit text anew, strip blanks at
the ends of lines, put ">" in front of "From ". So what is signed is first given a form in which
nobody finds anything to change (RFC 8551 §3.1, RFC 3156 §3 and §5): ASCII, CRLF, short lines, no
blanks before a line end, no line that begins with "From ". Parts that are so already are kept octet
for octet.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from posthouse.message import build, mime, words
from posthouse.message.build import BuildError
from posthouse.message.fields import (
    FIELD_OCTETS_MAX,
    FIELDS_MAX,
    HEADER_OCTETS_MAX,
    Field,
    HeaderSection,
    exceeded,
    read_section,
    unfold,
)
from posthouse.message.mime import Part
from posthouse.message.parameters import Parameters, parse_disposition, parse_type
from posthouse.message.transfer import LINE_OCTETS_MAX, Encoding, encode
from posthouse.mimesec.ports import ProtectionError

MIME_VERSION: Final = b"MIME-Version: 1.0\r\n"
QP_LINE_OCTETS: Final = 76  # RFC 2045 §6.7

ASCII_NAMES: Final = frozenset({b"us-ascii", b"ascii", b"ansi_x3.4-1968", b"iso646-us"})
"""Charsets that text outside of them cannot be in, whatever it says."""

# Of the bounds up to which header sections are read, what is left for the fields of the way (trace,
# results, other hosts' signatures) and for what a copy of a field is longer than the field.
_ROOM_OCTETS: Final = 32 * 1024
_ROOM_FIELDS: Final = 100
_ROOM_IN_FIELD: Final = 64
_CONTENT: Final = b"content-"
_ENCODING_NAME: Final = b"content-transfer-encoding"
_FROM: Final = b"From "
# Composite types that no encoding but the identity may have (RFC 2045 §6.4), and whose inside is a
# signature's: it is left as it is, apart from line ends.
_SEALED: Final = frozenset({b"signed", b"encrypted"})
_PLAIN_ENCODINGS: Final = frozenset({b"7bit", b"8bit", b"binary"})
_CODED: Final = frozenset({b"base64", b"quoted-printable"})
_PARSED: Final = {b"content-type": parse_type, b"content-disposition": parse_disposition}
_TEXT_FIELDS: Final = frozenset({b"subject", b"comments", b"keywords", b"content-description"})
_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_LINE_OF_FROM: Final = re.compile(rb"^((?:From )++)([^\r\n]*+)", re.MULTILINE)
_BLANKED: Final = bytes.maketrans(b"\r\0", b"  ")
_ABOVE_ASCII: Final = re.compile(rb"[^\x00-\x7f]")
_ASCII: Final = bytes(range(128))
_BOUNDARY: Final = re.compile(rb"[ -~]++")


Edit = tuple[int, int, bytes]
"""From where to where there is something new."""


class SplitMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as what describes it and what it holds."""

    fields: tuple[bytes, ...]
    """Of the message, whole, each with its CRLF, in order; neither Content- fields nor
    MIME-Version."""
    entity: bytes
    """The Content- fields, an empty line and the body."""


def split_message(octets: bytes) -> SplitMessage:
    """Raises:
    ProtectionError: the header section is larger than its readers read.
    """
    section = read_section(octets)
    check_is_read(section)
    return _split(section)


def _split(section: HeaderSection) -> SplitMessage:
    outer: list[bytes] = []
    inner: list[bytes] = []
    for field in section.fields:
        whole = field_octets(section, field)
        if field.name.startswith(_CONTENT):
            inner.append(whole)
        elif field.name != b"mime-version":
            outer.append(whole)
    return SplitMessage(
        fields=tuple(outer), entity=b"".join((*inner, b"\r\n", section.octets[section.body :]))
    )


def check_is_read(section: HeaderSection) -> None:
    """Raises ProtectionError: of the header section some fields would be lost once it is read
    again, or those that say what the body is, with what is added on its way."""
    limit = exceeded(
        section,
        header_octets_max=HEADER_OCTETS_MAX - _ROOM_OCTETS,
        field_octets_max=FIELD_OCTETS_MAX - _ROOM_IN_FIELD,
        fields_max=FIELDS_MAX - _ROOM_FIELDS,
    )
    if limit is not None:
        raise ProtectionError(
            "the message cannot be protected: its header section is so large that some of it would"
            f" be lost on the way ({limit.limit.value})",
            hint="send it without the fields that make it so large",
        )


def join_message(fields: Iterable[bytes], entity: bytes) -> bytes:
    """A message of whole fields and an entity."""
    return b"".join((*fields, MIME_VERSION, entity))


def field_octets(section: HeaderSection, field: Field) -> bytes:
    """A whole field as it stands, its lines ended by CRLF, without lines of blanks only (which some
    programs take for the end of the header section). A CR by itself, which some take for the end of
    the field, and NUL become blanks."""
    octets = section.octets[field.start : field.end]
    lines = octets.replace(b"\r\n", b"\n").translate(_BLANKED).split(b"\n")
    return b"".join(line + b"\r\n" for line in lines if line.strip(b" \t"))


def field_named(name: bytes, value: bytes) -> bytes:
    """A whole field of an unfolded value that is to be written as it is."""
    return b"%s: %s\r\n" % (name, value)


def kept(octets: bytes) -> bytes:
    """A message as it may be stored and sent: lines ended by CRLF, and no CR, LF or NUL besides.
    Nobody has refused them in what was encrypted. Content that needs them is encoded."""
    ends = octets.count(b"\r\n")
    if octets.count(b"\n") == ends == octets.count(b"\r") and b"\0" not in octets:
        return octets
    split = _split(read_section(octets))
    whole = join_message(split.fields, canonical(split.entity))
    # What is signed inside is left as it is by that; no mailbox can hold it so, either.
    return _BARE.sub(b"\r\n", whole).replace(b"\0", b" ")


# --- canonical form ---


def canonical(entity: bytes) -> bytes:
    """The entity in a form that survives its way, with the same content (RFC 8551 §3.1).

    What is signed or encrypted already inside it is not touched, but for bare LF that becomes CRLF;
    neither is a multipart or message that cannot be divided.
    """
    if is_clean(entity):
        return entity
    if b"\r" not in entity:  # of a system that ends lines so
        entity = entity.replace(b"\n", b"\r\n")
        if is_clean(entity):
            return entity
    return edited(entity, _edits(mime.scan(entity)))


def canonical_fields(fields: Iterable[bytes]) -> tuple[bytes, ...]:
    """Whole fields in the same form, with text outside ASCII as encoded-words."""
    cleaned = []
    for whole in fields:
        section = read_section(whole)
        cleaned += [_clean_field(section, field) for field in section.fields]
    return tuple(cleaned)


def edited(octets: bytes, edits: Iterable[Edit]) -> bytes:
    """The octets with others in some places, which come in order."""
    pieces: list[bytes] = []
    at = 0
    for start, end, new in edits:
        pieces += (octets[at:start], new)
        at = end
    pieces.append(octets[at:])
    return b"".join(pieces)


def is_clean(octets: bytes) -> bool:
    """Whether nobody on the way has a reason to change anything."""
    if not octets.isascii() or b"\0" in octets:
        return False
    ends = octets.count(b"\r\n")
    return (
        octets.count(b"\n") == ends
        and octets.count(b"\r") == ends
        and b" \r\n" not in octets
        and b"\t\r\n" not in octets
        and not octets.endswith((b" ", b"\t"))
        and b"\nFrom " not in octets
        and not octets.startswith(_FROM)
        and max(map(len, octets.split(b"\r\n"))) <= LINE_OCTETS_MAX
    )


def _edits(root: Part) -> Iterator[Edit]:
    """What to put in place of which octets, in order."""
    octets = root.section.octets
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.message is not None:
            yield from _header(part, None)
            waiting.append(part.message)
        elif part.children and not _is_sealed(part) and _has_plain_boundary(part):
            yield from _header(part, b"7bit")
            # The octets between the children are not content: they are made clean as they come.
            edges = [part.body, *(edge for c in part.children for edge in (c.start, c.end))]
            gaps = list(zip(edges[::2], (*edges[1::2], part.end), strict=True))
            waiting.extend(reversed(list(_with_gaps(part, gaps))))
        elif isinstance(part, _Gap):
            text = octets[part.start : part.end]
            if not is_clean(text):
                yield part.start, part.end, _clean_gap(text)
        else:
            yield from _leaf(part)


class _Gap(Part):
    """Octets between parts; a part only so that it can stand in one list with them."""

    def __init__(self, octets: bytes, start: int, end: int) -> None:
        super().__init__(HeaderSection(octets, start, start, start, []), end)


def _with_gaps(part: Part, gaps: list[tuple[int, int]]) -> Iterator[Part]:
    octets = part.section.octets
    for (start, end), child in zip(gaps, (*part.children, None), strict=True):
        yield _Gap(octets, start, end)
        if child is not None:
            yield child


def _is_sealed(part: Part) -> bool:
    return part.maintype == b"multipart" and part.subtype in _SEALED


def _has_plain_boundary(part: Part) -> bool:
    return _BOUNDARY.fullmatch(part.parameters.raw(b"boundary") or b"") is not None


def _clean_gap(text: bytes) -> bytes:
    """Delimiters, preamble and epilogue. A delimiter keeps its words; what becomes of the others is
    of no importance, except that none may become a delimiter."""
    lines = []
    for line in text.split(b"\n"):
        line = line.rstrip(b" \t\r")
        if line.startswith(_FROM):
            line = b">" + line
        if not is_clean(line):
            line = _ABOVE_ASCII.sub(b"?", line).replace(b"\0", b"?").replace(b"\r", b"?")
            line = line[: LINE_OCTETS_MAX // 2]
        lines.append(line)
    return b"\r\n".join(lines)


def _leaf(part: Part) -> Iterator[Edit]:
    octets = part.section.octets
    body = octets[part.body : part.end]
    if part.maintype in (b"multipart", b"message"):  # sealed, or nobody can divide it
        if _is_sealed(part) and _has_plain_boundary(part):
            yield from _header(part, None)
        if _BARE_LF.search(body):
            yield part.body, part.end, _BARE_LF.sub(b"\r\n", body)
        return
    encoding = part.encoding
    if encoding not in _CODED and encoding not in _PLAIN_ENCODINGS:
        yield from _header(part, None)  # nobody knows what the octets are
        return
    if is_clean(body):
        # 8bit and binary are promises that are not needed any more.
        yield from _header(part, None if encoding in _CODED else b"7bit")
        return
    content = body if encoding not in _CODED else mime.content(part, octets_max=len(body))
    if encoding == b"base64":
        chosen, written = Encoding.BASE64, b"".join(encode(content, Encoding.BASE64))
    else:
        chosen, written = encoded(content, is_text=_is_text(part))
    named = _named_utf_8(part, content)
    yield from _header(part, chosen.value.encode("ascii"), is_new=True, new_type=named)
    yield part.body, part.end, written


def _is_text(part: Part) -> bool:
    value = part.section.first(b"content-type")
    return part.maintype == b"text" and (value is None or parse_type(value) is not None)


def is_unnamed(part: Part) -> bool:
    """Whether a text does not say in which charset it is, or one that has no octets above 127."""
    name = part.parameters.raw(b"charset")
    return b"charset*" not in dict(part.parameters.items) and (
        name is None or name.lower() in ASCII_NAMES
    )


def _named_utf_8(part: Part, content: bytes) -> bytes:
    """The type of a text that does not say that it is UTF-8, and can be nothing else: nobody sees
    that from the encoded form. b"" where it stays as it is."""
    if content.isascii() or not (_is_text(part) and is_unnamed(part)):
        return b""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return b""
    given = [item for item in part.parameters.items if item[0] not in (b"charset", b"boundary")]
    what = f"text/{part.subtype.decode('ascii')}"
    return with_parameters("Content-Type", what, Parameters(((b"charset", b"utf-8"), *given)))


def encoded(content: bytes, *, is_text: bool) -> tuple[Encoding, bytes]:
    """The content in an encoding that hides all that is not clean."""
    if is_text and b"\0" not in content:
        content = _BARE_LF.sub(b"\r\n", content)
        above = len(content.translate(None, _ASCII))
        has_bare_cr = content.count(b"\r") != content.count(b"\r\n")
        if above * 6 < len(content) and not has_bare_cr:
            return Encoding.QUOTED_PRINTABLE, _quoted_printable(content)
    return Encoding.BASE64, b"".join(encode(content, Encoding.BASE64))


def _quoted_printable(content: bytes) -> bytes:
    """As `transfer.encode`, and no line begins with "From " (RFC 3156 §5)."""
    return _LINE_OF_FROM.sub(_hidden_from, b"".join(encode(content, Encoding.QUOTED_PRINTABLE)))


def _hidden_from(match: re.Match[bytes]) -> bytes:
    """Each "From " becomes two octets longer: where the line has no room it is broken there."""
    count = len(match[1]) // len(_FROM)
    if len(match[0]) + 2 * count > QP_LINE_OCTETS:
        return b"=46rom =\r\n" * count + match[2]
    return b"=46rom " * count + match[2]


def _header(
    part: Part, encoding: bytes | None, *, is_new: bool = False, new_type: bytes = b""
) -> Iterator[Edit]:
    """The header section without what is not clean, and with that Content-Transfer-Encoding.

    Args:
        encoding: to say instead of a plain one, or (`is_new`) in any case.
        new_type: a whole field, in place of the Content-Type.
    """
    section = part.section
    written = section.octets[section.start : section.end]
    is_said = is_new or (
        encoding is not None
        and _ENCODING_NAME in section
        and part.encoding not in (encoding, *_CODED)
    )
    if not is_said and is_clean(written):
        return
    fields: list[bytes] = [new_type]
    for field in section.fields:
        is_replaced = is_said and field.name == _ENCODING_NAME
        if not (is_replaced or (new_type and field.name == b"content-type")):
            fields.append(_clean_field(section, field))
    if is_said and encoding is not None:
        fields.append(field_named(b"Content-Transfer-Encoding", encoding))
    end = section.end
    if is_new and section.body == section.end:  # there was not even an empty line
        fields.append(b"\r\n")
    yield section.start, end, b"".join(fields)
    if section.octets[section.end : section.body] == b"\n":
        yield section.end, section.body, b"\r\n"


def _clean_field(section: HeaderSection, field: Field) -> bytes:
    lines = field_octets(section, field).split(b"\r\n")
    whole = b"\r\n".join(line.rstrip(b" \t\r") for line in lines)
    if is_clean(whole):
        return whole
    name = section.octets[field.start : field.start + len(field.name)]
    value = unfold(section.value(field)).replace(b"\0", b" ").replace(b"\r", b" ")
    try:
        if (parse := _PARSED.get(field.name)) is not None and (parsed := parse(value)) is not None:
            what = b"/".join(one for one in parsed[:-1] if isinstance(one, bytes))
            given = parsed[-1]
            assert isinstance(given, Parameters)
            return with_parameters(name.decode("ascii"), what.decode("ascii"), given)
        if field.name in _TEXT_FIELDS or value.isascii():
            return build.text_field(name.decode("ascii"), words.decode(value))
    except BuildError:
        pass
    # Addresses outside ASCII need a way that carries them (RFC 6532); nobody changes them there.
    return field_named(name, value.rstrip(b" \t"))


def with_parameters(name: str, what: str, given: Parameters) -> bytes:
    """A Content- field of a type or disposition and parameters, decoded and written anew; those
    that nobody could write are left out, except for the boundary.

    Raises:
        BuildError: of a boundary that cannot be written.
    """
    written: list[str] = []
    for key, raw in given.items:
        if key == b"boundary":  # in one piece, as it divides the message for every reader
            written.append(build.parameter(name, "boundary", raw.decode("ascii", "replace")))
            continue
        bare = key.removesuffix(b"*")
        text = given.text(bare) if key.endswith(b"*") else words.to_text(raw)
        with contextlib.suppress(BuildError):
            written += build.parameters(
                name, bare.decode("ascii", "ignore"), words.shown(text or "")
            )
    return build.parameters_field(name, what, written)
