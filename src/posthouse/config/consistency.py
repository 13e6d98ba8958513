"""Settings that only make sense together: checked once each of them is right for itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from posthouse.config.lines import KeyPath
from posthouse.config.quantity import format_value
from posthouse.config.schema import AcmeChallenge, Config, RouteTls, Service, TlsLevel
from posthouse.config.setting import Unit
from posthouse.message.address import AddressError, parse_mailbox

IPV4_PREFIX_MIN: Final = 8
IPV6_PREFIX_MIN: Final = 16
"""Nobody owns more than this; two halves of 0.0.0.0/0 are the whole of it too."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that contradict each other; the first path is where it is reported."""

    paths: tuple[KeyPath, ...]
    text: str
    hint: str = ""


def conflicts(config: Config) -> Iterator[Conflict]:
    for check in _CHECKS:
        yield from check(config)


def _certificate(config: Config) -> Iterator[Conflict]:
    tls, both = config.tls, (("tls", "certificate"), ("tls", "key"))
    if tls.certificate and not tls.key:
        yield Conflict(paths=both, text="the certificate has no key", hint="set tls.key")
    if tls.key and not tls.certificate:
        hint = "set tls.certificate"
        yield Conflict(paths=both[::-1], text="the key has no certificate", hint=hint)


def _smart_host(config: Config) -> Iterator[Conflict]:
    smart, at = config.relay.smart_host, ("relay", "smart_host")
    host, name, file = (*at, "host"), (*at, "username"), (*at, "password_file")
    if not smart.host and (smart.username or smart.password_file):
        path = name if smart.username else file
        yield Conflict(
            paths=(path, host),
            text="there is a login but no host",
            hint="set relay.smart_host.host",
        )
    if smart.username and not smart.password_file:
        yield Conflict(
            paths=(name, file),
            text="the login has no password",
            hint="set relay.smart_host.password_file to a file that only Posthouse can read",
        )
    if smart.password_file and not smart.username:
        hint = "set relay.smart_host.username"
        yield Conflict(paths=(file, name), text="the password has no username", hint=hint)
    if smart.username and smart.tls in {RouteTls.OFF, RouteTls.OPPORTUNISTIC}:
        yield Conflict(
            paths=((*at, "tls"), name),
            text=f'"{smart.tls.value}" could send the password in plaintext',
            hint='use "verified" or "implicit"',
        )
    if ":" in smart.host.rpartition("]")[2]:
        yield Conflict(
            paths=(host,),
            text="the port stands apart here",
            hint="set relay.smart_host.port",
        )


def _tls_policies(config: Config) -> Iterator[Conflict]:
    for index, policy in enumerate(config.relay.tls_policy):
        if policy.names and policy.tls is not TlsLevel.VERIFIED:
            at = ("relay", "tls_policy", index)
            yield Conflict(
                paths=((*at, "names"), (*at, "tls")),
                text=f'with tls = "{policy.tls.value}" nobody looks at the names',
                hint='set tls = "verified", or remove the names',
            )


def _relay_networks(config: Config) -> Iterator[Conflict]:
    for text in config.smtp.relay_networks:
        if _is_too_wide(text):
            yield Conflict(
                paths=(("smtp", "relay_networks"),),
                text=f"{text} would make this an open relay: anybody could send to anybody",
                hint="name only networks whose every host is yours, or let users log in",
            )


def _proxies(config: Config) -> Iterator[Conflict]:
    for at, listener in enumerate(config.listener):
        for text in listener.proxy_networks:
            if _is_too_wide(text):
                yield Conflict(
                    paths=(("listener", at, "proxy_networks"),),
                    text=f"{text} would let anybody claim any client address",
                    hint="name only the addresses of your proxies",
                )


def _is_too_wide(text: str) -> bool:
    network = ipaddress.ip_network(text)
    least = IPV4_PREFIX_MIN if network.version == 4 else IPV6_PREFIX_MIN
    return network.prefixlen < least


def _loopback_metrics(config: Config) -> Iterator[Conflict]:
    address = config.metrics.address
    if not ipaddress.ip_address(address).is_loopback:
        yield Conflict(
            paths=(("metrics", "address"),),
            text=f"{address} is not a loopback address",
            hint='to show metrics to others, write a [[listener]] with service = "metrics"',
        )


def _routes(config: Config) -> Iterator[Conflict]:
    for at, route in enumerate(config.relay.route):
        if not route.hosts:
            path = ("relay", "route", at, "hosts")
            yield Conflict(paths=(path,), text="the list is empty", hint="name at least one host")


OWN_SECTIONS: Final[dict[Service, KeyPath]] = {
    Service.METRICS: ("metrics", "port"),
    Service.HTTP: ("web", "addresses"),
    Service.HTTPS: ("web", "addresses"),
}


def _listeners(config: Config) -> Iterator[Conflict]:
    """Two listeners on one port, and ports that TLS from the start and STARTTLS would share."""
    seen: dict[tuple[str, int], Service] = {}
    for at, listener in enumerate(config.listeners()):
        for address in listener.addresses:
            place = (address, listener.port or 0)
            if listener.port and place in seen:
                written = at < len(config.listener)
                own = OWN_SECTIONS.get(listener.service, ("metrics", "port"))
                path: KeyPath = ("listener", at) if written else own
                yield Conflict(
                    paths=(path,),
                    text=f"port {listener.port} of {address} is already taken by"
                    f' service "{seen[place].value}"',
                    hint="give one of them another port or address",
                )
            seen.setdefault(place, listener.service)


