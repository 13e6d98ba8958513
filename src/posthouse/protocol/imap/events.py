"""What a client asks for: one frozen value for each command, and what comes inside some of them.

Arguments are decoded: mailbox names are text, dates numbers, flags in their usual spelling. Every
event carries the `tag` its answer must begin with.
"""

from __future__ import annotations

import msgspec

from posthouse.protocol.imap.fetch_items import FetchItem
from posthouse.protocol.imap.grammar import SequenceSet
from posthouse.protocol.imap.search_keys import SearchKey


class Command(msgspec.Struct, frozen=True, kw_only=True):
    tag: bytes


class Capability(Command, frozen=True):
    pass


class Noop(Command, frozen=True):
    pass


class Logout(Command, frozen=True):
    pass


class Id(Command, frozen=True):
    """RFC 2971 §3.1; fields the client left NIL are absent."""

    fields: tuple[tuple[bytes, bytes], ...]


class StartTls(Command, frozen=True):
    """Nothing came behind it; call `tls_started` when the handshake has begun."""


class Authenticate(Command, frozen=True):
    """Answer with `challenge`, or with the tagged response."""

    mechanism: str
    initial_response: bytes | None
    """Decoded (RFC 4959 §3); None when the client waits for a challenge."""


class SaslResponse(Command, frozen=True):
    response: bytes


class SaslAborted(Command, frozen=True):
    """`*` or a line that is no base64; BAD is owed (RFC 3501 §6.2.2)."""

    is_malformed: bool


class Login(Command, frozen=True):
    user: bytes
    password: bytes


class Enable(Command, frozen=True):
    capabilities: tuple[bytes, ...]


class Select(Command, frozen=True):
    mailbox: str


class Examine(Command, frozen=True):
    mailbox: str


class Create(Command, frozen=True):
    mailbox: str
    special_use: tuple[bytes, ...] = ()
    """RFC 6154 §3, as the client spelled them."""


class Delete(Command, frozen=True):
    mailbox: str


class Rename(Command, frozen=True):
    mailbox: str
    to: str


class Subscribe(Command, frozen=True):
    mailbox: str


class Unsubscribe(Command, frozen=True):
    mailbox: str


class List(Command, frozen=True):
    reference: str
    pattern: str


class Lsub(Command, frozen=True):
    reference: str
    pattern: str


class Namespace(Command, frozen=True):
    pass


class Status(Command, frozen=True):
    mailbox: str
    items: tuple[bytes, ...]


class AppendOffered(Command, frozen=True):
    """A message larger than other literals is announced; answer `take_literal` or
    `refuse_literal` before it is read."""

    octets: int


class Append(Command, frozen=True):
    mailbox: str
    flags: tuple[bytes, ...]
    received_at_us: int | None
    message: bytes


class Idle(Command, frozen=True):
    """Call `idling`; `IdleEnded` follows."""


class IdleEnded(Command, frozen=True):
    """`is_done` is false when anything but DONE came: BAD is owed."""

    is_done: bool


class Check(Command, frozen=True):
    pass


class Close(Command, frozen=True):
    pass


class Unselect(Command, frozen=True):
    pass


class Expunge(Command, frozen=True):
    uids: SequenceSet | None = None
    """UID EXPUNGE's set, RFC 4315 §2.1."""


class Search(Command, frozen=True):
    key: SearchKey
    by_uid: bool = False


class Fetch(Command, frozen=True):
    messages: SequenceSet
    items: tuple[FetchItem, ...]
    by_uid: bool = False


class Store(Command, frozen=True):
    messages: SequenceSet
    operation: str
    """`=`, `+` or `-`."""
    flags: tuple[bytes, ...]
    is_silent: bool = False
    by_uid: bool = False


class Copy(Command, frozen=True):
    messages: SequenceSet
    mailbox: str
    by_uid: bool = False


class Move(Command, frozen=True):
    messages: SequenceSet
    mailbox: str
    by_uid: bool = False


Event = (
    Capability
    | Noop
    | Logout
    | Id
    | StartTls
    | Authenticate
    | SaslResponse
    | SaslAborted
    | Login
    | Enable
    | Select
    | Examine
    | Create
    | Delete
    | Rename
    | Subscribe
    | Unsubscribe
    | List
    | Lsub
    | Namespace
    | Status
    | AppendOffered
    | Append
    | Idle
    | IdleEnded
    | Check
    | Close
    | Unselect
    | Expunge
    | Search
    | Fetch
    | Store
    | Copy
    | Move
)
