"""The key store: whose key is whose, what is sealed, and what strangers' keys may change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from posthouse.accounts import admin, key_choice, mail_keys
from posthouse.accounts.mail_keys import KeyMaterial, MailKey, Source
from posthouse.accounts.mail_policy import owner
from posthouse.accounts.sealing import NodeKey, SealBroken
from posthouse.kernel.errors import DataUnusable, NotKnown, UserError
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.make import make_key, revoked_by, with_end
from posthouse.net.world import SystemChance
from posthouse.store import mail_keys as rows
from posthouse.store.transaction import Transaction

ADA = KeyMaterial(
    scheme=Scheme.OPENPGP,
    fingerprint="A" * 38 + "01",
    addresses=("Ada@example.org", "ada@bücher.example"),
    public=b"public",
    private=b"the private half",
    revocation=b"the revocation",
    expires_at=2_000_000_000_000_000,
)
BOB = KeyMaterial(
    scheme=Scheme.SMIME,
    fingerprint="B" * 64,
    addresses=("bob@example.net",),
    public=b"certificate",
    expires_at=None,
)


@pytest.fixture
def store(store: Any) -> Any:
    """With a second address of Ada's."""
    store.write_now(lambda tx: admin.add_alias(tx, "ada@bücher.example", "ada@example.org"))
    return store


@pytest.fixture
def node_key(tmp_path: Path) -> NodeKey:
    return NodeKey(tmp_path / "node.key", SystemChance())


def add(store: Any, node_key: NodeKey, whom: str = "ada@example.org", **changes: Any) -> MailKey:
    material = msgspec.structs.replace(ADA, **changes)
    key: MailKey = store.write_now(
        lambda tx: mail_keys.add_own(tx, whom, material, node_key, source=Source.IMPORTED)
    )
    return key


def test_an_own_key_is_found_by_its_addresses_and_its_private_half_is_sealed(
    store: Any, node_key: NodeKey
) -> None:
    key = add(store, node_key)
    assert key.is_own and key.is_trusted and key.has_private
    assert key.addresses == ("ada@example.org", "ada@xn--bcher-kva.example")

    def look(tx: Transaction) -> tuple[Any, ...]:
        sealed = rows.sealed_private(tx, key.id)
        assert sealed is not None and b"private half" not in sealed
        return (
            mail_keys.by_address(tx, "ADA@bücher.example"),
            mail_keys.private_half(tx, key, node_key),
            mail_keys.revocation(tx, key, node_key),
            mail_keys.owner_name(tx, key),
        )

    assert store.write_now(look) == ((key,), ADA.private, ADA.revocation, "ada@example.org")


def test_another_node_key_opens_nothing(store: Any, node_key: NodeKey, tmp_path: Path) -> None:
    key = add(store, node_key)
    other = NodeKey(tmp_path / "other.key", SystemChance())
    other.open(sealed=0)
    with pytest.raises(SealBroken):
        store.write_now(lambda tx: mail_keys.private_half(tx, key, other))


def test_a_sealed_half_opens_for_its_own_key_only(store: Any, node_key: NodeKey) -> None:
    first, second = add(store, node_key), add(store, node_key, fingerprint="C" * 40)

    def swap(tx: Transaction) -> bytes:
        sealed = rows.sealed_private(tx, first.id)
        assert sealed is not None
        rows.set_private(tx, second.id, sealed, None)
        return mail_keys.private_half(tx, second, node_key)

    with pytest.raises(SealBroken):
        store.write_now(swap)


def test_a_lost_node_key_is_told_and_not_made_anew(
    store: Any, node_key: NodeKey, tmp_path: Path
) -> None:
    add(store, node_key)
    node_key.path.unlink()
    again = NodeKey(node_key.path, SystemChance())
    with pytest.raises(DataUnusable):
        add(store, again, fingerprint="D" * 40)
    assert not node_key.path.exists()


def test_a_key_that_names_somebody_else_is_refused(store: Any, node_key: NodeKey) -> None:
    with pytest.raises(UserError, match=r"names ada@example\.org"):
        add(store, node_key, "bob@example.org")
    assert add(store, node_key, "example.org").domain is not None  # a gateway's: any of the domain
    with pytest.raises(UserError, match="another owner's"):
        add(store, node_key, "ada@example.org")


