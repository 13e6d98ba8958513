"""The keys of SEARCH (RFC 3501 §6.4.4), to a tree of values.

Read without recursion: `depth_max` bounds the nesting, `search_keys_max` the number of keys (H52).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from posthouse.protocol.imap.grammar import BadCommand, Reader, SequenceSet


class Relation(Enum):
    """How a date or size compares: `BEFORE` and `SMALLER` are below, `SINCE` from that day on."""

    BELOW = "<"
    EQUAL = "="
    FROM = ">="
    ABOVE = ">"


class All(msgspec.Struct, frozen=True):
    pass


class HasFlag(msgspec.Struct, frozen=True):
    """A system flag in its usual spelling, `\\Recent`, or a keyword."""

    flag: bytes
    is_set: bool = True


class InSet(msgspec.Struct, frozen=True):
    """Sequence numbers or, with `by_uid`, UIDs."""

    messages: SequenceSet
    by_uid: bool


class Field(msgspec.Struct, frozen=True):
    """A header field holds the text; empty text: it is there at all. `name` in upper case."""

    name: bytes
    text: str


class Contains(msgspec.Struct, frozen=True):
    """The body or, with `with_header`, the whole message holds the text."""

    text: str
    with_header: bool


class Received(msgspec.Struct, frozen=True):
    """INTERNALDATE's day, in days since 1970, whatever its time and zone."""

    relation: Relation
    day: int


class Sent(msgspec.Struct, frozen=True):
    """The Date field's day."""

    relation: Relation
    day: int


class Size(msgspec.Struct, frozen=True):
    relation: Relation
    octets: int


class Not(msgspec.Struct, frozen=True):
    key: SearchKey


class Or(msgspec.Struct, frozen=True):
    left: SearchKey
    right: SearchKey


class And(msgspec.Struct, frozen=True):
    keys: tuple[SearchKey, ...]


SearchKey = All | HasFlag | InSet | Field | Contains | Received | Sent | Size | Not | Or | And

_FLAG_KEYS: Final[dict[bytes, SearchKey]] = {
    prefix + flag.upper(): HasFlag(b"\\" + flag, not prefix)
    for prefix in (b"", b"UN")
    for flag in (b"Seen", b"Answered", b"Flagged", b"Deleted", b"Draft")
}
_FIXED: Final[dict[bytes, SearchKey]] = _FLAG_KEYS | {
    b"ALL": All(),
    b"NEW": And((HasFlag(b"\\Recent"), HasFlag(b"\\Seen", False))),
    b"OLD": HasFlag(b"\\Recent", False),
    b"RECENT": HasFlag(b"\\Recent"),
}
_DATES: Final[dict[bytes, tuple[type[Received] | type[Sent], Relation]]] = {
    b"BEFORE": (Received, Relation.BELOW),
    b"ON": (Received, Relation.EQUAL),
    b"SINCE": (Received, Relation.FROM),
    b"SENTBEFORE": (Sent, Relation.BELOW),
    b"SENTON": (Sent, Relation.EQUAL),
    b"SENTSINCE": (Sent, Relation.FROM),
}
_SIZES: Final = {b"LARGER": Relation.ABOVE, b"SMALLER": Relation.BELOW}
_FIELDS: Final = frozenset((b"FROM", b"TO", b"CC", b"BCC", b"SUBJECT"))
_CHARSETS: Final = {b"US-ASCII": "ascii", b"UTF-8": "utf-8"}


class UnknownCharset(BadCommand):
    """NO [BADCHARSET (US-ASCII UTF-8)] is owed (RFC 3501 §6.4.4)."""


class _Group:
    """An unfinished NOT, OR or parenthesis on the stack."""

    __slots__ = ("keys", "kind", "wanted")

    def __init__(self, kind: bytes, wanted: int) -> None:
        self.kind = kind
        self.wanted = wanted
        """Keys it needs; 0 takes any number until its end."""
        self.keys: list[SearchKey] = []


def read_search(reader: Reader) -> SearchKey:
    """The whole of SEARCH's arguments, CHARSET included.

    Without CHARSET the text is read as UTF-8 and, where it is none, as it would be in Latin-1:
    clients send what their users typed.
    """
    charset = ""
    if reader.accept(b"CHARSET "):
        name = reader.astring().upper()
        if name not in _CHARSETS:
            raise UnknownCharset("Unknown charset")
        charset = _CHARSETS[name]
        reader.space()
    return _read_keys(reader, charset)


def _read_keys(reader: Reader, charset: str) -> SearchKey:
    stack = [_Group(b"", 0)]
    count = 0
    while True:
        count += 1
        if count > reader.limits.search_keys_max:
            raise BadCommand("Too many search keys", code="LIMIT", limit="search_keys_max")
        key = _read_key(reader, charset)
        if isinstance(key, _Group):
            stack.append(key)
            if len(stack) > reader.limits.depth_max:
                raise BadCommand(
                    "Search keys are nested too deeply", code="LIMIT", limit="depth_max"
                )
            continue
        _place(stack, key)
        while reader.accept(b")"):
            if len(stack) == 1 or stack[-1].kind != b"(":
                raise BadCommand("Unexpected closing parenthesis")
            _place(stack, _joined(stack.pop().keys))
        if reader.at_end():
            break
        reader.space()
    if len(stack) != 1:
        raise BadCommand("Search key is unfinished")
    return _joined(stack[0].keys)


def _place(stack: list[_Group], key: SearchKey) -> None:
    """Give a finished key to the group it belongs to, and finish what it completes."""
    while True:
        group = stack[-1]
        group.keys.append(key)
        if not group.wanted or len(group.keys) < group.wanted:
            return
        stack.pop()
        key = Not(group.keys[0]) if group.wanted == 1 else Or(group.keys[0], group.keys[1])


def _joined(keys: list[SearchKey]) -> SearchKey:
    return keys[0] if len(keys) == 1 else And(tuple(keys))


def _read_key(reader: Reader, charset: str) -> SearchKey | _Group:
    """A finished key, or a group that needs more; an opening group takes its space with it."""
    if reader.accept(b"("):
        return _Group(b"(", 0)
    if reader.at_sequence_set():
        return InSet(reader.sequence_set(), by_uid=False)
    name = reader.word()
    if (fixed := _FIXED.get(name)) is not None:
        return fixed
    reader.space()
    if name == b"NOT":
        return _Group(name, 1)
    if name == b"OR":
        return _Group(name, 2)
    if name in _DATES:
        kind, relation = _DATES[name]
        return kind(relation, reader.date())
    if name in _SIZES:
        return Size(_SIZES[name], reader.number())
    if name in (b"KEYWORD", b"UNKEYWORD"):
        return HasFlag(reader.atom(), name == b"KEYWORD")
    if name == b"UID":
        return InSet(reader.sequence_set(), by_uid=True)
    return _read_text_key(name, reader, charset)


def _read_text_key(name: bytes, reader: Reader, charset: str) -> SearchKey:
    if name in _FIELDS:
        return Field(name, _text(reader, charset))
    if name == b"HEADER":
        field = reader.astring().upper()
        reader.space()
        return Field(field, _text(reader, charset))
    if name in (b"BODY", b"TEXT"):
        return Contains(_text(reader, charset), with_header=name == b"TEXT")
    raise BadCommand("Unknown search key")


def _text(reader: Reader, charset: str) -> str:
    octets = reader.astring()
    try:
        return octets.decode(charset or "utf-8")
    except UnicodeDecodeError:
        if charset:
            raise BadCommand("Search text is not in its charset") from None
        return octets.decode("latin-1")
