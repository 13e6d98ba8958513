"""The pages about the Python library are found from its index."""

from __future__ import annotations

import re
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "docs" / "library"
LINE = re.compile(r"^- \[[^]]+\]\(([a-z-]+\.md)\): \S", re.MULTILINE)


def test_the_index_has_a_line_for_each_page() -> None:
    pages = sorted(one.name for one in LIBRARY.glob("*.md") if one.name != "index.md")
    assert sorted(LINE.findall((LIBRARY / "index.md").read_text())) == pages