def count_for(store: Any, address: str) -> list[str]:
    """Fingerprints of the keys that count for an address, in their order."""
    found = store.read_now(lambda tx: mail_keys.by_address(tx, address))
    return [one.fingerprint for one in found]


def test_a_key_counts_for_the_addresses_of_its_owner_whomever_it_names(
    store: Any, node_key: NodeKey
) -> None:
    store.write_now(lambda tx: admin.add_alias(tx, "team@example.org", "bob@example.org"))
    others = ("bob@example.org", "team@example.org", "ceo@bank.example", "nobody@example.org")
    own = ("ada@example.org", "ada+lists@example.org", "ada@bücher.example")
    key = add(store, node_key, addresses=(*others, *own))
    assert set(key.addresses) == set(map(mail_keys.fold_address, own))
    assert all(count_for(store, one) == [key.fingerprint] for one in own)
    assert not any(count_for(store, one) for one in others)
    alias_only = add(store, node_key, fingerprint="C" * 40, addresses=(own[2], others[0]))
    assert alias_only.addresses == (mail_keys.fold_address(own[2]),)
    with pytest.raises(UserError, match="the key names bob@example"):
        add(store, node_key, fingerprint="D" * 40, addresses=others)


def test_a_tag_is_divided_by_what_the_server_says(store: Any, node_key: NodeKey) -> None:
    material = msgspec.structs.replace(ADA, addresses=("ada+x@example.org", "ada-x@example.org"))

    def kept(separator: str) -> tuple[str, ...]:
        key: MailKey = store.write_now(
            lambda tx: mail_keys.add_own(
                *(tx, "ada@example.org", material, node_key),
                source=Source.IMPORTED,
                separator=separator,
            )
        )
        return key.addresses

    for separator in "+-":
        address = f"ada{separator}x@example.org"
        assert kept(separator) == (address,)
        assert count_for(store, address) == [ADA.fingerprint]
    with pytest.raises(UserError):
        kept("")


def test_a_gateway_key_counts_in_its_domain_and_after_an_account_s_own(
    store: Any, node_key: NodeKey
) -> None:
    gateway = add(store, node_key, "bücher.example", addresses=(*ADA.addresses, "x@far.example"))
    assert gateway.addresses == ("ada@xn--bcher-kva.example",)
    assert count_for(store, "ada@example.org") == []
    own = "0" * 40
    add(store, node_key, fingerprint=own)
    add(store, node_key, "bücher.example", fingerprint="1" * 40)
    assert count_for(store, "ada@bücher.example") == [own, "1" * 40, gateway.fingerprint]


def test_a_key_counts_for_an_address_while_it_is_its_owner_s(store: Any, node_key: NodeKey) -> None:
    alias, folded = "ada@bücher.example", "ada@xn--bcher-kva.example"
    key = add(store, node_key)
    store.write_now(lambda tx: mail_keys.publish(tx, key, is_published=True))

    def shown() -> list[tuple[str, ...]]:
        found = store.read_now(lambda tx: mail_keys.published(tx, Scheme.OPENPGP, limit=9))
        return [one.addresses for one in found]

    assert count_for(store, alias) == [key.fingerprint] and shown() == [key.addresses]

    def move(tx: Transaction) -> None:
        admin.remove_alias(tx, alias, None)
        admin.add_alias(tx, alias, "bob@example.org")

    store.write_now(move)
    assert count_for(store, alias) == [] and shown() == [("ada@example.org",)]
    assert count_for(store, "ada@example.org") == [key.fingerprint]
    assert store.read_now(lambda tx: key_choice.by_name(tx, alias)).id == key.id  # to be revoked

    def become_an_account(tx: Transaction) -> None:
        admin.remove_alias(tx, alias, None)
        admin.add_account(tx, alias, password_hash=None, quota_octets=None)

    store.write_now(become_an_account)
    assert count_for(store, alias) == [] and folded in key.addresses
    other = add(store, node_key, alias, fingerprint="E" * 40)
    assert count_for(store, alias) == [other.fingerprint]
    store.write_now(lambda tx: mail_keys.revoke(tx, key))
    assert count_for(store, alias) == [other.fingerprint, key.fingerprint]  # known as such


