"""New messages, built so that no value can become a field, a line or an address of its own (H66).

Whatever a caller passes stays inside the field it was meant for, or `BuildError` names the field
before anything is sent. Message-ID and Date come from the caller, who has clock and chance.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import words
from posthouse.message.address import format_address
from posthouse.message.dates import format_date

LINE_OCTETS: Final = 78  # what fields are folded to, RFC 5322 §2.1.1
LINE_OCTETS_MAX: Final = 998  # without CRLF, RFC 5322 §2.1.1

_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,900}>")
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \-]+")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_.\-]+|\[[A-Za-z0-9.:]+\]")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~\-]+")


class BuildError(ValueError):
    """A value cannot stand in the field it was given for; `field` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Mailbox(msgspec.Struct, frozen=True):
    """An address with the name people see; "" for none."""

    address: Address
    display_name: str = ""


class Encoding(Enum):
    """How a body travels (RFC 2045 §6)."""

    SEVEN_BIT = "7bit"
    EIGHT_BIT = "8bit"
    QUOTED_PRINTABLE = "quoted-printable"
    BASE64 = "base64"


class Entity(msgspec.Struct, frozen=True):
    """A body with the fields that describe it: a whole message's, or one part of a multipart."""

    fields: tuple[bytes, ...]
    body: bytes
    """Encoded, ending in CRLF unless it is empty."""

    @property
    def octets(self) -> bytes:
        return b"".join((*self.fields, b"\r\n", self.body))


# --- fields ---


def checked(name: str, value: str) -> str:
    """The value, when it can stand on one line."""
    if _FIELD_NAME.fullmatch(name) is None:
        raise BuildError(name, "this is not a field name")
    bad = _CONTROL.search(value)
    if bad is not None:
        raise BuildError(name, f"the character U+{ord(bad[0]):04X} cannot stand in a field")
    return value


def field(name: str, value: str) -> bytes:
    """A structured field: the value is written as it is, folded at blanks. 8-bit text becomes
    UTF-8, which only an SMTPUTF8 message may have (RFC 6532 §3.2)."""
    return _folded(name, checked(name, value).split(" "))


def text_field(name: str, text: str) -> bytes:
    """An unstructured field like Subject; what is not ASCII becomes encoded-words (RFC 2047)."""
    checked(name, text)
    return _folded(name, text.split(" ") if words.is_plain(text) else words.encode(text))


def address_field(name: str, mailboxes: Iterable[Mailbox]) -> bytes:
    """From, To, Cc … A local-part outside ASCII is written in UTF-8, as RFC 6532 §3.2 says."""
    shown = [_mailbox(name, mailbox) for mailbox in mailboxes]
    if not shown:
        raise BuildError(name, "there is no address")
    pieces = [piece for one in shown[:-1] for piece in (*one[:-1], f"{one[-1]},")]
    return _folded(name, pieces + shown[-1])


def date_field(moment: datetime) -> bytes:
    return field("Date", format_date(moment))


def message_id_field(message_id: str, name: str = "Message-ID") -> bytes:
    """Args: message_id: with its angle brackets."""
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise BuildError(name, "this is not a message id")
    return field(name, message_id)


