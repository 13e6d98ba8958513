"""Addresses in header fields, read as tolerantly as mail needs (RFC 5322 §3.4, §4.4, RFC 6532).

One reading for everybody: what ENVELOPE shows is what DMARC judges and what submission compares
(H33). Linear, bounded and without recursion, whatever a value holds (H26, H39).
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import words
from posthouse.message.address import (
    LOCAL_PART_REMOTE_OCTETS_MAX,
    AddressError,
    parse_mailbox,
    quote_local_part,
)
from posthouse.message.fields import FIELD_OCTETS_MAX, unfold

ADDRESSES_MAX: Final = 2_000
"""`message.addresses_max`."""
TOKENS_PER_ADDRESS: Final = 12
TOKENS_MIN: Final = 1_000
"""Tokens read besides the common forms, for each address that may be: 100 KiB of "@" and brackets
would otherwise cost a tenth of a second each time somebody looks (P10)."""

_ATEXT: Final = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff\-"
# The common forms, one address at a time: `"Name" <a@b>`, `Name <a@b>`, `a@b`.
_COMMON: Final = re.compile(
    rb'[ \t]*+(?:"([^"\\]*+)"[ \t]*+(?=<)|([' + _ATEXT + rb". ]*+))"
    rb"(?:<([" + _ATEXT + rb".]++)@([A-Za-z0-9\x80-\xff.\-]++)>|@([A-Za-z0-9\x80-\xff.\-]++))"
    rb"[ \t]*+(?:,|\Z)"
)
_TOKEN: Final = re.compile(
    rb"[ \t]++"  # blanks
    rb'|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'  # a quoted string, to the end where it is not closed
    rb"|\[(?:[^\[\]\\]|\\.)*+(?:\]|\\?\Z|(?=\[))"  # a domain literal
    rb"|[()<>:;@,]"
    rb'|(?:[^ \t()<>:;@,"\[\\]|\\.?)++',  # an atom with dots, and junk
    re.DOTALL,
)
_COMMENT: Final = re.compile(rb"((?:[^()\\]|\\.)*+)([()]|\\?\Z)", re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One item of an address list, in the four-part form that ENVELOPE has (RFC 3501 §7.4.2).

    A mailbox has a `local_part` and a `domain` (empty where the text had none); a group begins
    with its name as `local_part` and no `domain`, and ends with neither.
    """

    name: bytes | None
    """The display name, unquoted, its encoded-words as they are; else a comment's text."""
    local_part: bytes | None
    """Unquoted."""
    domain: bytes | None
    """As written."""

    @property
    def is_mailbox(self) -> bool:
        return self.domain is not None

    @property
    def display_name(self) -> str:
        """Decoded, without control characters; "" for none."""
        return words.decode(self.name) if self.name else ""

    def address(self) -> Address | None:
        """As SMTP would carry it, or None for a group or what SMTP cannot carry."""
        if not self.local_part or not self.domain:
            return None
        try:
            local_part = quote_local_part(self.local_part.decode("utf-8"))
            return parse_mailbox(
                f"{local_part}@{self.domain.decode('utf-8')}",
                local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX,
            )
        except (UnicodeDecodeError, AddressError):
            return None


_GROUP_END: Final = Listed(None, None, None)


class AddressList(msgspec.Struct, frozen=True):
    items: tuple[Listed, ...]
    is_malformed: bool = False
    """Readers could see other addresses than we do."""
    is_truncated: bool = False
    """There were more than `addresses_max` items, or the field was too long."""

    def mailboxes(self) -> list[Listed]:
        return [item for item in self.items if item.is_mailbox]

    def addresses(self) -> list[Address]:
        """Those that SMTP can carry, in order, repeats kept."""
        return [address for item in self.items if (address := item.address()) is not None]


def parse_address_list(value: bytes, *, addresses_max: int = ADDRESSES_MAX) -> AddressList:
    """Read a From, To, Cc, Reply-To … value; raw octets or unfolded. Never raises.

    Args:
        addresses_max: items (mailboxes and group marks) read, and tokens for so many;
            `is_truncated` tells of more.
    """
    is_cut = len(value) > FIELD_OCTETS_MAX
    text = unfold(value[:FIELD_OCTETS_MAX]).replace(b"\r", b" ").replace(b"\0", b" ")
    items: list[Listed] = []
    at = 0
    while at < len(text) and len(items) < addresses_max:
        match = _COMMON.match(text, at)
        if match is None:
            return _Reader(text, at, items, addresses_max).read(is_truncated=is_cut)
        quoted, phrase, local_part, domain, bare_domain = match.groups()
        if bare_domain is None:
            name = quoted if quoted is not None else phrase.rstrip()
            items.append(Listed(name or None, local_part, domain))
        elif phrase and b" " not in phrase:
            items.append(Listed(None, phrase, bare_domain))
        else:
            return _Reader(text, at, items, addresses_max).read(is_truncated=is_cut)
        at = match.end()
    return AddressList(tuple(items), is_truncated=is_cut or at < len(text))


