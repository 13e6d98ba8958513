"""A look at who may send for a domain: SPF, DKIM, DMARC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.accounts.domain_keys import DomainKey, KeyState
from posthouse.accounts.rotation import is_needless, sight
from posthouse.kernel.ports import DnsAnswer, RecordType
from posthouse.mailauth import questions
from posthouse.mailauth.dmarc.discover import find_policy
from posthouse.mailauth.dmarc.grammar import is_policy
from posthouse.mailauth.questions import Question, Questions
from posthouse.mailauth.results import DmarcPolicy, Result, SpfIdentity, SpfOutcome
from posthouse.mailauth.spf.check import check_host
from posthouse.mailauth.spf.evaluation import LIMITS
from posthouse.mailauth.spf.grammar import (
    All,
    DomainSpec,
    Exists,
    Hosts,
    Include,
    Ptr,
    is_record,
    parse_record,
)
from posthouse.mailauth.spf.grammar import Record as SpfRecord
from posthouse.message.address import parse_mailbox
from posthouse.zone.checked import Checked, State, is_unanswered, listed, unanswered
from posthouse.zone.dmarc_words import judge_dmarc, mailbox, unknown_words
from posthouse.zone.key_words import judge_key
from posthouse.zone.subject import Subject

LOOKUPS_COUNTED_MAX: Final = 50
BROKEN_MAX: Final = 3
TXT: Final = RecordType.TXT


# --- SPF ---


async def check_spf(subject: Subject) -> list[Checked]:
    """The domain's record, and the one of our host's own name for notices without a sender."""
    found = [await _check_spf(subject, subject.domain)]
    if subject.host != subject.domain:
        found.append(await _check_spf(subject, subject.host))
    return found


async def _check_spf(subject: Subject, name: str) -> Checked:
    what = f"SPF of {name}"
    is_domain = name == subject.domain
    wanted = tuple(
        r.value for r in subject.wants(name, TXT) if is_record(r.value.strip('"').encode())
    )
    answer = await subject.ask(name, TXT)
    if is_unanswered(answer):
        return unanswered("spf", what, answer)
    records = [bytes(each) for each in answer.records if is_record(bytes(each))]
    found = tuple(f'"{each.decode("ascii", "replace")}"' for each in records)

    def judged(state: State, words: str) -> Checked:
        return Checked(
            subject="spf", what=what, state=state, found=found, wanted=wanted, words=words
        )

    if not records and is_domain:
        return judged(
            State.MISSING,
            "nothing says who may send mail of the domain, so many hosts distrust it, and everybody"
            " can use its name; publish the record",
        )
    if not records:
        return judged(
            State.ABSENT,
            "bounces and other notices have no sender; hosts judge them by the SPF of the name"
            " that this server greets with, which has none",
        )
    if len(records) > 1:
        return judged(
            State.WRONG,
            f"there are {len(records)} SPF records, and hosts then use none of them (RFC 7208"
            " §4.5); put all into one and remove the others",
        )
    return await _judged_record(subject, name, records[0], found, wanted)


async def _judged_record(
    subject: Subject, name: str, record: bytes, found: tuple[str, ...], wanted: tuple[str, ...]
) -> Checked:
    outcomes = await _spf_outcomes(subject, name)
    costs = await questions.run(follow(record), subject.ports.resolver)
    state, words = judge_spf(record, outcomes, costs, is_ours=_sends_itself(subject))
    return Checked(
        subject="spf", what=f"SPF of {name}", state=state, found=found, wanted=wanted, words=words
    )


def _sends_itself(subject: Subject) -> bool:
    """Mail to strangers leaves from our own addresses."""
    return not subject.config.relay.smart_host.host


async def _spf_outcomes(subject: Subject, name: str) -> tuple[tuple[str, SpfOutcome], ...]:
    """What others find when each of our addresses uses the name."""
    identity = SpfIdentity.MAIL_FROM if name == subject.domain else SpfIdentity.HELO
    found = []
    for address in await subject.addresses():
        check = check_host(
            address, name, f"postmaster@{name}", helo=subject.host, identity=identity
        )
        found.append((address, await questions.run(check, subject.ports.resolver)))
    return tuple(found)


def judge_spf(
    record: bytes,
    outcomes: Sequence[tuple[str, SpfOutcome]],
    costs: Costs,
    *,
    is_ours: bool,
) -> tuple[State, str]:
    """State and words for a record and what it made of our addresses.

    Args:
        is_ours: mail leaves from these addresses, not through a smart host.
    """
    parsed = parse_record(record)
    lookups = costs.lookups
    if not isinstance(parsed, SpfRecord):
        return State.WRONG, (
            f"the record cannot be read ({parsed.reason}), so hosts use none of it; mend it"
        )
    if lookups > LIMITS.terms_max:
        return State.WRONG, (
            f"it takes {lookups} look-ups, and hosts stop with an error after {LIMITS.terms_max}"
            " (RFC 7208 §4.6.4); leave out what sends no mail any more, or name addresses with ip4:"
        )
    if any(isinstance(each, All) and each.result is Result.PASS for each in parsed.mechanisms):
        return State.WRONG, 'it ends in "all" or "+all", which lets everybody send; write "-all"'
    for address, outcome in outcomes if is_ours else ():
        if outcome.result is Result.TEMPERROR:
            return State.UNKNOWN, f"the DNS gave no answer for a part of it: {outcome.reason}"
        if outcome.result is Result.PERMERROR:
            return State.WRONG, f"hosts stop with an error: {outcome.reason}"
        if outcome.result is not Result.PASS:
            return State.WRONG, (
                f"mail from this server ({address}) gets {outcome.result.value}, not pass, so"
                " others refuse or distrust it; let the record name this server, as the wanted one"
                " does"
            )
    if costs.broken:
        return State.ADVICE, (
            f"{listed(costs.broken)}, so hosts stop there with an error (RFC 7208 §5.2) for all"
            " mail that nothing before it lets pass; mend the name, or leave it out"
        )
    used = f"{lookups} of {LIMITS.terms_max} look-ups used"
    ends = [each.result for each in parsed.mechanisms if isinstance(each, All)]
    if not ends and parsed.redirect is None:
        return State.ADVICE, f'it says nothing of all other hosts; end it with "-all" ({used})'
    if ends and ends[0] is Result.NEUTRAL:
        return State.ADVICE, f'"?all" says nothing of all other hosts; write "-all" ({used})'
    return State.RIGHT, f"this server passes, {used}" if is_ours else used


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole record can come to. A check stops at the first match."""

    lookups: int
    """Terms that look something up, includes and redirects followed (RFC 7208 §4.6.4)."""
    broken: tuple[str, ...] = ()
    """Names followed that have no record to use, in words."""


