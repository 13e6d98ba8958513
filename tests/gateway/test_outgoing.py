"""Mail that leaves signed and encrypted, as its sender's policy says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from posthouse.accounts import key_material, mail_policy
from posthouse.accounts.mail_keys import Source
from posthouse.accounts.mail_policy import Mode
from posthouse.kernel.finding import Finding
from posthouse.message import mime, read
from posthouse.message.fields import read_section
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.opening import open_message
from posthouse.mimesec.pgp import autocrypt
from posthouse.mimesec.pgp.autocrypt import Autocrypt
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.make import make_key
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.ports import NotInstalled
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.sealed import is_sealed
from posthouse.mimesec.smime.capabilities import COMMON, OWN
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity, private_key, read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.net.world import SystemClock
from posthouse.sending import Message, MessageError
from posthouse.store import mail_keys as rows
from tests.gateway.house import (
    ADA,
    BOB,
    CAT,
    EVE,
    SECRET,
    House,
    openssl,
    pem_files,
    queue_id_of,
    told,
)

NOW = SystemClock().now()


def the_finding(house: House, queue_id: str) -> Finding:
    return next(one for one in house.decision(queue_id).findings if one.name == "protection")


def test_a_policy_signs_what_leaves_and_others_programs_verify_it(
    house: House, tmp_path: Path
) -> None:
    key = house.give_key(ADA)
    house.say(ADA, sign=Mode.ALWAYS)
    receipt = house.send(ADA, [BOB])
    octets = house.stored(BOB)
    letter = read(octets)
    assert (letter.root.maintype, letter.root.subtype) == (b"multipart", b"signed")
    assert SECRET in letter.text and letter.subject == "Map"
    _, certificate = pem_files(key, tmp_path, "ada")
    code, content, words = openssl(["cms", "-verify", "-CAfile", certificate], octets)
    assert code == 0, words
    assert SECRET.encode() in content
    assert the_finding(house, queue_id_of(receipt)).result == "signed"


def test_what_submission_adds_is_part_of_what_is_signed(house: House) -> None:
    house.give_key(ADA)
    house.say(ADA, sign=Mode.ALWAYS)
    house.send(ADA, [BOB])
    letter = read(house.stored(BOB))
    assert len(letter.headers("Message-ID")) == len(letter.headers("Date")) == 1


def test_what_leaves_is_encrypted_to_its_recipients_and_its_sender(
    house: House, tmp_path: Path
) -> None:
    keys = [house.give_key(whom) for whom in (ADA, BOB)]
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    receipt = house.send(ADA, [BOB])
    octets = house.stored(BOB)
    letter = read(octets)
    assert letter.root.subtype == b"pkcs7-mime" and letter.subject == "[...]"
    assert SECRET.encode() not in octets
    for key in keys:
        private, certificate = pem_files(key, tmp_path, "key")
        arguments = ["cms", "-decrypt", "-inkey", private, "-keyform", "DER"]
        code, content, words = openssl([*arguments, "-recip", certificate], octets)
        assert code == 0, words
        inside = read(content)
        assert inside.root.subtype == b"signed" and SECRET in inside.text
        assert b"\r\nSubject: Map\r\n" in content  # protected, too (RFC 9788)
    assert the_finding(house, queue_id_of(receipt)).result == "signed and encrypted"


@pytest.mark.parametrize("all_know", [True, False])
def test_it_is_encrypted_by_what_all_its_readers_are_known_to_read(
    house: House, all_know: bool
) -> None:
    for whom in (ADA, BOB):
        house.give_key(whom)
        (key,) = house.keys_of(whom)
        words = " ".join(OWN.words if all_know or whom == ADA else COMMON.words)
        house.write(lambda tx, key=key, words=words: rows.set_reads(tx, key.id, words, 1))
    house.say(ADA, encrypt=Mode.ALWAYS)
    house.send(ADA, [BOB])
    kind = read(house.stored(BOB)).root.parameters.text(b"smime-type")
    assert kind == ("authEnveloped-data" if all_know else "enveloped-data")


def test_those_whose_mail_is_opened_here_read_what_we_read(house: House) -> None:
    for whom in (ADA, BOB, CAT):
        house.give_key(whom)
    house.say(ADA, encrypt=Mode.ALWAYS, open=Mode.WHEN_POSSIBLE)
    house.say(BOB, open=Mode.WHEN_POSSIBLE)
    receipt = house.send(ADA, [BOB])
    names = {one.name: one for one in house.decision(queue_id_of(receipt)).findings}
    assert "AES-256-GCM" in str(names["encryption"])  # as it was opened for Bob
    house.send(ADA, [CAT])
    kind = read(house.stored(CAT)).root.parameters.text(b"smime-type")
    assert kind == "enveloped-data"  # who opens it at home


@pytest.mark.parametrize(
    ("mode", "said"), [(Mode.NEVER, COMMON.words), (Mode.WHEN_POSSIBLE, OWN.words)]
)
def test_a_signature_promises_no_more_than_its_owner_s_program_reads(
    house: House, mode: Mode, said: tuple[str, ...]
) -> None:
    """Where mail is opened here, that program is ours."""
    ada = house.give_key(ADA)
    house.say(ADA, sign=Mode.ALWAYS, open=mode)
    house.send(ADA, [BOB])
    trust = Trust(roots=read_certificates(ada.public))
    opened = open_message(house.stored(BOB), [SmimeOpener(trust=trust)], at=SystemClock().now())
    assert opened.whole is not None
    (signature,) = opened.whole.signatures
    assert signature.result is SignatureResult.VALID and signature.reads == said


def test_whoever_is_hidden_gets_a_copy_that_names_nobody_else(house: House) -> None:
    keys = {whom: house.give_key(whom) for whom in (ADA, BOB, CAT)}
    house.say(ADA, encrypt=Mode.ALWAYS)
    house.send(ADA, [BOB], bcc=[CAT])
    serials = {
        whom: read_certificates(key.public)[0].serial.to_bytes(20, "big").lstrip(b"\0")
        for whom, key in keys.items()
    }

    def named(whom: str) -> set[str]:
        sealed = mime.content(read(house.stored(whom)).root, octets_max=1 << 20)
        return {other for other, serial in serials.items() if serial in sealed}

    assert named(BOB) == {ADA, BOB} and named(CAT) == {ADA, CAT}


def test_it_is_encrypted_for_all_or_for_none(house: House) -> None:
    for whom in (ADA, BOB):
        house.give_key(whom)
    house.say(ADA, encrypt=Mode.WHEN_POSSIBLE)
    receipt = house.send(ADA, [BOB, CAT])
    assert SECRET.encode() in house.stored(BOB) and SECRET.encode() in house.stored(CAT)
    finding = the_finding(house, queue_id_of(receipt))
    assert finding.result == "none" and CAT in finding.reason
    house.say(ADA, encrypt=Mode.ALWAYS)
    with pytest.raises(MessageError) as caught:
        house.send(ADA, [BOB, CAT])
    assert caught.value.reply is not None and caught.value.reply.code == 550
    assert f"no key to encrypt to for {CAT}" in str(caught.value)
    assert len(house.server.inbox(BOB)) == len(house.server.inbox(CAT)) == 1


def test_a_recipient_elsewhere_counts_by_the_key_that_is_known(house: House) -> None:
    house.give_key(ADA)
    eve = key_material.make([EVE], at=SystemClock().now(), days=30)
    house.meet(eve)
    house.say(ADA, encrypt=Mode.ALWAYS)
    receipt = house.send(ADA, [EVE])
    assert house.recipients(queue_id_of(receipt)) == [EVE]
    assert the_finding(house, queue_id_of(receipt)).result == "encrypted"


def test_a_key_that_is_over_neither_signs_nor_is_encrypted_to(house: House) -> None:
    old = key_material.make([ADA], at=SystemClock().now() - timedelta(days=60), days=30)
    house.give_key(ADA, old)
    house.say(ADA, sign=Mode.ALWAYS)
    with pytest.raises(MessageError) as caught:
        house.send(ADA, [BOB])
    assert "no key of yours" in str(caught.value)
    house.say(ADA, sign=Mode.WHEN_POSSIBLE)
    house.send(ADA, [BOB])
    assert read(house.stored(BOB)).root.subtype != b"signed"


def test_what_the_sender_encrypted_is_left_alone(house: House) -> None:
    house.give_key(ADA)
    bob = house.give_key(BOB)
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    plain = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: Map\r\n\r\n{SECRET}\r\n".encode()
    to = SmimeRecipient(read_certificates(bob.public)[0])
    sealed = protect(
        plain, Protection(recipients=(to,), sealer=SmimeSealer()), at=SystemClock().now()
    )
    receipt = house.send(ADA, [BOB], message=Message(raw=sealed))
    assert sealed.partition(b"\r\n\r\n")[2].strip() in house.stored(BOB)
    assert "already" in the_finding(house, queue_id_of(receipt)).reason


def test_a_domain_speaks_for_accounts_that_say_nothing(house: House) -> None:
    house.give_key(ADA)
    house.say("example.test", sign=Mode.WHEN_POSSIBLE)
    house.send(ADA, [BOB])
    assert read(house.stored(BOB)).root.subtype == b"signed"
    house.say(ADA, sign=Mode.NEVER)
    house.send(ADA, [BOB])
    assert read(house.stored(BOB, count=2)).root.subtype != b"signed"


def test_mail_from_elsewhere_is_never_signed_as_ours(house: House) -> None:
    house.give_key(ADA)
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    octets = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: x\r\n\r\nhello\r\n".encode()
    house.arrive(octets, [BOB])
    assert read(house.stored(BOB)).root.subtype == b"plain"


# --- OpenPGP ---


@pytest.fixture
def pgp(house: House) -> House:
    """Ada and Bob have OpenPGP keys, and Ada signs and encrypts by them."""
    for whom in (ADA, BOB):
        house.give_key(whom, key_material.make([whom], at=NOW, days=30, scheme=Scheme.OPENPGP))
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.WHEN_POSSIBLE)
    return house


def test_openpgp_signs_and_encrypts_the_same_way(pgp: House) -> None:
    receipt = pgp.send(ADA, [BOB])
    octets = pgp.stored(BOB)
    letter = read(octets)
    assert (letter.root.maintype, letter.root.subtype) == (b"multipart", b"encrypted")
    assert SECRET.encode() not in octets and letter.subject == "[...]"
    finding = the_finding(pgp, queue_id_of(receipt))
    assert (finding.result, finding.reason) == ("signed and encrypted", "OpenPGP")
    pgp.say(BOB, open=Mode.ALWAYS)
    pgp.send(ADA, [BOB])
    opened = pgp.stored(BOB, count=2)
    assert SECRET in read(opened).text and read(opened).subject == "Map"
    [result] = [one for one in read(opened).headers("Authentication-Results") if "openpgp" in one]
    assert "x-openpgp=pass" in result and ADA in result


def test_without_everybodys_openpgp_key_it_is_signed_only(pgp: House) -> None:
    pgp.send(ADA, [BOB, CAT])
    root = read(pgp.stored(CAT)).root
    assert root.subtype == b"signed"
    assert root.children[1].subtype == b"pgp-signature"


def test_the_scheme_is_that_for_which_all_have_keys(pgp: House) -> None:
    """Bob and Ada have both; Cat has a certificate only."""
    for whom in (ADA, BOB, CAT):
        pgp.give_key(whom)
    pgp.write(lambda tx: mail_policy.set_policy(tx, ADA, scheme="openpgp"))
    pgp.send(ADA, [BOB, CAT])
    assert read(pgp.stored(CAT)).root.subtype == b"pkcs7-mime"
    pgp.send(ADA, [BOB])
    assert read(pgp.stored(BOB, count=2)).root.subtype == b"encrypted"


def test_mail_is_kept_encrypted_to_an_openpgp_key(pgp: House) -> None:
    pgp.say(BOB, at_rest=Mode.ALWAYS)
    pgp.arrive(f"From: {EVE}\r\nTo: {BOB}\r\nSubject: Map\r\n\r\n{SECRET}\r\n".encode(), [BOB])
    kept = pgp.stored(BOB)
    assert SECRET.encode() not in kept and read(kept).root.subtype == b"encrypted"
    assert read(kept).subject == "Map"


def test_the_own_key_travels_with_what_is_sent(pgp: House) -> None:
    pgp.send(ADA, [BOB])
    found = autocrypt.read(read_section(pgp.stored(BOB)))
    assert found is not None and found.address == ADA and found.prefers_encryption
    assert PublicKey(found.key).addresses == (ADA,)
    pgp.say(ADA, sign=Mode.NEVER, encrypt=Mode.NEVER)
    pgp.send(ADA, [BOB])
    assert b"Autocrypt" not in pgp.stored(BOB, count=2)


def test_recipients_are_told_each_others_keys_inside(pgp: House) -> None:
    pgp.give_key(CAT, key_material.make([CAT], at=NOW, days=30, scheme=Scheme.OPENPGP))
    pgp.say(BOB, open=Mode.ALWAYS)
    pgp.send(ADA, [BOB, CAT])
    assert b"gossip" not in pgp.stored(CAT).lower()
    assert told(pgp.stored(BOB)) == {BOB, CAT}


def test_a_key_in_a_field_is_learnt_from_whoever_logged_in_alone(house: House) -> None:
    """A stranger could say so in anybody's name."""
    made, _ = make_key([ADA], at=NOW, days=9)
    field = autocrypt.field(Autocrypt(address=ADA, key=made.public.octets))
    octets = field + f"From: {ADA}\r\nTo: {BOB}\r\nSubject: x\r\n\r\nhello\r\n".encode()
    house.say(BOB, open=Mode.WHEN_POSSIBLE)
    house.arrive(octets, [BOB])
    assert house.stored(BOB) and house.keys_of(ADA) == ()
    house.send(ADA, [BOB], message=Message(raw=octets))
    house.stored(BOB, count=2)
    learnt = house.keys_of(ADA)
    assert [(one.source, one.is_trusted) for one in learnt] == [(Source.AUTOCRYPT, False)]


