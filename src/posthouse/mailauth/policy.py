"""From the results of all checks to what is done with a message: the one place that decides it.

DMARC's policy is the author's domain's wish, ours to follow or to override (RFC 9989 §5.4): mail
brought by forwarders you name, or sealed by ARC sealers you name, is not refused for a failure that
forwarding explains, and what only looks passed on goes into Junk where its domain would have it
refused (RFC 9989 §7.4). What cannot be decided because the DNS of the author's domain fails is put
off, but only where its policy is known to ask for something.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.reply import Reply
from posthouse.mailauth import authres
from posthouse.mailauth.results import (
    ArcOutcome,
    Disposition,
    DmarcOutcome,
    Result,
    SpfOutcome,
)
from posthouse.mailauth.spf.refusal import refusal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DmarcAction(Enum):
    """What becomes of mail that fails its author's domain's policy."""

    ENFORCE = "enforce"
    QUARANTINE = "quarantine"
    MARK = "mark"


class SpfAction(Enum):
    """What becomes of mail that SPF fails and that no DMARC policy covers."""

    MARK = "mark"
    JUNK = "junk"
    REFUSE = "refuse"


class Verdict(Enum):
    """Of the whole message (DESIGN, "Policy")."""

    ACCEPT = "accept"
    JUNK = "accept as junk"
    DEFER = "defer"
    REFUSE = "refuse"


class Override(Enum):
    """Why a DMARC policy was not followed, in the words of RFC 9990's PolicyOverrideType."""

    LOCAL_POLICY = "local_policy"
    MAILING_LIST = "mailing_list"
    TRUSTED_FORWARDER = "trusted_forwarder"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of section `mailauth` that decide."""

    dmarc: DmarcAction = DmarcAction.ENFORCE
    spf: SpfAction = SpfAction.MARK
    forwarders: tuple[Network, ...] = ()
    sealers: frozenset[str] = frozenset()


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    verdict: Verdict
    why: str = ""
    """In words, for the decision record and X-Posthouse-Verdict; "" for a plain accept."""
    reply: Reply | None = None
    """For DEFER and REFUSE."""
    disposition: Disposition = Disposition.NONE
    """What was done because of DMARC, for the aggregate report (RFC 9990)."""
    override: Override | None = None
    override_why: str = ""


PLAIN: Final = Judgement(verdict=Verdict.ACCEPT)


def judge(
    rules: Rules,
    *,
    address: str,
    spf: SpfOutcome | None,
    arc: ArcOutcome,
    dmarc: DmarcOutcome,
    indirect: str = "",
) -> Judgement:
    """Args:
    address: the IP address that brought the message.
    spf: of the MAIL FROM identity; None when it was not checked.
    dmarc: the outcome that counts (`dmarc.evaluate.strictest`).
    indirect: why the message may have been passed on by somebody (`indirect.signs`).
    """
    if (
        dmarc is not None
        and dmarc.result is Result.FAIL
        and dmarc.requested is not Disposition.NONE
    ):
        return _judge_failure(rules, dmarc, address=address, arc=arc, indirect=indirect)
    if dmarc is not None and dmarc.result is Result.TEMPERROR:
        return _judge_unknown(rules, dmarc)
    if dmarc is not None and dmarc.result is Result.PERMERROR and not dmarc.from_domain:
        return _judge_nobody(rules, dmarc)
    if spf is not None and spf.result is Result.FAIL and not _is_covered(dmarc):
        return _judge_spf(rules, spf)
    return PLAIN


def _is_covered(dmarc: DmarcOutcome) -> bool:
    """DMARC has spoken, so SPF's -all is not asked again. A policy of none changes nothing about
    other handling (RFC 9989 §5.4)."""
    return dmarc.result is Result.PASS or dmarc.requested is not Disposition.NONE


def _judge_failure(
    rules: Rules, dmarc: DmarcOutcome, *, address: str, arc: ArcOutcome, indirect: str
) -> Judgement:
    domain, requested = dmarc.from_domain, dmarc.requested
    failed = f"DMARC fails and {domain} asks to {requested.value} such mail"
    if _is_within(address, rules.forwarders):
        return Judgement(
            verdict=Verdict.ACCEPT,
            why=f"{failed}; overridden: {address} is a trusted forwarder",
            override=Override.TRUSTED_FORWARDER,
            override_why=f"{address} forwards mail to this host",
        )
    if (sealer := trusted_seal(arc, rules.sealers, domain)) is not None:
        return Judgement(
            verdict=Verdict.ACCEPT,
            why=f"{failed}; overridden: {sealer} sealed that it had passed (ARC)",
            override=Override.TRUSTED_FORWARDER,
            override_why=f"arc=pass, {sealer} vouches for dmarc=pass",
        )
    if rules.dmarc is DmarcAction.MARK:
        return Judgement(
            verdict=Verdict.ACCEPT,
            why=f"{failed}; only marked (mailauth.dmarc)",
            override=Override.LOCAL_POLICY,
            override_why="policies are not enforced here",
        )
    is_refusable = requested is Disposition.REJECT and rules.dmarc is DmarcAction.ENFORCE
    if is_refusable and indirect:
        return Judgement(
            verdict=Verdict.JUNK,
            why=f"{failed}; not refused, as {indirect}",
            disposition=Disposition.QUARANTINE,
            override=Override.MAILING_LIST,
            override_why=indirect,
        )
    if is_refusable:
        text = (
            f"{domain} does not vouch for this message and asks to refuse it"
            f" (DMARC p={requested.value})"
        )
        return Judgement(
            verdict=Verdict.REFUSE,
            why=failed,
            reply=Reply(550, "5.7.26", text),  # RFC 7372 §3.3
            disposition=Disposition.REJECT,
        )
    is_softened = requested is Disposition.REJECT
    return Judgement(
        verdict=Verdict.JUNK,
        why=failed,
        disposition=Disposition.QUARANTINE,
        override=Override.LOCAL_POLICY if is_softened else None,
        override_why="quarantined in place of rejected" if is_softened else "",
    )


def _judge_unknown(rules: Rules, dmarc: DmarcOutcome) -> Judgement:
    """The domain's own DNS did not answer: its mail is put off where its policy would matter."""
    if dmarc.requested is Disposition.NONE or rules.dmarc is DmarcAction.MARK:
        return PLAIN
    why = f"whether {dmarc.from_domain} vouches for it cannot be found out now: {dmarc.reason}"
    text = f"The DNS of {dmarc.from_domain} gives no answer, so DMARC cannot be checked"
    return Judgement(verdict=Verdict.DEFER, why=why, reply=Reply(451, "4.7.26", text))


