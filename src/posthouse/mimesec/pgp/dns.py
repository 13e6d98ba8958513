"""OPENPGPKEY records (RFC 7929): keys that a domain publishes for its mailboxes.

They count only when the answer was authenticated by DNSSEC, which whoever asked has to see to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from posthouse.message.address import parse_mailbox

RECORDS_MAX: Final = 5
LABEL_OCTETS: Final = 28


def name(address: str) -> str:
    """The name to ask for (RFC 7929 §3): the local-part exactly as it is, in UTF-8.

    Raises:
        AddressError: it is no address.
    """
    parsed = parse_mailbox(address)
    label = sha256(parsed.local_part.encode()).digest()[:LABEL_OCTETS].hex()
    return f"{label}._openpgpkey.{parsed.domain}"


def keys(records: Iterable[bytes]) -> tuple[bytes, ...]:
    """The certificates in records, each a whole one without armour (§2.1)."""
    return tuple(dict.fromkeys(list(records)[:RECORDS_MAX]))


def record_text(certificate: bytes) -> str:
    """The data of a record as a zone file has it (§2.3)."""
    return base64.b64encode(certificate).decode("ascii")