def test_found_keys_are_ordered_by_what_their_owners_said_last(store: Any) -> None:
    """Not by when it came here, which whoever sends an old letter again may choose."""
    hour = 3_600_000_000
    now = store.read_now(lambda tx: tx.now_us())

    def learn(fingerprint: str, hours: int, *, reads: tuple[str, ...] = ()) -> None:
        said = msgspec.structs.replace(
            BOB, fingerprint=fingerprint * 64, said_at=now + hours * hour, reads=reads
        )
        store.write_now(
            lambda tx: mail_keys.add_found(tx, said, source=Source.LEARNT, is_trusted=False)
        )

    def order() -> str:
        return "".join(one[0] for one in count_for(store, "bob@example.net"))

    learn("B", -4, reads=("aes256-GCM",))
    learn("A", -8)
    assert order() == "BA"
    learn("A", -8)
    learn("B", -9, reads=("aes128-CBC",))
    assert order() == "BA"
    learn("B", -3)  # says nothing of what it reads
    (first, _) = store.read_now(lambda tx: mail_keys.by_address(tx, "bob@example.net"))
    assert first.reads == ("aes256-GCM",) and first.said_at == now - 3 * hour
    learn("A", -2)
    assert order() == "AB"

    def vouch(tx: Transaction) -> None:
        mail_keys.add_found(
            tx,
            msgspec.structs.replace(BOB, fingerprint="D" * 64),
            source=Source.DNS,
            is_trusted=True,
        )

    store.write_now(vouch)
    assert order() == "DAB"
    learn("D", -1)
    assert order() == "DAB"


def test_where_a_key_came_from_is_who_brought_it_last_here(store: Any, node_key: NodeKey) -> None:
    def source_after(source: Source) -> Source:
        key: MailKey = store.write_now(
            lambda tx: mail_keys.add_own(tx, "ada@example.org", ADA, node_key, source=source)
        )
        return key.source

    found = msgspec.structs.replace(ADA, private=None, revocation=None)
    store.write_now(
        lambda tx: mail_keys.add_found(tx, found, source=Source.AUTOCRYPT, is_trusted=False)
    )
    assert source_after(Source.SUBMITTED) is Source.SUBMITTED
    assert source_after(Source.IMPORTED) is Source.IMPORTED
    assert source_after(Source.SUBMITTED) is Source.IMPORTED  # sent in, it is no less ours


def test_what_is_no_tag_counts_no_more_once_its_alias_is_gone(
    store: Any, node_key: NodeKey
) -> None:
    alias = "ada.press@example.org"
    store.write_now(lambda tx: admin.add_alias(tx, alias, "ada@example.org"))
    key = add(store, node_key, addresses=("ada@example.org", alias))
    assert count_for(store, alias) == [key.fingerprint]
    store.write_now(lambda tx: admin.remove_alias(tx, alias, None))
    assert count_for(store, alias) == [] and count_for(store, "ada@example.org") != []


def test_the_same_key_again_adds_what_is_new_of_it(store: Any, node_key: NodeKey) -> None:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    made, revocation = make_key(["ada@example.org"], at=an_hour_ago, days=30)
    first, public = of(made.public, made.octets), made.public
    key = add_material(store, node_key, first)
    later = with_end(made, at=public.created_at + timedelta(days=90)).public
    again = add_material(store, node_key, of(later))
    assert again.id == key.id and again.has_private
    assert again.expires_at == int(later.expires_at.timestamp() * 1e6)  # type: ignore[union-attr]
    revoked = add_material(store, node_key, of(revoked_by(public, revocation)))
    assert revoked.revoked_at is not None


def test_whoever_shows_an_older_state_of_a_key_takes_nothing_away(
    store: Any, node_key: NodeKey
) -> None:
    made, revocation = make_key(["eve@x.example"], at=datetime.now(UTC), days=30)

    def found(tx: Transaction) -> MailKey | None:
        revoked = of(revoked_by(made.public, revocation))
        mail_keys.add_found(tx, revoked, source=Source.WKD, is_trusted=True)
        return mail_keys.add_found(tx, of(made.public), source=Source.WKD, is_trusted=True)

    key = store.write_now(found)
    assert key.revoked_at is not None and PublicKey(key.public).is_revoked


def test_trust_is_given_for_the_address_that_was_asked_for(store: Any) -> None:
    """A key that a domain shows for an address of its own may name anybody's."""
    broad = msgspec.structs.replace(BOB, addresses=("bob@example.net", "ceo@bank.example"))
    narrow = msgspec.structs.replace(BOB, addresses=("bob@example.net",))

    def found(tx: Transaction) -> tuple[MailKey, ...]:
        mail_keys.add_found(tx, broad, source=Source.LEARNT, is_trusted=False)
        mail_keys.add_found(tx, narrow, source=Source.DNS, is_trusted=True)
        mail_keys.add_found(tx, broad, source=Source.LEARNT, is_trusted=False)
        return mail_keys.by_address(tx, "ceo@bank.example")

    assert store.write_now(found) == ()


