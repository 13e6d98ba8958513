"""What every engine of the store has to do: one suite, run unchanged against each.

A test module for an engine subclasses `StoreSuite` and gives the `open_store` fixture: an async
function that opens the same data again each time it is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from posthouse.kernel.ids import AccountId
from posthouse.store.blobs.segments import BlobDamaged
from posthouse.store.blobs.sweep import Sweeper
from posthouse.store.transaction import AccountChanged, DirectoryChanged, Store, Transaction

OpenStore = Callable[[], Awaitable[Any]]


def note(name: str, value: int = 1) -> Callable[[Transaction], int]:
    """A unit that writes one row."""
    return lambda tx: tx.run("INSERT INTO counter (name, value) VALUES (?, ?)", (name, value))


def noted(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.all("SELECT name FROM counter ORDER BY name")]


class Sabotage(Exception):
    """A unit that fails on purpose."""


def failing(name: str) -> Callable[[Transaction], None]:
    def unit(tx: Transaction) -> None:
        note(name)(tx)
        tx.changed(DirectoryChanged())
        raise Sabotage(name)

    return unit


class StoreSuite:
    async def test_a_unit_is_there_once_its_future_is_done(self, open_store: OpenStore) -> None:
        store: Store = await open_store()
        await store.submit(note("a"))
        assert await store.read(noted) == ["a"]
        await store.close()

    async def test_a_unit_survives_closing_and_opening(self, open_store: OpenStore) -> None:
        store: Store = await open_store()
        await store.submit(note("kept"))
        await store.close()
        again = await open_store()
        assert await again.read(noted) == ["kept"]
        await again.close()

    async def test_a_failing_unit_rolls_back_alone(self, open_store: OpenStore) -> None:
        store: Store = await open_store()
        futures = [
            store.submit(note("before")),
            store.submit(failing("broken")),
            store.submit(note("behind")),
        ]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(r) for r in results] == [int, Sabotage, int]
        assert await store.read(noted) == ["before", "behind"]
        await store.close()

    async def test_waiting_units_share_commits_in_their_order(self, open_store: OpenStore) -> None:
        store: Store = await open_store()
        order: list[int] = []

        def unit(n: int) -> Callable[[Transaction], int]:
            def run(tx: Transaction) -> int:
                order.append(n)
                return note(f"{n:03}")(tx)

            return run

        await asyncio.gather(*(store.submit(unit(n)) for n in range(200)))
        assert order == list(range(200))
        assert len(await store.read(noted)) == 200
        await store.close()

    async def test_changes_are_told_after_the_commit_and_not_for_a_rolled_back_unit(
        self, open_store: OpenStore
    ) -> None:
        store: Store = await open_store()
        told: list[object] = []
        stop = store.listen(lambda changes: told.extend(changes))
        await asyncio.gather(store.submit(failing("x")), return_exceptions=True)
        await store.submit(lambda tx: tx.changed(AccountChanged(AccountId(7))))
        await store.read(noted)
        assert told == [AccountChanged(AccountId(7))]
        stop()
        await store.submit(lambda tx: tx.changed(AccountChanged(AccountId(8))))
        await store.read(noted)
        assert len(told) == 1
        await store.close()

    async def test_a_read_sees_one_moment(self, open_store: OpenStore) -> None:
        store: Store = await open_store()
        await store.submit(note("first"))
        loop = asyncio.get_running_loop()

        def twice(tx: Transaction) -> tuple[int, int]:
            before = len(noted(tx))
            asyncio.run_coroutine_threadsafe(_write(store), loop).result(10)
            return before, len(noted(tx))

        assert await store.read(twice) == (1, 1)
        assert len(await store.read(noted)) == 2
        await store.close()

    async def test_readers_cannot_write(self, open_store: OpenStore) -> None:
        store: Store = await open_store()
        with pytest.raises(Exception, match=r"(?i)read"):
            await store.read(note("no"))
        await store.close()

    async def test_insert_gives_rising_ids(self, open_store: OpenStore) -> None:
        store: Store = await open_store()

        def unit(tx: Transaction) -> list[int]:
            return [
                tx.insert("INSERT INTO domain (name, created_at) VALUES (?, 0)", (name,))
                for name in ("a.example", "b.example")
            ]

        first, second = await store.submit(unit)
        assert second > first > 0
        await store.close()

    @pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 1_000_000])
    async def test_blobs_come_back_octet_for_octet(self, open_store: OpenStore, size: int) -> None:
        octets = bytes(range(256)) * (size // 256) + b"\0\r\n\xff"[: size % 4]
        store: Store = await open_store()
        blob = await store.submit(lambda tx: tx.put_blob(octets))
        await store.close()
        again: Store = await open_store()
        assert await again.read(lambda tx: tx.blob(blob)) == octets
        await again.close()

    # F10
    @pytest.mark.parametrize("size", [10, 100_000])
    async def test_a_blob_whose_octets_changed_is_not_given_out(
        self, open_store: OpenStore, size: int
    ) -> None:
        store: Store = await open_store()
        blob = await store.submit(lambda tx: tx.put_blob(b"x" * size))
        await store.submit(lambda tx: tx.run("UPDATE blob SET sha256 = ?", (b"\0" * 32,)))
        with pytest.raises(BlobDamaged):
            await store.read(lambda tx: tx.blob(blob))
        await store.close()

    # F8
    async def test_the_sweep_removes_what_nobody_owns_and_nothing_else(
        self, open_store: OpenStore, clock: Any
    ) -> None:
        store = await open_store()
        small = await store.submit(lambda tx: tx.put_blob(b"small"))
        dead = [await store.submit(lambda tx: tx.put_blob(b"d" * 300_000)) for _ in range(3)]
        live = await store.submit(lambda tx: tx.put_blob(b"l" * 100_000))
        for blob in (small, *dead):
            await store.submit(lambda tx, blob=blob: tx.release_blob(blob))
        await store.close()
        again = await open_store()
        await again.submit(lambda tx: tx.put_blob(b"n" * 50_000))  # begins a segment of its own
        sweeper = Sweeper(again, again.segments, clock, grace_s=0.0)
        before = await sweeper.run_once()
        assert before.rows == 4
        rounds = [await sweeper.run_once() for _ in range(3)]
        assert sum(swept.moved for swept in rounds) == 1
        assert sum(swept.files for swept in rounds) == 1
        assert await again.read(lambda tx: tx.blob(live)) == b"l" * 100_000
        await again.close()


async def _write(store: Store) -> None:
    await store.submit(note("second"))
