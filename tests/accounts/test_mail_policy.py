"""What is said about protecting mail: the account before its domain, in words."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.accounts import admin
from posthouse.accounts.mail_policy import (
    NOTHING,
    MailPolicy,
    Mode,
    owner,
    parse_mode,
    policy_of,
    said_by,
    set_policy,
)
from posthouse.kernel.errors import UserError
from posthouse.mimesec.findings import Scheme
from posthouse.store import accounts, mail_keys
from posthouse.store.transaction import Transaction


def policy(tx: Transaction) -> MailPolicy:
    account, _ = owner(tx, "ada@example.org")
    assert account is not None
    return policy_of(tx, account)


async def test_nothing_said_is_never(store: Any) -> None:
    assert await store.submit(policy) == NOTHING


async def test_an_account_is_asked_before_its_domain(store: Any) -> None:
    def say(tx: Transaction) -> MailPolicy:
        set_policy(tx, "example.org", sign=Mode.ALWAYS, encrypt=Mode.WHEN_POSSIBLE)
        set_policy(tx, "ada@example.org", scheme="openpgp", sign=Mode.NEVER)
        return policy(tx)

    assert await store.submit(say) == MailPolicy(
        scheme=Scheme.OPENPGP, sign=Mode.NEVER, encrypt=Mode.WHEN_POSSIBLE
    )


async def test_what_is_not_named_stays_as_it_was(store: Any) -> None:
    def say(tx: Transaction) -> mail_keys.PolicyRow:
        set_policy(tx, "ada@example.org", scheme="smime", at_rest=Mode.ALWAYS)
        set_policy(tx, "ada@example.org", scheme="", open=Mode.WHEN_POSSIBLE)
        return said_by(tx, "ada@example.org")

    assert await store.submit(say) == mail_keys.PolicyRow(
        at_rest="always or refuse", open="when possible"
    )


async def test_nobody_of_that_name_is_an_error_that_says_so(store: Any) -> None:
    for whom in ("eve@example.org", "example.net", "nonsense@"):
        with pytest.raises(UserError):
            await store.submit(lambda tx, whom=whom: set_policy(tx, whom, sign=Mode.ALWAYS))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("never", Mode.NEVER),
        ("when-possible", Mode.WHEN_POSSIBLE),
        ("When Possible", Mode.WHEN_POSSIBLE),
        ("always", Mode.ALWAYS),
        ("always or refuse", Mode.ALWAYS),
    ],
)
def test_modes_are_typed_in_words(text: str, mode: Mode) -> None:
    assert parse_mode(text) is mode


def test_an_unknown_word_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError) as caught:
        parse_mode("sometimes")
    assert "always or refuse" in caught.value.hint


def add_key(tx: Transaction, fingerprint: str, **owned: Any) -> int:
    return mail_keys.add(
        tx,
        scheme="openpgp",
        fingerprint=fingerprint,
        account=owned.get("account"),
        domain=owned.get("domain"),
        source="made",
        is_trusted=True,
        public=b"public",
        private=b"sealed",
        revocation=None,
        expires_at=None,
        addresses=("ada@example.org",),
    )


async def test_keys_and_policy_leave_with_their_owner(store: Any) -> None:
    def leave(tx: Transaction) -> tuple[list[str], bool]:
        account, _ = owner(tx, "ada@example.org")
        _, domain = owner(tx, "example.org")
        assert account is not None and domain is not None
        add_key(tx, "A1", account=account)
        add_key(tx, "B2", domain=domain)
        add_key(tx, "C3")
        set_policy(tx, "ada@example.org", sign=Mode.ALWAYS)
        set_policy(tx, "example.org", sign=Mode.ALWAYS)
        accounts.remove_account(tx, account)
        accounts.remove_account(tx, admin.known_account(tx, "bob@example.org").id)
        accounts.remove_domain(tx, domain)
        left = [key.fingerprint for key in mail_keys.by_address(tx, "ada@example.org")]
        return left, mail_keys.has_policies(tx)

    assert await store.submit(leave) == (["C3"], False)


async def test_a_key_knows_its_addresses_and_what_is_at_hand_of_it(store: Any) -> None:
    def ask(tx: Transaction) -> mail_keys.MailKeyRow | None:
        key = add_key(tx, "A1")
        mail_keys.set_addresses(tx, key, ("ada@example.org", "a.l@example.org"))
        return mail_keys.by_fingerprint(tx, "openpgp", "A1")

    row = await store.submit(ask)
    assert row.addresses == ("a.l@example.org", "ada@example.org")
    assert row.has_private and row.account is None and row.revoked_at is None


async def test_what_was_not_found_is_not_looked_for_until_then(store: Any) -> None:
    def look(tx: Transaction) -> tuple[int | None, int | None]:
        later = tx.now_us() + 1_000_000
        mail_keys.set_missed(tx, "bob@example.net", later)
        found = mail_keys.missed_until(tx, "bob@example.net")
        mail_keys.forget_miss(tx, "bob@example.net")
        return (found or 0) - later, mail_keys.missed_until(tx, "bob@example.net")

    assert await store.submit(look) == (0, None)
