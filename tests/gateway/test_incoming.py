"""Mail that arrives signed or encrypted, and what its owner and the record hear of it."""

from __future__ import annotations

import base64
import email
import re
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial, Source
from posthouse.accounts.mail_policy import Mode
from posthouse.gateway.incoming import LOOKED_THROUGH_MAX, closed_part, is_protected
from posthouse.gateway.key_places import KeyPlaces
from posthouse.kernel.ports import FetchFailed, FetchTrouble
from posthouse.message import read
from posthouse.message.fields import FIELDS_MAX
from posthouse.message.mime import DEPTH_MAX, PARTS_MAX
from posthouse.mimesec.entity import join_message
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.opening import Opened, Summary
from posthouse.mimesec.pgp import PgpSigner, make_key, wkd
from posthouse.mimesec.pgp.keys import PublicKey
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.ports import Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.capabilities import COMMON, OWN, Capabilities, Cipher
from posthouse.mimesec.smime.identity import Identity, private_key, read_certificates
from posthouse.mimesec.smime.make import make_authority, make_identity
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.net.world import SystemClock
from posthouse.sending import Message, MessageError
from tests.gateway.house import ADA, BOB, EVE, SECRET, House, queue_id_of
from tests.gateway.test_key_places import Web, Zone

NOW = SystemClock().now()
PLAIN = f"From: Eve <{EVE}>\r\nTo: {ADA}\r\nSubject: Map\r\n\r\n{SECRET}\r\n".encode()
FROM_BOB = PLAIN.replace(f"From: Eve <{EVE}>".encode(), f"From: {BOB}".encode())
HOST = "localhost"
PIECES = (
    b"Content-Type: multipart/mixed; boundary=x\r\n",
    b"Content-Type: text/plain\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
)


@pytest.fixture(scope="module")
def eve() -> KeyMaterial:
    return key_material.make([EVE], at=NOW - timedelta(hours=1), days=30)


def signer(key: KeyMaterial) -> Signer:
    assert key.private is not None
    certificates = read_certificates(key.public)
    return SmimeSigner(Identity(private_key(key.private), certificates[0], ()))


def sealed(
    to: KeyMaterial, *, by: KeyMaterial | None = None, cipher: Cipher | None = None
) -> bytes:
    recipient = SmimeRecipient(read_certificates(to.public)[0])
    wish = Protection(
        recipients=(recipient,),
        sealer=SmimeSealer(cipher=cipher or Cipher.AES_256_GCM),
        signer=signer(by) if by is not None else None,
    )
    return protect(PLAIN, wish, at=NOW)


def signed(by: KeyMaterial) -> bytes:
    return protect(PLAIN, Protection(signer=signer(by)), at=NOW)


def results(octets: bytes) -> str:
    """What our Authentication-Results about signatures say."""
    found = [
        value
        for value in read(octets).headers("Authentication-Results")
        if "smime" in value or "openpgp" in value
    ]
    return " ".join(found)


def test_a_signature_is_verified_and_said_where_readers_look(
    house: House, eve: KeyMaterial
) -> None:
    house.meet(eve)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    octets = signed(eve)
    receipt = house.arrive(octets, [ADA])
    kept = house.stored(ADA)
    assert "smime=pass" in results(kept) and EVE in results(kept)
    assert octets.partition(b"\r\n\r\n")[2] in kept  # the signature is there for others, too
    found = [one for one in house.decision(queue_id_of(receipt)).findings if one.name == "smime"]
    assert [one.result for one in found] == ["pass"]


def test_a_stranger_s_certificate_proves_nothing(house: House, eve: KeyMaterial) -> None:
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(signed(eve), [ADA])
    assert "smime=policy" in results(house.stored(ADA))
    assert house.keys_of(EVE) == ()


def test_a_signature_by_somebody_else_than_the_author_is_none(  # H65
    house: House, eve: KeyMaterial
) -> None:
    house.meet(eve)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    plain = PLAIN.replace(EVE.encode(), b"chief@example.test")
    octets = protect(plain, Protection(signer=signer(eve)), at=NOW)
    house.arrive(octets, [ADA])
    assert "smime=policy" in results(house.stored(ADA))


