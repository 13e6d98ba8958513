"""A composed letter signed and encrypted on its way out, between composing and DKIM."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message.address import LOCAL_PART_REMOTE_OCTETS_MAX, AddressError, parse_mailbox
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import read_section
from posthouse.mimesec.header_protection import AddressKey, address_key
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.protection import Protection, protect
from posthouse.sending.carrier import Letter
from posthouse.sending.errors import MessageError

__all__ = ["protected"]

_VISIBLE: Final = (b"from", b"sender", b"reply-to", b"to", b"cc")


def protected(letter: Letter, protection: Protection, *, at: datetime) -> Letter:
    """The letter as its protection asks for it. Raises MessageError about "protection"."""
    if protection.is_encrypting:
        _check_nobody_hidden(letter, protection)
    try:
        octets = protect(letter.octets, protection, at=at)
    except ProtectionError as error:
        raise MessageError(error.text, field="protection", hint=error.hint) from error
    return msgspec.structs.replace(letter, octets=octets)


def _check_nobody_hidden(letter: Letter, protection: Protection) -> None:
    """An encrypted message names the keys that can read it, to all who get it: one of somebody who
    is in the envelope and in no field (Bcc) would tell of them."""
    section = read_section(letter.octets)
    visible: set[AddressKey] = set()
    for name in _VISIBLE:
        for value in section.every(name):
            visible.update(address_key(one) for one in parse_address_list(value).addresses())
    for recipient in letter.envelope.recipients:
        key = address_key(recipient.address)
        if key not in visible and any(_names(one.addresses, key) for one in protection.recipients):
            raise MessageError(
                "somebody in Bcc would be known to all by the key that the message names",
                field="protection",
                hint="send them a message of their own, and leave their key out of this one",
            )


def _names(addresses: tuple[str, ...], key: AddressKey) -> bool:
    return any((one := _parsed(text)) is not None and address_key(one) == key for text in addresses)


def _parsed(text: str) -> Address | None:
    try:
        return parse_mailbox(text, local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX)
    except AddressError:
        return None
