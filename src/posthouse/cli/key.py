"""`posthouse key list|make|import|export|policy|publish|find|extend|revoke|remove`: keys of
accounts and of whom they write to, and what is done with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import click
import msgspec

from posthouse.accounts import (
    key_choice,
    key_fitness,
    key_material,
    mail_keys,
    mail_policy,
)
from posthouse.accounts.key_choice import Choice, in_use
from posthouse.accounts.key_material import Algorithm
from posthouse.accounts.mail_keys import MailKey, Source, fold_address
from posthouse.accounts.mail_policy import SCHEMES
from posthouse.accounts.sealing import NodeKey
from posthouse.cli import key_import, key_policy, key_sharing, key_words
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import (
    CommandError,
    ExitCode,
    json_option,
    password_option,
    read_password,
    say,
    say_hint,
    show,
    show_text,
)
from posthouse.config import build_keys
from posthouse.gateway.key_submission import is_submission_key
from posthouse.kernel.errors import UserError
from posthouse.mimesec.findings import Scheme
from posthouse.net.world import SystemChance, SystemClock
from posthouse.store import accounts
from posthouse.store.transaction import Transaction

DAYS: Final = 730
PAGE: Final = 500
_ENDINGS: Final = {"smime": "pem", "openpgp": "asc"}


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A key as `--json` shows it."""

    scheme: str
    fingerprint: str
    owner: str
    addresses: tuple[str, ...]
    expires: str
    state: str
    is_published: bool
    """Others may look it up here."""
    has_private: bool
    source: str
    reads: tuple[str, ...]
    """What its owner's program decrypts, where it has said so (S/MIME)."""


@click.group()
def key() -> None:
    """S/MIME and OpenPGP keys of accounts, and what is done with them."""


@key.command("list")
@click.argument("whom", required=False, metavar="[ADDRESS|FINGERPRINT]")
@json_option
@config_option
def list_(whom: str | None, as_json: bool, config_path: str | None) -> None:
    """All keys, or those of one address.

    Fingerprints are shown by their ends; all commands take eight digits or more of either end.
    --json has them whole.
    """
    with open_store(load_config(config_path).config) as store:
        found, nothing = store.read_now(lambda tx: (_found(tx, whom), _nothing(tx, whom)))
    show(
        found,
        as_json=as_json,
        columns=("fingerprint", "scheme", "owner", "addresses", "expires", "state"),
        rows=[_row(k) for k in found],
        nothing=nothing,
    )


@key.command("make")
@click.argument("address")
@click.option("--scheme", type=click.Choice(list(SCHEMES)), default="smime", show_default=True)
@click.option(
    "--algorithm",
    type=click.Choice([one.value for one in Algorithm]),
    help="By default p256 for S/MIME and cv25519 for OpenPGP.",
)
@click.option(
    "--days",
    type=click.IntRange(1, key_material.DAYS_MAX),
    default=DAYS,
    show_default=True,
    help="How long it is good.",
)
@config_option
def make_(
    address: str, scheme: str, algorithm: str | None, days: int, config_path: str | None
) -> None:
    """Make a key for the account ADDRESS.

    An S/MIME key comes with a certificate that vouches for itself, an OpenPGP key with a revocation
    that is kept with it. It is used from then on; one that is there already stays, to read what is
    encrypted to it.
    """
    config = load_config(config_path).config
    if "@" not in address:
        raise CommandError(
            f"{address} is no account's address",
            hint="write the whole of it, like you@example.org; posthouse account list shows them",
        )
    with open_store(config) as store:
        store.read_now(lambda tx: _check_account(tx, address))
        material = key_material.make(
            [address],
            at=SystemClock().now(),
            days=days,
            scheme=SCHEMES[scheme],
            algorithm=Algorithm(algorithm) if algorithm is not None else None,
        )
        node_key = NodeKey(build_keys.node_key_path(config), SystemChance())
        made = store.write_now(
            lambda tx: mail_keys.add_own(tx, address, material, node_key, source=Source.MADE)
        )
        before = store.read_now(lambda tx: key_fitness.replaced(tx, made))
    say(f"made {made.fingerprint}, good until {mail_keys.expires_text(made)}")
    key_words.tell_replaced(address, before, use="it is used")
    say_hint(
        f"to read mail that is encrypted to it, put it into a mail client: umask 077; posthouse key"
        f" export {made.fingerprint} --private > key.{_ENDINGS[scheme]}"
    )


