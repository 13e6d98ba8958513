"""Text that is drawn like other text (H49)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.lookalike import ascii_twin, mixed_scripts, scripts, skeleton

# What Unicode's names of letters say, for scripts whose names they begin with.
NAMES = {
    "LATIN": "Latin",
    "GREEK": "Greek",
    "CYRILLIC": "Cyrillic",
    "ARMENIAN": "Armenian",
    "HEBREW": "Hebrew",
    "ARABIC": "Arabic",
    "DEVANAGARI": "Devanagari",
    "THAI": "Thai",
    "GEORGIAN": "Georgian",
    "CHEROKEE": "Cherokee",
    "COPTIC": "Coptic",
    "LISU": "Lisu",
    "HANGUL": "Hangul",
    "HIRAGANA": "Hiragana",
    "KATAKANA": "Katakana",
    "BOPOMOFO": "Bopomofo",
    "CJK": "Han",
}
# Beyond the ranges of our table: scripts' supplements nobody types names with.
BEYOND = range(0x1AFF0, 0x20000)


def test_the_ranges_agree_with_unicodes_names() -> None:
    wrong = []
    for code in range(0x20000):
        character = chr(code)
        if unicodedata.category(character) not in ("Lu", "Ll", "Lo") or code in BEYOND:
            continue
        if unicodedata.normalize("NFKC", character) != character or 0x10000 <= code < 0x1AFF0:
            continue
        word = unicodedata.name(character, "?").split()[0].split("-")[0]
        if word in NAMES and scripts(character) not in ((NAMES[word],), ()):
            wrong.append((hex(code), unicodedata.name(character), scripts(character)))
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "mixed"),
    [
        ("paypal", ()),
        ("раypal", ("Cyrillic", "Latin")),
        ("gοοgle", ("Latin", "Greek")),
        ("иван", ()),
        ("иван.petrov", ("Cyrillic", "Latin")),
        ("иван2", ()),
        ("zoë", ()),
        ("ｐａｙｐａｌ", ()),  # the same letters, wide
        ("日本語テストabc", ()),
        ("한국abc漢", ()),
        ("ㄅㄆ漢a", ()),
        ("ひらхорошо", ("Hiragana", "Cyrillic")),
        ("한ひ", ("Hangul", "Hiragana")),
        ("ꭰpple", ("Cherokee", "Latin")),
        ("ꓮpple", ("Lisu", "Latin")),
        ("𐌰bc", ("other", "Latin")),
        ("αβγ", ()),
        ("日々のー〇", ()),
        ("ʻokina", ()),
        ("٣abc", ("Arabic", "Latin")),
        ("০abc", ("Bengali", "Latin")),  # a zero drawn like "o"
        ("-_.+", ()),
    ],
)
def test_scripts_that_do_not_belong_together(text: str, mixed: tuple[str, ...]) -> None:
    assert mixed_scripts(text) == mixed


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("аррӏе", "apple"),
        ("ѕсоре", "scope"),
        ("АРР", "app"),  # capitals, too
        ("ορα", "opa"),
        ("сосо-1", "coco-1"),
        ("москва", ""),
        ("paypal", ""),
        ("bücher", ""),
        ("ｐａｙ", ""),  # mapped, not drawn alike
    ],
)
def test_words_drawn_like_ascii(text: str, twin: str) -> None:
    assert ascii_twin(text) == twin


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("admin", "АDMIN"),
        ("admin", "аdmin"),
        ("coco", "сосо"),
        ("bob", "bob\u200b"),
        ("bob", "b\u00adob"),
        ("bob", "bob\ufe0f"),
        ("zoë", "zoe\u0308"),
        ("zoë", "zоё"),  # Cyrillic о, ё
        ("ada", "\uff41da"),
        ("ı", "i"),
        ("mockba", "москва"),
        ("ϲara", "cara"),
    ],
)
def test_skeletons_of_what_is_drawn_alike_are_equal(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


def test_skeletons_of_others_are_not() -> None:
    names = [
        "anna",
        "zoe",
        "zoë",
        "müller",
        "muller",
        "иван",
        "ivan",
        "пётр",
        "петя",
        "paul1",
        "paull",
    ]
    assert len({skeleton(name) for name in names}) == len(names)


@given(st.text(max_size=50))
def test_any_text_has_a_skeleton_that_keeps(text: str) -> None:
    drawn = skeleton(text)
    assert skeleton(drawn) == drawn or not drawn.isascii()
    mixed_scripts(text)
    ascii_twin(text)
