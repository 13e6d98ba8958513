"""Keys that our users publish by mail (the Web Key Service, draft-koch-openpgp-webkey-service):
their program sends the key to an address of the domain, encrypted to a key of that address, which
the domain shows with the others. Who it is from is known by the login, so no mail has to go there
and back to prove it ("auth-submit")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from posthouse.accounts import key_material, mail_keys
from posthouse.accounts.mail_keys import KeyMaterial, MailKey, Source, private_half
from posthouse.accounts.sealing import NodeKey
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import AccountId
from posthouse.message import mime
from posthouse.mimesec.findings import Scheme
from posthouse.store import accounts
from posthouse.store.reports import KEY_SUBMISSION
from posthouse.store.transaction import Transaction

KEYS_TYPE = (b"application", b"pgp-keys")
KEYS_MAX = 5
DAYS = key_material.DAYS_MAX
"""How long the key of a submission address is good."""
LEAD_US: Final = 30 * 86_400 * 1_000_000
"""The next one is made that long before: programs keep what they have looked up."""
KEY_OCTETS_MAX = 256 * 1024


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one submission."""

    published: tuple[MailKey, ...] = ()
    problems: tuple[str, ...] = ()
    """Why others were not, in words."""


def keys_in(octets: bytes) -> tuple[bytes, ...]:
    """The contents of the parts of a message that hold keys."""
    root = mime.scan(octets)
    parts = [one for one in root.walk() if (one.maintype, one.subtype) == KEYS_TYPE]
    return tuple(mime.content(one, octets_max=KEY_OCTETS_MAX) for one in parts[:KEYS_MAX])


def address_of(domain: str) -> str:
    """Where its users send their keys."""
    return f"{KEY_SUBMISSION}@{domain}"


def without_key(tx: Transaction) -> tuple[str, ...]:
    """Domains whose submission address has no key that is good for a while."""
    return tuple(one.name for one in accounts.domains(tx) if _lacks_key(tx, one.name))


def give_key(tx: Transaction, domain: str, material: KeyMaterial, node_key: NodeKey) -> None:
    """To a submission address, and show it with the others. Raises UserError."""
    if accounts.domain_by_name(tx, domain) is None or not _lacks_key(tx, domain):
        return  # gone meanwhile, or another process was first
    kept = mail_keys.add_own(tx, domain, material, node_key, source=Source.MADE)
    mail_keys.publish(tx, kept, is_published=True)


def private_keys(tx: Transaction, domain: str, node_key: NodeKey) -> tuple[bytes, ...]:
    """Of its submission address, the newest first; those that are over, too. Raises UserError."""
    return tuple(
        private_half(tx, key, node_key) for key in _own_keys(tx, domain) if key.has_private
    )


def _lacks_key(tx: Transaction, domain: str) -> bool:
    """Not where the address is somebody's, who could not read what is encrypted to our key."""
    by_us = tx.now_us() + LEAD_US
    if any(key.is_usable(by_us) for key in _own_keys(tx, domain)):
        return False
    row = accounts.domain_by_name(tx, domain)
    return row is not None and not _is_taken(tx, row)


def _is_taken(tx: Transaction, domain: accounts.DomainRow) -> bool:
    """Whether its submission address is an account's or an alias."""
    return accounts.account_by_address(tx, KEY_SUBMISSION, domain.name) is not None or bool(
        accounts.alias_targets(tx, domain.id, KEY_SUBMISSION)
    )


def _own_keys(tx: Transaction, domain: str) -> list[MailKey]:
    row = accounts.domain_by_name(tx, domain)
    keys = mail_keys.of_owner(tx, domain=row.id) if row is not None else ()
    return [key for key in keys if is_submission_key(key)]


def is_submission_key(key: MailKey) -> bool:
    """The server made it for what is sent to that address: it signs and opens nobody's mail."""
    return (
        key.domain is not None
        and bool(key.addresses)
        and all(address.startswith(f"{KEY_SUBMISSION}@") for address in key.addresses)
    )


def is_of_nobody(tx: Transaction, key: MailKey) -> bool:
    """A key of a submission address that has become somebody's: they could not read what is
    encrypted to it."""
    if not is_submission_key(key):
        return False
    row = accounts.domain_by_name(tx, key.addresses[0].rpartition("@")[2])
    return row is None or _is_taken(tx, row)


def take(
    tx: Transaction,
    account: AccountId,
    found: Sequence[bytes],
    node_key: NodeKey,
    *,
    separator: str,
) -> Submitted:
    """Publish the keys of an account's own addresses, and for those alone (`add_own`).

    Args:
        separator: of subaddresses.
    """
    row = accounts.account_by_id(tx, account)
    if row is None:
        return Submitted()
    published: list[MailKey] = []
    problems: list[str] = []
    for octets in found:
        try:
            materials = key_material.read_found(Scheme.OPENPGP, octets)
        except UserError as error:
            problems.append(error.text)
            continue
        for material in materials[:KEYS_MAX]:
            if not mail_keys.owned_addresses(tx, material, account, separator=separator):
                problems.append(f"the key {material.fingerprint} names no address of yours")
                continue
            try:
                kept = mail_keys.add_own(
                    tx, row.name, material, node_key, source=Source.SUBMITTED, separator=separator
                )
            except UserError as error:
                problems.append(error.text)
                continue
            mail_keys.publish(tx, kept, is_published=True)
            published.append(kept)
    if not found:
        problems.append("there is no key in the message (application/pgp-keys)")
    return Submitted(published=tuple(published), problems=tuple(problems))
