"""A whole node under seeded faults; `posthouse sim` runs more seeds than these."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from posthouse.sim.whole import Fate, Run, run_seed, summary
from posthouse.sim.world import World, run_virtual

SEEDS = range(1, 1 + int(os.environ.get("POSTHOUSE_SIM_SEEDS", "4")))
HOURS = 6.0


# P1 P2 P3 P4 P5, F2 F4 F5 F9 F23 F26 F31
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_fails_nothing_acknowledged_is_lost(seed: int, tmp_path: Path) -> None:
    outcome = run_seed(seed, hours=HOURS, folder=tmp_path)
    assert outcome.failures == ()
    assert outcome.faults
    assert outcome.acknowledged > 20


def test_a_seed_gives_the_same_run_again(tmp_path: Path) -> None:
    one = run_seed(9, hours=HOURS, folder=tmp_path / "one")
    assert run_seed(9, hours=HOURS, folder=tmp_path / "two") == one
    assert run_seed(10, hours=HOURS, folder=tmp_path / "three") != one


class Forgetful(Run):
    """A world in which something went wrong, to see that it is seen."""

    async def _stored(self) -> Counter[tuple[int, str]]:
        found = await super()._stored()
        kept = sorted(found)
        del found[kept[0]]
        found[kept[1]] += 1
        self.fates[kept[2][0]] = Fate.REFUSED
        self.unknown_commits = 0
        return found


def test_what_is_lost_doubled_or_kept_though_refused_is_found(tmp_path: Path) -> None:
    async def live(world: World):
        return await Forgetful(world, tmp_path, 1.0).live()

    outcome = run_virtual(live, seed=3)
    assert {failure[:2] for failure in outcome.failures} == {"P1", "P3", "P4"}
    assert summary([outcome]).endswith("failed=1 (first seed: 3)")


def test_the_command_prints_the_line_of_the_reports() -> None:
    command = [sys.executable, "-m", "posthouse", "sim", "--seed", "5", "--hours", "0.5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    pattern = (
        r"sim seeds=1 virtual-hours=\d+ faults=\d+ invariants=P1,P2,P3,P4,P5"
        r" failed=0 \(first seed: -\)"
    )
    assert re.fullmatch(pattern, shown["summary"])
    assert shown["runs"][0]["seed"] == 5
