"""The unit of work that makes a message ours: blob, mailbox entries, queue recipients, ledger and
decision record, in one commit (promise P1). The 250 follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from posthouse.kernel.envelope import Address, Envelope, Notify
from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.finding import Finding
from posthouse.kernel.ids import AccountId, BlobId, MessageId, QueueId
from posthouse.mailbox.append import Prepared, deliver
from posthouse.mailbox.errors import OverQuota
from posthouse.mailbox.names import INBOX, for_junk
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.message.fields import read_section
from posthouse.queue.dsn import Notices, tell_delivered
from posthouse.queue.item import Origin, State
from posthouse.queue.spool import Accepted as SpoolAccepted
from posthouse.queue.spool import AcceptedRecipient, KeptFor, accept
from posthouse.reception import trace
from posthouse.reception.decision import (
    DecisionRecord,
    RecipientDecision,
    SessionFacts,
    encode,
)
from posthouse.reception.recipients import Accepted, shown
from posthouse.store import accounts
from posthouse.store.reports import add_to_inbox
from posthouse.store.transaction import Transaction

DEFERRED_S = 60
"""When a local recipient that met a temporary fault is tried again first."""


class LocalEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One account that gets the message, and the RCPT that led there first."""

    account: AccountId
    address: str
    """For Delivered-To."""
    notify: Notify | None
    original_recipient: str | None


class RemoteEnd(msgspec.Struct, frozen=True, kw_only=True):
    address: Address
    notify: Notify | None
    original_recipient: str | None


class ReportEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A report address that gets the message: it waits to be read as a report."""

    address: str
    notify: Notify | None
    original_recipient: str | None


class OwnCopy(msgspec.Struct, frozen=True, kw_only=True):
    """What one account gets in the place of the message: encrypted to its key, or opened by it."""

    octets: bytes
    prepared: Prepared
    fields: bytes = b""
    """In front of those that everybody gets."""
    is_sealed: bool = False
    """Where the mailbox is full, this is what waits, and not the message as it came."""


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """What accounts get in the place of the message, and which do not take it as it is."""

    copies: Mapping[AccountId, OwnCopy] = {}
    held: AbstractSet[AccountId] = frozenset()
    """For now."""
    refusals: Mapping[AccountId, str] = {}
    """For good, with the reason."""
    findings: tuple[Finding, ...] = ()


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What the commit did, for the reply and the log."""

    queue_id: QueueId
    message: MessageId
    octets: int
    stored: int
    queued: int
    refused: frozenset[AccountId] = frozenset()
    """Accounts over quota that nothing was kept for: LMTP tells of each recipient by itself."""


class AllFull(Exception):
    """Every recipient is over quota: nothing was kept, the message is refused."""

    def __init__(self, *, never_fits: bool) -> None:
        super().__init__("every mailbox is full")
        self.never_fits = never_fits
        """The message alone is more than any of them may hold; waiting does not help."""


class _SoFar:
    """What the deliveries of one unit of work came to."""

    __slots__ = ("blob", "full", "never_fits", "received_at", "references", "sealed", "stored")

    def __init__(self, received_at: int) -> None:
        self.received_at = received_at
        self.stored: dict[AccountId, str] = {}
        """With the mailbox."""
        self.full: list[AccountId] = []
        """Over quota."""
        self.sealed: dict[AccountId, BlobId] = {}
        """Of those, who has a sealed copy, with the reference that was to be the mailbox's."""
        self.never_fits = True
        self.blob: BlobId | None = None
        """Of the message itself, None where nobody is to have it."""
        self.references = 0
        """How many of its references are for mailboxes and the queue."""


