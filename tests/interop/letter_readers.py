"""What the standard library, mail-parser and Dovecot find in a message, in one form.

A reader takes octets and gives a `Content`; with it goes what it can tell of one at all.
"""

from __future__ import annotations

import base64
import email
import email.policy
import quopri
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import collapse_rfc2231_value, decode_params
from typing import Any

import imapclient
import mailparser
import msgspec
from imapclient.response_types import Address as ImapAddress

from tests.interop import dovecot
from tests.interop.letter_content import Content, Part, Person
from tests.interop.random_letters import WITHIN

BATCH = 100
"""Messages in Dovecot's mailbox at a time."""
USER = "bob@house.test"
TRANSFER: dict[str, Callable[[bytes], bytes]] = {
    "7bit": bytes,
    "8bit": bytes,
    "base64": base64.b64decode,
    "quoted-printable": quopri.decodestring,
}


# --- the standard library ---


def by_the_library(octets: bytes) -> Content:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return Content(
        tree=_library_tree(message),
        parts=tuple(_library_part(part) for part in _library_leaves(message)),
        subject=str(message["subject"] or ""),
        sender=_library_people(message, "from")[0],
        on_behalf=(*_library_people(message, "sender"), None)[0],
        to=_library_people(message, "to"),
        cc=_library_people(message, "cc"),
        reply_to=_library_people(message, "reply-to"),
        date=message["date"].datetime,
        message_id=str(message["message-id"]),
        in_reply_to=str(message["in-reply-to"] or ""),
        references=tuple(str(message["references"] or "").split()),
        extra=tuple(map(str, message.get_all("x-extra", []))),
        list_id=str(message["list-id"] or ""),
        unsubscribe=_urls(str(message["list-unsubscribe"] or "")),
    )


def _library_tree(part: EmailMessage) -> str:
    if part.get_content_maintype() != "multipart":
        return part.get_content_type()
    inner = " ".join(_library_tree(one) for one in part.iter_parts())  # type: ignore[arg-type]
    return f"{part.get_content_subtype()}({inner})"


def _library_leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    if part.get_content_maintype() != "multipart":
        yield part
        return
    for one in part.iter_parts():
        yield from _library_leaves(one)  # type: ignore[arg-type]


def _library_part(part: EmailMessage) -> Part:
    if part.get_content_type() == "message/rfc822":
        (inner,) = part.get_payload()  # type: ignore[misc]
        assert isinstance(inner, EmailMessage)
        whole = email.policy.SMTP.clone(refold_source="none")
        content = inner.as_bytes(policy=whole)
    else:
        content = part.get_payload(decode=True)  # type: ignore[assignment]
        if part.get_content_maintype() == "text" and not part["content-disposition"]:
            said = part.get_content().replace("\r\n", "\n")
            assert said == content.decode().replace("\r\n", "\n")
    # `get_filename` would take blanks and angle brackets off the ends.
    cid, disposition = part["content-id"], part["content-disposition"]
    of_type = part["content-type"].params
    return Part(
        media_type=part.get_content_type(),
        content=content,
        disposition=disposition.content_disposition if disposition else "",
        file_name=(disposition.params if disposition else {}).get("filename", of_type.get("name")),
        cid=None if cid is None else str(cid).strip().strip("<>"),
        parameters=_others(of_type.items()),
    )


def _library_people(message: EmailMessage, name: str) -> tuple[Person, ...]:
    field = message[name]
    found = () if field is None else field.addresses
    return tuple(
        (one.display_name, f"{_local_part(_wide(one.username))}@{_wide(one.domain)}")
        for one in found
    )


def _wide(text: str) -> str:
    """UTF-8 in fields (RFC 6532) comes as surrogates for its octets."""
    return text.encode("utf-8", "surrogateescape").decode()


# --- mail-parser ---


def by_mail_parser(octets: bytes) -> Content:
    found = mailparser.parse_from_bytes(octets)
    headers = {name.lower(): value for name, value in found.headers.items()}
    extra = headers.get("x-extra", ())
    return Content(
        tree=None,
        parts=(*_mail_parser_texts(found), *map(_mail_parser_part, found.attachments)),
        subject=_unfolded(found.subject),
        sender=found.from_[0],
        on_behalf=None,
        to=tuple(found.to),
        cc=tuple(found.cc),
        reply_to=tuple(found.reply_to),
        date=found.date,
        message_id=found.message_id,
        in_reply_to=str(found.in_reply_to or ""),
        references=tuple(str(found.references or "").split()),
        extra=tuple(map(_unfolded, (extra,) if isinstance(extra, str) else extra)),
        list_id=_unfolded(str(headers.get("list-id", ""))),
        unsubscribe=_urls(str(headers.get("list-unsubscribe", ""))),
    )


