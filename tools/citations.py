"""RFCs: what src/ cites (`RFC 5321 §4.5.4.1`) against rfc/status.toml, and the page made of it.

`python -m tools.citations` says what is wrong and ends with 1 if anything is; `--list` prints the
citations of each RFC; `--write` writes docs/reference/rfcs.md.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

STATUS_FILE: Final = Path("rfc/status.toml")
PAGE: Final = Path("docs/reference/rfcs.md")
SOURCES: Final = Path("src")

# A citation may be broken over lines, in a comment or a docstring; sections may follow in a list:
# "RFC 9051 §2.3.2, §6.4.6".
_GAP: Final = r"[ \t]*\n?[ \t]*(?:#[ \t]*)?"
_SECTION: Final = r"§[0-9A-Z]+(?:\.[0-9]+)*"
_CITATION: Final = re.compile(
    rf"\bRFC(?: |\n){_GAP}([0-9]{{3,5}})\b({_GAP}{_SECTION}(?:(?:,| and){_GAP}{_SECTION})*)?"
)
# Near misses, which the listing would overlook.
_MISSPELT: Final = re.compile(
    r"\bRFC ?[0-9]{3,5},? [Ss]ec(?:tion|\.)|\bRFCs [0-9]|\bRFC-[0-9]"
    r"|(?<!Profile\.)\bRFC[0-9]{4,5}\b"
)

_HEAD: Final = """\
# RFCs

<!-- Made from rfc/status.toml by `python -m tools.citations --write`; do not edit. -->

What Posthouse does of each RFC it touches. Code cites sections beside the lines that obey them, and
`Deviation:` opens a comment where we knowingly differ; `python -m tools.citations --list` prints
every citation with its place. A test fails when code cites an RFC that is not in this table, or one
that it says "no" of.

| RFC | Title | Status | What that means |
| --- | --- | --- | --- |
"""


class Status(Enum):
    YES = "yes"
    PARTLY = "partly"
    NO = "no"


class Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One RFC of the table."""

    title: str
    status: Status
    note: str


class Citation(msgspec.Struct, frozen=True, order=True):
    rfc: int
    sections: tuple[str, ...]
    path: str
    line: int


def load_status(root: Path) -> dict[int, Entry]:
    """The table of rfc/status.toml."""
    table = tomllib.loads((root / STATUS_FILE).read_text("utf-8"))
    return {int(number): msgspec.convert(entry, Entry) for number, entry in table.items()}


def citations(root: Path) -> list[Citation]:
    """Every citation in src/, by RFC and place."""
    found: list[Citation] = []
    for path in sorted((root / SOURCES).rglob("*.py")):
        text = path.read_text("utf-8")
        name = str(path.relative_to(root))
        for match in _CITATION.finditer(text):
            sections = tuple(re.findall(_SECTION, match[2] or ""))
            line = text.count("\n", 0, match.start()) + 1
            found.append(Citation(int(match[1]), sections, name, line))
    return sorted(found)


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the citations or the page, a line each."""
    status = load_status(root)
    for citation in citations(root):
        entry = status.get(citation.rfc)
        place = f"{citation.path}:{citation.line}"
        if entry is None:
            yield f"{place}: RFC {citation.rfc} is not in {STATUS_FILE}"
        elif entry.status is Status.NO:
            yield f"{place}: RFC {citation.rfc} is cited, but {STATUS_FILE} says no"
    for path in sorted((root / SOURCES).rglob("*.py")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if _MISSPELT.search(line):
                yield f"{path.relative_to(root)}:{number}: write it as `RFC 5321 §4.5.4.1`"
    if list(status) != sorted(status):
        yield f"{STATUS_FILE}: RFCs are not in order of their numbers"
    written = (root / PAGE).read_text("utf-8") if (root / PAGE).is_file() else ""
    if written != page(status):
        yield f"{PAGE} is stale: python -m tools.citations --write"


def page(status: dict[int, Entry]) -> str:
    """The documentation page in Markdown."""
    return _HEAD + "".join(
        f"| [{number}](https://www.rfc-editor.org/rfc/rfc{number}) | {entry.title} "
        f"| {entry.status.value} | {entry.note} |\n"
        for number, entry in sorted(status.items())
    )


def listing(root: Path) -> Iterator[str]:
    """Each RFC with its sections and where they are cited."""
    status = load_status(root)
    by_rfc: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for citation in citations(root):
        for section in citation.sections or ("-",):
            by_rfc[citation.rfc][section].append(f"{citation.path}:{citation.line}")
    for number, sections in by_rfc.items():
        entry = status.get(number)
        yield f"RFC {number}: {entry.status.value if entry else 'not in the table'}"
        for section, found in sorted(sections.items()):
            yield f"    {section:<12} {', '.join(found)}"


def main(arguments: Sequence[str]) -> int:
    """Work on the project that the current folder is; the exit code."""
    root = Path()
    if "--write" in arguments:
        (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
        (root / PAGE).write_text(page(load_status(root)), encoding="utf-8")
        return 0
    if "--list" in arguments:
        print("\n".join(listing(root)))
        return 0
    found = list(problems(root))
    print("\n".join(found) or f"{len(citations(root))} citations, all of RFCs in {STATUS_FILE}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
