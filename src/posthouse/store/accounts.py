"""SQL of domains, accounts, addresses and aliases. Local-parts come folded, domains as A-labels."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import AccountId, DomainId
from posthouse.store import mail_keys
from posthouse.store.transaction import Row, Transaction


class DomainRow(msgspec.Struct, frozen=True, kw_only=True):
    id: DomainId
    name: str
    catch_all: str | None
    accounts: int = 0
    aliases: int = 0


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    id: AccountId
    name: str
    password: str | None
    credential_version: int
    is_disabled: bool
    quota_octets: int | None
    used_octets: int
    used_messages: int


class AliasRow(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    target: str


ACCOUNT_COLUMNS = (
    "id, name, password, credential_version, is_disabled, quota_octets, used_octets, used_messages"
)


def _account(row: Row) -> AccountRow:
    return AccountRow(
        id=row[0],
        name=row[1],
        password=row[2],
        credential_version=row[3],
        is_disabled=bool(row[4]),
        quota_octets=row[5],
        used_octets=row[6],
        used_messages=row[7],
    )


# --- domains ---


def domain_by_name(tx: Transaction, name: str) -> DomainRow | None:
    row = tx.one("SELECT id, name, catch_all FROM domain WHERE name = ?", (name,))
    return DomainRow(id=row[0], name=row[1], catch_all=row[2]) if row else None


def domains(tx: Transaction) -> list[DomainRow]:
    rows = tx.all(
        "SELECT id, name, catch_all,"
        " (SELECT count(*) FROM address a WHERE a.domain_id = d.id),"
        " (SELECT count(DISTINCT local_part) FROM alias l WHERE l.domain_id = d.id)"
        " FROM domain d ORDER BY name"
    )
    return [
        DomainRow(id=r[0], name=r[1], catch_all=r[2], accounts=r[3], aliases=r[4]) for r in rows
    ]


def add_domain(tx: Transaction, name: str) -> DomainId:
    return DomainId(
        tx.insert("INSERT INTO domain (name, created_at) VALUES (?, ?)", (name, tx.now_us()))
    )


def set_catch_all(tx: Transaction, domain: DomainId, address: str | None) -> None:
    tx.run("UPDATE domain SET catch_all = ? WHERE id = ?", (address, domain))


def remove_domain(tx: Transaction, domain: DomainId) -> None:
    tx.run("DELETE FROM alias WHERE domain_id = ?", (domain,))
    tx.run("DELETE FROM domain_key WHERE domain_id = ?", (domain,))
    mail_keys.remove_of(tx, domain=domain)
    tx.run("DELETE FROM domain WHERE id = ?", (domain,))


# --- accounts ---


def account_by_id(tx: Transaction, account: AccountId) -> AccountRow | None:
    row = tx.one(f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE id = ?", (account,))  # noqa: S608
    return _account(row) if row else None


def account_by_name(tx: Transaction, name: str) -> AccountRow | None:
    row = tx.one(f"SELECT {ACCOUNT_COLUMNS} FROM account WHERE name = ?", (name,))  # noqa: S608
    return _account(row) if row else None


def account_by_address(tx: Transaction, local_part: str, domain: str) -> AccountRow | None:
    columns = ", ".join(f"c.{name.strip()}" for name in ACCOUNT_COLUMNS.split(","))
    row = tx.one(
        f"SELECT {columns} FROM address a JOIN domain d ON d.id = a.domain_id"  # noqa: S608
        " JOIN account c ON c.id = a.account_id WHERE d.name = ? AND a.local_part = ?",
        (domain, local_part),
    )
    return _account(row) if row else None


def accounts(tx: Transaction) -> list[AccountRow]:
    return [
        _account(row)
        for row in tx.all(f"SELECT {ACCOUNT_COLUMNS} FROM account ORDER BY name")  # noqa: S608
    ]


def oldest_account(tx: Transaction, domain: str | None) -> AccountRow | None:
    """The first enabled account of the domain, or of all: where postmaster goes without alias."""
    columns = ", ".join(f"c.{name.strip()}" for name in ACCOUNT_COLUMNS.split(","))
    row = tx.one(
        f"SELECT {columns} FROM account c JOIN address a ON a.account_id = c.id"  # noqa: S608
        " JOIN domain d ON d.id = a.domain_id"
        " WHERE c.is_disabled = 0 AND (? IS NULL OR d.name = ?) ORDER BY c.id LIMIT 1",
        (domain, domain),
    )
    return _account(row) if row else None


def add_account(
    tx: Transaction, *, name: str, password: str | None, quota_octets: int | None
) -> AccountId:
    return AccountId(
        tx.insert(
            "INSERT INTO account (name, password, quota_octets, created_at) VALUES (?, ?, ?, ?)",
            (name, password, quota_octets, tx.now_us()),
        )
    )


def add_address(tx: Transaction, domain: DomainId, local_part: str, account: AccountId) -> None:
    tx.insert(
        "INSERT INTO address (domain_id, local_part, account_id) VALUES (?, ?, ?)",
        (domain, local_part, account),
    )


def addresses_of(tx: Transaction, account: AccountId) -> list[tuple[str, str]]:
    """(folded local-part, domain) of each address that is the account's own."""
    rows = tx.all(
        "SELECT a.local_part, d.name FROM address a JOIN domain d ON d.id = a.domain_id"
        " WHERE a.account_id = ? ORDER BY a.id",
        (account,),
    )
    return [(row[0], row[1]) for row in rows]


