"""Messages come into mailboxes: delivery (the server's hottest path) and IMAP's APPEND.

`prepare` is the CPU's part and touches no database, so it runs before the unit of work and, for a
message to many local recipients, once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from posthouse.kernel.ids import AccountId, BlobId, EmailId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.store.transaction import Transaction


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


def prepare(octets: bytes) -> Prepared:
    """Render ENVELOPE, BODYSTRUCTURE and preview once and hash. Pure; never raises for content."""
    raise NotImplementedError


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
        OverQuota, NoSuchMailbox, LimitReached: nothing was changed, so that the caller may go on
            with other recipients in the same unit.
    """
    raise NotImplementedError


def append(
    tx: Transaction, account: AccountId, mailbox: str, messages: Sequence[NewMessage]
) -> list[Appended]:
    """All of them or none, under UIDs that rise without a gap, with one MODSEQ (RFC 3502).

    Raises:
        NoSuchMailbox: answer with TRYCREATE.
        OverQuota, LimitReached, KeywordRefused
    """
    raise NotImplementedError
