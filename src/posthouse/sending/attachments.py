"""Attachments of a new message: files, pictures for the HTML, messages, parts made elsewhere."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from posthouse.message import build
from posthouse.message.build import Encoding, Entity, parameters, parameters_field
from posthouse.message.fields import FIELDS_MAX, HEADER_OCTETS_MAX, read_section
from posthouse.message.mime import Part
from posthouse.message.transfer import why_not_plain, with_crlf
from posthouse.sending import media_types
from posthouse.sending.content_type import MediaType, read_type, type_field
from posthouse.sending.fields import part_fields
from posthouse.sending.message import Attachment, Content
from posthouse.sending.naming import fault, named, several, shown, text_of

__all__ = ["Attached", "attach", "check_plain", "leaf", "octets_of", "part_head", "read_encoding"]

_CID: Final = re.compile(r"[!-;=?-~]{1,200}")
_RAW_HINT: Final = "it begins with Content-Type and other fields, then an empty line, then the body"


class Attached(msgspec.Struct, frozen=True):
    entity: Entity
    cid: str = ""
    """Without brackets; "" where nothing refers to it."""
    may_be_root: bool = False
    """It may be the whole message: its fields are all our own."""


def attach(given: object) -> list[Attached]:
    """The parts of `attachments`, in order. Raises MessageError about `attachments[0].cid` etc."""
    found: list[Attached] = []
    known: set[str] = set()
    for at, attachment in enumerate(several("attachments", given)):
        field = f"attachments[{at}]"
        if not isinstance(attachment, Attachment):
            kind = type(attachment).__name__
            raise fault(field, f"{kind} has to be read first", hint="see `gather`")
        one = _raw(field, attachment) if attachment.raw is not None else _new(field, at, attachment)
        if one.cid and one.cid in known:
            raise fault(f"{field}.cid", f"{shown(one.cid)} is another part's too")
        known.add(one.cid)
        found.append(one)
    return found


def _new(field: str, at: int, attachment: Attachment) -> Attached:
    if attachment.content is None:
        raise fault(field, "there is no content", hint="give `content`, `path`, `url` or `raw`")
    octets = octets_of(f"{field}.content", attachment.content)
    kind = _kind(field, attachment, octets)
    cid = _cid(f"{field}.cid", attachment.cid)
    is_inline = attachment.is_inline or bool(cid)
    name = attachment.filename
    if name is None and not is_inline and kind.maintype != "message":
        name = f"attachment-{at + 1}.{media_types.suffix_of(kind.name)}"
    disposition = "inline" if is_inline else "attachment"
    fields = part_head(f"{field}.filename", kind, name or "", disposition)
    if cid:
        fields += (build.field("Content-ID", f"<{cid}>"),)
    more = part_fields(f"{field}.headers", attachment.headers)
    encoding = read_encoding(f"{field}.encoding", attachment.encoding)
    entity = leaf(f"{field}.content", kind, (*fields, *more), octets, encoding)
    return Attached(entity, cid, may_be_root=not more)


def _kind(field: str, attachment: Attachment, octets: bytes) -> MediaType:
    given = attachment.content_type
    if given is None:
        given = media_types.guess(text_of(f"{field}.filename", attachment.filename or ""))
    kind = read_type(f"{field}.content_type", given)
    if kind.maintype == "text" and kind.value("charset") is None and _is_utf8(octets):
        return msgspec.structs.replace(kind, parameters=(("charset", "utf-8"), *kind.parameters))
    return kind


def octets_of(field: str, content: Content) -> bytes:
    """The octets of a content that was gathered. Raises MessageError."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        try:
            return content.encode("utf-8")
        except UnicodeEncodeError:
            raise fault(field, "the text has half a surrogate pair") from None
    raise fault(field, f"{type(content).__name__} has to be read first", hint="see `gather`")


def read_encoding(field: str, name: str | None) -> Encoding | None:
    if name is None:
        return None
    try:
        return Encoding(text_of(field, name).lower())
    except ValueError:
        known = ", ".join(one.value for one in Encoding)
        raise fault(field, f"{shown(name)} is none of {known}") from None


