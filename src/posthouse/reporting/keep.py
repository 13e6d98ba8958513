"""Reports in the store: from a report to its row and back."""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from posthouse.kernel.ids import BlobId
from posthouse.message.arf import FeedbackReport
from posthouse.reporting.model import AggregateReport, Read, TlsReport, Unread
from posthouse.reporting.options import US
from posthouse.store.reports import ReportKind, ReportRow

INFLATED_OCTETS_MAX: Final = 512 * 1024 * 1024
NAME_CHARACTERS_MAX: Final = 255


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a report came from."""

    name: str
    """The queue id of its mail, or of a file its name: names a report that has no id."""
    received_at: int
    queue_id: str = ""
    """Of its mail."""
    sender: str = ""
    """The domain that the mail proved to be from."""
    is_authenticated: bool = False


def row(read: Read, origin: Origin, *, blob: BlobId | None = None) -> ReportRow:
    """Args: blob: the mail, for one that could not be read."""
    kind, domain, reporter, report_id, begin_s, end_s, total = _head(read, origin)
    return ReportRow(
        id=0,
        kind=kind,
        domain=domain[:NAME_CHARACTERS_MAX],
        reporter=reporter[:NAME_CHARACTERS_MAX],
        report_id=(report_id or origin.name)[:NAME_CHARACTERS_MAX],
        sender=origin.sender,
        is_authenticated=origin.is_authenticated,
        begin_at=begin_s * US,
        end_at=end_s * US,
        received_at=origin.received_at,
        total=total,
        blob=blob,
        queue_id=origin.queue_id,
        report=zlib.compress(msgspec.json.encode(read), 6),
    )


def _head(read: Read, origin: Origin) -> tuple[ReportKind, str, str, str, int, int, int]:
    received_s = origin.received_at // US
    match read:
        case AggregateReport():
            name = read.organization or read.email.rpartition("@")[2]
            return (
                ReportKind.DMARC,
                read.policy.domain,
                name,
                read.report_id,
                read.begin_s,
                read.end_s or received_s,
                read.messages,
            )
        case TlsReport():
            return (
                ReportKind.TLS,
                read.policies[0].domain,
                read.organization,
                read.report_id,
                read.begin_s,
                read.end_s or received_s,
                read.sessions,
            )
        case FeedbackReport():
            at_s = received_s if read.arrival_s is None else max(0, read.arrival_s)
            domain = read.reported_domains[0] if read.reported_domains else ""
            return (
                ReportKind.FAILURE,
                domain,
                read.reporter,
                read.report_id,
                at_s,
                received_s,
                read.incidents,
            )
        case Unread():
            return ReportKind.UNREAD, "", "", origin.name, received_s, received_s, 0


def aggregate(row: ReportRow) -> AggregateReport:
    return msgspec.json.decode(_inflated(row.report), type=AggregateReport)


def tls(row: ReportRow) -> TlsReport:
    return msgspec.json.decode(_inflated(row.report), type=TlsReport)


def failure(row: ReportRow) -> FeedbackReport:
    return msgspec.json.decode(_inflated(row.report), type=FeedbackReport)


def unread(row: ReportRow) -> Unread:
    return msgspec.json.decode(_inflated(row.report), type=Unread)


def _inflated(octets: bytes) -> bytes:
    return zlib.decompressobj().decompress(octets, INFLATED_OCTETS_MAX)
