"""Messages come into mailboxes: delivery (the server's hottest path) and IMAP's APPEND.

`prepare` is the CPU's part and touches no database, so it runs before the unit of work and, for a
message to many local recipients, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, BlobId, EmailId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.mailbox import names
from posthouse.mailbox.errors import LimitReached, NoSuchMailbox
from posthouse.mailbox.flags import KEYWORDS_MAX, SEEN, SYSTEM_FLAGS, spelled
from posthouse.mailbox.hierarchy import checked_for_lookup
from posthouse.mailbox.quota import refusal
from posthouse.message import mime
from posthouse.message.dates import parse_date
from posthouse.message.fields import HeaderSection
from posthouse.message.preview import preview_part
from posthouse.protocol.imap import structure
from posthouse.store import mail
from posthouse.store.transaction import AccountChanged, Transaction

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.date()
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored about a message besides its octets. Trace fields in front of the octets
    change none of it but the size."""

    size_octets: int
    sha256: bytes
    envelope: bytes
    bodystructure: bytes
    preview: str
    sent_day: int | None
    """The date its Date field names, as days since 1970, for SENTSINCE and the like."""


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an APPEND."""

    octets: bytes
    prepared: Prepared
    flags: int = 0
    keywords: tuple[str, ...] = ()
    received_at_us: int | None = None
    """INTERNALDATE; None is now."""


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Where one message went (RFC 4315 §3 APPENDUID)."""

    mailbox: MailboxId
    uidvalidity: UidValidity
    uid: Uid
    modseq: ModSeq
    email: EmailId


def prepare(octets: bytes, section: HeaderSection | None = None) -> Prepared:
    """Render ENVELOPE, BODYSTRUCTURE and preview once and hash. Pure; never raises for content.

    Args:
        section: of these octets, for one who has read it already.
    """
    root = mime.scan(octets, section=section)
    rendered = structure.render_part(root)
    sent = root.section.first(b"date")
    moment = None if sent is None else parse_date(sent)
    return Prepared(
        size_octets=len(octets),
        sha256=hashlib.sha256(octets).digest(),
        envelope=rendered.envelope,
        bodystructure=rendered.bodystructure,
        preview=preview_part(root),
        sent_day=None if moment is None else (moment.date() - _EPOCH_DAY).days,
    )


def internaldate(received_at_us: int) -> str:
    """As FETCH shows it (RFC 9051 §9 date-time), in UTC."""
    try:
        moment = _EPOCH + timedelta(microseconds=received_at_us)
    except OverflowError:
        moment = _EPOCH
    return (
        f'"{moment.day:02}-{_MONTHS[moment.month - 1]}-{moment.year:04}'
        f' {moment.hour:02}:{moment.minute:02}:{moment.second:02} +0000"'
    )


def deliver(
    tx: Transaction,
    account: AccountId,
    prepared: Prepared,
    blob: BlobId,
    *,
    prefix: bytes,
    received_at_us: int,
    mailbox: str = "INBOX",
    flags: int = 0,
    keywords: Sequence[str] = (),
) -> Appended:
    """Put a message with the octets `prefix` + `blob` into a mailbox. A missing INBOX is made.

    The caller has put the blob with one reference for each delivery of it. Four statements.

    Raises:
        OverQuota, NoSuchMailbox, LimitReached, KeywordRefused: no message came in and nothing was
            counted, so that the caller may go on with other recipients in the same unit.
    """
    words = ""
    if mailbox != names.INBOX or keywords:
        mailbox = checked_for_lookup(mailbox)
        words = _placed(tx, account, mailbox, [keywords])[0]
    size = prepared.size_octets + len(prefix)
    grown = _grow(tx, account, mailbox, [flags], size)
    email = _insert(tx, account, prepared, blob, prefix, size, received_at_us)
    appended = Appended(
        mailbox=grown.mailbox,
        uidvalidity=grown.uidvalidity,
        uid=Uid(grown.first_uid),
        modseq=grown.modseq,
        email=email,
    )
    _enter(tx, appended, flags, words)
    tx.changed(AccountChanged(account))
    return appended


