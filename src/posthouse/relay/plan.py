"""Routes and plans as values: what a person may set, and which hosts an attempt will try."""

from __future__ import annotations

import ipaddress
from enum import Enum
from typing import Final

import msgspec

SMTP_PORT: Final = 25


class Tls(Enum):
    """What a route asks of TLS."""

    OFF = "off"
    OPPORTUNISTIC = "opportunistic"  # if offered; names are not checked (RFC 7435)
    REQUIRED = "required"  # names are not checked
    VERIFIED = "verified"  # STARTTLS and a certificate for the host's name
    IMPLICIT = "implicit"  # TLS from the start, verified


class Kind(Enum):
    """What a plan comes from."""

    REROUTED = "rerouted"
    ROUTE = "route"
    SMART_HOST = "smart host"
    LITERAL = "address literal"
    MX = "mx"
    IMPLICIT_MX = "implicit mx"  # no MX: the domain's own addresses, RFC 5321 §5.1


class Login(msgspec.Struct, frozen=True):
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, '***')"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts in place of a domain's MX."""

    domain: str
    """A domain, or "*.example.org" for all below example.org."""
    hosts: tuple[str, ...]
    """"host", "host:port", "[address]" or "[address]:port", the preferred first."""
    tls: Tls = Tls.OPPORTUNISTIC

    def matches(self, domain: str) -> bool:
        if self.domain.startswith("*."):
            return domain.endswith(self.domain[1:])
        return domain == self.domain


class SmartHost(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int = 587
    tls: Tls = Tls.VERIFIED
    login: Login | None = None


class RouteOptions(msgspec.Struct, frozen=True, kw_only=True):
    routes: tuple[Route, ...] = ()
    smart_host: SmartHost | None = None
    own_names: frozenset[str] = frozenset()
    """Names we are known by, in lower case: an MX among them is ourselves (F24)."""
    own_addresses: frozenset[str] = frozenset()
    """Addresses we listen at."""
    allow_private_addresses: bool = False
    """Go also to loopback, private and link-local addresses that DNS names. Hosts that the config
    names may always be there."""
    hosts_max: int = 5
    addresses_max: int = 10
    mx_port: int = SMTP_PORT


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host to try, with its addresses in order."""

    name: str
    """A-labels; for a literal the address."""
    port: int
    addresses: tuple[str, ...]
    preference: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no host to try."""

    is_permanent: bool
    status: str
    words: str


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts for one attempt, or the reason that there are none."""

    domain: str
    kind: Kind
    tls: Tls
    hosts: tuple[Host, ...] = ()
    failure: Failure | None = None
    login: Login | None = None
    notes: tuple[str, ...] = ()
    """What was left out and why, for people."""


class Place(msgspec.Struct, frozen=True):
    """A host somebody named, not resolved yet."""

    host: str
    """A name, or an IP address where `is_literal`."""
    port: int
    is_literal: bool


def parse_place(text: str, *, port: int = SMTP_PORT) -> Place:
    """Read "host", "host:port", "[address]" or "[address]:port".

    Raises:
        ValueError: it is none of these.
    """
    host, number = text.strip(), str(port)
    if host.startswith("["):
        host, bracket, behind = host[1:].partition("]")
        if not bracket or (behind and not behind.startswith(":")):
            raise ValueError(f"{text!r} is no host")
        number = behind[1:] or number
        host = host[5:] if host[:5].lower() == "ipv6:" else host
        address = str(ipaddress.ip_address(host))
    else:
        name, colon, behind = host.rpartition(":")
        if colon and ":" not in name:
            host, number = name, behind
        address = _address(host)
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65_536 or not host:
        raise ValueError(f"{text!r} is no host")
    if address:
        return Place(address, int(number), True)
    return Place(host.lower().rstrip("."), int(number), False)


def _address(text: str) -> str:
    """The IP address in its usual spelling, or "" when it is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
