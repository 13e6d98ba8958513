"""DKIM keys of our domains: made, waiting for the DNS, signing, retired, revoked.

A key signs only while the DNS shows it, or every signature fails. So a new key waits; the key
before it signs on until then. A retired key signs no more and stays published for the mail that is
still under way. Each algorithm of a domain goes this way by itself. `accounts.rotation` does the
steps; private keys lie in the database sealed (`accounts.sealing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

import msgspec

from posthouse.accounts.admin import known_domain, parse_typed_domain
from posthouse.accounts.sealing import NodeKey
from posthouse.kernel.errors import UserError
from posthouse.kernel.ids import DomainId
from posthouse.mailauth.dkim.grammar import (
    ED25519,
    RSA,
    DkimSyntaxError,
    base64,
    key_name,
    read_tags,
)
from posthouse.mailauth.dkim.keys import Key, read_key
from posthouse.mailauth.dkim.sign import NewKey, SigningKey, generate, key_record, load_private
from posthouse.store import domain_keys as rows
from posthouse.store.sealed import count_sealed
from posthouse.store.transaction import DirectoryChanged, Transaction

LETTERS: Final = {RSA: "r", ED25519: "e"}
"""What the selectors of each algorithm begin with."""
SELECTORS_A_DAY_MAX: Final = 100


class KeyState(IntEnum):
    """Where a key is on its way; the numbers are stored."""

    WAITING = 1
    """Made; signs once the DNS shows it."""
    SIGNING = 2
    RETIRED = 3
    """Signs no more; its record stays until mail signed with it has arrived."""
    REVOKED = 4
    """The DNS let go of it, and its private half is gone."""


class DomainKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its private half. Times are microseconds since 1970."""

    id: int
    domain: str
    selector: str
    algorithm: str
    public: bytes
    state: KeyState
    has_private: bool
    created_at: int
    shown_at: int | None
    ready_at: int | None
    signs_at: int | None
    retired_at: int | None
    revoked_at: int | None

    @property
    def record_name(self) -> str:
        """Without a final dot (RFC 6376 §3.6.2.1)."""
        return key_name(self.selector, self.domain)

    @property
    def record(self) -> str:
        """What the DNS has to show, as one text."""
        return key_record(self.algorithm, self.public)

    @property
    def context(self) -> bytes:
        """What its private half is sealed for."""
        return _context(self.domain, self.selector)


def generate_keys(algorithms: Sequence[str], *, rsa_bits: int) -> tuple[NewKey, ...]:
    """Before any transaction, and in a server on `Workers`: RSA takes a tenth of a second."""
    return tuple(generate(algorithm, rsa_bits) for algorithm in algorithms)


def make_keys(
    tx: Transaction,
    domain: str,
    new: Sequence[NewKey],
    node_key: NodeKey,
    *,
    state: KeyState = KeyState.WAITING,
) -> tuple[DomainKey, ...]:
    """Keep new keys of a domain; a waiting key of the same algorithm makes a new one needless.

    Args:
        state: SIGNING where somebody vouches that the DNS shows them, as in a laboratory.

    Raises:
        UserError: the domain is not known, or the node key cannot be used.
    """
    row = known_domain(tx, parse_typed_domain(domain))
    node_key.open(sealed=count_sealed(tx))
    waiting = {key.algorithm for key in keys(tx, row.name) if key.state is KeyState.WAITING}
    made = set()
    for each in new:
        if each.algorithm in waiting:
            continue
        selector = _free_selector(tx, row.id, each.algorithm)
        key = rows.add_key(
            tx,
            row.id,
            selector=selector,
            algorithm=each.algorithm,
            private=node_key.seal(each.private, _context(row.name, selector)),
            public=each.public,
            state=KeyState.WAITING,
        )
        if state is KeyState.SIGNING:
            rows.set_signing(tx, key, state)
        made.add(key)
    if made:
        tx.changed(DirectoryChanged())
    return tuple(key for key in keys(tx, row.name) if key.id in made)


