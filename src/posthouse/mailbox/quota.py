"""How much an account keeps and may keep: the sum over its mailbox entries (RFC 9208 §5)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId
from posthouse.mailbox.errors import NoSuchMailbox, OverQuota
from posthouse.store import mail
from posthouse.store.transaction import Transaction


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    used_octets: int
    used_messages: int
    quota_octets: int | None
    """None: no quota."""

    def has_room(self, octets: int) -> bool:
        return self.quota_octets is None or self.used_octets + octets <= self.quota_octets


def usage(tx: Transaction, account: AccountId) -> Usage:
    """Raises: NoSuchMailbox for an account that does not exist."""
    row = mail.usage(tx, account)
    if row is None:
        raise NoSuchMailbox("there is no such account")
    return Usage(
        used_octets=row.used_octets,
        used_messages=row.used_messages,
        quota_octets=row.quota_octets,
    )


def check(tx: Transaction, account: AccountId, octets: int) -> None:
    """Is there room for `octets` more? For RCPT and APPEND, before the octets come.

    Raises:
        OverQuota
        NoSuchMailbox: for an account that does not exist.
    """
    if not usage(tx, account).has_room(octets):
        raise refusal(tx, account)


def refusal(tx: Transaction, account: AccountId) -> OverQuota:
    """Why nothing more could be counted in.

    Raises:
        NoSuchMailbox: for an account that does not exist.
    """
    known = usage(tx, account)
    return OverQuota(used_octets=known.used_octets, quota_octets=known.quota_octets or 0)
