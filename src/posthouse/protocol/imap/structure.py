"""What FETCH tells of a message's structure, rendered once (RFC 3501 §7.4.2), and its sections.

Delivery and APPEND call `render` and store what it gives; a FETCH only copies it. Everything here
is 7-bit wherever that can be: 8-bit text of people (subject, names) becomes encoded-words and
8-bit parameters take RFC 2231's form, because IMAP4rev1 allows no 8-bit octet in a quoted string
(RFC 3501 §4.3) and clients know these forms anyway. What must be exact (local-parts, Message-IDs)
is a literal where it has 8-bit octets. A NUL never comes out.

BODY is not stored: `basic_body` makes it from BODYSTRUCTURE.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import quote

import msgspec

from posthouse.message import words
from posthouse.message.address import AddressError, domain_to_ascii
from posthouse.message.address_list import Listed, parse_address_list
from posthouse.message.fields import HeaderSection, read_section
from posthouse.message.fields import header_fields as fields_between
from posthouse.message.mime import Part, scan
from posthouse.message.parameters import Parameters

STRING_OCTETS_MAX: Final = 16_384
"""Of one header value that are shown."""
LIST_OCTETS_MAX: Final = 64 * 1024
"""Of one rendered address list: six of them and four strings stay under 512 KiB (H26)."""
LANGUAGES_MAX: Final = 20
STRUCTURE_OCTETS_MAX: Final = 256 * 1024
"""Of BODYSTRUCTURE before the parts that follow are shown by type and size only."""

_SAFE: Final = re.compile(rb"[ !#-\[\]-~]*+")
_BLANKED: Final = bytes.maketrans(bytes(range(32)) + b"\x7f", b" " * 33)
_NO_ENVELOPE: Final = b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
_OPAQUE_HEAD: Final = b'("application" "octet-stream" NIL NIL NIL "8bit" '
_EXTENSION_FIELDS: Final = frozenset(
    (b"content-disposition", b"content-language", b"content-location")
)
_GROUP_END: Final = b"(NIL NIL NIL NIL)"


class Structure(msgspec.Struct, frozen=True):
    """Rendered values, with their parentheses."""

    envelope: bytes
    bodystructure: bytes

    @property
    def body(self) -> bytes:
        return basic_body(self.bodystructure)


def render(octets: bytes) -> Structure:
    """ENVELOPE and BODYSTRUCTURE of a message. Never raises."""
    return render_part(scan(octets))


def render_part(root: Part) -> Structure:
    """As `render`, for one who has scanned already."""
    return Structure(envelope(root.section), _Renderer().structure(root))


KNOWN_OCTETS_MAX: Final = 200
"""Of an address field that is remembered."""


# --- strings ---


def _exact(value: bytes | None) -> bytes:
    """A value as it is: quoted where it can be, a literal where it has 8-bit octets."""
    if value is None:
        return b"NIL"
    if _SAFE.fullmatch(value) is not None and len(value) <= STRING_OCTETS_MAX:
        return b'"' + value + b'"'
    value = value[:STRING_OCTETS_MAX].translate(_BLANKED)
    if value.isascii():
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d}\r\n" % len(value) + value


def _readable(value: bytes | None) -> bytes:
    """Text for people: 8-bit octets become encoded-words, what is encoded already stays so."""
    if value is None or value.isascii():
        return _exact(value)
    text = words.decode(value[:STRING_OCTETS_MAX])
    return b'"' + " ".join(words.encode(text)).encode("ascii") + b'"'


# --- ENVELOPE ---


def envelope(section: HeaderSection) -> bytes:
    """The ENVELOPE of the message with that header section."""
    first = section.first
    author = _addresses(section, b"from")
    sender = _addresses(section, b"sender")
    reply_to = _addresses(section, b"reply-to")
    # RFC 3501 §7.4.2: where these two are missing or empty the server shows From.
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        _exact(first(b"date")),
        _readable(first(b"subject")),
        author,
        author if sender == b"NIL" else sender,
        author if reply_to == b"NIL" else reply_to,
        _addresses(section, b"to"),
        _addresses(section, b"cc"),
        _addresses(section, b"bcc"),
        _exact(first(b"in-reply-to")),
        _exact(first(b"message-id")),
    )


def _addresses(section: HeaderSection, name: bytes) -> bytes:
    value = section.raw(name)
    if value is None:
        return b"NIL"
    return _known_list(value) if len(value) <= KNOWN_OCTETS_MAX else _list(value)


def _list(value: bytes) -> bytes:
    out = []
    size = 0
    is_in_group = False
    for item in parse_address_list(value).items:
        shown = _address(item)
        size += len(shown)
        if size > LIST_OCTETS_MAX:
            if is_in_group:
                out.append(_GROUP_END)
            break
        is_in_group = item.domain is None if item.local_part is not None else False
        out.append(shown)
    return b"(" + b"".join(out) + b")" if out else b"NIL"


# The same senders and recipients write and are written to again and again.
_known_list = lru_cache(maxsize=4096)(_list)


def _address(item: Listed) -> bytes:
    if item.domain is None:
        if item.local_part is None:
            return _GROUP_END
        return b"(NIL NIL " + _readable(item.local_part) + b" NIL)"
    return b"(%b NIL %b %b)" % (
        _readable(item.name),
        _exact(item.local_part),
        _exact(_ascii_domain(item.domain)),
    )


def _ascii_domain(domain: bytes) -> bytes:
    if domain.isascii():
        return domain
    try:
        return domain_to_ascii(domain.decode("utf-8")).encode("ascii")
    except (UnicodeDecodeError, AddressError):
        return domain


# --- BODYSTRUCTURE ---


class _Renderer:
    """Joins the structures of all parts; the depth of its recursion is `mime.DEPTH_MAX`."""

    def __init__(self) -> None:
        self._octets_left = STRUCTURE_OCTETS_MAX

    def structure(self, part: Part) -> bytes:
        if part.children:
            children = b"".join(map(self.structure, part.children))
            return b"(" + children + self._counted(b" " + _multipart_tail(part)) + b")"
        if self._octets_left <= 0:
            return _OPAQUE_HEAD + b"%d NIL NIL NIL NIL)" % part.size_octets
        if part.is_opaque:
            return self._counted(_opaque(part))
        if part.message is not None:
            head = self._counted(_basic(part, part.maintype, part.subtype))
            inner = self._counted(envelope(part.message.section))
            below = self.structure(part.message)
            return b"(%b %b %b %d %b)" % (head, inner, below, part.lines, _extension(part))
        shown = _basic(part, part.maintype, part.subtype)
        if part.maintype == b"text":
            shown += b" %d" % part.lines
        return self._counted(b"(" + shown + b" " + _extension(part) + b")")

    def _counted(self, shown: bytes) -> bytes:
        self._octets_left -= len(shown)
        return shown


def _opaque(part: Part) -> bytes:
    """What is not divided: a multipart is shown as text (RFC 2045 §5.2), a message as octets."""
    if part.maintype == b"multipart":
        shown = _basic(part, b"text", b"plain") + b" %d" % part.lines
    else:
        shown = _basic(part, b"application", b"octet-stream")
    return b"(" + shown + b" " + _extension(part) + b")"


def _basic(part: Part, maintype: bytes, subtype: bytes) -> bytes:
    first = part.section.first
    parameters = part.parameters
    if part.is_opaque:
        parameters = Parameters()
    return b'"%b" "%b" %b %b %b %b %d' % (
        maintype,
        subtype,
        _parameters(parameters),
        _exact(first(b"content-id")),
        _readable(first(b"content-description")),
        _exact(part.encoding),
        part.size_octets,
    )


def _parameters(parameters: Parameters) -> bytes:
    if not parameters.items:
        return b"NIL"
    shown = []
    for name, value in parameters.items:
        if not value.isascii():
            name, value = _extended(name, value)
        shown.append(_exact(name) + b" " + _exact(value))
    return b"(" + b" ".join(shown) + b")"


def _extended(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """An 8-bit value in RFC 2231 §4's form."""
    if name.endswith(b"*"):
        return name, quote(value, safe="'%").encode("ascii")
    text = words.to_text(value)
    return name + b"*", b"utf-8''" + quote(text, safe="").encode("ascii")


