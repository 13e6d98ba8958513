"""Whole messages signed and encrypted (RFC 8551, RFC 3156, RFC 9788)."""

from __future__ import annotations

import pytest

from posthouse.message import mime
from posthouse.message.fields import read_section
from posthouse.mimesec.entity import is_clean
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.protection import Protection, protect, protect_each
from tests.mimesec.fakes import (
    NOW,
    FakeOpaqueSigner,
    FakeOpener,
    FakeRecipient,
    FakeSealer,
    FakeSigner,
)

MESSAGE = (
    "From: Alice <alice@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject: Grüße\r\n"
    "Bcc: carol@c.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße an alle, die das lesen mögen \r\nFrom Alice\r\n"
).encode()
ALICE, BOB = FakeRecipient("alice@a.example"), FakeRecipient("bob@b.example")
CAROL = FakeRecipient("carol@c.example")
PGP = FakeSealer()


def signed_part(octets: bytes) -> tuple[bytes, bytes]:
    first, second = mime.scan(octets).children
    return octets[first.start : first.end], mime.content(second, octets_max=10_000)


def test_a_signed_message_verifies_is_clean_and_has_its_fields_inside() -> None:
    made = protect(MESSAGE, Protection(signer=FakeSigner()), at=NOW)
    assert is_clean(made)
    outside = read_section(made)
    assert outside.count(b"from") == outside.count(b"mime-version") == 1
    assert outside.count(b"content-type") == 1
    assert b"bcc" not in outside
    signed, signature = signed_part(made)
    (found,) = FakeOpener().verify(signed, signature, at=NOW)
    assert found.result is SignatureResult.VALID
    inside = read_section(signed)
    assert inside.first(b"subject") == outside.first(b"subject") == b"=?utf-8?b?R3LDvMOfZQ==?="
    assert b"bcc" not in inside
    assert b"\r\n=46rom Alice" in signed


def test_of_an_encrypted_message_nothing_is_seen_but_what_the_policy_lets() -> None:
    made = protect(MESSAGE, Protection(sealer=PGP, recipients=(BOB,), own=ALICE), at=NOW)
    assert read_section(made).first(b"subject") == b"[...]"
    assert b"Gr" not in made.replace(b"Gr=3D", b"")
    opened = FakeOpener("alice@a.example").unseal(mime_second(made), at=NOW)
    assert opened.encryption.recipients == ("BOB@B.EXAMPLE", "ALICE@A.EXAMPLE")
    inside = read_section(opened.entity)
    assert inside.first(b"subject") == b"=?utf-8?b?R3LDvMOfZQ==?="
    assert b"HP-Outer: Subject: [...]\r\n" in opened.entity
    assert b"carol" not in opened.entity
    assert is_clean(opened.entity)


def mime_second(octets: bytes) -> bytes:
    return mime.content(mime.scan(octets).children[1], octets_max=100_000)


def test_the_signature_is_inside_the_encryption() -> None:
    protection = Protection(signer=FakeSigner(), sealer=PGP, recipients=(BOB,))
    made = protect(MESSAGE, protection, at=NOW)
    assert b"multipart/signed" not in made
    inside = FakeOpener("bob@b.example").unseal(mime_second(made), at=NOW).entity
    assert inside.startswith(b"Content-Type: multipart/signed")
    signed, signature = signed_part(inside)
    assert FakeOpener().verify(signed, signature, at=NOW)[0].result is SignatureResult.VALID
    assert b"hp=cipher" in signed and b"hp=" not in inside.partition(b"\r\n\r\n")[0]


def test_a_signature_of_another_scheme_is_a_layer_of_its_own() -> None:
    protection = Protection(signer=FakeSigner(scheme=Scheme.SMIME), sealer=PGP, recipients=(BOB,))
    inside = FakeOpener("bob@b.example").unseal(
        mime_second(protect(MESSAGE, protection, at=NOW)), at=NOW
    )
    assert b"application/pkcs7-signature" in inside.entity


def test_an_opaque_signature_holds_the_text() -> None:
    made = protect(MESSAGE, Protection(signer=FakeOpaqueSigner(), is_opaque=True), at=NOW)
    root = mime.scan(made)
    assert root.subtype == b"pkcs7-mime"
    opened = FakeOpener().unseal(mime.content(root, octets_max=100_000), at=NOW)
    assert opened.signatures[0].result is SignatureResult.VALID
    sealer = FakeSealer(Scheme.SMIME)
    bob = FakeRecipient("bob@b.example", Scheme.SMIME)
    both = Protection(signer=FakeOpaqueSigner(), is_opaque=True, sealer=sealer, recipients=(bob,))
    root = mime.scan(protect(MESSAGE, both, at=NOW))
    inside = FakeOpener("bob@b.example").unseal(mime.content(root, octets_max=100_000), at=NOW)
    assert b"smime-type=signed-data" in inside.entity


