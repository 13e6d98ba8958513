"""Which ports of a config only root may open."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from posthouse.config.schema import Config

PRIVILEGED_BELOW: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
PRIVILEGED_BELOW_USUALLY: Final = 1024


def privileged_ports(config: Config) -> tuple[int, ...]:
    """Ports of the config that only root or a service manager may open."""
    try:
        below = int(PRIVILEGED_BELOW.read_text())
    except (OSError, ValueError):
        below = PRIVILEGED_BELOW_USUALLY
    ports = {listener.port or below for listener in config.listeners()}
    return tuple(sorted(port for port in ports if port < below))
