"""Change fragments: their names and their form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.changes import draft, problems

ROOT = Path(__file__).parents[2]


def project(root: Path, name: str, text: str) -> Path:
    (root / "changes").mkdir()
    (root / "changes" / "README.md").write_text("about", encoding="utf-8")
    (root / "changes" / name).write_text(text, encoding="utf-8")
    return root


def test_the_fragments_of_this_project_are_well_formed() -> None:
    assert list(problems(ROOT)) == []


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("queue.md", "It is there.\n", "<slug>.<kind>.md"),
        ("queue.new.md", "It is there.\n", "<slug>.<kind>.md"),
        ("Queue.added.md", "It is there.\n", "<slug>.<kind>.md"),
        ("queue.added.md", "\n", "one to a few sentences"),
        ("queue.added.md", "It is. " * 400 + "\n", "one to a few sentences"),
        ("queue.added.md", "# Queue\nIt is there.\n", "heading"),
        ("queue.added.md", "- It is there.\n", "heading"),
        ("queue.added.md", "It is there.", "line break"),
        ("queue.added.md", "It is there.\n\n", "line break"),
        ("queue.added.md", "x" * 101 + "\n", "100 characters"),
    ],
)
def test_a_malformed_fragment_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, text: str, word: str
) -> None:
    found = list(problems(project(tmp_path, name, text)))
    assert found
    assert found[0].startswith(f"changes/{name}: ") and any(word in line for line in found)


def test_the_draft_has_a_section_for_each_kind_there_is(tmp_path: Path) -> None:
    root = project(tmp_path, "hold.added.md", "The queue\ncan hold.\n")
    (root / "changes" / "dot.fixed.md").write_text("A dot is a dot.\n", encoding="utf-8")
    assert (
        draft(root) == "### Added\n\n- The queue\n  can hold.\n\n### Fixed\n\n- A dot is a dot.\n"
    )
