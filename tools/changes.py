"""Fragments in changes/, one for each change somebody can notice: `<slug>.<kind>.md`.

`python -m tools.changes` says what is wrong with them and ends with 1 if anything is; `--draft`
prints the release notes they make.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

FOLDER: Final = Path("changes")
KINDS: Final = {
    "added": "Added",
    "changed": "Changed",
    "fixed": "Fixed",
    "removed": "Removed",
    "security": "Security",
}
LINE_MAX: Final = 100
FRAGMENT_OCTETS_MAX: Final = 2000
_NAME: Final = re.compile(rf"[a-z0-9]+(?:-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")


def fragments(root: Path) -> list[Path]:
    """Every file of the folder but its README."""
    return sorted(path for path in (root / FOLDER).iterdir() if path.name != "README.md")


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the fragments, a line each."""
    for path in fragments(root):
        name = f"{FOLDER}/{path.name}"
        if _NAME.fullmatch(path.name) is None:
            yield f"{name}: a name is <slug>.<kind>.md, a kind one of {', '.join(KINDS)}"
            continue
        text = path.read_text("utf-8")
        if not text.strip() or len(text.encode()) > FRAGMENT_OCTETS_MAX:
            yield f"{name}: one to a few sentences, at most {FRAGMENT_OCTETS_MAX} octets"
        if text.startswith(("#", "-", "*")):
            yield f"{name}: plain sentences; heading and bullet are added at release"
        if not text.endswith("\n") or text.endswith("\n\n"):
            yield f"{name}: ends with one line break"
        if any(len(line) > LINE_MAX for line in text.splitlines()):
            yield f"{name}: lines have at most {LINE_MAX} characters"


def draft(root: Path) -> str:
    """Release notes in Markdown, by kind."""
    parts: list[str] = []
    for kind, title in KINDS.items():
        texts = [
            path.read_text("utf-8").strip()
            for path in fragments(root)
            if path.name.endswith(f".{kind}.md")
        ]
        if texts:
            items = "\n".join("- " + text.replace("\n", "\n  ") for text in texts)
            parts.append(f"### {title}\n\n{items}\n")
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Work on the project that the current folder is; the exit code."""
    root = Path()
    if "--draft" in arguments:
        print(draft(root), end="")
        return 0
    found = list(problems(root))
    print("\n".join(found) or f"{len(fragments(root))} fragments in {FOLDER}/")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
