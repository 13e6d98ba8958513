"""How much an account keeps and may keep: the sum over its mailbox entries (RFC 9208 §5)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId
from posthouse.store.transaction import Transaction


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    used_octets: int
    used_messages: int
    quota_octets: int | None
    """None: no quota."""

    def has_room(self, octets: int) -> bool:
        return self.quota_octets is None or self.used_octets + octets <= self.quota_octets


def usage(tx: Transaction, account: AccountId) -> Usage:
    """Raises: LookupError for an account that does not exist."""
    raise NotImplementedError


def check(tx: Transaction, account: AccountId, octets: int) -> None:
    """Is there room for `octets` more? For RCPT and APPEND, before the octets come.

    Raises:
        OverQuota
    """
    raise NotImplementedError
