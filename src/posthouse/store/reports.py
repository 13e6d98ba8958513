"""SQL of reports: results that are summed for others, what was sent, what came.

Two kinds of results have tables alike, so functions take the kind. JSON comes and goes as octets.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.ids import BlobId
from posthouse.store.transaction import Row, Transaction, Value

KEY_SUBMISSION = "key-submission"
"""The local-part at which each domain of ours takes the keys of its users."""


class ResultKind(Enum):
    """Reports that we send; the value is how `report_sent` names them."""

    DMARC = "dmarc"
    TLS = "tls"


class ReportKind(Enum):
    """Reports that come, as `report_in` names them."""

    DMARC = "dmarc"
    TLS = "tls"
    FAILURE = "failure"
    UNREAD = "unread"


_TABLES: Final = {ResultKind.DMARC: "dmarc_result", ResultKind.TLS: "tls_result"}


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sum to add: of one domain, interval, policy and set of facts."""

    domain: str
    begin_at: int
    digest: bytes
    policy: bytes
    facts: bytes
    total: int


class SummedRow(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    policy: bytes
    facts: bytes
    total: int
    seen_at: int


class DueRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is there to tell one domain about one interval."""

    domain: str
    begin_at: int
    rows: int
    total: int


class SentRow(msgspec.Struct, frozen=True, kw_only=True):
    kind: ResultKind
    domain: str
    begin_at: int
    end_at: int
    sent_at: int
    total: int
    organization: str
    is_sent: bool
    outcome: str


class InboxRow(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    blob: BlobId
    queue_id: str
    address: str
    received_at: int


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """A report that came. `report` is deflated JSON, left out (b"") in listings."""

    id: int
    kind: ReportKind
    domain: str
    reporter: str
    report_id: str
    sender: str
    is_authenticated: bool
    begin_at: int
    end_at: int
    received_at: int
    total: int
    blob: BlobId | None
    queue_id: str = ""
    """Of the mail it came in; "" for a file."""
    report: bytes = b""


class Surplus(msgspec.Struct, frozen=True, kw_only=True):
    """How many reports there were, and how many went because that was too many."""

    total: int
    unproven: int
    removed: int


# --- results ---


def result_count(tx: Transaction, kind: ResultKind) -> int:
    return _count(tx, f"SELECT count(*) FROM {_TABLES[kind]}")  # noqa: S608


def add_results(
    tx: Transaction, kind: ResultKind, rows: Sequence[ResultRow], *, room: int
) -> tuple[int, int]:
    """Add sums to those of equal digest; new ones only as long as there is room.

    Returns how many became rows of their own, and how many found no room.
    """
    table, now = _TABLES[kind], tx.now_us()
    added = lost = 0
    for row in rows:
        key = (row.domain, row.begin_at, row.digest)
        if tx.run(
            f"UPDATE {table} SET total = total + ?, seen_at = ?"  # noqa: S608
            " WHERE domain = ? AND begin_at = ? AND digest = ?",
            (row.total, now, *key),
        ):
            continue
        if added >= room:
            lost += 1
            continue
        tx.run(
            f"INSERT INTO {table} (domain, begin_at, digest, policy, facts, total, seen_at)"  # noqa: S608
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key, row.policy, row.facts, row.total, now),
        )
        added += 1
    return added, lost


def due(tx: Transaction, kind: ResultKind, *, begun_before: int, limit: int) -> list[DueRow]:
    """Domains with results of intervals that began before a time, the oldest first."""
    found = tx.all(
        f"SELECT domain, begin_at, count(*), sum(total) FROM {_TABLES[kind]}"  # noqa: S608
        " WHERE begin_at < ? GROUP BY domain, begin_at ORDER BY begin_at, domain LIMIT ?",
        (begun_before, limit),
    )
    return [DueRow(domain=row[0], begin_at=row[1], rows=row[2], total=row[3]) for row in found]


def results(
    tx: Transaction, kind: ResultKind, domain: str, begin_at: int, *, limit: int
) -> list[SummedRow]:
    """The sums of one domain and interval, the largest first."""
    found = tx.all(
        f"SELECT id, policy, facts, total, seen_at FROM {_TABLES[kind]}"  # noqa: S608
        " WHERE domain = ? AND begin_at = ? ORDER BY total DESC, id LIMIT ?",
        (domain, begin_at, limit),
    )
    return [
        SummedRow(id=row[0], policy=row[1], facts=row[2], total=row[3], seen_at=row[4])
        for row in found
    ]


def take_results(tx: Transaction, kind: ResultKind, taken: Sequence[tuple[int, int]]) -> None:
    """Take away what was told: (id, total) each. What was added since stays for the next report."""
    table = _TABLES[kind]
    tx.run_many(
        f"UPDATE {table} SET total = total - ? WHERE id = ?",  # noqa: S608
        [(total, row) for row, total in taken],
    )
    tx.run_many(
        f"DELETE FROM {table} WHERE id = ? AND total <= 0",  # noqa: S608
        [(row,) for row, _ in taken],
    )


def forget_results(tx: Transaction, kind: ResultKind, domain: str, begin_at: int) -> None:
    tx.run(
        f"DELETE FROM {_TABLES[kind]} WHERE domain = ? AND begin_at = ?",  # noqa: S608
        (domain, begin_at),
    )


# --- sent ---


def mark_sent(tx: Transaction, row: SentRow) -> bool:
    """False when a report of that kind, domain and begin went already: send nothing then."""
    return (
        tx.run(
            "INSERT INTO report_sent (kind, domain, begin_at, end_at, sent_at, total, organization,"
            " is_sent, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                row.kind.value,
                row.domain,
                row.begin_at,
                row.end_at,
                row.sent_at,
                row.total,
                row.organization,
                row.is_sent,
                row.outcome,
            ),
        )
        > 0
    )


def sent_until(
    tx: Transaction, kind: ResultKind, domain: str, *, since: int, until: int
) -> int | None:
    """Where the last report that began in [since, until) ends, or None when there was none."""
    row = tx.one(
        "SELECT max(end_at) FROM report_sent"
        " WHERE kind = ? AND domain = ? AND begin_at >= ? AND begin_at < ?",
        (kind.value, domain, since, until),
    )
    return row[0] if row else None


def sent_to(tx: Transaction, organization: str, *, since: int, until: int) -> int:
    """How many reports that begin in [since, until) went to its domains."""
    row = tx.one(
        "SELECT count(*) FROM report_sent"
        " WHERE organization = ? AND is_sent = 1 AND begin_at >= ? AND begin_at < ?",
        (organization, since, until),
    )
    assert row is not None
    count: int = row[0]
    return count


def sent(tx: Transaction, *, limit: int) -> list[SentRow]:
    """The newest first."""
    found = tx.all(
        "SELECT kind, domain, begin_at, end_at, sent_at, total, organization, is_sent, outcome"
        " FROM report_sent ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [
        SentRow(
            kind=ResultKind(row[0]),
            domain=row[1],
            begin_at=row[2],
            end_at=row[3],
            sent_at=row[4],
            total=row[5],
            organization=row[6],
            is_sent=bool(row[7]),
            outcome=row[8],
        )
        for row in found
    ]


# --- inbox ---


_REPORT_INBOX = (
    "SELECT id, blob_id, queue_id, address, received_at FROM report_inbox"
    " WHERE lower(address) NOT LIKE ? ORDER BY id LIMIT ?"
)
_KEY_INBOX = _REPORT_INBOX.replace("NOT LIKE", "LIKE")


def add_to_inbox(tx: Transaction, *, blob: BlobId, queue_id: str, address: str) -> None:
    """Keep a mail for reading; one reference of the blob becomes the inbox's."""
    tx.run(
        "INSERT INTO report_inbox (blob_id, queue_id, address, received_at) VALUES (?, ?, ?, ?)",
        (blob, queue_id, address, tx.now_us()),
    )


def inbox(tx: Transaction, *, limit: int, is_keys: bool = False) -> list[InboxRow]:
    """What waits to be read, the oldest first.

    Args:
        is_keys: what came to a key-submission address, which has a reader of its own, and nothing
            else; False gives all the rest.
    """
    found = tx.all(_KEY_INBOX if is_keys else _REPORT_INBOX, (f"{KEY_SUBMISSION}%@%", limit))
    return [
        InboxRow(id=row[0], blob=row[1], queue_id=row[2], address=row[3], received_at=row[4])
        for row in found
    ]


def is_in_inbox(tx: Transaction, queue_id: str) -> bool:
    """Whether that mail still waits to be read."""
    return tx.one("SELECT 1 FROM report_inbox WHERE queue_id = ? LIMIT 1", (queue_id,)) is not None


def remove_from_inbox(tx: Transaction, row: int) -> bool:
    """False when it is gone already: somebody else has stored what is in it."""
    return tx.run("DELETE FROM report_inbox WHERE id = ?", (row,)) > 0


# --- reports that came ---

_REPORT: Final = (
    "id, kind, domain, reporter, report_id, sender, is_authenticated, begin_at, end_at,"
    " received_at, total, blob_id, queue_id"
)

_UNPROVEN: Final = "is_authenticated = 0 OR kind = 'unread'"
"""As `report_in_unproven` has it: then the index serves."""


def _report(row: Row) -> ReportRow:
    return ReportRow(
        id=row[0],
        kind=ReportKind(row[1]),
        domain=row[2],
        reporter=row[3],
        report_id=row[4],
        sender=row[5],
        is_authenticated=bool(row[6]),
        begin_at=row[7],
        end_at=row[8],
        received_at=row[9],
        total=row[10],
        blob=row[11],
        queue_id=row[12],
        report=row[13] if len(row) > 13 else b"",
    )


def add_report(tx: Transaction, row: ReportRow) -> bool:
    """Store a report (its `id` does not matter); False when it is there already."""
    return (
        tx.run(
            "INSERT INTO report_in (kind, domain, reporter, report_id, sender, is_authenticated,"
            " begin_at, end_at, received_at, total, blob_id, queue_id, report)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                row.kind.value,
                row.domain,
                row.reporter,
                row.report_id,
                row.sender,
                row.is_authenticated,
                row.begin_at,
                row.end_at,
                row.received_at,
                row.total,
                row.blob,
                row.queue_id,
                row.report,
            ),
        )
        > 0
    )


