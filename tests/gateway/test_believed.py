"""Whose signature counts, and for whom: what one domain, one letter or one mailbox says of a key
makes it nobody else's word."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from posthouse.accounts import key_material, mail_keys
from posthouse.accounts.mail_keys import KeyMaterial, Source
from posthouse.accounts.mail_policy import Mode
from posthouse.message import read
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, PgpSigner, make_key, revoked_by
from posthouse.mimesec.pgp.keys import PrivateKey
from posthouse.mimesec.ports import Recipient, Sealer, Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.identity import read_certificates
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.net.world import SystemClock
from tests.gateway.house import ADA, SECRET, HandClock, House, queue_id_of
from tests.gateway.test_incoming import results, signer
from tests.gateway.test_revocations import LIST, Lists, points, roots
from tests.gateway.test_revocations import signed as signed_by_alice
from tests.mimesec.smime.people import ALICE, AT, authority
from tests.mimesec.smime.test_chain import MAIL, issued
from tests.mimesec.smime.test_revocation import crl

NOW = SystemClock().now()
MADE = NOW - timedelta(hours=1)
MALLORY, CHIEF = "mallory@evil.example", "chief@bank.example"


def letter(sender: str) -> bytes:
    return f"From: {sender}\r\nTo: {ADA}\r\nSubject: Map\r\n\r\n{SECRET}\r\n".encode()


def shown_by_its_domain(house: House, material: KeyMaterial, address: str) -> None:
    """Kept as `KeySearch` keeps what the domain of the address shows."""
    narrow = msgspec.structs.replace(material, private=None, addresses=(address,))
    house.write(lambda tx: mail_keys.add_found(tx, narrow, source=Source.WKD, is_trusted=True))


def two_faced(scheme: Scheme) -> tuple[KeyMaterial, Signer]:
    """A key that its owner made for their own address and for somebody else's."""
    if scheme is Scheme.SMIME:
        made = key_material.make([MALLORY, CHIEF], at=MADE, days=9)
        return made, signer(made)
    private, _ = make_key([MALLORY, CHIEF], at=MADE, days=9)
    (found,) = key_material.read_found(Scheme.OPENPGP, private.public.octets)
    return found, PgpSigner(private)


def sealed_to(material: KeyMaterial) -> tuple[Recipient, Sealer]:
    if material.scheme is Scheme.SMIME:
        return SmimeRecipient(read_certificates(material.public)[0]), SmimeSealer()
    assert material.private is not None
    return PgpRecipient(PrivateKey(material.private).public), PgpSealer()


def with_outer_from(octets: bytes, inner: str, outer: str) -> bytes:
    return octets.replace(f"From: {inner}".encode(), f"From: {outer}".encode(), 1)


def with_roots(house: House, lists: Lists) -> None:
    """At the time of the authority's certificates."""
    gateway = house.node.gateway
    gateway.incoming.options = msgspec.structs.replace(gateway.incoming.options, roots=roots())
    gateway.revocations._fetch = lists
    gateway.revocations._clock = gateway.incoming._clock = HandClock(AT)


@pytest.mark.parametrize("scheme", Scheme)
def test_a_key_that_one_domain_shows_signs_for_no_other(house: House, scheme: Scheme) -> None:
    material, by = two_faced(scheme)
    shown_by_its_domain(house, material, MALLORY)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    if scheme is Scheme.SMIME:
        ada = house.give_key(ADA)
    else:
        private, _ = make_key([ADA], at=MADE, days=9)
        (ada,) = key_material.read_private(private.octets, None)
        house.give_key(ADA, ada)
    recipient, sealer = sealed_to(ada)
    wish = Protection(signer=by, recipients=(recipient,), sealer=sealer)
    octets = with_outer_from(protect(letter(CHIEF), wish, at=NOW), CHIEF, MALLORY)
    house.arrive(octets, [ADA], sender=MALLORY)
    kept = house.stored(ADA)
    assert "=pass" not in results(kept)
    assert CHIEF not in str(read(kept).sender)
    # For the one that the domain may speak for it counts.
    octets = protect(letter(MALLORY), wish, at=NOW)
    house.arrive(octets, [ADA], sender=MALLORY)
    kept = house.stored(ADA, count=2)
    assert "=pass" in results(kept) and CHIEF not in results(kept)