def test_without_a_policy_no_field_is_protected() -> None:
    protection = Protection(sealer=PGP, recipients=(BOB,), header_policy=None)
    made = protect(MESSAGE, protection, at=NOW)
    assert read_section(made).first(b"subject") == "Grüße".encode()
    inside = FakeOpener("bob@b.example").unseal(mime_second(made), at=NOW).entity
    assert b"hp=" not in inside and b"Subject" not in inside


def test_without_a_policy_nothing_claims_that_fields_are_protected() -> None:
    claiming = MESSAGE.replace(b"charset=utf-8", b'charset=utf-8; hp="cipher"')
    made = protect(claiming, Protection(signer=FakeSigner(), header_policy=None), at=NOW)
    assert mime.scan(signed_part(made)[0]).parameters.items == ((b"charset", b"utf-8"),)


def test_the_shy_policy_hides_names() -> None:
    protection = Protection(sealer=PGP, recipients=(BOB,), header_policy=HeaderPolicy.SHY)
    made = read_section(protect(MESSAGE, protection, at=NOW))
    assert made.first(b"from") == b"alice@a.example"
    assert made.first(b"to") == b"bob@b.example"


@pytest.mark.parametrize(
    ("protection", "words"),
    [
        (Protection(), "neither a signature nor an encryption"),
        (Protection(recipients=(BOB,)), "nothing that encrypts"),
        (Protection(sealer=PGP), "nobody to encrypt to"),
        (Protection(sealer=PGP, recipients=(BOB,), hidden=(CAROL,)), "hidden recipients"),
        (
            Protection(sealer=PGP, recipients=(BOB, FakeRecipient("x@y.example", Scheme.SMIME))),
            "S/MIME and OpenPGP both",
        ),
        (Protection(signer=FakeSigner(), is_opaque=True), "no signature with the text inside"),
        (Protection(sealer=PGP, recipients=(BOB, CAROL)), r"carol@c\.example is in Bcc"),
        (
            Protection(sealer=PGP, recipients=(FakeRecipient("expired@b.example"),)),
            "it has expired",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(protection: Protection, words: str) -> None:
    with pytest.raises(ProtectionError, match=words):
        protect(MESSAGE, protection, at=NOW)


def test_a_copy_to_oneself_in_bcc_is_no_secret() -> None:
    message = MESSAGE.replace(b"carol@c.example", b"ALICE@a.example")
    protection = Protection(sealer=PGP, recipients=(BOB,), own=ALICE)
    assert b"ALICE" not in protect(message, protection, at=NOW)


def test_hidden_recipients_get_copies_nobody_else_can_tell_of() -> None:
    protection = Protection(
        signer=FakeSigner(), sealer=PGP, recipients=(BOB,), own=ALICE, hidden=(CAROL, CAROL)
    )
    everybody, hidden = protect_each(MESSAGE, protection, at=NOW)
    assert everybody.recipient is None and hidden.recipient is CAROL
    named = FakeOpener().unseal(mime_second(everybody.octets), at=NOW).encryption.recipients
    assert named == ("BOB@B.EXAMPLE", "ALICE@A.EXAMPLE")
    opened = FakeOpener("carol@c.example").unseal(mime_second(hidden.octets), at=NOW)
    assert opened.encryption.recipients == ("CAROL@C.EXAMPLE",)
    assert b"carol" not in opened.entity and b"carol" not in hidden.octets


def test_hidden_recipients_only_and_of_a_signature_none() -> None:
    (copy,) = protect_each(MESSAGE, Protection(sealer=PGP, hidden=(CAROL,)), at=NOW)
    assert copy.recipient is CAROL
    (copy,) = protect_each(MESSAGE, Protection(signer=FakeSigner(), hidden=(CAROL,)), at=NOW)
    assert copy.recipient is None
    with pytest.raises(ProtectionError, match="more than 200"):
        many = tuple(FakeRecipient(f"{n}@c.example") for n in range(201))
        protect_each(MESSAGE, Protection(sealer=PGP, hidden=many), at=NOW)


def test_what_its_own_sender_stores_keeps_its_bcc() -> None:
    protection = Protection(sealer=PGP, recipients=(ALICE,), header_policy=None, keeps_bcc=True)
    assert read_section(protect(MESSAGE, protection, at=NOW)).first(b"bcc") == b"carol@c.example"


def test_a_signed_message_is_encrypted_without_touching_its_signature() -> None:
    signed = protect(MESSAGE, Protection(signer=FakeSigner(), header_policy=None), at=NOW)
    made = protect(signed, Protection(sealer=PGP, recipients=(BOB,), header_policy=None), at=NOW)
    inside = FakeOpener("bob@b.example").unseal(mime_second(made), at=NOW).entity
    part, signature = signed_part(inside)
    assert FakeOpener().verify(part, signature, at=NOW)[0].result is SignatureResult.VALID
