"""`posthouse resolve TYPE NAME`: what the DNS says, and for MX what routing makes of it.

It asks the servers that the config names with the resolver that the relay uses, so what it shows is
what the relay would see.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from posthouse.accounts import admin
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import ExitCode, json_option, say, show_json, show_table, show_text
from posthouse.cli.queue import span
from posthouse.cli.resolver import (
    caching_resolver,
    dns_options,
    https_fetch,
    resolver_option,
    shown_place,
)
from posthouse.config import build
from posthouse.config.schema import Config
from posthouse.dns import options as dns
from posthouse.kernel.ports import (
    DnsAnswer,
    DnsStatus,
    RecordType,
    Resolver,
)
from posthouse.net.world import SystemChance, SystemClock
from posthouse.relay.mta_sts import StsPolicies
from posthouse.relay.plan import HostPolicy, RoutePlan
from posthouse.relay.route import explain_route
from posthouse.store import accounts as rows
from posthouse.tls.dane import shown as shown_tlsa
from posthouse.zone.checked import record_text

TYPES: Final = {record_type.value.lower(): record_type for record_type in RecordType}


class TypeMissing(click.UsageError):
    """A name stands where the type belongs."""

    def __init__(self, message: str, *, ctx: click.Context | None, name: str) -> None:
        super().__init__(message, ctx)
        self.hint = f"posthouse resolve mx {name}"


class TypeChoice(click.Choice[str]):
    """A record type; the hint for a name in its place says what was probably meant."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            if "." not in value:
                raise
            message = f"before the name comes a type: {', '.join(TYPES)}"
            raise TypeMissing(message, ctx=ctx, name=value) from None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the DNS said, as `--json` shows it."""

    name: str
    """The owner of the records, after CNAMEs."""
    type: str
    status: str
    records: tuple[str, ...]
    is_authenticated: bool
    """The AD bit, from a resolver that is trusted for it."""
    ttl_s: float
    detail: str


class TlsShown(msgspec.Struct, frozen=True, kw_only=True):
    """What TLS with a host has to be."""

    level: str
    """ "off", "opportunistic", "required", "verified", "dane" or "implicit"."""
    why: str
    """Which policies apply: "dane", "mta-sts", "required"…"""
    names: tuple[tuple[str, ...], ...]
    """Where the certificate is verified: it is for one name of each of these groups."""
    tlsa: tuple[str, ...]
    """Usable TLSA records; the certificate has to match one of them."""
    mta_sts: tuple[str, ...]
    """The lines of the domain's policy."""
    refusal: str
    """Why the host is passed over; "" when it is not."""


