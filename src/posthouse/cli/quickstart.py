"""`posthouse quickstart`: from nothing to a server with one account, in one command.

Run again with another address, it adds that account to the same data. An existing config file is
never changed.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from pathlib import Path
from typing import Final

import click
import msgspec

from posthouse.accounts import admin, domain_keys
from posthouse.accounts.domain_keys import DomainKey
from posthouse.cli import domain_keys as key_words
from posthouse.cli import publish
from posthouse.cli.account import make_account
from posthouse.cli.config import SYSTEM_CONFIG, find_config
from posthouse.cli.data import new_hash, open_store
from posthouse.cli.output import (
    CommandError,
    json_option,
    password_option,
    read_password,
    say,
    show_json,
    show_text,
)
from posthouse.config.host import ThisHost
from posthouse.config.schema import NO_MAIL, STANDARD_PORTS, Config, Service
from posthouse.config.settings import load_file
from posthouse.kernel.envelope import Address
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Chance, Clock
from posthouse.mailauth.dkim.sign import NewKey
from posthouse.mailbox import names
from posthouse.mailbox.append import NewMessage, append, prepare
from posthouse.message import build
from posthouse.message.address import domain_to_unicode, format_address
from posthouse.net.world import SystemChance, SystemClock
from posthouse.store import accounts as rows
from posthouse.store.transaction import Transaction
from posthouse.zone import services
from posthouse.zone.records import Need, Record, Wishes, records

SYSTEM_DATA: Final = Path("/var/lib/posthouse")
"""The data folder of root; its config is where every command finds it."""
OWN_DATA: Final = Path("posthouse-data")
"""The data folder of everybody else."""
FILE_NAME: Final = "posthouse.toml"
PORT_BASE_MAX: Final = 64_000


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks of a new config."""

    folder: Path
    file: Path
    listen: str | None
    port_base: int | None
    hostname: str | None

    @property
    def is_picky(self) -> bool:
        return bool(self.listen or self.port_base or self.hostname)


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What there is now, as `--json` shows it."""

    address: str
    config: str
    config_is_new: bool
    data_folder: str
    records: tuple[Record, ...]
    """The needed ones; `posthouse dns records` has more."""
    all_records: str
    """The command that prints all of them."""
    clients: tuple[services.ClientSetting, ...]
    user_name: str
    serve: str
    send: str
    notes: tuple[str, ...]


@click.command()
@click.argument("address", metavar="YOU@EXAMPLE.ORG")
@click.option(
    "--data",
    "folder",
    metavar="DIR",
    help="Folder for data and config; else /var/lib/posthouse for root, with the config in"
    " /etc/posthouse, and ./posthouse-data for others.",
)
@click.option(
    "--listen", metavar="ADDRESS", help="Listen only there, like 127.0.0.1; else everywhere."
)
@click.option(
    "--port-base",
    type=click.IntRange(1, PORT_BASE_MAX),
    metavar="N",
    help="Listen on N+25, N+587, N+465, N+143, N+993, N+110, N+995; needs no privilege.",
)
@click.option("--hostname", metavar="NAME", help="Name of this server; else mail.EXAMPLE.ORG.")
@password_option
@json_option
def quickstart(
    address: str,
    folder: str | None,
    listen: str | None,
    port_base: int | None,
    hostname: str | None,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Write a config, make a domain and an account, print what to publish.

    With data that is there already, add the account to it; its config file stays as it is.
    """
    typed = admin.parse_typed(address)
    name = format_address(typed)
    wish = _wish(folder, listen, port_base, hostname)
    is_new = not wish.file.exists()
    if not is_new:
        config = load_file(wish.file).config
        _refuse_other_settings(wish, config, name)
        _refuse_known_account(config, wish, typed)
    password = read_password(
        password_stdin=password_stdin, prompt=f"Password for {name}", is_new=True
    )
    hashed = new_hash(password.reveal(), owner=name)
    if is_new:
        _write_config(wish, typed.domain)
        config = load_file(wish.file).config
    with open_store(config, creates=True) as store:
        is_new_domain = store.read_now(lambda tx: rows.domain_by_name(tx, typed.domain) is None)
        new_keys = key_words.new_keys(config) if is_new_domain else ()
        store.write_now(
            lambda tx: _furnish(tx, typed, hashed, new_keys, config, SystemClock(), SystemChance())
        )
        keys = store.read_now(lambda tx: domain_keys.keys(tx, typed.domain))
    done = _done(wish, config, typed, keys, is_new=is_new)
    if as_json:
        show_json(done)
    else:
        _show(done, domain=typed.domain)


