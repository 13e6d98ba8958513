"""Which tests name which reliability row (`# F12`), and which rows none names.

`python -m tools.reliability` lists each row with its tests; `--missing` only those without.
The rows are in tests/meta/reliability.toml.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

ROWS_FILE: Final = Path("tests/meta/reliability.toml")
TEST_FILES: Final = (".py", ".txt")
"""Dialogue files name rows too."""

_COMMENT: Final = re.compile(r"(?:^|\s)#+(.*)")
_ROW: Final = re.compile(r"\b([PFH])([0-9]{1,2})(?:\s*[–-]\s*(?:\1)?([0-9]{1,2}))?(?![0-9])")


class Rows(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The rows by section, each with what it is about."""

    promises: dict[str, str]
    faults: dict[str, str]
    hostile: dict[str, str]

    def all(self) -> dict[str, str]:
        return {**self.promises, **self.faults, **self.hostile}


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a row is named."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def load_rows(root: Path) -> Rows:
    """The rows of this project."""
    return msgspec.convert(tomllib.loads((root / ROWS_FILE).read_text("utf-8")), Rows)


def rows_in(line: str) -> Iterator[str]:
    """Row names in the comment of a line; `# F25–F27` names three."""
    comment = _COMMENT.search(line)
    for found in _ROW.finditer(comment[1]) if comment else ():
        letter, first, last = found.groups()
        for number in range(int(first), int(last or first) + 1):
            yield f"{letter}{number}"


def places(root: Path) -> dict[str, list[Place]]:
    """Each row named in a comment under tests/, with where."""
    found: dict[str, list[Place]] = defaultdict(list)
    for path in sorted((root / "tests").rglob("*")):
        if path.suffix not in TEST_FILES or "meta" in path.relative_to(root).parts:
            continue
        name = str(path.relative_to(root))
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            for row in rows_in(line):
                found[row].append(Place(name, number))
    return found


def report(root: Path) -> Iterator[str]:
    """What `make test` says at its end."""
    rows = load_rows(root).all()
    named = places(root)
    missing = [row for row in rows if row not in named]
    yield f"{len(rows) - len(missing)} of {len(rows)} rows are named by a test"
    for row in missing:
        yield f"  no test names {row}: {rows[row]}"


def _listing(root: Path) -> Iterator[str]:
    named = places(root)
    for row, text in load_rows(root).all().items():
        yield f"{row}: {text}"
        yield from (f"    {place}" for place in named.get(row, ()))
    yield from report(root)


def main(arguments: Iterable[str]) -> None:
    """Print the listing for the project that the current folder is."""
    lines = report(Path()) if "--missing" in arguments else _listing(Path())
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