def follow(record: bytes) -> Questions[Costs]:
    count = 0
    broken: list[str] = []
    seen: set[str] = set()
    waiting = [record]
    while waiting and count <= LOOKUPS_COUNTED_MAX:
        parsed = parse_record(waiting.pop())
        if not isinstance(parsed, SpfRecord):
            continue
        names: list[DomainSpec] = []
        for term in parsed.mechanisms:
            count += isinstance(term, Include | Hosts | Ptr | Exists)
            if isinstance(term, Include):
                names.append(term.domain)
        has_all = any(isinstance(term, All) for term in parsed.mechanisms)
        if parsed.redirect is not None and not has_all:
            count += 1
            names.append(parsed.redirect)
        wanted = [spec.name for spec in names if spec.name and spec.name not in seen]
        seen.update(wanted)
        if not wanted:
            continue
        answers = yield tuple(Question(name, TXT) for name in wanted)
        for name, answer in zip(wanted, answers, strict=True):
            records = [bytes(record) for record in answer.records if is_record(bytes(record))]
            waiting += records[:1]
            if trouble := "" if is_unanswered(answer) else _trouble(records):
                broken.append(f"{name}, which it follows, {trouble}")
    return Costs(lookups=count, broken=tuple(broken[:BROKEN_MAX]))


def _trouble(records: Sequence[bytes]) -> str:
    if len(records) != 1:
        return f"has {len(records) or 'no'} SPF record{'s' if records else ''}"
    return "" if isinstance(parse_record(records[0]), SpfRecord) else "has one with a mistake in it"


# --- DKIM ---


async def check_dkim(subject: Subject) -> list[Checked]:
    if not subject.config.dkim.is_enabled:
        return [
            Checked(
                subject="dkim",
                what=f"DKIM of {subject.domain}",
                state=State.ADVICE,
                words="this server signs nothing, as [dkim] is_enabled is false; much mail without"
                " a signature ends as junk",
            )
        ]
    alive = [key for key in subject.keys if key.state is not KeyState.REVOKED]
    if not any(key.state in (KeyState.WAITING, KeyState.SIGNING) for key in alive):
        missing = Checked(
            subject="dkim",
            what=f"DKIM of {subject.domain}",
            state=State.MISSING,
            words="the domain has no key, so its mail goes out unsigned; make one: posthouse domain"
            f" rotate {subject.domain}",
        )
        return [missing, *[await _check_key(subject, key) for key in alive]]
    return list(await asyncio.gather(*(_check_key(subject, key) for key in alive)))


