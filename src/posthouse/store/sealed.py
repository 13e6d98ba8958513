"""What in the database only the node key opens, counted: while there is any, a missing node key is
a loss to be told and not a reason to make a new one."""

from __future__ import annotations

from posthouse.store.transaction import Transaction


def count_sealed(tx: Transaction) -> int:
    """Private halves of DKIM and mail keys."""
    row = tx.one(
        "SELECT (SELECT count(*) FROM domain_key WHERE private IS NOT NULL)"
        " + (SELECT count(*) FROM mail_key WHERE private IS NOT NULL)"
    )
    return row[0] if row else 0
