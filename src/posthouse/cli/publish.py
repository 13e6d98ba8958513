"""What the world and mail clients need to know of a node: DNS records, hosts, ports, user name."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

import msgspec

from posthouse.config.schema import Config, Service

PRIVILEGED_BELOW: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
PRIVILEGED_BELOW_USUALLY: Final = 1024
STANDARD_MX_PORT: Final = 25

_FOR_CLIENTS: Final = {
    Service.IMAPS: ("reading", "IMAP", "TLS"),
    Service.IMAP: ("reading", "IMAP", "STARTTLS"),
    Service.POP3S: ("reading", "POP3", "TLS"),
    Service.POP3: ("reading", "POP3", "STARTTLS"),
    Service.SUBMISSIONS: ("sending", "SMTP", "TLS"),
    Service.SUBMISSION: ("sending", "SMTP", "STARTTLS"),
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A DNS record to publish. Where `value` stands in angle brackets, a person fills it in."""

    name: str
    type: str
    value: str
    why: str


class ClientSetting(msgspec.Struct, frozen=True, kw_only=True):
    """One way for a mail client to reach the node."""

    purpose: str
    """ "reading" or "sending"."""
    protocol: str
    host: str
    port: int
    security: str
    """ "TLS" from the start, or "STARTTLS"."""


def records(config: Config, domain: str) -> tuple[Record, ...]:
    """The least that mail for and from `domain` (A-labels) needs."""
    host = config.node.hostname
    return (
        Record(
            name=f"{domain}.", type="MX", value=f"10 {host}.", why="where mail for you is brought"
        ),
        Record(
            name=f"{host}.",
            type="A",
            value=_public(config, 4) or "<the public IPv4 address of this machine>",
            why="where this server is",
        ),
        Record(
            name=f"{host}.",
            type="AAAA",
            value=_public(config, 6) or "<its public IPv6 address, if it has one>",
            why="the same for IPv6",
        ),
        Record(
            name=f"{domain}.",
            type="TXT",
            value='"v=spf1 mx -all"',
            why="only this server sends your mail (SPF)",
        ),
        Record(
            name=f"_dmarc.{domain}.",
            type="TXT",
            value=f'"v=DMARC1; p=none; rua=mailto:postmaster@{domain}"',
            why="others report to you what claims to be from you (DMARC)",
        ),
        Record(
            name="<the public address, reversed>",
            type="PTR",
            value=f"{host}.",
            why="set where the address is rented; many hosts refuse mail without it",
        ),
    )


def client_settings(config: Config) -> tuple[ClientSetting, ...]:
    """What to type into a mail client, the best way of each kind first."""
    found: list[ClientSetting] = []
    listeners = {listener.service: listener for listener in config.listeners()}
    for service, (purpose, protocol, security) in _FOR_CLIENTS.items():
        listener = listeners.get(service)
        if listener is None:
            continue
        found.append(
            ClientSetting(
                purpose=purpose,
                protocol=protocol,
                host=_host(config, listener.addresses),
                port=listener.port or 0,
                security=security,
            )
        )
    return tuple(found)


def own_place(config: Config, service: Service) -> tuple[str, int] | None:
    """Address and port where this machine reaches a service of its own node, or None."""
    for listener in config.listeners():
        if listener.service is service and listener.port:
            return _reachable(listener.addresses), listener.port
    return None


def privileged_ports(config: Config) -> tuple[int, ...]:
    """Ports of the config that only root or a service manager may open."""
    try:
        below = int(PRIVILEGED_BELOW.read_text())
    except (OSError, ValueError):
        below = PRIVILEGED_BELOW_USUALLY
    ports = {listener.port or below for listener in config.listeners()}
    return tuple(sorted(port for port in ports if port < below))


def is_loopback_only(config: Config) -> bool:
    return all(
        ipaddress.ip_address(address).is_loopback
        for listener in config.listeners()
        for address in listener.addresses
    )


def mx_port(config: Config) -> int | None:
    """Where mail from other hosts is taken; they only ever come to 25."""
    place = own_place(config, Service.MX)
    return place[1] if place else None


def _host(config: Config, addresses: tuple[str, ...]) -> str:
    """What a client connects to: the name, or the address where only this machine is served."""
    if addresses and all(ipaddress.ip_address(address).is_loopback for address in addresses):
        return addresses[0]
    return config.node.hostname


def _reachable(addresses: tuple[str, ...]) -> str:
    first = ipaddress.ip_address(addresses[0])
    if not first.is_unspecified:
        return addresses[0]
    return "127.0.0.1" if first.version == 4 else "::1"


def _public(config: Config, version: int) -> str:
    """An address that the config names and that others reach."""
    for listener in config.listeners():
        for address in listener.addresses:
            ip = ipaddress.ip_address(address)
            if listener.service is Service.MX and ip.version == version and ip.is_global:
                return address
    return ""
