"""`data:` URLs (RFC 2397): content that stands in its own address."""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

import msgspec

from posthouse.sending.naming import fault

__all__ = ["DataUrl", "is_data_url", "read_data_url"]

_HEAD: Final = re.compile(r"data:([^,]{0,1000}),", re.IGNORECASE)
_BASE64: Final = ";base64"
_BLANKS: Final = b" \t\r\n"
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


class DataUrl(msgspec.Struct, frozen=True):
    media_type: str
    """With its parameters."""
    octets: bytes


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def read_data_url(field: str, url: str, *, octets_max: int) -> DataUrl:
    """What the URL holds. Raises MessageError about `field`."""
    head = _HEAD.match(url)
    if head is None:
        raise fault(field, "this data: URL has no comma in front of its content")
    if len(url) - head.end() > octets_max * 4:
        raise fault(field, f"this data: URL holds more than {octets_max >> 20} MiB")
    said = unquote(head[1])
    octets = unquote_to_bytes(url[head.end() :])
    if said.lower().endswith(_BASE64):
        said = said[: -len(_BASE64)]
        octets = _from_base64(field, octets)
    if len(octets) > octets_max:
        raise fault(field, f"this data: URL holds more than {octets_max >> 20} MiB")
    if said.startswith(";"):  # parameters of the default type
        said = f"text/plain{said}"
    return DataUrl(said or "text/plain;charset=US-ASCII", octets)


def _from_base64(field: str, digits: bytes) -> bytes:
    digits = digits.translate(_URL_SAFE, _BLANKS).rstrip(b"=")
    try:
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except binascii.Error:
        raise fault(field, "the base64 of this data: URL is damaged") from None