def reports(
    tx: Transaction,
    *,
    kind: ReportKind | None = None,
    domain: str | None = None,
    since: int = 0,
    limit: int,
    after: int = 0,
    has_content: bool = False,
) -> list[ReportRow]:
    """Reports by rising id.

    Args:
        domain: this one and those below it.
        since: reports whose time ends at or behind this.
        after: an id, for pages.
        has_content: with `report`.
    """
    columns = f"{_REPORT}, report" if has_content else _REPORT
    where, values = "id > ? AND end_at >= ?", [after, since]
    parameters: list[Value] = list(values)
    if kind is not None:
        where += " AND kind = ?"
        parameters.append(kind.value)
    if domain is not None:
        where += " AND (domain = ? OR substr(domain, -length(?)) = ?)"
        parameters += [domain, f".{domain}", f".{domain}"]
    parameters.append(limit)
    found = tx.all(
        f"SELECT {columns} FROM report_in WHERE {where} ORDER BY id LIMIT ?",  # noqa: S608
        parameters,
    )
    return [_report(row) for row in found]


def report_by_id(tx: Transaction, report: int) -> ReportRow | None:
    row = tx.one(f"SELECT {_REPORT}, report FROM report_in WHERE id = ?", (report,))  # noqa: S608
    return _report(row) if row else None


