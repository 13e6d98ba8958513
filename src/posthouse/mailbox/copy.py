"""COPY and MOVE: another entry shows the same email; no octets move (RFC 9051 §6.4.7, §6.4.8)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.mailbox.flags import UidRanges
from posthouse.store.transaction import Transaction


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """COPYUID (RFC 4315 §3): `source_uids[i]` became `first_uid + i`. Empty when none existed."""

    mailbox: MailboxId
    uidvalidity: UidValidity
    source_uids: tuple[int, ...]
    first_uid: Uid
    modseq: ModSeq


def copy(
    tx: Transaction, account: AccountId, source: MailboxId, ranges: UidRanges, target: str
) -> Copied:
    """Copy in the order of UIDs, flags and keywords with them. Copies count against the quota.

    Raises:
        NoSuchMailbox: of the source, or of the target (answer with TRYCREATE).
        OverQuota, LimitReached
    """
    raise NotImplementedError


def move(
    tx: Transaction, account: AccountId, source: MailboxId, ranges: UidRanges, target: str
) -> Copied:
    """The same, and the source entries are expunged in the same unit. Never over quota.

    Raises:
        NoSuchMailbox: of the source, or of the target (answer with TRYCREATE).
        LimitReached
    """
    raise NotImplementedError
