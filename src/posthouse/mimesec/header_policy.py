"""Header confidentiality policies: what of a header section is seen outside an encryption
(RFC 9788 §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from enum import Enum
from typing import Final

import msgspec

from posthouse.message.address import format_address
from posthouse.message.address_list import parse_address_list
from posthouse.message.dates import format_date, parse_date

OBSCURED_SUBJECT: Final = b"[...]"
USER_FACING: Final = frozenset(
    {
        *("subject", "from", "to", "cc", "date", "reply-to", "followup-to", "sender"),
        *("resent-from", "resent-to", "resent-cc", "resent-date", "resent-sender"),
    }
)
"""What readers of mail show (RFC 9787 §1.1.2)."""

Hcp = Callable[[str, bytes], bytes | None]
"""From a field's name and unfolded value to the value outside; None where there is no such field
outside (RFC 9788 §3.1)."""


class Header(msgspec.Struct, frozen=True):
    """A field as RFC 9788 thinks of it."""

    name: str
    """As written."""
    value: bytes
    """Unfolded."""

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal for fields that say the same."""
        return self.name.lower(), b" ".join(self.value.split())


class HeaderPolicy(Enum):
    """The registered policies (RFC 9788 §3.2)."""

    BASELINE = "baseline"  # Subject is obscured, Comments and Keywords are removed
    SHY = "shy"  # and names of people and the time zone are removed
    NO_CONFIDENTIALITY = "no confidentiality"

    @property
    def hcp(self) -> Hcp:
        return _POLICIES[self]


def hcp_no_confidentiality(name: str, value: bytes) -> bytes | None:
    return value


def hcp_baseline(name: str, value: bytes) -> bytes | None:
    match name.lower():
        case "subject":
            return OBSCURED_SUBJECT
        case "comments" | "keywords" | "autocrypt-gossip":
            return None  # the last one is for those alone who can read what is inside
        case _:
            return value


def hcp_shy(name: str, value: bytes) -> bytes | None:
    match name.lower():
        case "from" | "to" | "cc":
            return _addresses_only(value)
        case "date":
            moment = parse_date(value)
            return value if moment is None else format_date(moment.astimezone(UTC)).encode("ascii")
        case _:
            return hcp_baseline(name, value)


_POLICIES: Final = {
    HeaderPolicy.BASELINE: hcp_baseline,
    HeaderPolicy.SHY: hcp_shy,
    HeaderPolicy.NO_CONFIDENTIALITY: hcp_no_confidentiality,
}


def _addresses_only(value: bytes) -> bytes:
    """Without names, comments and groups; what cannot be read as addresses is left as it is."""
    listed = parse_address_list(value)
    mailboxes = [item.address() for item in listed.mailboxes()]
    found = [format_address(one) for one in mailboxes if one is not None]
    if listed.is_malformed or listed.is_truncated or not found or None in mailboxes:
        return value
    return ", ".join(found).encode("utf-8")


def reference_hcp(
    outer: Sequence[Header],
    protected: Sequence[Header],
    respond: Callable[[Sequence[Header]], Sequence[Header]],
) -> Hcp:
    """What was confidential in a message that is answered or forwarded stays so in the answer
    (RFC 9788 §6.1.2).

    Args:
        outer, protected: of that message, as `header_protection.header_sets` gives them; both
            empty where it was not encrypted with header protection.
        respond: makes the fields of the answer from those of the message.
    """
    outside = [header.key for header in respond(outer)]
    confidential: dict[tuple[str, bytes], bytes | None] = {}
    remaining: list[Header] = []
    for header in respond(protected):
        if header.key in outside:
            outside.remove(header.key)
        else:
            remaining.append(header)
    for header in remaining:
        found = [value for name, value in outside if name == header.key[0]]
        confidential[header.key] = found[-1] if found else None
    return lambda name, value: confidential.get(Header(name, value).key, value)