class _Apart(msgspec.Struct, frozen=True, kw_only=True):
    """One account's own copy that goes to the queue as a message of its own."""

    end: LocalEnd
    octets: bytes
    blob: BlobId
    fields: bytes = b""
    due_at: int | None = None
    refusal: str = ""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """All that the unit of work needs; calling it runs the unit."""

    queue_id: QueueId
    envelope: Envelope
    octets: bytes
    prepared: Prepared | None
    """None when no recipient is local."""
    local: tuple[LocalEnd, ...]
    remote: tuple[RemoteEnd, ...]
    reports: tuple[ReportEnd, ...] = ()
    local_prefix: bytes
    """Received and what submission added; Return-Path and Delivered-To go in front of it."""
    origin: Origin
    account: AccountId | None
    expires_at: int
    decision: bytes
    notices: Notices
    is_junk: bool = False
    """It goes where the owner looks for junk, and nobody is sent a notice about it (P5)."""
    own: Mapping[AccountId, OwnCopy] = {}
    """What is stored for an account where it is not the message itself. Where all local copies are
    such and nobody else gets the message, its own octets are never written."""
    held: AbstractSet[AccountId] = frozenset()
    """Accounts that do not take it as it is for now: it waits as it came, and the queue tries."""
    refusals: Mapping[AccountId, str] = {}
    """Accounts that do not take it, and why: the queue tells the sender, and has its header section
    only."""
    each: tuple[Accepted, ...] = ()
    """LMTP: the recipients, each to be answered by itself, so that one whose mailbox is full is
    refused instead of queued (RFC 2033 §4.2)."""

    def __call__(self, tx: Transaction) -> Taken:
        return Acceptances((self,))(tx)[0]

    @property
    def _kept(self) -> int:
        """How many would own it; that it goes elsewhere counts as one."""
        return len(self.local) + bool(self.remote) + len(self.reports)

    def deliver(self, tx: Transaction) -> _SoFar:
        """To the mailboxes that have room."""
        if not self._kept:  # a 250 with nobody behind it would be a lost message (P1)
            raise LocalProtocolError("a message is accepted for nobody")
        so_far = _SoFar(tx.now_us())
        self._deliver_own(tx, so_far)
        self._deliver_itself(tx, so_far)
        return so_far

    def is_for_nobody(self, so_far: _SoFar) -> bool:
        """Whether everybody is over quota or does not take it."""
        return len(so_far.full) + len(self.refusals) == self._kept

    def settle(self, tx: Transaction, so_far: _SoFar) -> Taken:
        """What is delivered is entered into the books, and the queue owns the rest."""
        blob, references = so_far.blob, so_far.references
        stored, full = so_far.stored, so_far.full
        refused = _refused(self.each, full) if full else frozenset[AccountId]()
        for report in self.reports:
            assert blob is not None
            add_to_inbox(tx, blob=blob, queue_id=self.queue_id, address=report.address)
        apart = self._apart(tx, so_far, refused)
        queued = len(full) - len(refused) + len(self.held) + len(self.refusals) + len(self.remote)
        is_queued = queued > len(apart)
        # The references that deliveries to full mailboxes would have had.
        itself = sum(account not in self.own for account in stored)
        if blob is not None and (unused := references - itself - is_queued):
            tx.release_blob(blob, unused)
        recipients = self._recipients(so_far, refused | {one.end.account for one in apart})
        if recipients:
            message = accept(
                tx,
                self._entry(
                    self.queue_id,
                    recipients,
                    size=len(self.octets) + len(self.local_prefix),
                    blob=blob if is_queued else None,
                    prefix=self.local_prefix if is_queued else b"",
                ),
            )
        else:  # the name that the reply tells is a message's, in any case
            message = self._queue_apart(tx, apart.pop(0), self.queue_id)
        for number, one in enumerate(apart, 1):
            self._queue_apart(tx, one, QueueId(f"{self.queue_id}.{number}"))
        asked = [end.notify for end in self.local] + [end.notify for end in self.reports]
        if any(notify is not None and notify & Notify.SUCCESS for notify in asked):
            original = self.local_prefix + self.octets
            tell_delivered(tx, self.notices, message, original=original)
        return Taken(
            queue_id=self.queue_id,
            message=message,
            octets=len(self.octets),
            stored=len(stored) + len(self.reports),
            queued=queued,
            refused=refused,
        )

    def _deliver_own(self, tx: Transaction, so_far: _SoFar) -> None:
        """To the accounts that get something else than the message itself."""
        for end in self.local:
            if (copy := self.own.get(end.account)) is None:
                continue
            blob = tx.put_blob(copy.octets, sha256=copy.prepared.sha256, references=1)
            if self._deliver(tx, end, copy, blob, so_far):
                continue
            if copy.is_sealed:
                so_far.sealed[end.account] = blob
            else:
                tx.release_blob(blob, 1)

    def _deliver_itself(self, tx: Transaction, so_far: _SoFar) -> None:
        """To all other accounts."""
        elsewhere = self.own.keys() | self.held | self.refusals.keys()
        shared = [end for end in self.local if end.account not in elsewhere]
        is_waiting = len(so_far.full) > len(so_far.sealed)
        # One for each delivery of the message itself, and one that is the queue's.
        references = len(shared) + bool(self.remote or self.held or is_waiting)
        if not references + len(self.reports):
            return
        sha256 = self.prepared.sha256 if self.prepared is not None else None
        blob = tx.put_blob(self.octets, sha256=sha256, references=references + len(self.reports))
        if shared:
            assert self.prepared is not None
            common = OwnCopy(octets=self.octets, prepared=self.prepared)
            for end in shared:
                self._deliver(tx, end, common, blob, so_far)
        so_far.blob, so_far.references = blob, references

    def _apart(
        self, tx: Transaction, so_far: _SoFar, refused: AbstractSet[AccountId]
    ) -> list[_Apart]:
        """What goes to the queue for one account alone. Copies that nobody needs are let go."""
        apart: list[_Apart] = []
        for end in self.local:
            blob = so_far.sealed.get(end.account)
            if (refusal := self.refusals.get(end.account)) is not None:
                header = self._header()
                apart.append(
                    _Apart(end=end, octets=header, blob=tx.put_blob(header), refusal=refusal)
                )
            elif blob is not None and end.account in refused:
                tx.release_blob(blob)
            elif blob is not None:
                copy = self.own[end.account]
                due_at = so_far.received_at + DEFERRED_S * 10**6
                apart.append(
                    _Apart(
                        end=end, octets=copy.octets, blob=blob, fields=copy.fields, due_at=due_at
                    )
                )
        return apart

    def _queue_apart(self, tx: Transaction, one: _Apart, queue_id: QueueId) -> MessageId:
        account = accounts.account_by_id(tx, one.end.account)
        prefix = one.fields + self.local_prefix
        return accept(
            tx,
            self._entry(
                queue_id,
                (
                    _recipient(
                        one.end,
                        State.QUEUED,
                        one.due_at,
                        detail=f"the copy of its own, of {self.queue_id}",
                    ),
                ),
                size=len(prefix) + len(one.octets),
                blob=one.blob,
                prefix=prefix,
                kept=KeptFor(
                    # Removed a moment ago: then no such user is found later, either.
                    account="" if account is None else account.name,
                    quoted=self.local_prefix + self._header(),
                    refusal=one.refusal,
                ),
            ),
        )

    def _header(self) -> bytes:
        """The header section as it came: that much is in the open wherever the message is."""
        section = read_section(self.octets)
        return self.octets[section.start : section.end] + b"\r\n"

    def _entry(
        self,
        queue_id: QueueId,
        recipients: tuple[AcceptedRecipient, ...],
        *,
        size: int,
        blob: BlobId | None,
        prefix: bytes,
        kept: KeptFor | None = None,
    ) -> SpoolAccepted:
        """For the books of the queue."""
        envelope = self.envelope
        return SpoolAccepted(
            queue_id=queue_id,
            reverse_path=envelope.reverse_path,
            recipients=recipients,
            size=size,
            blob=blob,
            prefix=prefix,
            body=envelope.body,
            is_smtputf8=envelope.is_smtputf8,
            ret=envelope.ret,
            envelope_id=envelope.envelope_id,
            origin=self.origin,
            account=self.account,
            is_junk=self.is_junk,
            tls_demand=envelope.tls_demand,
            expires_at=self.expires_at,
            decision=self.decision,
            kept=kept,
        )

    def _deliver(
        self, tx: Transaction, end: LocalEnd, copy: OwnCopy, blob: BlobId, so_far: _SoFar
    ) -> bool:
        """Put a copy into an account's mailbox; False when the account is over quota."""
        mailbox = for_junk(tx, end.account) if self.is_junk else INBOX
        return_path = trace.return_path(self.envelope.reverse_path)
        own_fields = return_path + trace.delivered_to(end.address) + copy.fields
        try:
            deliver(
                tx,
                end.account,
                copy.prepared,
                blob,
                prefix=own_fields + self.local_prefix,
                received_at_us=so_far.received_at,
                mailbox=mailbox,
            )
        except OverQuota as over:
            so_far.never_fits = so_far.never_fits and len(copy.octets) > over.quota_octets
            so_far.full.append(end.account)
            return False
        so_far.stored[end.account] = mailbox
        return True

    def _recipients(
        self, so_far: _SoFar, elsewhere: AbstractSet[AccountId]
    ) -> tuple[AcceptedRecipient, ...]:
        """All but the accounts that are refused or have a message of their own."""
        stored, later = so_far.stored, so_far.received_at + DEFERRED_S * 10**6
        return (
            *(
                _stored_recipient(end, stored[end.account])
                if end.account in stored
                else _recipient(end, State.QUEUED, None if end.account in self.held else later)
                for end in self.local
                if end.account not in elsewhere
            ),
            *(_remote_recipient(end) for end in self.remote),
            *(_report_recipient(end) for end in self.reports),
        )


