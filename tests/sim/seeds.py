"""Five days of a whole node, once for each of many seeds: nothing is lost whatever chance does.

`python -m tests.sim.seeds --seed 1 --seeds 500`, or `make sim SEED=1 SEEDS=500`. A seed that fails
is printed, and fails again when it is run alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from posthouse.queue.item import END_STATES
from tests.sim.test_whole_retry import Story, tell

VIRTUAL_HOURS = 5 * 24 + 1
ENDS = frozenset(state.name.lower() for state in END_STATES)


def wrong_with(story: Story) -> str:
    """What a story shows that may never be, or "" (P2, P4, P5)."""
    if not story.is_clean:
        return "the ledger is not clean"
    if still := set(story.states) - ENDS:
        return f"after five days there are recipients {', '.join(sorted(still))}"
    if len(story.arrivals["grey"]) != 1 or len(story.arrivals["away"]) != 1:
        return f"a message arrived not once: {story.arrivals}"
    return ""


def run(first: int, count: int) -> list[str]:
    """Tell the stories of `count` seeds; a line for each that went wrong."""
    failed = []
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(prefix="posthouse-sim-") as folder:
            try:
                problem = wrong_with(tell(seed, Path(folder) / "lab"))
            except Exception:
                problem = traceback.format_exc()
        if problem:
            failed.append(f"seed {seed}: {problem}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    options = parser.parse_args()
    failed = run(options.seed, options.seeds)
    print("\n".join(failed), end="\n" if failed else "")
    first = failed[0].partition(":")[0] if failed else "-"
    print(
        f"sim seeds={options.seeds} virtual-hours={options.seeds * VIRTUAL_HOURS}"
        f" invariants=P2,P4,P5 failed={len(failed)} (first: {first})"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
