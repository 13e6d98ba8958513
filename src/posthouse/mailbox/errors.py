"""Why something in a mailbox cannot be done: answers for the user, never faults of ours.

Each carries the response code of RFC 9051 §7.1 that says the same to an IMAP client; `str()` is
English for the user and names nothing but what the user named.
"""

from __future__ import annotations

from typing import ClassVar

from posthouse.kernel.errors import PosthouseError


class MailboxError(PosthouseError):
    """Base of all of them. Let it end the unit of work, unless the function that raises it says
    that one may go on."""

    code: ClassVar[str] = "CANNOT"


class NoSuchMailbox(MailboxError):
    """This account has no mailbox of that name or number (anymore)."""

    code: ClassVar[str] = "NONEXISTENT"


class MailboxExists(MailboxError):
    code: ClassVar[str] = "ALREADYEXISTS"


class NameRefused(MailboxError):
    """Not a name a mailbox may have, or one that this may not be done to (deleting INBOX)."""


class LimitReached(MailboxError):
    """A row of the limits table; `setting` is its name there."""

    code: ClassVar[str] = "LIMIT"

    def __init__(self, text: str, *, setting: str, limit: int) -> None:
        super().__init__(text)
        self.setting = setting
        self.limit = limit


class OverQuota(MailboxError):
    """The account has no room for this; 452 4.2.2 or `NO [OVERQUOTA]`."""

    code: ClassVar[str] = "OVERQUOTA"

    def __init__(self, *, used_octets: int, quota_octets: int) -> None:
        super().__init__("the mailbox is full")
        self.used_octets = used_octets
        self.quota_octets = quota_octets


class KeywordRefused(MailboxError):
    """Not a keyword (RFC 9051 §9 flag-keyword), or longer than we keep."""