class Acceptances(msgspec.Struct, frozen=True):
    """Several in one commit: what one submitted message became. It is refused as one."""

    each: tuple[Acceptance, ...]

    def __call__(self, tx: Transaction) -> list[Taken]:
        found = [(one, one.deliver(tx)) for one in self.each]
        is_any_full = any(so_far.full for _, so_far in found)
        if is_any_full and all(one.is_for_nobody(so_far) for one, so_far in found):
            raise AllFull(never_fits=all(so_far.never_fits for _, so_far in found))
        return [one.settle(tx, so_far) for one, so_far in found]


def is_refused(one: Accepted, refused: AbstractSet[AccountId]) -> bool:
    """Whether a recipient leads to nothing but `refused` accounts."""
    is_elsewhere = one.remote or one.reports
    return not is_elsewhere and all(target.account in refused for target in one.local)


def _refused(each: Sequence[Accepted], full: Sequence[AccountId]) -> frozenset[AccountId]:
    """The full accounts to refuse: those that no recipient leads to who gets it elsewhere too.

    Whoever is told 250 has all its ends owned by us, so the others wait in the queue.
    """
    if not each:
        return frozenset()
    refused = set(full)
    before = -1
    while len(refused) != before:
        before = len(refused)
        for one in each:
            if not is_refused(one, refused):
                refused.difference_update([target.account for target in one.local])
    return frozenset(refused)


