"""The PROXY protocol's header, versions 1 and 2, as a front proxy sends it before everything else.

Pure: octets in, a value out. The listener reads it from trusted networks only. Strict, as the
header decides whom we believe to be talking to: what is not exactly a header ends the connection.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final

import msgspec

V1_OCTETS_MAX: Final = 107
"""CRLF included; the longest line version 1 can have."""
V2_FIXED_OCTETS: Final = 16
V2_REST_OCTETS_MAX: Final = 4096
"""Addresses and TLVs. The length field allows 65535; proxies send some hundred octets."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1_START: Final = b"PROXY "
_V1_LINE: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]{2,39}) ([0-9a-fA-F.:]{2,39})"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6, _UNSPECIFIED, _UNIX = 0x11, 0x21, 0x00, 0x31
_ADDRESS_OCTETS: Final = {_TCP4: 12, _TCP6: 36}


class ProxyError(ValueError):
    """The octets are no PROXY header, or one we do not take."""


class ProxyHeader(msgspec.Struct, frozen=True, kw_only=True):
    octets: int
    """Length of the header; what follows it is the client's."""
    source: tuple[str, int] | None
    """The original client, or None when the proxy speaks for itself (LOCAL, UNKNOWN, UNIX)."""
    destination: tuple[str, int] | None


def parse_proxy(octets: bytes) -> ProxyHeader | None:
    """The header that `octets` begin with; None when its end is still missing.

    Raises:
        ProxyError: as soon as the octets cannot become a header.
    """
    if not octets:
        return None
    if octets[:1] == b"P":
        return _parse_v1(octets)
    if _SIGNATURE.startswith(octets[: len(_SIGNATURE)]):
        return _parse_v2(octets)
    raise ProxyError("no PROXY header")


def _parse_v1(octets: bytes) -> ProxyHeader | None:
    if not octets.startswith(_V1_START[: len(octets)]):
        raise ProxyError("no PROXY header")
    end = octets.find(b"\n", 0, V1_OCTETS_MAX)
    if end < 0:
        if len(octets) >= V1_OCTETS_MAX:
            raise ProxyError("PROXY line too long")
        return None
    line = octets[: end + 1]
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in (b" ", b"\r") and line[-2:] == b"\r\n":
        return ProxyHeader(octets=len(line), source=None, destination=None)
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise ProxyError("malformed PROXY line")
    family, source, destination, source_port, destination_port = match.groups()
    version = 4 if family == b"TCP4" else 6
    return ProxyHeader(
        octets=len(line),
        source=(_address(source, version), _port(source_port)),
        destination=(_address(destination, version), _port(destination_port)),
    )


def _parse_v2(octets: bytes) -> ProxyHeader | None:
    if len(octets) < V2_FIXED_OCTETS:
        return None
    command, family, rest = struct.unpack_from("!BBH", octets, len(_SIGNATURE))
    if command not in (_LOCAL, _PROXY):
        raise ProxyError("unknown PROXY version or command")
    if rest > V2_REST_OCTETS_MAX:
        raise ProxyError("PROXY header too long")
    if command == _PROXY and family not in (_TCP4, _TCP6, _UNSPECIFIED, _UNIX):
        raise ProxyError("PROXY header for something other than a stream")
    needed = _ADDRESS_OCTETS.get(family, 0)
    if command == _PROXY and rest < needed:
        raise ProxyError("PROXY header too short for its addresses")
    total = V2_FIXED_OCTETS + rest
    if len(octets) < total:
        return None
    if command == _LOCAL or not needed:
        return ProxyHeader(octets=total, source=None, destination=None)
    width = 4 if family == _TCP4 else 16
    at = V2_FIXED_OCTETS
    source_port, destination_port = struct.unpack_from("!HH", octets, at + 2 * width)
    source, destination = octets[at : at + width], octets[at + width : at + 2 * width]
    return ProxyHeader(
        octets=total,
        source=(_unmapped(ipaddress.ip_address(source)), source_port),
        destination=(_unmapped(ipaddress.ip_address(destination)), destination_port),
    )


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError as error:
        raise ProxyError("malformed address in PROXY line") from error
    if address.version != version:
        raise ProxyError("address of the wrong family in PROXY line")
    return _unmapped(address)


def _unmapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _port(text: bytes) -> int:
    port = int(text)
    if port > 65_535:
        raise ProxyError("port out of range in PROXY line")
    return port
