"""Who an address is: the domains, accounts, aliases and catch-alls of this house.

`look_up` answers for one address what RCPT needs to know; aliases are followed to their ends there,
with the same address never twice, so that a loop is harmless. `Directory` remembers answers until
anything in the directory changes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.kernel.ids import AccountId
from posthouse.message.address import (
    AddressError,
    fold_local_part,
    format_address,
    parse_mailbox,
)
from posthouse.store import accounts as rows
from posthouse.store.transaction import (
    Change,
    DatabaseChanged,
    DirectoryChanged,
    Store,
    Transaction,
)

POSTMASTER: Final = "postmaster"
CACHE_MAX: Final = 20_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    subaddress_separator: str = "+"
    alias_depth_max: int = 10
    members_max: int = 1_000
    own_literals: frozenset[str] = frozenset()
    """Address literals that name this host; only postmaster lives there."""
    host: str = ""
    """Our host name: its postmaster is reached, whether mail for the name is ours or not, as our
    reports and notices are from there."""
    report_local_parts: frozenset[str] = frozenset(
        {"dmarc-reports", "tls-reports", "key-submission"}
    )
    """Folded. Each domain of ours takes DMARC and TLS reports about itself, and keys of its users,
    at these, without an account or alias for it."""


class Standing(Enum):
    """What an address is to us."""

    LOCAL = auto()
    """It ends in accounts here, or by alias elsewhere too."""
    UNKNOWN = auto()
    """The domain is ours, nobody has this local-part."""
    FOREIGN = auto()
    """The domain is not ours."""
    LOOPING = auto()
    """Aliases go deeper, or to more members, than the limits allow: an administrator's mistake."""


class LocalTarget(msgspec.Struct, frozen=True):
    account: AccountId
    name: str
    """The account's own name, for the log."""
    address: str
    """The address that led here last, for Delivered-To."""
    has_quota: bool = False


class Expansion(msgspec.Struct, frozen=True, kw_only=True):
    standing: Standing
    local: tuple[LocalTarget, ...] = ()
    remote: tuple[Address, ...] = ()
    reports: tuple[str, ...] = ()
    """Report addresses it leads to: the message is read as a report too."""
    via: tuple[str, ...] = ()
    """The aliases and catch-alls followed, for the decision record."""


UNKNOWN: Final = Expansion(standing=Standing.UNKNOWN)
FOREIGN: Final = Expansion(standing=Standing.FOREIGN)
LOOPING: Final = Expansion(standing=Standing.LOOPING)


def look_up(tx: Transaction, address: Address, options: Options) -> Expansion:
    """Follow an address to accounts here and addresses elsewhere."""
    walk = _Walk(tx, options)
    standing = walk.follow(address, 0)
    if standing is not Standing.LOCAL:
        return {
            Standing.UNKNOWN: UNKNOWN,
            Standing.FOREIGN: FOREIGN,
            Standing.LOOPING: LOOPING,
        }[standing]
    return Expansion(
        standing=standing,
        local=tuple(walk.local.values()),
        remote=tuple(walk.remote),
        reports=tuple(walk.reports),
        via=tuple(walk.via),
    )


