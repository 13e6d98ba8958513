"""Autocrypt (Level 1, https://autocrypt.org/level1.html): the author's key in a header field of
mail, and the keys of the other recipients inside what is encrypted, which are written here and
never believed: anybody may say whose a key is, and Autocrypt encrypts by that only where a person
asks for it.

Nothing proves such a key but that the field came from where the mail says. Whoever learns from it
has to know that (a DKIM signature on the field, SPF), and prefers a key that somebody vouches for.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from posthouse.message.address import (
    LOCAL_PART_REMOTE_OCTETS_MAX,
    AddressError,
    format_address,
    parse_mailbox,
)
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import HeaderSection, unfold

FIELD: Final = b"autocrypt"
KEY_OCTETS_MAX: Final = 10 * 1024
"""The specification asks readers for as much; larger keys do not travel in header fields."""
FIELDS_MAX: Final = 50
"""Fields of one message that are looked at."""
_LINE: Final = 76
_ATTRIBUTE: Final = re.compile(rb"[ \t]*([A-Za-z_][A-Za-z0-9_-]*)[ \t]*=([^;]*)")


class Autocrypt(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    key: bytes
    """Binary; whether it is a certificate at all the caller has to see."""
    prefers_encryption: bool = False
    """prefer-encrypt=mutual: encrypt where both sides say so."""


def read(section: HeaderSection) -> Autocrypt | None:
    """The author's, where there is one author and one field that is valid for that address (§2.1,
    "Deriving a Parsed Autocrypt Header Field")."""
    authors = [section.value(field) for field in section.fields if field.name == b"from"]
    if len(authors) != 1:
        return None
    listed = parse_address_list(authors[0], addresses_max=2)
    addresses = listed.addresses()
    if len(addresses) != 1 or listed.is_malformed:
        return None
    author = format_address(addresses[0])
    found = [one for one in _fields(section) if _is_same(one.address, author)]
    return found[0] if len(found) == 1 else None


def field(found: Autocrypt, *, is_gossip: bool = False) -> bytes:
    """A whole field with its CRLF.

    Args:
        is_gossip: of another recipient, for the inside of what is encrypted to all of them (§2.2);
            their wish (prefer-encrypt) is theirs to say.

    Raises:
        ValueError: the key is too large to travel so, or the address cannot stand there.
    """
    if len(found.key) > KEY_OCTETS_MAX:
        raise ValueError("the key is too large for a header field")
    if not found.address.isascii() or any(c in found.address for c in "; \t\r\n"):
        raise ValueError("the address cannot stand in an Autocrypt field")
    name = "Autocrypt-Gossip" if is_gossip else "Autocrypt"
    prefers = " prefer-encrypt=mutual;" if found.prefers_encryption and not is_gossip else ""
    text = base64.b64encode(found.key).decode("ascii")
    lines = (text[at : at + _LINE] for at in range(0, len(text), _LINE))
    head = f"{name}: addr={found.address};{prefers} keydata=\r\n "
    return (head + "\r\n ".join(lines) + "\r\n").encode("ascii")


def _fields(section: HeaderSection) -> Iterator[Autocrypt]:
    seen = 0
    for one in section.fields:
        if one.name == FIELD and seen < FIELDS_MAX:
            seen += 1
            if (found := _parsed(unfold(section.value(one)))) is not None:
                yield found


def _parsed(value: bytes) -> Autocrypt | None:
    """None for a field that is not valid: a part of it is missing, twice there, or not known and
    not marked by "_" as one that may be skipped."""
    attributes: dict[str, bytes] = {}
    for part in value.split(b";"):
        if not part.strip():
            continue
        match = _ATTRIBUTE.fullmatch(part)
        if match is None:
            return None
        attribute = match[1].decode("ascii").lower()
        if attribute.startswith("_"):
            continue
        if attribute in attributes or attribute not in ("addr", "prefer-encrypt", "keydata"):
            return None
        attributes[attribute] = match[2].strip()
    address, key = _address(attributes.get("addr", b"")), _key(attributes.get("keydata", b""))
    if address is None or key is None:
        return None
    prefers = attributes.get("prefer-encrypt", b"").lower() == b"mutual"
    return Autocrypt(address=address, key=key, prefers_encryption=prefers)


def _address(text: bytes) -> str | None:
    try:
        parsed = parse_mailbox(
            text.decode("utf-8"), local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX
        )
    except (AddressError, UnicodeDecodeError):
        return None
    return format_address(parsed)


def _key(text: bytes) -> bytes | None:
    compact = b"".join(text.split())
    if not compact or len(compact) > KEY_OCTETS_MAX * 4 // 3 + 4:
        return None
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        return None


def _is_same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
