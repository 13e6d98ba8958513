"""What the text of a setting must be: names, addresses, networks, hosts with ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from posthouse.config.setting import Kind
from posthouse.message.address import (
    AddressError,
    domain_to_ascii,
    format_address,
    parse_mailbox,
)

TEXT_CHARACTERS_MAX: Final = 4_096
PORT_MAX: Final = 65_535


def checked_text(text: str, kind: Kind) -> str:
    """The text in its one spelling (domains as A-labels, addresses shortened).

    Raises:
        ValueError: it is not of that kind; the message says why, for people.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ValueError("it is too long")
    if not text.isprintable():
        raise ValueError("it has control characters in it")
    return _CHECKS[kind](text)


def split_host_port(text: str) -> tuple[str, int | None]:
    """("mx.example", 2525) of "mx.example:2525"; None when no port is given. An IPv6 address with a
    port wears brackets; brackets are taken off.

    Raises:
        ValueError: the port is no number from 1 to 65535, or a bracket is missing.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("it has no closing bracket before the port")
        return host, _port(rest[1:]) if rest else None
    if text.count(":") > 1:  # a bare IPv6 address
        return text, None
    host, colon, port = text.partition(":")
    return host, _port(port) if colon else None


def is_domain_match(pattern: str, domain: str) -> bool:
    """Whether a route's pattern means the domain; both in lower case. `*.example.org` is what lies
    below example.org and not example.org itself."""
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:]) and len(domain) >= len(pattern)
    return domain == pattern


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= PORT_MAX):
        raise ValueError("the port must be a number from 1 to 65535")
    return int(text)


def _text(text: str) -> str:
    return text


def _hostname(text: str) -> str:
    try:
        return domain_to_ascii(text.removesuffix("."))
    except AddressError as error:
        raise ValueError(str(error)) from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("it is no IPv4 or IPv6 address") from None


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("it is no IPv4 or IPv6 network") from None
    raise ValueError(f"it has bits set behind its length; perhaps {meant} is meant")


def _address_port(text: str) -> str:
    host, port = split_host_port(text)
    return _joined(_address(host), port)


def _host_port(text: str) -> str:
    host, port = split_host_port(text)
    try:
        return _joined(str(ipaddress.ip_address(host)), port)
    except ValueError:
        return _joined(_hostname(host), port)


def _joined(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _mail_address(text: str) -> str:
    if text.lower().startswith("mailto:"):
        raise ValueError("only the address is wanted, without mailto:")
    try:
        address = parse_mailbox(text)
    except AddressError as error:
        raise ValueError(str(error)) from None
    spelled = format_address(address)
    if not spelled.isascii() or spelled.startswith('"'):
        raise ValueError("the part before the @ must be plain ASCII without quotes")
    return spelled


def _https_url(text: str) -> str:
    if not text.startswith("https://"):
        raise ValueError("it does not begin with https://")
    if " " in text:
        raise ValueError("a space cannot be in a URL")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("its host or port is malformed") from None
    if not host:
        raise ValueError("it names no host")
    if parts.username is not None:
        raise ValueError("a name or password cannot be in it")
    _host_port(f"[{host}]" if ":" in host else host)
    return text


def _domain_pattern(text: str) -> str:
    if text.startswith("*."):
        return "*." + _hostname(text[2:])
    return _hostname(text)


_CHECKS: Final[dict[Kind, Callable[[str], str]]] = {
    Kind.TEXT: _text,
    Kind.PATH: _text,
    Kind.HOSTNAME: _hostname,
    Kind.ADDRESS: _address,
    Kind.NETWORK: _network,
    Kind.HOST_PORT: _host_port,
    Kind.ADDRESS_PORT: _address_port,
    Kind.DOMAIN_PATTERN: _domain_pattern,
    Kind.MAIL_ADDRESS: _mail_address,
    Kind.HTTPS_URL: _https_url,
}
