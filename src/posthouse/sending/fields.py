"""The fields of a new message besides its addresses: ids, priority, and those a caller adds.

What this library writes itself is refused in `headers`, with a word which argument does it: two
Froms or a second Content-Type would be read one way here and another way there (H32, H66).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from posthouse.message import build
from posthouse.message.build import BuildError, text_field
from posthouse.sending.errors import MessageError
from posthouse.sending.list_fields import NAMES as LIST_NAMES
from posthouse.sending.message import Message, Priority
from posthouse.sending.naming import fault, keyed, named, several, shown, text_of

__all__ = ["extra_fields", "message_ids", "part_fields", "priority_fields", "reference_fields"]

_ID: Final = re.compile(r"<[^<>]*>|[^<>,\s]+|[<>]")
_MADE: Final = "it is made of what the message holds"
_OWNED: Final = {
    "from": "use `sender`",
    "sender": "use `on_behalf`",
    "to": "use `to`",
    "cc": "use `cc`",
    "bcc": "use `bcc`",
    "reply-to": "use `reply_to`",
    "subject": "use `subject`",
    "date": "use `date`",
    "message-id": "use `message_id`",
    "in-reply-to": "use `in_reply_to`",
    "references": "use `references`",
    "return-path": "use `envelope`, with its `sender`; the last server writes the field",
    "received": "servers write it",
    "mime-version": _MADE,
    "content-type": f"{_MADE}; use `text`, `html`, `alternatives` or `attachments`",
    "content-transfer-encoding": f"{_MADE}; use `text_encoding`",
    "content-disposition": f"{_MADE}; use `attachments`",
    "content-id": f"{_MADE}; use `attachments`, with `cid`",
    "dkim-signature": "use `dkim`",
    "tls-required": "use `envelope`, with `tls_demand`",
}
_RESENT: Final = "to pass on a message as it is, use `raw`"
_PART_OWNED: Final = {
    "content-type": "use `content_type`",
    "content-transfer-encoding": "use `encoding`",
    "content-disposition": "use `filename` and `is_inline`",
    "content-id": "use `cid`",
    "mime-version": "it belongs to whole messages",
}
_HEADERS: Final = 'write headers={"X-Shop": "tea"}'
_PRIORITY: Final = {
    Priority.HIGH: (("Importance", "high"), ("X-Priority", "1 (Highest)")),
    Priority.LOW: (("Importance", "low"), ("X-Priority", "5 (Lowest)")),
    Priority.NORMAL: (),
}
_PRIORITY_FIELDS: Final = {
    # No X-MSMail-Priority: filters look for Outlook's other fields beside it.
    priority: [build.field(*field) for field in fields]
    for priority, fields in _PRIORITY.items()
}


def priority_fields(priority: Priority) -> list[bytes]:
    """Importance (RFC 4021 §2.1.54), and X-Priority for those who know that one only."""
    return _PRIORITY_FIELDS[priority]


def message_ids(field: str, value: str | Sequence[str]) -> list[str]:
    """Ids with their angle brackets, in order, each once: from a text with blanks or commas
    between, or a list. Raises MessageError."""
    texts = (value,) if isinstance(value, str) else several(field, value)
    found: dict[str, None] = {}
    for at, text in enumerate(texts):
        inner = field if isinstance(value, str) else f"{field}[{at}]"
        text = named(inner, build.checked, "References", text_of(inner, text))
        found |= dict.fromkeys(_ids_in(inner, text))
    return list(found)


def _ids_in(field: str, text: str) -> list[str]:
    """Ids of real mail are odd, so each may be anything that fits between angle brackets. Without
    these a blank may be within a text that is no id at all, or between two ids: those have an @."""
    pieces = _ID.findall(text)
    found = []
    for one in pieces:
        message_id = one if one.startswith("<") else f"<{one}>"
        is_sure = one.startswith("<") or "@" in one or len(pieces) == 1
        if not is_sure or _is_no_id(message_id):
            words = f"{shown(text)} is no message id"
            raise fault(field, words, hint="an id has no blanks in it: <id@example.org>")
        found.append(message_id)
    return found


def _is_no_id(message_id: str) -> bool:
    try:
        build.message_id_field(message_id)
    except BuildError:
        return True
    return False


def reference_fields(message: Message) -> list[bytes]:
    """In-Reply-To and References (RFC 5322 §3.6.4). A reply that names no references has at least
    the message it answers in them, as threads are made of that field."""
    fields = []
    answered = message_ids("in_reply_to", message.in_reply_to)
    if answered:
        fields.append(build.message_ids_field("In-Reply-To", answered))
    references = message_ids("references", message.references) or answered
    if references:
        fields.append(build.message_ids_field("References", references))
    return fields


def extra_fields(message: Message) -> list[bytes]:
    """What `headers` asks for. Raises MessageError about `headers["…"]`."""
    if not message.headers:
        return []
    taken = dict(_OWNED)
    if message.priority is not Priority.NORMAL:
        taken |= {name.lower(): "use `priority`" for name, _ in _PRIORITY[message.priority]}
    if message.list is not None:
        taken |= {"list-id": "use `list`", "list-unsubscribe-post": "use `list`"}
        taken |= {name.lower(): "use `list`" for _, name in LIST_NAMES}
    fields = []
    for name, value in _items("headers", message.headers):
        where = keyed("headers", name)
        owner = taken.get(text_of(where, name).strip().lower())
        if owner is None and name.lower().startswith("resent-"):
            owner = _RESENT
        fields.append(_field(where, name, value, owner))
    return fields


def part_fields(field: str, headers: Mapping[str, str]) -> tuple[bytes, ...]:
    """What an attachment's `headers` ask for."""
    return tuple(
        _field(where, name, value, _PART_OWNED.get(text_of(where, name).strip().lower()))
        for name, value in _items(field, headers)
        if (where := keyed(field, name))
    )


def _items(
    field: str, headers: Mapping[str, str | Sequence[str]] | Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    pairs: Iterable[Any] = (
        headers.items() if isinstance(headers, Mapping) else several(field, headers, hint=_HEADERS)
    )
    for pair in pairs:
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise fault(field, f"{shown(str(pair))} is no pair of a name and a value") from None
        if isinstance(value, (list, tuple)):
            yield from ((name, one) for one in value)
        else:
            yield name, value  # a str, or `_field` says what it is


def _field(where: str, name: str, value: str, owner: str | None) -> bytes:
    if owner is not None:
        raise MessageError(f"{where} cannot be set here", field=where, hint=owner)
    try:
        return text_field(name, text_of(where, value))
    except BuildError as error:
        raise fault(where, error.reason) from None
