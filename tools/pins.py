"""Writes constraints.txt from a fresh environment with everything in it: `make constraints`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

PINS: Final = Path("constraints.txt")
OURS: Final = "posthouse"
HEAD: Final = """\
# Exact versions that `make` installs (`pip install -c constraints.txt`); the ranges are in
# pyproject.toml. `make constraints` writes this file anew from a fresh virtual environment.
"""


def pins(freeze: str) -> str:
    """The file's text: name==version lines only, so no address of anybody's index gets in."""
    lines = [line for line in freeze.splitlines() if "==" in line and " @ " not in line]
    ours = [line for line in lines if line.partition("==")[0].lower() == OURS]
    return HEAD + "".join(f"{line}\n" for line in sorted(set(lines) - set(ours), key=str.lower))


def main(python: str) -> None:
    """Write the file for what `python` has installed."""
    command = [python, "-m", "pip", "freeze", "--exclude-editable"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    PINS.write_text(pins(frozen.stdout), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