_ORDERED: Final = (
    ("smtp.errors_soft_max", "smtp.errors_max"),
    ("smtp.unknown_recipients_max", "smtp.unknown_recipients_close"),
    ("auth.failures.delay_s", "auth.failures.delay_max_s"),
    ("auth.failures.per_minute", "auth.failures.per_day"),
    ("relay.concurrency.initial", "relay.concurrency.max"),
    ("relay.retry.first_s", "relay.retry.max_s"),
    ("dns.ttl_min_s", "dns.ttl_max_s"),
    ("message.field_octets_max", "message.header_octets_max"),
    ("message.header_octets_max", "smtp.message_octets_max"),
    ("submission.per_hour", "submission.per_day"),
    ("imap.line_before_login_octets_max", "imap.line_octets_max"),
    ("imap.literal_before_login_octets_max", "imap.literal_octets_max"),
    ("reports.packed_octets_max", "reports.unpacked_octets_max"),
    ("net.per_address_max", "net.per_network_max"),
    ("net.per_address_imap_max", "net.per_network_imap_max"),
    ("web.per_address_max", "web.per_network_max"),
)
"""The first may not be more than the second."""


def _api(config: Config) -> Iterator[Conflict]:
    web = {Service.HTTP, Service.HTTPS}
    if config.web.serves_api and not any(one.service in web for one in config.listeners()):
        yield Conflict(
            paths=(("web", "serves_api"),),
            text="no port is open for it",
            hint="set web.is_enabled = true",
        )


def _acme(config: Config) -> Iterator[Conflict]:
    acme = config.acme
    if bool(acme.eab_key_id) != bool(acme.eab_key_file):
        missing = "eab_key_file" if acme.eab_key_id else "eab_key_id"
        yield _acme_conflict("eab_key_id", f"acme.{missing} is missing", "set both or neither")
    if not acme.is_enabled:
        return
    if not acme.accepts_terms:
        yield _acme_conflict(
            "is_enabled",
            "the authority's terms are not accepted",
            "read them, then set acme.accepts_terms = true",
        )
    if "." not in config.node.hostname and not config.tls.certificate:
        yield Conflict(
            paths=(("acme", "is_enabled"), ("node", "hostname")),
            text=f"no authority gives a certificate for {config.node.hostname!r}",
            hint='set node.hostname to the full name of this machine, like "mail.example.org"',
        )
    has_dns = bool(config.dns_update.server or config.dns_update.hook)
    by_dns = acme.challenge is AcmeChallenge.DNS_01
    if by_dns and not has_dns:
        yield _acme_conflict("challenge", "dns-01 changes the DNS", "set up [dns_update]")
    is_provable = has_dns and acme.challenge in {AcmeChallenge.DNS_01, AcmeChallenge.AUTO}
    if any(name.startswith("*.") for name in acme.names) and not is_provable:
        yield _acme_conflict("names", "a wildcard is proved by dns-01 only", "set up [dns_update]")


def _acme_conflict(key: str, text: str, hint: str = "") -> Conflict:
    return Conflict(paths=(("acme", key),), text=text, hint=hint)


def _dns_update(config: Config) -> Iterator[Conflict]:
    update = config.dns_update
    if update.server and update.hook:
        yield Conflict(
            paths=(("dns_update", "hook"), ("dns_update", "server")),
            text="there are a command and a server",
            hint="keep the one that is to be used",
        )
    for key in ("key_name", "key_file"):
        if update.server and not getattr(update, key):
            yield Conflict(
                paths=(("dns_update", "server"), ("dns_update", key)),
                text="updates without a TSIG key would be anybody's",
                hint=f"set dns_update.{key}",
            )


def _reports(config: Config) -> Iterator[Conflict]:
    reports = config.reports
    for key in ("from_address", "contact"):
        if not _is_address(getattr(reports, key) or "you@example.org"):
            yield Conflict(
                paths=(("reports", key),),
                text=f"{getattr(reports, key)!r} is no address",
                hint="write it as name@example.org",
            )
    for key in ("dmarc_local_part", "tls_local_part"):
        if not _is_address(f"{getattr(reports, key)}@example.org"):
            yield Conflict(
                paths=(("reports", key),),
                text=f"{getattr(reports, key)!r} cannot stand in front of an @",
                hint='write only the name, like "dmarc-reports"',
            )


def _is_address(text: str) -> bool:
    try:
        return text.isascii() and bool(parse_mailbox(text))
    except AddressError:
        return False


def _order(config: Config) -> Iterator[Conflict]:
    for less, more in _ORDERED:
        small, large = value_at(config, less), value_at(config, more)
        if small > large:
            unit = _unit(less)
            yield Conflict(
                paths=(tuple(less.split(".")), tuple(more.split("."))),
                text=f"{format_value(small, unit)} is more than {more}"
                f" ({format_value(large, unit)})",
                hint=f"set both, {less.rpartition('.')[2]} to no more than the other",
            )


def value_at(config: Config, key: str) -> int | float:
    """The number that a key outside repeated sections has."""
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    assert isinstance(value, int | float)
    return value


def _unit(key: str) -> Unit:
    if key.endswith("_s"):
        return Unit.SECONDS
    return Unit.OCTETS if "octets" in key else Unit.COUNT


_CHECKS: Final[tuple[Callable[[Config], Iterator[Conflict]], ...]] = (
    _certificate,
    _smart_host,
    _tls_policies,
    _relay_networks,
    _proxies,
    _loopback_metrics,
    _routes,
    _listeners,
    _api,
    _acme,
    _dns_update,
    _reports,
    _order,
)