def part_head(field: str, kind: MediaType, name: str, disposition: str) -> tuple[bytes, ...]:
    """Content-Type and Content-Disposition (RFC 2183).

    The name stands in both where it is short and ASCII, as some old readers look at the first;
    else only in the second, by RFC 2231, which all of today read.
    """
    if not name:
        return (type_field(field, kind), build.field("Content-Disposition", disposition))
    written = named(field, parameters, "Content-Disposition", "filename", text_of(field, name))
    is_simple = len(written) == 1 and written[0].startswith("filename=")
    in_type = [build.parameter("Content-Type", "name", name)] if is_simple else []
    return (
        type_field(field, kind, in_type),
        parameters_field("Content-Disposition", disposition, written),
    )


def leaf(
    field: str, kind: MediaType, fields: tuple[bytes, ...], octets: bytes, encoding: Encoding | None
) -> Entity:
    """A part of those octets; base64 where nothing else is asked for, so that none is changed."""
    if kind.maintype == "message" and not kind.subtype.startswith("global"):
        octets, encoding = _embedded(field, octets, encoding)
    elif encoding in (Encoding.SEVEN_BIT, Encoding.EIGHT_BIT):
        octets = with_crlf(octets) if kind.maintype == "text" else octets
        check_plain(field, octets, encoding)
    elif encoding is Encoding.QUOTED_PRINTABLE and kind.maintype != "text":
        words = "quoted-printable would change the line ends of what is not text"
        raise fault(field, words, hint='use "base64"')
    return named(field, build.entity, fields, octets, encoding or Encoding.BASE64)


def check_plain(field: str, octets: bytes, encoding: Encoding) -> None:
    """Raises MessageError where 7bit or 8bit was asked for and cannot be."""
    why = why_not_plain(octets, encoding)
    if why is not None:
        raise fault(field, why, hint='leave the encoding out, or use "base64"')


def _embedded(field: str, octets: bytes, encoding: Encoding | None) -> tuple[bytes, Encoding]:
    """A message within the message: it may not be encoded (RFC 2046 §5.2.1)."""
    if encoding in (Encoding.BASE64, Encoding.QUOTED_PRINTABLE):
        hint = "leave the encoding out, or give content_type application/octet-stream"
        raise fault(field, f"a message cannot be {encoding.value}", hint=hint)
    octets = with_crlf(octets)
    is_ascii = octets.isascii()
    chosen = encoding or (Encoding.SEVEN_BIT if is_ascii else Encoding.EIGHT_BIT)
    why = why_not_plain(octets, chosen)
    if why is not None:
        hint = "give it content_type application/octet-stream, and it arrives as a file"
        raise fault(field, f"a message within a message is not encoded, and {why}", hint=hint)
    return octets, chosen


def _raw(field: str, attachment: Attachment) -> Attached:
    """A part that was made elsewhere: its fields and body as they are, when they can be sent."""
    others = (attachment.content, attachment.path, attachment.url or None)
    field = f"{field}.raw"
    if any(other is not None for other in others):
        raise fault(field, "a raw part has all of it in itself, and there is more content")
    octets = with_crlf(octets_of(field, attachment.raw or b""))
    section = read_section(octets)
    covered = sum(one.end - one.start for one in section.fields)
    if not section.fields or covered != section.end or len(section.fields) >= FIELDS_MAX:
        raise fault(field, "a line of its header section is no field", hint=_RAW_HINT)
    if section.body == section.end or section.end > HEADER_OCTETS_MAX:
        raise fault(field, "no empty line ends its header section", hint=_RAW_HINT)
    if not octets[: section.end].isascii():
        raise fault(field, "its header section has octets outside ASCII")
    why = why_not_plain(octets, Encoding.EIGHT_BIT)
    if why is not None:
        raise fault(field, why)
    part, content = Part(section, len(octets)), octets[section.body :]
    if not content.isascii() and part.encoding != b"8bit":
        said = part.encoding.decode("ascii", "replace")
        raise fault(field, f"its body has octets outside ASCII, and says it is {shown(said)}")
    head = tuple(octets[one.start : one.end] for one in section.fields)
    return Attached(Entity(head, (content,), content.isascii()))


def _cid(field: str, value: str | None) -> str:
    """A Content-ID without its brackets (RFC 2392 §2)."""
    if not value:
        return ""
    cid = text_of(field, value).removeprefix("<").removesuffix(">")
    if _CID.fullmatch(cid) is None:
        raise fault(field, f"{shown(value)} is no Content-ID", hint="letters, digits, - . @")
    return cid


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
