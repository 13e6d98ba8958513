"""SASL's text to values: base64 lines and the PLAIN message (RFC 4422, RFC 4616, RFC 4648 §4).

Used by SMTP, IMAP and POP3, whose SASL profiles all carry base64 in lines.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

import msgspec

EXCHANGE_OCTETS_MAX: Final = 12_288
"""One response, as base64 (RFC 4954 §4 asks for that much)."""
NAME_OCTETS_MAX: Final = 255
PASSWORD_OCTETS_MAX: Final = 1024

# Controls, noncharacters, lone surrogates and what changes the direction of text: never in a name.
_UNSAFE_IN_NAME: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


class SaslSyntaxError(ValueError):
    """A response that the mechanism's grammar does not know; the text is for the log."""


class PlainMessage(msgspec.Struct, frozen=True):
    authorization_id: str
    authentication_id: str
    password: str

    def __repr__(self) -> str:
        return f"PlainMessage({self.authorization_id!r}, {self.authentication_id!r}, '***')"


def decode_base64(line: bytes) -> bytes:
    """Strictly: one spelling for each value, no blanks, padding where it belongs.

    Raises:
        SaslSyntaxError: also when it is too long.
    """
    if len(line) > EXCHANGE_OCTETS_MAX:
        raise SaslSyntaxError("response too long")
    try:
        decoded = binascii.a2b_base64(line, strict_mode=True)
    except ValueError as error:
        raise SaslSyntaxError("not base64") from error
    if binascii.b2a_base64(decoded, newline=False) != line:  # stray bits in the last character
        raise SaslSyntaxError("not base64")
    return decoded


def encode_base64(octets: bytes) -> bytes:
    return binascii.b2a_base64(octets, newline=False)


def decode_initial(word: bytes) -> bytes:
    """An initial response: "=" is the empty one (RFC 4954 §4, RFC 4959 §3)."""
    return b"" if word == b"=" else decode_base64(word)


def decode_name(octets: bytes) -> str:
    """A name as sent: UTF-8 without anything that could disturb a log line or a comparison."""
    if len(octets) > NAME_OCTETS_MAX:
        raise SaslSyntaxError("name too long")
    name = _decode(octets)
    if _UNSAFE_IN_NAME.search(name) is not None:
        raise SaslSyntaxError("name has a forbidden character")
    return name


def decode_password(octets: bytes) -> str:
    if len(octets) > PASSWORD_OCTETS_MAX:
        raise SaslSyntaxError("password too long")
    if b"\0" in octets:
        raise SaslSyntaxError("password has a NUL")
    return _decode(octets)


def parse_plain(message: bytes) -> PlainMessage:
    """`[authzid] NUL authcid NUL passwd` (RFC 4616 §2): two NULs, no more."""
    parts = message.split(b"\0", 3)
    if len(parts) != 3:
        raise SaslSyntaxError("PLAIN has two NULs")
    return PlainMessage(decode_name(parts[0]), decode_name(parts[1]), decode_password(parts[2]))


def format_plain(message: PlainMessage) -> bytes:
    """Raises:
    SaslSyntaxError: a part has a NUL.
    """
    parts = (message.authorization_id, message.authentication_id, message.password)
    if any("\0" in part for part in parts):
        raise SaslSyntaxError("PLAIN cannot carry a NUL")
    return "\0".join(parts).encode()


def _decode(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise SaslSyntaxError("not UTF-8") from error
