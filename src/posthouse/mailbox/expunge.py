"""EXPUNGE: entries go, tombstones stay (RFC 9051 §6.4.3, §6.4.9; RFC 7162 §3.2.10)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq
from posthouse.mailbox.errors import NoSuchMailbox
from posthouse.mailbox.flags import DELETED, EVERYTHING, UidRanges, normalised
from posthouse.store import mail
from posthouse.store import mail_entries as entries
from posthouse.store.transaction import AccountChanged, Transaction


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
    row = mail.mailbox_by_id(tx, account, mailbox)
    if row is None:
        raise NoSuchMailbox("there is no such mailbox")
    ranges = normalised(ranges)
    with_flags = DELETED if only_deleted else 0
    gone = entries.uids(tx, mailbox, ranges, with_flags=with_flags)
    if not gone:
        return Expunged(uids=[], modseq=ModSeq(row.modseq))
    totals = entries.totals(tx, mailbox, ranges, with_flags=with_flags)
    modseq = mail.next_modseq(tx, account, messages=-totals.messages, octets=-totals.octets)
    assert modseq is not None  # the mailbox has an account
    entries.release_emails(tx, mailbox, ranges, with_flags=with_flags)
    entries.remove_entries(tx, mailbox, ranges, modseq=modseq, with_flags=with_flags)
    mail.shrink(
        tx,
        mailbox,
        modseq=modseq,
        messages=totals.messages,
        unseen=totals.unseen,
        octets=totals.octets,
    )
    tx.changed(AccountChanged(account))
    return Expunged(uids=gone, modseq=ModSeq(modseq))
