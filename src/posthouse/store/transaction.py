"""What the domain logic sees of a database: a transaction to run portable SQL in, and the store
that runs units of work.

A unit of work is a plain synchronous function `(tx) -> result`. It runs on a store thread (a short
one where the engine likes), may be run again from the start after a serialisation failure, and so
has no effects but through `tx`.
Everything in `posthouse.store` below this line writes SQL with `?` parameters that both engines
understand; what must differ is a method here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from posthouse.kernel.ids import AccountId, BlobId

T = TypeVar("T")
Value = int | float | str | bytes | None
Row = tuple[Any, ...]
"""What SQL returned; whoever wrote the SELECT knows the types."""


class AccountChanged(msgspec.Struct, frozen=True):
    """Mail of an account changed; readers fetch what is newer than the MODSEQ they know."""

    account: AccountId


class QueueChanged(msgspec.Struct, frozen=True):
    """A recipient became due, or may have."""


class DirectoryChanged(msgspec.Struct, frozen=True):
    """Domains, accounts, addresses or aliases changed; caches of them are void."""


class DatabaseChanged(msgspec.Struct, frozen=True):
    """Another process committed; anything may be different."""


Change = AccountChanged | QueueChanged | DirectoryChanged | DatabaseChanged


class Transaction(Protocol):
    """One transaction or, for a unit within a group commit, one savepoint."""

    def all(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]: ...

    def one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None: ...

    def run(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run a statement that returns no rows; how many rows it changed."""
        ...

    def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None: ...

    def insert(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run an INSERT into a table with an integer `id` and return that id."""
        ...

    def now_us(self) -> int:
        """Wall time of this transaction in microseconds since 1970 (the store's Clock)."""
        ...

    # --- blobs: exact octets, never changed once stored ---

    def put_blob(
        self, octets: bytes, *, sha256: bytes | None = None, references: int = 1
    ) -> BlobId:
        """Keep octets; durable when this transaction is. Small ones lie in the database, larger
        ones in segment files that are synced before the commit."""
        ...

    def blob(self, blob: BlobId) -> bytes:
        """The whole octets.

        Raises:
            BlobDamaged: missing, or the SHA-256 is wrong (F10).
        """
        ...

    def keep_blob(self, blob: BlobId, references: int = 1) -> None:
        """One owner more of a blob that is owned already."""
        ...

    def move_blob(self, blob: BlobId) -> None:
        """Write a blob in a segment again to where blobs are appended now (the sweep).

        Raises:
            BlobDamaged: as `blob` does.
        """
        ...

    def release_blob(self, blob: BlobId, references: int = 1) -> None:
        """One owner less; the sweep removes blobs nobody owns."""
        ...

    def changed(self, change: Change) -> None:
        """Tell the store's listeners after the commit; nothing if this unit rolls back."""
        ...


class Listener(Protocol):
    def __call__(self, changes: Sequence[Change]) -> None: ...


class Store(Protocol):
    """Runs units of work. Writes share one commit (group commit); reads run beside them on
    connections of their own and see the last commit."""

    def submit(
        self, unit: Callable[[Transaction], T], *, octets: int = 0, is_short: bool = False
    ) -> asyncio.Future[T]:
        """Queue a writing unit; the future completes after the commit that holds it.

        Args:
            octets: what the unit keeps in memory, for the bound on the waiting queue.
            is_short: a handful of statements by key and no large blob; an engine may run it where
                that is cheapest. Never for anything whose work grows with a mailbox or a queue.

        Raises (from the future):
            StorageBusy: the waiting queue is full, or the database stayed locked.
            StorageFull: the disk is.
            StorageLost: a sync failed; this process must end.
            Anything the unit raised: it alone was rolled back.
        """
        ...

    def submit_then(
        self,
        unit: Callable[[Transaction], T],
        done: Callable[[T | None, BaseException | None], None],
        *,
        octets: int = 0,
        is_short: bool = False,
    ) -> None:
        """As `submit`, for the hottest path: `done(result, error)` is called on the event loop as
        soon as the commit is known, without a future between. Never before this returns."""
        ...

    def read(self, query: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run a function that only reads, on a snapshot."""
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop with the changes of each commit; returns the way to
        stop that."""
        ...

    @property
    def is_writable(self) -> bool:
        """False once a sync failed, or when the store could only be opened for reading (F3)."""
        ...

    async def close(self) -> None: ...
