"""Reading large messages one after another, as far as there is memory for them (P9)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from posthouse.queue.leases import Leased
from posthouse.store.transaction import Store, Transaction


class Loader:
    """`loaded` is called with the content, or with the error that reading it met."""

    __slots__ = ("_loaded", "_octets", "_octets_max", "_store", "_waiting")

    def __init__(
        self,
        store: Store,
        *,
        octets_max: int,
        loaded: Callable[[Leased, bytes | BaseException], None],
    ) -> None:
        """Args:
        octets_max: in memory at once; one message is always allowed.
        """
        self._store = store
        self._octets_max = octets_max
        self._octets = 0
        self._loaded = loaded
        self._waiting: deque[Leased] = deque()  # bounded by the window

    def add(self, leased: Leased) -> None:
        self._waiting.append(leased)
        self._go_on()

    def release(self, octets: int) -> None:
        """A message that was loaded is done with; `octets` is its size."""
        self._octets -= octets
        self._go_on()

    def take_waiting(self) -> list[Leased]:
        """What is not being read yet, to be handed back."""
        waiting, self._waiting = list(self._waiting), deque()
        return waiting

    def _go_on(self) -> None:
        while self._waiting:
            size = self._waiting[0].message.size
            if self._octets and self._octets + size > self._octets_max:
                return
            leased = self._waiting.popleft()
            self._octets += size
            future = self._store.read(partial(_read, leased))
            future.add_done_callback(partial(self._done, leased))

    def _done(self, leased: Leased, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled():
            error = future.exception()
            self._loaded(leased, future.result() if error is None else error)


def _read(leased: Leased, tx: Transaction) -> bytes:
    blob = leased.message.blob
    assert blob is not None, "a message with open recipients has its octets"
    return tx.blob(blob)
