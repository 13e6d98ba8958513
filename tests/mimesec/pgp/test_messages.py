"""Messages signed and encrypted by OpenPGP, opened again, and what may be said of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from posthouse.message import read
from posthouse.mimesec import (
    Opened,
    Protection,
    ProtectionError,
    SignatureResult,
    Summary,
    open_message,
    protect,
)
from posthouse.mimesec.pgp import armour, sequoia
from posthouse.mimesec.pgp.armour import Kind
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey
from posthouse.mimesec.pgp.make import KeyForm, make_key, revoked_by, with_end
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.packets import Tag, encoded, walk
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.sending import Message, Transport
from posthouse.testing import MailServer
from tests.mimesec.pgp.people import ADA, BOB, MADE, NOW, PLAIN, person, with_revocation

FORMS = list(KeyForm)


def signed(key: PrivateKey, octets: bytes = PLAIN) -> bytes:
    return protect(octets, Protection(signer=PgpSigner(key)), at=NOW)


def sealed(*to: PrivateKey, by: PrivateKey | None = None) -> bytes:
    wish = Protection(
        signer=PgpSigner(by) if by is not None else None,
        sealer=PgpSealer(),
        recipients=tuple(PgpRecipient(one.public) for one in to),
    )
    return protect(PLAIN, wish, at=NOW)


def opened(octets: bytes, opener: PgpOpener, *, days: int = 0) -> Opened:
    return open_message(octets, [opener], at=NOW + timedelta(days=days))


def result(octets: bytes, opener: PgpOpener, *, days: int = 0) -> SignatureResult:
    whole = opened(octets, opener, days=days).whole
    assert whole is not None
    return whole.signatures[0].result


def trusting(key: PrivateKey) -> PgpOpener:
    return PgpOpener(known=[key.public], trusted=[key.public.fingerprint])


@pytest.mark.parametrize("form", FORMS)
def test_a_signature_proves_its_author(form: KeyForm) -> None:
    key = person(form=form)
    found = opened(signed(key), trusting(key))
    assert found.summary is Summary.SIGNED
    assert found.whole is not None
    [one] = found.whole.signatures
    assert one.key == key.public.fingerprint and one.addresses == (ADA,)
    assert one.made_at is not None and abs(one.made_at - NOW) < timedelta(minutes=30)
    assert "SHA" in one.algorithm


@pytest.mark.parametrize("form", FORMS)
def test_what_is_encrypted_opens_for_its_readers_alone(form: KeyForm) -> None:
    ada, bob, eve = person(form=form), person(BOB, form), person("eve@x.example")
    octets = sealed(bob, ada, by=ada)
    assert b"under the oak" not in octets and b"Subject: Map" not in octets
    for reader in (ada, bob):
        found = opened(octets, PgpOpener(own=[eve, reader], known=[ada.public], trusted=[
            ada.public.fingerprint]))  # fmt: skip
        assert found.summary is Summary.SIGNED_AND_ENCRYPTED
        assert read(found.octets).subject == "Map" and "under the oak" in read(found.octets).text
        assert found.whole is not None and found.whole.is_authenticated
    closed = opened(octets, PgpOpener(own=[eve]))
    assert closed.summary is Summary.BROKEN and closed.octets == octets
    assert closed.whole is not None and "none of its recipients is here" in closed.whole.reason


def test_encryption_without_a_signature_says_so() -> None:
    bob = person(BOB)
    found = opened(sealed(bob), PgpOpener(own=[bob]))
    assert found.summary is Summary.ENCRYPTED and found.whole is not None
    assert found.whole.signatures == ()


def test_who_made_a_signature_counts() -> None:
    ada, bob = person(), person(BOB)
    octets = signed(ada)
    assert result(octets, PgpOpener(known=[ada.public])) is SignatureResult.UNTRUSTED
    assert result(octets, PgpOpener()) is SignatureResult.NO_KEY
    # H65: a good signature of somebody else than the author
    assert result(signed(bob), trusting(bob)) is SignatureResult.MISMATCH
    changed = octets.replace(b"the oak", b"the ash")
    assert result(changed, trusting(ada)) is SignatureResult.INVALID


def test_a_key_of_another_in_a_certificate_does_not_get_in_the_way() -> None:
    """Anybody can put the keys of others into a certificate of theirs, and have it learnt."""
    ada, eve = person(), person("eve@x.example")
    primary = next(walk(ada.public.octets)).body
    thief = PublicKey(eve.public.octets + encoded(Tag.PUBLIC_SUBKEY, primary))
    assert set(thief.key_ids) & set(ada.public.key_ids)
    trusted = [ada.public.fingerprint]
    for known in ([thief, ada.public], [ada.public, thief]):
        assert result(signed(ada), PgpOpener(known=known, trusted=trusted)) is SignatureResult.VALID
        # nor does it become the thief's
        assert result(signed(ada), PgpOpener(known=[thief], trusted=[thief.fingerprint])) in (
            SignatureResult.INVALID,
        )


ENTITY = b"Content-Type: text/plain\r\n\r\nunder the oak\r\n"


def test_a_signature_of_an_unknown_form_does_not_harm_those_beside_it() -> None:
    ada = person()
    good = sequoia.sign(ada.tsk, ENTITY)
    [body] = [one.body for one in walk(good)]
    newer = encoded(Tag.SIGNATURE, b"\x05" + body[1:])
    other_hash = encoded(Tag.SIGNATURE, body[:3] + b"\x63" + body[4:])
    found = trusting(ada).verify(ENTITY, newer + good + other_hash, at=NOW)
    assert [one.result for one in found] == [
        SignatureResult.UNSUPPORTED,
        SignatureResult.VALID,
        SignatureResult.UNSUPPORTED,
    ]
    assert "version 5" in found[0].reason and "hash 99" in found[2].reason


def test_a_signature_of_a_key_made_later_or_in_the_future_proves_nothing() -> None:
    ada = person()
    [body] = [one.body for one in walk(sequoia.sign(ada.tsk, ENTITY))]
    at = body.index(b"\x05\x82") + 2  # the time of the signature, a critical subpacket
    early = int(MADE.timestamp()) - 7_200
    for seconds, expected in (
        (early, SignatureResult.EXPIRED),
        ((1 << 32) - 1, SignatureResult.INVALID),
    ):
        forged = body[:at] + seconds.to_bytes(4, "big") + body[at + 4 :]
        [one] = trusting(ada).verify(ENTITY, encoded(Tag.SIGNATURE, forged), at=NOW)
        assert one.result is expected and one.reason


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_key_that_is_revoked_proves_nothing(where: str) -> None:
    ada, revocation = with_revocation()
    bob = person(BOB)
    gone = revoked_by(ada.public, revocation)
    octets = signed(ada) if where == "outside" else sealed(bob, by=ada)
    opener = PgpOpener(own=[bob], known=[gone], trusted=[gone.fingerprint])
    assert result(octets, opener) is SignatureResult.REVOKED


def test_a_key_counts_while_it_was_in_force() -> None:
    short, _ = make_key([ADA], at=MADE, days=1)
    octets = signed(short)
    assert result(octets, trusting(short), days=10) is SignatureResult.VALID  # it was made in time
    early = with_end(short, at=MADE + timedelta(minutes=10))  # and the key has ended before
    assert result(octets, trusting(early)) is SignatureResult.EXPIRED


def test_the_signature_inside_an_encryption_has_to_be_good() -> None:
    ada, bob = person(), person(BOB)
    octets = sealed(bob, by=ada)
    other, _ = make_key([ADA], at=MADE, days=30)
    found = opened(octets, PgpOpener(own=[bob], known=[other.public], trusted=[
        other.public.fingerprint]))  # fmt: skip
    assert found.whole is not None
    assert [one.result for one in found.whole.signatures] == [SignatureResult.NO_KEY]
    assert found.summary is Summary.ENCRYPTED


def test_what_was_changed_on_its_way_stays_closed() -> None:  # H65
    bob = person(BOB)
    octets = sealed(bob)
    begin = octets.index(b"-----BEGIN PGP MESSAGE")
    end = octets.index(b"-----END PGP MESSAGE-----") + len(b"-----END PGP MESSAGE-----")
    packets = bytearray(armour.one(octets[begin:end], Kind.MESSAGE))
    packets[-40] ^= 1
    forged = octets[:begin] + armour.write(bytes(packets), Kind.MESSAGE) + octets[end:]
    found = opened(forged, PgpOpener(own=[bob]))
    assert found.summary is Summary.BROKEN and found.octets == forged


def test_what_stands_around_an_encrypted_part_does_not_get_its_text() -> None:  # H65: EFAIL
    bob = person(BOB)
    begin = sealed(bob)
    inner = begin[begin.lower().index(b"content-type:") :]
    octets = (
        f"From: eve@x.example\r\nTo: {BOB}\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        '--b\r\nContent-Type: text/html\r\n\r\n<img src="http://x.example/\r\n--b\r\n'
    ).encode()
    octets += inner + b'\r\n--b\r\nContent-Type: text/html\r\n\r\n">\r\n--b--\r\n'
    found = opened(octets, PgpOpener(own=[bob]))
    assert found.summary is Summary.PARTLY and found.whole is None
    assert b"under the oak" not in found.octets
    [section] = found.sections
    assert b"under the oak" in section.entity and b"img" not in section.entity


def test_two_encrypted_messages_in_one_part_are_not_opened() -> None:  # H65
    bob = person(BOB)
    packets = sequoia.encrypt(ENTITY, [bob.public.cert], None)
    for octets in (packets * 2, armour.write(packets, Kind.MESSAGE) * 2):
        unsealed = PgpOpener(own=[bob]).unseal(octets, at=NOW)
        assert not unsealed.encryption.is_opened and unsealed.entity == b""


def test_a_key_that_is_over_or_gone_neither_signs_nor_is_encrypted_to() -> None:
    ended, revocation = make_key([ADA], at=MADE - timedelta(days=9), days=5)
    with pytest.raises(ProtectionError, match="ended on"):
        signed(ended)
    with pytest.raises(ProtectionError, match=f"{ADA}: the key ended on"):
        sealed(ended)
    ada, revocation = with_revocation()
    gone = PgpRecipient(revoked_by(ada.public, revocation))
    with pytest.raises(ProtectionError, match="was revoked"):
        protect(PLAIN, Protection(sealer=PgpSealer(), recipients=(gone,)), at=NOW)


def test_the_library_sends_it_and_header_protection_works() -> None:
    ada, bob = person(), person(BOB)
    letter = Message(
        sender=ADA,
        to=BOB,
        subject="Map",
        text="under the oak",
        html="<p>under the <b>oak</b></p>",
        protection=Protection(
            signer=PgpSigner(ada), sealer=PgpSealer(), recipients=(PgpRecipient(bob.public),)
        ),
    )
    with MailServer.ephemeral() as server:
        with Transport(server.plain_url) as way:
            way.send(letter)
        arrived = server.wait_for(BOB)[0]
    assert arrived.message.subject == "[...]" and b"under the oak" not in arrived.octets
    found = opened(
        arrived.octets,
        PgpOpener(own=[bob], known=[ada.public], trusted=[ada.public.fingerprint]),
    )
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    assert read(found.octets).subject == "Map"
    assert "under the <b>oak</b>" in read(found.octets).html


def test_no_private_octets_are_shown() -> None:  # section 5: Secrets
    key = person()
    shown = repr(key) + repr(PgpSigner(key)) + repr(PgpOpener(own=[key])) + str(key)
    assert key.octets[-32:].hex() not in shown and key.public.fingerprint in shown
