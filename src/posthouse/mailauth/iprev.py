"""Reverse DNS of the client's address: does one of its names lead back to it (RFC 8601 §3).

Nothing is refused for it; it is a finding, and the name goes into Received.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.questions import Question, Questions
from posthouse.mailauth.results import IprevOutcome, Result

NAMES_MAX: Final = 10
"""Names followed, as RFC 7208 §4.6.4 has it."""
_SHOWN_MAX: Final = 4
"""Records of one answer that evidence shows."""

# What a host can be named and a trace field can hold; "_" is seen.
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_\-]{1,63}(?:\.[A-Za-z0-9_\-]{1,63})*+")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def check(address: str) -> Questions[IprevOutcome]:
    """At most two rounds: the names of the address, then the addresses of all names at once.

    Args:
        address: the client's, as text; IPv4 in IPv6 is taken for the IPv4 address it is.
    """
    try:
        ip = _parse(address)
    except ValueError:
        return IprevOutcome(
            result=Result.PERMERROR, address=address, reason="this is no IP address"
        )
    reverse = Question(ip.reverse_pointer, RecordType.PTR)
    (answer,) = yield (reverse,)
    evidence = [Evidence(str(reverse), _told(answer))]
    if answer.status is DnsStatus.TEMPFAIL:
        result, reason = Result.TEMPERROR, "the name of the address could not be looked up"
        return _outcome(result, ip, reason, evidence)
    names = _names(answer)
    if not names:
        return _outcome(Result.PERMERROR, ip, "the address has no name", evidence)
    # Records of the other family cannot hold the address, so they are not asked for.
    forward = RecordType.A if ip.version == 4 else RecordType.AAAA
    wanted = tuple(Question(name, forward) for name in names)
    answers = yield wanted
    confirmed = ""
    for question, answer in zip(wanted, answers):
        evidence.append(Evidence(str(question), _told(answer)))
        if not confirmed and any(_is(record, ip) for record in answer.records):
            confirmed = question.name
    if confirmed:
        return IprevOutcome(
            result=Result.PASS, address=str(ip), name=confirmed, evidence=tuple(evidence)
        )
    if any(answer.status is DnsStatus.TEMPFAIL for answer in answers):
        result, reason = Result.TEMPERROR, "a name of the address could not be looked up"
        return _outcome(result, ip, reason, evidence)
    return _outcome(Result.FAIL, ip, f"{names[0]} does not lead back to the address", evidence)


def _parse(address: str) -> Ip:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return ip if mapped is None else mapped


def _names(answer: DnsAnswer) -> list[str]:
    """The first names, in lower case, without what cannot be a host."""
    names = (name.rstrip(".").lower() for name in answer.records[: 2 * NAMES_MAX])
    hosts = dict.fromkeys(name for name in names if _HOST.fullmatch(name) is not None)
    return list(hosts)[:NAMES_MAX]


def _is(record: str, ip: Ip) -> bool:
    if ip.version == 4:
        return record == str(ip)
    try:
        return ipaddress.ip_address(record) == ip  # ::1 has many spellings
    except ValueError:
        return False


def _outcome(result: Result, ip: Ip, reason: str, evidence: list[Evidence]) -> IprevOutcome:
    return IprevOutcome(result=result, address=str(ip), reason=reason, evidence=tuple(evidence))


def _told(answer: DnsAnswer) -> str:
    if answer.status is not DnsStatus.FOUND:
        detail = answer.detail if answer.status is DnsStatus.TEMPFAIL else ""
        return detail or answer.status.value
    shown = ", ".join(str(record) for record in answer.records[:_SHOWN_MAX])
    return shown if len(answer.records) <= _SHOWN_MAX else f"{shown}, …"
