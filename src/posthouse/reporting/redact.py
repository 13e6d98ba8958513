"""A header section without what is private in it (RFC 6590), for reports about single messages.

Trace and authentication fields stay, with every local-part hashed under a key, so that a reader
sees that two reports are about one person and not who. Addresses lose their names. Of all other
fields only the name is told: a subject is content.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import HeaderSection, unfold

OCTETS_MAX: Final = 16 * 1024
FIELD_OCTETS_MAX: Final = 2_000
ADDRESSES_MAX: Final = 20
HIDDEN: Final = "[redacted]"

_AS_IT_IS: Final = frozenset(
    {
        b"arc-authentication-results",
        b"arc-message-signature",
        b"arc-seal",
        b"authentication-results",
        b"content-transfer-encoding",
        b"date",
        b"dkim-signature",
        b"mime-version",
        b"received",
        b"received-spf",
    }
)
"""Told, but for the local-parts in them."""
_ADDRESSES: Final = frozenset(
    {b"from", b"sender", b"reply-to", b"to", b"cc", b"return-path", b"delivered-to"}
)
# What stands in front of an "@": bounded, as it is tried at every octet.
_LOCAL_PART: Final = re.compile(r'("(?:[^"\\\r\n]|\\.){0,64}"|[^\s<>@"(),;:\[\]]{1,128})(?=@)')

# z= of a signature holds whole header fields, the subject among them (RFC 6376 §3.5).
_COPIES: Final = re.compile(r"((?:\A|;) *+)z *+=[^;]*+")


class Redactor:
    """Hashes local-parts under one key: the same one always becomes the same word."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def local_part(self, text: str) -> str:
        digest = hmac.digest(self._key, text.strip('"').casefold().encode(), hashlib.sha256)
        return base64.b32encode(digest[:10]).decode().lower()

    def address(self, local_part: str, domain: str) -> str:
        return f"{self.local_part(local_part)}@{domain}"

    def text(self, text: str) -> str:
        """Every local-part in it replaced."""
        return _LOCAL_PART.sub(lambda match: self.local_part(match[1]), text)

    def section(self, section: HeaderSection) -> bytes:
        """A new header section, ASCII and bounded."""
        lines: list[bytes] = []
        left = OCTETS_MAX
        for field in section.fields:
            value = unfold(section.value(field)[:FIELD_OCTETS_MAX])
            name = field.name.decode("ascii", "replace")[:76]
            line = f"{name}: {self._value(field.name, value)}\r\n".encode("ascii", "replace")
            left -= len(line)
            if left < 0:
                break
            lines.append(line)
        return b"".join(lines)

    def _value(self, name: bytes, value: bytes) -> str:
        if name in _AS_IT_IS:
            plain = value.replace(b"\t", b" ").decode("ascii", "replace")
            text = "".join(c if " " <= c <= "~" else "?" for c in plain)
            return _folded(self.text(_COPIES.sub(rf"\1z={HIDDEN}", text)))
        if name in _ADDRESSES:
            found = parse_address_list(value, addresses_max=ADDRESSES_MAX).items
            shown = [
                self.address(
                    each.local_part.decode("utf-8", "replace"),
                    each.domain.decode("ascii", "replace"),
                )
                for each in found
                if each.local_part is not None and each.domain
            ]
            return ",\r\n ".join(f"<{each}>" for each in shown) or HIDDEN
        return HIDDEN


def _folded(text: str) -> str:
    """Lines of mail hold 998 octets (RFC 5322 §2.1.1)."""
    words: list[str] = []
    length = 0
    for word in text.split(" "):
        pieces = [word[at : at + 900] for at in range(0, len(word), 900)] or [""]
        for piece in pieces:
            if length and length + len(piece) > 900:
                words.append("\r\n ")
                length = 0
            elif words:
                words.append(" ")
            words.append(piece)
            length += len(piece) + 1
    return "".join(words)