def keys(tx: Transaction, domain: str) -> tuple[DomainKey, ...]:
    """All keys of a domain (A-labels), the oldest first."""
    return tuple(map(_key, rows.keys(tx, domain)))


def signing_keys(tx: Transaction) -> tuple[DomainKey, ...]:
    """Those of all domains that sign now."""
    return tuple(map(_key, rows.keys_in_state(tx, KeyState.SIGNING)))


def signing_key(tx: Transaction, key: DomainKey, node_key: NodeKey) -> SigningKey:
    """With its private half unsealed.

    Raises:
        UserError: the private half is gone, or the node key does not open it.
    """
    sealed = rows.sealed_private(tx, key.id)
    if sealed is None:
        raise UserError(f"the private half of {key.record_name} is gone")
    return SigningKey(
        domain=key.domain,
        selector=key.selector,
        algorithm=key.algorithm,
        private=load_private(node_key.unseal(sealed, key.context)),
    )


def shows(record: bytes, key: DomainKey) -> bool:
    """Whether a TXT record, its strings joined, is one that receivers verify the key's signatures
    with."""
    found = read_key(record)
    if not isinstance(found, Key) or found.algorithm != key.algorithm:
        return False
    try:
        return base64("p", read_tags(record).get("p", "")) == key.public
    except DkimSyntaxError:
        return False


def revokes(record: bytes) -> bool:
    """Whether a TXT record says that its key is to be trusted no more (RFC 6376 §3.6.1): somebody
    wrote that on purpose."""
    try:
        return read_tags(record).get("p") == ""
    except DkimSyntaxError:
        return False


def give_up_sealed(tx: Transaction, domain: str) -> tuple[DomainKey, ...]:
    """The node key is lost: what it sealed signs no more. Returns the keys given up."""
    lost = [key for key in keys(tx, domain) if key.has_private]
    for key in lost:
        rows.forget_private(tx, key.id)
        if key.state is KeyState.SIGNING:
            rows.set_retired(tx, key.id, KeyState.RETIRED)
        elif key.state is KeyState.WAITING:
            rows.set_revoked(tx, key.id, KeyState.REVOKED)
    if lost:
        tx.changed(DirectoryChanged())
    return tuple(lost)


def when(time_us: int | None) -> datetime | None:
    """A stored time for people."""
    return None if time_us is None else datetime.fromtimestamp(time_us / 1_000_000, UTC)


def day_of(time_us: int | None) -> str:
    found = when(time_us)
    return f"{found:%Y-%m-%d}" if found else ""


def minute_of(time_us: int | None) -> str:
    found = when(time_us)
    return f"{found:%Y-%m-%d %H:%M} UTC" if found else ""


def _key(row: rows.KeyRow) -> DomainKey:
    return DomainKey(
        id=row.id,
        domain=row.domain,
        selector=row.selector,
        algorithm=row.algorithm,
        public=row.public,
        state=KeyState(row.state),
        has_private=row.has_private,
        created_at=row.created_at,
        shown_at=row.shown_at,
        ready_at=row.ready_at,
        signs_at=row.signs_at,
        retired_at=row.retired_at,
        revoked_at=row.revoked_at,
    )


def _context(domain: str, selector: str) -> bytes:
    return f"domain-key:{domain}:{selector}".encode("ascii")


def _free_selector(tx: Transaction, domain: DomainId, algorithm: str) -> str:
    """The day and the algorithm, so that a person sees in the zone what is old."""
    day = datetime.fromtimestamp(tx.now_us() / 1_000_000, UTC).strftime("%Y%m%d")
    first = f"{LETTERS[algorithm]}{day}"
    for number in range(1, SELECTORS_A_DAY_MAX):
        selector = first if number == 1 else f"{first}-{number}"
        if not rows.is_selector_taken(tx, domain, selector):
            return selector
    raise UserError(f"{SELECTORS_A_DAY_MAX} keys in one day are enough", hint="go on tomorrow")
