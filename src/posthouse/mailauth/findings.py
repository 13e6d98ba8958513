"""What each check gave, as a finding of the decision record, in the words and with the properties
of RFC 8601: the one place for it. `authres.render` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from posthouse.kernel.finding import Finding, Property
from posthouse.mailauth.results import (
    ArcOutcome,
    DkimOutcome,
    DmarcOutcome,
    IprevOutcome,
    Result,
    SpfOutcome,
)


def _properties(*named: tuple[str, str, str]) -> tuple[Property, ...]:
    """Those that have a value."""
    return tuple(Property(*each) for each in named if each[2])


def spf_finding(outcome: SpfOutcome) -> Finding:
    """RFC 8601 §2.7.2; without the local-part, which SPF does not authenticate."""
    return Finding(
        name="spf",
        result=outcome.result.value,
        reason=outcome.reason,
        properties=_properties(("smtp", outcome.identity.value, outcome.domain)),
        evidence=outcome.evidence,
    )


def dkim_finding(outcome: DkimOutcome) -> Finding:
    """One for each signature (RFC 8601 §2.7.1, RFC 6008 §4)."""
    reason = outcome.reason
    if not reason and outcome.is_testing and outcome.result is Result.PASS:
        reason = "the key is in testing mode"
    return Finding(
        name="dkim",
        result=outcome.result.value,
        reason=reason,
        properties=_properties(
            ("header", "d", outcome.domain),
            ("header", "i", outcome.identity),
            ("header", "s", outcome.selector),
            ("header", "a", outcome.algorithm),
            ("header", "b", outcome.signature),
        ),
        evidence=outcome.evidence,
    )


def dmarc_finding(outcome: DmarcOutcome) -> Finding:
    """RFC 9989 §9.1; `policy.dmarc` is what the domain asks for, t=y taken into account."""
    applied = outcome.requested.value if outcome.policy is not None else ""
    return Finding(
        name="dmarc",
        result=outcome.result.value,
        reason=outcome.reason,
        properties=_properties(
            ("header", "from", outcome.from_domain), ("policy", "dmarc", applied)
        ),
        evidence=outcome.evidence,
    )


def arc_finding(outcome: ArcOutcome, *, remote_ip: str = "") -> Finding:
    """RFC 8617 §6. Args: remote_ip: the client's address."""
    return Finding(
        name="arc",
        result=outcome.result.value,
        reason=outcome.reason,
        properties=_properties(("smtp", "remote-ip", remote_ip)),
        evidence=outcome.evidence,
    )


def iprev_finding(outcome: IprevOutcome) -> Finding:
    """RFC 8601 §2.7.3."""
    return Finding(
        name="iprev",
        result=outcome.result.value,
        reason=outcome.reason,
        properties=_properties(("policy", "iprev", outcome.address)),
        evidence=outcome.evidence,
    )


def auth_finding(identity: str) -> Finding:
    """A client that logged in (RFC 8601 §2.7.4). Args: identity: whom it may send as."""
    return Finding(
        name="auth", result=Result.PASS.value, properties=_properties(("smtp", "auth", identity))
    )


def for_readers(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """As a message may carry them, which may go on to other hosts: why the DNS failed names our own
    servers, and stays in the decision record."""
    return tuple(
        msgspec.structs.replace(each, reason="")
        if each.result == Result.TEMPERROR.value and each.reason
        else each
        for each in found
    )