def test_what_is_encrypted_to_a_key_kept_here_is_delivered_in_the_open(
    house: House, eve: KeyMaterial
) -> None:
    house.meet(eve)
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    receipt = house.arrive(sealed(ada, by=eve), [ADA, BOB])
    kept = house.stored(ADA)
    letter = read(kept)
    assert SECRET in letter.text and letter.subject == "Map"
    assert "smime=pass" in results(kept)
    assert SECRET.encode() not in house.stored(BOB)  # who has no such wish gets it as it came
    found = house.decision(queue_id_of(receipt)).findings
    names = {one.name: one.result for one in found}
    assert names["encryption"] == "opened" and names["smime"] == "pass"
    assert all(one.reason for one in found if one.name == "encryption")  # something to be shown
    assert "at-rest" not in names


def test_it_is_sealed_again_where_mail_is_kept_encrypted(house: House, eve: KeyMaterial) -> None:
    house.meet(eve)
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE, at_rest=Mode.ALWAYS)
    receipt = house.arrive(sealed(ada, by=eve), [ADA])
    kept = house.stored(ADA)
    assert SECRET.encode() not in kept and "smime=pass" in results(kept)
    assert read(kept).subject == "Map"  # opened first: it is listed by its real subject
    [told] = [x for x in house.decision(queue_id_of(receipt)).findings if x.name == "at-rest"]
    assert told.result == "encrypted"
    assert f"stored encrypted to {ada.fingerprint}" in told.reason


def test_what_was_hidden_may_not_speak_in_our_name(house: House) -> None:
    """Nobody has seen the protected fields before."""
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    forged = f"Authentication-Results: {HOST}; smime=pass body.smime-identifier={EVE}\r\n".encode()
    recipient = SmimeRecipient(read_certificates(ada.public)[0])
    octets = protect(
        forged + PLAIN,
        Protection(recipients=(recipient,), sealer=SmimeSealer(cipher=Cipher.AES_256_GCM)),
        at=NOW,
    )
    house.arrive(octets, [ADA])
    kept = house.stored(ADA)
    assert SECRET in read(kept).text
    assert "smime=pass" not in results(kept)


def sealed_by_hand(to: KeyMaterial, entity: bytes, *outer: bytes) -> bytes:
    """An entity that no program of ours would have made."""
    (certificate,) = read_certificates(to.public)[:1]
    sealer = SmimeSealer(cipher=Cipher.AES_256_GCM)
    closed = sealer.seal(entity, (SmimeRecipient(certificate),), at=NOW, signer=None)
    fields = (f"From: {EVE}\r\n".encode(), f"To: {ADA}\r\n".encode(), *outer)
    return join_message(fields, closed)


@pytest.mark.parametrize("text", [b"a\nb\n", b"a\rb\r\n", b"a\0b\r\n", b"a\n.\r\n+OK smuggled\r\n"])
def test_what_comes_out_is_fit_to_be_kept(house: House, text: bytes) -> None:
    """The same octets in the open are refused at the door."""
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(sealed_by_hand(ada, b"Content-Type: text/plain\r\n\r\n" + text), [ADA])
    stored = house.stored(ADA)
    assert b"pkcs7-mime" not in stored
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", stored)


def test_a_bare_cr_hides_no_results_in_our_name(house: House) -> None:
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    forged = b"X-A: b\rAuthentication-Results: localhost; dmarc=pass\r\n"
    entity = b"From: %b\r\n%bContent-Type: text/plain; hp=cipher\r\n\r\nhi\r\n" % (
        EVE.encode(),
        forged,
    )
    house.arrive(sealed_by_hand(ada, entity), [ADA])
    found = email.message_from_bytes(house.stored(ADA)).get_all("Authentication-Results", [])
    assert not any("dmarc=pass" in one for one in found)


def test_what_puts_a_message_in_its_place_stays_with_it(house: House) -> None:
    """Long lists, and the date and name that a server gave to it as its program wrote none."""
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    many = b",\r\n ".join(b"friend%05d@far.example" % n for n in range(5000))
    entity = b"From: %b\r\nTo: %b\r\nContent-Type: text/plain; hp=cipher\r\n\r\nhi\r\n" % (
        EVE.encode(),
        many,
    )
    outer = (b"Date: Thu, 26 Nov 2026 10:00:00 +0000\r\n", b"Message-ID: <a@b.example>\r\n")
    house.arrive(sealed_by_hand(ada, entity, *outer), [ADA])
    stored = house.stored(ADA)
    found = read(stored)
    assert found.headers("Message-ID") == ("<a@b.example>",) and found.headers("Date")
    assert b"friend04999@far.example" in stored