def append(
    tx: Transaction,
    account: AccountId,
    mailbox: str,
    messages: Sequence[NewMessage],
    *,
    keywords_max: int = KEYWORDS_MAX,
) -> list[Appended]:
    """All of them or none, under UIDs that rise without a gap, with one MODSEQ (RFC 3502).

    Raises:
        NoSuchMailbox: answer with TRYCREATE.
        OverQuota, LimitReached, KeywordRefused
    """
    mailbox = checked_for_lookup(mailbox)
    words = _placed(
        tx, account, mailbox, [new.keywords for new in messages], keywords_max=keywords_max
    )
    if not messages:
        return []
    size = sum(new.prepared.size_octets for new in messages)
    grown = _grow(tx, account, mailbox, [new.flags for new in messages], size)
    done = []
    for offset, (new, keywords) in enumerate(zip(messages, words, strict=True)):
        prepared = new.prepared
        blob = tx.put_blob(new.octets, sha256=prepared.sha256)
        received_at_us = tx.now_us() if new.received_at_us is None else new.received_at_us
        email = _insert(tx, account, prepared, blob, b"", prepared.size_octets, received_at_us)
        appended = Appended(
            mailbox=grown.mailbox,
            uidvalidity=grown.uidvalidity,
            uid=Uid(grown.first_uid + offset),
            modseq=grown.modseq,
            email=email,
        )
        _enter(tx, appended, new.flags, keywords)
        done.append(appended)
    tx.changed(AccountChanged(account))
    return done


class _Grown(msgspec.Struct, frozen=True):
    mailbox: MailboxId
    uidvalidity: UidValidity
    first_uid: int
    modseq: ModSeq


def _placed(
    tx: Transaction,
    account: AccountId,
    mailbox: str,
    keywords: Sequence[Sequence[str]],
    *,
    keywords_max: int = KEYWORDS_MAX,
) -> list[str]:
    """Make sure of the mailbox, and that it knows the keywords of each message; these as stored."""
    row = mail.mailbox_by_name(tx, account, mailbox)
    if row is None:
        if mailbox != names.INBOX:
            raise NoSuchMailbox("there is no such mailbox")
        names.create(tx, account, names.INBOX)
        row = mail.mailbox_by_name(tx, account, mailbox)
        assert row is not None
    known = row.keywords
    stored = []
    for words in keywords:
        own, known = spelled(words, known, keywords_max=keywords_max)
        stored.append(" ".join(own))
    if known != row.keywords:
        mail.set_mailbox_keywords(tx, row.id, known)
    return stored


def _grow(
    tx: Transaction, account: AccountId, mailbox: str, flags: Sequence[int], size: int
) -> _Grown:
    """Count messages into account and mailbox; the quota is checked in the same statement."""
    count = len(flags)
    modseq = mail.next_modseq(tx, account, messages=count, octets=size)
    if modseq is None:
        raise refusal(tx, account)
    unseen = sum(1 for value in flags if not value & SEEN)
    grown = mail.grow(
        tx, account, mailbox, modseq=modseq, messages=count, unseen=unseen, octets=size
    )
    if grown is not None:
        return _Grown(grown[0], UidValidity(grown[1]), grown[2], ModSeq(modseq))
    mail.next_modseq(tx, account, messages=-count, octets=-size)  # nothing came after all
    if mailbox != names.INBOX or mail.mailbox_by_name(tx, account, mailbox) is not None:
        raise LimitReached("no UIDs are left", setting="uid", limit=mail.UID_MAX)
    names.create(tx, account, names.INBOX)
    return _grow(tx, account, mailbox, flags, size)


def _insert(
    tx: Transaction,
    account: AccountId,
    prepared: Prepared,
    blob: BlobId,
    prefix: bytes,
    size_octets: int,
    received_at_us: int,
) -> EmailId:
    return mail.insert_email(
        tx,
        account,
        blob,
        received_at_us=received_at_us,
        internaldate=internaldate(received_at_us),
        size_octets=size_octets,
        sent_day=prepared.sent_day,
        envelope=prepared.envelope,
        bodystructure=prepared.bodystructure,
        preview=prepared.preview,
        prefix=prefix,
    )


def _enter(tx: Transaction, appended: Appended, flags: int, keywords: str) -> None:
    mail.insert_entry(
        tx,
        appended.mailbox,
        appended.uid,
        appended.email,
        flags=flags & SYSTEM_FLAGS,
        keywords=keywords,
        modseq=appended.modseq,
        saved_at_us=tx.now_us(),
    )