@key.command("export")
@click.argument("whom", metavar="ADDRESS|FINGERPRINT")
@click.option(
    "--private", "is_private", is_flag=True, help="The private half too, locked by a password."
)
@click.option(
    "--unlocked",
    "is_unlocked",
    is_flag=True,
    help="Without one: whoever gets the text has the key.",
)
@key_sharing.scheme_option
@password_option
@config_option
def export(
    whom: str,
    is_private: bool,
    is_unlocked: bool,
    scheme: str | None,
    password_stdin: bool,
    config_path: str | None,
) -> None:
    """Print a key as text (PEM or armour): its public half, or with --private all of it.

    Of several keys of an address it is the one in use: of those that are neither revoked nor over
    the newest. Where there is one of each scheme, --scheme says which.
    """
    if is_unlocked and (password_stdin or not is_private):
        raise click.UsageError("--unlocked goes with --private, and without --password-stdin")
    config = load_config(config_path).config
    word = None
    if is_private and not is_unlocked:
        word = read_password(
            password_stdin=password_stdin, prompt="Password to lock it with", is_new=True
        )
    node_key = NodeKey(build_keys.node_key_path(config), SystemChance())
    salt = SystemChance().token(key_material.SALT_OCTETS)

    def unit(tx: Transaction) -> tuple[Choice, bytes]:
        choice = in_use(
            *(tx, whom),
            scheme=key_sharing.wanted(scheme),
            wish=lambda key: key.has_private or not is_private,
        )
        if not is_private:
            return choice, key_material.export_public(choice.key)
        private = mail_keys.private_half(tx, choice.key, node_key)
        return choice, key_material.export_private(choice.key, private, word, salt=salt)

    with open_store(config) as store:
        choice, octets = store.read_now(unit)
    key_sharing.tell_choice(whom, choice)
    show_text(octets.decode("ascii").rstrip("\n"))


@key.command("extend")
@click.argument("whom", metavar="ADDRESS|FINGERPRINT")
@click.option(
    "--days",
    type=click.IntRange(1, key_material.DAYS_MAX),
    default=DAYS,
    show_default=True,
    help="How long it is good from now on.",
)
@config_option
def extend(whom: str, days: int, config_path: str | None) -> None:
    """Give an OpenPGP key another end. A certificate (S/MIME) has the end it was issued with."""
    config = load_config(config_path).config
    node_key = NodeKey(build_keys.node_key_path(config), SystemChance())
    at = SystemClock().now() + timedelta(days=days)

    def unit(tx: Transaction) -> MailKey:
        found = key_choice.by_name(tx, whom, preferred=Scheme.OPENPGP)
        if found.scheme is not Scheme.OPENPGP:
            raise CommandError(
                f"{found.fingerprint} is a certificate, and keeps the end it was issued with",
                hint=f"make another: posthouse key make {found.addresses[0]}",
            )
        if found.revoked_at is not None:
            raise CommandError(
                f"{found.fingerprint} is revoked, which no date takes back",
                hint=f"make another: posthouse key make {found.addresses[0]} --scheme openpgp",
            )
        private = mail_keys.private_half(tx, found, node_key)
        material = key_material.extended(private, at)
        owner = mail_keys.owner_name(tx, found)
        separator = config.route.subaddress_separator
        return mail_keys.add_own(
            *(tx, owner, material, node_key), source=found.source, separator=separator
        )

    with open_store(config) as store:
        kept = store.write_now(unit)
    say(f"{kept.fingerprint} is good until {mail_keys.expires_text(kept)}")
    say_hint(f"whoever has it needs it anew: posthouse key export {kept.fingerprint}")


@key.command("revoke")
@click.argument("whom", metavar="ADDRESS|FINGERPRINT")
@key_sharing.scheme_option
@config_option
def revoke(whom: str, scheme: str | None, config_path: str | None) -> None:
    """Use a key no more. Mail that is encrypted to it can still be read with it."""
    config = load_config(config_path).config
    node_key = NodeKey(build_keys.node_key_path(config), SystemChance())

    def unit(tx: Transaction) -> tuple[MailKey, bool]:
        found = key_choice.by_name(tx, whom, scheme=key_sharing.wanted(scheme))
        public = None
        if found.scheme is Scheme.OPENPGP and found.has_private:
            made = mail_keys.revocation(tx, found, node_key)
            if made is None:
                private = mail_keys.private_half(tx, found, node_key)
                with suppress(UserError):  # of a key that has ended none is made
                    made = key_material.make_revocation(private)
            public = key_material.revoked(found, made) if made is not None else None
        mail_keys.revoke(tx, found, public)
        return found, public is not None

    with open_store(config) as store:
        found, says_so = store.write_now(unit)
        say(f"{found.fingerprint} is used no more")
        key_words.tell_lacking(store, found.account, node_key)
    if found.scheme is Scheme.SMIME and key_material.is_selfmade(found):
        if found.is_own:
            say_hint("nobody issued the certificate but its owner: tell those who have it")
    elif found.scheme is Scheme.SMIME:
        say_hint("whoever issued the certificate has to be told, too, so that others hear of it")
    elif found.has_private and not says_so:
        say_hint("others cannot hear of it by the key, as no revocation of it could be made")
    elif found.has_private:
        say_hint(
            f"others hear of it where it is published; hand out: posthouse key export"
            f" {found.fingerprint}"
        )