class HostShown(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    port: int
    preference: int
    addresses: tuple[str, ...]
    tls: TlsShown


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What the relay would do with mail for the domain."""

    kind: str
    """ "local", "mx", "implicit mx", "route", "smart host" or "address literal"."""
    tls: str
    """What the config asks of TLS, at least."""
    hosts: tuple[HostShown, ...]
    user: str
    """Who logs in at a smart host; "" for nobody."""
    status: str
    """Enhanced status code where mail could not be sent, else ""."""
    failure: str
    is_permanent: bool
    notes: tuple[str, ...]


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    servers: tuple[str, ...]
    answer: Answer | None
    """None for an address literal, which the DNS is not asked about."""
    route: Route | None
    """For MX only."""


@click.command()
@click.argument("kind", type=TypeChoice(list(TYPES)), metavar=f"[{'|'.join(TYPES)}]")
@click.argument("name")
@resolver_option
@json_option
@config_option
def resolve(
    kind: str, name: str, resolver: str | None, as_json: bool, config_path: str | None
) -> int:
    """What the DNS says about a name, and for mx what routing would do with its mail.

    NAME may be an IP address for ptr. Ends with 4 when there is no such name or record, or mail
    could never be sent there, and with 75 when the answer could not be had.
    """
    config = load_config(config_path).config
    options = dns_options(config, resolver)
    record_type = TYPES[kind]
    asked = _asked(name, record_type)
    found = asyncio.run(_resolve(config, options, record_type, asked))
    if as_json:
        show_json(found)
    else:
        _show(found)
    return _exit_code(found)


def _asked(name: str, record_type: RecordType) -> str:
    """The name to ask for: A-labels, or for PTR the address turned round (RFC 1035 §3.5)."""
    if record_type is RecordType.PTR:
        try:
            return ipaddress.ip_address(name).reverse_pointer
        except ValueError:
            return name
    if record_type is RecordType.MX:
        return name if name.startswith("[") else admin.parse_typed_domain(name)
    return name if name.isascii() else admin.parse_typed_domain(name)


async def _resolve(
    config: Config, options: dns.Options, record_type: RecordType, name: str
) -> Resolved:
    resolver, chance = caching_resolver(options), SystemChance()
    answer = None if name.startswith("[") else await resolver.resolve(name, record_type)
    route = None
    if record_type is RecordType.MX:
        if _is_local(config, name):
            route = _local_route()
        else:
            routes = build.relay_options(config).routes
            plan = await explain_route(
                name,
                resolver=resolver,
                chance=chance,
                options=routes,
                policies=_policies(config, resolver),
            )
            route = _route(plan)
    return Resolved(
        servers=tuple(shown_place(*server) for server in options.servers),
        answer=None if answer is None else _answer(answer, record_type, name),
        route=route,
    )


def _policies(config: Config, resolver: Resolver) -> StsPolicies:
    """MTA-STS policies fetched anew: a running server may have an older one that still counts."""
    fetch = https_fetch(config, resolver)
    options = build.mta_sts_options(config)
    return StsPolicies(options, resolver=resolver, fetch=fetch, clock=SystemClock())


def _is_local(config: Config, domain: str) -> bool:
    """Whether this node takes mail for the domain; no where there is no data yet."""
    if not Path(config.node.data_folder, "posthouse.db").exists():
        return False
    with open_store(config) as store:
        return store.read_now(lambda tx: rows.domain_by_name(tx, domain)) is not None


def _local_route() -> Route:
    return Route(
        kind="local",
        tls="",
        hosts=(),
        user="",
        status="",
        failure="",
        is_permanent=False,
        notes=("the domain is one of ours, its mail goes into mailboxes",),
    )


def _route(plan: RoutePlan) -> Route:
    failure = plan.failure
    return Route(
        kind=plan.kind.value,
        tls=plan.tls.value,
        hosts=tuple(
            HostShown(
                name=host.name,
                port=host.port,
                preference=host.preference,
                addresses=host.addresses,
                tls=_tls(host.policy),
            )
            for host in plan.hosts
        ),
        user=plan.login.username if plan.login is not None else "",
        status=failure.status if failure is not None else "",
        failure=failure.words if failure is not None else "",
        is_permanent=failure is not None and failure.is_permanent,
        notes=(*plan.notes, *_sts_notes(plan)),
    )


def _tls(policy: HostPolicy) -> TlsShown:
    return TlsShown(
        level=policy.tls.value,
        why=policy.words,
        names=policy.names if policy.has_trusted_chain else (),
        tlsa=tuple(shown_tlsa(record) for record in policy.tlsa),
        mta_sts=policy.sts.lines if policy.sts is not None else (),
        refusal=policy.refusal.words if policy.refusal is not None else "",
    )


def _sts_notes(plan: RoutePlan) -> Iterator[str]:
    if plan.sts_trouble is not None:
        yield f"the domain's MTA-STS policy cannot be had: {plan.sts_trouble.words}"


def _answer(answer: DnsAnswer, record_type: RecordType, name: str) -> Answer:
    return Answer(
        name=answer.name or name,
        type=record_type.value,
        status=answer.status.value,
        records=tuple(map(_record, answer.records)),
        is_authenticated=answer.is_authenticated,
        ttl_s=answer.ttl_s,
        detail=answer.detail,
    )


def _record(record: Any) -> str:
    if isinstance(record, bytes):
        return record.decode("utf-8", "backslashreplace")
    return record_text(record)


def _show(found: Resolved) -> None:
    answer = found.answer
    if answer is not None:
        rows_ = [(answer.name, answer.type, record) for record in answer.records]
        if rows_:
            show_table(("name", "type", "record"), rows_)
        say(_answer_words(answer, found.servers))
    if found.route is not None:
        _show_route(found.route)


def _answer_words(answer: Answer, servers: tuple[str, ...]) -> str:
    words = f"{answer.name} {answer.type}: {answer.status}"
    if answer.status == DnsStatus.TEMPFAIL.value:
        return f"{words}: {answer.detail or 'no answer'}; asked {', '.join(servers)}"
    proof = "proven by DNSSEC" if answer.is_authenticated else "not proven by DNSSEC"
    return f"{words}, {proof} (AD {int(answer.is_authenticated)}), TTL {span(answer.ttl_s)}"


def _show_route(route: Route) -> None:
    if route.failure:
        ending = "returned to the sender" if route.is_permanent else "tried again later"
        show_text(f"mail cannot go: {route.status} {route.failure}; it is {ending}")
    elif route.hosts:
        login = f", logged in as {route.user}" if route.user else ""
        show_text(f"mail goes by {route.kind}{login}, to these in turn:")
        for number, host in enumerate(route.hosts, 1):
            addresses = ", ".join(host.addresses)
            show_text(f"  {number}. {host.name} port {host.port} ({host.preference}): {addresses}")
            for line in _tls_words(host.tls):
                show_text(f"     {line}")
    else:
        show_text("mail stays here")
    for note in route.notes:
        show_text(f"  {note}")


def _tls_words(tls: TlsShown) -> Iterator[str]:
    if tls.refusal:
        yield f"passed over: {tls.refusal}"
        return
    names = "; ".join(" or ".join(group) for group in tls.names)
    wanted = f", certificate for {names}" if names else ""
    why = f" ({tls.why})" if tls.why != tls.level else ""
    yield f"TLS {tls.level}{why}{wanted}"
    for record in tls.tlsa:
        yield f"TLSA {record}"


def _exit_code(found: Resolved) -> int:
    route, answer = found.route, found.answer
    if route is not None:
        if not route.failure:
            is_refused = bool(route.hosts) and all(host.tls.refusal for host in route.hosts)
            return ExitCode.TEMPORARY if is_refused else ExitCode.OK
        return ExitCode.NOT_FOUND if route.is_permanent else ExitCode.TEMPORARY
    if answer is None or answer.status == DnsStatus.FOUND.value:
        return ExitCode.OK
    is_temporary = answer.status == DnsStatus.TEMPFAIL.value
    return ExitCode.TEMPORARY if is_temporary else ExitCode.NOT_FOUND
