"""The SQLite engine: the conformance suite, and what only it has to survive."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from posthouse.kernel.errors import StorageBusy, StorageFull, UserError
from posthouse.store import migrations
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import DatabaseChanged, Transaction
from tests.conformance.store_suite import StoreSuite, note, noted


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(folder=str(tmp_path / "data"), poll_s=0.02)


@pytest.fixture
def open_store(options: Options, clock: Any) -> Callable[[], Any]:
    async def open_it(**changes: Any) -> SqliteStore:
        return SqliteStore.open(options, clock=clock, disk=FileDisk(), **changes)

    return open_it


class TestConformance(StoreSuite):
    """The suite on real files."""


async def test_data_of_a_newer_release_is_refused_in_words(open_store: Any) -> None:
    store = await open_store()
    await store.submit(lambda tx: tx.run("INSERT INTO schema VALUES (99, '9.9.0', '9.0.0', 0)"))
    await store.close()
    with pytest.raises(UserError, match=r"Posthouse 9\.9\.0") as raised:
        await open_store()
    assert "9.0.0" in raised.value.hint


async def test_a_migration_that_fails_leaves_the_data_of_the_old_release(
    open_store: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    await store.submit(note("old"))
    await store.close()
    monkeypatch.setattr(
        migrations, "MIGRATIONS", (*migrations.MIGRATIONS, migrations.Migration(99, "x", "2", "2"))
    )
    monkeypatch.setattr(migrations, "VERSION", 99)
    monkeypatch.setattr(
        migrations, "statements", lambda file: ["CREATE TABLE fresh (id INTEGER)", "BROKEN"]
    )
    with pytest.raises(apsw.Error):
        await open_store()
    monkeypatch.undo()
    again = await open_store()
    assert await again.read(noted) == ["old"]
    assert (
        await again.read(lambda tx: tx.one("SELECT 1 FROM sqlite_master WHERE name = 'fresh'"))
        is None
    )
    await again.close()


# F12
async def test_a_database_locked_by_another_process_answers_busy_and_goes_on_after(
    options: Options, clock: Any
) -> None:
    quick = Options(folder=options.folder, busy_s=0.2, poll_s=0.02)
    store = SqliteStore.open(quick, clock=clock, disk=FileDisk())
    other = apsw.Connection(f"{options.folder}/posthouse.db")
    other.execute("BEGIN EXCLUSIVE").fetchall()
    beats = 0
    future = asyncio.gather(store.submit(note("a")), return_exceptions=True)
    while not future.done():
        beats += 1
        await asyncio.sleep(0.005)
    assert isinstance((await future)[0], StorageBusy)
    assert beats > 10  # the loop was never blocked
    other.execute("ROLLBACK").fetchall()
    await store.submit(note("b"))
    assert await store.read(noted) == ["b"]
    other.close()
    await store.close()


async def test_another_process_that_commits_is_noticed(open_store: Any, clock: Any) -> None:
    store, other = await open_store(), await open_store()
    told = asyncio.get_running_loop().create_future()
    store.listen(lambda changes: told.done() or told.set_result(list(changes)))
    await other.submit(note("elsewhere"))
    assert await asyncio.wait_for(told, 5) == [DatabaseChanged()]
    await store.close()
    await other.close()


async def test_a_command_reads_one_moment_while_the_server_writes(open_store: Any) -> None:
    command, server = await open_store(is_inline=True), await open_store(is_inline=True)
    server.write_now(note("before"))

    def look_twice(tx: Transaction) -> tuple[object, object]:
        first = noted(tx)
        server.write_now(note("meanwhile"))
        return first, noted(tx)

    first, second = command.read_now(look_twice)
    assert first == second
    assert command.read_now(noted) == server.read_now(noted) != first
    with pytest.raises(ZeroDivisionError):
        command.read_now(lambda tx: 1 / 0)
    command.write_now(note("after"))
    await command.close()
    await server.close()


async def test_more_units_than_may_wait_are_answered_busy(options: Options, clock: Any) -> None:
    small = Options(folder=options.folder, waiting_units_max=4, waiting_octets_max=1000)
    store = SqliteStore.open(small, clock=clock, disk=FileDisk())
    futures = [store.submit(note(str(n))) for n in range(200)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert any(isinstance(result, StorageBusy) for result in results)
    kept = sum(result == 1 for result in results)
    assert len(await store.read(noted)) == kept
    with pytest.raises(StorageBusy):
        await store.submit(note("big"), octets=1001)
    await store.close()


async def test_the_wal_stays_within_its_bound_under_load(options: Options, clock: Any) -> None:
    mib = 1024 * 1024
    small = Options(
        folder=options.folder, wal_checkpoint_octets=1 * mib, wal_octets_max=4 * mib, poll_s=0.02
    )
    store = SqliteStore.open(small, clock=clock, disk=FileDisk())
    for _ in range(60):
        await asyncio.gather(
            *(store.submit(lambda tx: tx.put_blob(b"x" * 16_000)) for _ in range(25))
        )
    wal = Path(options.folder, "posthouse.db-wal").stat().st_size
    assert wal < 16 * mib
    await store.close()


KILLED = """
import asyncio, sys, time
from posthouse.store.blobs.disk import FileDisk
from posthouse.store.options import Options
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.sqlite.units import crash_point
from tests.conftest import RealClock
async def main():
    store = SqliteStore.open(Options(folder=sys.argv[1]), clock=RealClock(), disk=FileDisk(),
                             reach=crash_point(sys.argv[2]))
    def unit(tx):
        blob = tx.put_blob(b"x" * 50_000)
        tx.run("INSERT INTO counter (name, value) VALUES ('killed', ?)", (blob,))
    await store.submit(unit)
