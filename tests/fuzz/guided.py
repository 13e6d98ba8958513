"""The targets under atheris (libFuzzer) where it is installed, each in a process of its own.

libFuzzer's `new_units_added` stands for new edges: inputs kept because they reached one.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.oracle import INPUT_OCTETS_MAX

if TYPE_CHECKING:  # the child must not have imported it before atheris looks
    from tests.fuzz.target import Target

STATS = {
    "execs": "number_of_executed_units",
    "new-edges": "new_units_added",
    "slowest": "slowest_unit_time_sec",
}


def is_there() -> bool:
    return importlib.util.find_spec("atheris") is not None


def run(target: Target, seed: int, seconds: float) -> bool:
    """Print the report line, and before it what broke; whether anything did."""
    with tempfile.TemporaryDirectory() as folder:
        for number, octets in enumerate(target.seeds):
            Path(folder, f"seed-{number}").write_bytes(octets)
        flags = (
            f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", "-timeout=10",
            f"-max_len={INPUT_OCTETS_MAX}", "-rss_limit_mb=1024", "-print_final_stats=1",
            f"-artifact_prefix={folder}/broken-",
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", target.name, *flags, folder],
            capture_output=True, check=False,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        if done.returncode:
            for path in Path(folder).glob("broken-*"):
                print(f"{target.name}: {path.read_bytes()[:2000]!r}")
            print(said[-4000:])
        print(f"fuzz target={target.name} engine=atheris {_figures(said, done.returncode)}")
    return done.returncode != 0


def _figures(said: str, code: int) -> str:
    found = {}
    for name, stat in STATS.items():
        match = re.search(rf"stat::{stat}:\s+(\d+)", said)
        found[name] = match[1] if match else "?"
    crashes = int(code != 0)
    return (
        f"execs={found['execs']} new-edges={found['new-edges']} crashes={crashes}"
        f" slowest={found['slowest']}s"
    )


def _child(arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["posthouse"]):
        from tests.fuzz.targets import TARGETS
    wanted = next(target for target in TARGETS if target.name == arguments[1])
    atheris.Setup([arguments[0], *arguments[2:]], wanted.run)
    atheris.Fuzz()


if __name__ == "__main__":
    _child(sys.argv)
