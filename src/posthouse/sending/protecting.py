"""A composed letter signed and encrypted on its way out, between composing and DKIM.

Before that it is compared with the keys: everybody whom it goes to has to be able to read it,
nobody may learn from it of those in Bcc, and readers have to take the signature for the author's.
Addresses are compared as all of `mimesec` does (RFC 9788 §4.4.5): without regard to case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import words
from posthouse.message.address import format_address
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import read_section
from posthouse.mimesec.entity import field_octets
from posthouse.mimesec.header_protection import (
    AddressKey,
    address_key,
    address_keys,
    read_authors,
)
from posthouse.mimesec.ports import ProtectionError, Recipient, Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.sending.carrier import Letter
from posthouse.sending.errors import MessageError

__all__ = ["check_readers", "other_authors", "protected"]

_VISIBLE: Final = (b"from", b"sender", b"reply-to", b"to", b"cc")
_FIELD: Final = "protection"
_NAMED_MAX: Final = 3
"""People and keys in one error."""


def protected(letter: Letter, protection: Protection, *, at: datetime) -> Letter:
    """The letter as its protection asks for it. Raises MessageError about "protection"."""
    _check_kind(protection)
    check_readers(letter, protection)
    _check_nobody_hidden(letter, protection)
    _check_author(letter, protection)
    try:
        octets = protect(letter.octets, protection, at=at)
    except ProtectionError as error:
        raise MessageError(error.text, field=_FIELD, hint=error.hint) from error
    return msgspec.structs.replace(letter, octets=octets)


def _check_kind(given: object) -> None:
    if not isinstance(given, Protection):
        raise MessageError(
            f"protection has to be a Protection, not {type(given).__name__}",
            field=_FIELD,
            hint="say what each thing is for: Protection(signer=…, sealer=…, recipients=(…,))",
        )


def check_readers(letter: Letter, protection: Protection) -> None:
    """Raises MessageError where somebody gets the message who could not read it."""
    if not protection.is_encrypting:
        return
    given = _given(protection)
    readers = address_keys(text for one in given for text in one.addresses)
    people = [one.address for one in letter.envelope.recipients]
    missing = [one for one in people if address_key(one) not in readers]
    if not missing:
        return
    who = _people([format_address(one, unicode=True) for one in missing])
    reached = {address_key(one) for one in people}
    unused = [one for one in protection.recipients if reached.isdisjoint(_keys(one))]
    hint = f"give the key of {who}, or send them a message of their own"
    if len(reached) > 1 and _visible(letter).isdisjoint(map(address_key, missing)):
        hint = f"send {who} a message of their own, as their key in this one would tell of them"
    elif unused:
        whose = ", ".join(unused[0].addresses[:_NAMED_MAX]) or unused[0].key
        hint += (
            f"; if the key of {words.shown(whose)} is theirs, say so with"
            f' for_addresses=["{format_address(missing[0], unicode=True)}"] where it is given'
        )
    raise MessageError(
        f"no key is for {who}, who could not read the message", field=_FIELD, hint=hint
    )


def _given(protection: Protection) -> tuple[Recipient, ...]:
    own = () if protection.own is None else (protection.own,)
    return (*protection.recipients, *protection.hidden, *own)


def _keys(recipient: Recipient) -> frozenset[AddressKey]:
    return address_keys(recipient.addresses)


def _people(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    more = f" and {len(shown) - _NAMED_MAX} others" if len(shown) > _NAMED_MAX else ""
    return words.shown(", ".join(shown[:_NAMED_MAX]) + more)


def _check_nobody_hidden(letter: Letter, protection: Protection) -> None:
    """An encrypted message names the keys that can read it, to all who get it: one of somebody who
    is in the envelope and in no field (Bcc) would tell of them. Where nobody else gets the message,
    as with a copy of its own (RFC 9788 §11.4), nobody is told."""
    reached = {address_key(one.address): one.address for one in letter.envelope.recipients}
    if not protection.is_encrypting or len(reached) < 2:
        return
    visible = _visible(letter)
    for one in protection.recipients:
        keys = _keys(one)
        hidden = [reached[key] for key in keys if key in reached]
        if hidden and visible.isdisjoint(keys):
            who = format_address(hidden[0], unicode=True)
            raise MessageError(
                f"{who} in Bcc would be known to all by the key that the message names",
                field=_FIELD,
                hint=f"send {who} a message of their own, and leave their key out of this one",
            )


def _visible(letter: Letter) -> frozenset[AddressKey]:
    """Those of whom everybody reads in the letter."""
    section = read_section(letter.octets)
    values = [value for name in _VISIBLE for value in section.every(name)]
    found = [one for value in values for one in parse_address_list(value).addresses()]
    return frozenset(map(address_key, found))


def _check_author(letter: Letter, protection: Protection) -> None:
    """Readers compare the key with From (RFC 8550 §3), and take the signature for none of the
    author's where they differ."""
    signer = protection.signer
    if signer is None or protection.allows_other_author:
        return
    others = other_authors(signer, letter.octets)
    if others:
        who = _people([format_address(one, unicode=True) for one in others])
        whose = _people(signer.addresses) or "nobody's address"
        raise MessageError(
            f"the message is from {who}, and the key that signs it is for {whose}: readers would"
            " not take the signature for the author's",
            field=_FIELD,
            hint=f"sign with a key of {who}, or say Protection(allows_other_author=True)",
        )


def other_authors(signer: Signer, octets: bytes) -> tuple[Address, ...]:
    """Those whom From names and the signer's key does not."""
    named = address_keys(signer.addresses)
    section = read_section(octets)
    authors = read_authors(field_octets(section, field) for field in section.fields)
    return tuple(one for one in authors.addresses if address_key(one) not in named)
