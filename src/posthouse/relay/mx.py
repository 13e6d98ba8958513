"""From a domain to the hosts that take its mail (RFC 5321 §5.1, RFC 7505).

A question that failed is temporary and never taken for "there is none" (promise P8); what the DNS
says for certain is permanent. Hosts that are ourselves and addresses inside are left out (F24).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.kernel.ports import (
    Chance,
    DnsStatus,
    MxRecord,
    RecordType,
    Resolver,
)
from posthouse.net.addresses import is_public
from posthouse.relay.plan import (
    Failure,
    Host,
    Kind,
    Place,
    RouteOptions,
    RoutePlan,
    Tls,
    parse_place,
)

MX_LOOKED_AT_MAX: Final = 20
"""Hosts of an MX set that are looked up; the rest come behind what an attempt would try anyway."""
NOTES_MAX: Final = 20


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of one host name."""

    addresses: tuple[str, ...] = ()
    trouble: str = ""
    """Why a question had no answer; the host may have more addresses."""
    is_authenticated: bool = False
    canonical: str = ""
    """The name behind CNAMEs; "" where there are none."""


async def _addresses(name: str, resolver: Resolver) -> _Found:
    """AAAA and A, taking turns, so that neither family is left out by the bound on addresses."""
    six, four = await asyncio.gather(
        resolver.resolve(name, RecordType.AAAA), resolver.resolve(name, RecordType.A)
    )
    pairs = itertools.zip_longest(six.records, four.records)
    troubles = [
        answer.detail or "the DNS gave no answer"
        for answer in (six, four)
        if answer.status is DnsStatus.TEMPFAIL
    ]
    found = [answer for answer in (six, four) if answer.status is DnsStatus.FOUND]
    owners = {answer.name or name for answer in found}
    canonical = owners.pop() if len(owners) == 1 else name
    return _Found(
        addresses=tuple(address for pair in pairs for address in pair if address is not None),
        trouble=troubles[0] if troubles else "",
        is_authenticated=bool(found) and all(answer.is_authenticated for answer in found),
        canonical=canonical if canonical != name else "",
    )


async def plan_mx(
    domain: str, *, resolver: Resolver, chance: Chance, options: RouteOptions
) -> RoutePlan:
    """The plan by MX records, or by the domain's own addresses where it has none."""
    answer = await resolver.resolve(domain, RecordType.MX)
    records: Sequence[MxRecord] = answer.records
    match answer.status:
        case DnsStatus.TEMPFAIL:
            words = f"looking up the MX of {domain} failed: {answer.detail or 'no answer'}"
            return _failed(domain, Kind.MX, "4.4.3", words, is_permanent=False)
        case DnsStatus.NO_NAME:
            words = f"the domain {domain} does not exist"
            return _failed(domain, Kind.MX, "5.1.2", words)
        case DnsStatus.NO_DATA:
            records, kind = (MxRecord(0, domain),), Kind.IMPLICIT_MX
        case DnsStatus.FOUND:
            kind = Kind.MX
    named = [record for record in records if record.host]
    if not named:  # RFC 7505 §3
        return _failed(domain, kind, "5.1.10", f"556 {domain} says that it takes no mail")
    ordered = _ordered(named, chance)[:MX_LOOKED_AT_MAX]
    found = await asyncio.gather(*(_addresses(record.host, resolver) for record in ordered))
    plan = _choose(domain, kind, list(zip(ordered, found)), options)
    canonical = answer.name if answer.status is DnsStatus.FOUND else ""
    return msgspec.structs.replace(
        plan,
        is_authenticated=answer.is_authenticated,
        canonical=canonical if canonical != domain else "",
    )


def _ordered(records: Sequence[MxRecord], chance: Chance) -> list[MxRecord]:
    """By preference; hosts of one preference in an order left to chance, RFC 5321 §5.1."""
    by_preference: dict[int, list[MxRecord]] = {}
    for record in records:
        by_preference.setdefault(record.preference, []).append(record)
    return [
        record
        for preference in sorted(by_preference)
        for record in chance.shuffled(by_preference[preference])
    ]


def _choose(
    domain: str, kind: Kind, found: list[tuple[MxRecord, _Found]], options: RouteOptions
) -> RoutePlan:
    """Leave out ourselves, everybody less preferred, and addresses inside."""
    notes: list[str] = []
    own = min(
        (record.preference for record, at in found if _is_own(record.host, at, options)),
        default=None,
    )
    if own is not None:  # RFC 5321 §5.1: those from our own preference on would send it back
        left_out = [record.host for record, _ in found if record.preference >= own]
        notes.append(f"left out as ourselves or behind ourselves: {', '.join(left_out)}")
        found = [(record, at) for record, at in found if record.preference < own]
        if not found:
            words = f"mail for {domain} would come back to this server"
            return _failed(domain, kind, "5.4.6", words, notes=notes)
    hosts: list[Host] = []
    room = options.addresses_max
    for record, at in found:
        allowed = [a for a in at.addresses if is_allowed(a, options)]
        if len(allowed) < len(at.addresses):
            notes.append(f"{record.host}: private addresses are not used")
        if not at.addresses:
            notes.append(f"{record.host}: {at.trouble or 'has no address'}")
        if allowed and room and len(hosts) < options.hosts_max:
            hosts.append(
                Host(
                    name=record.host,
                    port=options.mx_port,
                    addresses=tuple(allowed[:room]),
                    preference=record.preference,
                    is_authenticated=at.is_authenticated,
                    canonical=at.canonical,
                )
            )
            room -= len(hosts[-1].addresses)
    if not hosts:
        return _without_hosts(domain, kind, found, notes)
    return RoutePlan(
        domain=domain,
        kind=kind,
        tls=options.tls.tls,
        hosts=tuple(hosts),
        notes=tuple(notes[:NOTES_MAX]),
    )


