"""Wakes sessions when mail of the account they watch changed. In process and without polling.

It carries no data: who is woken asks `view.changes_since`, so a doubled wake harms nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from posthouse.kernel.ids import AccountId
from posthouse.store.transaction import AccountChanged, Change, DatabaseChanged, Store


class Watch:
    """One session's interest in one account; `stop` ends it, at most once needed."""

    __slots__ = ("_account", "_hub", "wake")

    def __init__(self, hub: ChangesHub, account: AccountId, wake: Callable[[], None]) -> None:
        self._hub = hub
        self._account = account
        self.wake = wake

    def stop(self) -> None:
        self._hub.forget(self._account, self)


class ChangesHub:
    """One for a process, on the event loop."""

    def __init__(self, store: Store) -> None:
        self._watches: dict[AccountId, set[Watch]] = {}
        self._stop_listening = store.listen(self._changed)

    def watch(self, account: AccountId, wake: Callable[[], None]) -> Watch:
        """Call `wake` on the event loop after each commit that changed the account's mail (and
        perhaps when it did not). `wake` must be quick and may stop watches."""
        watch = Watch(self, account, wake)
        self._watches.setdefault(account, set()).add(watch)
        return watch

    def forget(self, account: AccountId, watch: Watch) -> None:
        watches = self._watches.get(account)
        if watches is not None:
            watches.discard(watch)
            if not watches:
                del self._watches[account]

    def close(self) -> None:
        self._watches.clear()
        self._stop_listening()

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, DatabaseChanged):
                for account in list(self._watches):
                    self._wake(account)
                return
        for change in changes:
            if isinstance(change, AccountChanged) and change.account in self._watches:
                self._wake(change.account)

    def _wake(self, account: AccountId) -> None:
        for watch in tuple(self._watches.get(account, ())):
            watch.wake()
