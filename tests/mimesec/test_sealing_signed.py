"""What somebody's program signed already, encrypted around that: neither a field nor the signature
is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from posthouse.message import read
from posthouse.message.fields import read_section
from posthouse.mimesec import entity as mime_entity
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.opening import Opened, Summary, open_message
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.ports import ProtectionError, Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.sealed import open_payload
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import make_identity
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.mimesec.fakes import FakeOpaqueSigner
from tests.mimesec.pgp.people import ADA, BOB, NOW, PLAIN, person

GOSSIP = b"Autocrypt-Gossip: addr=bob@example.net; keydata=aGVsbG8=\r\n"
SHOWN = b"Keywords: maps\r\n" + PLAIN


@cache
def identity(address: str) -> Identity:
    return make_identity([address], at=datetime.now(UTC) - timedelta(hours=1))


def signer_of(scheme: Scheme) -> Signer:
    return SmimeSigner(identity(ADA)) if scheme is Scheme.SMIME else PgpSigner(person(ADA))


def signed(how: str, *, protects: bool, octets: bytes = SHOWN) -> bytes:
    """As a program signs it."""
    scheme = Scheme.OPENPGP if how == "OpenPGP" else Scheme.SMIME
    policy = HeaderPolicy.BASELINE if protects else None
    wish = Protection(
        signer=signer_of(scheme), header_policy=policy, is_opaque=how == "S/MIME, opaque"
    )
    return protect(octets, wish, at=NOW)


def sealed(octets: bytes, scheme: Scheme, policy: HeaderPolicy = HeaderPolicy.BASELINE) -> bytes:
    """As a server encrypts it then."""
    if scheme is Scheme.SMIME:
        to, sealer = SmimeRecipient(identity(BOB).certificate), SmimeSealer()
    else:
        to, sealer = PgpRecipient(person(BOB).public), PgpSealer()
    wish = Protection(recipients=(to,), sealer=sealer, header_policy=policy)
    return protect(octets, wish, at=NOW)


def opened(octets: bytes) -> Opened:
    smime = SmimeOpener(
        identities=[identity(BOB)],
        trust=Trust(roots=[identity(ADA).certificate]),
        expected_addresses=[ADA],
    )
    pgp = PgpOpener(
        own=[person(BOB)], known=[person(ADA).public], trusted=[person(ADA).public.fingerprint]
    )
    return open_message(octets, [smime, pgp], at=NOW)


HOW = ["S/MIME", "S/MIME, opaque", "OpenPGP"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("policy", list(HeaderPolicy))
def test_no_field_is_hidden_that_nobody_would_see_again(
    how: str, scheme: Scheme, policy: HeaderPolicy
) -> None:
    made = sealed(signed(how, protects=False), scheme, policy)
    assert read(made).subject == "Map"
    found = opened(made)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    shown = read(found.octets)
    assert (shown.subject, shown.headers("Keywords")) == ("Map", ("maps",))
    assert shown.headers("From") == (f"Ada <{ADA}>",)
    assert shown.text == "under the oak\n"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("scheme", list(Scheme))
def test_what_the_signature_protects_is_hidden_outside_and_shown_again(
    how: str, scheme: Scheme
) -> None:
    made = sealed(signed(how, protects=True), scheme)
    assert read(made).subject == "[...]" and not read(made).headers("Keywords")
    found = opened(made)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    shown = read(found.octets)
    assert (shown.subject, shown.headers("Keywords")) == ("Map", ("maps",))
    assert shown.text == "under the oak\n"  # nothing was written above what is signed


def test_a_field_that_says_something_else_outside_the_signature_stays() -> None:
    octets = signed("OpenPGP", protects=True).replace(b"Subject: Map", b"Subject: Treasure", 1)
    assert read(octets).subject == "Treasure"
    assert read(sealed(octets, Scheme.OPENPGP)).subject == "Treasure"


def test_nothing_is_hidden_around_what_cannot_be_looked_into() -> None:
    once = sealed(PLAIN.replace(b"Subject: Map", b"Subject: Outside"), Scheme.OPENPGP)
    made = sealed(once.replace(b"Subject: [...]", b"Subject: Tea", 1), Scheme.OPENPGP)
    assert read(made).subject == "Tea"


def test_text_that_a_signer_marks_is_not_taken_away_by_encrypting_it() -> None:
    """In the open everybody sees it, and nothing can be written anew inside of a signature."""
    entity = b'Content-Type: text/plain; hp="%b"; hp-legacy-display=1\r\n\r\nA: b\r\n\r\nYes\r\n'
    for meant in (b"clear", b"cipher"):
        entity_signed = signer_of(Scheme.OPENPGP).sign(b"Subject: Map\r\n" + entity % meant, at=NOW)
        octets = b"From: %b\r\nSubject: Map\r\n%b" % (ADA.encode(), entity_signed)
        assert "A: b" in read(opened(octets).octets).text
        if meant == b"clear":
            assert "A: b" in read(opened(sealed(octets, Scheme.OPENPGP)).octets).text
        else:
            with pytest.raises(ProtectionError, match="not to be shown"):
                sealed(octets, Scheme.OPENPGP)


def test_keys_of_others_stay_inside_all_the_same() -> None:
    made = sealed(GOSSIP + signed("S/MIME", protects=False), Scheme.OPENPGP)
    assert b"gossip" not in made.lower()
    whole = opened(made).whole
    assert whole is not None and whole.entity


def test_the_payload_of_what_is_signed_is_found_and_nothing_is_opened_for_it() -> None:
    def entity(octets: bytes) -> bytes:
        return mime_entity.split_message(octets).entity

    opaque = entity(signed("S/MIME, opaque", protects=True))
    payload = open_payload(opaque)
    assert payload is not None and read_section(payload).first(b"subject") == b"Map"
    assert open_payload(entity(sealed(PLAIN, Scheme.SMIME))) is None
    assert open_payload(entity(sealed(PLAIN, Scheme.OPENPGP))) is None
    assert open_payload(entity(PLAIN)) == entity(PLAIN)
    fake = protect(PLAIN, Protection(signer=FakeOpaqueSigner(), is_opaque=True), at=NOW)
    assert open_payload(entity(fake)) is None
    deep = PLAIN
    for _ in range(9):
        deep = signed("OpenPGP", protects=False, octets=deep)
    assert open_payload(entity(deep)) is None


def test_a_text_beside_what_is_signed_takes_the_subject_and_the_signature_stays_good() -> None:
    inside = mime_entity.split_message(signed("OpenPGP", protects=False)).entity
    mixed = (
        b"From: %b\r\nTo: %b\r\nSubject: Map\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        b"--x\r\n\r\nsee below\r\n--x\r\n%b\r\n--x--\r\n"
    ) % (ADA.encode(), BOB.encode(), inside)
    found = opened(sealed(mixed, Scheme.OPENPGP))
    assert read(found.octets).subject == "Map"
    assert [one.summary for one in found.sections] == [Summary.ENCRYPTED, Summary.SIGNED]