def test_unauthenticated_encryption_stays_closed(house: House) -> None:  # H65
    ada = house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    receipt = house.arrive(sealed(ada, cipher=Cipher.AES_256_CBC), [ADA])
    assert SECRET.encode() not in house.stored(ADA)
    names = {one.name: one.result for one in house.decision(queue_id_of(receipt)).findings}
    assert names["encryption"] == "refused"


def test_what_stays_closed_is_refused_where_the_policy_says_so(
    house: House, eve: KeyMaterial
) -> None:
    house.give_key(ADA)
    house.say(ADA, open=Mode.ALWAYS)
    with pytest.raises(MessageError) as caught:
        house.arrive(sealed(eve), [ADA])
    assert caught.value.reply is not None
    assert (caught.value.reply.code, caught.value.reply.status) == (550, "5.7.5")
    assert house.server.inbox(ADA) == []


@pytest.mark.parametrize(
    ("bound", "code", "words"),
    [
        ({"result_octets_max": 1000}, 550, "its result is larger than 1000 octets"),
        ({"memory_octets": 1024 * 1024}, 550, "it needed more than 1 MiB of memory"),
        ({"open_s": 0.001}, 451, "please try again later"),  # the machine may have been busy
    ],
)
def test_what_goes_past_a_bound_is_refused_for_good(  # H66
    house: House, bound: dict[str, float], code: int, words: str
) -> None:
    key = house.give_key(ADA)
    house.say(ADA, open=Mode.ALWAYS)
    incoming = house.node.gateway.incoming
    incoming.options = msgspec.structs.replace(incoming.options, **bound)
    recipient = SmimeRecipient(read_certificates(key.public)[0])
    wish = Protection(recipients=(recipient,), sealer=SmimeSealer(cipher=Cipher.AES_256_GCM))
    octets = protect(PLAIN + b"a" * 70 * 10_000, wish, at=NOW)
    with pytest.raises(MessageError) as caught:
        house.arrive(octets, [ADA])
    reply = caught.value.reply
    assert reply is not None and (reply.code, reply.status) == (code, f"{code // 100}.7.5")
    assert words in reply.text


HEAD = f"From: {EVE}\r\nTo: {ADA}\r\nSubject: Map\r\nMIME-Version: 1.0\r\n".encode()


def block(to: PublicKey, text: str = SECRET) -> bytes:
    """OpenPGP without MIME."""
    sealed = PgpSealer().seal(text.encode(), [PgpRecipient(to)], at=NOW, signer=None)
    begin, end = sealed.index(b"-----BEGIN PGP M"), sealed.index(b"-----END PGP MESSAGE-----")
    return sealed[begin:end] + b"-----END PGP MESSAGE-----\r\n"


def encoded(text: bytes, encoding: str) -> bytes:
    body = {
        "base64": base64.encodebytes(text),
        "quoted-printable": text.replace(b"=", b"=3D").replace(b"-----B", b"=2D----B"),
    }[encoding]
    return b"Content-Transfer-Encoding: %b\r\n\r\n%b" % (encoding.encode(), body)


def beside(part: bytes) -> bytes:
    text = b"Content-Type: text/plain\r\n\r\nlook\r\n"
    pieces = b"".join(b"--x\r\n%b\r\n" % one for one in (text, part))
    return HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n%b--x--\r\n" % pieces


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_encrypted_text_is_found_in_every_encoding(house: House, encoding: str) -> None:
    material = key_material.make([ADA], at=NOW, days=30, scheme=Scheme.OPENPGP)
    house.give_key(ADA, material)
    house.say(ADA, open=Mode.ALWAYS)
    house.arrive(HEAD + encoded(block(PublicKey(material.public)), encoding), [ADA])
    assert SECRET in read(house.stored(ADA)).text
    stranger, _ = make_key([BOB], at=NOW, days=9)
    for octets in (
        HEAD + encoded(block(stranger.public), encoding),
        beside(encoded(block(stranger.public, SECRET * 9_000), encoding)),  # for a worker
    ):
        with pytest.raises(MessageError) as caught:
            house.arrive(octets, [ADA])
        assert caught.value.reply is not None and caught.value.reply.status == "5.7.5"


def test_what_may_be_protected_is_found_whatever_hides_it() -> None:
    for plain in (
        PLAIN,
        HEAD + encoded(b"hello", "base64"),
        HEAD + encoded(b"-----BEGIN OTHER-----", "quoted-printable"),
    ):
        assert not is_protected(plain)
    for octets in (
        HEAD + b"Content-Type: multipart /\r\n encrypted; boundary=x\r\n\r\n",
        HEAD + b"Content-Type: application/(a)pkcs7-mime\r\n" + encoded(b"x", "base64"),
        HEAD
        + b"Content-Type: application/octet-stream; name*=utf-8''a%2Ep7m\r\n"
        + encoded(b"x", "base64"),
    ):
        assert is_protected(octets)