asyncio.run(main())
"""


# F8
@pytest.mark.parametrize(
    ("point", "is_kept"),
    [("store.before-sync", False), ("store.before-commit", False), ("store.after-commit", True)],
)
async def test_a_kill_around_the_commit_leaves_all_of_a_unit_or_nothing(
    open_store: Any, options: Options, point: str, is_kept: bool
) -> None:
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, options.folder, point],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        timeout=60,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    store = await open_store()

    def look(tx: Transaction) -> list[bytes]:
        return [tx.blob(row[0]) for row in tx.all("SELECT value FROM counter")]

    assert await store.read(look) == ([b"x" * 50_000] if is_kept else [])
    assert await store.read(lambda tx: tx.one("pragma integrity_check")) == ("ok",)
    await store.close()


# F7
async def test_short_writes_leave_no_half_blob(
    open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, octets, at: whole(fd, bytes(octets)[:7_000], at))
    octets = bytes(range(256)) * 400
    blob = await store.submit(lambda tx: tx.put_blob(octets))
    monkeypatch.undo()
    assert await store.read(lambda tx: tx.blob(blob)) == octets
    await store.close()


# F7
async def test_a_write_that_fails_half_way_is_answered_and_the_next_one_is_whole(
    open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    first = await store.submit(lambda tx: tx.put_blob(b"a" * 50_000))
    whole = os.pwrite

    def breaks(fd: int, octets: Any, at: int) -> int:
        if at > 0:
            raise OSError(28, "No space left on device")
        return whole(fd, bytes(octets)[:1_000], at)

    monkeypatch.setattr(os, "pwrite", breaks)
    with pytest.raises(StorageFull):
        await store.submit(lambda tx: tx.put_blob(b"b" * 50_000))
    monkeypatch.undo()
    second = await store.submit(lambda tx: tx.put_blob(b"c" * 50_000))
    assert await store.read(lambda tx: tx.blob(first)) == b"a" * 50_000
    assert await store.read(lambda tx: tx.blob(second)) == b"c" * 50_000
    assert await store.read(lambda tx: tx.one("SELECT count(*) FROM blob")) == (2,)
    await store.close()
