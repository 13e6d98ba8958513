"""Which line of a TOML file holds a key: neither tomllib nor msgspec says.

Only called on text that `tomllib` has read, so it need not judge, only find.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

KeyPath = tuple[str | int, ...]

_TOKEN: Final = re.compile(
    r'(?P<string>"""(?:[^\\"]|\\.|"(?!""))*+"{3,5}|\'\'\'(?:[^\']|\'(?!\'\'))*+\'{3,5}'
    r'|"(?:[^"\\\n]|\\.)*+"|\'[^\'\n]*+\')'
    r"|(?P<comment>\#[^\n]*+)|(?P<newline>\n)|(?P<mark>[\[\]{}=.,])|(?P<bare>[^\s\[\]{}=.,#\"']++)"
    r"|(?P<blank>[^\S\n]++)",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """For every table and key outside inline tables its line, counted from 1.

    Tables of an array have their number in the path: ("listener", 0, "port").
    """
    return _Finder().run(text)


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of a key or of the nearest thing around it; 1 when nothing around it is written."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return 1


class _Finder:
    """Reads statements one by one: a header, or a key with a value that may go over lines."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        self._parts: list[str] = []
        self._brackets = 0  # of a header
        self._depth = 0  # within a value
        self._is_value = False
        self._started_at = 1

    def run(self, text: str) -> dict[KeyPath, int]:
        line = 1
        for match in _TOKEN.finditer(text):
            token = match[0]
            if not self._parts and not self._brackets:
                self._started_at = line
            if match["newline"] is not None:
                if self._depth == 0:
                    self._end()
            elif self._is_value:
                self._depth += (token in {"[", "{"}) - (token in {"]", "}"})
            elif match["mark"] is not None:
                self._mark(token)
            elif match["string"] is not None:
                self._parts.append(_unquoted(token))
            elif match["bare"] is not None:
                self._parts.append(token)
            line += token.count("\n")
        self._end()
        return self.lines

    def _mark(self, word: str) -> None:
        if word == "[":
            self._brackets += 1
        elif word == "=":
            path = self._resolved(self._table, self._parts)
            for length in range(len(self._table) + 1, len(path) + 1):
                self.lines.setdefault(path[:length], self._started_at)
            self._is_value = True

    def _end(self) -> None:
        if self._brackets and self._parts:
            path = self._resolved((), self._parts)
            if self._brackets == 2:  # [[array]]: one table more
                path = path[:-1] if isinstance(path[-1], int) else path
                number = self._counts.get(path, 0)
                self._counts[path] = number + 1
                self.lines.setdefault(path, self._started_at)
                path = (*path, number)
            self._table = path
            self.lines.setdefault(path, self._started_at)
        self._parts = []
        self._brackets = 0
        self._is_value = False

    def _resolved(self, table: KeyPath, parts: list[str]) -> KeyPath:
        """A written path with the numbers of the arrays that it goes through."""
        path = table
        for part in parts:
            path = (*path, part)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path


def _unquoted(token: str) -> str:
    try:
        return str(tomllib.loads(f"x = {token}")["x"])
    except tomllib.TOMLDecodeError:  # a quoted key of several lines, which TOML does not know
        return token
