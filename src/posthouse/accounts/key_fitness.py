"""What a key of ours can really be used for, and what a policy asks for that no key can do.

Dates and revocations are the store's (`MailKey.is_usable`); whether a certificate is for mail, or
an OpenPGP key has a part that signs, only the key itself tells: signing is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from posthouse.accounts import key_material, mail_keys
from posthouse.accounts.mail_keys import MailKey, fold_address
from posthouse.accounts.mail_policy import Mode, policy_of
from posthouse.accounts.sealing import NodeKey
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import AccountId
from posthouse.mimesec.ports import ProtectionError
from posthouse.store import accounts
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import Transaction

COUNTED_MAX: Final = 1_000
_PROBE: Final = b"Content-Type: text/plain\r\n\r\n\r\n"


def why_not_to(key: MailKey, at: datetime) -> str:
    """Why nothing can be encrypted to it, in words; "" when it can."""
    return _why_over(key, at) or key_material.why_unusable(key, at)


def why_not_by(key: MailKey, private: bytes, at: datetime) -> str:
    """Why nothing can be signed by it, in words; "" when it can."""
    try:
        key_material.signer(key, private, opens=False).sign(_PROBE, at=at)
    except ProtectionError as error:
        return _why_over(key, at) or error.text.removeprefix("nothing can be signed: ")
    return _why_over(key, at)


def replaced(tx: Transaction, new: MailKey) -> tuple[MailKey, ...]:
    """Older keys of the same owner and addresses that it takes the place of."""
    if not new.is_own:
        return ()
    now_us = tx.now_us()
    counted = set(mail_keys.counted_addresses(tx, new))
    return tuple(
        key
        for key in mail_keys.of_owner(tx, account=new.account, domain=new.domain)
        if key.scheme is new.scheme
        and key.id < new.id
        and key.is_usable(now_us)
        and counted.intersection(key.addresses)
    )


def lacking(
    tx: Transaction, account: AccountId, node_key: NodeKey, at: datetime
) -> tuple[str, ...]:
    """What an account's policy has to have done and no key of it can do, in words, one for each;
    what its domain says counts, too."""
    policy = policy_of(tx, account)
    row = accounts.account_by_id(tx, account)
    name = row.name if row is not None else ""
    found: list[str] = []
    wanted = (policy.at_rest, policy.at_rest_append, policy.sign)
    if Mode.ALWAYS not in wanted:
        return ()
    own = mail_keys.of_owner(tx, account=account)
    why = _why_none(own, lambda key: why_not_to(key, at))
    if policy.at_rest is Mode.ALWAYS and why:
        found.append(f"{name} has {why}, so mail for it is deferred now")
    if policy.at_rest_append is Mode.ALWAYS and why:
        found.append(f"{name} has {why}, so what its mail programs put there is refused now")
    if policy.sign is Mode.ALWAYS:
        signing = [key for key in (*own, *_of_domain(tx, name)) if key.has_private]
        if why := _why_none(signing, lambda key: _why_not_signing(tx, key, node_key, at)):
            why = why.replace("no key", "no key to sign with", 1)
            found.append(f"{name} has {why}, so what it sends is refused now")
    return tuple(f"{one}: posthouse key make {name}" for one in found)


def accounts_without(tx: Transaction, domain: str) -> tuple[str, ...]:
    """What a domain's policy has to have done for accounts that have no key at all, in words: how
    many those are. Accounts that say something else themselves are left out."""
    row = accounts.domain_by_name(tx, domain)
    if row is None:
        return ()
    said = rows.domain_policy(tx, row.id)
    found: list[str] = []
    for part, consequence in (
        ("at_rest", "mail for them is deferred now"),
        ("at_rest_append", "what their mail programs put there is refused now"),
        ("sign", "what they send is refused now"),
    ):
        if getattr(said, part) != Mode.ALWAYS.value:
            continue
        count = rows.count_keyless(
            *(tx, domain, part, Mode.ALWAYS.value),
            has_private=part == "sign",
            limit=COUNTED_MAX + 1,
        )
        if count:
            many = f"more than {COUNTED_MAX}" if count > COUNTED_MAX else str(count)
            noun, verb = ("account", "has") if count == 1 else ("accounts", "have")
            kind = "key to sign with" if part == "sign" else "key"
            found.append(f"{many} {noun} of {domain} {verb} no {kind}, so {consequence}")
    return tuple(f"{one}: posthouse key make ADDRESS" for one in found)


def _of_domain(tx: Transaction, name: str) -> tuple[MailKey, ...]:
    """Keys of the domain itself that name the account: they sign for it, too."""
    domain = accounts.domain_by_name(tx, name.rpartition("@")[2])
    if domain is None:
        return ()
    keys = mail_keys.of_owner(tx, domain=domain.id)
    return tuple(key for key in keys if fold_address(name) in key.addresses)


def _why_none(keys: Sequence[MailKey], why_not: Callable[[MailKey], str]) -> str:
    """ "" where one of the keys will do; else what is wrong with the newest."""
    reasons: list[str] = []
    for key in keys:
        if not (why := why_not(key)):
            return ""
        reasons.append(why)
    return f"no key that can be used ({reasons[0]})" if reasons else "no key"


def _why_not_signing(tx: Transaction, key: MailKey, node_key: NodeKey, at: datetime) -> str:
    if why := _why_over(key, at):
        return why
    try:
        return why_not_by(key, mail_keys.private_half(tx, key, node_key), at)
    except UserError as error:
        return error.text


def _why_over(key: MailKey, at: datetime) -> str:
    if key.revoked_at is not None:
        return f"{key.fingerprint} is revoked"
    if not key.is_usable(int(at.timestamp() * 1e6)):
        return f"{key.fingerprint} ended on {mail_keys.expires_text(key)}"
    return ""
