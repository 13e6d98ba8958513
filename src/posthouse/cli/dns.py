"""`posthouse dns records|check`: what a domain should publish, and whether the world sees it."""

from __future__ import annotations

import asyncio
import ipaddress
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from posthouse.accounts import admin, directory, domain_keys
from posthouse.accounts.domain_keys import DomainKey
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import ExitCode, json_option, say, show_json, show_text
from posthouse.cli.resolver import (
    caching_resolver,
    dns_options,
    https_fetch,
    port_of,
    resolver_option,
)
from posthouse.config import build, build_keys
from posthouse.config.schema import Config
from posthouse.dns.options import Options as DnsOptions
from posthouse.kernel.envelope import Address
from posthouse.net.deadlines import Deadlines
from posthouse.net.world import SystemClock, SystemNetwork
from posthouse.tls.peers import Verifier, system_roots
from posthouse.zone.check import check_domain
from posthouse.zone.checked import Checked, Report, State
from posthouse.zone.policy import wishes_for
from posthouse.zone.published import Presence, Published, look_up
from posthouse.zone.records import DMARC_POLICIES, Record, records, zone_file
from posthouse.zone.subject import Ports, Subject

COLUMNS: Final = 98
STATE_COLUMNS: Final = 9
VALUE_SHOWN_MAX: Final = 1_000
"""Characters; a key record of 4,096 bits has 754 and is shown whole, as people copy it."""
MARKS: Final = {
    State.RIGHT: "right",
    State.ADVICE: "advice",
    State.ABSENT: "absent",
    State.MISSING: "MISSING",
    State.WRONG: "WRONG",
    State.UNKNOWN: "unknown",
}


@click.group()
def dns() -> None:
    """What a domain publishes in the DNS: what it should be, and what the world sees."""


@dns.command("records")
@click.argument("name")
@click.option(
    "--zone", "is_zone", is_flag=True, help="Lines for a zone file, with comments; the default."
)
@click.option(
    "--address",
    "addresses",
    metavar="IP",
    multiple=True,
    help="A public address of this machine; may be given again.",
)
@click.option(
    "--dmarc",
    type=click.Choice(DMARC_POLICIES),
    default="none",
    show_default=True,
    help="What others shall do with mail that uses your name and is not yours.",
)
@resolver_option
@json_option
@config_option
def records_command(
    name: str,
    is_zone: bool,
    addresses: tuple[str, ...],
    dmarc: str,
    resolver: str | None,
    as_json: bool,
    config_path: str | None,
) -> int:
    """Every record that the domain NAME should publish, as lines for its zone file.

    Lines that begin with ; are comments: why a record is good, and what you have to fill in. With
    --resolver it asks that DNS, and says of each record whether it is there already. Ends with 75
    when the DNS does not answer.
    """
    if is_zone and as_json:
        raise click.UsageError("--zone and --json cannot both be")
    config = load_config(config_path).config
    domain, keys = _known(config, name)
    wishes = wishes_for(
        config, domain, keys, addresses=tuple(map(_address, addresses)), dmarc=dmarc
    )
    found = records(config, domain, wishes)
    seen: dict[Record, Published] = {}
    if resolver is not None:
        seen = asyncio.run(_looked_up(found, dns_options(config, resolver)))
    if as_json:
        show_json([_with_presence(record, seen.get(record)) for record in found])
    else:
        remarks = {record: _remark(record, published) for record, published in seen.items()}
        show_text(zone_file(found, domain=domain, remarks=remarks).rstrip("\n"))
        _say_presence(seen)
    is_silent = bool(seen) and all(each.trouble for r, each in seen.items() if "<" not in r.name)
    return ExitCode.TEMPORARY if is_silent else ExitCode.OK


async def _looked_up(found: Sequence[Record], options: DnsOptions) -> dict[Record, Published]:
    return await look_up(found, caching_resolver(options))


def _with_presence(record: Record, published: Published | None) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.structs.asdict(record)
    if published is not None:
        shown["presence"] = published.presence
        shown["found"] = published.found
    return shown


def _remark(record: Record, published: Published) -> str:
    there = ", ".join(published.found)
    there = there if len(there) <= VALUE_SHOWN_MAX else f"{there[:VALUE_SHOWN_MAX]}…"
    match published.presence:
        case Presence.THERE:
            return "it is there already"
        case Presence.OTHER:
            return f"something else is there: {there}"
        case Presence.MISSING:
            return "it is not there yet"
    if published.trouble:
        return f"whether it is there could not be found out: {published.trouble}"
    return f"there is {there}; compare" if there else ""


def _say_presence(seen: dict[Record, Published]) -> None:
    counts = Counter(each.presence for each in seen.values())
    if seen:
        words = {
            Presence.THERE: "there already",
            Presence.MISSING: "not there yet",
            Presence.OTHER: "with another value",
            Presence.UNKNOWN: "not known",
        }
        parts = [f"{counts[each]} {text}" for each, text in words.items() if counts[each]]
        say(f"{len(seen)} records: {', '.join(parts)}")


