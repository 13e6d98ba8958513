"""What `posthouse key …` says of a key apart from what was asked for: what it cannot be used for,
what it takes the place of, and what a policy lacks."""

from __future__ import annotations

from posthouse.accounts import key_fitness, mail_keys
from posthouse.accounts.mail_keys import MailKey
from posthouse.accounts.sealing import NodeKey
from posthouse.cli.output import say, say_hint
from posthouse.kernel.ids import AccountId
from posthouse.net.world import SystemClock
from posthouse.store.sqlite.engine import SqliteStore


def tell_unfit(key: MailKey, private: bytes | None) -> bool:
    """What the key cannot be used for. Returns whether something can be encrypted to it."""
    at = SystemClock().now()
    why_not_to = key_fitness.why_not_to(key, at)
    why_not_by = key_fitness.why_not_by(key, private, at) if private is not None else ""
    if why_not_to:
        say(f"nothing can be encrypted to it: {why_not_to}")
    if why_not_by:
        say(f"nothing can be signed by it: {why_not_by}")
    if (why_not_to and not key.is_own) or (why_not_to and (why_not_by or private is None)):
        say_hint(f"it is kept; to forget it: posthouse key remove {key.fingerprint}")
    return not why_not_to


def tell_replaced(address: str, olds: tuple[MailKey, ...], *, use: str) -> None:
    """Args: use: what is done with the new key, "it is used"."""
    for old in olds:
        end = mail_keys.expires_text(old)
        say(f"{use} from now on; {address} has {old.fingerprint}, too, good until {end}")
        say_hint(
            f"to have no more mail encrypted to that one: posthouse key revoke {old.fingerprint}"
        )


def tell_lacking(store: SqliteStore, account: AccountId | None, node_key: NodeKey) -> None:
    """What is refused or deferred from now on, as no key is left for it."""
    if account is None:
        return
    at = SystemClock().now()
    for line in store.read_now(lambda tx: key_fitness.lacking(tx, account, node_key, at)):
        say_hint(line)
