"""Where mail for a domain goes: by a person's word, a configured route, the smart host, or MX.

`posthouse resolve mx` shows the same plan that the relay uses.
"""

from __future__ import annotations

import msgspec

from posthouse.kernel.ports import Chance, Resolver
from posthouse.relay import mx
from posthouse.relay.plan import Demand, Kind, RouteOptions, RoutePlan
from posthouse.relay.secure import Policies, secure


def destination_of(domain: str, route: str | None, options: RouteOptions) -> str:
    """What sessions are pooled by: everything with one key takes the same hosts."""
    if route:
        return f"to {route}"
    for index, configured in enumerate(options.routes):
        if configured.matches(domain):
            return f"route {index} {configured.domain}"
    if options.smart_host is not None:
        return f"smart host {options.smart_host.host}"
    return domain


async def plan_route(
    domain: str,
    *,
    route: str | None,
    resolver: Resolver,
    chance: Chance,
    options: RouteOptions,
    demand: Demand = Demand.NONE,
    policies: Policies | None = None,
) -> RoutePlan:
    """The hosts for `domain` (A-labels or an address literal), each with its TLS policy.

    Args:
        route: a person's "host:port", which goes before everything.
        demand: what the message asks of TLS.
        policies: the MTA-STS policies of others; None leaves MTA-STS out.
    """
    plan = await _plan(domain, route, resolver=resolver, chance=chance, options=options)
    return await secure(plan, demand=demand, resolver=resolver, policies=policies, options=options)


async def _plan(
    domain: str,
    route: str | None,
    *,
    resolver: Resolver,
    chance: Chance,
    options: RouteOptions,
) -> RoutePlan:
    if route:
        return await mx.plan_named(
            domain, Kind.REROUTED, (route,), options.tls.tls, resolver=resolver, options=options
        )
    for configured in options.routes:
        if configured.matches(domain):
            return await mx.plan_named(
                domain,
                Kind.ROUTE,
                configured.hosts,
                configured.tls,
                resolver=resolver,
                options=options,
            )
    smart = options.smart_host
    if smart is not None:
        plan = await mx.plan_named(
            domain,
            Kind.SMART_HOST,
            (smart.host,),
            smart.tls,
            port=smart.port,
            resolver=resolver,
            options=options,
        )
        return msgspec.structs.replace(plan, login=smart.login)
    if domain.startswith("["):
        return mx.plan_literal(domain, options=options)
    return await mx.plan_mx(domain, resolver=resolver, chance=chance, options=options)


async def explain_route(
    domain: str,
    *,
    resolver: Resolver,
    chance: Chance,
    options: RouteOptions,
    policies: Policies | None = None,
) -> RoutePlan:
    """What routing would do with mail for `domain`, for `posthouse resolve mx`."""
    return await plan_route(
        domain,
        route=None,
        resolver=resolver,
        chance=chance,
        options=options,
        policies=policies,
    )
