"""Who an address is: RFC 5321 §4.5.1 (postmaster), RFC 5233 (subaddress), aliases, catch-alls."""

from __future__ import annotations

import pytest

from posthouse.accounts import admin
from posthouse.accounts.directory import Directory, Options, Standing, look_up
from posthouse.accounts.rights import may_send_as
from posthouse.kernel.envelope import Address
from posthouse.kernel.errors import UserError
from posthouse.message.address import parse_mailbox
from posthouse.store import accounts as rows
from posthouse.store.sqlite.engine import SqliteStore
from posthouse.store.transaction import DirectoryChanged

OPTIONS = Options(own_literals=frozenset({"[192.0.2.1]"}))


def plain_alias(tx, address: str, target: str) -> None:
    """An alias as it may have become, without what is checked when one is made."""
    parsed = admin.parse_typed(address)
    domain = admin.known_domain(tx, parsed.domain)
    rows.add_alias(tx, domain.id, parsed.local_part, target)
    tx.changed(DirectoryChanged())


def add_account(tx, address: str) -> None:
    admin.add_account(tx, address, password_hash=None, quota_octets=None)


def find(store: SqliteStore, text: str, options: Options = OPTIONS):
    address = Address("postmaster", "") if text == "postmaster" else parse_mailbox(text)
    return store.read_now(lambda tx: look_up(tx, address, options))


def names(store: SqliteStore, text: str) -> list[str]:
    return [target.name for target in find(store, text).local]


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("ada@example.org", "ada@example.org"),
        ("ADA@Example.ORG", "ada@example.org"),
        ("ada+lists@example.org", "ada@example.org"),
        ('"ada+../../etc/x"@example.org', "ada@example.org"),  # H19: the tag is data
        ('"ada+$(id)"@example.org', "ada@example.org"),
        ("zoë@bücher.example", "zoë@xn--bcher-kva.example"),
        ("zoe\u0308@xn--bcher-kva.example", "zoë@xn--bcher-kva.example"),  # NFD, H49
        ("postmaster@example.org", "ada@example.org"),
        ("PostMaster@xn--bcher-kva.example", "zoë@xn--bcher-kva.example"),
        ("postmaster", "ada@example.org"),
        ("postmaster@[192.0.2.1]", "ada@example.org"),
    ],
)
def test_addresses_that_are_an_accounts(store: SqliteStore, address: str, account: str) -> None:
    assert names(store, address) == [account]


@pytest.mark.parametrize(
    ("address", "standing"),
    [
        ("nobody@example.org", Standing.UNKNOWN),
        ("ada@elsewhere.example", Standing.FOREIGN),
        ("ada%elsewhere.example@example.org", Standing.UNKNOWN),  # H17
        ('"ada@elsewhere.example"@example.org', Standing.UNKNOWN),
        ("ada@[192.0.2.1]", Standing.UNKNOWN),
        ("ada@[192.0.2.2]", Standing.FOREIGN),
        ('""@example.org', Standing.UNKNOWN),  # H18
        ('"a b"@example.org', Standing.UNKNOWN),
        ("+ada@example.org", Standing.UNKNOWN),
    ],
)
def test_addresses_that_are_nobodys(store: SqliteStore, address: str, standing: Standing) -> None:
    assert find(store, address).standing is standing


def test_without_a_separator_there_are_no_tags(store: SqliteStore) -> None:
    options = Options(subaddress_separator="")
    (found,) = find(store, "ada@example.org", options).local
    assert found.name == "ada@example.org"
    assert find(store, "ada+x@example.org", options).standing is Standing.UNKNOWN

    def may(tx, text: str) -> bool:
        return may_send_as(tx, found.account, parse_mailbox(text), subaddress_separator="")

    assert store.read_now(
        lambda tx: (may(tx, "ada@example.org"), may(tx, "ada+x@example.org"))
    ) == (
        True,
        False,
    )


def test_an_alias_reaches_all_its_ends_once(store: SqliteStore) -> None:
    def aliases(tx) -> None:
        admin.add_alias(tx, "team@example.org", "ada@example.org")
        plain_alias(tx, "team@example.org", "all@example.org")
        admin.add_alias(tx, "all@example.org", "ada@example.org")
        admin.add_alias(tx, "all@example.org", "bob@example.org")
        admin.add_alias(tx, "all@example.org", "guest@elsewhere.example")

    store.write_now(aliases)
    found = find(store, "team@example.org")
    assert [t.name for t in found.local] == ["ada@example.org", "bob@example.org"]
    assert found.remote == (Address("guest", "elsewhere.example"),)
    assert found.via == ("alias team@example.org", "alias all@example.org")


def test_aliases_in_a_circle_end(store: SqliteStore) -> None:
    def aliases(tx) -> None:
        plain_alias(tx, "one@example.org", "two@example.org")
        plain_alias(tx, "two@example.org", "one@example.org")
        admin.add_alias(tx, "two@example.org", "bob@example.org")

    store.write_now(aliases)
    assert names(store, "one@example.org") == ["bob@example.org"]


