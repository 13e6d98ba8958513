"""What the sender's own program signed, or claims to have signed, before it is submitted."""

from __future__ import annotations

import base64
import bz2
import tracemalloc
import zlib
from collections.abc import Callable

import msgspec
import pytest

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial
from posthouse.accounts.mail_policy import Mode
from posthouse.gateway import signed_before
from posthouse.message import read
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.opening import Opened, Summary, open_message
from posthouse.mimesec.pgp.keys import PublicKey, read_private
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.packets import Tag, encoded
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.ports import Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity, private_key, read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.mimesec.smime.wrapping import pkcs7_mime
from posthouse.net.world import SystemClock
from posthouse.sending import Message
from tests.gateway.house import ADA, BOB, SECRET, House, queue_id_of
from tests.gateway.test_outgoing import the_finding
from tests.mimesec.smime.test_sealing import packed

NOW = SystemClock().now()
PLAIN = (
    f"From: {ADA}\r\nTo: {BOB}\r\nSubject: Map\r\nMIME-Version: 1.0\r\n"
    f"Content-Type: text/plain\r\n\r\n{SECRET}\r\n"
).encode()
HOW = ["S/MIME", "S/MIME, opaque", "OpenPGP"]


def scheme_of(how: str) -> Scheme:
    return Scheme.OPENPGP if how == "OpenPGP" else Scheme.SMIME


def key_of(scheme: Scheme, address: str = ADA) -> KeyMaterial:
    return key_material.make([address], at=NOW, days=30, scheme=scheme)


def signer_of(key: KeyMaterial) -> Signer:
    assert key.private is not None
    if key.scheme is Scheme.OPENPGP:
        return PgpSigner(read_private(key.private)[0])
    [certificate] = read_certificates(key.public)
    return SmimeSigner(Identity(private_key(key.private), certificate, ()))


def signed(how: str, key: KeyMaterial, *, policy: HeaderPolicy | None = None) -> bytes:
    """As a program does it, which knows nothing of header protection."""
    wish = Protection(
        signer=signer_of(key), header_policy=policy, is_opaque=how == "S/MIME, opaque"
    )
    return protect(PLAIN, wish, at=NOW)


def body(octets: bytes) -> bytes:
    return octets.partition(b"\r\n\r\n")[2].strip()


def opened(octets: bytes, *keys: KeyMaterial, own: KeyMaterial | None = None) -> Opened:
    """By somebody who trusts those keys."""
    smime = [key for key in keys if key.scheme is Scheme.SMIME]
    pgp = [PublicKey(key.public) for key in keys if key.scheme is Scheme.OPENPGP]
    private = own.private if own is not None else None
    identities, mine = [], ()
    if own is not None and private is not None and own.scheme is Scheme.SMIME:
        identities = [Identity(private_key(private), read_certificates(own.public)[0], ())]
    elif private is not None:
        mine = read_private(private)
    roots = [read_certificates(key.public)[0] for key in smime]
    openers = [
        SmimeOpener(identities=identities, trust=Trust(roots=roots), expected_addresses=[ADA]),
        PgpOpener(own=mine, known=pgp, trusted=[one.fingerprint for one in pgp]),
    ]
    return open_message(octets, openers, at=NOW)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_real_signature_is_enough_also_by_a_key_that_is_not_here(
    house: House, how: str, is_known: bool
) -> None:
    key = key_of(scheme_of(how))
    house.give_key(ADA, key if is_known else None)
    house.say(ADA, sign=Mode.ALWAYS)
    octets = signed(how, key)
    receipt = house.send(ADA, [BOB], message=Message(raw=octets))
    assert body(house.stored(BOB)) == body(octets)
    finding = the_finding(house, queue_id_of(receipt))
    assert (finding.result, finding.reason) == ("none", "the sender has signed it already")


EMPTY = b"""Content-Type: multipart/signed; boundary=x

--x
Content-Type: text/plain

%b
--x--
"""
OTHER_TYPE = EMPTY.replace(b"--x--", b"--x\nContent-Type: text/plain\n\nsigned, honestly\n--x--")
NO_PACKETS = OTHER_TYPE.replace(b"text/plain\n\nsigned", b"application/pgp-signature\n\nsigned")
NO_STRUCTURE = OTHER_TYPE.replace(b"text/plain\n\nsigned", b"application/pkcs7-signature\n\nsigned")
NO_CMS = b"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\n%b\n"


@pytest.mark.parametrize("claim", [EMPTY, OTHER_TYPE, NO_PACKETS, NO_STRUCTURE, NO_CMS])
def test_the_name_of_a_signature_is_no_signature(house: House, claim: bytes) -> None:
    key = house.give_key(ADA)
    house.say(ADA, sign=Mode.ALWAYS)
    claim = (claim % SECRET.encode()).replace(b"\n", b"\r\n")
    octets = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: Map\r\n".encode() + claim
    receipt = house.send(ADA, [BOB], message=Message(raw=octets))
    assert the_finding(house, queue_id_of(receipt)).result == "signed"
    stored = house.stored(BOB)
    assert SECRET.encode() in stored and read(stored).subject == "Map"
    whole = opened(stored, key).whole
    assert whole is not None
    assert whole.outer_signatures or whole.signatures
    every = (*whole.signatures, *whole.outer_signatures)
    assert every[0].result is SignatureResult.VALID


