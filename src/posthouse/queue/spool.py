"""Taking a message into the queue's books: the moment from which it is ours (promises P1, P2).

Called inside the unit of work that stores everything else about the message, by reception,
submission, and by `queue.dsn` for our own notices. The reply goes out after that unit's commit.
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.kernel.envelope import Address, BodyType, Notify, Ret, TlsDemand
from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.ids import AccountId, BlobId, MessageId, QueueId
from posthouse.message.address import format_address
from posthouse.queue.item import Origin, Reason, State
from posthouse.store import queue as rows
from posthouse.store.transaction import QueueChanged, Transaction

_FIRST_STATES: Final = {
    State.QUEUED: Reason.ACCEPTED.value,
    State.STORED: Reason.DELIVERED.value,
    State.DROPPED: Reason.DISCARDED.value,
}
QUEUE_CHANGED: Final = QueueChanged()


class AcceptedRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """One forward-path after alias expansion, and what this unit of work did about it."""

    address: Address
    state: State
    """STORED: in a mailbox by this unit. QUEUED: for another host, or a local one to try later.
    DROPPED: the user's own rules discard it."""
    notify: Notify | None = None
    original_recipient: str | None = None
    """ORCPT= decoded, "type;address" (RFC 3461 §4.2)."""
    detail: str = ""
    """For the ledger, e.g. the mailbox it is in."""
    due_at: int | None = None
    """Microseconds since 1970, when QUEUED; None is now."""


class KeptFor(msgspec.Struct, frozen=True, kw_only=True):
    """Of a message whose octets are what one account keeps in the place of what came."""

    account: str
    """By its name."""
    quoted: bytes
    """What a notice about it may show: no octets that the sender did not send in the open."""
    refusal: str = ""
    """Why the account does not take the message, in words; "" when it does. The octets are
    nothing but `quoted` then."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A message with its envelope, ready to be owned."""

    queue_id: QueueId
    reverse_path: Address | None
    recipients: tuple[AcceptedRecipient, ...]
    size: int
    """Octets of prefix and content together."""
    blob: BlobId | None = None
    """Content for QUEUED recipients; one reference of it becomes the queue's. None when nobody is
    QUEUED."""
    prefix: bytes = b""
    """Trace fields in front of the blob's octets when it is relayed; b"" when nobody is QUEUED."""
    body: BodyType = BodyType.SEVEN_BIT
    is_smtputf8: bool = False
    ret: Ret | None = None
    envelope_id: str | None = None
    origin: Origin = Origin.MX
    account: AccountId | None = None
    """Who submitted it."""
    is_junk: bool = False
    """Taken as junk: nobody is ever sent a notice about it (promise P5)."""
    tls_demand: TlsDemand = TlsDemand.NONE
    expires_at: int = 0
    """Microseconds since 1970, for QUEUED recipients: `schedule.Options.expires_at`."""
    decision: bytes = b"{}"
    """The decision record, JSON; `explain` shows it."""
    kept: KeptFor | None = None


def accept(tx: Transaction, accepted: Accepted) -> MessageId:
    """Write message, recipients and the ledger's first lines. One row each, and nothing is read."""
    now = tx.now_us()
    recipients = accepted.recipients
    pending = 0
    for recipient in recipients:
        if recipient.state is State.QUEUED:
            pending += 1
    if (pending == 0) != (accepted.blob is None):
        raise LocalProtocolError("a blob is kept for QUEUED recipients, and only for them")
    reverse_path, kept = accepted.reverse_path, accepted.kept
    message = rows.insert_message(
        tx,
        (
            accepted.queue_id,
            None if reverse_path is None else format_address(reverse_path),
            accepted.blob,
            accepted.prefix,
            accepted.size,
            accepted.body.value,
            accepted.is_smtputf8,
            None if accepted.ret is None else accepted.ret.value,
            accepted.envelope_id,
            accepted.origin.value,
            accepted.account,
            accepted.is_junk,
            now,
            pending,
            accepted.decision,
            accepted.tls_demand,
            None if kept is None else kept.account,
            None if kept is None else kept.quoted,
            None if kept is None else kept.refusal,
        ),
    )
    for recipient in recipients:
        state = recipient.state
        is_queued = state is State.QUEUED
        rows.insert_recipient(
            tx,
            (
                message,
                format_address(recipient.address),
                recipient.address.domain,
                recipient.original_recipient,
                recipient.notify,
                state,
                (now if recipient.due_at is None else recipient.due_at) if is_queued else None,
                accepted.expires_at,
            ),
            now=now,
            reason=_FIRST_STATES[state],
            detail=recipient.detail,
        )
    if pending:
        tx.changed(QUEUE_CHANGED)
    return message
