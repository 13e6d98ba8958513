"""SQL of S/MIME certificates, OpenPGP keys and the policies of their use. Private halves come and
go sealed; addresses come folded, with domains as A-labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from posthouse.kernel.ids import AccountId, DomainId
from posthouse.store.transaction import Row, Transaction


class MailKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its private half."""

    id: int
    scheme: str
    fingerprint: str
    account: AccountId | None
    domain: DomainId | None
    source: str
    is_trusted: bool
    is_published: bool
    public: bytes
    has_private: bool
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    seen_at: int
    warned_at: int | None
    reads: str = ""
    said_at: int | None = None
    separator: str = "+"
    addresses: tuple[str, ...] = ()


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """None is "not said here"."""

    scheme: str | None = None
    sign: str | None = None
    encrypt: str | None = None
    open: str | None = None
    at_rest: str | None = None
    at_rest_append: str | None = None


_SELECT = (
    "SELECT k.id, k.scheme, k.fingerprint, k.account_id, k.domain_id, k.source, k.is_trusted,"
    " k.is_published, k.public, k.private IS NOT NULL, k.created_at, k.expires_at, k.revoked_at,"
    " k.seen_at, k.warned_at, k.reads, k.said_at, k.separator FROM mail_key k"
)


def _key(tx: Transaction, row: Row) -> MailKeyRow:
    addresses = tx.all(
        "SELECT address FROM mail_key_address WHERE key_id = ? ORDER BY address", (row[0],)
    )
    return MailKeyRow(
        id=row[0],
        scheme=row[1],
        fingerprint=row[2],
        account=row[3],
        domain=row[4],
        source=row[5],
        is_trusted=bool(row[6]),
        is_published=bool(row[7]),
        public=row[8],
        has_private=bool(row[9]),
        created_at=row[10],
        expires_at=row[11],
        revoked_at=row[12],
        seen_at=row[13],
        warned_at=row[14],
        reads=row[15],
        said_at=row[16],
        separator=row[17],
        addresses=tuple(address for (address,) in addresses),
    )


# --- finding ---


def by_fingerprint(tx: Transaction, scheme: str, fingerprint: str) -> MailKeyRow | None:
    row = tx.one(f"{_SELECT} WHERE k.scheme = ? AND k.fingerprint = ?", (scheme, fingerprint))
    return _key(tx, row) if row else None


def by_id(tx: Transaction, key: int) -> MailKeyRow | None:
    row = tx.one(f"{_SELECT} WHERE k.id = ?", (key,))
    return _key(tx, row) if row else None


def by_address(tx: Transaction, address: str) -> list[MailKeyRow]:
    """All that name the address, the newest first; whether it is their owner's is not asked."""
    rows = tx.all(
        f"{_SELECT} JOIN mail_key_address a ON a.key_id = k.id"
        " WHERE a.address = ? ORDER BY k.id DESC",
        (address,),
    )
    return [_key(tx, row) for row in rows]


def by_either_end(tx: Transaction, part: str) -> list[MailKeyRow]:
    """Those whose fingerprint begins or ends so; at most a few are of interest."""
    rows = tx.all(
        f"{_SELECT} WHERE substr(k.fingerprint, -length(?)) = ?"
        " OR substr(k.fingerprint, 1, length(?)) = ? ORDER BY k.id DESC LIMIT 20",
        (part, part, part, part),
    )
    return [_key(tx, row) for row in rows]


def of_account(tx: Transaction, account: AccountId) -> list[MailKeyRow]:
    rows = tx.all(f"{_SELECT} WHERE k.account_id = ? ORDER BY k.id DESC", (account,))
    return [_key(tx, row) for row in rows]


def of_domain(tx: Transaction, domain: DomainId) -> list[MailKeyRow]:
    """The gateway keys of the domain itself."""
    rows = tx.all(f"{_SELECT} WHERE k.domain_id = ? ORDER BY k.id DESC", (domain,))
    return [_key(tx, row) for row in rows]


def published(tx: Transaction, scheme: str, *, limit: int) -> list[MailKeyRow]:
    """Those that others may look up here, the newest first."""
    rows = tx.all(
        f"{_SELECT} WHERE k.is_published = 1 AND k.scheme = ? ORDER BY k.id DESC LIMIT ?",
        (scheme, limit),
    )
    return [_key(tx, row) for row in rows]


def page(tx: Transaction, *, after: int, limit: int) -> list[MailKeyRow]:
    """Of all keys, in the order they came."""
    rows = tx.all(f"{_SELECT} WHERE k.id > ? ORDER BY k.id LIMIT ?", (after, limit))
    return [_key(tx, row) for row in rows]