@pytest.mark.parametrize("how", HOW)
def test_what_some_readers_see_as_text_is_not_signed(how: str) -> None:  # H34
    octets = signed(how, key_of(scheme_of(how)))
    assert signed_before.is_signed(octets, (), NOW)
    stray = octets.replace(b"MIME-Version:", b"no field\r\nMIME-Version:", 1)
    assert not signed_before.is_signed(stray, (), NOW)


@pytest.mark.parametrize("how", HOW)
def test_a_signature_that_is_wrong_is_none(house: House, how: str) -> None:
    key = key_of(scheme_of(how))
    house.give_key(ADA, key)
    house.say(ADA, sign=Mode.ALWAYS)
    octets = signed(how, key)
    if how == "S/MIME, opaque":
        head, _, text = octets.partition(b"\r\n\r\n")
        octets = head + b"\r\n\r\n" + text[:-200] + text[-100:]
    else:
        octets = octets.replace(SECRET.encode(), SECRET.replace("oak", "elm").encode())
    receipt = house.send(ADA, [BOB], message=Message(raw=octets))
    assert the_finding(house, queue_id_of(receipt)).result == "signed"


def test_who_has_to_sign_and_has_no_key_cannot_say_that_they_did(house: House) -> None:
    house.say(ADA, sign=Mode.ALWAYS)
    claim = (NO_PACKETS % SECRET.encode()).replace(b"\n", b"\r\n")
    octets = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: Map\r\n".encode() + claim
    with pytest.raises(Exception, match="no key of yours"):
        house.send(ADA, [BOB], message=Message(raw=octets))


def test_ordinary_mail_is_not_looked_into(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr("posthouse.gateway.outgoing.is_signed", never)
    house.give_key(ADA)
    house.say(ADA, sign=Mode.ALWAYS)
    receipt = house.send(ADA, [BOB])
    assert the_finding(house, queue_id_of(receipt)).result == "signed"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("policy", [None, HeaderPolicy.BASELINE])
def test_around_what_was_signed_nothing_is_lost_by_encryption(
    house: House, how: str, scheme: Scheme, policy: HeaderPolicy | None
) -> None:
    ada, bob = key_of(scheme_of(how)), key_of(scheme, BOB)
    house.give_key(ADA, ada)
    house.give_key(BOB, bob)
    house.say(ADA, sign=Mode.ALWAYS, encrypt=Mode.ALWAYS)
    octets = signed(how, ada, policy=policy)
    receipt = house.send(ADA, [BOB], message=Message(raw=octets))
    assert the_finding(house, queue_id_of(receipt)).result == "encrypted"
    stored = house.stored(BOB)
    assert SECRET.encode() not in stored
    assert read(stored).subject == ("Map" if policy is None else "[...]")
    found = opened(stored, ada, own=bob)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    shown = read(found.octets)
    assert (shown.subject, shown.text.strip()) == ("Map", SECRET)


def test_a_signature_is_compared_with_those_of_the_sender_s_keys_that_can_be_read(
    house: House,
) -> None:
    key = key_of(Scheme.OPENPGP)
    house.give_key(ADA, key)
    [kept] = house.keys_of(ADA)
    unreadable = msgspec.structs.replace(kept, public=b"x")
    changed = signed("OpenPGP", key).replace(SECRET.encode(), b"nowhere")
    assert not signed_before.is_signed(changed, (unreadable, kept), NOW)
    assert signed_before.is_signed(changed, (unreadable,), NOW)  # by nobody who is known


def packed_by_openpgp(entity: bytes) -> bytes:
    literal = encoded(Tag.LITERAL, b"b\0\0\0\0\0" + entity)
    packets = encoded(Tag.COMPRESSED, b"\x03" + bz2.compress(literal))
    return (
        f"From: {ADA}\r\nContent-Type: multipart/encrypted; boundary=q\r\n\r\n"
        "--q\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        "--q\r\nContent-Type: application/octet-stream\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n%b--q--\r\n"
    ).encode() % base64.encodebytes(packets)


def packed_by_smime(entity: bytes) -> bytes:
    head = f"From: {ADA}\r\n".encode()
    return head + pkcs7_mime(packed(zlib.compress(entity)), "compressed-data")


@pytest.mark.parametrize("pack", [packed_by_openpgp, packed_by_smime])
def test_what_is_packed_takes_no_more_memory_than_its_size_allows(
    pack: Callable[[bytes], bytes],
) -> None:
    """It is done in the server's own process."""
    octets = pack(b"Content-Type: text/plain\r\n\r\n" + bytes(64 << 20))
    tracemalloc.start()
    assert not signed_before.is_signed(octets, (), NOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (8 << 20) + 20 * len(octets)


@pytest.mark.parametrize("pack", [packed_by_openpgp, packed_by_smime])
def test_what_is_signed_and_packed_is_signed(pack: Callable[[bytes], bytes]) -> None:
    for how in HOW:
        octets = signed(how, key_of(scheme_of(how)))
        entity = octets[octets.index(b"Content-Type: ") :]
        assert signed_before.is_signed(pack(entity), (), NOW)
