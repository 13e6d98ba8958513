"""SQL of the queue: messages on their way and their recipients. States change in `store.ledger`."""

from __future__ import annotations

from posthouse.kernel.ids import MessageId, RecipientId
from posthouse.store.transaction import Transaction, Value


def insert_message(tx: Transaction, values: tuple[Value, ...]) -> MessageId:
    """A new message; `values` in the statement's order."""
    return MessageId(
        tx.insert(
            "INSERT INTO message (queue_id, reverse_path, blob_id, prefix, size, body,"
            " is_smtputf8, ret, envelope_id, origin, account_id, accepted_at, pending, decision)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
    )


def insert_recipient(
    tx: Transaction, values: tuple[Value, ...], *, now: int, reason: str, detail: str
) -> RecipientId:
    """A new recipient with the first line of its ledger; `values` in the statement's order, its
    state the sixth."""
    recipient = tx.insert(
        "INSERT INTO recipient (message_id, address, domain, original_recipient, notify, state,"
        " due_at, expires_at, step) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
        values,
    )
    tx.run(
        "INSERT INTO ledger (recipient_id, step, at, from_state, to_state, reason, detail)"
        " VALUES (?, 1, ?, 0, ?, ?, ?)",
        (recipient, now, values[5], reason, detail),
    )
    return RecipientId(recipient)
