"""The keys that sign now, in memory: loaded at start and again when a commit changed them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from posthouse.accounts.domain_keys import DomainKey, signing_key, signing_keys
from posthouse.accounts.sealing import NodeKey
from posthouse.kernel.errors import Fault, UserError
from posthouse.mailauth.dkim.sign import SigningKey
from posthouse.observe import events
from posthouse.observe.log import Log
from posthouse.store.sealed import count_sealed
from posthouse.store.transaction import (
    Change,
    DatabaseChanged,
    DirectoryChanged,
    Store,
    Transaction,
)

NO_KEYS: Final[tuple[SigningKey, ...]] = ()


class Signers:
    """Answers from memory; one for each process."""

    def __init__(self, store: Store, node_key: NodeKey, *, log: Log) -> None:
        self._store = store
        self._node_key = node_key
        self._log = log
        self._keys: dict[str, tuple[SigningKey, ...]] = {}
        self._loaded: dict[int, SigningKey] = {}
        self._unusable: set[int] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_stale = False
        self._unlisten = store.listen(self._heard)

    def keys_for(self, domain: str) -> tuple[SigningKey, ...]:
        """What mail of `domain` (A-labels, lower case) is signed with; empty when nothing is."""
        return self._keys.get(domain, NO_KEYS)

    async def refresh(self) -> None:
        """Load what is new and forget what signs no more.

        A key that cannot be unsealed is left out and told once.

        Raises:
            UserError: keys are sealed, and the node key's file is missing or unusable.
            Fault: the store cannot be read.
        """
        found = await self._store.read(self._read)
        now: dict[str, list[SigningKey]] = {}
        for key, loaded in found:
            if isinstance(loaded, UserError):
                self._tell(key, loaded)
            else:
                now.setdefault(key.domain, []).append(loaded)
        self._loaded = {
            key.id: loaded for key, loaded in found if not isinstance(loaded, UserError)
        }
        self._keys = {domain: tuple(each) for domain, each in now.items()}

    def close(self) -> None:
        """Hear of no more changes."""
        self._unlisten()
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _read(self, tx: Transaction) -> list[tuple[DomainKey, SigningKey | UserError]]:
        """On a store thread; only keys that are not loaded yet are unsealed."""
        if sealed := count_sealed(tx):
            self._node_key.open(sealed=sealed)
        found: list[tuple[DomainKey, SigningKey | UserError]] = []
        for key in signing_keys(tx):
            loaded = self._loaded.get(key.id)
            try:
                found.append((key, loaded or signing_key(tx, key, self._node_key)))
            except UserError as error:
                found.append((key, error))
            except ValueError as error:
                found.append((key, UserError(str(error))))
        return found

    def _tell(self, key: DomainKey, error: UserError) -> None:
        if key.id not in self._unusable:
            self._unusable.add(key.id)
            self._log.write(
                events.KEY_UNUSABLE, domain=key.domain, selector=key.selector, detail=error.text
            )

    def _heard(self, changes: Sequence[Change]) -> None:
        if not any(isinstance(each, DirectoryChanged | DatabaseChanged) for each in changes):
            return
        self._is_stale = True
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """However many changes come meanwhile, one more look after them is enough."""
        while self._is_stale:
            self._is_stale = False
            try:
                await self.refresh()
            except (Fault, UserError) as error:  # the keys at hand go on
                self._log.write(events.KEY_LOOK_FAILED, domain="", detail=str(error))