def _wish(
    folder: str | None, listen: str | None, port_base: int | None, hostname: str | None
) -> Wish:
    if listen is not None:
        try:
            listen = str(ipaddress.ip_address("127.0.0.1" if listen == "localhost" else listen))
        except ValueError:
            raise click.UsageError(
                f"--listen takes an IP address, and {listen!r} is none"
            ) from None
    if hostname is not None:
        hostname = admin.parse_typed_domain(hostname)
    is_system = folder is None and os.geteuid() == 0
    data = Path(folder) if folder is not None else SYSTEM_DATA if is_system else OWN_DATA
    if data.exists() and not data.is_dir():
        raise CommandError(f"{data} is a file, not a folder", hint="name a folder with --data DIR")
    file = SYSTEM_CONFIG if is_system else data / FILE_NAME
    return Wish(folder=data, file=file, listen=listen, port_base=port_base, hostname=hostname)


# --- what is there already ---


def _refuse_other_settings(wish: Wish, config: Config, name: str) -> None:
    addresses = {
        address
        for listener in config.listeners()
        if listener.service not in NO_MAIL
        for address in listener.addresses
    }
    if (
        wish.listen not in (None, *addresses)
        or wish.port_base not in (None, config.net.port_base)
        or wish.hostname not in (None, config.node.hostname)
    ):
        raise CommandError(
            f"{wish.file} is there already and says otherwise; quickstart never changes it",
            hint=f"to add {name} to it, leave out --listen, --port-base and --hostname\n"
            "to change these, edit that file; to begin anew, name another folder with --data",
        )


def _refuse_known_account(config: Config, wish: Wish, address: Address) -> None:
    if not Path(config.node.data_folder, "posthouse.db").exists():
        return
    with open_store(config) as store:
        known = store.read_now(
            lambda tx: rows.account_by_address(tx, address.local_part, address.domain)
        )
    if known is not None:
        option = _config_words(wish.file)
        raise CommandError(
            f"the account {known.name} is there already",
            hint=f"start the server: posthouse serve{option}\n"
            f"or give it a new password: posthouse account password {known.name}{option}",
        )


def _config_words(file: Path) -> str:
    """ " --config FILE", or "" where every command finds the file on its own."""
    found = find_config(None)
    if found is not None and found.exists() and file.exists() and found.samefile(file):
        return ""
    return f" --config {shlex.quote(str(file))}"


# --- the config file ---


