"""The store on a disk that loses power: what was committed is there, and nothing is broken."""

from pathlib import Path

import apsw
import pytest

from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import BlobId
from posthouse.sim.chance import SeededChance
from posthouse.sim.disk import SimDisk
from posthouse.sim.world import World, run_virtual
from posthouse.store.options import Options
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import Transaction

OPTIONS = {"inline_octets_max": 1_000, "segment_octets_max": 50_000}


def opened(world: World, disk: SimDisk) -> SqliteStore:
    options = Options(folder=disk.folder, **OPTIONS)
    return SqliteStore.open(options, clock=world.clock, disk=disk, is_inline=True, vfs=disk.vfs)


# F9, P1: large and small blobs of every commit survive, whatever the disk kept of the rest
@pytest.mark.parametrize("seed", range(20))
def test_blobs_of_committed_units_survive_a_loss_of_power(seed: int, tmp_path: Path) -> None:
    async def main(world: World) -> None:
        chance = SeededChance(seed)
        disk = SimDisk(tmp_path / "before", chance.fork("before"))
        store = opened(world, disk)
        kept: dict[BlobId, bytes] = {}
        for _ in range(chance.below(30)):
            octets = chance.token(1 + chance.below(4_000))
            kept[store.write_now(lambda tx, octets=octets: tx.put_blob(octets))] = octets
        lost_at = 1 + chance.below(3)
        disk.fail_sync(nth=lost_at, for_ever=True)  # the power fails in the middle of a commit
        with pytest.raises((Fault, apsw.Error, OSError)):
            for _ in range(4):
                store.write_now(lambda tx: tx.put_blob(bytes(3_000)))
        disk.cut_power()
        disk.survive(tmp_path / "after")
        disk.heal()
        store.close_now()
        disk.close()
        after = SimDisk(tmp_path / "after", chance.fork("after"))
        again = opened(world, after)

        def read(tx: Transaction) -> dict[BlobId, bytes]:
            return {blob: tx.blob(blob) for blob in kept}

        assert again.read_now(read) == kept
        again.close_now()
        after.close()

    run_virtual(main, seed=seed)