def _without_hosts(
    domain: str, kind: Kind, found: list[tuple[MxRecord, _Found]], notes: list[str]
) -> RoutePlan:
    troubles = [f"{record.host}: {at.trouble}" for record, at in found if at.trouble]
    if troubles:
        words = f"looking up the hosts of {domain} failed: {troubles[0]}"
        return _failed(domain, kind, "4.4.3", words, is_permanent=False, notes=notes)
    if any(at.addresses for _, at in found):
        words = f"{domain} names private addresses only as its hosts"
        return _failed(domain, kind, "5.3.5", words, notes=notes)
    if kind is Kind.IMPLICIT_MX:
        words = f"the domain {domain} has neither MX nor address"
        return _failed(domain, kind, "5.1.2", words, notes=notes)
    words = f"none of the hosts that {domain} names has an address"
    return _failed(domain, kind, "5.4.4", words, notes=notes)


def _is_own(host: str, at: _Found, options: RouteOptions) -> bool:
    return host in options.own_names or any(a in options.own_addresses for a in at.addresses)


def is_allowed(address: str, options: RouteOptions) -> bool:
    """Whether mail may go to an address that others named."""
    return options.allow_private_addresses or is_public(address)


# --- hosts that are named by an address, or by us ---


def plan_literal(domain: str, *, options: RouteOptions) -> RoutePlan:
    """The plan for an address literal (RFC 5321 §4.1.3): its address and nothing else."""
    try:
        place = parse_place(domain, port=options.mx_port)
    except ValueError:
        return _failed(domain, Kind.LITERAL, "5.1.2", f"{domain} is no address")
    if place.host in options.own_addresses:
        words = f"mail for {domain} would come back to this server"
        return _failed(domain, Kind.LITERAL, "5.4.6", words)
    if not is_allowed(place.host, options):
        words = f"{domain} is a private address"
        return _failed(domain, Kind.LITERAL, "5.3.5", words)
    host = Host(name=place.host, port=place.port, addresses=(place.host,))
    return RoutePlan(domain=domain, kind=Kind.LITERAL, tls=options.tls.tls, hosts=(host,))


async def plan_named(
    domain: str,
    kind: Kind,
    hosts: Sequence[str],
    tls: Tls,
    *,
    port: int | None = None,
    resolver: Resolver,
    options: RouteOptions,
) -> RoutePlan:
    """The plan for hosts that the config or a person names; their MX is not asked. What is wrong
    with them is ours to repair and so temporary (promise P8)."""
    try:
        places = [parse_place(host, port=port or options.mx_port) for host in hosts]
    except ValueError as error:
        return _failed(domain, kind, "4.3.5", str(error), is_permanent=False)
    found = await asyncio.gather(*(_place_addresses(place, resolver) for place in places))
    planned: list[Host] = []
    notes: list[str] = []
    room = options.addresses_max
    for index, (place, at) in enumerate(zip(places, found)):
        if not at.addresses:
            notes.append(f"{place.host}: {at.trouble or 'has no address'}")
        elif room and len(planned) < options.hosts_max:
            planned.append(
                Host(
                    name=place.host,
                    port=place.port,
                    addresses=at.addresses[:room],
                    preference=index,
                    is_authenticated=at.is_authenticated,
                    canonical=at.canonical,
                )
            )
            room -= len(planned[-1].addresses)
    if not planned:
        words = f"no host for {domain} can be found: {'; '.join(notes)}"
        return _failed(domain, kind, "4.4.4", words, is_permanent=False, notes=notes)
    return RoutePlan(
        domain=domain, kind=kind, tls=tls, hosts=tuple(planned), notes=tuple(notes[:NOTES_MAX])
    )


async def _place_addresses(place: Place, resolver: Resolver) -> _Found:
    if place.is_literal:
        return _Found(addresses=(place.host,))
    return await _addresses(place.host, resolver)


def _failed(
    domain: str,
    kind: Kind,
    status: str,
    words: str,
    *,
    is_permanent: bool = True,
    notes: Sequence[str] = (),
) -> RoutePlan:
    return RoutePlan(
        domain=domain,
        kind=kind,
        tls=Tls.OPPORTUNISTIC,
        failure=Failure(is_permanent=is_permanent, status=status, words=words),
        notes=tuple(notes[:NOTES_MAX]),
    )
