"""The policies of mail protection in memory, so that a house without any pays nothing for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from posthouse.accounts.mail_policy import MailPolicy, policy_of
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import AccountId
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import (
    Change,
    DatabaseChanged,
    DirectoryChanged,
    Store,
    Transaction,
)


class Policies:
    """One for each process. `is_any` is a little behind a change that another process makes."""

    def __init__(self, store: Store) -> None:
        self.is_any = False
        """Somebody here has said something about protecting mail."""
        self._store = store
        self._is_reading = False
        self._is_stale = False
        self._unlisten = store.listen(self._heard)

    async def refresh(self) -> None:
        """Before the first message. Raises Fault."""
        self.is_any = await self._store.read(rows.has_policies)

    def close(self) -> None:
        self._unlisten()

    async def of(self, accounts: Sequence[AccountId]) -> list[MailPolicy]:
        """What holds for each account, in their order. Raises Fault."""

        def look(tx: Transaction) -> list[MailPolicy]:
            return [policy_of(tx, account) for account in accounts]

        return await self._store.read(look)

    def _heard(self, changes: Sequence[Change]) -> None:
        if any(isinstance(each, DirectoryChanged | DatabaseChanged) for each in changes):
            self._is_stale = True
            self._read()

    def _read(self) -> None:
        if self._is_reading or not self._is_stale:
            return
        self._is_reading, self._is_stale = True, False
        self._store.read(rows.has_policies).add_done_callback(self._have_read)

    def _have_read(self, future: asyncio.Future[bool]) -> None:
        self._is_reading = False
        if not future.cancelled():
            error = future.exception()
            if error is None:
                self.is_any = future.result()
            elif not isinstance(error, Fault):
                raise error
        self._read()
