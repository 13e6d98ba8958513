"""The disk that fails as told: the faults reach SQLite and the port `Disk` alike."""

import errno
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from posthouse.sim.chance import SeededChance
from posthouse.sim.disk import SimDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SimDisk]:
    made = SimDisk(tmp_path / "disk", SeededChance(1))
    (tmp_path / "disk").mkdir()
    yield made
    made.close()


def opened(disk: SimDisk, folder: Path | None = None) -> apsw.Connection:
    path = (folder or Path(disk.folder)) / "a.db"
    connection = apsw.Connection(str(path), vfs=disk.vfs)
    for pragma in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=0"):
        connection.execute(f"pragma {pragma}").fetchall()
    connection.execute("create table if not exists t (n integer, filling blob)").fetchall()
    return connection


def insert(connection: apsw.Connection, number: int, octets: int = 100) -> None:
    connection.execute("insert into t values (?, randomblob(?))", (number, octets)).fetchall()


def numbers(connection: apsw.Connection) -> list[int]:
    return [row[0] for row in connection.execute("select n from t order by n").fetchall()]


def test_a_failed_sync_reaches_sqlite_once_and_is_back_after_reopening(disk: SimDisk) -> None:
    connection = opened(disk)
    insert(connection, 1)
    disk.fail_sync()
    with pytest.raises(apsw.IOError) as caught:
        insert(connection, 2)
    assert caught.value.extendedresult == apsw.SQLITE_IOERR_FSYNC  # type: ignore[attr-defined]
    connection.close()
    again = opened(disk)
    insert(again, 3)
    assert {1, 3} <= set(numbers(again))
    again.close()


# What the kernel forgot is not on the disk, however often somebody syncs later.
def test_a_later_sync_does_not_save_what_a_failed_one_lost(disk: SimDisk, tmp_path: Path) -> None:
    path = f"{disk.folder}/segment"
    disk.append(path, b"a" * 512)
    disk.sync(path)
    disk.append(path, b"b" * 512)
    disk.fail_sync()
    with pytest.raises(OSError):
        disk.sync(path)
    disk.append(path, b"c" * 512)
    disk.sync(path)
    found = set()
    for number in range(40):
        disk.survive(tmp_path / str(number))
        found.add((tmp_path / str(number) / "segment").read_bytes()[:1536:512])
    assert found == {b"abc", b"a\0c"}


def test_a_sync_that_fails_for_ever_fails_until_the_disk_is_healed(disk: SimDisk) -> None:
    connection = opened(disk)
    disk.fail_sync(nth=2, for_ever=True)
    insert(connection, 1)
    for number in (2, 3):
        with pytest.raises(apsw.IOError):
            insert(connection, number)
    disk.heal()
    insert(connection, 4)
    assert {1, 4} <= set(numbers(connection))
    connection.close()


def test_a_full_disk_rolls_back_and_works_again_when_there_is_space(disk: SimDisk) -> None:
    connection = opened(disk)
    insert(connection, 1)
    disk.fill(free_octets=20_000)
    assert disk.free_octets(disk.folder) == 20_000
    with pytest.raises(apsw.FullError):
        insert(connection, 2, octets=100_000)
    with pytest.raises(OSError) as caught:
        disk.append(f"{disk.folder}/segment", bytes(100_000))
    assert caught.value.errno == errno.ENOSPC
    assert numbers(connection) == [1]
    disk.heal()
    insert(connection, 3, octets=100_000)
    assert numbers(connection) == [1, 3]
    connection.close()


def test_a_disk_without_inodes_or_read_only_says_so(disk: SimDisk) -> None:
    path = f"{disk.folder}/segment"
    disk.append(path, b"a")
    disk.remount(has_inodes=False)
    disk.append(path, b"b")
    with pytest.raises(OSError) as caught:
        disk.append(path + "-2", b"c")
    assert caught.value.errno == errno.ENOSPC
    connection_path = f"{disk.folder}/other.db"
    with pytest.raises(apsw.CantOpenError):
        apsw.Connection(connection_path, vfs=disk.vfs)
    disk.remount(is_read_only=True)
    with pytest.raises(OSError) as caught:
        disk.append(path, b"d")
    assert caught.value.errno == errno.EROFS
    assert disk.read(path, 0, 10) == b"ab"