def _unfolded(value: str) -> str:
    """It leaves the folds in what has no encoded-words (RFC 5322 §2.2.3)."""
    return value.replace("\r\n", "")


def _mail_parser_texts(found: Any) -> Iterator[Part]:
    for media_type, texts in (
        ("text/plain", found.text_plain),
        ("text/html", found.text_html),
        ("", found.text_not_managed),
    ):
        for text in texts:
            yield Part(media_type=media_type, content=_as_text(text.encode()))


def _mail_parser_part(one: Any) -> Part:
    content = base64.b64decode(one["payload"]) if one["binary"] else one["payload"].encode()
    return Part(
        media_type=one["mail_content_type"],
        content=content,
        disposition=one["content-disposition"].partition(";")[0].strip().lower(),
        file_name=one["filename"],
        cid=one["content-id"].strip("<>") or None,
    )


def for_mail_parser(content: Content) -> Content:
    """What it tells of a content: texts by their kind without names, then what it calls attachments
    (with a name, a Content-ID or by disposition); no nesting, no parameters, no Sender.

    It writes letters with their accents as one character (NFC) and takes blanks off the ends.
    """
    kinds: dict[str, list[Part]] = {"text/plain": [], "text/html": [], "": []}
    attached: list[Part] = []
    for part in content.parts:
        name = part.file_name or part.cid
        is_attached = bool(name) or part.disposition == "attachment"
        if is_attached:
            name = None if name is None else composed(name)
            attached.append(msgspec.structs.replace(part, file_name=name, parameters=()))
        is_shown = part.disposition == "inline" and part.media_type in kinds  # is in both
        if part.media_type == "message/rfc822":  # whose texts stand among the others
            kinds["text/plain"].append(Part(media_type="text/plain", content=WITHIN.encode()))
        elif part.content and (is_shown or not is_attached):
            kind = part.media_type if part.media_type in kinds else ""
            kinds[kind].append(Part(media_type=kind, content=_as_text(part.content)))
    parts = (*kinds["text/plain"], *kinds["text/html"], *kinds[""], *attached)
    return msgspec.structs.replace(
        content,
        tree=None,
        parts=parts,
        subject=composed(content.subject),
        on_behalf=None,
        extra=tuple(map(composed, content.extra or ())),
        list_id=composed(content.list_id or ""),
    )


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _as_text(octets: bytes) -> bytes:
    """Text of one normal form; the line ends depend on how it was sent."""
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    return unicodedata.normalize("NFC", text).encode()


# --- Dovecot ---


class Dovecot:
    """One mailbox of a Dovecot; messages are appended, looked at, and expunged."""

    def __init__(self, port: int) -> None:
        self._client = imapclient.IMAPClient("127.0.0.1", port=port, ssl=False)
        self._client.login(USER, dovecot.PASSWORD)
        self._client.normalise_times = False
        self._client.select_folder("INBOX")
        self._kept: list[int] = []

    def __call__(self, octets: bytes) -> Content:
        said = self._client.append("INBOX", octets)
        uid = int(re.findall(rb"APPENDUID \d+ (\d+)", said)[0])
        told = self._client.fetch(uid, [b"ENVELOPE", b"BODYSTRUCTURE", b"RFC822.SIZE"])[uid]
        assert told[b"RFC822.SIZE"] == len(octets)
        paths = list(_numbered(told[b"BODYSTRUCTURE"]))
        contents = self._client.fetch(uid, [f"BODY.PEEK[{path}]" for path, _ in paths])[uid]
        parts = [
            _dovecot_part(structure, contents[f"BODY[{path}]".encode()])
            for path, structure in paths
        ]
        self._tidy(uid)
        return _dovecot_content(told, parts)

    def _tidy(self, uid: int) -> None:
        self._kept.append(uid)
        if len(self._kept) == BATCH:
            self._client.delete_messages(self._kept)
            self._client.expunge()
            self._kept = []

    def close(self) -> None:
        self._client.logout()


