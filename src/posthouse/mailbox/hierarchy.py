"""The rules of mailbox names and of LIST's patterns. Pure.

Names are text in NFC with "/" between levels. They are data and never become paths (H54).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from posthouse.mailbox.errors import LimitReached, NameRefused, NoSuchMailbox

INBOX: Final = "INBOX"
DELIMITER: Final = "/"

# Controls (RFC 5198 §2), line separators, halves of surrogate pairs, and LIST's wildcards, which
# RFC 3501 §5.1 advises against.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff*%]")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the limits table; `config` fills it (`imap.mailboxes_max` and so on)."""

    mailboxes_max: int = 10_000
    name_octets_max: int = 1_000
    depth_max: int = 20
    subscriptions_max: int = 10_000


LIMITS: Final = Limits()


def checked(name: str, limits: Limits = LIMITS) -> str:
    """The name as it is stored: NFC, INBOX in capitals.

    Raises:
        NameRefused: empty, an empty level, a control character or a wildcard.
        LimitReached: too long or too deep.
    """
    if len(name) > limits.name_octets_max:  # before the work that long names would cost
        raise _too_long(limits)
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if not name:
        raise NameRefused("a mailbox needs a name")
    if _FORBIDDEN.search(name) is not None:
        raise NameRefused("that name has characters that no mailbox name may have")
    if len(name.encode()) > limits.name_octets_max:
        raise _too_long(limits)
    first, *rest = name.split(DELIMITER)
    if not first or "" in rest:
        raise NameRefused("that name has a level without a name")
    if len(rest) + 1 > limits.depth_max:
        raise LimitReached(
            "that name has too many levels", setting="imap.hierarchy_max", limit=limits.depth_max
        )
    if first.upper() == INBOX:  # RFC 9051 §5.1; the same mailbox as a parent, too
        first = INBOX
    return DELIMITER.join((first, *rest))


def _too_long(limits: Limits) -> LimitReached:
    return LimitReached(
        "that name is too long", setting="imap.name_octets_max", limit=limits.name_octets_max
    )


def checked_for_lookup(name: str) -> str:
    """The stored spelling of a name somebody wants to use.

    Raises:
        NoSuchMailbox: no mailbox could have that name.
        LimitReached: too long or too deep.
    """
    if name == INBOX:
        return name
    try:
        return checked(name)
    except NameRefused as error:
        raise NoSuchMailbox("there is no such mailbox") from error


def superiors(name: str) -> Iterator[str]:
    """The names above, from the top."""
    at = name.find(DELIMITER)
    while at >= 0:
        yield name[:at]
        at = name.find(DELIMITER, at + 1)


class Pattern:
    """A pattern of LIST: `*` matches anything, `%` anything but "/" (RFC 9051 §6.3.9).

    Matching goes through a name once, with the set of positions in the pattern that are reached
    as the bits of one integer: no pattern makes it go back (H54).
    """

    __slots__ = ("_any", "_literals", "_prefix", "_wild", "is_everything", "size")

    def __init__(self, text: str, limits: Limits = LIMITS) -> None:
        text = re.sub(r"[*%]*\*[*%]*", "*", re.sub("%+", "%", text))
        literals = len(text) - text.count("*") - text.count("%")
        if literals > limits.name_octets_max:  # longer than any name
            text = "/"
        elif not text.isascii():
            text = unicodedata.normalize("NFC", text)
        head = re.match("[^*%/]*+", text)
        assert head is not None  # it may be empty
        if head[0].upper() == INBOX and text[head.end() : head.end() + 1] in ("", DELIMITER):
            text = INBOX + text[head.end() :]
        self.is_everything = text == "*"
        self._prefix = re.split("[*%]", text, maxsplit=1)[0]
        self._literals: dict[str, int] = {}
        self._any = level = 0
        for at, character in enumerate(text):
            if character == "*":
                self._any |= 1 << at
            elif character == "%":
                level |= 1 << at
            else:
                self._literals[character] = self._literals.get(character, 0) | 1 << at
        self._wild = self._any | level
        self.size = len(text)

    def matches(self, name: str) -> bool:
        if self.is_everything:
            return True
        if not name.startswith(self._prefix):
            return False
        if not self._wild:
            return name == self._prefix
        wild, any_, literals = self._wild, self._any, self._literals
        reached = 1
        reached |= (reached & wild) << 1
        for character in name:
            stays = any_ if character == DELIMITER else wild
            reached = ((reached & literals.get(character, 0)) << 1) | (reached & stays)
            if not reached:
                return False
            reached |= (reached & wild) << 1
        return bool(reached >> self.size & 1)


def with_superiors(names: Iterable[str]) -> set[str]:
    """The names and every level above them."""
    every = set(names)
    for name in tuple(every):
        every.update(superiors(name))
    return every
