"""The mail around a report of ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import build
from posthouse.message.build import Entity, Mailbox

BASE64_SHARE: Final = 0.7
"""Of a mail's octets that a file in base64 may have, lines and header section aside."""


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A report's file."""

    octets: bytes
    whole_octets: int
    """What it would have been with all that was left out because a mail would be too large."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What the fields of a report's mail say."""

    sender: Address
    organization: str
    to: tuple[Address, ...]
    subject: str
    date: datetime
    message_id: str
    """With its angle brackets."""
    fields: tuple[bytes, ...] = ()
    """Further ones, made by `build`."""


def letter(letter: Letter, entity: Entity) -> bytes:
    """Raises build.BuildError when a value cannot stand in its field."""
    return build.message(
        [
            build.address_field("From", [Mailbox(letter.sender, letter.organization)]),
            build.address_field("To", [Mailbox(address) for address in letter.to]),
            build.text_field("Subject", letter.subject),
            build.date_field(letter.date),
            build.message_id_field(letter.message_id),
            build.field("Auto-Submitted", "auto-generated"),  # RFC 3834 §5
            *letter.fields,
        ],
        entity,
    )


def report_id(domain: str, submitter: str, begin_s: int, end_s: int) -> str:
    """The same for the same report, whenever it is made; no other to that domain has it
    (RFC 9990 §3.5.1)."""
    return f"{begin_s}.{end_s}.{domain}@{submitter}"


def subject(domain: str, submitter: str, identifier: str) -> str:
    """RFC 9990 §3.5.2, RFC 8460 §5.3."""
    return f"Report Domain: {domain} Submitter: {submitter} Report-ID: <{identifier}>"


def file_name(domain: str, submitter: str, begin_s: int, end_s: int, extension: str) -> str:
    """RFC 9990 §3.5.2, RFC 8460 §5.1. The same for the same report."""
    return f"{submitter}!{domain}!{begin_s}!{end_s}.{extension}"


def is_wide(addresses: Sequence[Address]) -> bool:
    """Whether one of them needs SMTPUTF8."""
    return any(not address.local_part.isascii() for address in addresses)