def _dovecot_content(told: Any, parts: Iterable[Part]) -> Content:
    envelope = told[b"ENVELOPE"]
    return Content(
        tree=_imap_tree(told[b"BODYSTRUCTURE"]),
        parts=tuple(parts),
        subject=_decoded(envelope.subject),
        sender=_imap_people(envelope.from_)[0],
        on_behalf=_imap_people(envelope.sender)[0],
        to=_imap_people(envelope.to),
        cc=_imap_people(envelope.cc),
        reply_to=_imap_people(envelope.reply_to),
        date=envelope.date,
        message_id=(envelope.message_id or b"").decode(),
        in_reply_to=(envelope.in_reply_to or b"").decode(),
        references=None,
        extra=None,
        list_id=None,
        unsubscribe=None,
    )


def for_dovecot(content: Content) -> Content:
    """What its ENVELOPE tells: From stands in for Sender and Reply-To (RFC 9051 §7.5.2)."""
    return msgspec.structs.replace(
        content,
        on_behalf=content.on_behalf or content.sender,
        reply_to=content.reply_to or (content.sender,),
        references=None,
        extra=None,
        list_id=None,
        unsubscribe=None,
    )


def _is_multipart(structure: Any) -> bool:
    return isinstance(structure[0], list)


def _imap_tree(structure: Any) -> str:
    if not _is_multipart(structure):
        return f"{structure[0].decode()}/{structure[1].decode()}".lower()
    inner = " ".join(map(_imap_tree, structure[0]))
    return f"{structure[1].decode().lower()}({inner})"


def _numbered(structure: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by the numbers that IMAP gives them (RFC 9051 §6.4.5.1)."""
    if not _is_multipart(structure):
        yield path or "1", structure
        return
    for number, child in enumerate(structure[0], 1):
        yield from _numbered(child, f"{path}.{number}".lstrip("."))


def _dovecot_part(structure: Any, content: bytes) -> Part:
    media_type = f"{structure[0].decode()}/{structure[1].decode()}".lower()
    of_type = _imap_parameters(structure[2])
    # Behind the size: lines of a text; envelope, structure and lines of a message.
    extension = 8 if media_type.startswith("text/") else 10 if media_type[:8] == "message/" else 7
    disposition = structure[extension + 1] if len(structure) > extension + 1 else None
    of_disposition = _imap_parameters(disposition[1]) if disposition else {}
    cid = structure[3]
    encoding, size = structure[5].decode().lower(), structure[6]
    assert size == len(content)
    return Part(
        media_type=media_type,
        content=TRANSFER[encoding](content),
        disposition=disposition[0].decode().lower() if disposition else "",
        file_name=of_disposition.get("filename", of_type.get("name")),
        cid=None if cid is None else cid.decode().strip("<>"),
        parameters=_others(of_type.items()),
    )


def _imap_parameters(flat: Any) -> dict[str, str]:
    """IMAP hands on parameters as they were written; RFC 2231 is the client's to read."""
    if not flat:
        return {}
    pairs = [
        (key.decode().lower(), value.decode())
        for key, value in zip(flat[::2], flat[1::2], strict=True)
    ]
    # The standard library's reader of RFC 2231 wants the value of the field in front, and quotes.
    quoted = [
        (key, '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"') for key, value in pairs
    ]
    decoded = decode_params([("", ""), *quoted])[1:]
    return {
        key: _unquoted(collapse_rfc2231_value(value) if isinstance(value, tuple) else value)
        for key, value in decoded
    }


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1])


def _imap_people(addresses: tuple[ImapAddress, ...] | None) -> tuple[Person, ...]:
    """Names decoded; an address as it is written, with quotes where its local-part needs them."""
    return tuple(
        (_decoded(one.name), f"{_local_part(one.mailbox.decode())}@{one.host.decode()}")
        for one in addresses or ()
        if one.host is not None
    )


def _local_part(text: str) -> str:
    if re.fullmatch(r"[^\s\"(),:;<>@\[\\\].]+(?:\.[^\s\"(),:;<>@\[\\\].]+)*", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _decoded(value: bytes | None) -> str:
    return str(make_header(decode_header((value or b"").decode())))


# --- what all have ---


def _urls(value: str) -> tuple[str, ...]:
    """Of a list field (RFC 2369 §2): between angle brackets, without the blanks of folding."""
    return tuple(re.sub(r"\s", "", one) for one in re.findall(r"<([^<>]*)>", value))


def _others(parameters: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in parameters if key not in ("charset", "name"))
