"""Who may send as which address. One function for each right; no by default."""

from __future__ import annotations

from posthouse.kernel.envelope import Address
from posthouse.kernel.ids import AccountId
from posthouse.message.address import fold_local_part, format_address
from posthouse.store import accounts as rows
from posthouse.store.transaction import Transaction


def may_send_as(
    tx: Transaction, account: AccountId, address: Address, *, subaddress_separator: str = "+"
) -> bool:
    """An account may send as its own addresses, with any subaddress of them, and as an alias that
    has the account among its direct targets."""
    local_part = fold_local_part(address.local_part)
    for candidate in (local_part, local_part.split(subaddress_separator, 1)[0]):
        owner = rows.account_by_address(tx, candidate, address.domain)
        if owner is not None:
            return owner.id == account
        domain = rows.domain_by_name(tx, address.domain)
        if domain is None:
            return False
        targets = rows.alias_targets(tx, domain.id, candidate)
        if targets:
            own = {
                format_address(Address(part, name)) for part, name in rows.addresses_of(tx, account)
            }
            return any(target in own for target in targets)
    return False