def field_of(address: str, date: str) -> tuple[str, bytes]:
    """A fingerprint, and a message whose author says that it is their key."""
    made, _ = make_key([address], at=NOW, days=9)
    head = autocrypt.field(Autocrypt(address=address, key=made.public.octets))
    body = f"From: {address}\r\nTo: {BOB}\r\nDate: {date}\r\nSubject: x\r\n\r\nhello\r\n"
    return made.public.fingerprint, head + body.encode()


def test_an_old_message_sent_again_brings_no_old_key_back(house: House) -> None:
    house.say(BOB, open=Mode.WHEN_POSSIBLE)
    count = iter(range(1, 9))

    def first(octets: bytes) -> str:
        house.send(ADA, [BOB], message=Message(raw=octets))
        house.stored(BOB, count=next(count))
        return house.keys_of(ADA)[0].fingerprint

    new, letter = field_of(ADA, "Wed, 25 Nov 2026 10:00:00 +0000")
    assert first(letter) == new
    old, letter = field_of(ADA, "Tue, 24 Nov 2026 10:00:00 +0000")
    assert first(letter) == new and len(house.keys_of(ADA)) == 1
    next_one, letter = field_of(ADA, "Wed, 25 Nov 2026 10:00:01 +0000")
    assert first(letter) == next_one != old