def _mailbox(name: str, mailbox: Mailbox) -> list[str]:
    """Pieces between which a line may be folded."""
    address = mailbox.address
    checked(name, address.local_part)
    if _DOMAIN.fullmatch(address.domain) is None:
        raise BuildError(name, "the domain of an address is malformed")
    written = format_address(address)
    display_name = checked(name, mailbox.display_name).strip()
    if not display_name:
        return [written]
    if not words.is_plain(display_name):
        return [*words.encode(display_name), f"<{written}>"]
    if _PHRASE.fullmatch(display_name) is None:
        display_name = _quoted(display_name)
    return [*display_name.split(" "), f"<{written}>"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _folded(name: str, pieces: Sequence[str]) -> bytes:
    """A field of those pieces with blanks between, folded in front of some of them."""
    lines: list[str] = []
    line = f"{name}:"
    for at, piece in enumerate(pieces):
        # Never a line of blanks only, and no fold directly behind the name.
        if at and piece and line.strip() and len(line) + 1 + len(piece) > LINE_OCTETS:
            lines.append(line)
            line = ""
        line = f"{line} {piece}"
    lines.append(line)
    octets = "\r\n".join(lines).encode("utf-8")
    longest = max(map(len, octets.split(b"\r\n")))
    if longest > LINE_OCTETS_MAX:
        raise BuildError(name, f"a word is longer than a line may be ({LINE_OCTETS_MAX} octets)")
    return octets + b"\r\n"


def parameter(name: str, key: str, value: str) -> str:
    """`key=value` for a Content- field, quoted, or by RFC 2231 §4 where it is not ASCII."""
    checked(name, value)
    if not value.isascii():
        encoded = "".join(
            chr(octet) if chr(octet).isalnum() and octet < 128 else f"%{octet:02X}"
            for octet in value.encode("utf-8")
        )
        return f"{key}*=utf-8''{encoded}"
    return f"{key}={value if _TOKEN.fullmatch(value) else _quoted(value)}"


# --- bodies ---


def text_entity(text: str, *, subtype: str = "plain", encoding: Encoding | None = None) -> Entity:
    """A text part in UTF-8. Any line end becomes CRLF, and the last line gets one.

    Args:
        encoding: None chooses: as it is where it is ASCII in short lines, else quoted-printable
            for text that is mostly ASCII, else base64.

    Raises:
        BuildError: "body" has a NUL or a lone surrogate, or does not fit the encoding asked for.
    """
    if "\0" in text:
        raise BuildError("body", "a NUL cannot stand in text")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if lines and not lines.endswith("\n"):
        lines += "\n"
    try:
        octets = lines.encode("utf-8")
    except UnicodeEncodeError:
        raise BuildError("body", "the text has half a surrogate pair") from None
    if encoding is None:
        encoding = _chosen(octets)
    content_type = f"text/{subtype}; charset={'us-ascii' if octets.isascii() else 'utf-8'}"
    return _entity(content_type, octets.replace(b"\n", b"\r\n"), encoding)


def octets_entity(
    content_type: str,
    octets: bytes,
    *,
    encoding: Encoding = Encoding.BASE64,
    file_name: str | None = None,
) -> Entity:
    """Octets of any type; with a name they are an attachment.

    Raises:
        BuildError: "Content-Type" is malformed, or the octets do not fit the encoding.
    """
    fields: tuple[bytes, ...] = ()
    if file_name is not None:
        name = parameter("Content-Disposition", "filename", file_name)
        fields = (field("Content-Disposition", f"attachment; {name}"),)
    return _entity(content_type, octets, encoding, fields)


def multipart(subtype: str, parts: Sequence[Entity], *, parameters: Sequence[str] = ()) -> Entity:
    """A multipart of those parts (RFC 2046 §5.1).

    The boundary is a hash of what is in it, which no content can foresee, so none can hold it.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.octets)
    boundary = f"=_{digest.hexdigest()[:32]}"
    delimiter = f"--{boundary}\r\n".encode()
    pieces: list[bytes] = []
    for part in parts:
        pieces += (delimiter, *part.fields, b"\r\n", part.body, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    values = "; ".join((f"multipart/{subtype}", *parameters, f'boundary="{boundary}"'))
    body = b"".join(pieces)
    fields = [field("Content-Type", values)]
    if not body.isascii():  # RFC 2045 §6.4: as wide as the widest part
        fields.append(field("Content-Transfer-Encoding", Encoding.EIGHT_BIT.value))
    return Entity(tuple(fields), body)


def message(fields: Iterable[bytes], entity: Entity) -> bytes:
    """A whole message of fields made here and a body."""
    mime = field("MIME-Version", "1.0")
    return b"".join((*fields, mime, *entity.fields, b"\r\n", entity.body))


def _chosen(octets: bytes) -> Encoding:
    """Args: octets: text with bare LF."""
    if not octets.isascii():
        # Three octets for each that is not ASCII, against four for each three.
        above = len(octets.translate(None, bytes(range(128))))
        return Encoding.QUOTED_PRINTABLE if above * 6 < len(octets) else Encoding.BASE64
    longest = max(map(len, octets.split(b"\n")))
    return Encoding.SEVEN_BIT if longest <= LINE_OCTETS_MAX else Encoding.QUOTED_PRINTABLE


def _entity(
    content_type: str, octets: bytes, encoding: Encoding, fields: tuple[bytes, ...] = ()
) -> Entity:
    head = [field("Content-Type", content_type), *fields]
    if encoding is not Encoding.SEVEN_BIT:
        head.append(field("Content-Transfer-Encoding", encoding.value))
    return Entity(tuple(head), _encoded(octets, encoding))


def _encoded(octets: bytes, encoding: Encoding) -> bytes:
    if encoding is Encoding.BASE64:
        return b"".join(
            binascii.b2a_base64(octets[at : at + 57], newline=False) + b"\r\n"
            for at in range(0, len(octets), 57)
        )
    if encoding is Encoding.QUOTED_PRINTABLE:
        lines = octets.replace(b"\r\n", b"\n")
        encoded = binascii.b2a_qp(lines, istext=True).replace(b"\n", b"\r\n")
        return encoded if encoded.endswith(b"\r\n") or not encoded else encoded + b"=\r\n"
    if encoding is Encoding.SEVEN_BIT and not octets.isascii():
        raise BuildError("body", "the octets are not ASCII")
    return octets
