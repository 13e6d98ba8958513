"""The line of a key is found however the file is written."""

from __future__ import annotations

import tomllib

import pytest

from posthouse.config.lines import KeyPath, key_lines, line_of

TEXT = """\
# [smtp] in a comment
top = 1
dotted.inner."quo ted" = "a = b"

[relay]  # [not this]
list = [
  "a", # ]
  ']',
]
inline = { host = "x", deep = { a = 1 } }
text = \"\"\"
[fake]
key = 1\\" \\"\"\" end\"\"\"
raw = '''
[[fake]]'''
after = 2
[[relay.route]]
domain = "a"
[[ relay . route ]]
domain = "b"
hosts = []
[relay.route.sub]
x = 1
["quoted table".x]
y = 1
[last]"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("dotted",), 3),
        (("dotted", "inner", "quo ted"), 3),
        (("relay",), 5),
        (("relay", "list"), 6),
        (("relay", "inline"), 10),
        (("relay", "inline", "deep", "a"), 10),
        (("relay", "text"), 11),
        (("relay", "raw"), 14),
        (("relay", "after"), 16),
        (("relay", "route"), 17),
        (("relay", "route", 0), 17),
        (("relay", "route", 0, "domain"), 18),
        (("relay", "route", 1), 19),
        (("relay", "route", 1, "domain"), 20),
        (("relay", "route", 1, "hosts"), 21),
        (("relay", "route", 1, "sub", "x"), 23),
        (("quoted table", "x", "y"), 25),
        (("last",), 26),
        (("absent",), 1),
    ],
)
def test_a_key_is_found(path: KeyPath, line: int) -> None:
    tomllib.loads(TEXT)
    assert line_of(key_lines(TEXT), path) == line


def test_nothing_within_a_text_or_comment_is_taken_for_a_key() -> None:
    assert not any("fake" in path or "not this" in path for path in key_lines(TEXT))


@pytest.mark.parametrize("text", ["'''" + "'" * 50_000, '"' * 50_001, "[" * 50_000, "\\" * 50_000])
def test_finding_lines_is_linear_in_any_text(text: str) -> None:
    assert len(key_lines(text)) <= 1