def test_what_others_say_of_somebody_s_key_encrypts_nothing(pgp: House) -> None:
    """It is the word of anybody who has a domain, and whoever is written to could not read it."""
    mallory = key_material.make([EVE], at=NOW, days=30, scheme=Scheme.OPENPGP)
    hearsay = Autocrypt(address=EVE, key=PublicKey(mallory.public).octets)
    head = f"From: {CAT}\r\nTo: {BOB}, {EVE}\r\nSubject: x\r\n".encode()
    letter = head + autocrypt.field(hearsay, is_gossip=True) + b"\r\nhello\r\n"
    (bob,) = pgp.keys_of(BOB)
    wish = Protection(sealer=PgpSealer(), recipients=(PgpRecipient(PublicKey(bob.public)),))
    pgp.say(BOB, open=Mode.ALWAYS)
    pgp.send(CAT, [BOB], message=Message(raw=protect(letter, wish, at=NOW)))
    assert read(pgp.stored(BOB)).text.strip() == "hello"
    assert pgp.keys_of(EVE) == ()


def test_what_only_looks_encrypted_is_encrypted(house: House) -> None:
    """A message that is signed inside application/pkcs7-mime can be read by everybody."""
    ada = house.give_key(ADA)
    house.give_key(BOB)
    assert ada.private is not None
    certificates = read_certificates(ada.public)
    signer = SmimeSigner(Identity(private_key(ada.private), certificates[0], ()))
    entity = f"Content-Type: text/plain\r\n\r\n{SECRET}\r\n".encode()
    opaque = f"From: {ADA}\r\nTo: {BOB}\r\n".encode() + signer.sign_opaque(entity, at=NOW)
    house.say(ADA, encrypt=Mode.ALWAYS)
    receipt = house.send(ADA, [BOB], message=Message(raw=opaque))
    assert the_finding(house, queue_id_of(receipt)).result == "encrypted"
    house.say(ADA, encrypt=Mode.NEVER)
    house.say(BOB, at_rest=Mode.ALWAYS)
    house.send(ADA, [BOB], message=Message(raw=opaque))
    assert is_sealed(house.stored(BOB, count=2))


