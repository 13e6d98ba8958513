"""What is told of TLS with a host under one policy of its domain, as TLS reports want it (RFC 8460
§4.4)."""

from __future__ import annotations

from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.relay.plan import Host, Kind, RoutePlan
from posthouse.relay.sts_policy import StsPolicy
from posthouse.relay.tls_result import StsTrouble, TlsResult
from posthouse.tls.dane import shown


def host_result(
    plan: RoutePlan,
    host: Host,
    kind: PolicyType,
    result: ResultType,
    reason: str,
    *,
    helo: str = "",
    receiving_ip: str = "",
    sending_ip: str = "",
) -> TlsResult:
    """Of one host, under the policy of that kind."""
    policy, domain = host.policy, reported_domain(plan, host)
    strings: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    owner = domain
    if kind is PolicyType.TLSA:
        owner = policy.tlsa_base or host.name
        strings = tuple(shown(record) for record in policy.tlsa)
    elif kind is PolicyType.STS and policy.sts is not None:
        strings, patterns = policy.sts.lines, policy.sts.mx
    return TlsResult(
        domain=domain,
        policy_type=kind,
        policy_domain=owner,
        policy_strings=strings,
        mx_patterns=patterns,
        mx_host=host.name,
        helo=helo,
        receiving_ip=receiving_ip,
        sending_ip=sending_ip,
        result=result,
        reason=reason,
    )


def reported_domain(plan: RoutePlan, host: Host) -> str:
    """Who is told: the domain mail goes to, or a host that a person named in its place (RFC 8460
    §1.1); "" for an address, which nobody publishes anything for."""
    if plan.kind in (Kind.MX, Kind.IMPLICIT_MX):
        return plan.domain
    return "" if host.is_address else host.name


def trouble_result(domain: str, trouble: StsTrouble, policy: StsPolicy | None) -> TlsResult:
    """An MTA-STS policy that could not be had (RFC 8461 §6).

    Args:
        policy: an older one that counts meanwhile.
    """
    return TlsResult(
        domain=domain,
        policy_type=PolicyType.STS,
        policy_domain=domain,
        policy_strings=policy.lines if policy is not None else (),
        mx_patterns=policy.mx if policy is not None else (),
        result=trouble.result,
        reason=trouble.words,
    )
