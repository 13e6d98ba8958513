"""What a program and a Posthouse say to each other about submitted mail over HTTP, as JSON.

    POST /api/v1/messages?from=ada@example.org&to=bob@example.net    the message (message/rfc822)
    GET  /api/v1/messages/ID                                         what became of it

Errors are problem details (RFC 9457).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

PATH: Final = "/api/v1/messages"
MESSAGE_TYPE: Final = "message/rfc822"
PROBLEM_TYPE: Final = "application/problem+json"
KEY_FIELD: Final = "Idempotency-Key"
KEY_MAX: Final = 80
"""Characters of a key that names one submission: printable ASCII without "+" and "="."""
RECIPIENTS_MAX: Final = 1_000
ANSWER_OCTETS_MAX: Final = 1 << 20


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient who does not get it, or a message nobody gets: the reply that says why."""

    recipient: str
    code: int
    status: str
    text: str


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The message is the server's: nothing of it is lost from now on."""

    id: str
    """To ask about it by."""
    accepted: tuple[str, ...]
    rejected: tuple[Turned, ...] = ()
    response: str
    """The reply to the message as SMTP has it."""


class State(Enum):
    QUEUED = "queued"  # not tried yet
    DEFERRED = "deferred"  # the next host said not now
    DELIVERED = "delivered"  # in a mailbox here, or with the next host
    RETURNED = "returned"  # it will not get there


class RecipientState(msgspec.Struct, frozen=True, kw_only=True):
    recipient: str
    state: State
    detail: str = ""
    """The next host's words, or ours."""
    next_try_at: str | None = None
    """RFC 3339, UTC; of those that are queued or deferred."""


class MessageState(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    recipients: tuple[RecipientState, ...]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457."""

    status: int
    """Of HTTP."""
    title: str
    detail: str
    """What to do, where that is known."""
    rejected: tuple[Turned, ...] = ()
    is_about_content: bool = False
    """The recipients would do: the message was turned down for all of them."""
