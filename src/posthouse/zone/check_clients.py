"""A look at what mail clients look for: SRV records and autoconfig."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from posthouse.config import build_clients
from posthouse.kernel.ports import FetchFailed, RecordType, SrvRecord
from posthouse.web.autoconfig import PATH, autoconfig_host, client_config
from posthouse.zone.checked import Checked, State, is_unanswered, listed, texts, unanswered
from posthouse.zone.fetching import fetch_advice
from posthouse.zone.subject import Subject

FETCH_S: Final = 15.0
CONFIG_OCTETS_MAX: Final = 65_536
FOR_CLIENTS: Final = frozenset(service for service, _, _ in build_clients.SERVERS)


async def check_autoconfig(subject: Subject) -> list[Checked]:
    """The name that mail clients ask, and what they are told there; nothing where we tell none."""
    host = autoconfig_host(subject.domain)
    wanted = tuple(record.value for record in subject.wants(host, RecordType.CNAME))
    if not wanted:
        return []
    what = f"autoconfig of {subject.domain}"
    four, six = await asyncio.gather(
        subject.ask(host, RecordType.A), subject.ask(host, RecordType.AAAA)
    )
    found = (*four.records, *six.records)
    if not found and (is_unanswered(four) or is_unanswered(six)):
        return [unanswered("autoconfig", what, four if is_unanswered(four) else six)]
    if found:
        state, words = await _judge_served(subject, host)
    else:
        state = State.ABSENT
        words = "people have to type host and ports into their mail client; publish the record"
    return [
        Checked(
            subject="autoconfig", what=what, state=state, found=found, wanted=wanted, words=words
        )
    ]


async def _judge_served(subject: Subject, host: str) -> tuple[State, str]:
    try:
        fetched = await subject.ports.fetch.get(
            f"https://{host}{PATH}", octets_max=CONFIG_OCTETS_MAX, timeout_s=FETCH_S
        )
    except FetchFailed as error:
        advice = fetch_advice(error, host, subject.config)
        return State.WRONG, f"mail clients cannot fetch their settings: {error}; {advice}"
    if fetched.status != 200:
        return State.WRONG, (
            f"the web server at {host} answers with {fetched.status}, not with settings for mail"
            " clients; let the name lead to this server"
        )
    ours = client_config(subject.domain, build_clients.mail_servers(subject.config))
    return judge_autoconfig(fetched.octets, ours, subject.host)


def judge_autoconfig(served: bytes, ours: bytes, host: str) -> tuple[State, str]:
    """Args:
    ours: what this server tells mail clients.
    """
    if served == ours:
        return State.RIGHT, "mail clients set themselves up"
    if f">{host}<".encode("ascii") in served:
        return State.ADVICE, (
            "another server answers there, or this one before its config was changed; what it tells"
            f" mail clients names {host}, but is not what this server would say"
        )
    return State.WRONG, (
        f"what is served there does not name {host}, so mail clients are set up for another server;"
        " let the name lead to this one, or set web.serves_autoconfig to false"
    )


async def check_srv(subject: Subject) -> list[Checked]:
    wanted = [record for record in subject.wanted if record.type == RecordType.SRV.value]
    if not wanted and any(each.service in FOR_CLIENTS for each in subject.config.listeners()):
        words = "not looked at: mail clients reach this server on loopback only, so it needs none"
        what = f"SRV of {subject.domain}"
        return [Checked(subject="srv", what=what, state=State.UNKNOWN, words=words)]
    answers = await asyncio.gather(*(subject.ask(r.name, RecordType.SRV) for r in wanted))
    found = []
    for record, answer in zip(wanted, answers, strict=True):
        what = f"SRV {record.name.rstrip('.')}"
        if is_unanswered(answer):
            found.append(unanswered("srv", what, answer))
            continue
        state, words = judge_srv(answer.records, record.value)
        found.append(
            Checked(
                subject="srv",
                what=what,
                state=state,
                found=texts(answer),
                wanted=(record.value,),
                words=words,
            )
        )
    return found


def judge_srv(records: Sequence[SrvRecord], wanted: str) -> tuple[State, str]:
    """Priority and weight are the administrator's to choose (RFC 2782); host and port are not."""
    if not records:
        return State.ABSENT, "mail clients cannot find this by themselves (RFC 6186 §3)"
    _, _, port, host = wanted.split()
    if any(f"{record.target}." == host and record.port == int(port) for record in records):
        return State.RIGHT, ""
    there = listed(f"{each.target or 'nowhere'} port {each.port}" for each in records)
    return State.WRONG, (
        f"mail clients are sent to {there} and not to {host.rstrip('.')} port {port}"
    )
