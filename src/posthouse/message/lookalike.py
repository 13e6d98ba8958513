"""Text that is drawn like other text: mixed scripts, and letters of one script that look like
another's (H49). For the names of accounts and for the domains mail claims to be from.

The rule for mixing is the "highly restrictive" one of Unicode's security mechanisms (UTS 39 §5.2);
the table of letters is a small one of our own, of what is drawn alike in lower case.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from itertools import chain
from typing import Final

CHARACTERS_MAX: Final = 1_024
"""More of a text is not looked at."""

LATIN: Final = "Latin"
GREEK: Final = "Greek"
CYRILLIC: Final = "Cyrillic"
OTHER: Final = "other"
"""Letters of scripts that are not in the table."""

_RANGES: Final = (
    (LATIN, "0041-02B8 02E0-02E4 1D00-1D25 1D2C-1D5C 1D62-1D65 1D6B-1D77 1D79-1DBE 1E00-1EFF"),
    (
        LATIN,
        "2184-2184 2C60-2C7F A722-A787 A78B-A7FF AB30-AB64 AB66-AB68 FB00-FB06 FF21-FF3A FF41-FF5A",
    ),
    (GREEK, "0370-03E1 03F0-03FF 1D26-1D2A 1D5D-1D61 1D66-1D6A 1DBF-1DBF 1F00-1FFF AB65-AB65"),
    (CYRILLIC, "0400-052F 1C80-1C8F 1D2B-1D2B 1D78-1D78 A640-A69D"),
    ("Armenian", "0531-0588 FB13-FB17"),
    ("Hebrew", "05D0-05F2 FB1D-FB4F"),
    ("Arabic", "0620-06FF 0750-077F 0870-08C9 FB50-FDFB FE70-FEFC"),
    ("Devanagari", "0900-097F A8E0-A8FF"),
    ("Bengali", "0980-09FF"),
    ("Gurmukhi", "0A00-0A7F"),
    ("Gujarati", "0A80-0AFF"),
    ("Tamil", "0B80-0BFF"),
    ("Telugu", "0C00-0C7F"),
    ("Kannada", "0C80-0CFF"),
    ("Malayalam", "0D00-0D7F"),
    ("Sinhala", "0D80-0DFF"),
    ("Thai", "0E00-0E7F"),
    ("Lao", "0E80-0EFF"),
    ("Tibetan", "0F00-0FFF"),
    ("Myanmar", "1000-109F"),
    ("Georgian", "10A0-10FF 1C90-1CBF 2D00-2D2D"),
    ("Hangul", "1100-11FF 3131-318E A960-A97C AC00-D7FB"),
    ("Ethiopic", "1200-139F 2D80-2DDE AB01-AB2E"),
    ("Cherokee", "13A0-13FD AB70-ABBF"),
    ("Khmer", "1780-17FF"),
    ("Mongolian", "1810-18AA"),
    ("Coptic", "03E2-03EF 2C80-2CF3"),
    ("Lisu", "A4D0-A4FD"),
    ("Hiragana", "3041-309F"),
    ("Katakana", "30A1-30FA 30FD-30FF 31F0-31FF FF66-FF6F FF71-FF9D"),
    ("Bopomofo", "3105-312F 31A0-31BF"),
    ("Han", "3005-3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FAD9 20000-323AF"),
)
_COMMON: Final = frozenset("ー々〇ʹʻʼ")
"""Letters that no script has for itself."""

_TOGETHER: Final = (
    frozenset((LATIN, "Han", "Hiragana", "Katakana")),
    frozenset((LATIN, "Han", "Bopomofo")),
    frozenset((LATIN, "Han", "Hangul")),
)
"""Scripts that are written in one word."""

# Drawn the same in most fonts.
_SAME: Final = {
    "а": "a", "с": "c", "ԁ": "d", "е": "e", "һ": "h", "і": "i", "ј": "j", "ӏ": "l", "о": "o",
    "р": "p", "ԛ": "q", "ѕ": "s", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y", "ү": "y",
    "α": "a", "γ": "y", "ι": "i", "ν": "v", "ο": "o", "ρ": "p", "υ": "u", "ϲ": "c", "ϳ": "j",
    "ց": "g", "հ": "h", "յ": "j", "ո": "n", "օ": "o", "զ": "q", "ս": "u",
}  # fmt: skip
# Drawn much alike, or the same as capitals or in some fonts.
_SIMILAR: Final = {
    "ь": "b", "ъ": "b", "в": "b", "ҫ": "c", "ԃ": "d", "є": "e", "ҽ": "e", "ғ": "f", "н": "h",
    "ң": "h", "ҥ": "h", "ӈ": "h", "ӊ": "h", "к": "k", "қ": "k", "ҝ": "k", "ҟ": "k", "ҡ": "k",
    "ӄ": "k", "м": "m", "п": "n", "ҏ": "p", "ԗ": "p", "г": "r", "ґ": "r", "т": "t", "ҭ": "t",
    "ѡ": "w", "ҳ": "x", "ӽ": "x", "ұ": "y", "з": "3", "ӡ": "3", "б": "6",
    "β": "b", "ε": "e", "κ": "k", "η": "n", "σ": "o", "τ": "t", "μ": "u", "ω": "w", "χ": "x",
    "ɑ": "a", "ƅ": "b", "ɡ": "g", "ı": "i", "ɩ": "i", "ɪ": "i", "ʟ": "l", "ʋ": "v", "ʏ": "y",
    "ա": "w",
}  # fmt: skip
_SAME_TABLE: Final = str.maketrans(_SAME)
_ALIKE_TABLE: Final = str.maketrans(_SAME | _SIMILAR)


def _script_edges() -> tuple[list[int], list[str]]:
    """Where each range begins, and behind its end "" until the next one."""
    spans = sorted(
        (int(first, 16), int(last, 16), script)
        for script, ranges in _RANGES
        for first, last in (span.split("-") for span in ranges.split())
    )
    edges = list(
        chain.from_iterable(((first, script), (last + 1, OTHER)) for first, last, script in spans)
    )
    return [edge for edge, _ in edges], [script for _, script in edges]


_EDGES, _SCRIPTS = _script_edges()


@lru_cache(maxsize=4_096)
def _script(character: str) -> str:
    """The script of a letter or number; "" for what belongs to none."""
    if character in _COMMON or unicodedata.category(character)[0] not in "LN":
        return ""
    if character.isascii() and character.isdigit():
        return ""
    at = bisect_right(_EDGES, ord(character))
    return _SCRIPTS[at - 1] if at else OTHER


def scripts(text: str) -> tuple[str, ...]:
    """The scripts of its letters, in the order they come."""
    if text.isascii():
        return (LATIN,) if any(map(str.isalpha, text[:CHARACTERS_MAX])) else ()
    return tuple(dict.fromkeys(filter(None, map(_script, text[:CHARACTERS_MAX]))))


def mixed_scripts(text: str) -> tuple[str, ...]:
    """The scripts of a word whose letters do not belong together; () where they do."""
    if text.isascii():
        return ()
    found = scripts(unicodedata.normalize("NFKC", text[:CHARACTERS_MAX]))
    if len(found) < 2 or any(together.issuperset(found) for together in _TOGETHER):
        return ()
    return found


def ascii_twin(text: str) -> str:
    """The ASCII text a word of other letters only is drawn like; "" when it is drawn like none."""
    if text.isascii():
        return ""
    folded = unicodedata.normalize("NFKC", text[:CHARACTERS_MAX]).casefold()
    twin = folded.translate(_SAME_TABLE)
    return twin if twin.isascii() and not folded.isascii() else ""


def skeleton(text: str) -> str:
    """Equal for texts that people may take for each other; nothing to be shown."""
    if text.isascii():
        return text.lower()
    drawn = text[:CHARACTERS_MAX].casefold().translate(_ALIKE_TABLE)
    drawn = unicodedata.normalize("NFKD", drawn).casefold().translate(_ALIKE_TABLE)
    seen = "".join(c for c in drawn if unicodedata.category(c) != "Cf" and c not in _INVISIBLE)
    return unicodedata.normalize("NFC", seen)


_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}
"""Beside the format characters (Cf)."""
