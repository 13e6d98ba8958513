"""Which addresses may be gone to because somebody else named them (F24, H47).

Mail and HTTP follow names that strangers publish; a name that leads to loopback, to a private
network or to a cloud's metadata would make us knock where they cannot.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""Everything that is routed lies in it; old forms such as ::127.0.0.1 and fec0::/10 do not, though
`ipaddress` calls them global."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1


def is_public(address: str) -> bool:
    """Whether an IP address is one of the whole Internet's. IPv6 addresses that carry an IPv4 one
    inside are judged by that; what is no address, or has a zone, is not public."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return _is_public_ipv4(ip)
    if ip.scope_id is not None:
        return False
    inner = ip.ipv4_mapped or ip.sixtofour
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is not None:
        return _is_public_ipv4(inner)
    return ip in _GLOBAL_UNICAST and ip.is_global


def _is_public_ipv4(ip: ipaddress.IPv4Address) -> bool:
    return ip.is_global and not ip.is_multicast
