"""`posthouse domain add|list|catch-all|remove`."""

from __future__ import annotations

import click

from posthouse.accounts import admin
from posthouse.cli.config import config_option
from posthouse.cli.data import configured_store
from posthouse.cli.output import json_option, say, show
from posthouse.message.address import domain_to_unicode
from posthouse.store import accounts as rows


@click.group()
def domain() -> None:
    """Domains that mail is taken for."""


@domain.command()
@click.argument("name")
@config_option
def add(name: str, config_path: str | None) -> None:
    """Take mail for the domain NAME."""
    with configured_store(config_path, creates=True) as store:
        added = store.write_now(lambda tx: admin.add_domain(tx, name))
    say(f"mail for {added} is taken from now on; next: posthouse account add you@{added}")


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


@domain.command()
@click.argument("name")
@config_option
def remove(name: str, config_path: str | None) -> None:
    """Take no more mail for the domain NAME. Its accounts must be gone; its aliases go with it."""
    with configured_store(config_path) as store:
        removed = store.write_now(lambda tx: admin.remove_domain(tx, name))
    say(f"no more mail is taken for {removed}")