def report_of_mail(tx: Transaction, queue_id: str) -> ReportRow | None:
    """What was read of that mail, with `report`."""
    row = tx.one(
        f"SELECT {_REPORT}, report FROM report_in WHERE queue_id = ? ORDER BY id LIMIT 1",  # noqa: S608
        (queue_id,),
    )
    return _report(row) if row else None


def report_count(tx: Transaction) -> int:
    return _count(tx, "SELECT count(*) FROM report_in")


def _count(tx: Transaction, query: str) -> int:
    row = tx.one(query)
    assert row is not None
    count: int = row[0]
    return count


def remove_old_reports(tx: Transaction, *, received_before: int, limit: int) -> int:
    """How many went; call it again while that is `limit`."""
    found = tx.all(
        "SELECT id, blob_id FROM report_in WHERE received_at < ? ORDER BY id LIMIT ?",
        (received_before, limit),
    )
    return _remove(tx, found)


def remove_surplus_reports(
    tx: Transaction, *, above: int, unproven_above: int, limit: int
) -> Surplus:
    """Forget the oldest reports where there are too many; call it again while `limit` of them went.

    What is unread or came in a mail that proved nothing is from anybody: it has a share of its own,
    and all of it goes before a report whose sender is known does.
    """
    total = report_count(tx)
    unproven = _count(tx, f"SELECT count(*) FROM report_in WHERE {_UNPROVEN}")  # noqa: S608
    go = max(unproven - unproven_above, min(total - above, unproven), 0)
    found = tx.all(
        f"SELECT id, blob_id FROM report_in WHERE {_UNPROVEN} ORDER BY id LIMIT ?",  # noqa: S608
        (min(go, limit),),
    )
    others = min(total - above - go, limit - len(found))
    if others > 0:
        found += tx.all(
            f"SELECT id, blob_id FROM report_in WHERE NOT ({_UNPROVEN}) ORDER BY id LIMIT ?",  # noqa: S608
            (others,),
        )
    return Surplus(total=total, unproven=unproven, removed=_remove(tx, found))


def _remove(tx: Transaction, found: Sequence[Row]) -> int:
    """Rows of (id, blob or None)."""
    for row, blob in found:
        if blob is not None:
            tx.release_blob(blob)
        tx.run("DELETE FROM report_in WHERE id = ?", (row,))
    return len(found)


def remove_sent(tx: Transaction, *, sent_before: int) -> None:
    tx.run("DELETE FROM report_sent WHERE sent_at < ?", (sent_before,))
