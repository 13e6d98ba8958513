"""EXPUNGE: entries go, tombstones stay (RFC 9051 §6.4.3, §6.4.9; RFC 7162 §3.2.10)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq
from posthouse.mailbox.flags import EVERYTHING, UidRanges
from posthouse.store.transaction import Transaction


class Expunged(msgspec.Struct, frozen=True, kw_only=True):
    uids: list[int]
    modseq: ModSeq


def expunge(
    tx: Transaction,
    account: AccountId,
    mailbox: MailboxId,
    ranges: UidRanges = EVERYTHING,
    *,
    only_deleted: bool = True,
) -> Expunged:
    """Remove the entries in `ranges` that carry \\Deleted; all in `ranges` when not
    `only_deleted` (POP3's QUIT).

    Raises:
        NoSuchMailbox
    """
    raise NotImplementedError
