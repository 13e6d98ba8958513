"""SQL of MTA-STS policies of others. Times are microseconds since 1970, UTC."""

from __future__ import annotations

import msgspec

from posthouse.store.transaction import Row, Transaction

_COLUMNS = "domain, record_id, policy, fetched_at, expires_at, used_at"


class StsRow(msgspec.Struct, frozen=True, kw_only=True):
    domain: str
    record_id: str
    policy: bytes
    """JSON of `relay.sts_policy.StsPolicy`."""
    fetched_at: int
    expires_at: int
    used_at: int


def policy_of(tx: Transaction, domain: str) -> StsRow | None:
    """What is kept for a domain, expired or not."""
    row = tx.one(f"SELECT {_COLUMNS} FROM mta_sts_policy WHERE domain = ?", (domain,))  # noqa: S608
    return None if row is None else _row(row)


def put(tx: Transaction, row: StsRow) -> None:
    tx.run(
        f"INSERT INTO mta_sts_policy ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
        " ON CONFLICT (domain) DO UPDATE SET record_id = excluded.record_id,"
        " policy = excluded.policy, fetched_at = excluded.fetched_at,"
        " expires_at = excluded.expires_at, used_at = excluded.used_at",
        (row.domain, row.record_id, row.policy, row.fetched_at, row.expires_at, row.used_at),
    )


def touch(tx: Transaction, domain: str, *, used_at: int) -> None:
    tx.run("UPDATE mta_sts_policy SET used_at = ? WHERE domain = ?", (used_at, domain))


def stale(tx: Transaction, *, fetched_before: int, used_after: int, limit: int) -> list[StsRow]:
    """Policies to refresh: fetched long ago, used lately; those fetched longest ago first."""
    return [
        _row(row)
        for row in tx.all(
            f"SELECT {_COLUMNS} FROM mta_sts_policy"  # noqa: S608
            " WHERE fetched_at < ? AND used_at > ? ORDER BY fetched_at LIMIT ?",
            (fetched_before, used_after, limit),
        )
    ]


def forget_expired(tx: Transaction, *, before: int) -> int:
    """How many were forgotten."""
    return tx.run("DELETE FROM mta_sts_policy WHERE expires_at < ?", (before,))


def _row(row: Row) -> StsRow:
    return StsRow(
        domain=row[0],
        record_id=row[1],
        policy=row[2],
        fetched_at=row[3],
        expires_at=row[4],
        used_at=row[5],
    )