@given(st.lists(st.sampled_from((*PIECES, b"\r\n", b"--x", b"=2D", b"LS0t"))).map(b"".join))
def test_looking_for_protection_never_raises(octets: bytes) -> None:
    is_protected(octets)


@pytest.mark.parametrize("kind", ["part", "text", "forwarded"])
def test_what_is_encrypted_beside_other_things_is_not_open(house: House, kind: str) -> None:
    """Its key is here; put into the message it could be sent elsewhere (EFAIL)."""
    material = key_material.make([ADA], at=NOW, days=30, scheme=Scheme.OPENPGP)
    house.give_key(ADA, material)
    public = PublicKey(material.public)
    entity = PgpSealer().seal(
        b"Content-Type: text/plain\r\n\r\n" + SECRET.encode(),
        [PgpRecipient(public)],
        at=NOW,
        signer=None,
    )
    octets, words = {
        "part": (beside(entity), "an encrypted part beside others"),
        "text": (HEAD + b"\r\nlook:\r\n" + block(public), "encrypted text beside other text"),
        "forwarded": (
            beside(b"Content-Type: message/rfc822\r\n\r\n" + HEAD + entity),
            "forwards an encrypted message",
        ),
    }[kind]
    house.say(ADA, open=Mode.ALWAYS)
    with pytest.raises(MessageError) as caught:
        house.arrive(octets, [ADA])
    reply = caught.value.reply
    assert reply is not None and (reply.code, reply.status) == (550, "5.7.5")
    assert words in reply.text and "is not opened here" in reply.text
    assert house.server.inbox(ADA) == []
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(octets, [ADA])
    assert b"-----BEGIN PGP MESSAGE" in house.stored(ADA)


@pytest.mark.parametrize("kind", ["one part too many", "two boundaries"])
def test_what_says_it_is_encrypted_and_cannot_be_read_is_not_open(house: House, kind: str) -> None:
    entity = (
        b"Content-Type: multipart/encrypted; boundary=x\r\n\r\n"
        b"--x\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        b"--x\r\n\r\nfirst\r\n--x\r\n\r\nsecond\r\n--x--\r\n"
    )
    octets = HEAD + entity
    if kind == "two boundaries":
        inner = entity.replace(b"--x\r\n\r\nsecond\r\n", b"")
        octets = beside(inner.replace(b"boundary=x", b"boundary=y").replace(b"--x", b"--y"))
        octets = re.sub(rb"(multipart/mixed; boundary=)", rb"\1q; boundary*0=", octets)
    house.say(ADA, open=Mode.ALWAYS)
    with pytest.raises(MessageError, match="can be read in several ways"):
        house.arrive(octets, [ADA])
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(octets, [ADA])
    assert b"first" in house.stored(ADA)


NAMED = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nMIAG\r\n"
UNNAMED = encoded(b"-----BEGIN PGP MESSAGE-----\r\n", "base64")
NESTED = (
    b"Content-Type: multipart/mixed; boundary=z%d\r\n\r\n--z%d\r\n",
    b"\r\n--z%d--\r\n",
)
# What some readers look into and nobody here does, and what only looks in another way.
UNREAD = (
    "a second boundary", "a second type", "an encoded multipart", "an encoded message",
    "another kind of message", "many fields", "a long boundary", "deep", "messages in messages",
    "many parts",
)  # fmt: skip
MISREAD = ("a second type of the part", "a first type of the part", "no field", "a long delimiter")


