"""Mailbox names and the hierarchy: CREATE, DELETE, RENAME, LIST, SUBSCRIBE, STATUS.

Names are text in NFC with "/" between levels. They are data and never become paths (H54). A level
that has inferiors but no mailbox of its own is shown as \\NonExistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.kernel.ids import AccountId, MailboxId, ModSeq, Uid, UidValidity
from posthouse.store.transaction import Transaction

INBOX: Final = "INBOX"
DELIMITER: Final = "/"
DEFAULT_MAILBOXES: Final = (
    (INBOX, None),
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Junk", "\\Junk"),
    ("Trash", "\\Trash"),
    ("Archive", "\\Archive"),
)
"""Made with every account, with their use (RFC 6154 §2)."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the limits table; `config` fills it (`imap.mailboxes_max` and so on)."""

    mailboxes_max: int = 10_000
    name_octets_max: int = 1_000
    depth_max: int = 20
    subscriptions_max: int = 10_000


LIMITS: Final = Limits()


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


def checked(name: str, limits: Limits = LIMITS) -> str:
    """The name as it is stored: NFC, INBOX in capitals.

    Raises:
        NameRefused: empty, an empty level, a control character, a wildcard, too long or deep.
    """
    raise NotImplementedError


def create_default_mailboxes(tx: Transaction, account: AccountId) -> None:
    """Those of `DEFAULT_MAILBOXES` that are missing, subscribed."""
    raise NotImplementedError


def create(
    tx: Transaction,
    account: AccountId,
    name: str,
    *,
    special_use: str | None = None,
    limits: Limits = LIMITS,
) -> MailboxId:
    """Make a mailbox and those above it that are missing. A final "/" is dropped.

    Raises:
        NameRefused, MailboxExists, LimitReached
    """
    raise NotImplementedError


def delete(tx: Transaction, account: AccountId, name: str) -> MailboxId:
    """Remove a mailbox with its messages. One that has inferiors leaves its name behind as
    \\NonExistent (RFC 9051 §6.3.5).

    Raises:
        NoSuchMailbox
        NameRefused: INBOX, or a name that only has inferiors.
    """
    raise NotImplementedError


def delete_all(tx: Transaction, account: AccountId) -> None:
    """Remove every mailbox, message and subscription of an account that is about to go."""
    raise NotImplementedError


def rename(
    tx: Transaction, account: AccountId, old: str, new: str, *, limits: Limits = LIMITS
) -> None:
    """Rename a mailbox and everything below it. INBOX keeps its name and its inferiors, and its
    messages move to the new mailbox (RFC 9051 §6.3.6). UIDs and UIDVALIDITY stay, except then.

    Raises:
        NoSuchMailbox, MailboxExists, NameRefused, LimitReached
    """
    raise NotImplementedError


def find(tx: Transaction, account: AccountId, name: str) -> MailboxId:
    """Raises: NoSuchMailbox (also for names that no mailbox could have)."""
    raise NotImplementedError


def list_mailboxes(
    tx: Transaction,
    account: AccountId,
    reference: str,
    patterns: Sequence[str],
    *,
    only_subscribed: bool = False,
) -> list[Listed]:
    """LIST and (with `only_subscribed`) LSUB or LIST (SUBSCRIBED): what any pattern matches, sorted
    with INBOX first. `*` matches anything, `%` anything but "/" (RFC 9051 §6.3.9)."""
    raise NotImplementedError


def subscribe(tx: Transaction, account: AccountId, name: str, *, limits: Limits = LIMITS) -> None:
    """Raises: NameRefused, LimitReached. The mailbox need not exist."""
    raise NotImplementedError


def unsubscribe(tx: Transaction, account: AccountId, name: str) -> None:
    """No error when it was not subscribed. Raises: NameRefused."""
    raise NotImplementedError


def status(tx: Transaction, account: AccountId, name: str) -> Status:
    """Raises: NoSuchMailbox."""
    raise NotImplementedError
