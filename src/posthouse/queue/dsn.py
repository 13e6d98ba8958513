"""Who is told what about a message of theirs: delivery status notifications (RFC 3461 §5–6).

The rules are here, the octets are made by `posthouse.message.dsn`. A notice is accepted in the
unit of work that records what it tells, so there is never one without the other (promises P2, P5).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Protocol

import msgspec

from posthouse.kernel.envelope import Address, BodyType, Notify, Ret, TlsDemand
from posthouse.kernel.ids import MessageId, QueueId
from posthouse.kernel.ports import Chance
from posthouse.message import dsn
from posthouse.message.address import AddressError, needs_smtputf8, parse_mailbox
from posthouse.message.build import Mailbox
from posthouse.queue import schedule, spool
from posthouse.queue.item import Origin, Reason, State
from posthouse.store import queue as rows
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.queue_rows import MessageRow, RecipientRow
from posthouse.store.transaction import Transaction

LOCAL_PART_OCTETS_MAX: Final = 254


class Kind(Enum):
    """What a notice tells of a recipient: the Action field of RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is told about one recipient."""

    recipient: RecipientRow
    status: str
    words: str = ""
    host: str = ""
    """Who said `words`; "" when it was us."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A composed notice on its way to acceptance; its reverse-path is null."""

    queue_id: QueueId
    recipient: Address
    octets: bytes
    body: BodyType
    is_smtputf8: bool
    about: QueueId
    tls_demand: TlsDemand = TlsDemand.NONE


class Accept(Protocol):
    """Takes a notice into a local mailbox or the queue, in the running unit of work.

    `app` plugs in the acceptance that knows whose mail is kept encrypted (`delivery.notices`);
    `to_queue` is the plain one.
    """

    def __call__(self, tx: Transaction, notice: Notice) -> MessageId | None:
        """None when the address leads nowhere."""
        ...