class _Walk:
    """One walk through the aliases."""

    def __init__(self, tx: Transaction, options: Options) -> None:
        self._tx = tx
        self._options = options
        self._seen: set[Address] = set()
        self.local: dict[AccountId, LocalTarget] = {}
        self.remote: dict[Address, None] = {}
        self.reports: dict[str, None] = {}
        self.via: list[str] = []

    def follow(self, address: Address, depth: int) -> Standing:
        if address in self._seen:
            return Standing.LOCAL  # the same address again is dropped silently
        self._seen.add(address)
        if depth > self._options.alias_depth_max or len(self._seen) > self._options.members_max:
            return Standing.LOOPING
        local_part = fold_local_part(address.local_part)
        if not address.domain or address.domain in self._options.own_literals:
            return self._postmaster(None) if local_part == POSTMASTER else Standing.UNKNOWN
        domain = rows.domain_by_name(self._tx, address.domain)
        if domain is None:
            is_own = address.domain == self._options.host and local_part == POSTMASTER
            return self._postmaster(None) if is_own else Standing.FOREIGN
        candidates = self._candidates(local_part)
        is_report = not self._options.report_local_parts.isdisjoint(candidates)
        if is_report:
            self.reports[format_address(address)] = None
        for candidate in candidates:
            if self._account(candidate, address):
                return Standing.LOCAL
            if targets := rows.alias_targets(self._tx, domain.id, candidate):
                found = self._targets(f"alias {candidate}@{domain.name}", targets, depth)
                return Standing.LOCAL if is_report and found is Standing.UNKNOWN else found
        if is_report:
            return Standing.LOCAL
        if local_part == POSTMASTER:
            return self._postmaster(domain.name)
        if domain.catch_all is not None:
            return self._targets(f"catch-all of {domain.name}", [domain.catch_all], depth)
        return Standing.UNKNOWN

    def _candidates(self, local_part: str) -> list[str]:
        """The local-part itself, then without its subaddress (RFC 5233 §1)."""
        separator = self._options.subaddress_separator
        base = local_part.split(separator, 1)[0] if separator else local_part
        return [local_part] if base in ("", local_part) else [local_part, base]

    def _account(self, local_part: str, address: Address) -> bool:
        account = rows.account_by_address(self._tx, local_part, address.domain)
        if account is None:
            return False
        self.local.setdefault(account.id, _target(account, format_address(address)))
        return True

    def _postmaster(self, domain: str | None) -> Standing:
        """Postmaster always exists (RFC 5321 §4.5.1): without an alias, the oldest account."""
        account = rows.oldest_account(self._tx, domain) or rows.oldest_account(self._tx, None)
        if account is None:
            return Standing.UNKNOWN
        self.via.append("postmaster")
        self.local.setdefault(account.id, _target(account, account.name))
        return Standing.LOCAL

    def _targets(self, name: str, targets: Sequence[str], depth: int) -> Standing:
        self.via.append(name)
        for target in targets:
            try:
                address = parse_mailbox(target)
            except AddressError:
                continue  # cannot be added as one; only a damaged row holds it
            standing = self.follow(address, depth + 1)
            if standing is Standing.FOREIGN:
                self.remote[address] = None
            elif standing is Standing.LOOPING:
                return standing
        is_somewhere = self.local or self.remote or self.reports
        return Standing.LOCAL if is_somewhere else Standing.UNKNOWN


def _target(account: rows.AccountRow, address: str) -> LocalTarget:
    return LocalTarget(account.id, account.name, address, account.quota_octets is not None)


class Directory:
    """Answers look-ups from memory where it can. One for each process."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._known: OrderedDict[Address, Expansion] = OrderedDict()
        self._generation = 0
        store.listen(self._heard)

    def _heard(self, changes: Sequence[Change]) -> None:
        if any(isinstance(change, DirectoryChanged | DatabaseChanged) for change in changes):
            self._known.clear()
            self._generation += 1

    def known(self, address: Address) -> Expansion | None:
        """The answer if it is at hand: the hot path of RCPT."""
        return self._known.get(address)

    async def look_up(self, address: Address) -> Expansion:
        """Raises Fault when the store cannot answer; never "unknown" then (promise P8)."""
        known = self._known.get(address)
        if known is not None:
            return known
        generation = self._generation
        expansion = await self._store.read(lambda tx: look_up(tx, address, self._options))
        if generation == self._generation:
            self._known[address] = expansion
            if len(self._known) > CACHE_MAX:
                self._known.popitem(last=False)
        return expansion


async def look_up_all(directory: Directory, addresses: Sequence[Address]) -> list[Expansion]:
    """Several at once, in order."""
    return list(await asyncio.gather(*(directory.look_up(address) for address in addresses)))
