"""Whether somebody outside the domain wants its reports (RFC 9990 §4, RFC 9991 §5; H45).

Without it anybody could have all the world send reports to a victim. A generator of DNS questions,
like every check (`posthouse.mailauth.questions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.dmarc import grammar
from posthouse.mailauth.dmarc.discover import find_policy
from posthouse.mailauth.questions import Question, Questions
from posthouse.reporting.uris import Ignored, MailTo, targets

NAME_OCTETS_MAX: Final = 253
"""What fits the DNS (RFC 1035 §3.1)."""
URIS_MAX: Final = 10


class Tag(Enum):
    """Which addresses of a record are meant."""

    AGGREGATE = "rua"
    FAILURE = "ruf"


class Destinations(msgspec.Struct, frozen=True, kw_only=True):
    """Who is sent a report, who is not, and why."""

    allowed: tuple[MailTo, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    failure: str = ""
    """A question failed: what it was about may be allowed later (RFC 9990 §4, step 5)."""


def verify(
    domain: str, uris: Sequence[str], tag: Tag, *, most: int = URIS_MAX
) -> Questions[Destinations]:
    """Args:
    domain: the policy domain, where the record with these URIs was found.
    """
    found, left_out = targets(uris, most=most)
    wanted = [target for target in found if isinstance(target, MailTo)]
    allowed: dict[MailTo, None] = {}
    ignored = list(left_out)
    failure = ""
    own: str | None = None
    for target in wanted:
        host = target.address.domain
        if host == domain:
            allowed[target] = None
            continue
        if host.startswith("["):
            ignored.append(Ignored(target.uri, "an address literal cannot ask for reports"))
            continue
        if own is None:
            own = (yield from find_policy(domain)).organizational_domain
        theirs = (yield from find_policy(host)).organizational_domain
        if own is None or theirs is None:
            failure = f"the organizational domain of {domain if own is None else host}"
            ignored.append(Ignored(target.uri, f"the DNS did not tell {failure}"))
        elif own == theirs:
            allowed[target] = None
        else:
            outcome = yield from _external(domain, target, tag)
            if isinstance(outcome, Ignored):
                ignored.append(outcome)
            elif isinstance(outcome, str):
                failure = outcome
                ignored.append(Ignored(target.uri, f"the DNS did not tell {outcome}"))
            else:
                allowed.update(dict.fromkeys(outcome))
    return Destinations(allowed=tuple(allowed)[:most], ignored=tuple(ignored), failure=failure)


def _external(
    domain: str, target: MailTo, tag: Tag
) -> Questions[tuple[MailTo, ...] | Ignored | str]:
    """Where to send instead (mostly the same), why not, or what the DNS failed to tell."""
    host = target.address.domain
    name = f"{domain}._report._dmarc.{host}"
    if len(name) > NAME_OCTETS_MAX:
        return Ignored(target.uri, "its authorization would not fit into the DNS")
    question = Question(name, RecordType.TXT)
    (answer,) = yield (question,)
    if answer.status is DnsStatus.TEMPFAIL:
        return f"whether {host} takes reports for {domain}"
    records = _records(answer)
    if not records:
        return Ignored(
            target.uri, f"{host} does not say that it takes reports for {domain}: no {question}"
        )
    overriding: list[str] = []
    for record in records:
        policy = grammar.parse(record, domain)
        if policy is not None:
            overriding += policy.aggregate_uris if tag is Tag.AGGREGATE else policy.failure_uris
    if not overriding:
        return (target,)
    replaced = [each for each in targets(overriding, most=URIS_MAX)[0] if isinstance(each, MailTo)]
    if not replaced or any(each.address.domain != host for each in replaced):
        # RFC 9990 §4: then neither the original nor the override gets a report.
        return Ignored(target.uri, f"{host} sends reports on to somebody else")
    return tuple(replaced)


def _records(answer: DnsAnswer) -> list[bytes]:
    """Those that are policy records; anything else there is discarded (RFC 9990 §4, step 6)."""
    return [record for record in answer.records if grammar.is_policy(record)]
