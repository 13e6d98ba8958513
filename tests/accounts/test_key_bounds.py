"""What strangers' mail may fill of the key store, and what has to find room there all the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from posthouse.accounts import mail_keys
from posthouse.accounts.mail_keys import SAID_MAX, KeyMaterial, MailKey, Source
from posthouse.mimesec.findings import Scheme
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import Transaction

BOB = "bob@example.net"
MATERIAL = KeyMaterial(
    scheme=Scheme.OPENPGP, fingerprint="", addresses=(), public=b"key", expires_at=None
)


class Strangers:
    def __init__(self, store: Any) -> None:
        self._store = store

    def add(
        self, name: str, source: Source, *, address: str = "", **changes: Any
    ) -> MailKey | None:
        given = msgspec.structs.replace(
            MATERIAL,
            fingerprint=name,
            addresses=(address or f"{name}@far.example",),
            scheme=Scheme.SMIME if source is Source.LEARNT else Scheme.OPENPGP,
            **changes,
        )
        is_trusted = source not in (Source.AUTOCRYPT, Source.LEARNT)
        kept: MailKey | None = self._store.write_now(
            lambda tx: mail_keys.add_found(tx, given, source=source, is_trusted=is_trusted)
        )
        return kept

    def revoke(self, name: str) -> None:
        """By its issuer, where the certificate may have never been seen."""
        given = msgspec.structs.replace(
            MATERIAL, fingerprint=name, addresses=(BOB,), scheme=Scheme.SMIME
        )
        self._store.write_now(
            lambda tx: mail_keys.note_revoked(tx, fingerprints=[name], unknown=[given])
        )

    @property
    def kept(self) -> str:
        """Their names, in the order they came."""
        found = self._store.read_now(lambda tx: mail_keys.all_keys(tx, limit=100))
        return "".join(one.fingerprint for one in found)

    def of(self, address: str) -> str:
        """The best first."""
        found = self._store.read_now(lambda tx: mail_keys.by_address(tx, address))
        return "".join(one.fingerprint for one in found)


@pytest.fixture
def strangers(store: Any, monkeypatch: pytest.MonkeyPatch) -> Strangers:
    """Of whom four have room, and four that are revoked."""
    monkeypatch.setattr(mail_keys, "STRANGERS_MAX", 4)
    monkeypatch.setattr(mail_keys, "REVOKED_MAX", 4)
    return Strangers(store)


@pytest.mark.parametrize("source", [Source.WKD, Source.DNS, Source.LEARNT, Source.AUTOCRYPT])
def test_a_full_store_lets_go_what_was_only_said_and_not_seen_for_longest(
    strangers: Strangers, source: Source
) -> None:
    for name in "abcd":
        strangers.add(name, Source.AUTOCRYPT)
    strangers.add("a", Source.AUTOCRYPT)  # seen again
    assert strangers.add("e", source) is not None
    assert strangers.kept == "acde"


def test_what_is_only_said_pushes_out_nothing_better(strangers: Strangers) -> None:
    for name, source in zip("abcd", (Source.LEARNT, Source.WKD, Source.DNS, Source.WKD)):
        strangers.add(name, source)
    assert strangers.add("e", Source.AUTOCRYPT) is None
    assert strangers.kept == "abcd"
    strangers.add("f", Source.LEARNT)
    assert strangers.kept == "acdf"  # whose domain can be asked again goes first
    for name in "ghi":
        strangers.add(name, Source.LEARNT)
    assert strangers.kept == "fghi"
    assert strangers.add("j", Source.DNS) is not None  # it was asked for
    assert strangers.kept == "ghij"


def test_what_a_person_imports_has_room_and_takes_none(strangers: Strangers) -> None:
    for name in "abcd":
        strangers.add(name, Source.LEARNT)
    for name in "efghi":
        assert strangers.add(name, Source.IMPORTED) is not None
    assert strangers.kept == "abcdefghi"
    strangers.add("j", Source.WKD)
    assert strangers.kept == "bcdefghij"


def test_what_is_revoked_is_remembered_however_full_the_store_is(strangers: Strangers) -> None:
    for name in "abcd":
        strangers.add(name, Source.LEARNT)
    strangers.revoke("e")  # nobody saw it before
    strangers.revoke("b")
    for name in "fghijk":
        strangers.add(name, Source.LEARNT)
    assert strangers.kept == "behijk"


def test_revoked_keys_are_bounded_too_and_an_authority_s_word_stays_longest(
    strangers: Strangers,
) -> None:
    strangers.revoke("a")
    for name in "bcdefg":
        strangers.add(name, Source.AUTOCRYPT)
        strangers.add(name, Source.AUTOCRYPT, is_revoked=True)
    assert strangers.kept == "aefg"
    strangers.revoke("h")
    assert strangers.kept == "afgh"


@pytest.mark.parametrize("source", [Source.AUTOCRYPT, Source.LEARNT])
def test_of_the_keys_that_mail_names_for_an_address_the_last_ones_are_kept(
    store: Any, source: Source
) -> None:
    strangers = Strangers(store)
    better = Source.WKD if source is Source.AUTOCRYPT else Source.DNS
    strangers.add("W", better, address=BOB)
    strangers.add("o", source, address="other@example.net", said_at=1)
    strangers.add("o", source, address=BOB, said_at=2)
    strangers.add("z", source, address=BOB, said_at=100)  # the one in use
    for at, name in enumerate("abcdefgh", 10):
        strangers.add(name, source, address=BOB, said_at=at)
    assert strangers.of(BOB) == "Wzhgfe" and SAID_MAX == 5
    assert strangers.of("other@example.net") == "o"
    assert strangers.add("x", source, address=BOB, said_at=5) is None
    assert len(strangers.kept) == 7


def test_somebody_who_revokes_a_key_each_day_is_remembered_by_the_last_ones(store: Any) -> None:
    strangers = Strangers(store)
    strangers.add("z", Source.AUTOCRYPT, address=BOB, said_at=1)
    for at, name in enumerate("abcdefgh", 10):
        strangers.add(name, Source.AUTOCRYPT, address=BOB, said_at=at, is_revoked=True)
    assert sorted(strangers.of(BOB)) == sorted("zhgfed")
    for name in "ABCDEFGH":
        strangers.revoke(name)
    assert len(strangers.of(BOB)) == 6 + 8


@pytest.mark.parametrize("is_revoked", [True, False])
def test_counting_and_letting_go_read_an_index_alone(store: Any, is_revoked: bool) -> None:
    """They are asked with each new key, of 200,000."""
    asked: list[tuple[str, Any]] = []

    class Asked:
        def one(self, sql: str, bound: Any = ()) -> None:
            asked.append((sql, bound))

    seen: Any = Asked()
    rows.count_strangers(seen, ["wkd", "dns"], is_revoked=is_revoked)
    rows.longest_kept(seen, "wkd", is_revoked=is_revoked, but=7)
    for sql, bound in asked:

        def explain(tx: Transaction, sql: str = sql, bound: Any = bound) -> str:
            return str(tx.all(f"EXPLAIN QUERY PLAN {sql}", bound))

        plan = store.read_now(explain)
        assert "COVERING INDEX mail_key_owner" in plan and "TEMP B-TREE" not in plan
