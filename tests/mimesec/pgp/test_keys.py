"""OpenPGP keys: made, read from files, locked by passwords, merged, revoked."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.accounts import pgp_material
from posthouse.kernel.secret import Secret
from posthouse.mimesec.pgp import armour, encrypting, locking, renewing
from posthouse.mimesec.pgp.armour import Kind
from posthouse.mimesec.pgp.keys import (
    KEYS_MAX,
    OCTETS_MAX,
    PRIVATE_MAX,
    USER_IDS_MAX,
    PrivateKey,
    PublicKey,
    has_private,
    is_locked,
    is_openpgp,
    merged,
    read_private,
    read_public,
)
from posthouse.mimesec.pgp.make import (
    KeyForm,
    make_key,
    make_revocation,
    revoked_by,
    with_end,
)
from posthouse.mimesec.pgp.packets import BadPackets, Packet, encoded, walk
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.ports import ProtectionError
from tests.mimesec.pgp.people import ADA, BOB, MADE, NOW, person, with_revocation

FORMS = list(KeyForm)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_tells_what_it_is(form: KeyForm) -> None:
    public = person(form=form).public
    assert public.addresses == (ADA,) and public.user_ids == (f"Ada Lovelace <{ADA}>",)
    assert public.expires_at is not None
    assert abs(public.expires_at - public.created_at - timedelta(days=30)) < timedelta(seconds=2)
    assert public.why_unusable(NOW) == "" and not public.is_revoked
    assert len(public.key_ids) >= 2


def test_a_key_may_name_several_addresses_and_last_for_ever() -> None:
    key, _ = make_key([ADA, "ada@bücher.example", BOB], at=MADE, days=None)
    assert set(key.public.addresses) == {ADA, "ada@xn--bcher-kva.example", BOB}
    assert key.public.expires_at is None


@pytest.mark.parametrize(
    ("addresses", "name", "days", "words"),
    [
        ((), "", 9, "needs an address"),
        (("nonsense",), "", 9, "no address"),
        ((ADA,), "Eve <eve@x.example>", 9, "cannot be in a key"),
        ((ADA,), "a\nb", 9, "cannot be in a key"),
        ((ADA,), "", 0, "good for 1 to"),
    ],
)
def test_what_cannot_be_a_key_is_told(
    addresses: tuple[str, ...], name: str, days: int, words: str
) -> None:
    with pytest.raises(ProtectionError, match=words):
        make_key(addresses, at=MADE, days=days, name=name)


@pytest.mark.parametrize("form", FORMS)
def test_a_password_locks_and_unlocks(form: KeyForm) -> None:
    key = person(form=form)
    text = key.armored("sesame 7 ü", salt=os.urandom(locking.SALT_OCTETS))
    assert is_locked(text) and has_private(text) and is_openpgp(text)
    [again] = read_private(text, "sesame 7 ü")
    assert again.octets == key.octets
    with pytest.raises(ProtectionError, match="password is wrong") as caught:
        read_private(text, "guess-me")
    assert "guess-me" not in str(caught.value) + caught.value.hint
    with pytest.raises(ProtectionError, match="has a password"):
        read_private(text)
    [public] = read_public(text)
    assert public.octets == key.public.octets and not has_private(public.armored())


def test_an_open_key_is_read_as_it_is() -> None:
    key = person()
    assert not is_locked(key.armored(None))
    assert read_private(key.armored(None))[0].octets == key.octets
    assert read_private(key.octets)[0].octets == key.octets


def with_packets(key: PrivateKey, change: Callable[[Packet], bytes]) -> bytes:
    return b"".join(map(change, walk(key.octets)))


def elsewhere(packet: Packet) -> bytes:
    """What GnuPG exports in place of a secret part that it does not have."""
    body = next(walk(locking.public_packet(packet))).body
    return encoded(packet.tag, body + b"\xff\x00\x65\x00GNU\x01")


def test_a_key_whose_primary_part_is_elsewhere_decrypts_but_does_not_sign() -> None:
    key = person(BOB)
    offline = with_packets(key, lambda one: elsewhere(one) if one.tag == 5 else one.octets)
    assert has_private(offline) and not is_locked(offline)
    [found] = read_private(offline)
    assert found.octets == offline and found.public.octets == key.public.octets
    assert [one.key_id for one in found.subkeys] == [key.public.key_ids[1]]
    text = found.armored("sesame", salt=bytes(locking.SALT_OCTETS))
    assert is_locked(text) and read_private(text, "sesame")[0].octets == offline
    with pytest.raises(ProtectionError, match="nothing can be signed") as caught:
        PgpSigner(found).sign(b"x: y\r\n\r\n", at=NOW)
    assert "part that signs" in caught.value.hint
    for impossible in (lambda: make_revocation(found), lambda: with_end(found, at=NOW)):
        with pytest.raises(ProtectionError, match="could not be"):
            impossible()


def test_a_file_that_only_says_where_the_key_is_is_told() -> None:
    nothing = with_packets(
        person(), lambda one: elsewhere(one) if one.tag in (5, 7) else one.octets
    )
    with pytest.raises(ProtectionError, match="on a card") as caught:
        read_private(nothing)
    assert "export" in caught.value.hint


def test_a_certificate_never_has_secret_parts() -> None:
    key = person()
    mixed = with_packets(
        key, lambda one: locking.public_packet(one) if one.tag == 5 else one.octets
    )
    assert any(one.tag == 7 for one in walk(mixed))
    assert PublicKey(mixed).octets == PublicKey(key.octets).octets == key.public.octets


RSA_OF_ONE = bytes.fromhex("04 00000001 01".replace(" ", ""))


def number(bits: int) -> bytes:
    return bits.to_bytes(2, "big") + (1 << bits - 1).to_bytes(bits + 7 >> 3, "big")


@pytest.mark.timed
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b"".join(encoded(13, b"<u%d@x.example>" % one) for one in range(19_000)), "100 user ids"),
        (encoded(17, b"\x02\x01x") * 101, "100 user ids"),
        (encoded(14, RSA_OF_ONE + number(4_096) + number(4_096)), "larger than any in use"),
        (encoded(14, RSA_OF_ONE + number(16_384) + number(17)), "larger than any in use"),
        (encoded(14, b"\x06" + RSA_OF_ONE[1:] + bytes(4) + number(9_000)), "larger than any"),
        (encoded(14, b"\4\0\0\0\0\x16" + bytes(1 << 16)), "larger than keys can be"),
        (person(BOB).public.octets, "more than one key"),
        (encoded(2, bytes(1 << 20)), "1024 KiB"),
        (encoded(2, b"\4") * 5_001, "5000 packets"),
    ],
    ids=[
        "user ids",
        "pictures",
        "exponent",
        "modulus",
        "version 6",
        "octets",
        "two",
        "size",
        "packets",
    ],
)
def test_a_key_that_is_made_to_annoy_is_refused_at_once(more: bytes, words: str) -> None:
    octets = person().public.octets + more
    began_s = time.thread_time()
    with pytest.raises(ProtectionError, match=words):
        PublicKey(octets)
    assert time.thread_time() - began_s < 1


@pytest.mark.timed
def test_a_key_with_as_much_of_everything_as_may_be_takes_no_time() -> None:  # H66
    octets = person().public.octets
    for more in (
        [encoded(13, b"<u%d@x.example>" % one) for one in range(USER_IDS_MAX - 1)],
        [encoded(2, b"\4\x13\x16\x0a" + os.urandom(96)) for _ in range(4_900)],
        [one.octets for one in walk(octets) if one.tag == 14] * 4_900,
    ):
        began_s = time.thread_time()
        assert PublicKey(octets + b"".join(more)).addresses == (ADA,)
        assert time.thread_time() - began_s < 5


def test_what_others_put_into_a_key_does_not_keep_its_revocation_out() -> None:
    key, revocation = with_revocation()
    gone = revoked_by(key.public, revocation)
    for at in (0, 50):
        names = [b"<u%d@x.example>" % one for one in range(at, at + USER_IDS_MAX - 1)]
        flooded = PublicKey(key.public.octets + b"".join(encoded(13, one) for one in names))
        more = PublicKey(gone.octets + b"".join(encoded(13, b"<v" + one[2:]) for one in names))
        both = merged(flooded, more)
        assert both.is_revoked and both.octets != flooded.octets


def argon2(packet: Packet, passes: int, exponent: int) -> bytes:
    body = next(walk(locking.public_packet(packet))).body
    lock = bytes((253, 9, 2, 4)) + bytes(16) + bytes((passes, 1, exponent)) + bytes(64)
    return encoded(packet.tag, body + lock)


@pytest.mark.timed
@pytest.mark.parametrize(("passes", "exponent"), [(255, 21), (1, 22), (1, 255), (0, 10)])
def test_a_lock_that_takes_too_much_work_is_refused(passes: int, exponent: int) -> None:
    dear = with_packets(
        person(), lambda one: argon2(one, passes, exponent) if one.tag == 5 else one.octets
    )
    began_s = time.thread_time()
    with pytest.raises(ProtectionError, match="more work"):
        read_private(dear, "sesame")
    assert time.thread_time() - began_s < 1


def test_a_lock_by_argon2_tells_a_wrong_password() -> None:
    locked = with_packets(person(), lambda one: argon2(one, 1, 8) if one.tag == 5 else one.octets)
    with pytest.raises(ProtectionError, match="password is wrong"):
        read_private(locked, "sesame")


@pytest.mark.timed
def test_there_is_an_end_to_locked_parts_and_private_keys() -> None:
    octets = locking.locked(person().octets, Secret("sesame"), bytes(locking.SALT_OCTETS))
    [last] = [one.octets for one in walk(octets) if one.tag == 7]
    began_s = time.thread_time()
    with pytest.raises(ProtectionError, match="locked parts"):
        read_private(octets + last * 1_000, "sesame")
    assert time.thread_time() - began_s < 10
    with pytest.raises(ProtectionError, match="private keys in it"):
        read_private(person().octets * (PRIVATE_MAX + 1))


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = person().public.octets
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    for action in (lambda: read_public(octets), lambda: make_key([ADA], at=MADE, days=1)):
        with pytest.raises(ProtectionError, match="not installed") as caught:
            action()
        assert caught.value.hint == "pip install 'posthouse[mimesec]'"


@pytest.mark.parametrize("form", FORMS)
def test_a_revocation_made_beforehand_revokes(form: KeyForm) -> None:
    key, revocation = with_revocation(form=form)
    assert armour.is_armoured(revocation)
    gone = revoked_by(key.public, revocation)
    assert gone.is_revoked and gone.why_unusable(NOW) == "the key was revoked"
    with pytest.raises(ProtectionError, match="not of this key"):
        revoked_by(person(BOB, form).public, revocation)


def test_a_revocation_can_be_made_later_and_is_not_lost_by_a_refresh() -> None:
    key = person(BOB)
    gone = revoked_by(key.public, make_revocation(key))
    assert merged(gone, key.public).is_revoked and merged(key.public, gone).is_revoked
    with pytest.raises(ProtectionError, match="two keys"):
        merged(gone, person(ADA).public)


@pytest.mark.parametrize(
    "junk", [b"", b"nonsense", b"\x99\x00\x00", b"-----BEGIN PGP SIGNATURE-----"]
)
def test_what_is_no_revocation_is_told(junk: bytes) -> None:
    with pytest.raises(ProtectionError, match="revocation"):
        revoked_by(person().public, junk)


def test_a_key_gets_another_end() -> None:
    key = person()
    later = with_end(key, at=MADE + timedelta(days=400))
    assert later.public.expires_at == MADE + timedelta(days=400)
    assert later.public.fingerprint == key.public.fingerprint
    assert next(walk(later.octets)).tag == 5
    with pytest.raises(ProtectionError, match="before it was made"):
        with_end(key, at=MADE - timedelta(days=1))


@pytest.mark.parametrize("form", KeyForm)
def test_what_encrypts_gets_the_new_end_too_though_the_key_has_ended(form: KeyForm) -> None:
    key = person(form=form)
    time.sleep(max(0.0, key.public.created_at.timestamp() + 1.1 - time.time()))
    ended = with_end(key, at=key.public.created_at + timedelta(seconds=1))
    with pytest.raises(BadPackets, match="this very second"):
        renewing.with_end(ended.octets, at=NOW, now=MADE)
    assert ended.public.expires_at == ended.public.encrypts_until
    assert "ended" in ended.public.why_unusable(NOW)
    time.sleep(1.1)
    later = NOW.replace(microsecond=0) + timedelta(days=400)
    again = with_end(ended, at=later)
    assert again.public.expires_at == again.public.encrypts_until == later
    assert again.public.why_unusable(NOW) == ""
    assert [one.tag for one in walk(again.octets)] == [one.tag for one in walk(ended.octets)]
    assert again.public.addresses == ended.public.addresses


def with_end_of_its_part(key: PrivateKey, *, by: PrivateKey, at: datetime) -> list[bytes]:
    """The subkey and a binding of it that ends then, made by somebody who is not always the key."""
    *_, subkey, binding = walk(key.octets)
    own = renewing.Primary(next(walk(key.octets)))
    [group] = [one for one in renewing.groups(key.octets, own) if one.packet == subkey]
    [old] = own.proven(group)
    lasts_s = int((at - key.public.created_at).total_seconds())
    signer = renewing.Primary(next(walk(by.octets)))
    made = signer.renewed(old, group.about, lasts_s, int(MADE.timestamp()) + 60)
    return [subkey.octets, binding.octets, made]


def test_only_what_the_key_itself_has_signed_ends_its_parts() -> None:
    key, soon = person(), MADE + timedelta(days=3)
    head = b"".join(one.octets for one in list(walk(key.octets))[:-2])
    true = PrivateKey(head + b"".join(with_end_of_its_part(key, by=key, at=soon)))
    assert true.public.expires_at == key.public.expires_at
    assert true.public.encrypts_until == soon
    assert true.public.why_unusable(soon - timedelta(seconds=1)) == ""
    why = f"the part of the key that encrypts ended on {soon:%Y-%m-%d}"
    assert true.public.why_unusable(soon) == why
    [material] = pgp_material.read_public(true.public.octets)
    assert material.expires_at == int(soon.timestamp() * 1e6)
    false = with_end_of_its_part(key, by=person(BOB), at=soon)
    stuffed = PublicKey(head + b"".join(false) + false[-1] * 100)
    assert stuffed.encrypts_until == key.public.expires_at


def test_a_part_that_somebody_slipped_in_is_not_bound_by_another_end() -> None:
    key, mallory = person(), person(BOB)
    *_, subkey, binding = walk(mallory.octets)
    slipped = PrivateKey(key.octets + subkey.octets + binding.octets)
    later = with_end(slipped, at=MADE + timedelta(days=400))
    assert later.octets.endswith(subkey.octets + binding.octets)
    [part] = encrypting.parts_of(later.public.octets, later.public.cert)
    assert part.key_id == key.public.key_ids[1]


def test_a_file_may_hold_several_keys_in_any_form() -> None:
    keys = [person(), person(BOB)]
    fingerprints = [one.public.fingerprint for one in keys]
    joined = b"".join(one.public.armored() for one in keys)
    assert [one.fingerprint for one in read_public(b"my keys:\n" + joined)] == fingerprints
    binary = b"".join(one.public.octets for one in keys)
    assert [one.fingerprint for one in read_public(binary)] == fingerprints
    one_block = armour.write(binary, Kind.PUBLIC_KEY)
    assert [one.fingerprint for one in read_public(one_block)] == fingerprints


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "no key"),
        (b"nonsense", "no OpenPGP data"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n", "does not end"),
        (
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n####\n-----END PGP PUBLIC KEY BLOCK-----\n",
            "base64",
        ),
        (b"\xc2\x01\x04", "does not begin with a key"),
        (b"\xc6\xff\xff\xff\xff\xff" + b"x" * 50, "cut off"),
        (b"\xc6\x02\x04\x00", "begin with a public key"),
        (b"x" * (OCTETS_MAX + 1), "more than"),
        (b"\xc6\x01\x04" * (KEYS_MAX + 1), "more than"),
    ],
)
def test_what_is_no_key_is_told(octets: bytes, words: str) -> None:
    with pytest.raises(ProtectionError, match=words):
        read_public(octets)


def test_without_a_private_half_there_is_nothing_to_import() -> None:
    with pytest.raises(ProtectionError, match="no private key"):
        read_private(person().public.armored())


@given(st.integers(0, 400), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_damaged_key_is_told_and_never_raises_anything_else(at: int, flip: int) -> None:
    octets = bytearray(person().octets)
    octets[at % len(octets)] ^= flip
    with contextlib.suppress(ProtectionError):
        read_private(bytes(octets))
    with contextlib.suppress(ProtectionError):
        read_public(bytes(octets))


@given(st.binary(max_size=300))
def test_octets_by_chance_are_told(octets: bytes) -> None:
    with contextlib.suppress(ProtectionError):
        PublicKey(octets)
    assert isinstance(is_openpgp(octets), bool)
