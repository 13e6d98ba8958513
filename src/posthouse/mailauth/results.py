"""What each check gives: plain values with their evidence, in the words of RFC 8601 §2.7."""

from __future__ import annotations

from enum import Enum

import msgspec

from posthouse.kernel.finding import Evidence


class Result(Enum):
    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SOFTFAIL = "softfail"
    POLICY = "policy"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class SpfIdentity(Enum):
    """Which name SPF was asked about (RFC 7208 §2.3, §2.4)."""

    HELO = "helo"
    MAIL_FROM = "mailfrom"


class SpfOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """`check_host()` for one identity (RFC 7208 §4)."""

    result: Result
    identity: SpfIdentity
    domain: str
    """A-labels, what the record was looked up for."""
    sender: str
    """The `<sender>` of RFC 7208 §4.1, local-part included; `postmaster@helo` for `<>`."""
    mechanism: str = ""
    """The term that decided, as the record writes it; "" when none did."""
    explanation: str = ""
    """Of `exp=` (RFC 7208 §6.2), printable ASCII, for the text of a reply; "" for none."""
    reason: str = ""
    """For errors and none: why, in words."""
    evidence: tuple[Evidence, ...] = ()


class DkimOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One DKIM-Signature field, in the order they stand in the message (RFC 6376 §6)."""

    result: Result
    domain: str = ""
    """d=, A-labels in lower case; "" when the field could not be read."""
    selector: str = ""
    algorithm: str = ""
    identity: str = ""
    """i=, or `@d=` when it is absent."""
    signature: str = ""
    """The first 8 characters of b= (RFC 6008), to tell two signatures of one domain apart."""
    names: tuple[bytes, ...] = ()
    """h=, in lower case, each as often as it is named there."""
    key_bits: int = 0
    is_partial: bool = False
    """l= leaves octets of the body unsigned; with `Options.accepts_partial` unset the result is
    POLICY then."""
    is_testing: bool = False
    """t=y in the key record (RFC 6376 §3.6.1)."""
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()


class ArcOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The chain as a whole (RFC 8617 §5.2); never sealed by us, a finding only."""

    result: Result
    """NONE, PASS or FAIL; TEMPERROR when a key could not be had."""
    sealers: tuple[str, ...] = ()
    """d= of each ARC-Seal, the oldest (i=1) first."""
    results: tuple[bytes, ...] = ()
    """Each ARC-Authentication-Results value, unfolded, without `i=`, the oldest first."""
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()


class IprevOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the address's name leads back to it (RFC 8601 §3)."""

    result: Result
    address: str
    name: str = ""
    """The first name that did."""
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()


class Disposition(Enum):
    """What a domain asks for, and what is done (RFC 9989 §4.7)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def rank(self) -> int:
        return list(Disposition).index(self)


class Alignment(Enum):
    RELAXED = "r"
    STRICT = "s"


class DmarcPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy record as published (RFC 9989 §4.7), defaults filled in."""

    domain: str
    """Where it was found, without `_dmarc.`."""
    policy: Disposition
    """p="""
    subdomain_policy: Disposition | None = None
    """sp="""
    missing_policy: Disposition | None = None
    """np="""
    dkim_alignment: Alignment = Alignment.RELAXED
    spf_alignment: Alignment = Alignment.RELAXED
    is_testing: bool = False
    """t=y"""
    public_suffix: str = "u"
    """psd=: "y", "n" or "u"."""
    failure_options: tuple[str, ...] = ("0",)
    """fo="""
    aggregate_uris: tuple[str, ...] = ()
    """rua=, as written, size limits taken off; 10 at most."""
    failure_uris: tuple[str, ...] = ()
    """ruf=, likewise."""
    text: str = ""
    """The record, printable, cut to 1 KiB."""
    fault: str = ""
    """Why DMARC is not applied with it, in words (RFC 9989 §4.10.1); "" for a usable record."""


class DmarcOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """DMARC for one author domain (RFC 9989 §5)."""

    result: Result
    """NONE, PASS, FAIL, TEMPERROR or PERMERROR."""
    from_domain: str
    """Of the From field, A-labels."""
    organizational_domain: str = ""
    policy: DmarcPolicy | None = None
    requested: Disposition = Disposition.NONE
    """What the policy asks for in case of failure: p, sp or np, softened one step by t=y."""
    is_spf_aligned: bool = False
    is_dkim_aligned: bool = False
    aligned_signature: str = ""
    """d= of the signature that made it pass."""
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