class _Word(msgspec.Struct, frozen=True, gc=False):
    octets: bytes
    is_quoted: bool
    is_apart: bool
    """A blank or comment stands before it."""


class _State(Enum):
    OUTSIDE = auto()  # of angle brackets
    INSIDE = auto()
    BEHIND = auto()  # the item has had its brackets


class _Reader:
    """Reads a whole list token by token; one item is open at a time, groups are a flag."""

    def __init__(self, text: bytes, at: int, items: list[Listed], items_max: int) -> None:
        self._text = text
        self._at = at
        self._items = items
        self._items_max = items_max
        self._tokens_left = max(TOKENS_MIN, TOKENS_PER_ADDRESS * items_max)
        self._in_group = False
        self._is_malformed = False
        self._reset()

    def _reset(self) -> None:
        self._state = _State.OUTSIDE
        self._words: list[_Word] = []  # since the last "@", bracket or separator
        self._phrase: list[_Word] = []  # in front of the bracket
        self._before_at: list[_Word] | None = None
        self._claimed: tuple[bytes, bytes] | None = None  # an address in front of the bracket
        self._comment = b""
        self._is_apart = False

    def read(self, *, is_truncated: bool) -> AddressList:
        text = self._text
        while self._at < len(text) and len(self._items) < self._items_max and self._tokens_left:
            self._tokens_left -= 1
            match = _TOKEN.match(text, self._at)
            assert match is not None  # every octet begins some token
            self._at = match.end()
            self._take(match[0])
        is_truncated = is_truncated or self._at < len(text)
        if not is_truncated:
            self._flush()
        if self._in_group:
            self._items.append(_GROUP_END)
        return AddressList(tuple(self._items), self._is_malformed, is_truncated)

    def _take(self, token: bytes) -> None:
        kind = token[0:1]
        if kind in b" \t":
            self._is_apart = True
        elif kind == b'"':
            self._add(_unquoted(token[1:]), is_quoted=True)
            self._is_malformed |= not _is_closed(token, b'"')
        elif kind == b"(":
            self._skip_comment()
        elif len(token) > 1 or kind not in b"<>:;@,)":
            self._is_malformed |= b"\\" in token or (kind == b"[" and not _is_closed(token, b"]"))
            self._add(token, is_quoted=False)
        elif kind == b")":
            self._is_malformed = True
        else:
            self._take_special(kind)

    def _add(self, octets: bytes, *, is_quoted: bool) -> None:
        self._words.append(_Word(octets, is_quoted, self._is_apart))
        self._is_apart = False

    def _take_special(self, kind: bytes) -> None:
        is_inside = self._state is _State.INSIDE
        if kind == b"<":
            self._open_bracket()
        elif kind == b">":
            self._is_malformed |= not is_inside
            self._state = _State.BEHIND if is_inside else self._state
        elif kind == b"@":
            self._take_at()
        elif kind == b":":
            if is_inside:  # a source route ends here (RFC 5322 §4.4); it is not kept
                self._before_at, self._words = None, []
            else:
                self._begin_group()
        elif is_inside and kind == b",":
            self._words = []  # between the hosts of a source route
        elif kind == b",":
            self._flush()
        else:
            self._flush()
            self._is_malformed |= not self._in_group
            if self._in_group:
                self._items.append(_GROUP_END)
            self._in_group = False

    def _take_at(self) -> None:
        if self._before_at is not None:
            # Two of them: the last one that is not quoted divides (H33, H66).
            self._is_malformed |= bool(self._before_at)
            self._before_at += [_Word(b"@", False, False), *self._words]
        else:
            self._before_at = self._words
        self._words = []

    def _open_bracket(self) -> None:
        if self._state is not _State.OUTSIDE:
            self._is_malformed = True  # two addresses without a comma: both count
            self._flush()
        phrase = self._words
        if self._before_at is not None:
            # `a@good <b@bad>`: what stands in front is only a name, and harmless if it is the same.
            self._claimed = _joined(self._before_at).lower(), _joined(self._words).lower()
            phrase = [*self._before_at, _Word(b"@", False, False), *self._words]
        self._phrase, self._words, self._before_at = phrase, [], None
        self._state = _State.INSIDE

    def _begin_group(self) -> None:
        if self._in_group:
            self._is_malformed = True  # groups do not nest (RFC 5322 §3.4)
            self._items.append(_GROUP_END)
        name = self._words
        if self._before_at is not None or self._state is _State.BEHIND:
            self._is_malformed = True
            name = [*self._phrase, *(self._before_at or []), *name]
        self._items.append(Listed(None, _phrase_text(name), None))
        self._in_group = True
        self._reset()

    def _skip_comment(self) -> None:
        """To the comment's end; comments nest (RFC 5322 §3.2.2), so they are counted."""
        depth, start = 1, self._at
        while depth:
            match = _COMMENT.match(self._text, self._at)
            assert match is not None  # the pattern matches at every offset
            self._at = match.end()
            if match[2] == b"(":
                depth += 1
            elif match[2] == b")":
                depth -= 1
            else:
                self._is_malformed = True
                break
        end = self._at if depth else self._at - 1
        self._comment = _QUOTED_PAIR.sub(rb"\1", self._text[start:end]).strip()
        self._is_apart = True

    def _flush(self) -> None:
        """The open item is complete."""
        if self._state is _State.OUTSIDE:
            self._flush_bare()
        else:
            self._is_malformed |= self._state is _State.INSIDE
            name = _phrase_text(self._phrase) or self._comment or None
            if self._before_at is not None:
                local_part, domain = _joined(self._before_at), _joined(self._words)
                found = local_part.lower(), domain.lower()
                self._is_malformed |= self._claimed not in (None, found)
                self._append(name, local_part, domain)
            elif self._words:
                self._is_malformed = True
                self._append(name, _joined(self._words), b"")
            elif name:
                self._is_malformed = True  # `Name <>`
                self._append(name, b"", b"")
        self._reset()

    def _flush_bare(self) -> None:
        before, behind = self._before_at, self._words
        if before is None:
            if behind:
                self._is_malformed = True
                self._append(self._comment or None, _joined(behind), b"")
            return
        # Words that no dot joins to the local-part are a name without its brackets.
        cut = len(before)
        while cut > 1 and _joins(before[cut - 2], before[cut - 1]):
            cut -= 1
        cut = max(cut - 1, 0)
        end = 1
        while end < len(behind) and _joins(behind[end - 1], behind[end]):
            end += 1
        stray = [*before[:cut], *behind[end:]]
        self._is_malformed |= bool(stray)
        name = _phrase_text(stray) or self._comment or None
        self._append(name, _joined(before[cut:]), _joined(behind[:end]))

    def _append(self, name: bytes | None, local_part: bytes, domain: bytes) -> None:
        self._is_malformed |= not (local_part and domain)
        self._items.append(Listed(name, local_part, domain))


