"""Rows of mailboxes, emails and entries: counters, and how a message comes in.

SQL of `posthouse.mailbox`, which holds the rules; its sister modules `mail_entries`, `mail_views`,
`mail_fetch`, `mail_names` and `mail_search` have the rest. An account is part of every question, so
that no number somebody guessed reaches another account's rows (P12).
"""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId, BlobId, EmailId, MailboxId
from posthouse.store.transaction import Transaction

UID_MAX = 4_294_967_295  # RFC 9051 §2.3.1.1: 32 bits


class MailboxRow(msgspec.Struct, frozen=True):
    """A mailbox with its counters."""

    id: MailboxId
    name: str
    uidvalidity: int
    uidnext: int
    modseq: int
    messages: int
    unseen: int
    octets: int
    recent_uid: int
    keywords: str


class UsageRow(msgspec.Struct, frozen=True):
    used_octets: int
    used_messages: int
    quota_octets: int | None


_MAILBOX = """
SELECT id, name, uidvalidity, uidnext, modseq, messages, unseen, octets, recent_uid, keywords
FROM mailbox WHERE account_id = ? AND """


def mailbox_by_name(tx: Transaction, account: AccountId, name: str) -> MailboxRow | None:
    row = tx.one(_MAILBOX + "name = ?", (account, name))
    return None if row is None else MailboxRow(*row)


def mailbox_by_id(tx: Transaction, account: AccountId, mailbox: MailboxId) -> MailboxRow | None:
    row = tx.one(_MAILBOX + "id = ?", (account, mailbox))
    return None if row is None else MailboxRow(*row)


def owns(tx: Transaction, account: AccountId, mailbox: MailboxId) -> bool:
    sql = "SELECT 1 FROM mailbox WHERE id = ? AND account_id = ?"
    return tx.one(sql, (mailbox, account)) is not None


def usage(tx: Transaction, account: AccountId) -> UsageRow | None:
    sql = "SELECT used_octets, used_messages, quota_octets FROM account WHERE id = ?"
    row = tx.one(sql, (account,))
    return None if row is None else UsageRow(*row)


def next_modseq(
    tx: Transaction, account: AccountId, *, messages: int = 0, octets: int = 0
) -> int | None:
    """Take the account's next MODSEQ and count `messages` and `octets` in (negative: out).

    Returns:
        None when more octets come in than the quota leaves room for, or there is no such account;
        nothing was changed then.
    """
    row = tx.one(
        "UPDATE account SET modseq = modseq + 1,"
        " used_octets = used_octets + ?, used_messages = used_messages + ?"
        " WHERE id = ? AND (quota_octets IS NULL OR ? <= 0 OR used_octets + ? <= quota_octets)"
        " RETURNING modseq",
        (octets, messages, account, octets, octets),
    )
    return None if row is None else int(row[0])


def grow(
    tx: Transaction,
    account: AccountId,
    name: str,
    *,
    modseq: int,
    messages: int,
    unseen: int,
    octets: int,
) -> tuple[MailboxId, int, int] | None:
    """Count messages into a mailbox and take UIDs for them.

    Returns:
        Mailbox, UIDVALIDITY and the first of `messages` UIDs; None when there is no such mailbox
        or it has no UIDs left.
    """
    row = tx.one(
        "UPDATE mailbox SET uidnext = uidnext + ?, modseq = ?, messages = messages + ?,"
        " unseen = unseen + ?, octets = octets + ?"
        " WHERE account_id = ? AND name = ? AND uidnext + ? <= 4294967296"
        " RETURNING id, uidvalidity, uidnext",
        (messages, modseq, messages, unseen, octets, account, name, messages),
    )
    return None if row is None else (MailboxId(row[0]), row[1], row[2] - messages)


def shrink(
    tx: Transaction,
    mailbox: MailboxId,
    *,
    modseq: int,
    messages: int = 0,
    unseen: int = 0,
    octets: int = 0,
) -> None:
    """Count entries out of a mailbox, and note that it changed."""
    tx.run(
        "UPDATE mailbox SET modseq = ?, messages = messages - ?, unseen = unseen - ?,"
        " octets = octets - ? WHERE id = ?",
        (modseq, messages, unseen, octets, mailbox),
    )


def insert_email(
    tx: Transaction,
    account: AccountId,
    blob: BlobId,
    *,
    received_at_us: int,
    internaldate: str,
    size_octets: int,
    sent_day: int | None,
    envelope: bytes,
    bodystructure: bytes,
    preview: str,
    prefix: bytes,
) -> EmailId:
    return EmailId(
        tx.insert(
            "INSERT INTO email (account_id, blob_id, entries, received_at, size, sent_day,"
            " internaldate, envelope, bodystructure, preview, prefix)"
            " VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                account,
                blob,
                received_at_us,
                size_octets,
                sent_day,
                internaldate,
                envelope,
                bodystructure,
                preview,
                prefix,
            ),
        )
    )


def insert_entry(
    tx: Transaction,
    mailbox: MailboxId,
    uid: int,
    email: EmailId,
    *,
    flags: int,
    keywords: str,
    modseq: int,
    saved_at_us: int,
) -> None:
    tx.run(
        "INSERT INTO entry (mailbox_id, uid, email_id, flags, keywords, modseq, saved_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (mailbox, uid, email, flags, keywords, modseq, saved_at_us),
    )


def set_mailbox_keywords(tx: Transaction, mailbox: MailboxId, keywords: str) -> None:
    tx.run("UPDATE mailbox SET keywords = ? WHERE id = ?", (keywords, mailbox))
