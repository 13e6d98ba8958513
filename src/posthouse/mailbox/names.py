"""Mailbox names and the hierarchy: CREATE, DELETE, RENAME, LIST, SUBSCRIBE, STATUS.

The rules of names are in `hierarchy`. A level that has inferiors but no mailbox of its own is shown
as \\NonExistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.mailbox.copy import move
from posthouse.mailbox.errors import LimitReached, MailboxExists, NameRefused, NoSuchMailbox
from posthouse.mailbox.expunge import expunge
from posthouse.mailbox.flags import EVERYTHING
from posthouse.mailbox.hierarchy import (
    DELIMITER,
    INBOX,
    LIMITS,
    Limits,
    Pattern,
    checked,
    checked_for_lookup,
    superiors,
    with_superiors,
)
from posthouse.store import mail
from posthouse.store import mail_names as rows
from posthouse.store import mail_views as views
from posthouse.store.transaction import AccountChanged, Transaction

__all__ = [
    "DEFAULT_MAILBOXES",
    "DELIMITER",
    "INBOX",
    "LIMITS",
    "PATTERNS_MAX",
    "Limits",
    "Listed",
    "Status",
    "checked",
    "create",
    "create_default_mailboxes",
    "delete",
    "delete_all",
    "find",
    "list_mailboxes",
    "rename",
    "status",
    "subscribe",
    "unsubscribe",
]

PATTERNS_MAX: Final = 100
"""Of one LIST; more are not looked at."""
JUNK: Final = "\\Junk"
DEFAULT_MAILBOXES: Final = (
    (INBOX, None),
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Junk", JUNK),
    ("Trash", "\\Trash"),
    ("Archive", "\\Archive"),
)
"""Made with every account, with their use (RFC 6154 §2)."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One line of LIST."""

    name: str
    exists: bool
    """False: \\NonExistent, only a level above others, or a subscription to nothing."""
    has_children: bool
    is_subscribed: bool
    special_use: str | None
    mailbox: MailboxId | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of STATUS (RFC 9051 §6.3.11)."""

    mailbox: MailboxId
    messages: int
    uidnext: Uid
    uidvalidity: UidValidity
    unseen: int
    recent: int
    modseq: ModSeq
    octets: int


def create_default_mailboxes(tx: Transaction, account: AccountId) -> None:
    """Those of `DEFAULT_MAILBOXES` that are missing, subscribed."""
    for name, special_use in DEFAULT_MAILBOXES:
        if mail.mailbox_by_name(tx, account, name) is None:
            _make(tx, account, name, special_use)
            rows.subscribe(tx, account, name)
    tx.changed(AccountChanged(account))


def for_junk(tx: Transaction, account: AccountId) -> str:
    """The name of the mailbox whose use is Junk; it is made where the account has none."""
    for name, _, special_use in rows.mailboxes(tx, account):
        if special_use == JUNK:
            return name
    if mail.mailbox_by_name(tx, account, "Junk") is None:
        _make(tx, account, "Junk", JUNK)
        rows.subscribe(tx, account, "Junk")
    return "Junk"


def create(
    tx: Transaction,
    account: AccountId,
    name: str,
    *,
    special_use: str | None = None,
    limits: Limits = LIMITS,
) -> MailboxId:
    """Make a mailbox and those above it that are missing. A final "/" is dropped: it only says
    that inferiors will follow (RFC 9051 §6.3.4).

    Raises:
        NameRefused, MailboxExists, LimitReached
    """
    name = checked(name.removesuffix(DELIMITER), limits)
    if mail.mailbox_by_name(tx, account, name) is not None:
        raise MailboxExists("a mailbox of that name exists already")
    missing = _missing_superiors(tx, account, name)
    _check_room(tx, account, len(missing) + 1, limits)
    for superior in missing:
        _make(tx, account, superior, None)
    made = _make(tx, account, name, special_use)
    tx.changed(AccountChanged(account))
    return made


def _missing_superiors(tx: Transaction, account: AccountId, name: str) -> list[str]:
    return [
        superior
        for superior in superiors(name)
        if mail.mailbox_by_name(tx, account, superior) is None
    ]


def _check_room(tx: Transaction, account: AccountId, more: int, limits: Limits) -> None:
    if rows.count_mailboxes(tx, account) + more > limits.mailboxes_max:
        raise LimitReached(
            "this account has as many mailboxes as it may",
            setting="imap.mailboxes_max",
            limit=limits.mailboxes_max,
        )


def _make(tx: Transaction, account: AccountId, name: str, special_use: str | None) -> MailboxId:
    """UIDVALIDITY is the time in seconds or, where that was given before, the next number: not
    even a mailbox or account that is made anew has an old one again (P7)."""
    uidvalidity = rows.next_uidvalidity(tx, account, tx.now_us() // 1_000_000)
    modseq = mail.next_modseq(tx, account)
    if uidvalidity is None or modseq is None:
        raise NoSuchMailbox("there is no such account")
    return rows.insert_mailbox(
        tx, account, name, special_use=special_use, uidvalidity=uidvalidity, modseq=modseq
    )


def delete(tx: Transaction, account: AccountId, name: str) -> MailboxId:
    """Remove a mailbox with its messages. One that has inferiors leaves its name behind as
    \\NonExistent (RFC 9051 §6.3.5).

    Raises:
        NoSuchMailbox
        NameRefused: INBOX, or a name that only has inferiors.
    """
    name = checked_for_lookup(name)
    if name == INBOX:
        raise NameRefused("INBOX cannot be deleted")
    row = mail.mailbox_by_name(tx, account, name)
    if row is None:
        if rows.inferiors(tx, account, name):
            raise NameRefused("that name only has mailboxes below it")
        raise NoSuchMailbox("there is no such mailbox")
    _remove(tx, account, row.id)
    tx.changed(AccountChanged(account))
    return row.id


def _remove(tx: Transaction, account: AccountId, mailbox: MailboxId) -> None:
    expunge(tx, account, mailbox, EVERYTHING, only_deleted=False)
    rows.delete_mailbox(tx, mailbox)


def delete_all(tx: Transaction, account: AccountId) -> None:
    """Remove every mailbox, message and subscription of an account that is about to go."""
    for _, mailbox, _ in rows.mailboxes(tx, account):
        _remove(tx, account, MailboxId(mailbox))
    rows.delete_subscriptions(tx, account)
    tx.changed(AccountChanged(account))


def rename(
    tx: Transaction, account: AccountId, old: str, new: str, *, limits: Limits = LIMITS
) -> None:
    """Rename a mailbox and everything below it. INBOX keeps its name and its inferiors, and its
    messages move to the new mailbox (RFC 9051 §6.3.6). UIDs and UIDVALIDITY stay, except then;
    subscriptions are not touched.

    Raises:
        NoSuchMailbox, MailboxExists, NameRefused, LimitReached
    """
    old = checked_for_lookup(old)
    new = checked(new.removesuffix(DELIMITER), limits)
    row = mail.mailbox_by_name(tx, account, old)
    moving = [] if old == INBOX else rows.inferiors(tx, account, old)
    if row is None and not moving:
        raise NoSuchMailbox("there is no such mailbox")
    if new.startswith(f"{old}{DELIMITER}") and old != INBOX:
        raise NameRefused("a mailbox cannot become its own inferior")
    if mail.mailbox_by_name(tx, account, new) is not None:
        raise MailboxExists("a mailbox of that name exists already")
    if old == INBOX:
        assert row is not None  # it has no inferiors here, so it exists
        create(tx, account, new, limits=limits)
        move(tx, account, row.id, EVERYTHING, new)
        return
    pairs = [(mailbox, checked(new + name[len(old) :], limits)) for mailbox, name in moving]
    if row is not None:
        pairs.append((row.id, new))
    if any(mail.mailbox_by_name(tx, account, name) is not None for _, name in pairs):
        raise MailboxExists("a mailbox of that name exists already")
    missing = _missing_superiors(tx, account, new)
    _check_room(tx, account, len(missing), limits)
    for superior in missing:
        _make(tx, account, superior, None)
    for mailbox, name in pairs:
        rows.rename_mailbox(tx, mailbox, name)
    mail.next_modseq(tx, account)
    tx.changed(AccountChanged(account))


def find(tx: Transaction, account: AccountId, name: str) -> MailboxId:
    """Raises: NoSuchMailbox (also for names that no mailbox could have)."""
    row = mail.mailbox_by_name(tx, account, checked_for_lookup(name))
    if row is None:
        raise NoSuchMailbox("there is no such mailbox")
    return row.id


def list_mailboxes(
    tx: Transaction,
    account: AccountId,
    reference: str,
    patterns: Sequence[str],
    *,
    only_subscribed: bool = False,
) -> list[Listed]:
    """LIST and (with `only_subscribed`) LSUB or LIST (SUBSCRIBED): what any pattern matches, sorted
    with INBOX first. `*` matches anything, `%` anything but "/" (RFC 9051 §6.3.9).

    With `only_subscribed` a level above a subscription is listed too when `%` stops there
    (RFC 3501 §6.3.9), as one that is not subscribed.
    """
    wanted = [Pattern(reference + pattern) for pattern in patterns[:PATTERNS_MAX]]
    mailboxes = {name: (mailbox, use) for name, mailbox, use in rows.mailboxes(tx, account)}
    subscribed = set(rows.subscriptions(tx, account))
    parents = {superior for name in mailboxes for superior in superiors(name)}
    candidates = with_superiors(subscribed) if only_subscribed else {*mailboxes, *parents}
    listed = []
    for name in sorted(candidates, key=lambda name: (name != INBOX, name)):
        if not any(pattern.matches(name) for pattern in wanted):
            continue
        mailbox, special_use = mailboxes.get(name, (None, None))
        listed.append(
            Listed(
                name=name,
                exists=mailbox is not None,
                has_children=name in parents,
                is_subscribed=name in subscribed,
                special_use=special_use,
                mailbox=None if mailbox is None else MailboxId(mailbox),
            )
        )
    return listed


def subscribe(tx: Transaction, account: AccountId, name: str, *, limits: Limits = LIMITS) -> None:
    """The mailbox need not exist (RFC 9051 §6.3.7).

    Raises:
        NameRefused, LimitReached
    """
    name = checked(name.removesuffix(DELIMITER), limits)
    if rows.count_subscriptions(tx, account) >= limits.subscriptions_max:
        raise LimitReached(
            "this account has as many subscriptions as it may",
            setting="imap.subscriptions_max",
            limit=limits.subscriptions_max,
        )
    rows.subscribe(tx, account, name)
    tx.changed(AccountChanged(account))


def unsubscribe(tx: Transaction, account: AccountId, name: str) -> None:
    """No error when it was not subscribed. Raises: NameRefused, LimitReached."""
    rows.unsubscribe(tx, account, checked(name.removesuffix(DELIMITER)))
    tx.changed(AccountChanged(account))


def status(tx: Transaction, account: AccountId, name: str) -> Status:
    """Raises: NoSuchMailbox."""
    row = mail.mailbox_by_name(tx, account, checked_for_lookup(name))
    if row is None:
        raise NoSuchMailbox("there is no such mailbox")
    has_recent = row.recent_uid < row.uidnext
    return Status(
        mailbox=row.id,
        messages=row.messages,
        uidnext=Uid(row.uidnext),
        uidvalidity=UidValidity(row.uidvalidity),
        unseen=row.unseen,
        recent=views.count_from(tx, row.id, row.recent_uid) if has_recent else 0,
        modseq=ModSeq(row.modseq),
        octets=row.octets,
    )
