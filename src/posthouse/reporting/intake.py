"""Mail to report addresses, read and stored.

The commit that accepts such a mail also puts it into the inbox (`store.reports.add_to_inbox`). Here
it is read, on `Workers`; then one unit of work stores what was in it and takes it out of the inbox.
A crash in between reads it again and stores it once.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from posthouse.kernel.errors import Fault
from posthouse.kernel.finding import Finding
from posthouse.kernel.ports import Clock, Workers
from posthouse.net.workers import WorkersBusy
from posthouse.observe import events
from posthouse.observe.limits import LimitWatch
from posthouse.observe.log import Log
from posthouse.queue.item import Origin as MailOrigin
from posthouse.reporting import keep
from posthouse.reporting.model import Read, TlsReport, Unread
from posthouse.reporting.options import US, Options
from posthouse.reporting.read import read_report
from posthouse.store import queue as queue_rows
from posthouse.store import reports as rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.reports import InboxRow
from posthouse.store.transaction import Store, Transaction

LOOK_S: Final = 15.0
PRUNE_S: Final = 3600.0
PRUNED_AT_ONCE: Final = 500
AT_ONCE: Final = 50
TRIES_MAX: Final = 3
"""Of a mail that no worker reads in time."""
TOO_LONG: Final = "reading it takes too long"
DAMAGED: Final = "the mail is damaged on our disk"


class _Session(msgspec.Struct):
    peer: str = ""
    trace: str = ""


class _Decision(msgspec.Struct):
    """What we want of a decision record (reception's): who brought the mail, and its findings."""

    session: _Session = msgspec.field(default_factory=_Session)
    findings: tuple[Finding, ...] = ()


class _Mail(msgspec.Struct, frozen=True):
    octets: bytes | None
    """None when it is damaged."""
    origin: str
    decision: _Decision


class Intake:
    """One for each process. `run` is for a server; `read_all` for whoever wants it done now."""

    def __init__(
        self,
        options: Options,
        *,
        store: Store,
        clock: Clock,
        workers: Workers,
        log: Log | None,
        limits: LimitWatch | None = None,
        leisure: float = 1.0,
    ) -> None:
        """Args:
        leisure: how many times longer than usual to wait between looks.
        """
        self._options = options
        self._store = store
        self._clock = clock
        self._workers = workers
        self._log = log
        self._limits = limits
        self._leisure = leisure
        self._tries: dict[int, int] = {}

    def set_options(self, options: Options) -> None:
        """A reloaded config."""
        self._options = options

    async def run(self) -> None:
        """Read what comes, and forget what is old, for ever."""
        pruned_s: float | None = None
        while True:
            try:
                await self.read_all()
                now_s = self._clock.monotonic_s()
                if pruned_s is None or now_s - pruned_s >= PRUNE_S:
                    pruned_s = now_s
                    await self.prune()
            except Fault as fault:
                if self._log is not None:
                    self._log.write(events.FAULT_MET, kind=type(fault).__name__, detail=str(fault))
            await self._clock.sleep(LOOK_S * self._leisure)

    async def read_all(self) -> int:
        """Read what is in the inbox; how many mails. Raises Fault when the store fails."""
        done = 0
        while waiting := await self._store.read(lambda tx: rows.inbox(tx, limit=AT_ONCE)):
            settled = [row for row in waiting if await self._read(row)]
            done += len(settled)
            if len(settled) < len(waiting):
                break  # some have to be tried again, another time
        return done

    async def _read(self, row: InboxRow) -> bool:
        """False when it is to be tried again."""
        found = await self._store.read(partial(_mail, row))
        read: Read
        if found.octets is None:
            read = Unread(DAMAGED)
        else:
            octets, limits = found.octets, self._options.limits
            try:
                read = await self._workers.run(lambda: read_report(octets, limits))
            except WorkersBusy:
                tries = self._tries[row.id] = self._tries.get(row.id, 0) + 1
                if tries < TRIES_MAX:
                    return False
                read = Unread(TOO_LONG)
        self._tries.pop(row.id, None)
        sender, is_authenticated = _sender(found, read, self._options.host)
        origin = keep.Origin(
            name=row.queue_id,
            queue_id=row.queue_id,
            received_at=row.received_at,
            sender=sender,
            is_authenticated=is_authenticated,
        )
        # An unread one keeps its mail: the inbox's reference of the blob becomes the report's.
        blob = row.blob if isinstance(read, Unread) and found.octets is not None else None
        report = keep.row(read, origin, blob=blob)
        is_new = await self._store.submit(partial(_settle, row, report), octets=len(report.report))
        if is_new and self._log is not None:
            self._tell(row, report, read)
        if is_new and isinstance(read, Unread):
            self._tell_overrun(read, found.decision.session)
        return True

    def _tell(self, row: InboxRow, report: rows.ReportRow, read: Read) -> None:
        assert self._log is not None
        if isinstance(read, Unread):
            self._log.write(events.REPORT_UNREAD, id=row.queue_id, detail=read.reason)
            return
        self._log.write(
            events.REPORT_READ,
            id=row.queue_id,
            kind=report.kind.value,
            domain=report.domain,
            reporter=report.reporter,
            authenticated=report.is_authenticated,
        )

    def _tell_overrun(self, read: Unread, session: _Session) -> None:
        overrun = read.overrun
        if overrun is not None and self._limits is not None:
            self._limits.reached(
                overrun.name,
                value=overrun.value,
                observed=overrun.observed,
                peer=session.peer,
                trace=session.trace,
            )

    async def prune(self) -> None:
        """Forget reports that are too old, or too many. Raises Fault."""
        options = self._options
        before = self._clock.unix_us() - int(options.keep_s * US)
        old = partial(rows.remove_old_reports, received_before=before, limit=PRUNED_AT_ONCE)
        while await self._store.submit(old) == PRUNED_AT_ONCE:
            pass
        surplus = partial(
            rows.remove_surplus_reports,
            above=options.stored_max,
            unproven_above=options.unproven_max,
            limit=PRUNED_AT_ONCE,
        )
        first = found = await self._store.submit(surplus)
        while found.removed == PRUNED_AT_ONCE:
            found = await self._store.submit(surplus)
        self._tell_surplus("reports.stored_max", options.stored_max, first.total)
        self._tell_surplus("reports.unproven_max", options.unproven_max, first.unproven)

    def _tell_surplus(self, name: str, value: int, observed: int) -> None:
        if observed > value and self._limits is not None:
            self._limits.reached(name, value=value, observed=observed)


def _mail(row: InboxRow, tx: Transaction) -> _Mail:
    message = queue_rows.message_by_queue_id(tx, row.queue_id)
    decision = _Decision() if message is None else _decoded(queue_rows.decision(tx, message.id))
    origin = "" if message is None else message.origin
    try:
        octets = tx.blob(row.blob)
    except BlobDamaged:
        return _Mail(None, origin, decision)
    return _Mail(octets, origin, decision)


def _decoded(octets: bytes) -> _Decision:
    try:
        return msgspec.json.decode(octets, type=_Decision)
    except msgspec.MsgspecError:
        return _Decision()


def _settle(row: InboxRow, report: rows.ReportRow, tx: Transaction) -> bool:
    """The unit of work. False when another process was first, or the report is there already."""
    if not rows.remove_from_inbox(tx, row.id):
        return False
    is_new = rows.add_report(tx, report)
    if not is_new or report.blob is None:
        tx.release_blob(row.blob)
    return is_new


def _sender(mail: _Mail, read: Read, host: str) -> tuple[str, bool]:
    """The domain that the mail proved to be from, and whether that is enough for what is in it.

    RFC 9990 §3.5.2: mail with aggregate reports passes DMARC. RFC 8460 §3: mail with TLS reports
    has a DKIM signature of the reporting domain, and one without is ignored.
    """
    if mail.origin == MailOrigin.LOCAL.value:  # made by this server
        return host, True
    findings = mail.decision.findings
    passed = [finding for finding in findings if finding.result == "pass"]
    authors = [finding for finding in findings if finding.name == "dmarc"]
    # Of several author domains every one has to pass.
    if authors and all(finding.result == "pass" for finding in authors):
        return _property(authors[0], "header", "from"), True
    signers = [_property(f, "header", "d") for f in passed if f.name == "dkim"]
    if isinstance(read, TlsReport):
        wanted = read.contact.rpartition("@")[2].lower()
        for signer in signers:
            if signer and (wanted == signer or wanted.endswith(f".{signer}")):
                return signer, True
    return next((signer for signer in signers if signer), ""), False


def _property(finding: Finding, ptype: str, name: str) -> str:
    for each in finding.properties:
        if each.ptype == ptype and each.name == name:
            return each.value.lower()
    return ""
