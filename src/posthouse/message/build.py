"""New messages, built so that no value can become a field, a line or an address of its own (H66).

Whatever a caller passes stays inside the field it was meant for, or `BuildError` names the field
before anything is sent. Message-ID and Date come from the caller, who has clock and chance.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import words
from posthouse.message.address import format_address
from posthouse.message.dates import format_date
from posthouse.message.transfer import LINE_OCTETS_MAX, Encoding, chosen, encode

__all__ = [
    "LINE_OCTETS",
    "LINE_OCTETS_MAX",
    "BuildError",
    "Encoding",
    "Entity",
    "Group",
    "Mailbox",
    "address_field",
    "checked",
    "date_field",
    "entity",
    "field",
    "message",
    "message_id_field",
    "message_ids_field",
    "multipart",
    "octets_entity",
    "parameter",
    "parameters",
    "parameters_field",
    "phrase",
    "pieces_field",
    "text_entity",
    "text_field",
]

LINE_OCTETS: Final = 78  # what fields are folded to, RFC 5322 §2.1.1
WORD_OCTETS_MAX: Final = 900
"""Of a word of text that stays as it is; a longer one is written as encoded-words."""
PARAMETER_OCTETS_MAX: Final = 1_000
"""Of a parameter's value; file systems know no longer names."""
PARAMETER_PIECE: Final = 54
"""Characters of a value on one line."""

_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,900}>")
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \-]+")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_.\-]+|\[[A-Za-z0-9.:]+\]")
# As a parameter's value without quotes; of "*", "'" and "%" readers of RFC 2231 think more (§7).
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~\-]+")


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


class Group(msgspec.Struct, frozen=True):
    """Mailboxes under one name (RFC 5322 §3.4); there may be none."""

    name: str
    mailboxes: tuple[Mailbox, ...] = ()


class Entity(msgspec.Struct, frozen=True):
    """A body with the fields that describe it: a whole message's, or one part of a multipart."""

    fields: tuple[bytes, ...]
    chunks: tuple[bytes, ...]
    """The body, encoded, ending in CRLF unless it is empty; in pieces, as big ones are put
    together once only."""
    is_ascii: bool = True
    """Of the body."""

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def octets(self) -> bytes:
        return b"".join((*self.fields, b"\r\n", *self.chunks))


# --- fields ---


def checked(name: str, value: str) -> str:
    """The value, when it can stand on one line."""
    if _FIELD_NAME.fullmatch(name) is None:
        raise BuildError(name, "this is not a field name")
    bad = _CONTROL.search(value)
    if bad is not None:
        what = "a line break" if bad[0] in "\r\n" else f"the character U+{ord(bad[0]):04X}"
        raise BuildError(name, f"{what} cannot stand in a field")
    return value


def field(name: str, value: str) -> bytes:
    """A structured field: the value is written as it is, folded at blanks. 8-bit text becomes
    UTF-8, which only an SMTPUTF8 message may have (RFC 6532 §3.2)."""
    return _folded(name, checked(name, value).split(" "))


def text_field(name: str, text: str) -> bytes:
    """An unstructured field like Subject; what is not ASCII becomes encoded-words (RFC 2047), and
    so does a word that no line could hold."""
    checked(name, text)
    pieces = text.split(" ")
    is_long = len(text) > WORD_OCTETS_MAX and max(map(len, pieces)) > WORD_OCTETS_MAX
    return _folded(name, words.encode(text) if is_long or not words.is_plain(text) else pieces)


def pieces_field(name: str, pieces: Sequence[str]) -> bytes:
    """A structured field of pieces with a blank between; folded there and nowhere else."""
    return _folded(name, [checked(name, piece) for piece in pieces])


def address_field(name: str, mailboxes: Iterable[Mailbox | Group]) -> bytes:
    """From, To, Cc … A local-part outside ASCII is written in UTF-8, as RFC 6532 §3.2 says."""
    shown = list(_listed(name, mailboxes))
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


def message_ids_field(name: str, message_ids: Sequence[str]) -> bytes:
    """References and the like: ids with their angle brackets, at least one."""
    for message_id in message_ids:
        if _MESSAGE_ID.fullmatch(message_id) is None:
            raise BuildError(name, "this is not a message id")
    return _folded(name, message_ids)