def test_a_short_write_leaves_a_part_and_an_error(disk: SimDisk) -> None:
    connection, path = opened(disk), f"{disk.folder}/segment"
    insert(connection, 1)
    disk.fail_write(nth=2)
    with pytest.raises(apsw.IOError):
        insert(connection, 2)
    insert(connection, 3)
    assert numbers(connection) == [1, 3]
    disk.fail_write()
    with pytest.raises(OSError) as caught:
        disk.append(path, bytes(1000))
    assert caught.value.errno == errno.EIO
    assert disk.size(path) < 1000
    connection.close()


def test_a_slow_sync_takes_its_time(tmp_path: Path) -> None:
    waits: list[float] = []
    disk = SimDisk(tmp_path, SeededChance(1), wait=waits.append)
    connection = opened(disk)
    disk.slow_sync(2.0)
    insert(connection, 1)
    disk.sync(f"{disk.folder}/segment")
    assert waits == [2.0, 2.0]
    connection.close()
    disk.close()


@pytest.mark.parametrize("seed", range(25))
def test_a_loss_of_power_keeps_what_was_committed(seed: int, tmp_path: Path) -> None:
    chance = SeededChance(seed)
    (tmp_path / "disk").mkdir()
    disk = SimDisk(tmp_path / "disk", chance.fork("disk"))
    connection, path = opened(disk), f"{disk.folder}/blobs/segment"
    kept: list[int] = []
    appended = b""
    cut_after = chance.below(60)
    disk.append(path, b"")
    for number in range(80):
        if number == cut_after:
            break
        appended += bytes([number]) * 700
        disk.append(path, bytes([number]) * 700)
        disk.sync(path)
        insert(connection, number, octets=5_000)
        kept.append(number)
        if chance.happens(0.1):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if chance.happens(0.05):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.execute("begin; ").fetchall()
    insert(connection, 1000, octets=50_000)  # spilled or not, it was never committed
    disk.append(path, b"x" * 5_000)
    disk.cut_power()
    with pytest.raises(OSError):
        disk.append(path, b"y")
    disk.survive(tmp_path / "after")
    disk.heal()
    connection.close()
    disk.close()
    later = SimDisk(tmp_path / "after", chance.fork("later"))
    again = opened(later)
    assert numbers(again) == kept
    assert again.execute("pragma integrity_check").get == "ok"
    assert later.read(f"{later.folder}/blobs/segment", 0, len(appended)) == appended
    again.close()
    later.close()


def test_a_loss_of_power_is_a_loss_and_repeatable(tmp_path: Path) -> None:
    def leftovers(seed: int, name: str) -> bytes:
        folder = tmp_path / name
        disk = SimDisk(folder / "disk", SeededChance(seed))
        path = f"{disk.folder}/segment"
        disk.append(path, b"a" * 2048)
        disk.sync(path)
        disk.append(path, b"b" * 65_536)
        disk.survive(folder / "after")
        disk.close()
        return (folder / "after" / "segment").read_bytes()

    one, same, other = leftovers(1, "one"), leftovers(1, "same"), leftovers(2, "other")
    assert one == same != other
    assert one.startswith(b"a" * 2048)
    assert one.count(b"b") not in (0, 65_536)


def test_a_file_never_synced_may_be_gone_and_a_removed_one_may_be_back(tmp_path: Path) -> None:
    disk = SimDisk(tmp_path / "disk", SeededChance(3))
    new, old = f"{disk.folder}/new", f"{disk.folder}/old"
    disk.append(old, b"old")
    disk.sync(old)
    disk.remove(old)
    disk.remove(old)
    disk.append(new, b"new")
    assert disk.list(disk.folder) == (new,)
    assert disk.list(f"{disk.folder}/nowhere") == ()
    assert disk.size(old) == 0
    seen = set()
    for number in range(60):
        after = tmp_path / str(number)
        disk.survive(after)
        seen.add(((after / "new").exists(), (after / "old").exists()))
    assert seen == {(True, True), (True, False), (False, True), (False, False)}
    disk.close()