def _write_config(wish: Wish, domain: str) -> None:
    """Never over a file that is there, and open to nobody else."""
    text = config_text(wish, wish.hostname or _host_name(domain))
    try:
        for folder in (wish.folder, wish.file.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(wish.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise CommandError(
            f"{error.filename or wish.file} cannot be written: {error.strerror}",
            hint="name a folder of your own with --data DIR",
        ) from error


def _host_name(domain: str) -> str:
    """The system's name where it belongs to the domain."""
    name = ThisHost().name().lower()
    return name if name.endswith(f".{domain}") else f"mail.{domain}"


def config_text(wish: Wish, hostname: str) -> str:
    """The file: only what differs from the defaults."""
    is_beside = wish.file.parent == wish.folder
    lines = [
        "# Posthouse. Only what differs from the defaults stands here; the file may be empty.",
        "# Every setting with its meaning: posthouse config show",
        "# After a change: posthouse config check, then restart, or send SIGHUP.",
        "",
        "[node]",
        "# The name of this server in greetings and Received fields. It should resolve to this",
        "# machine and back.",
        f'hostname = "{hostname}"',
    ]
    if is_beside:
        lines += [
            "# Messages and accounts. A path that is not absolute starts at this file's folder.",
            'data_folder = "."',
        ]
    lines += [
        "",
        "# A self-signed certificate is made at the first start. One that all trust is obtained by",
        "# itself from Let's Encrypt, once you have read its terms; it takes port 80 or 443, and",
        "# pip install 'posthouse[acme]'.",
        "# [acme]",
        "# is_enabled = true",
        "# accepts_terms = true",
        "",
        "# Or name one of your own.",
        "# [tls]",
        f'# certificate = "/etc/letsencrypt/live/{hostname}/fullchain.pem"',
        f'# key = "/etc/letsencrypt/live/{hostname}/privkey.pem"',
    ]
    if wish.port_base:
        lines += [
            "",
            "[net]",
            "# Added to every standard port: 25, 587, 465, 143, 993, 110, 995.",
            f"port_base = {wish.port_base}",
        ]
    if wish.listen:
        lines += ["", "# Where to listen; without these tables it is on all addresses."]
        for service in STANDARD_PORTS:
            if service is not Service.LMTP and service not in NO_MAIL:
                lines += [
                    "[[listener]]",
                    f'service = "{service.value}"',
                    f'addresses = ["{wish.listen}"]',
                    "",
                ]
    return "\n".join(lines).rstrip("\n") + "\n"


# --- domain, account and a first message ---


def _furnish(
    tx: Transaction,
    address: Address,
    hashed: str,
    new_keys: tuple[NewKey, ...],
    config: Config,
    clock: Clock,
    chance: Chance,
) -> None:
    name = format_address(address)
    if rows.domain_by_name(tx, address.domain) is None:
        admin.add_domain(tx, address.domain)
        domain_keys.make_keys(tx, address.domain, new_keys, key_words.node_key(config))
    account = make_account(tx, name, password_hash=hashed, quota_octets=None)
    admin.ensure_postmaster(tx, address.domain, name)
    _welcome(tx, account, address, config, clock=clock, chance=chance)


def _welcome(
    tx: Transaction,
    account: AccountId,
    address: Address,
    config: Config,
    *,
    clock: Clock,
    chance: Chance,
) -> None:
    name = format_address(address)
    ways = "\n".join(
        f"    {way.purpose}: {way.protocol} at {way.host}, port {way.port}, {way.security}"
        for way in services.client_settings(config)
    )
    text = (
        f"Welcome. This mailbox takes mail for {name}.\n\n"
        f"A mail client needs the user name {name}, your password, and one line of each kind:\n\n"
        f"{ways}\n\n"
        "Mail for postmaster comes to the domain's first account.\n"
    )
    fields = (
        build.date_field(clock.now()),
        build.address_field(
            "From", [build.Mailbox(Address("postmaster", address.domain), "Posthouse")]
        ),
        build.address_field("To", [build.Mailbox(address)]),
        build.text_field("Subject", "Your mailbox is ready"),
        build.message_id_field(f"<{chance.token(12).hex()}@{config.node.hostname}>"),
    )
    octets = build.message(fields, build.text_entity(text))
    append(tx, account, names.INBOX, [NewMessage(octets=octets, prepared=prepare(octets))])


# --- what to do now ---


def _done(
    wish: Wish, config: Config, address: Address, keys: tuple[DomainKey, ...], *, is_new: bool
) -> Done:
    found = records(config, address.domain, Wishes(keys=keys))
    name = format_address(address)
    option = _config_words(wish.file)
    return Done(
        address=name,
        config=str(wish.file),
        config_is_new=is_new,
        data_folder=config.node.data_folder,
        records=tuple(record for record in found if record.need is Need.NEEDED),
        all_records=f"posthouse dns records {address.domain}{option}",
        clients=services.client_settings(config),
        user_name=name,
        serve=f"posthouse serve{option}",
        send=f"posthouse send{option} --user {name} --from {name} --to {name} --subject Hello",
        notes=_notes(config),
    )


def _notes(config: Config) -> tuple[str, ...]:
    notes: list[str] = []
    if not config.tls.certificate and not config.acme.is_enabled:
        notes.append(
            "the certificate is self-signed: mail clients ask once whether to trust it. For one"
            " that all trust, enable [acme], which obtains it by itself, or set certificate and"
            " key in [tls]"
        )
    port = services.mx_port(config)
    if services.is_loopback_only(config):
        notes.append("it listens on this machine only: good for a try, no other host reaches it")
    elif port not in (None, services.STANDARD_MX_PORT):
        notes.append(f"other hosts bring mail to port 25 only: forward that to {port}")
    closed = publish.privileged_ports(config)
    if closed and os.geteuid() != 0:
        ports = ", ".join(map(str, closed))
        notes.append(
            f"ports {ports} need root or a service manager; for a try without, begin in another"
            " folder with --port-base 20000"
        )
    return tuple(notes)


def _show(done: Done, *, domain: str) -> None:
    say(f"{'wrote' if done.config_is_new else 'kept'} {done.config}, data in {done.data_folder}")
    say(f"{done.address} can log in and receive mail; postmaster's mail is taken too")
    show_text(f"\nPublish in the DNS of {domain_to_unicode(domain)}:\n")
    for record in done.records:
        show_text(f"  {record.name:<30} {record.type:<4} {record.value}  ; {record.why}")
    show_text(f"\nAll of them, as lines for a zone file: {done.all_records}")
    show_text(f"\nSet up a mail client: user name {done.user_name}, your password, and\n")
    for way in done.clients:
        show_text(
            f"  {way.purpose:<8} {way.protocol:<5} {way.host}  port {way.port:<6} {way.security}"
        )
    show_text(f"\nStart the server:\n\n  {done.serve}\n")
    show_text(f"Then send yourself a message:\n\n  {done.send}")
    if done.notes:
        show_text("")
    for note in done.notes:
        show_text(f"Note: {note}.")
