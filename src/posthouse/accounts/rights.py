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
    user = local_part.split(subaddress_separator, 1)[0] if subaddress_separator else local_part
    for candidate in dict.fromkeys((local_part, user)):
        answer = _answer(tx, account, candidate, address.domain)
        if answer is not None:
            return answer
    return False


def _answer(tx: Transaction, account: AccountId, local_part: str, domain: str) -> bool | None:
    """None where nobody has exactly that address."""
    owner = rows.account_by_address(tx, local_part, domain)
    if owner is not None:
        return owner.id == account
    known = rows.domain_by_name(tx, domain)
    targets = rows.alias_targets(tx, known.id, local_part) if known is not None else []
    if not targets:
        return None
    own = {format_address(Address(part, name)) for part, name in rows.addresses_of(tx, account)}
    return any(target in own for target in targets)
