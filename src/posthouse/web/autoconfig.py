"""How mail clients set themselves up: Mozilla's autoconfig, a clientConfig 1.1 for each domain.

A client asks with its user's address, and only the domain of it counts: every address of a domain
gets the same answer, so that nobody learns which accounts there are. Thunderbird and others ask
https://autoconfig.DOMAIN first, then the well-known place of the domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final
from urllib.parse import parse_qs

import msgspec

from posthouse.message.address import AddressError, domain_to_ascii
from posthouse.reporting.write_xml import escaped

LABEL: Final = "autoconfig"
"""In front of a domain."""
PATH: Final = "/mail/config-v1.1.xml"
"""At the host that has the label."""
WELL_KNOWN_PATH: Final = "/.well-known/autoconfig/mail/config-v1.1.xml"
"""At a domain itself, and at our host."""
PATHS: Final = frozenset({PATH, WELL_KNOWN_PATH})
ADDRESS_FIELD: Final = "emailaddress"
QUERY_OCTETS_MAX: Final = 1_024
QUERY_FIELDS_MAX: Final = 8
USERNAME: Final = "%EMAILADDRESS%"
"""The client puts the user's address there."""
PASSWORD: Final = "password-cleartext"  # noqa: S105  the format's word; TLS is around it always


class Protocol(Enum):
    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"


class Security(Enum):
    """The format's words."""

    TLS = "SSL"
    STARTTLS = "STARTTLS"


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    protocol: Protocol
    host: str
    port: int
    security: Security


class Clients(msgspec.Struct, frozen=True, kw_only=True):
    """What we tell mail clients, and of which domains."""

    servers: tuple[MailServer, ...] = ()
    """The best of each protocol first."""
    domains: frozenset[str] = frozenset()
    """In A-labels."""
    host: str = ""
    """Our own name, asked at the well-known place with an address."""

    def answer(self, host: str, path: str, query: str) -> bytes | None:
        """What is served at one of `PATHS`; None when nothing is."""
        own = host
        if path == PATH:
            label, _, own = host.partition(".")
            if label != LABEL or own not in self.domains:
                return None
        elif own not in self.domains and own != self.host:
            return None
        domain = asked_domain(query, default=own)
        return None if domain not in self.domains else client_config(domain, self.servers)


def asked_domain(query: str, *, default: str) -> str:
    """The domain of the address in a query, in A-labels; "" for what is no address."""
    if len(query) > QUERY_OCTETS_MAX:
        return ""
    try:
        fields = parse_qs(query, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return ""
    match fields.get(ADDRESS_FIELD):
        case None:
            return default
        case [str(address)] if "@" in address:
            try:
                return domain_to_ascii(address.rpartition("@")[2])
            except AddressError:
                return ""
    return ""


def autoconfig_host(domain: str) -> str:
    return f"{LABEL}.{domain}"


def client_config(domain: str, servers: Sequence[MailServer]) -> bytes:
    """The whole document; see Mozilla's "Autoconfig file format"."""
    return "".join(_lines(domain, servers)).encode("utf-8")


def _lines(domain: str, servers: Sequence[MailServer]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<clientConfig version="1.1">\n'
    yield f'  <emailProvider id="{escaped(domain)}">\n'
    for name in ("domain", "displayName", "displayShortName"):
        yield _element(name, domain, indent="    ")
    incoming = [server for server in servers if server.protocol is not Protocol.SMTP]
    outgoing = [server for server in servers if server.protocol is Protocol.SMTP]
    for name, kind in (("incomingServer", incoming), ("outgoingServer", outgoing)):
        for server in kind:
            yield f'    <{name} type="{server.protocol.value}">\n'
            yield _element("hostname", server.host)
            yield _element("port", str(server.port))
            yield _element("socketType", server.security.value)
            yield _element("authentication", PASSWORD)
            yield _element("username", USERNAME)
            yield f"    </{name}>\n"
    yield "  </emailProvider>\n</clientConfig>\n"


def _element(name: str, text: str, *, indent: str = "      ") -> str:
    return f"{indent}<{name}>{escaped(text)}</{name}>\n"
