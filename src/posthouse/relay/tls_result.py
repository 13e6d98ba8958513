"""What TLS with another host came to, for TLS reports and metrics (RFC 8460 §4)."""

from __future__ import annotations

import msgspec

from posthouse.kernel.tls_result import PolicyType, ResultType


class TlsResult(msgspec.Struct, frozen=True, kw_only=True):
    """One session, or the attempt at one, under one policy.

    A host that has both a DANE and an MTA-STS policy gives one for each, as both have to hold.
    """

    domain: str
    """The domain mail goes to: its `_smtp._tls` record says who gets the report."""
    policy_type: PolicyType
    policy_domain: str
    """Whose policy it is: `domain`, or for DANE the TLSA base domain (RFC 8460 §1.1)."""
    policy_strings: tuple[str, ...] = ()
    mx_patterns: tuple[str, ...] = ()
    """Of an MTA-STS policy."""
    mx_host: str = ""
    """"" where no host was come to, as the policy could not be fetched."""
    helo: str = ""
    """What the host called itself."""
    receiving_ip: str = ""
    sending_ip: str = ""
    result: ResultType
    reason: str = ""
    """In words, for failure-reason-code; "" for success."""


class StsTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why an MTA-STS policy that the DNS announces could not be had."""

    result: ResultType
    words: str