def _multipart_tail(part: Part) -> bytes:
    return b'"%b" %b %b' % (
        part.subtype,
        _parameters(part.parameters),
        _disposition_language_location(part),
    )


def _extension(part: Part) -> bytes:
    md5 = _exact(part.section.first(b"content-md5"))
    return md5 + b" " + _disposition_language_location(part)


def _disposition_language_location(part: Part) -> bytes:
    section = part.section
    if not section.has_any(_EXTENSION_FIELDS):
        return b"NIL NIL NIL"
    disposition = part.disposition
    shown = b"NIL"
    if disposition is not None:
        shown = b"(%b %b)" % (_exact(disposition[0]), _parameters(disposition[1]))
    language = section.first(b"content-language")
    tags = [tag.strip() for tag in (language or b"").split(b",", LANGUAGES_MAX) if tag.strip()]
    if not tags:
        languages = b"NIL"
    elif len(tags) == 1:
        languages = _exact(tags[0])
    else:
        languages = b"(" + b" ".join(map(_exact, tags[:LANGUAGES_MAX])) + b")"
    return b"%b %b %b" % (shown, languages, _exact(section.first(b"content-location")))


# --- BODY, from BODYSTRUCTURE ---

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|\{(\d+)\}\r\n|[()]|[^ ()"{]++', re.DOTALL)


def basic_body(bodystructure: bytes) -> bytes:
    """The non-extensible BODY (RFC 3501 §6.4.5) from a rendered BODYSTRUCTURE."""
    node, _ = _read_node(bodystructure, 0)
    assert isinstance(node, list)
    return _without_extension(node)


_Node = bytes | list["_Node"]


def _read_node(text: bytes, at: int) -> tuple[_Node, int]:
    """One value of a parenthesised list; ours, so it is well formed."""
    stack: list[list[_Node]] = [[]]
    while True:
        match = _TOKEN.match(text, at)
        assert match is not None
        at = match.end()
        token = match[0]
        if token == b"(":
            stack.append([])
        elif token == b")":
            done = stack.pop()
            stack[-1].append(done)
        elif match[1] is not None:
            end = at + int(match[1])
            stack[-1].append(token + text[at:end])
            at = end
        else:
            stack[-1].append(token)
        if len(stack) == 1:
            return stack[0][0], at
        if text.startswith(b" ", at):
            at += 1


def _without_extension(node: list[_Node]) -> bytes:
    if isinstance(node[0], list):
        count = next(at for at, item in enumerate(node) if isinstance(item, bytes))
        children = [item for item in node[:count] if isinstance(item, list)]
        subtype = node[count]
        assert isinstance(subtype, bytes)
        return b"(" + b"".join(map(_without_extension, children)) + b" " + subtype + b")"
    fields = [_joined(item) for item in node[:7]]
    if node[0] == b'"text"':
        fields.append(_joined(node[7]))
    elif node[0] == b'"message"' and node[1] == b'"rfc822"' and isinstance(node[7], list):
        below = node[8]
        assert isinstance(below, list)
        fields += [_joined(node[7]), _without_extension(below), _joined(node[9])]
    return b"(" + b" ".join(fields) + b")"


def _joined(node: _Node) -> bytes:
    if isinstance(node, bytes):
        return node
    # Addresses stand side by side, all else has a blank between.
    between = b"" if node and all(isinstance(item, list) for item in node) else b" "
    return b"(" + between.join(map(_joined, node)) + b")"


# --- sections ---


class SectionKind(Enum):
    """What of a part is wanted (RFC 3501 §6.4.5)."""

    WHOLE = "whole"
    HEADER = "header"
    TEXT = "text"
    MIME = "mime"


def section(
    octets: bytes, part_path: tuple[int, ...], kind: SectionKind = SectionKind.WHOLE
) -> tuple[int, int] | None:
    """Where a section stands in the octets, or None when the message has no such part (H53).

    BODY[] is `()` with WHOLE, BODY[1.2] is `(1, 2)` with WHOLE, BODY[1.MIME] is `(1,)` with MIME.
    HEADER and TEXT of a part want a message/rfc822 there. Header sections have their empty line.
    """
    if not part_path:
        if kind is SectionKind.WHOLE:
            return 0, len(octets)
        if kind is not SectionKind.MIME:  # no scan for the commonest
            return _of_message(Part(read_section(octets), len(octets)), kind)
    return part_section(scan(octets), part_path, kind)


def part_section(
    root: Part, part_path: tuple[int, ...], kind: SectionKind = SectionKind.WHOLE
) -> tuple[int, int] | None:
    """As `section`, in a tree scanned already."""
    if not part_path:
        if kind is SectionKind.MIME:
            return None
        return (root.start, root.end) if kind is SectionKind.WHOLE else _of_message(root, kind)
    part = find_part(root, part_path)
    if part is None:
        return None
    if kind is SectionKind.WHOLE:
        return part.body, part.end
    if kind is SectionKind.MIME:
        return part.start, part.body
    return None if part.message is None else _of_message(part.message, kind)


def _of_message(message: Part, kind: SectionKind) -> tuple[int, int]:
    if kind is SectionKind.HEADER:
        return message.start, message.body
    return message.body, message.end


def find_part(root: Part, part_path: tuple[int, ...]) -> Part | None:
    """The part of that number. A message that is no multipart has itself as its only part 1."""
    part = root
    is_message = True
    for number in part_path:
        if part.message is not None and not is_message:
            part, is_message = part.message, True
        if part.children:
            if not 1 <= number <= len(part.children):
                return None
            part, is_message = part.children[number - 1], False
        elif number == 1 and is_message:
            is_message = False
        else:
            return None
    return part


def header_fields(
    octets: bytes,
    octets_range: tuple[int, int],
    names: frozenset[bytes],
    *,
    negate: bool = False,
) -> bytes:
    """HEADER.FIELDS and HEADER.FIELDS.NOT of the header section at `octets_range` (as `section`
    gives it for HEADER); an empty line always ends the answer."""
    start, end = octets_range
    for line_end in (b"\r\n", b"\n"):
        line = end - len(line_end)
        if octets.endswith(line_end, start, end) and (line == start or octets[line - 1] == 0x0A):
            end = line
            break
    return fields_between(octets, start, end, names, negate=negate)
