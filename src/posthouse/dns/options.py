"""What the resolver may be told, and the name servers the system knows."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

PORT: Final = 53
SERVERS_MAX: Final = 8
LOOPBACK_SERVER: Final = ("127.0.0.1", PORT)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of section `dns`."""

    servers: tuple[tuple[str, int], ...] = (LOOPBACK_SERVER,)
    """Address and port of each recursive server, in the order they are tried."""
    is_trusted: bool = False
    """Whether the AD bit of servers that are not on loopback is believed: only when they validate
    and the way to them is safe (RFC 4035 §4.9.3)."""
    is_unchecked: bool = False
    """Whether answers are taken that DNSSEC proves wrong (CD, RFC 4035 §3.2.2): only to find out
    why there is no other. No setting."""
    timeout_s: float = 5.0
    """How long one try waits for one server."""
    tries: int = 2
    """A whole question takes `timeout_s` × `tries` at most, its CNAMEs and TCP included."""
    answer_octets_max: int = 65_535
    chain_max: int = 8
    """CNAMEs followed from the name asked for."""
    cache_entries_max: int = 100_000
    cache_octets_max: int = 64 << 20
    """Of answers as they came by the wire: 100,000 large ones may not fill the memory."""
    ttl_s_min: float = 5.0
    ttl_s_max: float = 86_400.0
    error_ttl_s: float = 5.0
    """How long a failure is not asked again (RFC 9520 §3.2 wants 1 s to 5 minutes)."""
    in_flight_max: int = 1_000
    """Questions being asked at the same time; further ones wait their turn."""

    def trusts(self, server: tuple[str, int]) -> bool:
        """Whether the AD bit of this server is believed (H48)."""
        return self.is_trusted or ipaddress.ip_address(server[0].partition("%")[0]).is_loopback


def servers_of(resolv_conf: str) -> tuple[tuple[str, int], ...]:
    """The `nameserver` lines of the text of /etc/resolv.conf; loopback when there are none."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
            found.append((words[1], PORT))
    return tuple(found[:SERVERS_MAX]) or (LOOPBACK_SERVER,)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
