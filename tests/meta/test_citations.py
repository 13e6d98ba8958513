"""RFC citations: found however they are written, and held against rfc/status.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import citations
from tools.citations import Status, load_status, page, problems

ROOT = Path(__file__).parents[2]
TABLE = """\
[5321]
title = "SMTP"
status = "yes"
note = "all of it"

[9999]
title = "Elsewhere"
status = "no"
note = "later"
"""


def project(root: Path, source: str, table: str = TABLE) -> Path:
    for name in ("src/posthouse", "rfc", "docs/reference"):
        (root / name).mkdir(parents=True)
    (root / "src/posthouse/a.py").write_text(source, encoding="utf-8")
    (root / citations.STATUS_FILE).write_text(table, encoding="utf-8")
    (root / citations.PAGE).write_text(page(load_status(root)), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# RFC 5321 §4.5.3.1\n", [(5321, ("§4.5.3.1",))]),
        ("# see RFC 5321\n", [(5321, ())]),
        ('"""As RFC\n5321 §4.2.1 says."""\n', [(5321, ("§4.2.1",))]),
        ("# as RFC\n# 5321\n# §2 says\n", [(5321, ("§2",))]),
        ("# RFC 5321 §4.1, §4.2 and §A.1\n", [(5321, ("§4.1", "§4.2", "§A.1"))]),
        ("# (RFC 5321 §2; RFC 9999 §3)\n", [(5321, ("§2",)), (9999, ("§3",))]),
        ('ITEM = b"RFC822.SIZE"\n', []),
    ],
)
def test_citations_are_found(
    tmp_path: Path, source: str, found: list[tuple[int, tuple[str, ...]]]
) -> None:
    root = project(tmp_path, source)
    assert [(each.rfc, each.sections) for each in citations.citations(root)] == found


def test_a_good_project_has_no_problems(tmp_path: Path) -> None:
    assert list(problems(project(tmp_path, "# RFC 5321 §3\n"))) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("\n# RFC 4242 §1\n", "src/posthouse/a.py:2: RFC 4242 is not in rfc/status.toml"),
        (
            "# RFC 9999 §1\n",
            "src/posthouse/a.py:1: RFC 9999 is cited, but rfc/status.toml says no",
        ),
        ("# RFC5321\n", "src/posthouse/a.py:1: write it as `RFC 5321 §4.5.4.1`"),
        ("# RFC 5321 section 4\n", "src/posthouse/a.py:1: write it as `RFC 5321 §4.5.4.1`"),
    ],
)
def test_a_citation_that_the_table_does_not_bear_is_named(
    tmp_path: Path, source: str, problem: str
) -> None:
    assert list(problems(project(tmp_path, source))) == [problem]


def test_a_stale_page_is_named(tmp_path: Path) -> None:
    root = project(tmp_path, "")
    (root / citations.PAGE).write_text("old", encoding="utf-8")
    assert list(problems(root)) == [
        "docs/reference/rfcs.md is stale: python -m tools.citations --write"
    ]


def test_the_table_is_kept_in_order(tmp_path: Path) -> None:
    first, second = TABLE.split("\n\n")
    root = project(tmp_path, "", table=f"{second}\n{first}\n")
    assert list(problems(root)) == ["rfc/status.toml: RFCs are not in order of their numbers"]


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    root = project(tmp_path, "")
    (root / citations.STATUS_FILE).write_text(TABLE.replace('"yes"', '"mostly"'), encoding="utf-8")
    with pytest.raises(ValueError, match="mostly"):
        load_status(root)


def test_this_project_cites_what_its_table_bears_and_its_page_is_fresh() -> None:
    assert list(problems(ROOT)) == []


def test_an_rfc_done_in_part_says_which_part() -> None:
    entries = load_status(ROOT).items()
    assert not [rfc for rfc, entry in entries if entry.status is not Status.YES and not entry.note]
