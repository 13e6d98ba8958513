"""Where a node is reached: by mail clients, by other hosts, and from its own machine."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

from posthouse.config.schema import Config, Service

STANDARD_MX_PORT: Final = 25

_FOR_CLIENTS: Final = {
    Service.IMAPS: ("reading", "IMAP", "TLS"),
    Service.IMAP: ("reading", "IMAP", "STARTTLS"),
    Service.POP3S: ("reading", "POP3", "TLS"),
    Service.POP3: ("reading", "POP3", "STARTTLS"),
    Service.SUBMISSIONS: ("sending", "SMTP", "TLS"),
    Service.SUBMISSION: ("sending", "SMTP", "STARTTLS"),
}


class ClientSetting(msgspec.Struct, frozen=True, kw_only=True):
    """One way for a mail client to reach the node."""

    purpose: str
    """ "reading" or "sending"."""
    protocol: str
    host: str
    port: int
    security: str
    """ "TLS" from the start, or "STARTTLS"."""


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


def public_address(config: Config, version: int) -> str:
    """An address for port 25 that the config names and that others reach; "" for none."""
    for listener in config.listeners():
        for address in listener.addresses:
            ip = ipaddress.ip_address(address)
            if listener.service is Service.MX and ip.version == version and ip.is_global:
                return address
    return ""


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
