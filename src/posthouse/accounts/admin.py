"""Making and changing domains, accounts and aliases: what the command line calls.

Each function takes the transaction first, checks what a person typed, and says in a `UserError`
what to do about it.
"""

from __future__ import annotations

from typing import Final

from posthouse.accounts.directory import POSTMASTER, Options, Standing, look_up
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import NotKnown, UserError
from posthouse.kernel.ids import AccountId, DomainId
from posthouse.message.address import (
    AddressError,
    domain_to_ascii,
    fold_local_part,
    format_address,
    parse_mailbox,
)
from posthouse.message.lookalike import mixed_scripts, skeleton
from posthouse.store import accounts as rows
from posthouse.store.transaction import DirectoryChanged, Transaction

MEMBERS_LOOKED_AT: Final = 1_000


def parse_typed(text: str) -> Address:
    """An address a person typed, its local-part folded as the directory keeps it."""
    try:
        address = parse_mailbox(text.strip())
    except AddressError as error:
        raise UserError(
            f"{text!r} is not an address: {error}", hint="write it like you@example.org"
        ) from None
    if not address.domain or address.domain.startswith("["):
        raise UserError(f"{text!r} has no domain name", hint="write it like you@example.org")
    return Address(fold_local_part(address.local_part), address.domain)


def parse_typed_domain(text: str) -> str:
    try:
        name = domain_to_ascii(text.strip().rstrip("."))
    except (AddressError, ValueError) as error:
        raise UserError(f"{text!r} is not a domain: {error}") from None
    if "@" in name or not name:
        raise UserError(f"{text!r} is not a domain", hint="write it like example.org")
    return name


def add_domain(tx: Transaction, text: str) -> str:
    """Returns the domain's name as it is kept (A-labels)."""
    name = parse_typed_domain(text)
    refuse_known_domain(tx, name)
    rows.add_domain(tx, name)
    tx.changed(DirectoryChanged())
    return name


def refuse_known_domain(tx: Transaction, name: str) -> None:
    """Raises UserError when the domain is there already."""
    if rows.domain_by_name(tx, name) is not None:
        raise UserError(f"the domain {name} is there already")


def remove_domain(tx: Transaction, text: str) -> str:
    domain = known_domain(tx, parse_typed_domain(text))
    accounts = [a.name for a in rows.accounts(tx) if a.name.endswith(f"@{domain.name}")]
    if accounts:
        raise UserError(
            f"{domain.name} still has {len(accounts)} account(s): {', '.join(accounts[:5])}",
            hint=f"remove them first: posthouse account remove {accounts[0]}",
        )
    rows.remove_domain(tx, domain.id)
    tx.changed(DirectoryChanged())
    return domain.name


def set_catch_all(tx: Transaction, text: str, target: str | None) -> None:
    domain = known_domain(tx, parse_typed_domain(text))
    goal = parse_typed(target) if target else None
    if goal is not None:
        _must_lead_somewhere(tx, goal)
    rows.set_catch_all(tx, domain.id, format_address(goal) if goal else None)
    tx.changed(DirectoryChanged())


def known_domain(tx: Transaction, name: str) -> rows.DomainRow:
    domain = rows.domain_by_name(tx, name)
    if domain is None:
        raise NotKnown(
            f"the domain {name} is not known here", hint=f"add it: posthouse domain add {name}"
        )
    return domain


def known_account(tx: Transaction, text: str) -> rows.AccountRow:
    address = parse_typed(text)
    account = rows.account_by_address(tx, address.local_part, address.domain)
    if account is None:
        raise NotKnown(
            f"there is no account {format_address(address)}",
            hint="posthouse account list shows those that are",
        )
    return account


def add_account(
    tx: Transaction, text: str, *, password_hash: str | None, quota_octets: int | None
) -> AccountId:
    """Make an account that logs in with, receives at and may send as this address."""
    address = parse_typed(text)
    domain = known_domain(tx, address.domain)
    name = format_address(address)
    if rows.account_by_address(tx, address.local_part, address.domain) is not None:
        raise UserError(f"the account {name} is there already")
    if rows.alias_targets(tx, domain.id, address.local_part):
        raise UserError(
            f"{name} is an alias", hint=f"remove it first: posthouse alias remove {name}"
        )
    _refuse_lookalike(tx, address, name)
    account = rows.add_account(tx, name=name, password=password_hash, quota_octets=quota_octets)
    rows.add_address(tx, domain.id, address.local_part, account)
    tx.changed(DirectoryChanged())
    return account


