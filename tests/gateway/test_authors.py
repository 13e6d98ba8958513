"""Whose word `smime=pass` is, where From names somebody whom no signature names."""

from __future__ import annotations

import smtplib
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial
from posthouse.accounts.mail_policy import Mode
from posthouse.message import read
from posthouse.mimesec.entity import join_message
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.ports import Signer
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.identity import read_certificates
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.net.world import SystemClock
from tests.gateway.house import ADA, BOB, CAT, EVE, PASSWORD, SECRET, House
from tests.gateway.test_believed import Lists, with_roots
from tests.gateway.test_incoming import results, signer
from tests.mimesec.smime.people import ALICE, AT, authority
from tests.mimesec.smime.test_chain import MAIL, issued

NOW = SystemClock().now()
CHIEF = "chief@bank.example"


def letter(sender: str) -> bytes:
    return f"From: {sender}\r\nTo: {ADA}\r\nSubject: Map\r\n\r\n{SECRET}\r\n".encode()


def of_eve() -> KeyMaterial:
    return key_material.make([EVE], at=NOW - timedelta(hours=1), days=30)


@pytest.mark.parametrize(
    "sender",
    [
        f"Chief <{CHIEF}.>, {EVE}",  # a final dot, which programs show and answer to
        f"Chief <chief@[bank.example]>, {EVE}",
        f"Chief <chief@{'b' * 64}.bank.example>, {EVE}",
        f"Chief <{'chief' * 60}@bank.example>, {EVE}",
        f"Chief <chief@xn--a.bank.example>, {EVE}",
    ],
)
@pytest.mark.parametrize("policy", [HeaderPolicy.BASELINE, None])
def test_an_author_whom_smtp_could_not_carry_is_signed_for_by_nobody(
    house: House, sender: str, policy: HeaderPolicy | None
) -> None:
    eve = of_eve()
    house.meet(eve)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    wish = Protection(signer=signer(eve), header_policy=policy)
    house.arrive(protect(letter(sender), wish, at=NOW), [ADA])
    assert "smime=pass" not in results(house.stored(ADA))


def test_an_author_behind_the_last_that_is_read_is_signed_for_by_nobody(house: House) -> None:
    eve = of_eve()
    house.meet(eve)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    groups = ",\r\n ".join(["a:;"] * 1100)
    plain = letter(f"{EVE},\r\n {groups},\r\n Chief <{CHIEF}>")
    octets = protect(plain, Protection(signer=signer(eve)), at=NOW)
    house.arrive(octets, [ADA])
    assert "smime=pass" not in results(house.stored(ADA))


@pytest.mark.parametrize(
    "outside",
    [
        f"chief@bank.example <{EVE}>",
        f"Chief <@bank.example:>, {EVE}",
        f"Chief <{CHIEF}.>, {EVE}",
        f'"{CHIEF}\\" <{EVE}>, {EVE}',
    ],
)
def test_a_from_outside_that_is_shown_is_as_clear_as_the_one_inside(
    house: House, outside: str
) -> None:
    """What is signed only is stored as it came: people see the From outside."""
    eve = of_eve()
    house.meet(eve)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    octets = protect(letter(EVE), Protection(signer=signer(eve)), at=NOW)
    octets = octets.replace(f"From: {EVE}".encode(), f"From: {outside}".encode(), 1)
    house.arrive(octets, [ADA])
    assert "smime=pass" not in results(house.stored(ADA))


def inner_of(
    by: Signer, to: KeyMaterial, scheme: str, inner: bytes, outer_from: str, *, at: datetime = NOW
) -> bytes:
    """Signed, then encrypted, with an entity made by hand."""
    head = {
        "draft": b'Content-Type: text/plain; protected-headers="v1"\r\n\r\n',
        "hp": b'Content-Type: text/plain; hp="cipher"\r\n\r\n',
    }[scheme]
    entity = inner + head + SECRET.encode() + b"\r\n"
    made = by.sign(entity, at=at)
    (certificate,) = read_certificates(to.public)[:1]
    sealed = SmimeSealer(cipher=Cipher.AES_256_GCM).seal(
        made, (SmimeRecipient(certificate),), at=at, signer=None
    )
    fields = (f"From: {outer_from}\r\n".encode(), f"To: {ADA}\r\n".encode(), b"Subject: ...\r\n")
    return join_message(fields, sealed)


@pytest.mark.parametrize("scheme", ["draft", "hp"])
def test_the_author_that_was_compared_is_the_one_that_is_shown(house: House, scheme: str) -> None:
    """A field inside that is too long to be taken over lets the one outside stand in its place:
    Alice, whose certificate an authority made, writes as anybody."""
    alice = issued(authority(), MAIL)
    with_roots(house, Lists())
    made = key_material.make([ADA], at=AT - timedelta(days=1), days=30)
    house.give_key(ADA, made)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    padding = (b" " * 900 + b"\r\n") * 120
    inner = b"From: %b\r\n%b" % (ALICE.encode(), padding)
    assert len(inner) > 100 * 1024
    octets = inner_of(SmimeSigner(alice), made, scheme, inner, f"Chief <{CHIEF}>", at=AT)
    house.arrive(octets, [ADA])
    kept = house.stored(ADA)
    assert SECRET in read(kept).text
    assert "smime=pass" not in results(kept) or CHIEF not in str(read(kept).headers("From"))


@pytest.mark.parametrize("scheme", ["draft", "hp"])
def test_a_message_that_protects_no_from_keeps_its_own(house: House, scheme: str) -> None:
    eve, ada = of_eve(), house.give_key(ADA)
    house.meet(eve)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    inner = b"Subject: Map\r\nSender: Chief <%b>\r\n" % CHIEF.encode()
    house.arrive(inner_of(signer(eve), ada, scheme, inner, EVE), [ADA])
    kept = house.stored(ADA)
    assert EVE in " ".join(read(kept).headers("From"))


@pytest.mark.parametrize(
    "value",
    [
        f"From: {ADA}\r\nFrom: {CAT}\r\n",
        "From: {},\r\n {},\r\n {}\r\n".format(ADA, ",\r\n ".join(["a:;"] * 600), CAT),
        "From: {},\r\n {}\r\n {}\r\n".format(ADA, ",".join([","] * 4800), CAT),
        f"From: {ADA}, Cat <{CAT}.>\r\n",
    ],
    ids=["two fields", "behind groups", "behind commas", "with a dot behind"],
)
def test_nobody_submits_as_a_colleague(house: House, value: str) -> None:
    """What is not read of From others may show as its author."""
    url = urlsplit(house.server.login_url(ADA))
    assert url.hostname and url.port
    with smtplib.SMTP(url.hostname, url.port) as client:
        client.starttls(context=house.server.client_context())
        client.login(ADA, PASSWORD)
        client.mail(ADA)
        client.rcpt(BOB)
        code, words = client.data(f"{value}To: {BOB}\r\nSubject: x\r\n\r\nhello\r\n".encode())
    assert code == 550 and (b"one From field" in words or b"not yours" in words)
