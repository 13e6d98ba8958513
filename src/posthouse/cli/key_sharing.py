"""`posthouse key find|publish`: keys of others, and ours for others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from posthouse.accounts import mail_keys
from posthouse.accounts.admin import parse_typed
from posthouse.accounts.key_choice import Choice, in_use
from posthouse.accounts.mail_keys import MailKey, Source, expires_text, fold_address
from posthouse.accounts.mail_policy import SCHEMES
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import (
    ExitCode,
    json_option,
    say,
    say_hint,
    show_json,
    show_text,
)
from posthouse.cli.resolver import (
    caching_resolver,
    dns_options,
    https_fetch,
    resolver_option,
)
from posthouse.config import build, build_acme, build_mimesec
from posthouse.config.schema import Config
from posthouse.gateway import key_search
from posthouse.gateway.key_places import Authorities, KeyPlaces, Told
from posthouse.kernel.ports import TlsaRecord
from posthouse.message.address import format_address
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import dns as pgp_dns
from posthouse.mimesec.pgp import wkd
from posthouse.mimesec.smime import read_certificates, smimea
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemClock
from posthouse.store.transaction import Transaction

Command = TypeVar("Command", bound=Callable[..., Any])

OTHERS_SHOWN: Final = 5


class FoundKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as `--json` shows it."""

    where: str
    scheme: str
    fingerprint: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    where: str
    words: str
    """Why there is none; "" where there is."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[FoundKey, ...]
    asked: tuple[Place, ...]


def scheme_option(command: Command) -> Command:
    """`--scheme`, as the argument `scheme`."""
    return click.option(
        "--scheme", type=click.Choice(list(SCHEMES)), help="Where there is a key of each."
    )(command)


def wanted(scheme: str | None) -> Scheme | None:
    return SCHEMES[scheme] if scheme is not None else None


def tell_choice(whom: str, choice: Choice) -> None:
    """Which of several keys it is."""
    if choice.others:
        named = ", ".join(one.fingerprint for one in choice.others[:OTHERS_SHOWN])
        taken = f"{choice.key.fingerprint} ({choice.key.scheme.value})"
        say(f"{whom} has {len(choice.others) + 1} keys; this is {taken}")
        say_hint(f"others are named by their fingerprints: {named}")


@click.command("find")
@click.argument("address")
@resolver_option
@json_option
@config_option
def find(address: str, resolver: str | None, as_json: bool, config_path: str | None) -> int:
    """Ask the domain of ADDRESS for its key, as is done before mail is encrypted, and keep it.

    Ends with 0 when there is one, with 1 when there is none, and with 75 when a place gave no
    answer.
    """
    config = load_config(config_path).config
    wanted = fold_address(format_address(parse_typed(address)))
    told = asyncio.run(_ask(config, resolver, wanted))
    _keep(config, wanted, told)
    here = _imported(config, wanted)
    shown = Shown(
        keys=tuple(
            FoundKey(where=one.where, scheme=each.scheme.value, fingerprint=each.fingerprint)
            for one in told
            for each in one.keys
        ),
        asked=tuple(Place(where=one.where, words=one.words) for one in told),
    )
    if as_json:
        show_json(shown)
    else:
        _show(told)
        for one in here:
            say(f"{one.fingerprint} ({one.scheme.value}) of {wanted} is here: a person imported it")
    if shown.keys:
        return ExitCode.OK
    return ExitCode.TEMPORARY if any(one.is_for_now for one in told) else ExitCode.FAILED


@click.command("publish")
@click.argument("whom", metavar="ADDRESS|FINGERPRINT")
@click.option("--stop", is_flag=True, help="Show it no more.")
@scheme_option
@config_option
def publish(whom: str, stop: bool, scheme: str | None, config_path: str | None) -> None:
    """Let others find a key of ours.

    An OpenPGP key is shown in the Web Key Directory of its domain, where this server's web door is
    open. The DNS records that show a key are printed, for a zone that is signed. Of several keys of
    an address it is the one in use, and with --stop one that is shown.
    """
    config = load_config(config_path).config

    def unit(tx: Transaction) -> tuple[Choice, MailKey, bool]:
        choice = in_use(
            *(tx, whom),
            scheme=wanted(scheme),
            wish=lambda key: key.is_published if stop else key.is_own,
        )
        mail_keys.publish(tx, choice.key, is_published=not stop)
        counted = mail_keys.counted_addresses(tx, choice.key)
        is_usable = choice.key.is_usable(tx.now_us())
        return choice, msgspec.structs.replace(choice.key, addresses=counted), is_usable

    with open_store(config) as store:
        choice, found, is_usable = store.write_now(unit)
    tell_choice(whom, choice)
    if stop and not choice.key.is_published:
        say(f"{found.fingerprint} was not shown")
        return
    if stop:
        say(f"{found.fingerprint} is not shown any more")
        say_hint("take its records out of the DNS, too")
        return
    say(f"{found.fingerprint} may be shown to others")
    if found.revoked_at is not None:
        say("it is revoked, and others will hear just that of it")
    elif not is_usable:
        say(f"it ended on {expires_text(found)}: others will encrypt nothing to it")
    for line in _records(found):
        show_text(line)
    say_hint("records count only in a zone that is signed (DNSSEC)")
    if found.scheme is Scheme.OPENPGP:
        say_hint(_directory_hint(config, found))


def _directory_hint(config: Config, found: MailKey) -> str:
    domains = sorted({address.rpartition("@")[2] for address in found.addresses})
    if not build_acme.key_domains(config, domains):
        return (
            "for the Web Key Directory, which most programs ask, open the web door:"
            " [web] is_enabled = true, and start the server again (where it listens on loopback"
            " alone, name web.addresses, too)"
        )
    names = ", ".join(f"{wkd.HOST}{domain}" for domain in domains)
    return f"for the Web Key Directory, let {names} lead to this server (a CNAME will do)"


async def _ask(config: Config, resolver: str | None, address: str) -> tuple[Told, ...]:
    asked = caching_resolver(dns_options(config, resolver))
    roots = build_mimesec.gateway_options(config).roots
    with closing(ThreadWorkers()) as workers:
        places = KeyPlaces(
            resolver=asked,
            fetch=https_fetch(config, asked),
            authorities=Authorities(roots, clock=SystemClock(), workers=workers),
        )
        return await places.ask(address, deadline_s=config.mimesec.lookup_s)


def _keep(config: Config, address: str, told: tuple[Told, ...]) -> None:
    """As the server would; where there is no server nothing is kept."""
    if not Path(build.store_options(config).folder, "posthouse.db").exists():
        return
    missed_us = int(build_mimesec.key_search_options(config).missed_s * 1e6)
    unit = partial(key_search.keep, address=address, told=told, missed_us=missed_us)
    with open_store(config) as store:
        store.write_now(unit)


def _imported(config: Config, address: str) -> tuple[MailKey, ...]:
    """Keys that were put here for the address, whatever its domain shows."""
    if not Path(build.store_options(config).folder, "posthouse.db").exists():
        return ()
    with open_store(config) as store:
        keys = store.read_now(lambda tx: mail_keys.by_address(tx, address))
    return tuple(one for one in keys if one.source is Source.IMPORTED)


def _show(told: tuple[Told, ...]) -> None:
    for one in told:
        if not one.keys:
            show_text(f"{one.where}: {one.words}")
        for each in one.keys:
            show_text(f"{one.where}: {each.scheme.value} {each.fingerprint}")


def _records(found: MailKey) -> list[str]:
    """In the form of a zone file, for each address of the key."""
    if found.scheme is Scheme.OPENPGP:
        return [
            f"{pgp_dns.name(address)}. IN OPENPGPKEY {pgp_dns.record_text(found.public)}"
            for address in found.addresses
        ]
    record = smimea.record(read_certificates(found.public)[0])
    return [f"{smimea.name(address)}. IN SMIMEA {_text(record)}" for address in found.addresses]


def _text(record: TlsaRecord) -> str:
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"