def expiring(tx: Transaction, *, since: int, before: int, limit: int) -> list[MailKeyRow]:
    """Own keys that end between then and are not revoked, the soonest first."""
    rows = tx.all(
        f"{_SELECT} WHERE k.expires_at < ? AND k.expires_at > ? AND k.revoked_at IS NULL"
        " AND (k.account_id IS NOT NULL OR k.domain_id IS NOT NULL)"
        " ORDER BY k.expires_at LIMIT ?",
        (before, since, limit),
    )
    return [_key(tx, row) for row in rows]


def sealed_private(tx: Transaction, key: int) -> bytes | None:
    row = tx.one("SELECT private FROM mail_key WHERE id = ?", (key,))
    return row[0] if row else None


def sealed_revocation(tx: Transaction, key: int) -> bytes | None:
    row = tx.one("SELECT revocation FROM mail_key WHERE id = ?", (key,))
    return row[0] if row else None


def count_strangers(tx: Transaction, sources: Sequence[str], *, is_revoked: bool) -> int:
    """Keys of others from there: only an index is read, in a few milliseconds for 200,000."""
    marks = ", ".join("?" * len(sources))
    which = "IS NOT NULL" if is_revoked else "IS NULL"
    row = tx.one(
        "SELECT count(*) FROM mail_key WHERE account_id IS NULL AND domain_id IS NULL"  # noqa: S608
        f" AND source IN ({marks}) AND revoked_at {which}",
        tuple(sources),
    )
    return row[0] if row else 0


def longest_kept(tx: Transaction, source: str, *, is_revoked: bool, but: int | None) -> int | None:
    """Of the keys of others from there, but for one, the one not seen for longest, or of those that
    are revoked the first."""
    which = "IS NOT NULL" if is_revoked else "IS NULL"
    row = tx.one(
        "SELECT id FROM mail_key"  # noqa: S608
        " WHERE account_id IS NULL AND domain_id IS NULL AND source = ?"
        f" AND revoked_at {which} AND id <> ? ORDER BY revoked_at, seen_at, id LIMIT 1",
        (source, but or 0),
    )
    return row[0] if row else None


# --- changing ---


def add(
    tx: Transaction,
    *,
    scheme: str,
    fingerprint: str,
    account: AccountId | None,
    domain: DomainId | None,
    source: str,
    is_trusted: bool,
    public: bytes,
    private: bytes | None,
    revocation: bytes | None,
    expires_at: int | None,
    addresses: Iterable[str],
    separator: str = "+",
) -> int:
    now = tx.now_us()
    key = tx.insert(
        "INSERT INTO mail_key (scheme, fingerprint, account_id, domain_id, source, is_trusted,"
        " public, private, revocation, created_at, expires_at, seen_at, separator)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(scheme, fingerprint, account, domain, source, int(is_trusted)),
            *(public, private, revocation, now, expires_at, now, separator),
        ),
    )
    set_addresses(tx, key, addresses)
    return key


def set_addresses(tx: Transaction, key: int, addresses: Iterable[str]) -> None:
    tx.run("DELETE FROM mail_key_address WHERE key_id = ?", (key,))
    for address in dict.fromkeys(addresses):
        tx.run("INSERT INTO mail_key_address (key_id, address) VALUES (?, ?)", (key, address))


def set_public(
    tx: Transaction, key: int, public: bytes, *, expires_at: int | None, is_seen: bool = True
) -> None:
    """The same key with more or newer signatures on it."""
    tx.run(
        "UPDATE mail_key SET public = ?, expires_at = ?, warned_at = NULL WHERE id = ?",
        (public, expires_at, key),
    )
    if is_seen:
        set_seen(tx, key)


def set_owner(
    tx: Transaction,
    key: int,
    *,
    account: AccountId | None,
    domain: DomainId | None,
    separator: str,
) -> None:
    tx.run(
        "UPDATE mail_key SET account_id = ?, domain_id = ?, separator = ? WHERE id = ?",
        (account, domain, separator, key),
    )


def set_private(tx: Transaction, key: int, private: bytes, revocation: bytes | None) -> None:
    tx.run(
        "UPDATE mail_key SET private = ?, revocation = coalesce(?, revocation) WHERE id = ?",
        (private, revocation, key),
    )


def set_reads(tx: Transaction, key: int, reads: str, at: int) -> None:
    """What its owner's program decrypts ("" where it does not say: then what it said before
    stands), and when that was said, unless something newer was (RFC 8551 §2.7.1)."""
    tx.run(
        "UPDATE mail_key SET reads = coalesce(nullif(?, ''), reads), said_at = ?"
        " WHERE id = ? AND coalesce(said_at, ?) <= ?",
        (reads, at, key, at, at),
    )


def set_source(tx: Transaction, key: int, source: str) -> None:
    tx.run("UPDATE mail_key SET source = ? WHERE id = ?", (source, key))


def set_trusted(tx: Transaction, key: int, *, is_trusted: bool) -> None:
    tx.run("UPDATE mail_key SET is_trusted = ? WHERE id = ?", (int(is_trusted), key))


