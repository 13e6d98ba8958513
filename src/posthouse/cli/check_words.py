"""What each check of a message found, in words for somebody who is no protocol expert."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from posthouse.mailauth.dkim.grammar import RSA
from posthouse.mailauth.dmarc.discover import Discovered
from posthouse.mailauth.policy import Judgement, Verdict
from posthouse.mailauth.results import (
    ArcOutcome,
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    IprevOutcome,
    Result,
    SpfIdentity,
    SpfOutcome,
)
from posthouse.message.address import domain_to_unicode

WISHES: Final = {
    Disposition.NONE: "to do nothing about it, only to report it",
    Disposition.QUARANTINE: "to put it into Junk",
    Disposition.REJECT: "to refuse it",
}
_IDENTITIES: Final = {
    SpfIdentity.HELO: "the name in HELO",
    SpfIdentity.MAIL_FROM: "the sender's domain",
}


def iprev_words(outcome: IprevOutcome) -> str:
    if outcome.result is Result.PASS:
        return f"{outcome.address} is called {outcome.name}, and that name leads back to it"
    return outcome.reason or f"no name of {outcome.address} leads back to it"


def spf_words(outcome: SpfOutcome, *, address: str) -> str:
    who = f"{outcome.domain} ({_IDENTITIES[outcome.identity]})"
    by = f', by "{outcome.mechanism}"' if outcome.mechanism else ""
    match outcome.result:
        case Result.PASS:
            return f"{who} lets {address} send its mail{by}"
        case Result.FAIL:
            said = f'; it says: "{outcome.explanation}"' if outcome.explanation else ""
            return f"{who} does not let {address} send its mail{by}{said}"
        case Result.SOFTFAIL:
            return f"{who} thinks that {address} should not send its mail, but is not sure{by}"
        case Result.NEUTRAL:
            return f"{who} says neither yes nor no about {address}{by}"
        case Result.TEMPERROR:
            return f"what {who} says cannot be found out now: {outcome.reason}"
        case Result.PERMERROR:
            return f"the SPF record of {who} is wrong: {outcome.reason}"
        case _:
            if outcome.reason.endswith("has no SPF record"):
                return f"{who} has no SPF record"
            if not outcome.domain:
                return f"SPF has nothing to go by: {outcome.reason}"
            return f"SPF has nothing to say about {who}: {outcome.reason}"


def dkim_words(outcome: DkimOutcome) -> str:
    why = outcome.reason or outcome.result.value
    if not outcome.domain:  # a field that cannot be read, or those that were not checked
        return why
    is_rsa = outcome.algorithm == RSA
    size = f", {outcome.key_bits} bits" if outcome.key_bits and is_rsa else ""
    who = f"{outcome.domain} (selector {outcome.selector}, {outcome.algorithm}{size})"
    testing = "; its key is marked as a test (t=y)" if outcome.is_testing else ""
    if outcome.result is Result.PASS:
        but = f"; but {outcome.reason}" if outcome.reason else ""
        return f"signed by {who}, and what is signed was not changed since{but}{testing}"
    return f"the signature of {who} counts for nothing: {why}{testing}"


def arc_words(outcome: ArcOutcome) -> str:
    if outcome.result is Result.NONE:
        return "no forwarder sealed it"
    sealers = ", ".join(outcome.sealers)
    if outcome.result is Result.PASS:
        return f"forwarded by {sealers}, each of whom sealed what was found before"
    return f"the seals of the forwarders ({sealers or 'unreadable'}) are no good: {outcome.reason}"


def dmarc_words(outcome: DmarcOutcome) -> str:
    author = outcome.from_domain
    if outcome.result is Result.NONE:
        return f"{author} (From) has no DMARC policy" + _because(outcome.reason)
    if outcome.result is Result.PASS:
        vouching = []
        if outcome.is_dkim_aligned:
            vouching.append(f"the signature of {outcome.aligned_signature}")
        if outcome.is_spf_aligned:
            vouching.append("SPF")
        verb = "vouch" if len(vouching) > 1 else "vouches"
        return f"{' and '.join(vouching)} {verb} for {author} (From)"
    if outcome.result is Result.FAIL:
        text = f"neither SPF nor a signature vouches for {author} (From)"
        return f"{text}, which asks {WISHES[outcome.requested]}"
    if outcome.result is Result.TEMPERROR:
        return f"whether {author} vouches for it cannot be found out now" + _because(outcome.reason)
    if not author:
        return "DMARC cannot be checked" + _because(outcome.reason)
    return f"the policy of {author} cannot be used" + _because(outcome.reason)


def policy_lines(policy: DmarcPolicy) -> list[str]:
    """What a DMARC record asks for, its defaults filled in."""
    lines = [f"mail from {policy.domain} that nobody vouches for: {_wish(policy.policy)}"]
    if policy.subdomain_policy is not None:
        lines.append(f"its subdomains: {_wish(policy.subdomain_policy)}")
    if policy.missing_policy is not None:
        lines.append(f"subdomains that do not exist: {_wish(policy.missing_policy)}")
    if policy.is_testing:
        lines.append("it is being tried (t=y): each is treated one step milder")
    how = {"r": "the organization's domain is enough", "s": "the very same domain"}
    lines.append(f"SPF has to match: {how[policy.spf_alignment.value]}")
    lines.append(f"DKIM has to match: {how[policy.dkim_alignment.value]}")
    reports = ", ".join(policy.aggregate_uris) or "nobody"
    lines.append(f"daily reports go to {reports}")
    if policy.failure_uris:
        lines.append(f"failure reports go to {', '.join(policy.failure_uris)}")
    return lines


def discovered_lines(found: Discovered) -> Iterator[str]:
    """What a tree walk from a domain found."""
    shown = domain_to_unicode(found.domain)
    if found.failure:
        yield f"the policy for mail from {shown} cannot be found out now: {found.failure}"
        return
    if found.policy is None:
        yield f"nothing is asked for mail from {shown}: no DMARC policy applies to it"
    elif found.policy.fault:
        yield f"the record of {found.policy.domain} counts for nothing: {found.policy.fault}"
    else:
        yield f"for mail from {shown} the record of {found.policy.domain} applies"
        yield from policy_lines(found.policy)
    yield f"its organizational domain, for matching, is {found.organizational_domain}"


def verdict_words(judgement: Judgement) -> str:
    why = f": {judgement.why}" if judgement.why else ""
    match judgement.verdict:
        case Verdict.ACCEPT:
            return f"It would be accepted{why}"
        case Verdict.JUNK:
            return f"It would be put into Junk{why}"
        case Verdict.DEFER:
            return f'It would be put off with "{judgement.reply}"{why}'
        case Verdict.REFUSE:
            return f'It would be refused with "{judgement.reply}"{why}'


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _wish(disposition: Disposition) -> str:
    return {"none": "only report it", "quarantine": "put it into Junk", "reject": "refuse it"}[
        disposition.value
    ]
