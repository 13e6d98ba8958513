"""Whether lists of bad senders in the DNS name an address (RFC 5782), and whether to believe them.

A list that names what none may name, or does not name what each must (RFC 5782 §5), or refuses to
answer us, says nothing about an address.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType, Resolver

IPV4_LISTED: Final = "127.0.0.2"
IPV4_UNLISTED: Final = "127.0.0.1"
IPV6_LISTED: Final = "::ffff:7f00:2"
IPV6_UNLISTED: Final = "::ffff:7f00:1"
CODES: Final = ipaddress.IPv4Network("127.0.0.0/8")  # RFC 5782 §2.1
REFUSALS: Final = ipaddress.IPv4Network("127.255.255.0/24")
"""What large lists answer to resolvers they do not serve: public ones, or too many questions."""
TEXT_MAX: Final = 300


class Standing(Enum):
    LISTED = "listed"
    UNLISTED = "not listed"
    UNUSABLE = "not usable"


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    zone: str
    address: str
    standing: Standing
    codes: tuple[str, ...] = ()
    words: str = ""
    """What the list says of a listed address; why it is not usable."""


def question_name(address: str, zone: str) -> str:
    """The address turned round in front of the list's zone (RFC 5782 §2.1, §2.4)."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        digits: Sequence[str] = str(ip).split(".")
    else:
        digits = ip.exploded.replace(":", "")
    return f"{'.'.join(reversed(digits))}.{zone}"


async def look_up(address: str, zone: str, resolver: Resolver) -> Looked:
    """One list about one address, with the two questions that show whether the list works."""
    is_ipv4 = ":" not in address
    listed, unlisted = (IPV4_LISTED, IPV4_UNLISTED) if is_ipv4 else (IPV6_LISTED, IPV6_UNLISTED)
    found, good, bad = await asyncio.gather(
        *(
            resolver.resolve(question_name(each, zone), RecordType.A)
            for each in (address, unlisted, listed)
        )
    )
    if words := unusable(found, good, bad):
        return Looked(zone=zone, address=address, standing=Standing.UNUSABLE, words=words)
    if found.status is not DnsStatus.FOUND:
        return Looked(zone=zone, address=address, standing=Standing.UNLISTED)
    return Looked(
        zone=zone,
        address=address,
        standing=Standing.LISTED,
        codes=found.records,
        words=await _said(address, zone, resolver),
    )


def unusable(found: DnsAnswer, good: DnsAnswer, bad: DnsAnswer) -> str:
    """Why a list says nothing, or "".

    Args:
        good: of the address that no list may name.
        bad: of the one that each must name.
    """
    for answer in (found, good, bad):
        if answer.status is DnsStatus.TEMPFAIL:
            return f"it does not answer ({answer.detail or 'no answer'})"
        codes = [ipaddress.IPv4Address(each) for each in answer.records]
        if any(code in REFUSALS for code in codes):
            return (
                f"it refuses to answer your resolver ({answer.records[0]}): large lists do not"
                " serve public resolvers; ask one of your own"
            )
        if any(code not in CODES for code in codes):
            return f"it answers with {answer.records[0]}, which is no code of a list"
    if good.status is DnsStatus.FOUND:
        return "it names every address, so it is out of use"
    if bad.status is not DnsStatus.FOUND:
        return "it does not name the address that every list names for tests"
    return ""


async def _said(address: str, zone: str, resolver: Resolver) -> str:
    """The list's own words, often with a link (RFC 5782 §2.1)."""
    answer = await resolver.resolve(question_name(address, zone), RecordType.TXT)
    texts = [bytes(record).decode("utf-8", "replace") for record in answer.records]
    return " ".join(texts)[:TEXT_MAX]