def _joins(left: _Word, right: _Word) -> bool:
    """Whether two words are one local-part or domain: touching, or with a dot between them."""
    if not right.is_apart:
        return True
    return (right.octets.startswith(b".") and not right.is_quoted) or (
        left.octets.endswith(b".") and not left.is_quoted
    )


def _joined(parts: list[_Word]) -> bytes:
    out = []
    for index, word in enumerate(parts):
        if index and not _joins(parts[index - 1], word):
            out.append(b" ")
        out.append(word.octets)
    return b"".join(out)


def _phrase_text(parts: list[_Word]) -> bytes:
    return b"".join(b" " + word.octets if word.is_apart else word.octets for word in parts).strip()


def _unquoted(rest: bytes) -> bytes:
    """What a quoted string means; `rest` is all behind its opening quote."""
    if b"\\" not in rest:
        return rest.removesuffix(b'"')
    # Only an unescaped quote closes, and pairs are read from the left.
    plain = _QUOTED_PAIR.sub(rb"\1", rest)
    return plain[:-1] if _is_closed(b'"' + rest, b'"') else plain


def _is_closed(token: bytes, closing: bytes) -> bool:
    """Whether the token's last octet closes it (is not escaped, and not the opening one)."""
    if len(token) < 2 or not token.endswith(closing):
        return False
    body = token[:-1]
    return (len(body) - len(body.rstrip(b"\\"))) % 2 == 0
