"""DKIM keys of domains: how they are made and kept, and what mail is signed with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from posthouse.accounts import admin, domain_keys
from posthouse.accounts.domain_keys import ED25519, RSA, DomainKey, KeyState, generate_keys
from posthouse.accounts.sealing import NodeKey
from posthouse.accounts.signers import Signers
from posthouse.kernel.errors import DataUnusable, NotKnown, UserError
from posthouse.mailauth.dkim.sign import NewKey
from posthouse.net.world import SystemChance
from posthouse.observe.log import Log
from posthouse.observe.options import LogFormat, LogOptions
from posthouse.store.sqlite.engine import SqliteStore

DOMAIN = "example.org"


@pytest.fixture(scope="module")
def new() -> tuple[NewKey, ...]:
    return generate_keys((RSA, ED25519), rsa_bits=2048)


@pytest.fixture
def node_key(tmp_path: Path) -> NodeKey:
    return NodeKey(tmp_path / "node.key", SystemChance())


@pytest.fixture
def lines() -> list[bytes]:
    return []


@pytest.fixture
def signers(
    store: SqliteStore, node_key: NodeKey, lines: list[bytes], clock: Any
) -> Iterator[Signers]:
    log = Log(lines.append, unix_us=clock.unix_us, options=LogOptions(format=LogFormat.JSON))
    made = Signers(store, node_key, log=log)
    yield made
    made.close()


Make = Callable[..., tuple[DomainKey, ...]]


@pytest.fixture
def make(store: SqliteStore, node_key: NodeKey, new: tuple[NewKey, ...]) -> Make:
    def made(state: KeyState = KeyState.WAITING, domain: str = DOMAIN) -> tuple[DomainKey, ...]:
        return store.write_now(
            lambda tx: domain_keys.make_keys(tx, domain, new, node_key, state=state)
        )

    return made


def test_a_new_domain_waits_with_a_key_of_each_algorithm(make: Make) -> None:
    keys = make()
    assert [(key.algorithm, key.state) for key in keys] == [
        (RSA, KeyState.WAITING),
        (ED25519, KeyState.WAITING),
    ]
    assert all(re.fullmatch(r"[re]20\d{6}", key.selector) for key in keys)
    assert keys[0].record_name == f"{keys[0].selector}._domainkey.example.org"
    assert keys[0].record.startswith("v=DKIM1; k=rsa; p=")
    assert keys[1].record.startswith("v=DKIM1; k=ed25519; p=")


def test_a_key_that_waits_makes_another_one_needless(make: Make) -> None:
    assert len(make()) == 2
    assert make() == ()


def test_selectors_of_one_day_differ(make: Make) -> None:
    first = make(KeyState.SIGNING)
    second = make()
    assert [key.selector for key in second] == [f"{key.selector}-2" for key in first]


def test_a_domain_that_is_not_ours_gets_no_keys(make: Make) -> None:
    with pytest.raises(NotKnown):
        make(domain="example.net")


def test_a_record_is_recognised_by_its_key_however_it_is_written(make: Make) -> None:
    rsa, ed25519 = make()
    for key in (rsa, ed25519):
        record = key.record
        assert domain_keys.shows(record.encode(), key)
        folded = record.replace("p=", "t=s; n=mine; p=  ").replace("; ", " ;\t")
        assert domain_keys.shows(folded.encode(), key)
    assert domain_keys.shows(rsa.record.removeprefix("v=DKIM1; k=rsa; ").encode(), rsa)
    assert not domain_keys.shows(ed25519.record.encode(), rsa)
    for broken in (
        rsa.record[:-8],  # cut by a web form
        re.sub("p=.*", "p=", rsa.record),
        rsa.record.replace("v=DKIM1", "v=DKIM2"),
        rsa.record.replace("k=rsa", "k=rsa; h=sha1"),
        rsa.record.replace("k=rsa", "k=ed25519"),
        "",
        "v=spf1 -all",
    ):
        assert not domain_keys.shows(broken.encode(), rsa), broken


# The whole file, its log and its blobs: nothing of a private key is in clear.
def test_no_private_key_is_in_the_database_in_clear(
    make: Make, store: SqliteStore, new: tuple[NewKey, ...], tmp_path: Path
) -> None:
    make()
    octets = b"".join(p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file())
    assert all(key.public in octets for key in new), "the search finds what is there"
    for key in new:
        assert key.private not in octets
        private: Any = load_der_private_key(key.private, None)
        if key.algorithm == ED25519:
            assert private.private_bytes_raw() not in octets
        else:
            numbers = private.private_numbers()
            for number in (numbers.d, numbers.p, numbers.q):
                assert number.to_bytes((number.bit_length() + 7) // 8) not in octets


def test_a_key_shows_nothing_of_its_private_half(
    make: Make, new: tuple[NewKey, ...], store: SqliteStore, node_key: NodeKey
) -> None:
    for key, fresh in zip(make(), new, strict=True):
        signing = store.read_now(lambda tx, key=key: domain_keys.signing_key(tx, key, node_key))
        for text in (repr(key), repr(fresh), repr(signing), str(signing)):
            assert fresh.private.hex() not in text
            assert repr(fresh.private)[2:40] not in text


async def test_signers_have_the_keys_that_sign_and_hear_of_changes(
    make: Make, store: SqliteStore, signers: Signers
) -> None:
    await signers.refresh()
    assert signers.keys_for(DOMAIN) == ()
    make()
    await signers.refresh()
    assert signers.keys_for(DOMAIN) == (), "a key that waits signs nothing"
    store.write_now(lambda tx: admin.add_domain(tx, "example.net"))
    made = make(KeyState.SIGNING, "example.net")
    await caught_up(signers)
    assert [key.selector for key in signers.keys_for("example.net")] == [
        key.selector for key in made
    ]
    kept = signers.keys_for("example.net")
    await signers.refresh()
    assert [a is b for a, b in zip(kept, signers.keys_for("example.net"))] == [True, True]
    store.write_now(lambda tx: admin.remove_domain(tx, "example.net"))
    await caught_up(signers)
    assert signers.keys_for("example.net") == ()


async def caught_up(signers: Signers) -> None:
    assert signers._refreshing is not None
    await signers._refreshing


async def test_a_server_without_its_node_key_says_so_before_it_signs_nothing(
    make: Make, node_key: NodeKey, signers: Signers
) -> None:
    make(KeyState.SIGNING)
    node_key.path.unlink()
    node_key._cipher = None
    with pytest.raises(DataUnusable, match="is missing"):
        await signers.refresh()


async def test_a_key_that_another_node_key_sealed_is_left_out_and_told_once(
    make: Make, node_key: NodeKey, signers: Signers, lines: list[bytes]
) -> None:
    make(KeyState.SIGNING)
    node_key.path.unlink()
    node_key._cipher = None
    node_key.renew()
    await signers.refresh()
    await signers.refresh()
    assert signers.keys_for(DOMAIN) == ()
    told = [line for line in lines if b'"key.unusable"' in line]
    assert len(told) == 2, "once for each key"
    assert b"another key sealed it" in told[0]


def test_a_lost_node_key_ends_what_it_sealed_and_new_keys_wait(
    make: Make, store: SqliteStore, node_key: NodeKey
) -> None:
    make(KeyState.SIGNING)
    make()
    node_key.path.unlink()
    node_key._cipher = None
    with pytest.raises(UserError, match="is missing"):
        make(KeyState.SIGNING)
    node_key.renew()
    store.write_now(lambda tx: domain_keys.give_up_sealed(tx, DOMAIN))
    made = make()
    states = [key.state for key in store.read_now(lambda tx: domain_keys.keys(tx, DOMAIN))]
    retired, revoked, waiting = KeyState.RETIRED, KeyState.REVOKED, KeyState.WAITING
    assert states == [retired, retired, revoked, revoked, waiting, waiting]
    assert store.read_now(lambda tx: domain_keys.signing_key(tx, made[0], node_key))


def test_keys_go_with_their_domain(make: Make, store: SqliteStore) -> None:
    store.write_now(lambda tx: admin.add_domain(tx, "example.net"))
    make(domain="example.net")
    store.write_now(lambda tx: admin.remove_domain(tx, "example.net"))
    assert store.read_now(lambda tx: tx.all("SELECT id FROM domain_key")) == []
