"""HTML to words, for previews, search and the filter.

No HTML parser: building the tree of hostile mail is quadratic by specification. Each piece of the
pattern either ends or takes all that is left, so the time is linear (H37, H38).
"""

from __future__ import annotations

import html
import re
from typing import Final

_MARKUP: Final = re.compile(
    r"<(?:!--.*?(?:-->|\Z)"
    r"|(?P<hidden>script|style|head|title|template|noscript|svg)\b.*?(?:</(?P=hidden)\b[^>]*+>?|\Z)"
    r"|/?(?P<inline>a|b|i|u|em|strong|span|font|small|big|sub|sup|code|abbr|mark|s|q|tt|wbr)\b"
    r"[^>]*+(?:>|\Z)"
    r"|[/!?a-z][^>]*+(?:>|\Z))",
    re.DOTALL | re.IGNORECASE,
)


def to_words(text: str) -> str:
    """The text a reader would see, roughly: without tags, scripts, styles and comments, entities
    decoded. What divides blocks becomes a blank; blanks are not collapsed."""
    return html.unescape(_MARKUP.sub(_replacement, text))


def _replacement(match: re.Match[str]) -> str:
    return "" if match["inline"] else " "