async def _check_key(subject: Subject, key: DomainKey) -> Checked:
    what = f"DKIM key {key.selector} of {key.domain}"
    answer = await subject.ask(key.record_name, TXT)
    if is_unanswered(answer):
        return unanswered("dkim", what, answer)
    seen = sight(key, answer)
    now_us = subject.ports.clock.unix_us()
    state, words = judge_key(
        key,
        seen,
        now_us=now_us,
        options=subject.rotation,
        has_other=any(
            other.state is KeyState.SIGNING and other.algorithm == key.algorithm
            for other in subject.keys
        ),
    )
    return Checked(
        subject="dkim",
        what=what,
        state=state,
        found=_shown_texts(answer),
        wanted=() if is_needless(key, now_us, subject.rotation) else (f'"{key.record}"',),
        words=words,
    )


# --- DMARC ---


async def check_dmarc(subject: Subject) -> list[Checked]:
    name = f"_dmarc.{subject.domain}"
    what = f"DMARC of {subject.domain}"
    answer = await subject.ask(name, TXT)
    if is_unanswered(answer):
        return [unanswered("dmarc", what, answer)]
    policies = [bytes(r) for r in answer.records if is_policy(bytes(r))]
    discovered = await questions.run(find_policy(subject.domain), subject.ports.resolver)
    policy = discovered.policy
    state, words = judge_dmarc(subject.domain, policies, policy, _others(answer))
    if policy is not None and policy.domain == subject.domain and state is not State.WRONG:
        unknown = _unknown_here(subject, (*policy.aggregate_uris, *policy.failure_uris))
        state, words = (State.WRONG, unknown_words(unknown)) if unknown else (state, words)
    checked = Checked(
        subject="dmarc",
        what=what,
        state=state,
        found=_shown_texts(answer),
        wanted=tuple(record.value for record in subject.wants(name, TXT)),
        words=words,
    )
    if policy is None or policy.domain != subject.domain:
        return [checked]
    return [checked, *await _check_destinations(subject, policy)]


async def _check_destinations(subject: Subject, policy: DmarcPolicy) -> list[Checked]:
    """Another domain has to agree to take our reports (RFC 9990 §4)."""
    found = []
    for uri in policy.aggregate_uris:
        domain = uri.partition(":")[2].partition("?")[0].rpartition("@")[2].lower()
        if not uri.lower().startswith("mailto:") or not domain:
            continue
        if await _is_same_organization(subject, domain):
            continue
        name = f"{subject.domain}._report._dmarc.{domain}"
        what = f"reports to {domain}"
        answer = await subject.ask(name, TXT)
        if is_unanswered(answer):
            found.append(unanswered("dmarc", what, answer, asked=name))
            continue
        is_agreed = any(is_policy(bytes(record)) for record in answer.records)
        found.append(
            Checked(
                subject="dmarc",
                what=what,
                state=State.RIGHT if is_agreed else State.WRONG,
                found=_shown_texts(answer),
                wanted=(f'{name}. TXT "v=DMARC1"',),
                words="the other domain agrees to take your reports"
                if is_agreed
                else f"{domain} does not say that it takes reports about you, so they are not sent"
                " there; let it publish the record, or use an address of your own in rua=",
            )
        )
    return found


def _unknown_here(subject: Subject, uris: Sequence[str]) -> list[str]:
    """Addresses in domains of ours that nobody has."""
    addresses = dict.fromkeys(filter(None, map(mailbox, uris)))
    return [each for each in addresses if subject.ports.is_unknown(parse_mailbox(each))]


async def _is_same_organization(subject: Subject, domain: str) -> bool:
    if domain == subject.domain:
        return True
    ours = await questions.run(find_policy(subject.domain), subject.ports.resolver)
    theirs = await questions.run(find_policy(domain), subject.ports.resolver)
    return ours.organizational_domain == theirs.organizational_domain


# --- words ---


def _others(answer: DnsAnswer) -> tuple[str, ...]:
    return tuple(str(r) for r in answer.records if not is_policy(bytes(r)))


def _shown_texts(answer: DnsAnswer) -> tuple[str, ...]:
    return tuple(f'"{bytes(r).decode("utf-8", "replace")}"' for r in answer.records)