def test_aliases_that_go_too_deep_are_an_administrators_mistake(store: SqliteStore) -> None:
    def aliases(tx) -> None:
        for n in range(12):
            plain_alias(tx, f"a{n}@example.org", f"a{n + 1}@example.org")

    store.write_now(aliases)
    assert find(store, "a0@example.org").standing is Standing.LOOPING
    few = Options(members_max=3)
    assert find(store, "a9@example.org", few).standing is Standing.LOOPING


def test_a_catch_all_takes_what_nobody_else_does(store: SqliteStore) -> None:
    store.write_now(lambda tx: admin.set_catch_all(tx, "example.org", "bob@example.org"))
    assert names(store, "whoever@example.org") == ["bob@example.org"]
    assert names(store, "ada@example.org") == ["ada@example.org"]
    store.write_now(lambda tx: admin.set_catch_all(tx, "example.org", None))
    assert find(store, "whoever@example.org").standing is Standing.UNKNOWN


async def test_the_directory_forgets_when_something_changed(store: SqliteStore) -> None:
    directory = Directory(store, OPTIONS)
    new = Address("new", "example.org")
    assert (await directory.look_up(new)).standing is Standing.UNKNOWN
    assert directory.known(new) is not None
    store.write_now(lambda tx: admin.add_alias(tx, "new@example.org", "bob@example.org"))
    assert directory.known(new) is None
    assert (await directory.look_up(new)).standing is Standing.LOCAL


@pytest.mark.parametrize(
    ("sender", "is_allowed"),
    [
        ("ada@example.org", True),
        ("Ada+news@EXAMPLE.org", True),
        ("bob@example.org", False),
        ("team@example.org", True),
        ("others@example.org", False),
        ("ada@elsewhere.example", False),
    ],
)
def test_an_account_sends_as_its_own_addresses_and_aliases_only(
    store: SqliteStore, sender: str, is_allowed: bool
) -> None:
    def check(tx) -> bool:
        admin.add_alias(tx, "team@example.org", "ada@example.org")
        admin.add_alias(tx, "others@example.org", "bob@example.org")
        account = admin.known_account(tx, "ada@example.org").id
        return may_send_as(tx, account, parse_mailbox(sender))

    assert store.write_now(check) is is_allowed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tx: admin.add_domain(tx, "example.org"), "there already"),
        (lambda tx: admin.add_domain(tx, "a b"), "not a domain"),
        (lambda tx: admin.add_account(tx, "x", password_hash=None, quota_octets=None), "address"),
        (
            lambda tx: admin.add_account(
                tx, "x@nowhere.example", password_hash=None, quota_octets=None
            ),
            "not known here",
        ),
        (
            lambda tx: admin.add_account(
                tx, "\uff41da@example.org", password_hash=None, quota_octets=None
            ),
            "looks the same",
        ),  # H49: full-width a
        (lambda tx: add_account(tx, "аda@example.org"), "mixes Cyrillic and Latin"),  # H49
        (lambda tx: add_account(tx, "bοb@example.org"), "mixes Latin and Greek"),  # H49
        (lambda tx: add_account(tx, "bob\u200b@example.org"), "looks the same"),  # H49
        (lambda tx: add_account(tx, "zоё@bücher.example"), "mixes"),  # H49
        (lambda tx: add_account(tx, "zoe\u0308@bücher.example"), "there already"),  # H49: NFD
        (lambda tx: admin.add_alias(tx, "ada@example.org", "bob@example.org"), "is an account"),
        (lambda tx: admin.add_alias(tx, "x@example.org", "x@example.org"), "own target"),
        (lambda tx: admin.remove_alias(tx, "x@example.org", None), "no such alias"),
        (lambda tx: admin.remove_domain(tx, "example.org"), "2 account"),
        (lambda tx: admin.known_account(tx, "no@example.org"), "no account"),
    ],
)
def test_mistakes_of_administrators_are_named_in_words(
    store: SqliteStore, change, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        store.write_now(change)


# H49: whole words in another script, and names of one script that look like nobody's
def test_accounts_drawn_alike_in_another_script_are_refused(store: SqliteStore) -> None:
    for name in (
        "coco@example.org",
        "иван@example.org",
        "καλημερα@example.org",
        "日本a@example.org",
    ):
        store.write_now(lambda tx, name=name: add_account(tx, name))
    for name in ("сосо@example.org", "СОСО@example.org"):
        with pytest.raises(UserError, match=r"looks the same as the account coco@example\.org"):
            store.write_now(lambda tx, name=name: add_account(tx, name))
    # In another domain it is another address, and nobody mistakes the domains.
    store.write_now(lambda tx: add_account(tx, "сосо@bücher.example"))


async def test_the_postmaster_of_our_host_name_is_reached_and_nobody_else_there(
    store: SqliteStore,
) -> None:  # RFC 5321 §4.5.1
    options = Options(host="mail.example.org")
    asked = [Address("PostMaster", "mail.example.org"), Address("you", "mail.example.org")]
    postmaster, other = await store.read(lambda tx: [look_up(tx, one, options) for one in asked])
    assert (postmaster.standing, len(postmaster.local)) == (Standing.LOCAL, 1)
    assert other.standing is Standing.FOREIGN
