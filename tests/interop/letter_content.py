"""What is in a message, in a form that all its readers can be asked for."""

from __future__ import annotations

from datetime import datetime

import msgspec

Person = tuple[str, str]
"""Display name and address."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part that holds no others; an attached message counts as one."""

    media_type: str
    content: bytes
    disposition: str = ""
    file_name: str | None = None
    cid: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    """Of the Content-Type, but for charset and name, which are ours to choose."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader finds in a message; None is for what it does not tell."""

    tree: str | None
    """ "mixed(alternative(text/plain text/html) image/png)"."""
    parts: tuple[Part, ...]
    subject: str
    sender: Person
    on_behalf: Person | None
    to: tuple[Person, ...]
    cc: tuple[Person, ...]
    reply_to: tuple[Person, ...]
    date: datetime
    message_id: str
    in_reply_to: str
    references: tuple[str, ...] | None
    extra: tuple[str, ...] | None
    """The values of X-Extra."""
    list_id: str | None
    unsubscribe: tuple[str, ...] | None