def set_password(tx: Transaction, account: AccountId, password: str | None) -> None:
    tx.run(
        "UPDATE account SET password = ?, credential_version = credential_version + 1 WHERE id = ?",
        (password, account),
    )


def set_disabled(tx: Transaction, account: AccountId, *, is_disabled: bool) -> None:
    tx.run(
        "UPDATE account SET is_disabled = ?, credential_version = credential_version + 1"
        " WHERE id = ?",
        (int(is_disabled), account),
    )


def set_quota(tx: Transaction, account: AccountId, octets: int | None) -> None:
    tx.run("UPDATE account SET quota_octets = ? WHERE id = ?", (octets, account))


def remove_account(tx: Transaction, account: AccountId) -> None:
    """Remove the account and its addresses; its mailboxes must be gone already."""
    tx.run("DELETE FROM address WHERE account_id = ?", (account,))
    mail_keys.remove_of(tx, account=account)
    tx.run("DELETE FROM account WHERE id = ?", (account,))


# --- aliases ---


def alias_targets(tx: Transaction, domain: DomainId, local_part: str) -> list[str]:
    rows = tx.all(
        "SELECT target FROM alias WHERE domain_id = ? AND local_part = ? ORDER BY id",
        (domain, local_part),
    )
    return [row[0] for row in rows]


def add_alias(tx: Transaction, domain: DomainId, local_part: str, target: str) -> bool:
    """False when it was there already."""
    return (
        tx.run(
            "INSERT INTO alias (domain_id, local_part, target) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (domain, local_part, target),
        )
        > 0
    )


def remove_alias(tx: Transaction, domain: DomainId, local_part: str, target: str | None) -> int:
    """How many targets were removed; all of them when `target` is None."""
    return tx.run(
        "DELETE FROM alias WHERE domain_id = ? AND local_part = ? AND (? IS NULL OR target = ?)",
        (domain, local_part, target, target),
    )


def aliases(tx: Transaction) -> list[AliasRow]:
    rows = tx.all(
        "SELECT l.local_part || '@' || d.name, l.target FROM alias l"
        " JOIN domain d ON d.id = l.domain_id ORDER BY d.name, l.local_part, l.id"
    )
    return [AliasRow(address=row[0], target=row[1]) for row in rows]


def rehash_password(tx: Transaction, account: AccountId, phc: str) -> None:
    """Keep the same password under a dearer hash; logins go on."""
    tx.run("UPDATE account SET password = ? WHERE id = ?", (phc, account))
