"""For `posthouse explain`: what became of mail to a report address."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from posthouse.queue import admin
from posthouse.queue.item import State
from posthouse.reception.decision import DecisionRecord
from posthouse.reporting import keep
from posthouse.store import reports as rows
from posthouse.store.queue_rows import LedgerRow, RecipientRow
from posthouse.store.reports import ReportKind
from posthouse.store.transaction import Transaction

KEPT: Final = "kept to be read as a report"
_AT_THE_DOOR: Final = "report"
_LATER: Final = "report to "
"""In the ledger's detail, where the mail is kept for the reports, at the door or later."""
_KINDS: Final = {
    ReportKind.DMARC: "DMARC report",
    ReportKind.TLS: "TLS report",
    ReportKind.FAILURE: "failure report",
}
_COUNTED: Final = {ReportKind.DMARC: "dmarc", ReportKind.TLS: "tls"}


class Reading(Enum):
    WAITING = "waiting"
    READ = "read"
    UNREAD = "unread"
    NOTHING_NEW = "nothing new"  # it had come before, or what was read is forgotten by now


class ReportSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the mail was read, and as what."""

    reading: Reading
    reason: str = ""
    """Why it could not be read."""
    kind: str = ""
    domain: str = ""
    reporter: str = ""
    total: int = 0
    is_authenticated: bool = False


def look(
    tx: Transaction, history: admin.History, decision: DecisionRecord | None
) -> ReportSeen | None:
    """None for mail that no report address got."""
    if not any(is_kept(row, history.ledger[row.id], decision) for row in history.recipients):
        return None
    queue_id = history.message.queue_id
    if rows.is_in_inbox(tx, queue_id):
        return ReportSeen(reading=Reading.WAITING)
    found = rows.report_of_mail(tx, queue_id)
    if found is None:
        return ReportSeen(reading=Reading.NOTHING_NEW)
    if found.kind is ReportKind.UNREAD:
        return ReportSeen(reading=Reading.UNREAD, reason=keep.unread(found).reason)
    return ReportSeen(
        reading=Reading.READ,
        kind=found.kind.value,
        domain=found.domain,
        reporter=found.reporter,
        total=found.total,
        is_authenticated=found.is_authenticated,
    )


def is_kept(
    recipient: RecipientRow, ledger: tuple[LedgerRow, ...], decision: DecisionRecord | None
) -> bool:
    """Whether the recipient is a report address that got the mail."""
    if recipient.state is not State.STORED or not ledger:
        return False
    return is_kept_by(recipient, ledger[-1], decision)


def is_kept_by(recipient: RecipientRow, line: LedgerRow, decision: DecisionRecord | None) -> bool:
    """Whether that line of the ledger keeps the mail for the reports."""
    if line.to_state is not State.STORED:
        return False
    if line.from_state is not State.NONE:  # by local delivery, among other ends
        return _LATER in line.detail
    addresses = [] if decision is None else [a for r in decision.recipients for a in r.reports]
    return line.detail == _AT_THE_DOOR and recipient.address in addresses


def words(seen: ReportSeen) -> str:
    """What a report address's mail came to."""
    match seen.reading:
        case Reading.WAITING:
            return "waits to be read as a report; a running server does it in seconds"
        case Reading.UNREAD:
            return (
                f"no report could be read of it: {seen.reason};"
                " `posthouse report list --unread` shows such mail"
            )
        case Reading.NOTHING_NEW:
            return "read as a report; what is in it had come before, or is forgotten by now"
    kind = ReportKind(seen.kind)
    told = (
        f"read: a {_KINDS[kind]} of {seen.reporter or 'nobody named'}"
        f" about {seen.domain or 'no domain'}"
    )
    if kind in _COUNTED and not seen.is_authenticated:
        told += (
            "; the mail does not prove whom it is from, so it counts only in"
            f" `posthouse report {_COUNTED[kind]} {seen.domain} --all`"
        )
    return told
