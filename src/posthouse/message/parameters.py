"""Values with parameters: Content-Type, Content-Disposition (RFC 2045 §5.1, RFC 2183, RFC 2231).

The parameters that BODYSTRUCTURE shows and those that filters look at are the same list (H29).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from posthouse.message import words

PARAMETERS_MAX: Final = 100
"""`mime.parameters_max`: parameters, and pieces of them, used of one field."""
KNOWN_OCTETS_MAX: Final = 120
"""Of a Content-Type that is remembered."""
VALUE_OCTETS_MAX: Final = 16_384
"""Of a field with parameters that are looked at."""

_TOKEN: Final = rb"[^\x00-\x20\x7f-\xff()<>@,;:\\\"/\[\]?=]"
_TYPE: Final = re.compile(rb"\s*+(" + _TOKEN + rb"{1,127})\s*+/\s*+(" + _TOKEN + rb"{1,127})")
_WORD: Final = re.compile(rb"\s*+(" + _TOKEN + rb"{1,127})")
_PARAMETER: Final = re.compile(
    rb"([^\s=;\"()]{1,200})\s*+=\s*+"
    rb'(?:"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)'
    # Not quoted, although blanks in it ask for that; a comment or the next name ends it.
    rb"|((?:[^;\s]++|\s++(?![(;]|[^\s=;]{1,60}=|\Z))*+))",
    re.DOTALL,
)
_COMMENT: Final = re.compile(rb"\((?:[^()\\]|\\.)*+\)", re.DOTALL)
_QUOTED: Final = re.compile(rb'[^";]*+(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)[^";]*+)*+;?', re.DOTALL)
_GAP: Final = re.compile(rb"(?:[;\s]++|\((?:[^()\\]|\\.)*+\))*+", re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_PIECE: Final = re.compile(rb"([^*]++)(?:\*(0|[1-9]\d{0,2}))?(\*)?")


class Parameters(msgspec.Struct, frozen=True):
    """Name and value of each parameter in order, names in lower case, the first of a name winning.

    Continuations are joined (RFC 2231 §3). A value with a charset (RFC 2231 §4) keeps its
    percent signs and has a name that ends in "*", so that who shows it and who decodes it agree.
    """

    items: tuple[tuple[bytes, bytes], ...] = ()
    doubtful: frozenset[bytes] = frozenset()
    """Names, without "*", that other readers may read another value for: given twice, in one piece
    and in several, or with a piece missing."""
    is_cut: bool = False
    """There are more than are read."""

    def is_doubtful(self, name: bytes) -> bool:
        return self.is_cut or name in self.doubtful

    def raw(self, name: bytes) -> bytes | None:
        """The value of a plain parameter as it stands, unquoted."""
        for item, value in self.items:
            if item == name:
                return value
        return None

    def text(self, name: bytes) -> str | None:
        """The value for people: decoded by RFC 2231, or encoded-words, which many senders put
        there although RFC 2047 §5 forbids it; without control characters."""
        extended = self.raw(name + b"*")
        if extended is not None:
            return words.shown(_decode_extended(extended))
        plain = self.raw(name)
        return None if plain is None else words.decode(plain)


def _decode_extended(value: bytes) -> str:
    charset, _, rest = value.partition(b"'")
    _, mark, text = rest.partition(b"'")
    if not mark:
        return words.to_text(unquote_to_bytes(value))
    return words.to_text(unquote_to_bytes(text), charset.decode("latin-1"))


def parse_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    """Type, subtype (lower case) and parameters of an unfolded Content-Type; None if malformed."""
    return _known_type(value) if len(value) <= KNOWN_OCTETS_MAX else _read_type(value)


def _read_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    is_cut, value = len(value) > VALUE_OCTETS_MAX, value[:VALUE_OCTETS_MAX]
    match = _TYPE.match(value)
    if match is None and b"(" in value:
        value = _COMMENT.sub(b" ", value)
        match = _TYPE.match(value)
    if match is None:
        return None
    return match[1].lower(), match[2].lower(), _parse(value, match.end(), is_cut=is_cut)


# Most mail has one of a few types; what is shared is never changed.
_known_type = lru_cache(maxsize=256)(_read_type)


def parse_disposition(value: bytes) -> tuple[bytes, Parameters] | None:
    """The type (lower case) and parameters of an unfolded Content-Disposition."""
    is_cut, value = len(value) > VALUE_OCTETS_MAX, value[:VALUE_OCTETS_MAX]
    match = _WORD.match(value)
    if match is None:
        return None
    return match[1].lower(), _parse(value, match.end(), is_cut=is_cut)


_NONE: Final = Parameters()


def _parse(value: bytes, at: int, *, is_cut: bool) -> Parameters:
    found: list[tuple[bytes, bytes]] = []
    has_pieces = False
    while at < len(value) and len(found) < PARAMETERS_MAX:
        gap = _GAP.match(value, at)
        assert gap is not None  # the pattern can be empty
        match = _PARAMETER.match(value, gap.end())
        if match is None:  # not one, or none without its ";": what counts begins at the next
            at = _separator(value, gap.end())
            continue
        name, quoted, plain = match.groups()
        at = match.end()
        if quoted is not None:
            plain = _QUOTED_PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        has_pieces = has_pieces or b"*" in name
        found.append((name.lower(), plain))
    is_cut = is_cut or at < len(value)
    if not found:
        return Parameters(is_cut=True) if is_cut else _NONE
    if has_pieces:
        return Parameters(tuple(_joined(found).items()), _doubtful(found), is_cut)
    if len(found) == 1:
        return Parameters((found[0],), is_cut=is_cut)
    items = tuple(dict(reversed(found)).items())[::-1]
    doubtful = _doubtful(found) if len(items) < len(found) else frozenset()
    return Parameters(items, doubtful, is_cut)


def _doubtful(found: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    forms: dict[bytes, dict[bytes, set[tuple[bytes, bytes]]]] = {}
    for name, value in found:
        base, _, form = name.partition(b"*")
        # Two pieces of one number are two, also where only one of them is encoded.
        form = form.removesuffix(b"*") if form else name.removeprefix(base)
        forms.setdefault(base, {}).setdefault(form, set()).add((name, value))
    return frozenset(base for base, given in forms.items() if not _is_clear(given))


def _is_clear(given: dict[bytes, set[tuple[bytes, bytes]]]) -> bool:
    """One value, in one piece or in all of them from the first to the last."""
    if any(len(values) > 1 for values in given.values()):
        return False
    in_one = not given.keys().isdisjoint((b"", b"*"))
    return len(given) == 1 if in_one else given.keys() == set(map(b"%d".__mod__, range(len(given))))


def _separator(value: bytes, at: int) -> int:
    """The offset behind the next ";" that no quotes hold."""
    match = _QUOTED.match(value, at)
    assert match is not None  # the pattern can be empty
    return match.end() if match.end() > at else at + 1


def _joined(found: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """RFC 2231 §3: pieces in the order of their numbers, up to the first gap; first wins (H29)."""
    pieces: dict[bytes, dict[int, tuple[bool, bytes]]] = {}
    whole: dict[bytes, bytes] = {}
    for name, value in found:
        match = _PIECE.fullmatch(name)
        if match is None or match[2] is None:
            whole.setdefault(name, value)
        else:
            pieces.setdefault(match[1], {}).setdefault(int(match[2]), (bool(match[3]), value))
    for name, numbered in pieces.items():
        run: list[tuple[bool, bytes]] = []
        while (piece := numbered.get(len(run))) is not None:
            run.append(piece)
        if not run:
            continue
        is_extended = run[0][0]
        joined = b"".join(
            value if is_encoded or not is_extended else value.replace(b"%", b"%25")
            for is_encoded, value in run
        )
        whole.setdefault(name + b"*" if is_extended else name, joined)
    return whole
