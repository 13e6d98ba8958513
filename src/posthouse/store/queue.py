"""SQL of the queue: messages on their way and their recipients.

`queue.item.move` and `queue.spool.accept` are the only callers of what writes; each writes the
ledger (`store.ledger`) beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from posthouse.kernel.ids import AccountId, BlobId, MessageId, RecipientId
from posthouse.store.queue_rows import AttemptRow, MessageRow, RecipientRow, State
from posthouse.store.transaction import Row, Transaction, Value

_MESSAGE: Final = (
    "m.id, m.queue_id, m.reverse_path, m.blob_id, m.prefix, m.size, m.body, m.is_smtputf8, m.ret,"
    " m.envelope_id, m.origin, m.account_id, m.is_junk, m.accepted_at, m.pending,"
    " m.tls_demand, m.kept_for, m.quoted, m.refusal"
)
_RECIPIENT: Final = (
    "r.id, r.message_id, r.address, r.domain, r.route, r.original_recipient, r.notify, r.state,"
    " r.step, r.due_at, r.expires_at, r.attempts, r.leased_by, r.leased_until,"
    " r.delay_notified_at, r.last_reply"
)
IN_MAX: Final = 512
"""Values in one `IN (…)`; longer lists are asked in parts."""


def message_of(row: Row) -> MessageRow:
    """A row of the columns `_MESSAGE`."""
    return MessageRow(
        id=row[0],
        queue_id=row[1],
        reverse_path=row[2],
        blob=row[3],
        prefix=row[4],
        size=row[5],
        body=row[6],
        is_smtputf8=bool(row[7]),
        ret=row[8],
        envelope_id=row[9],
        origin=row[10],
        account=row[11],
        is_junk=bool(row[12]),
        accepted_at=row[13],
        pending=row[14],
        tls_demand=row[15],
        kept_for=row[16],
        quoted=row[17] or b"",
        refusal=row[18] or "",
    )


def recipient_of(row: Row) -> RecipientRow:
    """A row of the columns `_RECIPIENT`."""
    return RecipientRow(
        id=row[0],
        message=row[1],
        address=row[2],
        domain=row[3],
        route=row[4],
        original_recipient=row[5],
        notify=row[6],
        state=State(row[7]),
        step=row[8],
        due_at=row[9],
        expires_at=row[10],
        attempts=row[11],
        leased_by=row[12],
        leased_until=row[13],
        delay_notified_at=row[14],
        last_reply=row[15],
    )


def all_in(tx: Transaction, sql: str, ids: Iterable[int]) -> list[Row]:
    """Run `sql` with `{}` standing for the values of an `IN (…)`.

    Lists are filled up to a power of two by repeating a value, so that few statements exist.
    """
    found: list[Row] = []
    wanted = list(ids)
    for start in range(0, len(wanted), IN_MAX):
        part = wanted[start : start + IN_MAX]
        size = 1 << (len(part) - 1).bit_length()
        part += part[-1:] * (size - len(part))
        found += tx.all(sql.format(",".join("?" * size)), part)
    return found


# --- acceptance: the hot path ---


def insert_message(tx: Transaction, values: tuple[Value, ...]) -> MessageId:
    """A new message; `values` in the statement's order."""
    return MessageId(
        tx.insert(
            "INSERT INTO message (queue_id, reverse_path, blob_id, prefix, size, body,"
            " is_smtputf8, ret, envelope_id, origin, account_id, is_junk, accepted_at, pending,"
            " decision, tls_demand, kept_for, quoted, refusal)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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


# --- transitions ---


def write_recipients(tx: Transaction, after: Sequence[RecipientRow]) -> None:
    """What transitions made of recipients. The step of each must be one more than stored."""
    tx.run_many(
        "UPDATE recipient SET state = ?, step = ?, due_at = ?, attempts = ?, leased_by = ?,"
        " leased_until = ?, delay_notified_at = ?, last_reply = ?, route = ?"
        " WHERE id = ? AND step = ?",
        [
            (
                row.state,
                row.step,
                row.due_at,
                row.attempts,
                row.leased_by,
                row.leased_until,
                row.delay_notified_at,
                row.last_reply,
                row.route,
                row.id,
                row.step - 1,
            )
            for row in after
        ],
    )


def settle(tx: Transaction, ended: Mapping[MessageId, int]) -> None:
    """So many recipients of each message have their end now; octets nobody needs are let go."""
    found = all_in(tx, "SELECT id, pending, blob_id FROM message WHERE id IN ({})", ended)
    updates: list[tuple[Value, ...]] = []
    for message, pending, blob in found:
        left = pending - ended[message]
        updates.append((left, blob if left else None, message))
        if left == 0 and blob is not None:
            tx.release_blob(blob)
    tx.run_many("UPDATE message SET pending = ?, blob_id = ? WHERE id = ?", updates)


# --- what the runner asks ---


def due_domains(tx: Transaction, *, after: str, limit: int) -> list[tuple[str, int]]:
    """The next `limit` domains behind `after` that have queued recipients, each with its earliest
    due time. One step of the index for each domain, however many recipients it has (P11)."""
    return [
        (row[0], row[1])
        for row in tx.all(
            "WITH RECURSIVE d (domain, n) AS ("
            " SELECT (SELECT min(domain) FROM recipient WHERE state = 1 AND domain > ?), 1"
            " UNION ALL"
            " SELECT (SELECT min(r.domain) FROM recipient r"
            "  WHERE r.state = 1 AND r.domain > d.domain), d.n + 1"
            "  FROM d WHERE d.domain IS NOT NULL AND d.n < ?)"
            " SELECT domain, (SELECT min(r.due_at) FROM recipient r"
            "  WHERE r.state = 1 AND r.domain = d.domain) FROM d WHERE domain IS NOT NULL",
            (after, limit),
        )
    ]


def queued_of_domain(tx: Transaction, domain: str, *, limit: int) -> list[RecipientRow]:
    """Queued recipients of a domain, the earliest due first."""
    return [
        recipient_of(row)
        for row in tx.all(
            f"SELECT {_RECIPIENT} FROM recipient r WHERE r.state = 1 AND r.domain = ?"  # noqa: S608
            " ORDER BY r.due_at LIMIT ?",
            (domain, limit),
        )
    ]


def queued_companions(
    tx: Transaction, message: MessageId, domain: str, *, due_before: int, limit: int
) -> list[RecipientRow]:
    """Due recipients of one message in one domain."""
    return [
        recipient_of(row)
        for row in tx.all(
            f"SELECT {_RECIPIENT} FROM recipient r WHERE r.message_id = ?"  # noqa: S608
            " AND r.state = 1 AND r.domain = ? AND r.due_at <= ? LIMIT ?",
            (message, domain, due_before, limit),
        )
    ]


def asked_for(tx: Transaction, ids: Iterable[RecipientId]) -> dict[RecipientId, int]:
    """Those whose last transition was a person's wish for an attempt, with its time."""
    sql = (
        "SELECT r.id, l.at FROM recipient r"
        " JOIN ledger l ON l.recipient_id = r.id AND l.step = r.step"
        " WHERE r.id IN ({}) AND l.reason IN ('retry', 'released', 'rerouted')"
    )
    return {row[0]: row[1] for row in all_in(tx, sql, ids)}


def messages(tx: Transaction, ids: Iterable[MessageId]) -> dict[MessageId, MessageRow]:
    sql = f"SELECT {_MESSAGE} FROM message m WHERE m.id IN ({{}})"  # noqa: S608
    return {row[0]: message_of(row) for row in all_in(tx, sql, ids)}


def recipients(tx: Transaction, ids: Iterable[RecipientId]) -> dict[RecipientId, RecipientRow]:
    sql = f"SELECT {_RECIPIENT} FROM recipient r WHERE r.id IN ({{}})"  # noqa: S608
    return {row[0]: recipient_of(row) for row in all_in(tx, sql, ids)}


def recipients_of_message(tx: Transaction, message: MessageId) -> list[RecipientRow]:
    sql = f"SELECT {_RECIPIENT} FROM recipient r WHERE r.message_id = ? ORDER BY r.id"  # noqa: S608
    return [recipient_of(row) for row in tx.all(sql, (message,))]


def renew_leases(tx: Transaction, held: Sequence[tuple[RecipientId, int]], *, until: int) -> None:
    """Keep leases, given as recipient and step, that are still ours. No transition."""
    tx.run_many(
        "UPDATE recipient SET leased_until = ? WHERE id = ? AND step = ? AND state = 2",
        [(until, recipient, step) for recipient, step in held],
    )


def dead_leases(tx: Transaction, *, before: int, beyond: int, limit: int) -> list[RecipientRow]:
    """Leases that ran out before `before`, or end later than any honest one could (`beyond`)."""
    sql = (
        f"SELECT {_RECIPIENT} FROM recipient r WHERE r.state = 2"  # noqa: S608
        " AND (r.leased_until < ? OR r.leased_until > ?) LIMIT ?"
    )
    return [recipient_of(row) for row in tx.all(sql, (before, beyond, limit))]


def leases_of(tx: Transaction, owner: str, *, limit: int) -> list[RecipientRow]:
    sql = f"SELECT {_RECIPIENT} FROM recipient r WHERE r.state = 2 AND r.leased_by = ? LIMIT ?"  # noqa: S608
    return [recipient_of(row) for row in tx.all(sql, (owner, limit))]


def overdue(
    tx: Transaction, *, expired_before: int, due_before: int, limit: int
) -> list[RecipientId]:
    """Queued recipients past their lifetime that have been due, but untried, since `due_before`."""
    return [
        row[0]
        for row in tx.all(
            "SELECT id FROM recipient WHERE state = 1 AND expires_at <= ? AND due_at <= ? LIMIT ?",
            (expired_before, due_before, limit),
        )
    ]


# --- attempts ---


def add_attempts(tx: Transaction, attempts: Sequence[tuple[MessageId, int, bytes]]) -> None:
    """Records of attempts: message, time, JSON."""
    tx.run_many("INSERT INTO attempt (message_id, at, record) VALUES (?, ?, ?)", attempts)


def attempts_of(tx: Transaction, message: MessageId) -> list[AttemptRow]:
    return [
        AttemptRow(at=row[0], record=row[1])
        for row in tx.all(
            "SELECT at, record FROM attempt WHERE message_id = ? ORDER BY id", (message,)
        )
    ]


# --- people and metrics ---


def message_by_queue_id(tx: Transaction, queue_id: str) -> MessageRow | None:
    row = tx.one(f"SELECT {_MESSAGE} FROM message m WHERE m.queue_id = ?", (queue_id,))  # noqa: S608
    return message_of(row) if row else None


def queue_id_of_envelope(tx: Transaction, account: AccountId, envelope_id: str) -> str | None:
    """The message that an account submitted under an ENVID of its own, the latest."""
    row = tx.one(
        "SELECT queue_id FROM message WHERE envelope_id = ? AND account_id = ?"
        " ORDER BY id DESC LIMIT 1",
        (envelope_id, account),
    )
    return row[0] if row else None


def recent_queue_ids(tx: Transaction, *, limit: int) -> list[str]:
    """Names of the newest messages, the newest first."""
    found = tx.all("SELECT queue_id FROM message ORDER BY id DESC LIMIT ?", (limit,))
    return [row[0] for row in found]


def queue_ids_of_trace(tx: Transaction, trace: str, *, limit: int) -> list[str]:
    """Names of the messages that came by one connection, in their order."""
    found = tx.all(
        "SELECT queue_id FROM message WHERE queue_id >= ? AND queue_id < ? ORDER BY id LIMIT ?",
        (f"{trace}.", f"{trace}/", limit),
    )
    return [row[0] for row in found]


def decision(tx: Transaction, message: MessageId) -> bytes:
    row = tx.one("SELECT decision FROM message WHERE id = ?", (message,))
    return row[0] if row else b"{}"


def open_recipients(
    tx: Transaction,
    state: State,
    *,
    domain: str | None,
    after: RecipientId,
    limit: int,
    but_last_reason: str | None = None,
    but_route: str | None = None,
) -> list[tuple[RecipientRow, MessageRow]]:
    """Recipients in an open state by rising id, with their messages.

    Args:
        but_last_reason: leave out those whose last transition had this reason.
        but_route: leave out those that have this route already; "" is none.
    """
    here = ""
    parameters: list[Value] = [after]
    if domain is not None:
        here += " AND r.domain = ?"
        parameters.append(domain)
    if but_last_reason is not None:
        here += (
            " AND NOT EXISTS (SELECT 1 FROM ledger l"
            " WHERE l.recipient_id = r.id AND l.step = r.step AND l.reason = ?)"
        )
        parameters.append(but_last_reason)
    if but_route is not None:
        here += " AND coalesce(r.route, '') <> ?"
        parameters.append(but_route)
    parameters.append(limit)
    found = tx.all(
        f"SELECT {_RECIPIENT}, {_MESSAGE} FROM recipient r"  # noqa: S608
        f" JOIN message m ON m.id = r.message_id WHERE r.state = {int(state)}"
        f" AND r.id > ?{here} ORDER BY r.id LIMIT ?",
        parameters,
    )
    return [(recipient_of(row[:16]), message_of(row[16:])) for row in found]


def open_counts(tx: Transaction) -> dict[State, int]:
    """How many recipients are in each open state."""
    return {
        state: (tx.one(f"SELECT count(*) FROM recipient WHERE state = {int(state)}") or (0,))[0]  # noqa: S608
        for state in (State.QUEUED, State.LEASED, State.HELD)
    }


def oldest_open(tx: Transaction) -> int | None:
    """When the oldest message with an open recipient was accepted."""
    row = tx.one("SELECT min(accepted_at) FROM message WHERE pending > 0")
    return row[0] if row else None


def counter(tx: Transaction, name: str) -> int | None:
    row = tx.one("SELECT value FROM counter WHERE name = ?", (name,))
    return row[0] if row else None


def set_counter(tx: Transaction, name: str, value: int) -> None:
    tx.run(
        "INSERT INTO counter (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


# --- retention ---


def ended_messages(tx: Transaction, *, accepted_before: int, limit: int) -> list[MessageId]:
    """Messages without open recipients, accepted before a time, the oldest first.

    Ids rise with time, so no index on the time is kept: it would cost every message a page of the
    log. A clock that was wrong for a while (F16) hides a message behind newer ones only while those
    last.
    """
    found: list[MessageId] = []
    after = newer = 0
    while len(found) < limit and newer < limit:
        rows = tx.all(
            "SELECT id, accepted_at, pending FROM message WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
        for message, accepted_at, pending in rows:
            if accepted_at >= accepted_before:
                newer += 1
            elif not pending:
                found.append(message)
        if len(rows) < limit:
            break
        after = rows[-1][0]
    return found[:limit]


def remove_messages(tx: Transaction, ids: Sequence[MessageId]) -> None:
    """Forget messages with their recipients, ledger and attempts."""
    parameters = [(message,) for message in ids]
    for sql in (
        "DELETE FROM ledger WHERE recipient_id IN (SELECT id FROM recipient WHERE message_id = ?)",
        "DELETE FROM recipient WHERE message_id = ?",
        "DELETE FROM attempt WHERE message_id = ?",
        "DELETE FROM message WHERE id = ?",
    ):
        tx.run_many(sql, parameters)


def blob_of(tx: Transaction, message: MessageId) -> BlobId | None:
    row = tx.one("SELECT blob_id FROM message WHERE id = ?", (message,))
    return row[0] if row else None
