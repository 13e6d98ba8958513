"""`posthouse key policy`: what is done with the mail of an account, or of a domain's accounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
import msgspec

from posthouse.accounts import key_fitness, mail_policy
from posthouse.accounts.admin import parse_typed_domain
from posthouse.accounts.mail_keys import fold_address
from posthouse.accounts.mail_policy import NOT_SAID, SCHEMES, Mode, parse_mode
from posthouse.accounts.sealing import NodeKey
from posthouse.cli import key_words
from posthouse.cli.config import config_option, load_config
from posthouse.cli.data import open_store
from posthouse.cli.output import json_option, say_hint, show_json, show_text
from posthouse.config import build_keys
from posthouse.net.world import SystemChance
from posthouse.store.mail_keys import PolicyRow
from posthouse.store.sqlite.engine import SqliteStore


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A policy as `--json` shows it; "" is not said."""

    scheme: str
    sign: str
    encrypt: str
    open: str
    at_rest: str
    at_rest_append: str
    domain: Said | None = None
    """What the account's domain says."""
    in_force: Said | None = None
    """Of an account; "" is never, or either scheme."""


@click.command("policy")
@click.argument("whom", metavar="ADDRESS|DOMAIN")
@click.option(
    "--sign",
    metavar="WORDS",
    help='Sign what is sent: "never", "when possible", "always or refuse" ("always" will do), or'
    ' "not said" to take back what was said.',
)
@click.option(
    "--encrypt", metavar="WORDS", help="Encrypt what is sent, for all recipients or for none."
)
@click.option(
    "--open",
    "opens",
    metavar="WORDS",
    help="Verify and decrypt what arrives; always refuses what stays closed.",
)
@click.option("--at-rest", metavar="WORDS", help="Encrypt mail as it is stored.")
@click.option("--at-rest-append", metavar="WORDS", help="So, too, what is put there by IMAP.")
@click.option(
    "--scheme",
    type=click.Choice([*SCHEMES, "either", NOT_SAID]),
    help="Which to prefer where there are keys of both.",
)
@json_option
@config_option
def policy(
    whom: str,
    sign: str | None,
    encrypt: str | None,
    opens: str | None,
    at_rest: str | None,
    at_rest_append: str | None,
    scheme: str | None,
    as_json: bool,
    config_path: str | None,
) -> None:
    """Show or change what is done with the mail of an account, or of a domain's accounts.

    What an account says comes before what its domain says; what neither says is never. Of an
    account both are shown, and which of them counts.
    """
    said_now = {
        "sign": sign,
        "encrypt": encrypt,
        "open": opens,
        "at_rest": at_rest,
        "at_rest_append": at_rest_append,
    }
    modes = {part: parse_mode(words) for part, words in said_now.items() if words is not None}
    wanted = "" if scheme in ("either", NOT_SAID) else scheme
    config = load_config(config_path).config
    theirs: PolicyRow | None = None
    with open_store(config) as store:
        if modes or wanted is not None:
            said = store.write_now(
                lambda tx: mail_policy.set_policy(tx, whom, scheme=wanted, **modes)
            )
        else:
            said = store.read_now(lambda tx: mail_policy.said_by(tx, whom))
        if "@" in whom:
            theirs = store.read_now(
                lambda tx: mail_policy.said_by(tx, fold_address(whom).rpartition("@")[2])
            )
        _tell_policy(said, theirs, as_json=as_json)
        if modes or wanted is not None:
            _tell_lacking(store, whom, NodeKey(build_keys.node_key_path(config), SystemChance()))


def _tell_lacking(store: SqliteStore, whom: str, node_key: NodeKey) -> None:
    """What is deferred or refused from now on, as there is no key for it."""
    account, _ = store.read_now(lambda tx: mail_policy.owner(tx, whom))
    key_words.tell_lacking(store, account, node_key)
    if account is None:
        domain = parse_typed_domain(whom)
        for line in store.read_now(lambda tx: key_fitness.accounts_without(tx, domain)):
            say_hint(line)


def _tell_policy(said: PolicyRow, theirs: PolicyRow | None, *, as_json: bool) -> None:
    """Args:
    theirs: what the account's domain says; None for a domain itself."""
    if as_json:
        shown = _said(_words(said))
        if theirs is not None:
            by_domain = _words(theirs)
            in_force = {part: word or by_domain[part] for part, word in _words(said).items()}
            shown = msgspec.structs.replace(
                shown, domain=_said(by_domain), in_force=_said(in_force)
            )
        show_json(shown)
        return
    for part, word in _words(said).items():
        words = word or NOT_SAID
        if theirs is not None:
            inherited = _words(theirs)[part]
            nothing = "either" if part == "scheme" else Mode.NEVER.value
            if word and inherited:
                words += f"; the domain says {inherited}, which does not count here"
            elif not word:
                counts = f"the domain says {inherited}, which counts" if inherited else ""
                words += f"; {counts or f'so it is {nothing}'}"
        show_text(f"{_LABELS[part]:15}  {words}")


_LABELS: Final = {
    "sign": "sign",
    "encrypt": "encrypt",
    "open": "open",
    "at_rest": "at rest",
    "at_rest_append": "at rest, append",
    "scheme": "scheme",
}


def _said(words: Mapping[str, str]) -> Said:
    return msgspec.convert(words, Said)


def _words(said: PolicyRow) -> dict[str, str]:
    return {part: getattr(said, part) or "" for part in _LABELS}
