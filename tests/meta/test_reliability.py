"""The listing of reliability rows: what it reads, and what it says at the end of `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import reliability
from tools.reliability import load_rows, places, report, rows_in

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("# F12", ["F12"]),
        ("    # P3, H31: and why", ["P3", "H31"]),
        ("async def test_x() -> None:  # F23", ["F23"]),
        ("# F25–F27", ["F25", "F26", "F27"]),
        ("# H1-H3 and P4", ["H1", "H2", "H3", "P4"]),
        ("## H5 in a dialogue file", ["H5"]),
        ("value = F12", []),
        ("# UTF8 and SHA256 and PH1 and H123", []),
        ("", []),
    ],
)
def test_rows_are_read_from_comments_only(line: str, rows: list[str]) -> None:
    assert list(rows_in(line)) == rows


def test_each_row_has_words_and_stands_in_the_section_of_its_letter() -> None:
    rows = load_rows(ROOT)
    for letter, section in (("P", rows.promises), ("F", rows.faults), ("H", rows.hostile)):
        assert section
        for row, text in section.items():
            assert row[0] == letter and row[1:].isdigit(), row
            assert len(text) > 10, row
    assert len(rows.all()) == len(rows.promises) + len(rows.faults) + len(rows.hostile)


def project(root: Path, tests: dict[str, str]) -> Path:
    files = {
        reliability.ROWS_FILE: '[promises]\nP1 = "kept"\n[faults]\nF1 = "kill"\n[hostile]\n',
        **{Path("tests", name): text for name, text in tests.items()},
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_row_no_test_names_is_said_with_its_words(tmp_path: Path) -> None:
    root = project(
        tmp_path, {"test_a.py": "# P1\ndef test_kept(): ...\n", "meta/test_b.py": "# F1"}
    )
    assert [str(place) for place in places(root)["P1"]] == ["tests/test_a.py:1"]
    assert list(report(root)) == ["1 of 2 rows are named by a test", "  no test names F1: kill"]


def test_dialogues_name_rows_as_well_as_tests_do(tmp_path: Path) -> None:
    root = project(tmp_path, {"dialogues/x.txt": "# F1\nC: NOOP\n", "test_a.py": "x = 1  # P1\n"})
    assert list(report(root)) == ["2 of 2 rows are named by a test"]
