"""Message disposition notifications: that somebody read, deleted or forwarded a message (RFC 8098).

Read only; nobody here answers whether a message was read."""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.message import mime
from posthouse.message.fields import HeaderSection, read_section
from posthouse.message.mime import Part
from posthouse.message.words import decode

FIELDS_OCTETS_MAX: Final = 64 * 1024
_TYPES: Final = frozenset({b"disposition-notification", b"global-disposition-notification"})


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What a notification says; "" for what it does not say."""

    disposition: str
    """ "displayed", "deleted", "dispatched", "processed" … in lower case."""
    is_automatic: bool
    """Nobody decided to send it."""
    final_recipient: str = ""
    original_recipient: str = ""
    original_message_id: str = ""
    """With its angle brackets."""
    reporting_agent: str = ""
    errors: tuple[str, ...] = ()


def find(root: Part) -> Part | None:
    """The message/disposition-notification part of a mail, or None."""
    for part in root.own_parts():
        if part.maintype == b"message" and part.subtype in _TYPES:
            return part
    return None


def read(part: Part) -> Notification | None:
    """What the part says; None when it has no disposition. Never raises."""
    body = mime.content(part, octets_max=FIELDS_OCTETS_MAX)
    section = read_section(body.lstrip(b"\r\n"))
    mode, _, rest = _text(section, b"disposition").partition(";")
    if not rest:
        return None
    sending = mode.partition("/")[2].strip().lower()
    return Notification(
        disposition=rest.partition("/")[0].strip().lower(),
        is_automatic=sending == "mdn-sent-automatically" or mode.lower().startswith("automatic"),
        final_recipient=_address(section, b"final-recipient"),
        original_recipient=_address(section, b"original-recipient"),
        original_message_id=_text(section, b"original-message-id"),
        reporting_agent=_text(section, b"reporting-ua"),
        errors=tuple(decode(value) for value in section.every(b"error")[:100]),
    )


def _text(section: HeaderSection, name: bytes) -> str:
    value = section.first(name)
    return "" if value is None else decode(value).strip()


def _address(section: HeaderSection, name: bytes) -> str:
    """Without its type ("rfc822;")."""
    text = _text(section, name)
    kind, semicolon, address = text.partition(";")
    return (address if semicolon else kind).strip().strip("<>")
