"""`posthouse key import`: whose key a file holds, and which of its addresses it counts for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from posthouse.accounts import key_files, key_fitness, key_material, mail_keys
from posthouse.accounts.admin import parse_typed
from posthouse.accounts.mail_keys import KeyMaterial, MailKey, Source, fold_address
from posthouse.accounts.sealing import NodeKey
from posthouse.cli import key_words
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import CommandError, password_option, read_password, say, say_hint
from posthouse.config import build_keys
from posthouse.net.world import SystemChance
from posthouse.store import accounts
from posthouse.store.transaction import Transaction

LEFT_SHOWN: Final = 5


@click.command("import")
@click.argument("whom", metavar="ADDRESS|DOMAIN")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@password_option
@config_option
def import_(whom: str, file: Path, password_stdin: bool, config_path: str | None) -> None:
    """Take a key or a certificate from FILE: PKCS #12 (.p12), PEM, or OpenPGP (.asc).

    A certificate alone will do to keep mail encrypted: then nobody on this machine can read it. It
    is believed from then on for those of its addresses that are the account's or the domain's own,
    and one of somebody elsewhere for that ADDRESS.
    """
    config = load_config(config_path).config
    octets = _read(file)
    if why := key_files.why_no_key(octets):
        raise CommandError(f"{file} {why[0]}", hint=why[1])
    if key_material.has_private(octets):
        needs_word = password_stdin or key_material.is_locked(octets)
        word = (
            read_password(password_stdin=password_stdin, prompt=f"Password of {file.name}")
            if needs_word
            else None
        )
        materials = key_material.read_private(octets, word)
    else:
        materials = key_material.read_public(octets)
    node_key = NodeKey(build_keys.node_key_path(config), SystemChance())
    with open_store(config) as store:
        for material in materials:
            kept = store.write_now(
                partial(
                    _take,
                    whom=whom,
                    material=material,
                    node_key=node_key,
                    separator=config.route.subaddress_separator,
                )
            )
            half = "with its private half" if kept.has_private else "the public half"
            say(f"imported {kept.fingerprint} ({half}), good until {mail_keys.expires_text(kept)}")
            _tell_left_out(whom, material, kept)
            if key_words.tell_unfit(kept, material.private):
                olds = store.read_now(partial(key_fitness.replaced, new=kept))
                use = "it is used" if kept.has_private else "mail is encrypted to it"
                key_words.tell_replaced(whom, olds, use=use)


def _take(
    tx: Transaction, *, whom: str, material: KeyMaterial, node_key: NodeKey, separator: str
) -> MailKey:
    """As somebody's own key, or as that of a correspondent elsewhere."""
    if is_elsewhere(tx, whom):
        return _of_correspondent(tx, fold_address(whom), material)
    refuse_alias(tx, whom)
    return mail_keys.add_own(
        *(tx, whom, material, node_key), source=Source.IMPORTED, separator=separator
    )


def is_elsewhere(tx: Transaction, whom: str) -> bool:
    """An address of no domain of ours."""
    domain = fold_address(whom).rpartition("@")[2]
    return "@" in whom and accounts.domain_by_name(tx, domain) is None


def refuse_alias(tx: Transaction, whom: str) -> None:
    """A key of an alias belongs to whoever has it: raises CommandError that says who."""
    if "@" not in whom:
        return
    address = parse_typed(whom)
    domain = accounts.domain_by_name(tx, address.domain)
    targets = accounts.alias_targets(tx, domain.id, address.local_part) if domain else []
    if targets:
        raise CommandError(
            f"{whom} is an alias",
            hint=f"a key that names it is imported for the account that has it: posthouse key"
            f" import {targets[0]} FILE",
        )


def _tell_left_out(whom: str, material: KeyMaterial, kept: MailKey) -> None:
    """Which addresses of a key it is not believed for, and why."""
    named = dict.fromkeys(map(fold_address, material.addresses))
    left = [address for address in named if address not in kept.addresses]
    if not left:
        return
    more = f" and {len(left) - LEFT_SHOWN} others" if len(left) > LEFT_SHOWN else ""
    counted = ", ".join(kept.addresses)
    say(f"it counts for {counted} and not for {', '.join(left[:LEFT_SHOWN])}{more}")
    if kept.is_own:
        say_hint(
            f"a key vouches for the addresses of its owner, and those are not {whom}'s; if an alias"
            " comes to it later, import the key again"
        )
    else:
        say_hint("import it for each address that you know it to be of")


def _of_correspondent(tx: Transaction, address: str, material: KeyMaterial) -> MailKey:
    if material.private is not None:
        raise CommandError(
            f"{address} is no account here, and the file holds a private key",
            hint="of somebody elsewhere only the certificate is wanted",
        )
    if address not in map(fold_address, material.addresses):
        raise CommandError(
            f"the key names {', '.join(material.addresses[:5]) or 'no address'}, and not {address}",
            hint="import it for the address that it names",
        )
    public = msgspec.structs.replace(material, addresses=(address,))
    kept = mail_keys.add_found(tx, public, source=Source.IMPORTED, is_trusted=True)
    assert kept is not None  # what a person imports is kept
    return kept


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        octets = opened.read(key_material.FILE_OCTETS_MAX + 1)
    if len(octets) > key_material.FILE_OCTETS_MAX:
        raise CommandError(f"{file} is larger than {key_material.FILE_OCTETS_MAX >> 20} MiB")
    return octets