class Options(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    """Our name, for Reporting-MTA."""
    return_octets_max: int = 64 * 1024
    """Larger messages come back as their header section only."""


def failure_rule(message: MessageRow, recipient: RecipientRow) -> Reason | None:
    """The rule that forbids a DSN about a failure, or None when one is due (P5)."""
    if message.reverse_path is None:  # RFC 5321 §4.5.5, RFC 3461 §6.1
        is_ours = message.origin == Origin.DSN.value
        return Reason.DOUBLE_BOUNCE if is_ours else Reason.NULL_REVERSE_PATH
    if recipient.notify is not None and not recipient.notify & Notify.FAILURE:
        return Reason.NOTIFY_NEVER
    if message.is_junk:
        return Reason.JUNK
    return None


def is_asked(message: MessageRow, recipient: RecipientRow, kind: Kind) -> bool:
    """Whether a notice about something other than a failure is to be sent.

    Without NOTIFY a delay is told (RFC 3461 §4.1 leaves that to us) and success is not.
    """
    if message.reverse_path is None or message.is_junk:
        return False
    if kind is Kind.DELAYED:
        return recipient.notify is None or bool(recipient.notify & Notify.DELAY)
    return recipient.notify is not None and bool(recipient.notify & Notify.SUCCESS)


class Notices:
    """Composes notices and has them accepted."""

    def __init__(
        self,
        options: Options,
        *,
        accept: Accept,
        chance: Chance,
        sign: Callable[[bytes], bytes] = lambda octets: b"",
    ) -> None:
        """Args:
        sign: gives the DKIM-Signature fields of a message, to be put in front of it.
        """
        self._options = options
        self._accept = accept
        self._chance = chance
        self._sign = sign

    def set_options(self, options: Options, *, accept: Accept) -> None:
        """A reloaded config, for notices from now on."""
        self._options = options
        self._accept = accept

    def send(
        self,
        tx: Transaction,
        kind: Kind,
        message: MessageRow,
        told: Sequence[Told],
        *,
        original: bytes | None = None,
    ) -> bool:
        """Accept one notice about recipients of one message, who are all owed it.

        Args:
            original: the message, for callers that have it at hand; else it is read.

        Returns False when the reverse-path leads nowhere.
        """
        if (address := _reverse_path(message)) is None:
            return False
        if original is None:
            original = _original(tx, message)
        notice_id = QueueId("n" + base64.b32encode(self._chance.token(10)).decode().lower())
        octets = self._compose(kind, message, told, original or b"", address, notice_id, tx)
        octets = self._sign(octets) + octets
        notice = Notice(
            queue_id=notice_id,
            recipient=address,
            octets=octets,
            body=BodyType.SEVEN_BIT if octets.isascii() else BodyType.EIGHT_BIT,
            is_smtputf8=needs_smtputf8(address),
            about=message.queue_id,
            # What must be protected must be so on its way back too (RFC 8689 §5).
            tls_demand=(
                TlsDemand.REQUIRED if message.tls_demand == TlsDemand.REQUIRED else TlsDemand.NONE
            ),
        )
        return self._accept(tx, notice) is not None

    def _compose(
        self,
        kind: Kind,
        message: MessageRow,
        told: Sequence[Told],
        original: bytes,
        address: Address,
        notice_id: QueueId,
        tx: Transaction,
    ) -> bytes:
        now = _moment(tx.now_us())
        report = dsn.Report(
            reporting_mta=self._options.host,
            recipients=tuple(_reported(kind, one, now) for one in told),
            arrival_at=_moment(message.accepted_at),
            envelope_id=message.envelope_id,
        )
        return dsn.compose(
            report,
            sender=Mailbox(Address("MAILER-DAEMON", self._options.host), "Mail system"),
            to=address,
            date=now,
            message_id=f"<{notice_id}@{self._options.host}>",
            original=original,
            ret=_returned(message),
            return_octets_max=self._options.return_octets_max,
        )


def _returned(message: MessageRow) -> Ret:
    """How much of it comes back: of what asked for REQUIRETLS the header section only (RFC 8689
    §5), and of an account's own copy there is no more to show. RFC 3461 §4.3: without RET it is
    ours to choose, and people want their text back."""
    if message.tls_demand == TlsDemand.REQUIRED or message.kept_for is not None:
        return Ret.HDRS
    return Ret.FULL if message.ret is None else Ret(message.ret)


def _reported(kind: Kind, told: Told, now: datetime) -> dsn.RecipientReport:
    recipient = told.recipient
    was_tried = recipient.attempts > 0 or bool(told.host)
    return dsn.RecipientReport(
        final_recipient=recipient.address,
        action=dsn.Action(kind.value),
        status=told.status,
        original_recipient=recipient.original_recipient,
        remote_mta=told.host or None,
        diagnostic=told.words or None,
        last_attempt_at=now if was_tried else None,
        will_retry_until=_moment(recipient.expires_at) if kind is Kind.DELAYED else None,
    )


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at // schedule.US, UTC)


def to_queue(schedule_options: schedule.Options) -> Accept:
    """Acceptance for servers without mailboxes of their own: every notice is queued."""

    def accept(tx: Transaction, notice: Notice) -> MessageId:
        return queue_notice(tx, notice, schedule_options, recipients=(notice.recipient,))

    return accept


def queue_notice(
    tx: Transaction,
    notice: Notice,
    schedule_options: schedule.Options,
    *,
    recipients: Sequence[Address],
    queue_id: QueueId | None = None,
    octets: bytes | None = None,
    kept: spool.KeptFor | None = None,
) -> MessageId:
    """A notice becomes the queue's.

    Args:
        queue_id: where it becomes several; else its own.
        octets: in the place of its own, for the account that `kept` names.
    """
    octets = notice.octets if octets is None else octets
    return spool.accept(
        tx,
        spool.Accepted(
            queue_id=queue_id or notice.queue_id,
            reverse_path=None,
            recipients=tuple(
                spool.AcceptedRecipient(
                    address=address,
                    state=State.QUEUED,
                    notify=Notify.NEVER,
                    detail=f"about {notice.about}",
                )
                for address in recipients
            ),
            size=len(octets),
            blob=tx.put_blob(octets),
            body=notice.body,
            is_smtputf8=notice.is_smtputf8,
            origin=Origin.DSN,
            tls_demand=notice.tls_demand,
            expires_at=schedule_options.expires_at(tx.now_us(), Origin.DSN),
            kept=kept,
        ),
    )


def _reverse_path(message: MessageRow) -> Address | None:
    if message.reverse_path is None:
        return None
    try:
        return parse_mailbox(message.reverse_path, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
    except AddressError:
        return None


def _original(tx: Transaction, message: MessageRow) -> bytes | None:
    if message.kept_for is not None:  # not for the sender's eyes: opened, or sealed to the owner
        return message.quoted
    if message.blob is None:
        return None
    try:
        return message.prefix + tx.blob(message.blob)
    except BlobDamaged:
        return None


def tell_delivered(
    tx: Transaction, notices: Notices, message: MessageId, *, original: bytes
) -> bool:
    """The notices that recipients stored at acceptance asked for with NOTIFY=SUCCESS.

    Call it behind `spool.accept` in the same unit of work, when any did.
    """
    row = rows.messages(tx, [message])[message]
    told = [
        Told(recipient=recipient, status="2.1.5")
        for recipient in rows.recipients_of_message(tx, message)
        if recipient.state is State.STORED and is_asked(row, recipient, Kind.DELIVERED)
    ]
    return bool(told) and notices.send(tx, Kind.DELIVERED, row, told, original=original)
