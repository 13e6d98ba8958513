"""Whether the DNS has a record already: less than `check` says, and of each record that there is.

MX and SRV are compared as `check` does it, so what is right there is there here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum

import msgspec

from posthouse.kernel.ports import DnsAnswer, RecordType, Resolver
from posthouse.zone.asking import Asking
from posthouse.zone.check_clients import judge_srv
from posthouse.zone.check_transport import judge_mx
from posthouse.zone.checked import State, is_unanswered, texts
from posthouse.zone.records import Record


class Presence(Enum):
    THERE = "there"
    OTHER = "other"  # something else is there in its place
    MISSING = "missing"
    UNKNOWN = "unknown"  # the DNS gave no answer, or a person has to fill the record in first


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What the DNS has where a record belongs."""

    presence: Presence
    found: tuple[str, ...] = ()
    """What is there, as people write it."""
    trouble: str = ""
    """Why the DNS gave no answer."""


async def look_up(records: Sequence[Record], resolver: Resolver) -> dict[Record, Published]:
    """Never raises for what the DNS does: that is UNKNOWN."""
    asking = Asking(resolver)
    found = await asyncio.gather(*(_look_up(record, asking) for record in records))
    return dict(zip(records, found, strict=True))


async def _look_up(record: Record, asking: Asking) -> Published:
    if "<" in record.name:
        return Published(presence=Presence.UNKNOWN)
    if record.type == RecordType.CNAME.value:
        return await _look_up_alias(record, asking)
    answer = await asking.ask(record.name, RecordType(record.type))
    if is_unanswered(answer):
        return _unanswered(answer)
    found = _in_place_of(record, texts(answer))
    return Published(presence=_presence(record, answer, found), found=found)


async def _look_up_alias(record: Record, asking: Asking) -> Published:
    """An alias is as good as the addresses that it leads to: some zones cannot have one."""
    alias = await asking.ask(record.name, RecordType.CNAME)
    if is_unanswered(alias):
        return _unanswered(alias)
    if found := tuple(f"{each.rstrip('.')}." for each in texts(alias)):
        is_there = record.value.lower() in [each.lower() for each in found]
        return Published(presence=Presence.THERE if is_there else Presence.OTHER, found=found)
    four, six = await asking.addresses(record.name)
    if is_unanswered(four) or is_unanswered(six):
        return _unanswered(four if is_unanswered(four) else six)
    if not (found := (*four.records, *six.records)):
        return Published(presence=Presence.MISSING)
    ours = [each for answer in await asking.addresses(record.value) for each in answer.records]
    is_there = all(each in ours for each in found)
    return Published(presence=Presence.THERE if is_there else Presence.OTHER, found=found)


def _unanswered(answer: DnsAnswer) -> Published:
    return Published(presence=Presence.UNKNOWN, trouble=answer.detail or "no reason given")


def _presence(record: Record, answer: DnsAnswer, found: Sequence[str]) -> Presence:
    if not found:
        return Presence.MISSING
    if not record.is_whole:
        return Presence.UNKNOWN
    match record.type:
        case "MX":
            host = record.value.split()[1].rstrip(".")
            is_there = judge_mx(answer.records, host)[0] is State.RIGHT
        case "SRV":
            is_there = judge_srv(answer.records, record.value)[0] is State.RIGHT
        case "TXT":
            is_there = _bare(record, record.value) in [_bare(record, each) for each in found]
        case _:
            wanted = record.value.rstrip(".").lower()
            is_there = wanted in [each.rstrip(".").lower() for each in found]
    return Presence.THERE if is_there else Presence.OTHER


def _in_place_of(record: Record, found: Sequence[str]) -> tuple[str, ...]:
    """Texts of all sorts stand at a domain; only those of the same sort count."""
    if record.type != RecordType.TXT.value or _is_own_place(record):
        return tuple(found)
    version = _version(record.value)
    return tuple(each for each in found if _version(each) == version)


def _is_own_place(record: Record) -> bool:
    """A name like _dmarc.example.org holds one sort of text."""
    return any(label.startswith("_") for label in record.name.split("."))


def _version(text: str) -> str:
    return text.strip('"').partition(" ")[0].lower()


def _bare(record: Record, text: str) -> str:
    """Without the spaces that mean nothing: in a list of tags all, in SPF those beyond one."""
    return ("" if _is_own_place(record) else " ").join(text.strip('"').split())
