"""What makes the letters of a run of `posthouse send --recipients` that letter and no other, as
digests: by them a journal knows whether it was kept for it.

The table is not in them, as it may grow, nor server, login or keys. Nor are the pictures that
--inline-files finds for a template, or templates whose names are made as it is filled in.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from posthouse.cli.send_words import option_of
from posthouse.sending import Attachment, Message, Priority
from posthouse.sending.options import Options
from posthouse.sending.sources import gather
from posthouse.sending.templates import Templates

__all__ = ["digests_of"]

_FIELDS: Final = (
    *("sender", "on_behalf", "cc", "bcc", "reply_to", "subject", "text", "html", "calendar"),
    *("headers", "date", "message_id", "in_reply_to", "references", "priority"),
)
_UNSAID: Final[tuple[object, ...]] = (None, "", (), [], Priority.NORMAL)


def digests_of(
    message: Message, templates: Templates | None, name: str, data: Mapping[str, str]
) -> dict[str, str]:
    """SHA-256 in hexadecimal by option, and by file name of the templates.

    Raises:
        MessageError: a file of the message or a template cannot be read.
    """
    whole = asyncio.run(gather(message, options=Options()))
    found = {
        option_of(field): _digest(value)
        for field in _FIELDS
        if (value := getattr(whole, field)) not in _UNSAID
    }
    if whole.attachments:
        found["--attach"] = _digest([_attached(one) for one in whole.attachments])
    if whole.envelope is not None and whole.envelope.sender is not None:
        found["--return-path"] = _digest(whole.envelope.sender)
    if data:
        found["--data"] = _digest(dict(sorted(data.items())))
    if templates is not None:
        for file, source in sorted(templates.files(name).items()):
            found[file] = _digest(source)
    return found


def _attached(one: object) -> list[str | None]:
    assert isinstance(one, Attachment) and isinstance(one.content, (str, bytes))  # gathered
    octets = one.content.encode() if isinstance(one.content, str) else one.content
    return [one.filename, one.cid, one.content_type, hashlib.sha256(octets).hexdigest()]


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