@dns.command("check")
@click.argument("name")
@click.option(
    "--dns-only",
    is_flag=True,
    help="Ask the DNS and fetch the policy; leave ports and lists alone.",
)
@resolver_option
@json_option
@config_option
def check_command(
    name: str, dns_only: bool, resolver: str | None, as_json: bool, config_path: str | None
) -> int:
    """Ask the live DNS about the domain NAME, and look at this server from outside.

    Says for each thing whether it is right, and else what is there, what should be, and why it
    matters. Ends with 1 when something is missing or wrong, with 75 when the DNS does not answer.
    """
    config = load_config(config_path).config
    domain, keys = _known(config, name)
    options = dns_options(config, resolver)
    report = asyncio.run(_check(config, domain, keys, options, is_dns_only=dns_only))
    if as_json:
        show_json({**msgspec.structs.asdict(report), "is_good": report.is_good})
    else:
        _show(report)
    return _exit_code(report)


def _known(config: Config, name: str) -> tuple[str, tuple[DomainKey, ...]]:
    typed = admin.parse_typed_domain(name)
    with open_store(config) as store:
        domain = store.read_now(lambda tx: admin.known_domain(tx, typed)).name
        return domain, store.read_now(lambda tx: domain_keys.keys(tx, domain))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise click.UsageError(f"--address takes an IP address, and {text!r} is none") from None


async def _check(
    config: Config,
    domain: str,
    keys: tuple[DomainKey, ...],
    options: DnsOptions,
    *,
    is_dns_only: bool,
) -> Report:
    clock = SystemClock()
    resolver = caching_resolver(options)
    deadlines = Deadlines(clock)
    sweeping = asyncio.create_task(deadlines.run())
    wishes = wishes_for(config, domain, keys)
    subject = Subject(
        config,
        domain,
        wishes=wishes,
        wanted=records(config, domain, wishes),
        rotation=build_keys.rotation_options(config),
        ports=Ports(
            resolver=resolver,
            unchecked=caching_resolver(msgspec.structs.replace(options, is_unchecked=True)),
            network=SystemNetwork(),
            clock=clock,
            deadlines=deadlines,
            fetch=https_fetch(config, resolver),
            verifier=Verifier(system_roots()),
            port_of=lambda service: port_of(config, service),
            is_unknown=lambda address: _is_unknown(config, address),
        ),
    )
    try:
        return await check_domain(subject, is_dns_only=is_dns_only)
    finally:
        sweeping.cancel()


def _is_unknown(config: Config, address: Address) -> bool:
    options = build.directory_options(config, own_addresses=frozenset())
    with open_store(config) as store:
        found = store.read_now(lambda tx: directory.look_up(tx, address, options))
    return found.standing is directory.Standing.UNKNOWN


# --- for people ---


def _show(report: Report) -> None:
    for checked in report.checked:
        _show_checked(checked)
    counts = {state: sum(c.state is state for c in report.checked) for state in State}
    bad = counts[State.MISSING] + counts[State.WRONG]
    if bad:
        say(f"{bad} thing{'s' * (bad != 1)} to mend")
    elif not _is_silent(report):
        say("nothing to mend")
    if counts[State.ADVICE] or counts[State.ABSENT]:
        say(f"{counts[State.ADVICE] + counts[State.ABSENT]} could be better")
    if counts[State.UNKNOWN]:
        say(
            f"{counts[State.UNKNOWN]} could not be found out; where the DNS gave no answer, see"
            " whether the domain's name servers do, and try again"
        )


def _show_checked(checked: Checked) -> None:
    show_text(f"{MARKS[checked.state]:<{STATE_COLUMNS}}{checked.what}")
    if checked.state is not State.RIGHT:
        _show_values("there", checked.found)
        _show_values("wanted", tuple(v for v in checked.wanted if v not in checked.found))
    elif len(checked.found) == 1 and len(checked.found[0]) <= COLUMNS:
        _show_values("there", checked.found)
    for line in words_in_lines(checked.words):
        show_text(f"{'':<{STATE_COLUMNS}}{line}")


def words_in_lines(words: str) -> list[str]:
    """No name is broken: people copy them."""
    columns = COLUMNS - STATE_COLUMNS
    return textwrap.wrap(words, columns, break_on_hyphens=False, break_long_words=False)


def _show_values(label: str, values: tuple[str, ...]) -> None:
    for value in values:
        shown = value if len(value) <= VALUE_SHOWN_MAX else f"{value[:VALUE_SHOWN_MAX]}…"
        show_text(f"{'':<{STATE_COLUMNS}}{label + ':':<8}{shown}")


def _exit_code(report: Report) -> int:
    if not report.is_good:
        return ExitCode.FAILED
    return ExitCode.TEMPORARY if _is_silent(report) else ExitCode.OK


def _is_silent(report: Report) -> bool:
    """The DNS said nothing of the domain."""
    return any(each.subject == "mx" and each.state is State.UNKNOWN for each in report.checked)
