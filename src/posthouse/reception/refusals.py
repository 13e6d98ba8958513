"""What is remembered of messages that were turned down: who, for whom, the reply and the evidence.

`note` is called on the hot path and touches memory only; the rows are written a moment later, many
in one commit. A crash loses that moment, and a flood what is beyond the bound: nobody was promised
these, and mail goes before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Final

from posthouse.kernel.errors import Fault
from posthouse.kernel.ports import Clock
from posthouse.store import refusals as rows
from posthouse.store.refusals import RefusalRow
from posthouse.store.transaction import Store, Transaction

FLUSH_S: Final = 1.0
WAITING_MAX: Final = 2_000
AT_ONCE: Final = 200
ROWS_MAX: Final = 100_000
PRUNE_EVERY: Final = 50
"""Flushes."""


class Refusals:
    """One for each process; `run` writes, `flush` once more at the end."""

    def __init__(self, store: Store, clock: Clock, *, keep_s: float) -> None:
        self.keep_s = keep_s
        self._store = store
        self._clock = clock
        self._waiting: deque[RefusalRow] = deque(maxlen=WAITING_MAX)
        self._has_some = asyncio.Event()
        self._flushes = 0

    def note(self, refusal: RefusalRow) -> None:
        self._waiting.append(refusal)
        self._has_some.set()

    async def run(self) -> None:
        while True:
            await self._has_some.wait()
            await self._clock.sleep(FLUSH_S)
            self._has_some.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits; what the store cannot take is given up."""
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            self._flushes += 1
            prunes = self._flushes % PRUNE_EVERY == 1
            try:
                await self._store.submit(partial(self._write, some, prunes=prunes))
            except Fault:
                return

    def _write(self, some: list[RefusalRow], tx: Transaction, *, prunes: bool) -> None:
        rows.add(tx, some)
        if prunes:
            before = tx.now_us() - int(self.keep_s * 1_000_000)
            rows.prune(tx, before=before, rows_max=ROWS_MAX)