def test_each_gets_it_by_the_scheme_they_have_a_key_of(house: House) -> None:
    for whom in (ADA, BOB):
        house.give_key(whom)
    for whom in (ADA, CAT):
        house.give_key(whom, key_material.make([whom], at=NOW, days=30, scheme=Scheme.OPENPGP))
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    receipt = house.send(ADA, [BOB, CAT])
    assert read(house.stored(BOB)).root.subtype == b"pkcs7-mime"
    assert read(house.stored(CAT)).root.subtype == b"encrypted"
    finding = the_finding(house, queue_id_of(receipt))
    assert (finding.result, finding.reason) == ("signed and encrypted", "S/MIME, OpenPGP")


def test_the_sender_s_own_scheme_comes_first_where_readers_have_both(house: House) -> None:
    house.give_key(BOB)
    for whom in (ADA, BOB):
        house.give_key(whom, key_material.make([whom], at=NOW, days=30, scheme=Scheme.OPENPGP))
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    house.send(ADA, [BOB])
    assert read(house.stored(BOB)).root.subtype == b"encrypted"


def test_who_cannot_sign_by_their_readers_scheme_is_told_so(house: House) -> None:
    house.give_key(ADA)
    house.give_key(BOB, key_material.make([BOB], at=NOW, days=30, scheme=Scheme.OPENPGP))
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    with pytest.raises(MessageError) as caught:
        house.send(ADA, [BOB])
    assert "encrypted by OpenPGP" in str(caught.value) and "is for S/MIME" in str(caught.value)
    assert "posthouse key make --scheme openpgp" in str(caught.value)
    house.say(ADA, sign=Mode.NEVER)  # encrypting alone needs no key of the sender's
    receipt = house.send(ADA, [BOB])
    assert the_finding(house, queue_id_of(receipt)).result == "encrypted"


def test_what_is_missing_on_the_server_is_not_the_sender_s_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.give_key(ADA)
    house.give_key(BOB, key_material.make([BOB], at=NOW, days=30, scheme=Scheme.OPENPGP))
    house.say(ADA, encrypt=Mode.ALWAYS)

    def missing(*_: object) -> None:
        raise NotInstalled("OpenPGP needs a library that is not installed")

    monkeypatch.setattr("posthouse.accounts.key_material.pgp_material.recipient", missing)
    with pytest.raises(MessageError) as caught:
        house.send(ADA, [BOB])
    assert caught.value.reply is not None and caught.value.reply.code == 451
    assert caught.value.is_transient and "not installed" in str(caught.value)
