"""`posthouse alias add|list|remove`."""

from __future__ import annotations

import click

from posthouse.accounts import admin
from posthouse.cli.config import config_option
from posthouse.cli.data import configured_store
from posthouse.cli.output import json_option, say, show
from posthouse.store import accounts as rows


@click.group()
def alias() -> None:
    """Addresses that stand for others."""


@alias.command()
@click.argument("address")
@click.argument("targets", nargs=-1, required=True)
@config_option
def add(address: str, targets: tuple[str, ...], config_path: str | None) -> None:
    """Send what comes for ADDRESS on to each of TARGETS, here or elsewhere."""
    with configured_store(config_path) as store:
        count = store.write_now(
            lambda tx: sum(admin.add_alias(tx, address, target) for target in targets)
        )
    say(f"{count} added" if count else "nothing to do: it was there already")


@alias.command("list")
@json_option
@config_option
def list_(as_json: bool, config_path: str | None) -> None:
    """All aliases with their targets."""
    with configured_store(config_path) as store:
        found = store.read_now(rows.aliases)
    show(
        found,
        as_json=as_json,
        columns=("alias", "target"),
        rows=[(a.address, a.target) for a in found],
        nothing="there is no alias yet",
    )


@alias.command()
@click.argument("address")
@click.argument("target", required=False)
@config_option
def remove(address: str, target: str | None, config_path: str | None) -> None:
    """Remove one TARGET of the alias ADDRESS, or the whole alias."""
    with configured_store(config_path) as store:
        count = store.write_now(lambda tx: admin.remove_alias(tx, address, target))
    say(f"{count} removed")
