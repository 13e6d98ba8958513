"""The addresses a caller names: read strictly, as a doubtful one would go to somebody else (H66).

Header fields of others' mail are read as tolerantly as mail needs; what a program is about to send
is not. One reader does both (`message.address_list`), and what it calls malformed is refused here.
The domain is what stands behind the last `@` that no quotes hold; groups are a flag, not a depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from posthouse.kernel.envelope import Address
from posthouse.message import build, words
from posthouse.message.address import (
    LOCAL_PART_REMOTE_OCTETS_MAX,
    AddressError,
    parse_mailbox,
    quote_local_part,
)
from posthouse.message.address_list import Listed, parse_address_list
from posthouse.message.build import BuildError, Group
from posthouse.message.fields import FIELD_OCTETS_MAX
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Mailbox, Names
from posthouse.sending.naming import fault, shown

__all__ = ["Named", "mailboxes_of", "one_address", "one_mailbox", "read_names"]

TEXTS_KEPT: Final = 4_096
"""Texts whose addresses are remembered: the sender of a thousand messages is read once."""

Named = build.Mailbox | Group


def read_names(field: str, names: Names) -> tuple[Named, ...]:
    """All that a To, Cc, Bcc or Reply-To argument names, in order.

    Raises:
        MessageError: `field` is "to", or "to[2]" for one of several.
    """
    if isinstance(names, (str, Mailbox)):
        return _read_one(field, names)
    found: list[Named] = []
    for at, name in enumerate(_several(field, names)):
        inner = f"{field}[{at}]"
        if name == "":
            raise fault(inner, "this is empty")
        found += _read_one(inner, name)
    return tuple(found)


def one_mailbox(field: str, name: str | Mailbox) -> build.Mailbox:
    """The one mailbox that a sender is. Raises MessageError."""
    found = _read_one(field, name)
    if len(found) == 1 and isinstance(found[0], build.Mailbox):
        return found[0]
    said = "there is no address" if not found else "this has to be one address"
    raise fault(field, f"{said}, and {shown(str(name))} was given")


def one_address(field: str, name: str) -> Address:
    """As `one_mailbox`, for the envelope, which knows no names."""
    return one_mailbox(field, name).address


def mailboxes_of(named: Iterable[Named]) -> Iterator[build.Mailbox]:
    """The mailboxes, those in groups too."""
    for one in named:
        if isinstance(one, Group):
            yield from one.mailboxes
        else:
            yield one


def _read_one(field: str, name: str | Mailbox) -> tuple[Named, ...]:
    try:
        if isinstance(name, str):
            return _read_text(name)
        if isinstance(name, Mailbox):
            return (_read_mailbox(name),)
    except BuildError as error:
        raise fault(field, error.reason) from None
    except _Doubt as doubt:
        raise fault(field, str(doubt), hint=doubt.hint) from None
    raise _no_name(field, name)


def _several(field: str, names: object) -> Iterable[str | Mailbox]:
    if not isinstance(names, Iterable) or isinstance(names, bytes):
        raise _no_name(field, names)
    return names


def _no_name(field: str, name: object) -> MessageError:
    hint = 'write "bob@example.net", or Mailbox("bob@example.net", "Bob")'
    if name is None and field != "sender":
        hint = "leave the argument out where there is nobody"
    kind = type(name).__name__
    return fault(field, f"this is {kind}; give text, a Mailbox, or a list of them", hint=hint)


class _Doubt(ValueError):
    """A text that may not mean what its writer thinks."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def _read_mailbox(name: Mailbox) -> build.Mailbox:
    if not isinstance(name.address, str) or not isinstance(name.name, str):
        raise _Doubt("the address and the name of a Mailbox have to be text (str)")
    build.checked("To", name.name)
    return build.Mailbox(_parse(name.address), name.name)


def _parse(text: str) -> Address:
    build.checked("To", text)
    try:
        return parse_mailbox(text, local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX)
    except AddressError as error:
        raise _Doubt(f"{shown(text)} is no address: {error.fault.value}") from None


@lru_cache(maxsize=TEXTS_KEPT)
def _read_text(text: str) -> tuple[Named, ...]:
    build.checked("To", text)
    octets = text.encode("utf-8")
    if len(octets) > FIELD_OCTETS_MAX:
        said = f"this text is longer than {FIELD_OCTETS_MAX >> 10} KiB"
        raise _Doubt(said, "give the addresses as a list")
    listed = parse_address_list(octets)
    if listed.is_truncated:
        raise _Doubt("there are too many addresses in one text", "give them as a list")
    found: list[Named] = []
    group: tuple[str, list[build.Mailbox]] | None = None
    for item in listed.items:
        if item.is_mailbox:
            (found if group is None else group[1]).append(_mailbox(item, text))
        elif item.local_part is not None:
            group = (words.decode(item.local_part), [])
        elif group is not None:
            found.append(Group(group[0], tuple(group[1])))
            group = None
    if listed.is_malformed or not (listed.items or text.strip(" ,") == ""):
        hint = _HINT_SEMICOLON if ";" in text else _HINT
        raise _Doubt(f"{shown(text)} can be read in more than one way", hint)
    return tuple(found)


_HINT: Final = (
    "write `Name <local@domain>`; a name with other than letters needs quotes, or Mailbox"
)
_HINT_SEMICOLON: Final = "addresses have commas between them, or are given as a list"


def _mailbox(item: Listed, written: str) -> build.Mailbox:
    if not item.domain:
        text = (item.local_part or item.name or b"").decode("utf-8")
        why = "has nothing behind its @" if f"{text}@" in written else "has no @"
        raise _Doubt(f"{shown(text)} {why} and so is no address", _HINT)
    address = item.address()
    if address is None:
        local_part = quote_local_part((item.local_part or b"").decode("utf-8"))
        address = _parse(f"{local_part}@{item.domain.decode('utf-8')}")
    return build.Mailbox(address, item.display_name)
