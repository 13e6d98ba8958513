"""What commands ask others with: the resolver, over the servers that the config or the system names
or the one that `--resolver HOST:PORT` does, and HTTPS to where its answers lead."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import msgspec

from posthouse.cli.output import Command
from posthouse.config import build
from posthouse.config.schema import STANDARD_PORTS, Config, Service
from posthouse.dns import options as dns
from posthouse.dns.resolver import CachingResolver
from posthouse.kernel.ports import Resolver
from posthouse.net.fetch import HttpsFetch
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.relay.plan import parse_place
from posthouse.tls.contexts import verifying_client_context

RESOLV_CONF: Final = Path("/etc/resolv.conf")


def resolver_option(command: Command) -> Command:
    """`--resolver HOST:PORT`, as the argument `resolver`; give it to `dns_options`."""
    return click.option("--resolver", metavar="HOST:PORT", help="Ask this server (an IP address).")(
        command
    )


def dns_options(config: Config, resolver: str | None) -> dns.Options:
    """What the command's resolver is told.

    Raises:
        click.UsageError: `resolver` is no IP address with or without a port.
    """
    options = build.dns_options(config, resolv_conf=system_servers)
    if resolver is None:
        return options
    return msgspec.structs.replace(options, servers=(_server(resolver),))


def caching_resolver(options: dns.Options) -> CachingResolver:
    """Over the system's network; make it where the loop runs."""
    return CachingResolver(
        options, network=SystemNetwork(), clock=SystemClock(), chance=SystemChance()
    )


def system_servers() -> str:
    """The text of /etc/resolv.conf; "" where it cannot be read."""
    try:
        return RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def https_fetch(config: Config, resolver: Resolver) -> HttpsFetch:
    """As a server fetches what others publish."""
    return HttpsFetch(
        resolver,
        context=verifying_client_context(),
        port=port_of(config, Service.HTTPS),
        allow_private_addresses=config.relay.allow_private_addresses,
    )


def port_of(config: Config, service: Service) -> int:
    """Where others come to: the standard port, whatever this server listens on. In a laboratory
    (`relay.allow_private_addresses`) nobody forwards, and it is the server's own."""
    if config.relay.allow_private_addresses:
        for listener in config.listeners():
            if listener.service is service and listener.port:
                return listener.port
    return STANDARD_PORTS[service]


def shown_place(host: str, port: int) -> str:
    """An address and port as `--resolver` takes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _server(text: str) -> tuple[str, int]:
    try:
        place = parse_place(text, port=dns.PORT)
        if not place.is_literal:
            raise ValueError
        return place.host, place.port
    except ValueError:
        raise click.UsageError(
            f"--resolver takes an IP address with or without a port, and {text!r} is none"
        ) from None
