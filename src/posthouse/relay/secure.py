"""What TLS has to be with each host of a plan: what the config asks, what the destination publishes
(DANE, MTA-STS), and what the message demands, put together.

All of them have to hold; none overrides another (RFC 8461 §2). A host that cannot be used is left
in its place in the plan with the reason, and passed over when its turn comes (RFC 8461 §8.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from posthouse.kernel.ports import Resolver
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.relay.dane import NOT_APPLICABLE, Dane, look_up
from posthouse.relay.mta_sts import NOTHING, StsFound
from posthouse.relay.plan import (
    Demand,
    Host,
    HostPolicy,
    Kind,
    Refusal,
    RouteOptions,
    RoutePlan,
    Tls,
    TlsPolicy,
)
from posthouse.relay.sts_policy import Mode

_BY_DNS: Final = frozenset({Kind.MX, Kind.IMPLICIT_MX})
_STRENGTH: Final = {
    Tls.OFF: 0,
    Tls.OPPORTUNISTIC: 1,
    Tls.REQUIRED: 2,
    Tls.DANE: 3,
    Tls.VERIFIED: 4,
    Tls.IMPLICIT: 5,
}


class Policies(Protocol):
    """`relay.mta_sts.StsPolicies`."""

    async def policy_for(self, domain: str) -> StsFound: ...


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the config and the message ask of every host."""

    tls: Tls
    names: tuple[str, ...]
    is_configured: bool
    has_dane: bool
    has_sts: bool
    demand: Demand


async def secure(
    plan: RoutePlan,
    *,
    demand: Demand,
    resolver: Resolver,
    policies: Policies | None,
    options: RouteOptions,
) -> RoutePlan:
    """The plan with a policy for each host.

    Args:
        policies: None where MTA-STS is left out.
    """
    if plan.failure is not None:
        return plan
    asked = _asked(plan, demand, options)
    found, danes = await asyncio.gather(
        _sts(plan, asked, policies),
        asyncio.gather(*(_dane(plan, host, asked, resolver) for host in plan.hosts)),
    )
    hosts = tuple(
        msgspec.structs.replace(host, policy=_policy(plan, host, asked, dane, sts))
        for host, dane, sts in zip(plan.hosts, danes, found)
    )
    plan = msgspec.structs.replace(plan, hosts=hosts)
    for host, sts in zip(hosts, found):
        if sts.trouble is not None:
            owner = plan.domain if plan.kind in _BY_DNS else host.name
            return msgspec.structs.replace(plan, sts_trouble=sts.trouble, sts_domain=owner)
    return plan


def policy_of(domain: str, options: RouteOptions) -> TlsPolicy | None:
    """The first configured policy for a domain."""
    return next((one for one in options.tls.policies if one.matches(domain)), None)


def _asked(plan: RoutePlan, demand: Demand, options: RouteOptions) -> _Asked:
    own = (
        policy_of(plan.domain, options) if plan.kind not in (Kind.ROUTE, Kind.SMART_HOST) else None
    )
    tls = plan.tls if own is None else own.tls
    is_published = (own is None or own.uses_published) and demand is not Demand.TLS_OPTIONAL
    is_open = is_published and tls is not Tls.OFF and plan.kind is not Kind.LITERAL
    return _Asked(
        tls=tls,
        names=own.names if own is not None and tls is Tls.VERIFIED else (),
        is_configured=own is not None or tls is not Tls.OPPORTUNISTIC,
        # A person's DANE counts whatever the message says; so do their other levels.
        has_dane=tls is Tls.DANE
        or (options.tls.is_dane and is_open and (plan.kind in _BY_DNS or _is_weak(tls))),
        has_sts=options.tls.is_mta_sts and is_open and (plan.kind in _BY_DNS or _is_weak(tls)),
        demand=demand,
    )


def _is_weak(tls: Tls) -> bool:
    return tls in (Tls.OPPORTUNISTIC, Tls.REQUIRED)


async def _sts(plan: RoutePlan, asked: _Asked, policies: Policies | None) -> Sequence[StsFound]:
    """For each host what the policy of its domain says; a host that a person named is its own
    domain (RFC 8461 §3.4). A reroute is a person's word against the domain's MX."""
    if policies is None or not asked.has_sts or plan.kind is Kind.REROUTED:
        return [NOTHING] * len(plan.hosts)
    if plan.kind in _BY_DNS:
        return [await policies.policy_for(plan.domain)] * len(plan.hosts)
    return await asyncio.gather(*(_sts_of_named(host, policies) for host in plan.hosts))


async def _sts_of_named(host: Host, policies: Policies) -> StsFound:
    return NOTHING if host.is_address else await policies.policy_for(host.name)


async def _dane(plan: RoutePlan, host: Host, asked: _Asked, resolver: Resolver) -> Dane:
    if not asked.has_dane or host.is_address:
        return NOT_APPLICABLE
    if plan.kind in _BY_DNS and not plan.is_authenticated:
        return NOT_APPLICABLE
    return await look_up(host, resolver)


