"""What is counted for reports: one struct for what many messages or TLS sessions had in common.

Reception makes a `DmarcRow` of each judged message (`dmarc_row`), relay a `TlsRow` of each session.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.mailauth.results import (
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    Result,
    SpfOutcome,
)

SIGNATURES_MAX: Final = 100
"""Signatures told of in one row (RFC 9990 §3.1.3)."""
REASON_CHARACTERS_MAX: Final = 200
DOMAIN_CHARACTERS_MAX: Final = 255


class OverrideType(Enum):
    """Why the disposition is not what the policy asks for (RFC 9990 §3.1.6)."""

    LOCAL_POLICY = "local_policy"
    MAILING_LIST = "mailing_list"
    OTHER = "other"
    POLICY_TEST_MODE = "policy_test_mode"
    TRUSTED_FORWARDER = "trusted_forwarder"


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    type: OverrideType
    comment: str = ""


class AppliedDisposition(Enum):
    """What became of a message (RFC 9990 §3.1.1.9, "ActionDispositionType")."""

    NONE = "none"
    PASS = "pass"  # noqa: S105
    QUARANTINE = "quarantine"
    REJECT = "reject"


class DkimFact(msgspec.Struct, frozen=True, omit_defaults=True):
    domain: str
    selector: str
    result: str
    reason: str = ""


class SpfFact(msgspec.Struct, frozen=True, omit_defaults=True):
    domain: str
    result: str
    reason: str = ""


class DmarcFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a record of an aggregate report says, but for how many messages."""

    source_ip: str
    header_from: str
    envelope_from: str | None = None
    """ "" for the null reverse-path."""
    envelope_to: str = ""
    disposition: AppliedDisposition
    is_dkim_aligned: bool = False
    is_spf_aligned: bool = False
    overrides: tuple[Override, ...] = ()
    dkim: tuple[DkimFact, ...] = ()
    spf: SpfFact | None = None


class DmarcRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a message was judged by, for the report to its policy domain."""

    policy: DmarcPolicy
    facts: DmarcFacts


def dmarc_row(
    outcome: DmarcOutcome,
    *,
    source_ip: str,
    envelope_from: str,
    envelope_to: str,
    spf: SpfOutcome | None,
    dkim: Sequence[DkimOutcome],
    disposition: Disposition,
    overrides: Sequence[Override] = (),
) -> DmarcRow | None:
    """The row of a judged message, or None where nobody asks for a report.

    Args:
        envelope_from: domain of the reverse-path; "" for `<>`.
        envelope_to: domain of the (first) recipient.
        spf: of the MAIL FROM identity, the only one DMARC uses (RFC 9990 §3.1.1.13).
        disposition: what was done with the message in the end.
        overrides: why that is not what the policy asks for. That of the testing mode is added.
    """
    policy = outcome.policy
    if policy is None or not policy.aggregate_uris:
        return None
    has_passed = outcome.is_dkim_aligned or outcome.is_spf_aligned
    return DmarcRow(
        policy=policy,
        facts=DmarcFacts(
            source_ip=source_ip,
            header_from=outcome.from_domain[:DOMAIN_CHARACTERS_MAX],
            envelope_from=envelope_from[:DOMAIN_CHARACTERS_MAX],
            envelope_to=envelope_to[:DOMAIN_CHARACTERS_MAX],
            disposition=_applied(outcome, disposition, has_passed=has_passed),
            is_dkim_aligned=outcome.is_dkim_aligned,
            is_spf_aligned=outcome.is_spf_aligned,
            overrides=_overrides(outcome, overrides, has_passed=has_passed),
            dkim=_signatures(outcome, dkim),
            spf=None if spf is None else _spf(spf),
        ),
    )


def _applied(
    outcome: DmarcOutcome, disposition: Disposition, *, has_passed: bool
) -> AppliedDisposition:
    """ "pass" is for mail that passes under a policy that would have done something."""
    if has_passed and disposition is Disposition.NONE:
        is_enforcing = outcome.requested is not Disposition.NONE
        return AppliedDisposition.PASS if is_enforcing else AppliedDisposition.NONE
    return AppliedDisposition(disposition.value)


def _overrides(
    outcome: DmarcOutcome, overrides: Sequence[Override], *, has_passed: bool
) -> tuple[Override, ...]:
    found = [Override(one.type, one.comment[:REASON_CHARACTERS_MAX]) for one in overrides]
    policy = outcome.policy
    if policy is not None and policy.is_testing and not has_passed:
        is_softened = any(
            each not in (None, Disposition.NONE)
            for each in (policy.policy, policy.subdomain_policy, policy.missing_policy)
        )
        if is_softened:
            found.append(Override(OverrideType.POLICY_TEST_MODE))
    return tuple(dict.fromkeys(found))


def _signatures(outcome: DmarcOutcome, dkim: Sequence[DkimOutcome]) -> tuple[DkimFact, ...]:
    """Those that matter most first (RFC 9990 §3.1.3). One that could not be read has no domain to
    name, so it is left out."""
    organization = outcome.organizational_domain

    def rank(one: DkimOutcome) -> int:
        if one.result is not Result.PASS:
            return 3
        if one.domain == outcome.from_domain:
            return 0
        is_related = one.domain == organization or one.domain.endswith(f".{organization}")
        return 1 if organization and is_related else 2

    named = sorted((one for one in dkim if one.domain), key=rank)[:SIGNATURES_MAX]
    return tuple(
        DkimFact(
            one.domain[:DOMAIN_CHARACTERS_MAX],
            one.selector[:DOMAIN_CHARACTERS_MAX],
            one.result.value,
            "" if one.result is Result.PASS else one.reason[:REASON_CHARACTERS_MAX],
        )
        for one in named
    )


def _spf(spf: SpfOutcome) -> SpfFact:
    reason = "" if spf.result is Result.PASS else spf.reason
    return SpfFact(
        spf.domain[:DOMAIN_CHARACTERS_MAX], spf.result.value, reason[:REASON_CHARACTERS_MAX]
    )


class TlsPolicyFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The policy that was applied."""

    type: PolicyType
    strings: tuple[str, ...] = ()
    """Lines of the MTA-STS policy, or the TLSA records in presentation format (RFC 8460 §4.5)."""
    domain: str
    """A-labels: the recipient's domain, or for DANE the TLSA base domain."""
    mx_hosts: tuple[str, ...] = ()
    """The MX patterns of an MTA-STS policy; for DANE the MX host."""


class TlsFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a session went; a successful one has no more to say."""

    trouble: ResultType | None = None
    """Never `SUCCESS`: that is None."""
    sending_ip: str = ""
    receiving_host: str = ""
    receiving_hello: str = ""
    receiving_ip: str = ""
    reason: str = ""
    """An error code or text, short and in one wording for one cause, so that equal ones add up."""


class TlsRow(msgspec.Struct, frozen=True, kw_only=True):
    """One session that STARTTLS was tried in, or a policy that could not be had."""

    domain: str
    """The recipient's domain, whose `_smtp._tls` record asks for the report."""
    policy: TlsPolicyFacts
    facts: TlsFacts = TlsFacts()


SUCCESS: Final = TlsFacts()


def tls_row(
    domain: str,
    *,
    type: PolicyType,
    strings: Sequence[str] = (),
    policy_domain: str = "",
    mx_hosts: Sequence[str] = (),
    trouble: ResultType | None = None,
    sending_ip: str = "",
    receiving_host: str = "",
    receiving_hello: str = "",
    receiving_ip: str = "",
    reason: str = "",
) -> TlsRow:
    """A row of relay's. Without `trouble` it is a success, which keeps no addresses.

    Args:
        domain: the recipient's domain.
        policy_domain: where the policy is, when that is another (DANE's base domain).
    """
    facts = SUCCESS
    if trouble is not None:
        facts = TlsFacts(
            trouble=trouble,
            sending_ip=sending_ip,
            receiving_host=receiving_host[:DOMAIN_CHARACTERS_MAX],
            receiving_hello=receiving_hello[:DOMAIN_CHARACTERS_MAX],
            receiving_ip=receiving_ip,
            reason=reason[:REASON_CHARACTERS_MAX],
        )
    return TlsRow(
        domain=domain,
        policy=TlsPolicyFacts(
            type=type,
            strings=tuple(line[:1024] for line in strings[:100]),
            domain=policy_domain or domain,
            mx_hosts=tuple(host[:DOMAIN_CHARACTERS_MAX] for host in mx_hosts[:100]),
        ),
        facts=facts,
    )
