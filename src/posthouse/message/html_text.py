"""Plain text of a message's HTML, as a person would have typed it.

A scanner and no tree (see `message.html`): one pass over the markup, where each mark of the pattern
either ends or takes what is left, so the time is linear. Links become "text (url)", lists have
dashes and numbers, quotations ">", cells of a table a blank between; scripts, styles and what is
not displayed are left out. Lines are not wrapped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Final

import msgspec

__all__ = ["to_text"]

INDENT_MAX: Final = 12
"""Lists and quotations within each other that are shown so."""

_TOKEN: Final = re.compile(
    r"<(?:!--.*?(?:-->|\Z)"
    r"|(?:svg|math)\b[^>]*+(?<=/)>"
    r"|(?P<hidden>script|style|head|title|template|noscript|svg|math|object|select)\b"
    r".*?(?:</(?P=hidden)\b[^>]*+>?|\Z)"
    r"|(?P<close>/?)(?P<name>[a-z][a-z0-9]*+)(?P<rest>(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)>?"
    r"|[/!?][^>]*+(?:>|\Z))",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    r"([a-z][a-z0-9\-]*+)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"']++))", re.IGNORECASE
)
_UNSEEN: Final = re.compile(r"(?:display\s*+:\s*+none|visibility\s*+:\s*+hidden)", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[ \t\r\n\f]+")
# Marks that take no room; senders fill previews with them.
_INVISIBLE: Final = re.compile("[\u00ad\u034f\u200b\u2060\ufeff]")
_EMPTY_LINES: Final = re.compile("\n{4,}")
_NO_LINK: Final = ("#", "javascript:", "cid:", "data:")
_VOID: Final = frozenset(
    {
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "source",
        "track",
        "wbr",
    }
)
_PARAGRAPHS: Final = frozenset(
    {
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "dl",
        "pre",
        "blockquote",
        "table",
        "figure",
    }
)
_LINES: Final = frozenset(
    {
        "div",
        "section",
        "article",
        "header",
        "footer",
        "main",
        "nav",
        "aside",
        "address",
        "center",
        "form",
        "fieldset",
        "tr",
        "li",
        "dt",
        "dd",
        "figcaption",
        "caption",
        "summary",
        "details",
        "body",
        "html",
        "thead",
        "tbody",
        "tfoot",
    }
)


def to_text(markup: str) -> str:
    """The text, its lines ended by LF; "" where nothing is to be read."""
    writer = _Writer()
    at = 0
    for token in _TOKEN.finditer(markup):
        writer.text(markup[at : token.start()])
        at = token.end()
        name = token["name"]
        if name:
            writer.tag(name.lower(), token["rest"], is_end=bool(token["close"]))
    writer.text(markup[at:])
    return writer.finish()


class _Link(msgspec.Struct):
    url: str
    shown: list[str]


class _Writer:
    """Collects lines; blanks are collapsed as a browser does."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._is_blank_owed = False
        self._is_behind_url = False
        self._gap = 0  # line ends owed before the next text: 1 for a new line, 2 for a paragraph
        self._counters: list[int | None] = []  # of open lists; None is one without numbers
        self._quotes = 0
        self._quotes_above = 0  # of the line that was written last
        self._preformatted = 0
        self._link: _Link | None = None
        self._unseen = ("", 0)  # the element that is not displayed, and how many of it are open
        self._marker = ""
        self._closers: dict[str, Callable[[], None]] = {
            "a": self._end_link,
            "ul": self._end_list,
            "ol": self._end_list,
            "blockquote": self._end_quote,
            "pre": self._end_preformatted,
        }

    # --- what comes in ---

    def text(self, markup: str) -> None:
        if not markup or self._unseen[1]:
            return
        if self._preformatted:
            self._preformatted_text(html.unescape(markup))
            return
        # Blanks of the markup collapse before entities are decoded: &nbsp; is one that stays.
        text = _BLANKS.sub(" ", markup)
        if "&" in text:
            text = html.unescape(text)
        words = _INVISIBLE.sub("", text).replace("\xa0", " ")
        if words.startswith(" "):
            self._is_blank_owed = True
        inner = words.strip(" ")
        if not inner:
            return
        self._put(inner)
        self._is_blank_owed = words.endswith(" ")

    def tag(self, name: str, rest: str, *, is_end: bool) -> None:
        if self._unseen[1]:
            self._count_unseen(name, is_end=is_end)
            return
        if not is_end and name not in _VOID and "style" in rest.lower():
            style = _attributes(rest).get("style", "")
            if _UNSEEN.search(style) is not None:
                self._unseen = (name, 1)
                return
        if is_end and (closer := self._closers.get(name)):
            closer()
        self._space(name)
        if not is_end:
            self._begin(name, rest)

    def finish(self) -> str:
        self._end_link()
        self._end_line()
        while self._lines and not self._lines[-1].strip("> "):
            self._lines.pop()
        return _EMPTY_LINES.sub("\n\n\n", "\n".join([*self._lines, ""])) if self._lines else ""

    # --- elements ---

    def _space(self, name: str) -> None:
        """Owe the line ends that stand around an element."""
        if name in _PARAGRAPHS:
            nested = name in ("ul", "ol") and len(self._counters) > 0
            self._gap = max(self._gap, 1 if nested else 2)
        elif name in _LINES:
            self._gap = max(self._gap, 1)
        elif name in ("td", "th"):
            self._is_blank_owed = True

    def _begin(self, name: str, rest: str) -> None:
        if name == "a":
            self._end_link()
            url = _attributes(rest).get("href", "").strip()
            if url and not url.lower().startswith(_NO_LINK):
                self._link = _Link(url, [])
        elif name in ("ul", "ol"):
            self._counters.append(None if name == "ul" else 0)
        elif name == "li":
            self._marker = self._next_marker()
        elif name == "blockquote":
            self._quotes += 1
        elif name == "pre":
            self._preformatted += 1
        elif name == "br":
            self._break()
        elif name == "hr":
            self._gap = max(self._gap, 2)
            self._put("-" * 40)
            self._gap = 2
        elif name == "img" and (alt := _attributes(rest).get("alt", "").strip()):
            self._put(" ".join(alt.split()))

    def _next_marker(self) -> str:
        if not self._counters or self._counters[-1] is None:
            return "- "
        number = self._counters[-1] + 1
        self._counters[-1] = number
        return f"{number}. "

    def _end_list(self) -> None:
        if self._counters:
            self._counters.pop()
        self._marker = ""

    def _end_quote(self) -> None:
        self._end_line()
        self._quotes = max(self._quotes - 1, 0)

    def _end_preformatted(self) -> None:
        self._preformatted = max(self._preformatted - 1, 0)

    def _end_link(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        said = "".join(link.shown).strip()
        plain = link.url.removeprefix("mailto:").removeprefix("tel:")
        if said in (link.url, plain) or f"{said}/" == plain:
            return
        is_blank_owed, self._is_blank_owed = self._is_blank_owed, True
        self._put(f"({plain})" if said else plain)
        self._is_blank_owed, self._is_behind_url = is_blank_owed, True

    def _count_unseen(self, name: str, *, is_end: bool) -> None:
        hidden, depth = self._unseen
        if name == hidden:
            self._unseen = (hidden, depth - 1 if is_end else depth + 1)

    # --- what goes out ---

    def _put(self, text: str) -> None:
        if self._gap:
            self._end_line()
        if not self._line:
            self._line.append(self._margin())
            self._marker = ""
            self._quotes_above = self._quotes
        elif self._is_blank_owed or (self._is_behind_url and text[0].isalnum()):
            self._line.append(" ")
            if self._link is not None:
                self._link.shown.append(" ")
        self._is_blank_owed = self._is_behind_url = False
        self._line.append(text)
        if self._link is not None:
            self._link.shown.append(text)

    def _margin(self) -> str:
        """What stands in front of a line: quotation marks, the list's indent, the item's mark."""
        quotes = "> " * min(self._quotes, INDENT_MAX)
        depth = min(len(self._counters), INDENT_MAX)
        if self._marker:
            return f"{quotes}{'  ' * max(depth - 1, 0)}{self._marker}"
        return quotes + "  " * depth

    def _break(self) -> None:
        if self._gap:
            self._end_line()
        self._lines.append("".join(self._line).rstrip(" "))
        self._line = []
        self._is_blank_owed = False

    def _end_line(self) -> None:
        if self._line:
            self._lines.append("".join(self._line).rstrip(" "))
            self._line = []
        if self._gap == 2 and self._lines and self._lines[-1].strip("> "):
            quotes = min(self._quotes, self._quotes_above, INDENT_MAX)
            self._lines.append(("> " * quotes).rstrip(" "))
        self._gap = 0
        self._is_blank_owed = False

    def _preformatted_text(self, text: str) -> None:
        lines = text.replace("\r\n", "\n").split("\n")
        for count, line in enumerate(lines):
            if count:
                self._break()
            if line:
                self._put(line)


def _attributes(rest: str) -> dict[str, str]:
    """Attributes by lower-case name, entities decoded; of two of one name the first."""
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(rest):
        value = next(group for group in match.groups()[1:] if group is not None)
        found.setdefault(match[1].lower(), html.unescape(value))
    return found
