"""Rows of the queue as values: messages on their way, their recipients, and what becomes of them.

`queue` reads and writes them through `store.queue` and `store.ledger`. Times are microseconds
since 1970, UTC.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from posthouse.kernel.ids import AccountId, BlobId, MessageId, QueueId, RecipientId


class State(IntEnum):
    """Where a recipient of an accepted message is (promise P2). The first three are ours still."""

    NONE = 0  # before acceptance; only in the ledger
    QUEUED = 1  # due at `due_at`
    LEASED = 2  # an attempt is under way, until `leased_until`
    HELD = 3  # paused by a person
    STORED = 4  # in a local mailbox
    RELAYED = 5  # the next host's 2xx is recorded
    RETURNED = 6  # failed or expired, and the DSN was accepted in the same commit
    DROPPED = 7  # by a rule that has a name


OPEN_STATES = frozenset({State.QUEUED, State.LEASED, State.HELD})
"""States in which the message is still owed to the recipient."""


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted message without its octets."""

    id: MessageId
    queue_id: QueueId
    reverse_path: str | None
    blob: BlobId | None
    prefix: bytes
    size: int
    body: str
    is_smtputf8: bool
    ret: str | None
    envelope_id: str | None
    origin: str
    account: AccountId | None
    is_junk: bool
    accepted_at: int
    pending: int
    tls_demand: int = 0
    """`kernel.envelope.TlsDemand`."""
    kept_for: str | None = None
    """The account that these octets are the own copy of, by its name: stored for it as they are,
    sent nowhere else, and never shown in a notice."""
    quoted: bytes = b""
    """Of an own copy, what a notice shows: the header section of the message as it came."""
    refusal: str = ""
    """Of an own copy, why the account does not take the message: it is only told to the sender."""


class RecipientRow(msgspec.Struct, frozen=True, kw_only=True):
    id: RecipientId
    message: MessageId
    address: str
    domain: str
    route: str | None
    original_recipient: str | None
    notify: int | None
    state: State
    step: int
    due_at: int | None
    expires_at: int
    attempts: int
    leased_by: str | None
    leased_until: int | None
    delay_notified_at: int | None
    last_reply: str | None


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    recipient: RecipientId
    step: int
    at: int
    from_state: State
    to_state: State
    reason: str
    detail: str


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    at: int
    record: bytes
    """JSON of `queue.item.AttemptRecord`."""