def of(public: PublicKey, private: bytes | None = None) -> KeyMaterial:
    expires = public.expires_at
    return KeyMaterial(
        scheme=Scheme.OPENPGP,
        fingerprint=public.fingerprint,
        addresses=public.addresses,
        public=public.octets,
        private=private,
        expires_at=int(expires.timestamp() * 1e6) if expires else None,
        is_revoked=public.is_revoked,
    )


def add_material(store: Any, node_key: NodeKey, material: KeyMaterial) -> MailKey:
    key: MailKey = store.write_now(
        lambda tx: mail_keys.add_own(
            tx, "ada@example.org", material, node_key, source=Source.IMPORTED
        )
    )
    return key


def test_what_is_found_elsewhere_neither_takes_trust_nor_touches_own_keys(
    store: Any, node_key: NodeKey
) -> None:
    own = add(store, node_key)

    def found(tx: Transaction) -> tuple[MailKey | None, ...]:
        strange = msgspec.structs.replace(ADA, public=b"forged", addresses=("eve@x.example",))
        touched = mail_keys.add_found(tx, strange, source=Source.WKD, is_trusted=False)
        trusted = mail_keys.add_found(tx, BOB, source=Source.LEARNT, is_trusted=True)
        again = mail_keys.add_found(tx, BOB, source=Source.DNS, is_trusted=False)
        return touched, trusted, again

    touched, trusted, again = store.write_now(found)
    assert touched == own
    assert trusted is not None and trusted.is_trusted and not trusted.is_own
    assert again is not None and again.is_trusted and again.source is Source.LEARNT


def test_keys_are_named_by_the_end_of_their_fingerprint_or_an_address(
    store: Any, node_key: NodeKey
) -> None:
    key = add(store, node_key)
    other = add(store, node_key, fingerprint="E" * 40)

    def named(text: str) -> MailKey:
        found: MailKey = store.write_now(lambda tx: key_choice.by_name(tx, text))
        return found

    assert named("0xAAAA AA01") == key
    with pytest.raises(NotKnown):
        named("FFFFFFFF")
    with pytest.raises(NotKnown):
        named("A01")  # too short to mean one key
    with pytest.raises(UserError) as caught:
        named("ada@example.org")
    assert key.fingerprint in caught.value.hint and other.fingerprint in caught.value.hint


def test_revoked_published_and_removed(store: Any, node_key: NodeKey) -> None:
    key = add(store, node_key)

    def change(tx: Transaction) -> tuple[MailKey, tuple[MailKey, ...]]:
        mail_keys.publish(tx, key, is_published=True)
        mail_keys.revoke(tx, key, b"with its revocation")
        (changed,) = mail_keys.by_address(tx, "ada@example.org")
        mail_keys.remove(tx, changed)
        return changed, mail_keys.by_address(tx, "ada@example.org")

    changed, left = store.write_now(change)
    assert changed.is_published and changed.public == b"with its revocation"
    assert not changed.is_usable(0) and left == ()
    stranger = store.write_now(
        lambda tx: mail_keys.add_found(tx, BOB, source=Source.DNS, is_trusted=False)
    )
    with pytest.raises(UserError):
        store.write_now(lambda tx: mail_keys.publish(tx, stranger, is_published=True))


def test_keys_that_end_soon_are_found_while_they_are_ours(store: Any, node_key: NodeKey) -> None:
    key = add(store, node_key)
    soon = 2_000_000_000_000_001
    assert store.write_now(
        lambda tx: mail_keys.expiring(tx, since_us=0, before_us=soon, limit=5)
    ) == (key,)
    assert (
        store.write_now(lambda tx: mail_keys.expiring(tx, since_us=0, before_us=soon - 2, limit=5))
        == ()
    )
    assert mail_keys.expires_text(key) == "2033-05-18"


def test_material_shows_no_secret() -> None:
    assert "private half" not in repr(ADA)


def test_an_owner_is_an_account_or_a_domain(store: Any) -> None:
    account, none = store.write_now(lambda tx: owner(tx, "ada@example.org"))
    assert account is not None and none is None