# --- one host ---


def _policy(plan: RoutePlan, host: Host, asked: _Asked, dane: Dane, found: StsFound) -> HostPolicy:
    sts = found.policy
    is_enforced = sts is not None and sts.mode is Mode.ENFORCE
    reasons: list[str] = []
    tls = asked.tls
    if asked.demand is Demand.REQUIRETLS:
        reasons.append("requiretls")
        # DANE authenticates too; without it a trusted authority has to (RFC 8689 §2).
        tls = _stronger(tls, Tls.DANE if dane.records else Tls.VERIFIED)
    if dane.base:
        reasons.append("dane" if dane.records else "dane without a usable record")
        tls = _stronger(tls, Tls.DANE if dane.records else Tls.REQUIRED)
    if sts is not None:
        reasons.append("mta-sts" if is_enforced else "mta-sts testing")
        tls = _stronger(tls, Tls.VERIFIED) if is_enforced else tls
    if asked.is_configured and asked.tls is not Tls.DANE:
        reasons.append(asked.tls.value)
    if asked.demand is Demand.TLS_OPTIONAL:
        reasons.append("tls-required: no")
    return HostPolicy(
        tls=tls,
        names=_names(host, asked, is_enforced=is_enforced, has_dane=bool(dane.records)),
        sni="" if host.is_address else dane.base or host.name,  # RFC 7672 §8.1
        tlsa=dane.records,
        tlsa_base=dane.base,
        tlsa_names=_reference_names(plan, dane.base) if dane.base else (),
        sts=sts,
        is_requiretls=asked.demand is Demand.REQUIRETLS,
        refusal=_refusal(plan, host, asked, dane, found),
        reasons=tuple(reasons),
    )


def _names(
    host: Host, asked: _Asked, *, is_enforced: bool, has_dane: bool
) -> tuple[tuple[str, ...], ...]:
    """Configured names are a person's choice; MTA-STS (RFC 8461 §4.2) and REQUIRETLS without DANE
    (RFC 8689 §4.2.1) want the host's own."""
    is_own_needed = is_enforced or (asked.demand is Demand.REQUIRETLS and not has_dane)
    own = ((host.name,),)
    if not asked.names:
        return own
    return (asked.names, *own) if is_own_needed else (asked.names,)


def _stronger(one: Tls, other: Tls) -> Tls:
    return max(one, other, key=_STRENGTH.__getitem__)


def _reference_names(plan: RoutePlan, base: str) -> tuple[str, ...]:
    """RFC 7672 §3.2.2: the base domain, the domain mail goes to, and what that is an alias of. For
    a host that a person named only what they named it."""
    if plan.kind not in _BY_DNS:
        return (base,)
    return tuple(dict.fromkeys(filter(None, (base, plan.domain, plan.canonical))))


def _refusal(
    plan: RoutePlan, host: Host, asked: _Asked, dane: Dane, found: StsFound
) -> Refusal | None:
    """Why the host is not to be connected to at all."""
    if dane.trouble:  # RFC 7672 §2.1.2
        return _refused(dane.trouble, ResultType.DNSSEC_INVALID, PolicyType.TLSA)
    if asked.tls is Tls.DANE and not dane.records:  # RFC 7672 §6
        words = "DANE is configured for the domain, and no usable TLSA record is proven by DNSSEC"
        return _refused(words, ResultType.DANE_REQUIRED, PolicyType.TLSA)
    sts = found.policy
    if sts is not None and sts.mode is Mode.ENFORCE and not sts.allows(host.name):
        words = f"the MTA-STS policy of {plan.domain} does not name this host"
        return _refused(words, ResultType.CERTIFICATE_HOST_MISMATCH, PolicyType.STS)
    if asked.demand is not Demand.REQUIRETLS:
        return None
    if host.is_address:
        return _unverifiable("a host that is known by its address only cannot be verified")
    if plan.kind is not Kind.MX or plan.is_authenticated:
        return None
    if sts is not None and sts.allows(host.name):  # RFC 8689 §4.2.1, step 2
        return None
    words = f"neither DNSSEC nor MTA-STS proves that this is a host of {plan.domain}"
    if found.trouble is not None:
        return _refused(f"{words}: {found.trouble.words}", found.trouble.result, None)
    return _unverifiable(words)


def _refused(words: str, result: ResultType, policy: PolicyType | None) -> Refusal:
    return Refusal(status="4.7.5", words=words, result=result, policy=policy)


def _unverifiable(words: str) -> Refusal:
    """What the sender demands cannot be had, and they are told (RFC 8689 §4.2.1)."""
    return Refusal(
        status="5.7.10",
        words=f"the sender requires verified TLS: {words}",
        result=ResultType.VALIDATION_FAILURE,
        policy=None,
        is_permanent=True,
    )
