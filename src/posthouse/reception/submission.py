"""What submission mends in a message before it is anybody's (RFC 6409 §8), and whose it may be.

Content is never refused here for what a user may send; a missing Date or Message-ID is added,
Bcc goes, and the From addresses must be the sender's own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from posthouse.kernel.envelope import Address
from posthouse.message.address_list import parse_address_list
from posthouse.message.dates import format_date
from posthouse.message.fields import HeaderSection, without

BCC: Final = frozenset({b"bcc", b"resent-bcc"})
AUTHORS_MAX: Final = 20
"""Author addresses that are checked; a message with more is refused."""


def mend(section: HeaderSection, *, host: str, queue_id: str, at: datetime) -> tuple[bytes, bytes]:
    """(fields to put in front, the octets without Bcc) of a submitted message."""
    added = b""
    if b"date" not in section:
        added += f"Date: {format_date(at)}\r\n".encode()
    if b"message-id" not in section:
        added += f"Message-ID: <{queue_id}@{host}>\r\n".encode()
    octets = section.octets
    if b"bcc" in section or b"resent-bcc" in section:
        octets = without(section, BCC)
    return added, octets


def authors(section: HeaderSection) -> list[Address] | None:
    """The addresses of From, or None when it is missing, unreadable, has too many, or stands there
    twice: whatever is not read here, others might show as the author."""
    values = section.every(b"from")
    if len(values) != 1:
        return None
    listed = parse_address_list(values[0], addresses_max=AUTHORS_MAX + 1)
    found = listed.addresses()
    is_clear = not (listed.is_malformed or listed.is_truncated)
    is_whole = len(found) == len(listed.mailboxes()) and is_clear
    return found if is_whole and 0 < len(found) <= AUTHORS_MAX else None
