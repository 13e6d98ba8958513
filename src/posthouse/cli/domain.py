"""`posthouse domain add|list|catch-all|keys|rotate|remove`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from posthouse.accounts import admin, domain_keys, rotation
from posthouse.accounts.domain_keys import DomainKey, KeyState
from posthouse.cli import domain_keys as key_words
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import configured_store, open_store
from posthouse.cli.output import CommandError, json_option, say, show, show_json, show_text
from posthouse.cli.resolver import resolver_option
from posthouse.config.schema import Config
from posthouse.mailauth.dkim.sign import NewKey
from posthouse.message.address import domain_to_unicode
from posthouse.store import accounts as rows
from posthouse.store.transaction import Transaction


@click.group()
def domain() -> None:
    """Domains that mail is taken for, and their DKIM keys."""


@domain.command()
@click.argument("name")
@config_option
def add(name: str, config_path: str | None) -> None:
    """Take mail for the domain NAME, and make the DKIM keys that sign what it sends."""
    config = load_config(config_path).config
    typed = admin.parse_typed_domain(name)
    with open_store(config, creates=True) as store:
        store.read_now(lambda tx: admin.refuse_known_domain(tx, typed))
        new = key_words.new_keys(config)

        def unit(tx: Transaction) -> str:
            added = admin.add_domain(tx, typed)
            domain_keys.make_keys(tx, added, new, key_words.node_key(config))
            return added

        added = store.write_now(unit)
    say(f"mail for {added} is taken from now on; next: posthouse account add you@{added}")
    say(f"then publish what this prints: posthouse dns records {added}")
    if new:
        say(
            f"what {added} sends is signed (DKIM) once the DNS shows its keys, until then it is not"
        )


@domain.command("list")
@json_option
@config_option
def list_(as_json: bool, config_path: str | None) -> None:
    """All domains, with how many accounts and aliases they have."""
    with configured_store(config_path) as store:
        found = store.read_now(rows.domains)
    show(
        found,
        as_json=as_json,
        columns=("domain", "accounts", "aliases", "catch-all"),
        rows=[(domain_to_unicode(d.name), d.accounts, d.aliases, d.catch_all) for d in found],
        nothing="there is no domain yet; add one: posthouse domain add example.org",
    )


@domain.command("catch-all")
@click.argument("name")
@click.argument("address", required=False)
@click.option("--none", "is_none", is_flag=True, help="Refuse unknown addresses again.")
@config_option
def catch_all(name: str, address: str | None, is_none: bool, config_path: str | None) -> None:
    """Let ADDRESS have what is sent to unknown addresses of the domain NAME."""
    if bool(address) == is_none:
        raise click.UsageError("give an address, or --none")
    with configured_store(config_path) as store:
        store.write_now(lambda tx: admin.set_catch_all(tx, name, address))
    say("unknown addresses are refused" if is_none else f"unknown addresses go to {address}")


@domain.command("keys")
@click.argument("name")
@resolver_option
@json_option
@config_option
def keys_command(name: str, resolver: str | None, as_json: bool, config_path: str | None) -> None:
    """The DKIM keys of the domain NAME, what the DNS shows of them, and what to do next.

    A key that the DNS shows and that has waited long enough signs from now on: what the server
    would find within the hour.
    """
    config = load_config(config_path).config
    with open_store(config) as store:
        known = store.read_now(lambda tx: admin.known_domain(tx, admin.parse_typed_domain(name)))
        found, sights = key_words.advanced(store, config, known.name, resolver)
        now_us = store.read_now(lambda tx: tx.now_us())
    rows_ = key_words.shown(found, sights, config, now_us=now_us)
    show(
        rows_,
        as_json=as_json,
        columns=("selector", "algorithm", "state", "since", "DNS", "next"),
        rows=[(k.selector, k.algorithm, k.state, k.since, k.dns, k.next) for k in rows_],
        nothing=f"{known.name} has no keys, so its mail is not signed;"
        f" make some: posthouse domain rotate {known.name}",
    )
    for key in rows_ if not as_json else ():
        if key.found and key.dns == "not shown":
            say(f"the DNS has for {key.name}: {key.found}")
    for line in () if as_json else key_words.put_back_lines(found, sights, config, now_us=now_us):
        say(f"put back: {line}")


@domain.command()
@click.argument("name", required=False)
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Sign with the next keys at once, whatever the DNS shows: where the old key is known to"
    " somebody else.",
)
@click.option(
    "--lost-node-key",
    "is_lost",
    is_flag=True,
    help="The node key is lost: make a new one, give up all keys it sealed, and make new ones for"
    " every domain.",
)
@json_option
@config_option
def rotate(
    name: str | None, is_forced: bool, is_lost: bool, as_json: bool, config_path: str | None
) -> None:
    """Make the next DKIM keys of the domain NAME now, and print their records.

    The server signs with them once the DNS shows them; the keys before them go on until then.
    """
    if (name is None) is not is_lost:
        raise click.UsageError("name a domain; or all of them with --lost-node-key")
    config = load_config(config_path).config
    if not config.dkim.is_enabled:
        raise CommandError("DKIM is off", hint="set is_enabled = true in [dkim]")
    if name is not None:
        made = _rotate(config, admin.parse_typed_domain(name), is_forced=is_forced)
    else:
        made = _begin_anew(config)
    if as_json:
        show_json([{"name": key.record_name, "record": key.record} for key in made])
        return
    for line in key_words.record_lines(made):
        show_text(line)
    _say_next(made, is_forced=is_forced)


def _rotate(config: Config, name: str, *, is_forced: bool) -> tuple[DomainKey, ...]:
    """Returns the keys that wait now, or with `is_forced` sign from now on."""
    with open_store(config) as store:
        known = store.read_now(lambda tx: admin.known_domain(tx, name))
        new = key_words.new_keys(config)

        def unit(tx: Transaction) -> tuple[DomainKey, ...]:
            domain_keys.make_keys(tx, known.name, new, key_words.node_key(config))
            waiting = _waiting(domain_keys.keys(tx, known.name))
            if is_forced:
                rotation.sign_now(tx, known.name)
            return waiting

        return store.write_now(unit)


def _begin_anew(config: Config) -> tuple[DomainKey, ...]:
    key = key_words.node_key(config)
    with open_store(config) as store:
        names = [row.name for row in store.read_now(rows.domains)]
        if not names:
            raise CommandError("there is no domain, so there are no keys to lose")
        key.renew()
        made: list[DomainKey] = []
        for name in names:
            new = key_words.new_keys(config)

            def unit(
                tx: Transaction, name: str = name, new: Sequence[NewKey] = new
            ) -> tuple[DomainKey, ...]:
                domain_keys.give_up_sealed(tx, name)
                return domain_keys.make_keys(tx, name, new, key)

            made += store.write_now(unit)
    return tuple(made)


def _waiting(keys: Sequence[DomainKey]) -> tuple[DomainKey, ...]:
    return tuple(key for key in keys if key.state is KeyState.WAITING)


def _say_next(made: Sequence[DomainKey], *, is_forced: bool) -> None:
    names = sorted({key.domain for key in made})
    if is_forced:
        say("these keys sign from now on: publish their records at once")
        return
    say("publish these records; the keys sign once the DNS shows them")
    for name in names:
        say(f"to see how far it is: posthouse domain keys {name}")


@domain.command()
@click.argument("name")
@config_option
def remove(name: str, config_path: str | None) -> None:
    """Take no more mail for the domain NAME. Its accounts must be gone; its aliases and
    keys go with it."""
    with configured_store(config_path) as store:
        removed = store.write_now(lambda tx: admin.remove_domain(tx, name))
    say(f"no more mail is taken for {removed}")