def wrapped(closed: bytes, how: str) -> bytes:
    """An encrypted entity beside a text, where some readers see it and others do not."""
    kind, edge, text = b"multipart/mixed; boundary=q", b"--q", b"look\r\n"
    more = b""
    match how:
        case "a second boundary":
            kind += b"; boundary=r"
        case "a second type":
            more = b"Content-Type: text/plain\r\n"
        case "a second type of the part":
            closed = b"Content-Type: text/plain\r\n" + closed
        case "a first type of the part":
            closed = b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n" + closed
        case "an encoded multipart":
            more = b"Content-Transfer-Encoding: base64\r\n"
        case "an encoded message":
            kind_of_part = b"Content-Type: message/rfc822\r\n"
            closed = kind_of_part + b"Content-Transfer-Encoding: base64\r\n\r\n" + closed
        case "another kind of message":
            closed = b"Content-Type: message/global\r\n\r\n" + closed
        case "no field":
            closed = b"A: b\r\nno field\r\n" + closed
        case "many fields":
            closed = b"A: b\r\n" * FIELDS_MAX + closed
        case "a long delimiter":
            text += edge + b" " * 300 + b"\r\n" + closed + b"\r\n"
            closed = b"\r\n"
        case "a long boundary":
            kind, edge = b"multipart/mixed; boundary=" + b"q" * 250, b"--" + b"q" * 250
        case "deep":
            for at in range(DEPTH_MAX):
                closed = NESTED[0] % (at, at) + closed + NESTED[1] % at
        case "messages in messages":
            closed = b"Content-Type: message/rfc822\r\n\r\n" * DEPTH_MAX + closed
        case "many parts":
            text += b"--q\r\n\r\n\r\n" * PARTS_MAX
    head = HEAD + more + b"Content-Type: " + kind + b"\r\n\r\n"
    parts = edge + b"\r\n\r\n" + text + edge + b"\r\n" + closed
    return head + parts + b"\r\n" + edge + b"--\r\n"


@pytest.mark.parametrize(
    ("entity", "how"),
    [(NAMED, how) for how in UNREAD + MISREAD] + [(UNNAMED, how) for how in UNREAD],
)
def test_what_is_not_looked_at_is_not_open(entity: bytes, how: str) -> None:  # H28, H32, H34
    octets = wrapped(entity, how)
    assert is_protected(octets)
    opened = Opened(octets=octets, summary=Summary.NOT_PROTECTED)
    assert "can be read in several ways" in closed_part(opened)


@pytest.mark.parametrize("how", MISREAD)
def test_an_odd_message_with_nothing_encrypted_is_open(how: str) -> None:
    octets = wrapped(b"\r\nthe elm\r\n", how)
    named = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n" + octets
    for each in (octets, named):  # most mail has something that is encoded
        assert closed_part(Opened(octets=each, summary=Summary.NOT_PROTECTED)) == ""


