"""Mailbox names and subscriptions. SQL of `posthouse.mailbox.names`.

Everything below a mailbox is found by a range of names: "/" is followed by "0" in the order of
octets, which the name column compares by.
"""

from __future__ import annotations

from posthouse.kernel.ids import AccountId, MailboxId
from posthouse.store.transaction import Transaction


def mailboxes(tx: Transaction, account: AccountId) -> list[tuple[str, int, str | None]]:
    """(name, id, special use), by name."""
    rows = tx.all(
        "SELECT name, id, special_use FROM mailbox WHERE account_id = ? ORDER BY name", (account,)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def inferiors(tx: Transaction, account: AccountId, name: str) -> list[tuple[MailboxId, str]]:
    rows = tx.all(
        "SELECT id, name FROM mailbox WHERE account_id = ? AND name > ? AND name < ? ORDER BY name",
        (account, f"{name}/", f"{name}0"),
    )
    return [(MailboxId(row[0]), row[1]) for row in rows]


def count_mailboxes(tx: Transaction, account: AccountId) -> int:
    row = tx.one("SELECT count(*) FROM mailbox WHERE account_id = ?", (account,))
    return row[0] if row is not None else 0


def next_uidvalidity(tx: Transaction, account: AccountId, floor: int) -> int | None:
    """A UIDVALIDITY this account never had, `floor` or above; None: no such account."""
    row = tx.one(
        "UPDATE account SET next_uidvalidity ="
        " CASE WHEN next_uidvalidity < ? THEN ? ELSE next_uidvalidity END + 1"
        " WHERE id = ? RETURNING next_uidvalidity - 1",
        (floor, floor, account),
    )
    return None if row is None else row[0]


def insert_mailbox(
    tx: Transaction,
    account: AccountId,
    name: str,
    *,
    special_use: str | None,
    uidvalidity: int,
    modseq: int,
) -> MailboxId:
    return MailboxId(
        tx.insert(
            "INSERT INTO mailbox (account_id, name, special_use, uidvalidity, modseq, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (account, name, special_use, uidvalidity, modseq, tx.now_us()),
        )
    )


def rename_mailbox(tx: Transaction, mailbox: MailboxId, name: str) -> None:
    tx.run("UPDATE mailbox SET name = ? WHERE id = ?", (name, mailbox))


def delete_mailbox(tx: Transaction, mailbox: MailboxId) -> None:
    """Its entries are gone already; its tombstones go too, as nobody can select it again."""
    tx.run("DELETE FROM tombstone WHERE mailbox_id = ?", (mailbox,))
    tx.run("DELETE FROM mailbox WHERE id = ?", (mailbox,))


def subscriptions(tx: Transaction, account: AccountId) -> list[str]:
    rows = tx.all("SELECT name FROM subscription WHERE account_id = ? ORDER BY name", (account,))
    return [row[0] for row in rows]


def count_subscriptions(tx: Transaction, account: AccountId) -> int:
    row = tx.one("SELECT count(*) FROM subscription WHERE account_id = ?", (account,))
    return row[0] if row is not None else 0


def subscribe(tx: Transaction, account: AccountId, name: str) -> bool:
    """Whether it was not subscribed before."""
    return bool(
        tx.run(
            "INSERT INTO subscription (account_id, name) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (account, name),
        )
    )


def unsubscribe(tx: Transaction, account: AccountId, name: str) -> None:
    tx.run("DELETE FROM subscription WHERE account_id = ? AND name = ?", (account, name))


def delete_subscriptions(tx: Transaction, account: AccountId) -> None:
    tx.run("DELETE FROM subscription WHERE account_id = ?", (account,))
