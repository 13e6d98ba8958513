"""How many connections may be open, and how fast new ones may come, by address and network.

Memory is bounded: counts exist only for addresses with an open connection, rates keep
`guard.rows_max` rows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.guard.rates import ROWS_MAX, RateOptions, SlidingRate, network_of

MINUTE_S: Final = 60.0
CONNECTIONS_MAX: Final = 10_000


class Limit(Enum):
    """Why a connection was refused; the value is the limit's name in configuration and metrics."""

    CONNECTIONS = "net.connections_max"
    DESCRIPTORS = "net.descriptors"
    PER_ADDRESS = "net.per_address_max"
    PER_NETWORK = "net.per_network_max"
    RATE = "net.rate_per_minute"
    PER_ADDRESS_IMAP = "net.per_address_imap_max"
    PER_NETWORK_IMAP = "net.per_network_imap_max"
    RATE_IMAP = "net.rate_imap_per_minute"
    PER_ADDRESS_WEB = "web.per_address_max"
    PER_NETWORK_WEB = "web.per_network_max"
    RATE_WEB = "web.rate_per_minute"


class LimitNames(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's own limits are called."""

    per_address: Limit = Limit.PER_ADDRESS
    per_network: Limit = Limit.PER_NETWORK
    rate: Limit = Limit.RATE


SMTP_NAMES: Final = LimitNames()
ACCESS_NAMES: Final = LimitNames(
    per_address=Limit.PER_ADDRESS_IMAP,
    per_network=Limit.PER_NETWORK_IMAP,
    rate=Limit.RATE_IMAP,
)
"""Of IMAP and POP3."""
WEB_NAMES: Final = LimitNames(
    per_address=Limit.PER_ADDRESS_WEB,
    per_network=Limit.PER_NETWORK_WEB,
    rate=Limit.RATE_WEB,
)
"""Of HTTP and HTTPS."""
OF_PEER: Final = frozenset(Limit) - {Limit.CONNECTIONS, Limit.DESCRIPTORS}
"""Those that one address or network reaches by itself; the others are the whole process's."""


class LimitReached(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit
    value: int
    observed: int


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one service; listeners of a service may share one `Connections`."""

    per_address_max: int = 20
    per_network_max: int = 60
    rate_per_minute: int = 60
    rows_max: int = ROWS_MAX
    names: LimitNames = SMTP_NAMES
    exempt_networks: tuple[str, ...] = ()
    """Addresses and networks these limits do not hold for; `connections_max` still does."""


class WholeProcess:
    """`net.connections_max`: the open connections of every service together."""

    __slots__ = ("connections_max", "open")

    def __init__(self, connections_max: int = CONNECTIONS_MAX) -> None:
        self.connections_max = connections_max
        self.open = 0


class Connections:
    """The open connections of one service."""

    __slots__ = ("_addresses", "_exempt", "_networks", "_options", "_process", "_rate")

    def __init__(self, options: ConnectionLimits, process: WholeProcess) -> None:
        self._options = options
        self._process = process
        self._exempt = Networks(options.exempt_networks)
        self._addresses: dict[str, int] = {}
        self._networks: dict[str, int] = {}
        rate = RateOptions(
            count_max=options.rate_per_minute, window_s=MINUTE_S, rows_max=options.rows_max
        )
        self._rate = SlidingRate(rate)

    def admit(self, address: str, now_s: float) -> LimitReached | None:
        """Count a new connection, or say which limit it meets; a refused one is not counted.

        Every admitted one must be given back with `release`.
        """
        process = self._process
        if process.open >= process.connections_max:
            return _reached(Limit.CONNECTIONS, process.connections_max, process.open)
        if address not in self._exempt:
            reached = self._own_limits(address, now_s)
            if reached is not None:
                return reached
            network = network_of(address)
            self._addresses[address] = self._addresses.get(address, 0) + 1
            self._networks[network] = self._networks.get(network, 0) + 1
        process.open += 1
        return None

    def release(self, address: str) -> None:
        self._process.open -= 1
        if address not in self._exempt:
            _less(self._addresses, address)
            _less(self._networks, network_of(address))

    def prune(self, now_s: float) -> None:
        """Drop rates that say nothing any more; called now and then."""
        self._rate.prune(now_s)

    @property
    def addresses(self) -> int:
        """Different addresses with an open connection."""
        return len(self._addresses)

    def _own_limits(self, address: str, now_s: float) -> LimitReached | None:
        options, names = self._options, self._options.names
        count = self._addresses.get(address, 0)
        if count >= options.per_address_max:
            return _reached(names.per_address, options.per_address_max, count)
        count = self._networks.get(network_of(address), 0)
        if count >= options.per_network_max:
            return _reached(names.per_network, options.per_network_max, count)
        if not self._rate.allow(address, now_s):
            observed = int(self._rate.observed(address, now_s))
            return _reached(names.rate, options.rate_per_minute, observed)
        return None


class Networks:
    """A list of addresses and networks from the configuration, asked with `address in networks`."""

    __slots__ = ("_contains", "_parsed")

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises `ValueError`, naming the text, for what is neither address nor network."""
        self._parsed = tuple(ipaddress.ip_network(text, strict=False) for text in networks)
        self._contains = lru_cache(maxsize=4096)(self._look)

    def __contains__(self, address: str) -> bool:
        return bool(self._parsed) and self._contains(address)

    def _look(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._parsed)


def _reached(limit: Limit, value: int, observed: int) -> LimitReached:
    return LimitReached(limit=limit, value=value, observed=observed)


def _less(counts: dict[str, int], key: str) -> None:
    left = counts.get(key, 0) - 1
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)