def _judge_nobody(rules: Rules, dmarc: DmarcOutcome) -> Judgement:
    """A From field that readers may show but that names nobody who could vouch for it (H33)."""
    if rules.dmarc is DmarcAction.MARK:
        return PLAIN
    return Judgement(verdict=Verdict.JUNK, why=f"nobody can vouch for its author: {dmarc.reason}")


def _judge_spf(rules: Rules, spf: SpfOutcome) -> Judgement:
    why = f"SPF fails: {spf.domain} does not send from that address"
    if rules.spf is SpfAction.REFUSE:
        return Judgement(verdict=Verdict.REFUSE, why=why, reply=refusal(spf))
    if rules.spf is SpfAction.JUNK:
        return Judgement(verdict=Verdict.JUNK, why=why)
    return PLAIN


def trusted_seal(arc: ArcOutcome, sealers: frozenset[str], author_domain: str) -> str | None:
    """The sealer whose word that DMARC had passed may be taken (RFC 8617 §7.2), or None.

    Every sealer from that one on has to be trusted: the last could have changed anything.
    """
    if arc.result is not Result.PASS or not sealers:
        return None
    for sealer, results in zip(reversed(arc.sealers), reversed(arc.results), strict=True):
        if sealer not in sealers:
            return None
        if _says_dmarc_pass(results, author_domain):
            return sealer
    return None


def _says_dmarc_pass(results: bytes, author_domain: str) -> bool:
    parsed = authres.parse(results)
    return parsed is not None and any(
        one.name == "dmarc"
        and one.result == "pass"
        and any(p.name == "from" and p.value.lower() == author_domain for p in one.properties)
        for one in parsed.results
    )


def _is_within(address: str, networks: Sequence[Network]) -> bool:
    if not networks:
        return False
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in networks)
