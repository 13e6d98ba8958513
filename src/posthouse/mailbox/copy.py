"""COPY and MOVE: another entry shows the same email; no octets move (RFC 9051 §6.4.7, §6.4.8)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.mailbox.errors import LimitReached, NoSuchMailbox
from posthouse.mailbox.flags import KEYWORDS_MAX, UidRanges, normalised, spelled
from posthouse.mailbox.hierarchy import checked_for_lookup
from posthouse.mailbox.quota import refusal
from posthouse.store import mail
from posthouse.store import mail_entries as entries
from posthouse.store.transaction import AccountChanged, Transaction


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """COPYUID (RFC 4315 §3): `source_uids[i]` became `first_uid + i`. Empty when none existed."""

    mailbox: MailboxId
    uidvalidity: UidValidity
    source_uids: tuple[int, ...]
    first_uid: Uid
    modseq: ModSeq


def copy(
    tx: Transaction,
    account: AccountId,
    source: MailboxId,
    ranges: UidRanges,
    target: str,
    *,
    keywords_max: int = KEYWORDS_MAX,
) -> Copied:
    """Copy in the order of UIDs, flags and keywords with them. Copies count against the quota.

    Raises:
        NoSuchMailbox: of the source, or of the target (answer with TRYCREATE).
        OverQuota, LimitReached
    """
    return _copy(tx, account, source, ranges, target, keywords_max, is_move=False)


def move(
    tx: Transaction,
    account: AccountId,
    source: MailboxId,
    ranges: UidRanges,
    target: str,
    *,
    keywords_max: int = KEYWORDS_MAX,
) -> Copied:
    """The same, and the source entries are expunged in the same unit. Never over quota.

    Raises:
        NoSuchMailbox: of the source, or of the target (answer with TRYCREATE).
        LimitReached
    """
    return _copy(tx, account, source, ranges, target, keywords_max, is_move=True)


def _copy(
    tx: Transaction,
    account: AccountId,
    source: MailboxId,
    ranges: UidRanges,
    target: str,
    keywords_max: int,
    *,
    is_move: bool,
) -> Copied:
    origin = mail.mailbox_by_id(tx, account, source)
    goal = mail.mailbox_by_name(tx, account, checked_for_lookup(target))
    if origin is None or goal is None:
        raise NoSuchMailbox("there is no such mailbox")
    # Without the UIDs that are given now: the target may be the source.
    ranges = normalised([(first, min(last, origin.uidnext - 1)) for first, last in ranges])
    source_uids = tuple(entries.uids(tx, source, ranges))
    if not source_uids:
        return Copied(
            mailbox=goal.id,
            uidvalidity=UidValidity(goal.uidvalidity),
            source_uids=(),
            first_uid=Uid(goal.uidnext),
            modseq=ModSeq(goal.modseq),
        )
    if goal.uidnext + len(source_uids) - 1 > mail.UID_MAX:
        raise LimitReached("no UIDs are left", setting="uid", limit=mail.UID_MAX)
    respelled = _teach_keywords(tx, source, ranges, goal, keywords_max)
    totals = entries.totals(tx, source, ranges)
    if is_move:
        modseq = mail.next_modseq(tx, account)
    else:
        modseq = mail.next_modseq(tx, account, messages=totals.messages, octets=totals.octets)
    if modseq is None:
        raise refusal(tx, account)
    grown = mail.grow(
        tx,
        account,
        goal.name,
        modseq=modseq,
        messages=totals.messages,
        unseen=totals.unseen,
        octets=totals.octets,
    )
    assert grown is not None  # it was there, with UIDs left
    first_uid = grown[2]
    entries.copy_entries(
        tx,
        source,
        ranges,
        goal.id,
        first_uid=first_uid,
        modseq=modseq,
        saved_at_us=tx.now_us(),
    )
    for old, new in respelled:
        entries.respell_keyword(tx, goal.id, first_uid, old, new)
    if is_move:
        entries.remove_entries(tx, source, ranges, modseq=modseq)
        mail.shrink(
            tx,
            source,
            modseq=modseq,
            messages=totals.messages,
            unseen=totals.unseen,
            octets=totals.octets,
        )
    else:
        entries.count_copies(tx, source, ranges)
    tx.changed(AccountChanged(account))
    return Copied(
        mailbox=goal.id,
        uidvalidity=UidValidity(goal.uidvalidity),
        source_uids=source_uids,
        first_uid=Uid(first_uid),
        modseq=ModSeq(modseq),
    )


def _teach_keywords(
    tx: Transaction,
    source: MailboxId,
    ranges: UidRanges,
    goal: mail.MailboxRow,
    keywords_max: int,
) -> list[tuple[str, str]]:
    """Make the target know the keywords that come; those it spells differently, as (old, new)."""
    sets = entries.keyword_sets(tx, source, ranges)
    coming = list(dict.fromkeys(word for words in sorted(sets) for word in words.split()))
    own, known = spelled(coming, goal.keywords, keywords_max=keywords_max)
    if known != goal.keywords:
        mail.set_mailbox_keywords(tx, goal.id, known)
    spellings = {word.lower(): word for word in own}
    return [(old, new) for old in coming if (new := spellings[old.lower()]) != old]