@key.command("remove")
@click.argument("whom", metavar="ADDRESS|FINGERPRINT")
@click.option("--yes", is_flag=True, help="Do not ask.")
@key_sharing.scheme_option
@config_option
def remove(whom: str, yes: bool, scheme: str | None, config_path: str | None) -> int:
    """Forget a key. What is encrypted to it stays closed, unless a copy of it is somewhere."""
    config = load_config(config_path).config
    with open_store(config) as store:
        found = store.read_now(
            lambda tx: key_choice.by_name(tx, whom, scheme=key_sharing.wanted(scheme))
        )
        if found.has_private and not yes and not _is_sure(found):
            say("nothing was removed")
            return ExitCode.FAILED
        store.write_now(lambda tx: mail_keys.remove(tx, found))
        say(f"removed {found.fingerprint}")
        node_key = NodeKey(build_keys.node_key_path(config), SystemChance())
        key_words.tell_lacking(store, found.account, node_key)
    return ExitCode.OK


key.add_command(key_import.import_)
key.add_command(key_policy.policy)
key.add_command(key_sharing.find)
key.add_command(key_sharing.publish)


def _is_sure(found: MailKey) -> bool:
    try:
        return click.confirm(
            f"{found.fingerprint}: the private half goes too, and with it whatever is"
            " encrypted to it. Remove it?",
            err=True,
        )
    except click.Abort:
        if sys.stdin.isatty():
            raise
        say("")
        raise CommandError(
            f"the private half of {found.fingerprint} would go, and there is nobody to ask",
            hint="add --yes",
            code=ExitCode.USAGE,
        ) from None


def _check_account(tx: Transaction, address: str) -> None:
    """Before a key is made, which may take seconds. Raises UserError where there is no such
    account."""
    key_import.refuse_alias(tx, address)
    mail_policy.owner(tx, address)


def _found(tx: Transaction, whom: str | None) -> list[Shown]:
    now_us = tx.now_us()
    keys: Sequence[MailKey]
    if whom is None:
        keys = list(_all(tx))
    elif "@" in whom:
        keys = mail_keys.naming(tx, whom)
    else:
        keys = (key_choice.by_name(tx, whom),)
    return [_shown(tx, one, now_us) for one in keys]


def _all(tx: Transaction) -> Iterator[MailKey]:
    after: int | None = 0
    while after is not None:
        page = mail_keys.all_keys(tx, limit=PAGE, after=after)
        yield from page
        after = page[-1].id if len(page) == PAGE else None


def _nothing(tx: Transaction, whom: str | None) -> str:
    """What to say where there is no key."""
    if whom is None:
        return "there is no key yet: posthouse key make ADDRESS"
    none = f"there is no key of {whom} here"
    if key_import.is_elsewhere(tx, whom):
        return f"{none}: posthouse key find {whom}"
    local_part, _, domain = fold_address(whom).rpartition("@")
    is_account = accounts.account_by_address(tx, local_part, domain) is not None
    return f"{none}: posthouse key make {whom}" if is_account else none


def _row(k: Shown) -> tuple[str, ...]:
    state = f"{k.state}, published" if k.is_published else k.state
    return (k.fingerprint[-16:], k.scheme, k.owner, " ".join(k.addresses), k.expires, state)


def _shown(tx: Transaction, one: MailKey, now_us: int) -> Shown:
    state = "in use"
    if one.revoked_at is not None:
        state = "revoked"
    elif not one.is_usable(now_us):
        state = "expired"
    elif not mail_keys.counted_addresses(tx, one):
        state = "its owner has no such address"
    elif one.source is Source.SUBMITTED and not one.has_private:
        state = "sent in by its owner"
    elif not one.has_private:
        state = "certificate only"
    elif is_submission_key(one):
        state = "for key submissions"
    elif not key_choice.is_in_use(tx, one):
        state = "kept to read old mail"
    return Shown(
        scheme=one.scheme.value,
        fingerprint=one.fingerprint,
        owner=mail_keys.owner_name(tx, one),
        addresses=one.addresses,
        expires=mail_keys.expires_text(one),
        state=state,
        is_published=one.is_published,
        has_private=one.has_private,
        source=one.source.value,
        reads=one.reads,
    )
