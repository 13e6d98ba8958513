"""Checking who logs in. One `Authenticator` for every protocol.

An unknown user costs what a known one does, every secret is compared in constant time, and a
verified login is remembered briefly under (account, credential, version), so that argon2id's
milliseconds are paid once and not for each of a client's connections.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from enum import Enum
from typing import Final, Protocol

import msgspec

from posthouse.accounts import password as passwords
from posthouse.guard.login_guard import Penalty
from posthouse.kernel.errors import Fault
from posthouse.kernel.ids import AccountId
from posthouse.kernel.ports import Chance, Clock, Workers
from posthouse.message.address import AddressError, fold_local_part, parse_mailbox
from posthouse.store import accounts as rows
from posthouse.store.transaction import Store, Transaction

CACHE_MAX: Final = 10_000
CACHE_S: Final = 60.0
NAME_OCTETS_MAX: Final = 512


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever logged in."""

    account: AccountId
    name: str
    credential_version: int


class LoginFailure(Enum):
    """Why nobody logged in. The peer hears the same for every WRONG."""

    WRONG = "wrong"
    """Unknown user, wrong password, disabled account: one answer, one duration."""
    TEMPORARY = "temporary"
    """Our database or workers failed; 454 4.7.0, `NO [UNAVAILABLE]`. Never "yes" (P12)."""
    BANNED = "banned"
    """Too many failures from this address or for this account: wait."""


class LoginResult(msgspec.Struct, frozen=True, kw_only=True):
    principal: Principal | None = None
    failure: LoginFailure | None = None
    delay_s: float = 0.0
    """How long to wait before answering."""
    detail: str = ""
    """For the log only."""
    limit: str = ""
    """The setting whose count began a ban with this failure; "" when none did."""
    limit_value: float = 0.0
    observed: float = 0.0


class FailureGuard(Protocol):
    """Counts failed logins (`posthouse.guard.login_guard`)."""

    def is_banned(self, address: str, account: str) -> bool: ...

    def failed(self, address: str, account: str) -> Penalty:
        """Note a failure: how long to wait before answering it, and any ban it began."""
        ...

    def succeeded(self, address: str, account: str) -> None: ...


class Authenticator:
    """Verifies names and passwords against the store."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        chance: Chance,
        workers: Workers,
        guard: FailureGuard,
        cost: passwords.Cost,
        cache_s: float = CACHE_S,
    ) -> None:
        """Args:
        cache_s: how long a verified login is remembered (`auth.cache_s`).
        """
        self._store = store
        self._clock = clock
        self._chance = chance
        self._workers = workers
        self._guard = guard
        self._cost = cost
        self._cache_s = cache_s
        self._key = chance.token(32)
        self._verified: OrderedDict[tuple[AccountId, bytes, int], float] = OrderedDict()
        self._dummy = passwords.derive("nobody's password", salt=chance.token(16), cost=cost)

    async def authenticate(
        self, *, name: str, password: str, authzid: str = "", peer: str, service: str
    ) -> LoginResult:
        """Who `name` and `password` are.

        Args:
            name: what the user typed; an address in any spelling that means the account.
            authzid: somebody else to act as: refused, unless it is the same account (RFC 4616).
            peer: IP address, for the failure counts.
            service: "imap", "submission", …: for the log.
        """
        folded = fold_name(name)
        if self._guard.is_banned(peer, folded):
            return LoginResult(failure=LoginFailure.BANNED, detail="too many failed logins")
        try:
            account = await self._store.read(lambda tx: find_account(tx, folded))
            is_right = await self._verify(account, password)
        except (Fault, MemoryError) as fault:
            return LoginResult(failure=LoginFailure.TEMPORARY, detail=str(fault))
        is_same = not authzid or fold_name(authzid) == folded
        if account is None or not is_right or account.is_disabled or not is_same:
            detail = (
                "unknown user"
                if account is None
                else "wrong password"
                if not is_right
                else "account disabled"
                if account.is_disabled
                else "may not act as somebody else"
            )
            penalty = self._guard.failed(peer, folded)
            return LoginResult(
                failure=LoginFailure.WRONG,
                delay_s=penalty.delay_s,
                detail=f"{detail} ({service})",
                limit=penalty.limit,
                limit_value=penalty.value,
                observed=penalty.observed,
            )
        self._guard.succeeded(peer, folded)
        return LoginResult(
            principal=Principal(
                account=account.id,
                name=account.name,
                credential_version=account.credential_version,
            )
        )

    async def _verify(self, account: rows.AccountRow | None, password: str) -> bool:
        if account is None or account.password is None:
            dummy = self._dummy
            await self._workers.run(lambda: passwords.verify(password, dummy))
            return False
        stored = account.password
        digest = hmac.digest(self._key, f"{stored}\0{password}".encode(), hashlib.sha256)
        key = (account.id, digest, account.credential_version)
        now = self._clock.monotonic_s()
        if self._verified.get(key, 0.0) > now:
            return True
        if not await self._workers.run(lambda: passwords.verify(password, stored)):
            return False
        self._verified[key] = now + self._cache_s
        if len(self._verified) > CACHE_MAX:
            self._verified.popitem(last=False)
        if passwords.is_weaker(stored, self._cost):
            await self._raise_cost(account, password)
        return True

    async def _raise_cost(self, account: rows.AccountRow, password: str) -> None:
        salt = self._chance.token(passwords.SALT_OCTETS)
        phc = await self._workers.run(
            lambda: passwords.derive(password, salt=salt, cost=self._cost)
        )
        await self._store.submit(lambda tx: rows.rehash_password(tx, account.id, phc))


def fold_name(name: str) -> str:
    """The one spelling of a login name."""
    try:
        address = parse_mailbox(name[:NAME_OCTETS_MAX])
    except AddressError:
        return name[:NAME_OCTETS_MAX].casefold()
    return f"{fold_local_part(address.local_part)}@{address.domain}"


def find_account(tx: Transaction, folded: str) -> rows.AccountRow | None:
    """The account with this name or address (folded)."""
    account = rows.account_by_name(tx, folded)
    if account is None and "@" in folded:
        local_part, _, domain = folded.rpartition("@")
        account = rows.account_by_address(tx, local_part, domain)
    return account
