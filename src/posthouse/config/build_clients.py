"""From the checked config to where mail clients come to, and what they are told of it."""

from __future__ import annotations

import ipaddress
from typing import Final

from posthouse.config.schema import Config, Service
from posthouse.web.autoconfig import Clients, MailServer, Protocol, Security

SERVERS: Final = (
    (Service.IMAPS, Protocol.IMAP, Security.TLS),
    (Service.IMAP, Protocol.IMAP, Security.STARTTLS),
    (Service.POP3S, Protocol.POP3, Security.TLS),
    (Service.POP3, Protocol.POP3, Security.STARTTLS),
    (Service.SUBMISSIONS, Protocol.SMTP, Security.TLS),
    (Service.SUBMISSION, Protocol.SMTP, Security.STARTTLS),
)
"""TLS from the start is preferred (RFC 8314 §3)."""


def public_port(config: Config, service: Service) -> int | None:
    """The port of a service that more than this machine reaches, or None."""
    for listener in config.listeners():
        is_public = not all(ipaddress.ip_address(a).is_loopback for a in listener.addresses)
        if listener.service is service and is_public and listener.port:
            return listener.port
    return None


def mail_servers(config: Config) -> tuple[MailServer, ...]:
    """Everything that a mail client can use, the best of each protocol first."""
    found = []
    for service, protocol, security in SERVERS:
        if (port := public_port(config, service)) is not None:
            host = config.node.hostname.lower()
            found.append(MailServer(protocol=protocol, host=host, port=port, security=security))
    return tuple(found)


def clients(config: Config, domains: tuple[str, ...]) -> Clients:
    """What is told about the domains whose clients are told anything."""
    return Clients(
        servers=mail_servers(config),
        domains=frozenset(domains),
        host=config.node.hostname.lower(),
    )