def phrase(name: str, text: str) -> list[str]:
    """A display name as a phrase (RFC 5322 §3.2.5), in pieces between which a line may be folded;
    none for a text of blanks.

    Args:
        name: of the field it is for.
    """
    text = checked(name, text).strip(" ")
    if not text:
        return []
    if not words.is_plain(text) or len(text) > WORD_OCTETS_MAX // 2:
        return words.encode(text)
    if _PHRASE.fullmatch(text) is None:
        text = _quoted(text)
    return text.split(" ")


def _listed(name: str, mailboxes: Iterable[Mailbox | Group]) -> Iterator[list[str]]:
    for one in mailboxes:
        if isinstance(one, Mailbox):
            yield _mailbox(name, one)
            continue
        title = phrase(name, one.name)
        if not title:
            raise BuildError(name, "a group has no name")
        title[-1] += ":"
        members = [_mailbox(name, mailbox) for mailbox in one.mailboxes]
        for member in members[:-1]:
            member[-1] += ","
        pieces = [*title, *(piece for member in members for piece in member)]
        pieces[-1] += ";"
        yield pieces


def _mailbox(name: str, mailbox: Mailbox) -> list[str]:
    """Pieces between which a line may be folded."""
    address = mailbox.address
    checked(name, address.local_part)
    if _DOMAIN.fullmatch(address.domain) is None:
        raise BuildError(name, "the domain of an address is malformed")
    written = format_address(address)
    display_name = phrase(name, mailbox.display_name)
    return [*display_name, f"<{written}>"] if display_name else [written]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _folded(name: str, pieces: Sequence[str]) -> bytes:
    """A field of those pieces with blanks between, folded in front of some of them."""
    whole = f"{name}: {' '.join(pieces)}"
    if len(whole) <= LINE_OCTETS:  # as most are
        return whole.encode("utf-8") + b"\r\n"
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
    """`key=value` for a Content- field, quoted, or by RFC 2231 §4 where it is not ASCII or some
    readers would take a piece of it for an encoded-word."""
    checked(name, value)
    if not _is_literal(value):
        return f"{key}*=utf-8''{''.join(map(_percent, value))}"
    return f"{key}={value if _TOKEN.fullmatch(value) else _quoted(value)}"


def parameters(name: str, key: str, value: str) -> list[str]:
    """As `parameter`, but a value too long for a line goes on in further ones (RFC 2231 §3).

    Pieces are cut between characters, as some readers decode them one by one. Encoded-words are
    never written: RFC 2047 §5 (3) forbids them here.
    """
    if len(checked(name, value).encode("utf-8")) > PARAMETER_OCTETS_MAX:
        raise BuildError(name, f"{key} is longer than {PARAMETER_OCTETS_MAX} octets")
    one = parameter(name, key, value)
    if len(one) <= LINE_OCTETS - 2:
        return [one]
    if _is_literal(value):
        step = PARAMETER_PIECE
        cuts = [_quoted(value[at : at + step]) for at in range(0, len(value), step)]
        return [f"{key}*{number}={cut}" for number, cut in enumerate(cuts)]
    return [f"{key}*{number}*={cut}" for number, cut in enumerate(_percent_pieces(value))]


def parameters_field(name: str, value: str, parameters: Sequence[str]) -> bytes:
    """A field of a value and parameters as `parameter` writes them, never folded inside one."""
    pieces = [f"{piece};" for piece in (value, *parameters)]
    pieces[-1] = pieces[-1][:-1]
    return pieces_field(name, pieces)


def _is_literal(value: str) -> bool:
    """Whether all readers take a quoted value for what it is: RFC 2047 §5 (3) has no encoded-words
    in quotes, and the standard library of Python decodes them there, as mail programs do."""
    return value.isascii() and "=?" not in value


def _percent(character: str) -> str:
    if character.isascii() and (character.isalnum() or character in "-._~"):
        return character
    return "".join(f"%{octet:02X}" for octet in character.encode("utf-8"))


