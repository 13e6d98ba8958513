"""Logging in: RFC 4616, promise P12, rows H23 and H59."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posthouse.accounts import admin
from posthouse.accounts import password as passwords
from posthouse.accounts.login import Authenticator, LoginFailure
from posthouse.guard.login_guard import Penalty
from posthouse.kernel.errors import Fault, UserError
from posthouse.store import accounts as rows
from posthouse.store.sqlite.engine import SqliteStore

COST = passwords.Cost(memory_kib=1024, iterations=1)
SECRET = "correct horse battery"


class Inline:
    """Workers that count what they are asked for."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, work: Callable[[], Any]) -> Any:
        self.runs += 1
        return work()


class Chance:
    def token(self, octets: int) -> bytes:
        return bytes(range(octets))


class Guard:
    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []
        self.banned: set[str] = set()

    def is_banned(self, address: str, account: str) -> bool:
        return address in self.banned

    def failed(self, address: str, account: str) -> Penalty:
        self.failures.append((address, account))
        return Penalty(delay_s=1.5)

    def succeeded(self, address: str, account: str) -> None:
        self.failures.clear()


@pytest.fixture
def workers() -> Inline:
    return Inline()


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def authenticator(store: SqliteStore, clock: Any, workers: Inline, guard: Guard) -> Authenticator:
    phc = passwords.derive(SECRET, salt=b"s" * 16, cost=COST)

    def people(tx: Any) -> None:
        ada = admin.known_account(tx, "ada@example.org")
        rows.set_password(tx, ada.id, phc)

    store.write_now(people)
    return Authenticator(
        store, clock=clock, chance=Chance(), workers=workers, guard=guard, cost=COST
    )


async def log_in(authenticator: Authenticator, name: str, password: str, authzid: str = ""):
    return await authenticator.authenticate(
        name=name, password=password, authzid=authzid, peer="192.0.2.9", service="imap"
    )


async def test_the_right_password_logs_in_under_any_spelling(authenticator: Authenticator) -> None:
    for name in ("ada@example.org", "ADA@example.org", "ada@EXAMPLE.org"):
        result = await log_in(authenticator, name, SECRET)
        assert result.principal is not None
        assert result.principal.name == "ada@example.org"


# H59
@pytest.mark.parametrize(
    ("name", "password", "authzid"),
    [
        ("ada@example.org", "wrong", ""),
        ("ada@example.org", "", ""),
        ("nobody@example.org", SECRET, ""),
        ("bob@example.org", SECRET, ""),  # has no password at all
        ("ada@example.org' OR '1'='1", SECRET, ""),
        ("*)(uid=*", SECRET, ""),
        ("ada@example.org", SECRET, "bob@example.org"),
        ("", SECRET, ""),
        ("x" * 100_000, SECRET, ""),
    ],
)
async def test_everything_else_fails_alike_and_costs_one_hash(
    authenticator: Authenticator,
    workers: Inline,
    guard: Guard,
    name: str,
    password: str,
    authzid: str,
) -> None:
    result = await log_in(authenticator, name, password, authzid)
    assert result.principal is None
    assert (result.failure, result.delay_s) == (LoginFailure.WRONG, 1.5)
    assert workers.runs == 1
    assert len(guard.failures) == 1


# H23
async def test_a_disabled_account_fails_like_a_wrong_password(
    authenticator: Authenticator, store: SqliteStore
) -> None:
    def disable(tx: Any) -> None:
        rows.set_disabled(tx, admin.known_account(tx, "ada@example.org").id, is_disabled=True)

    store.write_now(disable)
    assert (await log_in(authenticator, "ada@example.org", SECRET)).failure is LoginFailure.WRONG


async def test_a_verified_login_is_remembered_until_the_password_changes(
    authenticator: Authenticator, store: SqliteStore, workers: Inline
) -> None:
    for _ in range(3):
        assert (await log_in(authenticator, "ada@example.org", SECRET)).principal
    assert workers.runs == 1

    def change(tx: Any) -> None:
        phc = passwords.derive("another secret", salt=b"t" * 16, cost=COST)
        rows.set_password(tx, admin.known_account(tx, "ada@example.org").id, phc)

    store.write_now(change)
    assert (await log_in(authenticator, "ada@example.org", SECRET)).principal is None


# P12
async def test_a_broken_store_is_no_and_not_yes(
    authenticator: Authenticator, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(query: Any) -> None:
        raise Fault("disk on fire")

    monkeypatch.setattr(store, "read", broken)
    result = await log_in(authenticator, "ada@example.org", SECRET)
    assert (result.principal, result.failure) == (None, LoginFailure.TEMPORARY)


async def test_a_banned_peer_is_not_even_tried(
    authenticator: Authenticator, guard: Guard, workers: Inline
) -> None:
    guard.banned.add("192.0.2.9")
    result = await log_in(authenticator, "ada@example.org", SECRET)
    assert (result.failure, workers.runs) == (LoginFailure.BANNED, 0)


async def test_a_weak_hash_is_raised_at_the_next_login(
    store: SqliteStore, authenticator: Authenticator, clock: Any, workers: Inline, guard: Guard
) -> None:
    dearer = passwords.Cost(memory_kib=2048, iterations=1)
    raising = Authenticator(
        store, clock=clock, chance=Chance(), workers=workers, guard=guard, cost=dearer
    )
    assert (await log_in(raising, "ada@example.org", SECRET)).principal
    stored = store.read_now(lambda tx: admin.known_account(tx, "ada@example.org").password)
    assert "m=2048" in stored
    assert passwords.verify(SECRET, stored)


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaa", "Password1234", "x" * 1025])
def test_weak_new_passwords_are_refused_without_showing_them(password: str) -> None:
    with pytest.raises(UserError) as raised:
        passwords.check_new(password)
    assert password not in str(raised.value)


async def test_a_failure_that_begins_a_ban_carries_its_limit(
    authenticator: Authenticator, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    penalty = Penalty(delay_s=2.0, limit="auth.failures.per_day", value=50.0, observed=51.0)
    monkeypatch.setattr(guard, "failed", lambda address, account: penalty)
    result = await log_in(authenticator, "ada@example.org", "wrong")
    assert (result.limit, result.limit_value, result.observed, result.delay_s) == (
        "auth.failures.per_day",
        50.0,
        51.0,
        2.0,
    )
