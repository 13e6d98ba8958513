"""`posthouse account add|import|list|password|disable|enable|quota|remove`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Final, TextIO, TypeVar

import click
import msgspec

from posthouse.accounts import admin
from posthouse.cli.config import config_option
from posthouse.cli.data import configured_store, new_hash
from posthouse.cli.output import (
    CommandError,
    json_option,
    password_option,
    progress,
    read_password,
    say,
    show,
)
from posthouse.config.quantity import format_value, parse_size
from posthouse.config.setting import Unit
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import AccountId
from posthouse.mailbox.names import create_default_mailboxes, delete_all
from posthouse.store import accounts as rows
from posthouse.store.transaction import DirectoryChanged, Transaction

IMPORT_LINES_MAX: Final = 100_000
T = TypeVar("T")


@click.group()
def account() -> None:
    """People and programs that own mailboxes."""


def make_account(
    tx: Transaction, address: str, *, password_hash: str, quota_octets: int | None
) -> AccountId:
    """An account with its mailboxes."""
    made = admin.add_account(tx, address, password_hash=password_hash, quota_octets=quota_octets)
    create_default_mailboxes(tx, made)
    return made


@account.command()
@click.argument("address")
@click.option("--quota", metavar="SIZE", help="Most it may keep, like 2GiB; no quota without.")
@password_option
@config_option
def add(address: str, quota: str | None, password_stdin: bool, config_path: str | None) -> None:
    """Make an account that receives at ADDRESS and logs in with it."""
    octets = _size(quota) if quota else None
    with configured_store(config_path) as store:
        store.read_now(lambda tx: admin.known_domain(tx, admin.parse_typed(address).domain))
        password = read_password(password_stdin=password_stdin, is_new=True)
        hashed = new_hash(password.reveal(), owner=address)
        store.write_now(
            lambda tx: make_account(tx, address, password_hash=hashed, quota_octets=octets)
        )
    say(f"{address} can log in and receive mail now")


@account.command("import")
@click.argument("file", type=click.File("r"))
@config_option
def import_(file: TextIO, config_path: str | None) -> None:
    """Make many accounts: one ADDRESS PASSWORD on each line of FILE ("-" is stdin)."""
    wanted = _lines(file)
    hashes: list[str] = []
    with configured_store(config_path) as store, progress("accounts", len(wanted)) as done:
        for number, address, password in wanted:
            hashes.append(_on_line(number, partial(new_hash, password, owner=address)))
            done(1)

        def unit(tx: Transaction) -> None:
            for (number, address, _), hashed in zip(wanted, hashes, strict=True):
                _on_line(
                    number,
                    partial(make_account, tx, address, password_hash=hashed, quota_octets=None),
                )

        store.write_now(unit)
    say(f"{len(wanted)} account{'s' * (len(wanted) != 1)} made")


def _lines(file: TextIO) -> list[tuple[int, str, str]]:
    """Line number, address and password of each line; empty ones are passed over."""
    wanted: list[tuple[int, str, str]] = []
    number = 0
    try:
        for number, line in enumerate(file, 1):
            words = line.strip().split(None, 1)
            if len(words) == 1:
                raise CommandError(f"line {number}: an address and a password are needed")
            if words:
                wanted.append((number, words[0], words[1]))
            if number > IMPORT_LINES_MAX:
                raise CommandError(f"more than {IMPORT_LINES_MAX} lines; import them in parts")
    except UnicodeDecodeError:
        raise CommandError(f"line {number + 1} or one soon after it is not UTF-8 text") from None
    return wanted


def _on_line(number: int, work: Callable[[], T]) -> T:
    """Run it; what a person did wrong is told with the line, and nothing of the file is kept."""
    try:
        return work()
    except UserError as error:
        raise CommandError(
            f"line {number}: {error.text}; no account was made", hint=error.hint
        ) from None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An account as `account list --json` shows it; never its password."""

    name: str
    is_disabled: bool
    quota_octets: int | None
    used_octets: int
    messages: int