@pytest.mark.parametrize("scheme", Scheme)
def test_a_forwarded_letter_is_not_proven_by_its_sender_s_key(house: House, scheme: Scheme) -> None:
    material, by = two_faced(scheme)
    shown_by_its_domain(house, material, MALLORY)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    inside = protect(letter(CHIEF), Protection(signer=by), at=NOW)
    head = f"From: {MALLORY}\r\nTo: {ADA}\r\nSubject: Fwd\r\nContent-Type: message/rfc822\r\n\r\n"
    receipt = house.arrive(head.encode() + inside, [ADA], sender=MALLORY)
    found = house.decision(queue_id_of(receipt)).findings
    assert [one.result for one in found if one.name == "protected-part"] == ["policy"]


@pytest.mark.parametrize("policy", [HeaderPolicy.BASELINE, None])
def test_a_letter_signed_by_another_than_who_is_shown_passes_for_nobody_s(
    house: House, policy: HeaderPolicy | None
) -> None:
    """What is signed only is stored as it came, with the From that stands outside."""
    alice = issued(authority(), MAIL)
    with_roots(house, Lists())
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    inside = letter(ALICE)
    if policy is None:  # a whole message inside (RFC 8551 §3.1)
        inside = b"From: %b\r\nContent-Type: message/rfc822\r\n\r\n%b" % (ALICE.encode(), inside)
    octets = protect(inside, Protection(signer=SmimeSigner(alice), header_policy=policy), at=AT)
    house.arrive(octets, [ADA], sender=ALICE)  # by herself
    assert "smime=pass" in results(house.stored(ADA))
    receipt = house.arrive(with_outer_from(octets, ALICE, CHIEF), [ADA], sender=CHIEF)
    kept = house.stored(ADA, count=2)
    assert CHIEF in str(read(kept).sender)
    assert "smime=policy" in results(kept) and "smime=pass" not in results(kept)
    names = {one.name: one.result for one in house.decision(queue_id_of(receipt)).findings}
    assert names["smime"] == "policy" and names["from-mismatch"] == "warning"


def test_who_reads_with_a_key_does_not_vouch_for_it(house: House) -> None:
    """A key that its owner has revoked reads old mail, and signs nothing any more."""
    private, revocation = make_key([ADA], at=MADE, days=9)
    (material,) = key_material.read_private(private.octets, None)
    house.give_key(ADA, material)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    octets = protect(letter(ADA), Protection(signer=PgpSigner(private)), at=NOW)
    house.arrive(octets, [ADA], sender=ADA)
    assert "x-openpgp=pass" in results(house.stored(ADA))
    gone = revoked_by(private.public, revocation)
    (key,) = house.keys_of(ADA)
    house.write(lambda tx: mail_keys.revoke(tx, key, gone.octets))
    house.arrive(octets, [ADA], sender=ADA)
    assert "x-openpgp=fail" in results(house.stored(ADA, count=2))
    wish = Protection(recipients=(PgpRecipient(private.public),), sealer=PgpSealer())
    house.arrive(protect(letter(ADA), wish, at=NOW), [ADA], sender=ADA)
    assert SECRET in read(house.stored(ADA, count=3)).text


def test_a_correspondent_s_key_that_is_revoked_here_counts_no_more(house: House) -> None:
    """Whatever else would vouch for the certificate."""
    alice = issued(authority(), MAIL)
    with_roots(house, Lists())
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(signed_by_alice(alice), [ADA], sender=ALICE)
    assert "smime=pass" in results(house.stored(ADA))
    (key,) = house.keys_of(ALICE)
    house.write(lambda tx: mail_keys.revoke(tx, key))
    house.arrive(signed_by_alice(alice), [ADA], sender=ALICE)
    assert "smime=fail" in results(house.stored(ADA, count=2))


def test_a_revocation_is_remembered_while_its_list_cannot_be_had(house: House) -> None:
    """Also of a certificate that nobody here has seen before."""
    alice = issued(authority(), MAIL, points(LIST))
    lists = Lists({LIST: crl(alice)})
    with_roots(house, lists)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(signed_by_alice(alice), [ADA], sender=ALICE)
    assert "smime=fail" in results(house.stored(ADA))
    house.node.gateway.revocations._kept.clear()  # it was started anew, and the issuer is not there
    lists.pages = {}
    house.arrive(signed_by_alice(alice), [ADA], sender=ALICE)
    assert "smime=fail" in results(house.stored(ADA, count=2))
