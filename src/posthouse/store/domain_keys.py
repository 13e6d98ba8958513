"""SQL of the DKIM keys of our domains. Private keys come and go sealed."""

from __future__ import annotations

import msgspec

from posthouse.kernel.ids import DomainId
from posthouse.store.transaction import Row, Transaction


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its private half."""

    id: int
    domain: str
    selector: str
    algorithm: str
    public: bytes
    state: int
    has_private: bool
    created_at: int
    shown_at: int | None
    ready_at: int | None
    signs_at: int | None
    retired_at: int | None
    revoked_at: int | None


_SELECT = (
    "SELECT k.id, d.name, k.selector, k.algorithm, k.public, k.state, k.private IS NOT NULL,"
    " k.created_at, k.shown_at, k.ready_at, k.signs_at, k.retired_at, k.revoked_at"
    " FROM domain_key k JOIN domain d ON d.id = k.domain_id"
)


def _key(row: Row) -> KeyRow:
    return KeyRow(
        id=row[0],
        domain=row[1],
        selector=row[2],
        algorithm=row[3],
        public=row[4],
        state=row[5],
        has_private=bool(row[6]),
        created_at=row[7],
        shown_at=row[8],
        ready_at=row[9],
        signs_at=row[10],
        retired_at=row[11],
        revoked_at=row[12],
    )


def keys(tx: Transaction, domain: str) -> list[KeyRow]:
    """The oldest first."""
    return [_key(row) for row in tx.all(f"{_SELECT} WHERE d.name = ? ORDER BY k.id", (domain,))]


def keys_in_state(tx: Transaction, state: int) -> list[KeyRow]:
    """Of all domains."""
    return [_key(row) for row in tx.all(f"{_SELECT} WHERE k.state = ? ORDER BY k.id", (state,))]


def sealed_private(tx: Transaction, key: int) -> bytes | None:
    row = tx.one("SELECT private FROM domain_key WHERE id = ?", (key,))
    return row[0] if row else None


def domains_with_keys(tx: Transaction) -> list[str]:
    rows = tx.all(
        "SELECT d.name FROM domain d"
        " WHERE EXISTS (SELECT 1 FROM domain_key k WHERE k.domain_id = d.id) ORDER BY d.name"
    )
    return [row[0] for row in rows]


def is_selector_taken(tx: Transaction, domain: DomainId, selector: str) -> bool:
    found = tx.one(
        "SELECT 1 FROM domain_key WHERE domain_id = ? AND selector = ?", (domain, selector)
    )
    return found is not None


def add_key(
    tx: Transaction,
    domain: DomainId,
    *,
    selector: str,
    algorithm: str,
    private: bytes,
    public: bytes,
    state: int,
) -> int:
    return tx.insert(
        "INSERT INTO domain_key (domain_id, selector, algorithm, private, public, state,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (domain, selector, algorithm, private, public, state, tx.now_us()),
    )


def set_shown(tx: Transaction, key: int, *, shown_at: int | None, ready_at: int | None) -> None:
    tx.run(
        "UPDATE domain_key SET shown_at = ?, ready_at = ? WHERE id = ?", (shown_at, ready_at, key)
    )


def set_signing(tx: Transaction, key: int, state: int) -> None:
    tx.run("UPDATE domain_key SET state = ?, signs_at = ? WHERE id = ?", (state, tx.now_us(), key))


def set_retired(tx: Transaction, key: int, state: int) -> None:
    tx.run(
        "UPDATE domain_key SET state = ?, retired_at = ? WHERE id = ?", (state, tx.now_us(), key)
    )


def set_revoked(tx: Transaction, key: int, state: int) -> None:
    """The private half is gone with it."""
    tx.run(
        "UPDATE domain_key SET state = ?, revoked_at = ?, private = NULL WHERE id = ?",
        (state, tx.now_us(), key),
    )


def forget_private(tx: Transaction, key: int) -> None:
    tx.run("UPDATE domain_key SET private = NULL WHERE id = ?", (key,))