@account.command("list")
@json_option
@config_option
def list_(as_json: bool, config_path: str | None) -> None:
    """All accounts, with what they keep."""
    with configured_store(config_path) as store:
        found = [
            Shown(
                name=a.name,
                is_disabled=a.is_disabled,
                quota_octets=a.quota_octets,
                used_octets=a.used_octets,
                messages=a.used_messages,
            )
            for a in store.read_now(rows.accounts)
        ]
    show(
        found,
        as_json=as_json,
        columns=("account", "messages", "used", "quota", "state"),
        rows=[
            (
                a.name,
                a.messages,
                format_value(a.used_octets, Unit.OCTETS),
                format_value(a.quota_octets, Unit.OCTETS) if a.quota_octets else "none",
                "disabled" if a.is_disabled else "active",
            )
            for a in found
        ],
        nothing="there is no account yet; add one: posthouse account add you@example.org",
    )


@account.command("password")
@click.argument("address")
@password_option
@config_option
def password_(address: str, password_stdin: bool, config_path: str | None) -> None:
    """Set a new password."""
    with configured_store(config_path) as store:
        found = store.read_now(lambda tx: admin.known_account(tx, address))
        password = read_password(password_stdin=password_stdin, is_new=True)
        hashed = new_hash(password.reveal(), owner=address)

        def unit(tx: Transaction) -> None:
            rows.set_password(tx, found.id, hashed)
            tx.changed(DirectoryChanged())

        store.write_now(unit)
    say(f"{found.name} has a new password")


@account.command()
@click.argument("address")
@config_option
def disable(address: str, config_path: str | None) -> None:
    """Let nobody log in; mail is kept and still taken."""
    _set_disabled(address, config_path, is_disabled=True)


@account.command()
@click.argument("address")
@config_option
def enable(address: str, config_path: str | None) -> None:
    """Let a disabled account log in again."""
    _set_disabled(address, config_path, is_disabled=False)


def _set_disabled(address: str, config_path: str | None, *, is_disabled: bool) -> None:
    with configured_store(config_path) as store:

        def unit(tx: Transaction) -> str:
            found = admin.known_account(tx, address)
            rows.set_disabled(tx, found.id, is_disabled=is_disabled)
            tx.changed(DirectoryChanged())
            return found.name

        name = store.write_now(unit)
    say(f"{name} is {'disabled' if is_disabled else 'enabled'}")


@account.command()
@click.argument("address")
@click.argument("size")
@config_option
def quota(address: str, size: str, config_path: str | None) -> None:
    """Set the most an account may keep: a SIZE like 2GiB, or "none"."""
    octets = None if size == "none" else _size(size)
    with configured_store(config_path) as store:

        def unit(tx: Transaction) -> str:
            found = admin.known_account(tx, address)
            rows.set_quota(tx, found.id, octets)
            tx.changed(DirectoryChanged())
            return found.name

        name = store.write_now(unit)
    say(f"{name} may keep {size if octets else 'any amount'}")


@account.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(address: str, yes: bool, config_path: str | None) -> None:
    """Remove an account with all its mail. This cannot be undone."""
    with configured_store(config_path) as store:
        found = store.read_now(lambda tx: admin.known_account(tx, address))
        if not yes:
            if not sys.stdin.isatty():
                raise CommandError("this removes all mail of the account", hint="add --yes")
            click.confirm(
                f"remove {found.name} with {found.used_messages} messages?", abort=True, err=True
            )

        def unit(tx: Transaction) -> None:
            delete_all(tx, found.id)
            rows.remove_account(tx, found.id)
            tx.changed(DirectoryChanged())

        store.write_now(unit)
    say(f"{found.name} and its mail are gone")


def _size(text: str) -> int:
    octets = int(text) if text.isdecimal() and len(text) < 19 else parse_size(text)
    if octets is None:
        raise CommandError(f"{text!r} is not a size", hint="write it like 2GiB")
    if octets <= 0:
        raise CommandError("a quota is more than 0", hint='"none" takes the quota away')
    return octets
