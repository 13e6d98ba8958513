"""The rules of the house that a machine can see, on the project itself."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.pins import pins

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 80
WORDS = ("TO-DO", "FIX-ME", "XX-X", "NotImplemented-Error")  # so that this line is none of them
UNFINISHED = re.compile(rf"\b(?:{'|'.join(WORDS).replace('-', '')})\b")
SOURCES = sorted((ROOT / "src").rglob("*.py")) + sorted((ROOT / "tools").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(paths: list[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield f"{name(path)}:{number}", line


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 100 and len(TESTS) > 50


def test_no_module_is_too_long_to_be_about_one_thing() -> None:
    long = {name(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {path: count for path, count in long.items() if count > MODULE_LINES_MAX} == {}


def test_no_function_is_too_long_to_be_read_at_once() -> None:
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > FUNCTION_LINES_MAX:
                    long[f"{name(path)}:{node.lineno} {node.name}"] = count
    assert long == {}


def test_nothing_says_it_is_unfinished() -> None:
    assert [place for place, line in lines([*SOURCES, *TESTS]) if UNFINISHED.search(line)] == []


def test_every_module_says_what_it_is() -> None:
    empty = [
        name(path)
        for path in SOURCES
        if path.stat().st_size and ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None
    ]
    assert empty == []


def test_every_test_file_is_collected() -> None:
    """A file with tests whose name does not begin with test_ would never run."""
    overlooked = [
        name(path)
        for path in TESTS
        if not path.name.startswith("test_")
        and path.parent.name != "conformance"
        and re.search(r"^(?:async )?def test_", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert overlooked == []


def test_pins_hold_every_dependency_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in text.splitlines()}
    names = {re.split(r"[<>=!\[]", each, maxsplit=1)[0].lower() for each in wanted}
    assert names - pinned == {"posthouse"}  # an extra names others of its own
    assert "://" not in text and " @ " not in text


def test_pins_leave_out_the_project_and_what_came_from_an_address() -> None:
    frozen = "zeta==2\nposthouse==0.1.0\nAlpha==1\nother @ https://pypi.example/other.whl\n"
    assert pins(frozen).splitlines()[-2:] == ["Alpha==1", "zeta==2"]


def test_the_makefile_lists_its_targets_and_each_exists() -> None:
    listed = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    targets = {line.split()[1] for line in listed if line.startswith("make ")}
    assert {"demo", "test", "check", "docs", "fuzz", "sim", "interop", "crash", "bench"} <= targets
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    assert targets == set(phony[1].split())


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_first_screen_of_the_readme_has_the_two_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text("utf-8")[:2500]


def documents() -> list[Path]:
    found = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "changes/README.md"]
    return sorted({*found, ROOT / "bench/README.md"})


def test_documents_link_to_files_that_exist() -> None:
    broken = []
    for document in documents():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{name(document)}: {target}")
    assert broken == []


def test_documents_name_files_of_the_source_that_exist() -> None:
    """`store/sqlite/engine.py` in ARCHITECTURE.md has to be a module, or the page is stale."""
    missing = []
    for document in [ROOT / "ARCHITECTURE.md", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for path in re.findall(
            r"`([a-z0-9_/.]+\.(?:py|sh|toml|md|txt))`", document.read_text("utf-8")
        ):
            homes = (ROOT, ROOT / "src/posthouse", ROOT / "tests", document.parent)
            is_there = any((home / path).exists() for home in homes)
            if not is_there and not path.endswith("posthouse.toml"):  # that one is the reader's
                missing.append(f"{name(document)}: {path}")
    assert missing == []


def test_every_page_of_the_documentation_is_in_its_navigation() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))

    def named(nav: object) -> Iterator[str]:
        if isinstance(nav, str):
            yield nav
        elif isinstance(nav, list):
            for each in nav:
                yield from named(each)
        elif isinstance(nav, dict):
            for each in nav.values():
                yield from named(each)

    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert set(named(config["project"]["nav"])) == pages
    assert config["project"]["theme"]["font"] is False