def _percent_pieces(value: str) -> Iterator[str]:
    line = "utf-8''"
    for written in map(_percent, value):
        if len(line) + len(written) > PARAMETER_PIECE:
            yield line
            line = ""
        line += written
    yield line


# --- bodies ---


def text_entity(
    text: str,
    *,
    subtype: str = "plain",
    encoding: Encoding | None = None,
    parameters: Sequence[str] = (),
    fields: tuple[bytes, ...] = (),
) -> Entity:
    """A text part in UTF-8. Any line end becomes CRLF, and the last line gets one.

    Args:
        encoding: None chooses: as it is where it is ASCII in short lines, else quoted-printable
            for text that is mostly ASCII, else base64.
        parameters: of the Content-Type besides `charset`, as `parameter` writes them.
        fields: more of them for the part.

    Raises:
        BuildError: "body" has a NUL or a lone surrogate, or does not fit the encoding asked for.
    """
    if "\0" in text:
        raise BuildError("body", "a NUL cannot stand in text")
    lines = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    if lines and not lines.endswith("\n"):
        lines += "\n"
    try:
        octets = lines.encode("utf-8")
    except UnicodeEncodeError:
        raise BuildError("body", "the text has half a surrogate pair") from None
    if encoding is None:
        encoding = chosen(octets)
    charset = "charset=us-ascii" if octets.isascii() else "charset=utf-8"
    head = parameters_field("Content-Type", f"text/{subtype}", (charset, *parameters))
    return entity((head, *fields), octets.replace(b"\n", b"\r\n"), encoding)


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
    fields = [field("Content-Type", content_type)]
    if file_name is not None:
        name = parameters("Content-Disposition", "filename", file_name)
        fields.append(parameters_field("Content-Disposition", "attachment", name))
    return entity(tuple(fields), octets, encoding)


def entity(fields: tuple[bytes, ...], octets: bytes, encoding: Encoding) -> Entity:
    """A leaf of those fields, Content-Type among them; Content-Transfer-Encoding is added.

    Raises:
        BuildError: "body" is not ASCII, and has to be for 7bit.
    """
    if encoding is Encoding.SEVEN_BIT:
        if not octets.isascii():
            raise BuildError("body", "the octets are not ASCII")
        return Entity(fields, (octets,))
    is_ascii = encoding is not Encoding.EIGHT_BIT or octets.isascii()
    return Entity((*fields, _ENCODING_FIELDS[encoding]), encode(octets, encoding), is_ascii)


def multipart(
    subtype: str,
    parts: Sequence[Entity],
    *,
    parameters: Sequence[str] = (),
    boundary: str | None = None,
) -> Entity:
    """A multipart of those parts (RFC 2046 §5.1).

    Args:
        boundary: made of chance, so that no content can foresee it; None takes a hash of what is
            in it, which none can hold either.
    """
    if boundary is None:
        boundary = _digest(parts)
    delimiter = f"--{boundary}\r\n".encode()
    chunks: list[bytes] = []
    for part in parts:
        chunks += (delimiter, *part.fields, b"\r\n", *part.chunks, b"\r\n")
    chunks.append(f"--{boundary}--\r\n".encode())
    values = (*parameters, f'boundary="{boundary}"')
    fields = [parameters_field("Content-Type", f"multipart/{subtype}", values)]
    is_ascii = all(part.is_ascii and all(one.isascii() for one in part.fields) for part in parts)
    if not is_ascii:  # RFC 2045 §6.4: as wide as the widest part
        fields.append(_ENCODING_FIELDS[Encoding.EIGHT_BIT])
    return Entity(tuple(fields), tuple(chunks), is_ascii)


def message(fields: Iterable[bytes], entity: Entity) -> bytes:
    """A whole message of fields made here and a body."""
    return b"".join((*fields, _MIME_VERSION, *entity.fields, b"\r\n", *entity.chunks))


def _digest(parts: Sequence[Entity]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for octets in (*part.fields, b"\r\n", *part.chunks):
            digest.update(octets)
    return f"=_{digest.hexdigest()[:32]}"


_MIME_VERSION: Final = field("MIME-Version", "1.0")
_ENCODING_FIELDS: Final = {
    encoding: field("Content-Transfer-Encoding", encoding.value) for encoding in Encoding
}