def _stored_recipient(end: LocalEnd, mailbox: str) -> AcceptedRecipient:
    return _recipient(end, State.STORED, None, detail="" if mailbox == INBOX else mailbox)


def _recipient(
    end: LocalEnd, state: State, due_at: int | None, *, detail: str = ""
) -> AcceptedRecipient:
    return AcceptedRecipient(
        address=_address(end.address),
        state=state,
        notify=end.notify,
        original_recipient=end.original_recipient,
        detail=detail,
        due_at=due_at,
    )


def _remote_recipient(end: RemoteEnd) -> AcceptedRecipient:
    return AcceptedRecipient(
        address=end.address,
        state=State.QUEUED,
        notify=end.notify,
        original_recipient=end.original_recipient,
    )


def _report_recipient(end: ReportEnd) -> AcceptedRecipient:
    return AcceptedRecipient(
        address=_address(end.address),
        state=State.STORED,
        notify=end.notify,
        original_recipient=end.original_recipient,
        detail="report",
    )


def _address(text: str) -> Address:
    try:
        return parse_mailbox(text)
    except AddressError:
        return Address(text, "")  # <Postmaster>


def ends(
    accepted: Sequence[Accepted],
) -> tuple[tuple[LocalEnd, ...], tuple[RemoteEnd, ...]]:
    """Where the recipients lead in all: every account and every address elsewhere once."""
    if len(accepted) == 1 and len(accepted[0].local) == 1 and not accepted[0].remote:
        one = accepted[0]
        target = one.local[0]
        return (_local_end(one, target.account, target.address),), ()
    local: dict[AccountId, LocalEnd] = {}
    remote: dict[Address, RemoteEnd] = {}
    for one in accepted:
        for target in one.local:
            local.setdefault(target.account, _local_end(one, target.account, target.address))
        for address in one.remote:
            remote.setdefault(
                address,
                RemoteEnd(
                    address=address,
                    notify=one.path.notify,
                    original_recipient=one.path.original_recipient,
                ),
            )
    return tuple(local.values()), tuple(remote.values())


def report_ends(accepted: Sequence[Accepted]) -> tuple[ReportEnd, ...]:
    """The report addresses among the ends, each once."""
    found: dict[str, ReportEnd] = {}
    for one in accepted:
        for address in one.reports:
            found.setdefault(
                address,
                ReportEnd(
                    address=address,
                    notify=one.path.notify,
                    original_recipient=one.path.original_recipient,
                ),
            )
    return tuple(found.values())


def _local_end(one: Accepted, account: AccountId, address: str) -> LocalEnd:
    return LocalEnd(
        account=account,
        address=address,
        notify=one.path.notify,
        original_recipient=one.path.original_recipient,
    )


def decision_record(
    session: SessionFacts,
    accepted: Sequence[Accepted],
    findings: Sequence[Finding] = (),
    *,
    verdict: str = "accept",
    why: str = "",
) -> bytes:
    """The record of a message that is accepted."""
    return encode(
        DecisionRecord(
            session=session,
            recipients=tuple(
                RecipientDecision(
                    address=shown(one.path.address),
                    reply="250 2.1.5",
                    accounts=tuple([target.name for target in one.local]),
                    relayed=tuple([shown(address) for address in one.remote]),
                    via=one.via,
                    reports=one.reports,
                )
                for one in accepted
            ),
            findings=tuple(findings),
            verdict=verdict,
            why=why,
        )
    )