def _refuse_lookalike(tx: Transaction, address: Address, name: str) -> None:
    """Two accounts nobody can tell apart by eye are refused, and so are names that mix scripts,
    whoever they are meant to look like (H49)."""
    mixed = mixed_scripts(address.local_part)
    if mixed:
        raise UserError(
            f"{name} mixes {' and '.join(mixed)} letters, so it can be made to look like others",
            hint="choose a name in letters of one script",
        )
    drawn = skeleton(address.local_part)
    for other in rows.accounts(tx):
        taken = parse_typed(other.name)
        if taken.domain == address.domain and drawn == skeleton(taken.local_part):
            raise UserError(
                f"{name} looks the same as the account {other.name}",
                hint="choose a name people can tell apart",
            )


def add_alias(tx: Transaction, text: str, target: str) -> bool:
    """False when the alias already has this target."""
    address, goal = parse_typed(text), parse_typed(target)
    domain: DomainId = known_domain(tx, address.domain).id
    if rows.account_by_address(tx, address.local_part, address.domain) is not None:
        raise UserError(
            f"{format_address(address)} is an account and gets its own mail",
            hint="an alias needs an address that nobody has",
        )
    if address == goal:
        raise UserError("an alias cannot be its own target")
    _must_lead_somewhere(tx, goal)
    if _leads_to(tx, goal, address):
        raise UserError(
            f"{format_address(goal)} leads back to {format_address(address)}",
            hint="mail would go in a circle; posthouse alias list shows the way",
        )
    is_new = rows.add_alias(tx, domain, address.local_part, format_address(goal))
    tx.changed(DirectoryChanged())
    return is_new


def _must_lead_somewhere(tx: Transaction, goal: Address) -> None:
    """A target of our own domain has to exist; of others we know nothing."""
    domain = rows.domain_by_name(tx, goal.domain)
    if domain is not None and look_up(tx, goal, Options()).standing is Standing.UNKNOWN:
        raise NotKnown(
            f"nobody has the address {format_address(goal)} here",
            hint=f"make the account first: posthouse account add {format_address(goal)}",
        )


def _leads_to(tx: Transaction, start: Address, goal: Address) -> bool:
    """Whether aliases from `start` reach `goal`."""
    seen: set[Address] = set()
    waiting = [start]
    while waiting and len(seen) <= MEMBERS_LOOKED_AT:
        address = waiting.pop()
        if address == goal:
            return True
        domain = rows.domain_by_name(tx, address.domain)
        if domain is None or address in seen:
            continue
        seen.add(address)
        waiting += [
            parse_mailbox(target)
            for target in rows.alias_targets(tx, domain.id, address.local_part)
        ]
    return False


def remove_alias(tx: Transaction, text: str, target: str | None) -> int:
    address = parse_typed(text)
    goal = format_address(parse_typed(target)) if target else None
    domain = known_domain(tx, address.domain)
    removed = rows.remove_alias(tx, domain.id, address.local_part, goal)
    if not removed:
        target_text = f" to {goal}" if goal else ""
        raise NotKnown(
            f"there is no such alias {format_address(address)}{target_text}",
            hint="posthouse alias list shows those that are",
        )
    tx.changed(DirectoryChanged())
    return removed


def ensure_postmaster(tx: Transaction, domain: str, owner: str) -> None:
    """Give the domain a postmaster alias if it has none (RFC 5321 §4.5.1)."""
    row = known_domain(tx, domain)
    if not rows.alias_targets(tx, row.id, POSTMASTER) and (
        rows.account_by_address(tx, POSTMASTER, domain) is None
    ):
        rows.add_alias(tx, row.id, POSTMASTER, owner)
        tx.changed(DirectoryChanged())