def set_published(tx: Transaction, key: int, *, is_published: bool) -> None:
    tx.run("UPDATE mail_key SET is_published = ? WHERE id = ?", (int(is_published), key))


def set_revoked(tx: Transaction, key: int) -> None:
    tx.run("UPDATE mail_key SET revoked_at = ? WHERE id = ?", (tx.now_us(), key))


def set_seen(tx: Transaction, key: int) -> None:
    tx.run("UPDATE mail_key SET seen_at = ? WHERE id = ?", (tx.now_us(), key))


def set_warned(tx: Transaction, key: int) -> None:
    tx.run("UPDATE mail_key SET warned_at = ? WHERE id = ?", (tx.now_us(), key))


def remove(tx: Transaction, key: int) -> None:
    tx.run("DELETE FROM mail_key_address WHERE key_id = ?", (key,))
    tx.run("DELETE FROM mail_key WHERE id = ?", (key,))


def remove_of(
    tx: Transaction, *, account: AccountId | None = None, domain: DomainId | None = None
) -> None:
    """All keys of an owner who leaves, and what was said about their use."""
    tx.run(
        "DELETE FROM mail_key_address WHERE key_id IN"
        " (SELECT id FROM mail_key WHERE account_id = ? OR domain_id = ?)",
        (account, domain),
    )
    tx.run("DELETE FROM mail_key WHERE account_id = ? OR domain_id = ?", (account, domain))
    tx.run("DELETE FROM mail_policy WHERE account_id = ? OR domain_id = ?", (account, domain))


# --- what was not found ---


def missed_until(tx: Transaction, address: str) -> int | None:
    row = tx.one("SELECT until FROM mail_key_miss WHERE address = ?", (address,))
    return row[0] if row else None


def set_missed(tx: Transaction, address: str, until: int) -> None:
    tx.run("DELETE FROM mail_key_miss WHERE until < ?", (tx.now_us(),))
    tx.run("DELETE FROM mail_key_miss WHERE address = ?", (address,))
    tx.run("INSERT INTO mail_key_miss (address, until) VALUES (?, ?)", (address, until))


def forget_miss(tx: Transaction, address: str) -> None:
    tx.run("DELETE FROM mail_key_miss WHERE address = ?", (address,))


# --- policies ---

_POLICY = "SELECT scheme, sign, encrypt, open, at_rest, at_rest_append FROM mail_policy"


def _policy(row: Row | None) -> PolicyRow:
    if row is None:
        return PolicyRow()
    return PolicyRow(
        scheme=row[0],
        sign=row[1],
        encrypt=row[2],
        open=row[3],
        at_rest=row[4],
        at_rest_append=row[5],
    )


def account_policy(tx: Transaction, account: AccountId) -> PolicyRow:
    return _policy(tx.one(f"{_POLICY} WHERE account_id = ?", (account,)))


def domain_policy(tx: Transaction, domain: DomainId) -> PolicyRow:
    return _policy(tx.one(f"{_POLICY} WHERE domain_id = ?", (domain,)))


def count_keyless(
    tx: Transaction, domain: str, part: str, always: str, *, has_private: bool, limit: int
) -> int:
    """How many accounts of the domain have no key that is good by its dates, of those that say
    nothing else about a part of the policy; no more than `limit` are counted.

    Args:
        part: "sign", "at_rest" or "at_rest_append".
        always: the word for it that does not take an account out.
        has_private: only keys with their private half will do.
    """
    row = tx.one(
        "SELECT count(*) FROM (SELECT 1 FROM account a"
        " WHERE substr(a.name, -length(?)) = ?"
        " AND NOT EXISTS (SELECT 1 FROM mail_policy p WHERE p.account_id = a.id"
        " AND CASE ? WHEN 'sign' THEN p.sign WHEN 'at_rest' THEN p.at_rest"
        " ELSE p.at_rest_append END <> ?)"
        " AND NOT EXISTS (SELECT 1 FROM mail_key k WHERE k.account_id = a.id"
        " AND (k.private IS NOT NULL OR ? = 0)"
        " AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?))"
        " LIMIT ?) t",
        (f"@{domain}", f"@{domain}", part, always, int(has_private), tx.now_us(), limit),
    )
    return row[0] if row else 0


def has_policies(tx: Transaction) -> bool:
    return tx.one("SELECT 1 FROM mail_policy LIMIT 1") is not None


def set_policy(
    tx: Transaction,
    policy: PolicyRow,
    *,
    account: AccountId | None = None,
    domain: DomainId | None = None,
) -> None:
    """In the place of what was said before; one that says nothing is no row."""
    tx.run("DELETE FROM mail_policy WHERE account_id = ? OR domain_id = ?", (account, domain))
    if policy == PolicyRow():
        return
    tx.run(
        "INSERT INTO mail_policy (account_id, domain_id, scheme, sign, encrypt, open, at_rest,"
        " at_rest_append) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (account, domain, *msgspec.structs.astuple(policy)),
    )