def test_a_notice_about_closed_mail_is_open(house: House) -> None:
    """Its sender would not hear that their own mail came back."""
    house.say(ADA, open=Mode.ALWAYS)
    returned = sealed(key_material.make([BOB], at=NOW - timedelta(hours=1), days=9))
    status = b"Reporting-MTA: dns; far.example\r\n\r\nFinal-Recipient: rfc822; x@far.example\r\n"
    status += b"Action: failed\r\nStatus: 5.1.1\r\n"
    for brought in (returned, returned.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"):
        pieces = (
            b"\r\nIt came back.\r\n",
            b"Content-Type: message/delivery-status\r\n\r\n" + status,
            b"Content-Type: message/rfc822\r\n\r\n" + brought,
        )
        kind = b"Content-Type: multipart/report; report-type=delivery-status; boundary=q\r\n\r\n"
        body = b"".join(b"--q\r\n%b\r\n" % one for one in pieces) + b"--q--\r\n"
        house.arrive(HEAD + kind + body, [ADA])
    assert b"It came back." in house.stored(ADA, count=2)


def test_many_multiparts_inside_each_other_are_not_looked_through_for_each_of_them() -> None:
    octets = NAMED + b"look\r\n" * 10_000
    for at in range(LOOKED_THROUGH_MAX + 1):
        octets = NESTED[0] % (at, at) + octets + NESTED[1] % at
    opened = Opened(octets=HEAD + octets, summary=Summary.NOT_PROTECTED)
    assert "can be read in several ways" in closed_part(opened)


def test_mail_that_hides_an_encrypted_part_is_refused(house: House) -> None:
    house.say(ADA, open=Mode.ALWAYS)
    for entity in (NAMED, UNNAMED):
        with pytest.raises(MessageError, match="can be read in several ways"):
            house.arrive(wrapped(entity, "deep"), [ADA])
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    house.arrive(wrapped(NAMED, "deep"), [ADA])
    assert b"MIAG" in house.stored(ADA)


def test_the_others_get_it_and_the_sender_hears_of_the_one_who_does_not(
    house: House, eve: KeyMaterial
) -> None:
    house.give_key(ADA)
    house.say(ADA, open=Mode.ALWAYS)
    house.arrive(sealed(eve), [ADA, BOB], sender=BOB)
    arrived = house.server.wait_for(BOB, count=2, timeout_s=20)
    notices = [one for one in arrived if one.sender == ""]
    assert len(notices) == 1
    assert ADA in notices[0].message.text and "5.7.5" in notices[0].octets.decode()
    assert house.server.inbox(ADA) == []


def test_a_valid_signature_teaches_the_key_to_answer_with(house: House, eve: KeyMaterial) -> None:
    root = make_authority("Root", at=NOW - timedelta(days=1), days=300)
    issued = make_identity([EVE], at=NOW - timedelta(hours=1), days=30, issuer=root)
    roots = (root.certificates_pem(),)
    incoming = house.node.gateway.incoming
    incoming.options = msgspec.structs.replace(incoming.options, roots=roots)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    octets = protect(PLAIN, Protection(signer=SmimeSigner(issued)), at=NOW)
    house.arrive(octets, [ADA])
    assert "smime=pass" in results(house.stored(ADA))
    learnt = house.keys_of(EVE)
    assert [(one.source, one.is_trusted) for one in learnt] == [(Source.LEARNT, False)]
    # and now it can be answered
    house.give_key(ADA)
    house.say(ADA, encrypt=Mode.ALWAYS)
    assert house.recipients(queue_id_of(house.send(ADA, [EVE]))) == [EVE]


def test_what_a_signer_s_program_reads_is_kept_and_the_newest_word_counts(house: House) -> None:
    bob = house.give_key(BOB)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)

    def sign(reads: Capabilities, minutes: int) -> None:
        certificates = read_certificates(bob.public)
        assert bob.private is not None
        identity = Identity(private_key(bob.private), certificates[0], ())
        wish = Protection(signer=SmimeSigner(identity, reads=reads))
        house.arrive(protect(FROM_BOB, wish, at=NOW + timedelta(minutes=minutes)), [ADA])

    count = iter(range(1, 9))

    def kept() -> tuple[str, ...]:
        house.stored(ADA, count=next(count))
        (key,) = house.keys_of(BOB)
        return key.reads

    sign(OWN, -30)
    assert kept() == OWN.words
    sign(COMMON, -40)  # an older letter that took its time, or that somebody sends again
    assert kept() == OWN.words
    sign(COMMON, -20)
    assert kept() == COMMON.words
    sign(OWN, 50)  # a time to come counts as now
    assert kept() == OWN.words
    (key,) = house.keys_of(BOB)
    assert key.said_at is not None and key.said_at <= int(SystemClock().now().timestamp() * 1e6)


def test_plain_mail_is_not_looked_at(house: House) -> None:
    house.give_key(ADA)
    house.say(ADA, open=Mode.ALWAYS)
    house.arrive(PLAIN, [ADA])
    assert results(house.stored(ADA)) == ""


def test_a_private_key_is_in_no_log_line_and_no_record(house: House, eve: KeyMaterial) -> None:
    ada = house.give_key(ADA)
    assert ada.private is not None
    house.say(ADA, open=Mode.WHEN_POSSIBLE, sign=Mode.ALWAYS)
    receipt = house.arrive(sealed(ada, by=eve), [ADA])
    house.send(ADA, [BOB])
    logged = b"".join(house.server.log_lines)
    for form in (ada.private[:40], ada.private.hex().encode()[:40]):
        assert form not in logged
    assert SECRET.encode() not in logged
    assert SECRET not in repr(house.decision(queue_id_of(receipt)))


def test_the_author_s_key_is_looked_for_where_their_domain_shows_it(house: House) -> None:
    """Only for authors that are known to be it."""
    made, _ = make_key([BOB], at=NOW - timedelta(hours=1), days=9)
    advanced, direct = wkd.urls(BOB)
    web = Web({advanced: FetchFailed("no host", FetchTrouble.DNS), direct: made.public.octets})
    house.node.gateway.key_search._places = KeyPlaces(resolver=Zone(), fetch=web)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    octets = protect(FROM_BOB, Protection(signer=PgpSigner(made)), at=NOW)
    house.arrive(octets, [ADA], sender=BOB)  # a stranger who says so
    assert "x-openpgp=pass" not in results(house.stored(ADA)) and web.asked == []
    house.send(BOB, [ADA], message=Message(raw=octets))
    assert "x-openpgp=pass" in results(house.stored(ADA, count=2)) and direct in web.asked
    asked = len(web.asked)
    house.send(BOB, [ADA], message=Message(raw=octets))
    assert "x-openpgp=pass" in results(house.stored(ADA, count=3)) and len(web.asked) == asked
