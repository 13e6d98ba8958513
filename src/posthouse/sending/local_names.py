"""Whether a server is on this machine, where nobody listens in."""

from __future__ import annotations

import ipaddress
from typing import Final

_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def is_this_machine(host: str) -> bool:
    """By a name that means it, or a loopback address."""
    if host in _NAMES:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
