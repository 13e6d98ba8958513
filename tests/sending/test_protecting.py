"""Letters signed and encrypted by a transport."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.message.fields import read_section
from posthouse.mimesec.protection import Protection
from posthouse.mimesec.smime import SmimeRecipient, SmimeSealer, make_identity
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Message, SendEnvelope
from posthouse.sending.options import Dkim
from posthouse.sending.transport import AsyncTransport
from tests.mimesec.fakes import FakeRecipient, FakeSealer, FakeSigner

BOB, CAROL = FakeRecipient("bob@b.example"), FakeRecipient("carol@c.example")


def letter(**more: object) -> Message:
    values = {"sender": "Alice <alice@a.example>", "to": "bob@b.example", "subject": "Tea"}
    return Message(**{**values, "text": "At five?", **more})  # type: ignore[arg-type]


async def sent(message: Message) -> bytes:
    async with AsyncTransport("memory:") as transport:
        await transport.send(message)
        (found,) = transport.letters
        return found.octets


def sealed_to(octets: bytes) -> set[str]:
    """The keys that `FakeSealer` writes."""
    armour = octets.partition(b"-----BEGIN PGP MESSAGE-----")[2].partition(b"-----END")[0]
    return set(base64.b64decode(armour).split(b" ")[2].decode().split(","))


async def test_a_message_is_signed_and_encrypted_on_its_way_out() -> None:
    protection = Protection(signer=FakeSigner(), sealer=FakeSealer(), recipients=(BOB,))
    octets = await sent(letter(protection=protection))
    section = read_section(octets)
    assert section.first(b"subject") == b"[...]"
    assert (section.first(b"content-type") or b"").startswith(b"multipart/encrypted")
    assert b"At five" not in octets


async def test_a_raw_message_is_protected_too() -> None:
    raw = b"From: alice@a.example\r\nTo: bob@b.example\r\n\r\nAt five?\r\n"
    octets = await sent(Message(raw=raw, protection=Protection(signer=FakeSigner())))
    assert b"multipart/signed" in octets


async def test_what_cannot_be_protected_is_not_sent_in_the_clear() -> None:
    with pytest.raises(MessageError, match="nothing that encrypts") as caught:
        await sent(letter(protection=Protection(recipients=(BOB,))))
    assert caught.value.field == "protection" and caught.value.hint


async def test_a_key_never_tells_of_somebody_in_bcc() -> None:
    protection = Protection(sealer=FakeSealer(), recipients=(BOB, CAROL))
    with pytest.raises(MessageError, match=r"carol@c\.example in Bcc would be known") as caught:
        await sent(letter(bcc="carol@c.example", protection=protection))
    assert caught.value.field == "protection" and "a message of their own" in caught.value.hint
    shown = letter(cc="carol@c.example", protection=protection)
    assert b"multipart/encrypted" in await sent(shown)


async def test_the_copy_of_somebody_in_bcc_goes_to_them_alone() -> None:
    """RFC 9788 §11.4, as the hint says."""
    own = Protection(sealer=FakeSealer(), recipients=(CAROL,), own=FakeRecipient("alice@a.example"))
    envelope = SendEnvelope(sender="alice@a.example", recipients=["carol@c.example"])
    octets = await sent(letter(envelope=envelope, protection=own))
    assert sealed_to(octets) == {"CAROL@C.EXAMPLE", "ALICE@A.EXAMPLE"}
    assert b"carol" not in read_section(octets).octets


@pytest.mark.parametrize(
    ("more", "recipients", "who"),
    [
        ({"to": "dave@d.example"}, (BOB,), "dave@d.example"),
        ({"cc": "dave@d.example"}, (BOB,), "dave@d.example"),
        ({}, (), "bob@b.example"),
        ({}, (CAROL,), "bob@b.example"),
        ({"cc": ["bob@b.example", "bob@c.example"]}, (), "bob@b.example, bob@c.example"),
        (
            {"to": [f"{name}@b.example" for name in "pqrst"]},
            (BOB,),
            "p@b.example, q@b.example, r@b.example and 2 others",
        ),
        ({"to": "zoë@b.example"}, (BOB,), "zoë@b.example"),
    ],
)
async def test_nobody_gets_a_letter_that_they_cannot_read(
    more: dict[str, object], recipients: tuple[FakeRecipient, ...], who: str
) -> None:
    own = FakeRecipient("alice@a.example")
    protection = Protection(sealer=FakeSealer(), recipients=recipients, own=own)
    async with AsyncTransport("memory:") as transport:
        with pytest.raises(MessageError) as caught:
            await transport.send(letter(protection=protection, **more))
        assert transport.letters == []
    assert caught.value.text == f"no key is for {who}, who could not read the message"
    assert caught.value.field == "protection"
    assert f"give the key of {who}" in caught.value.hint


async def test_somebody_in_bcc_is_not_to_be_given_a_key() -> None:
    protection = Protection(sealer=FakeSealer(), recipients=(BOB,))
    with pytest.raises(MessageError, match=r"no key is for dave@d\.example, who") as caught:
        await sent(letter(bcc="dave@d.example", protection=protection))
    assert caught.value.hint.startswith("send dave@d.example a message of their own")
    alone = letter(to=(), bcc="dave@d.example", protection=protection)
    with pytest.raises(MessageError, match=r"no key is for dave@d\.example, who") as caught:
        await sent(alone)  # where they are the only ones their key tells nobody
    assert caught.value.hint.startswith("give the key of dave@d.example")


async def test_those_of_the_envelope_are_the_readers() -> None:
    protection = Protection(sealer=FakeSealer(), recipients=(BOB,))
    envelope = SendEnvelope(sender="alice@a.example", recipients=["dave@d.example"])
    with pytest.raises(MessageError, match=r"no key is for dave@d\.example"):
        await sent(letter(envelope=envelope, protection=protection))
    envelope = SendEnvelope(sender="alice@a.example", recipients=["bob@b.example"])
    others = letter(to="dave@d.example", envelope=envelope, protection=protection)
    assert sealed_to(await sent(others)) == {"BOB@B.EXAMPLE"}


async def test_addresses_of_keys_are_compared_without_regard_to_case() -> None:
    protection = Protection(sealer=FakeSealer(), recipients=(FakeRecipient("Bob@B.example"),))
    assert b"multipart/encrypted" in await sent(letter(to="bOb@b.Example", protection=protection))


async def test_a_key_is_for_the_addresses_that_the_caller_says() -> None:
    at = datetime.now(UTC) - timedelta(minutes=1)
    team = make_identity(["team@b.example"], at=at, days=2).certificate
    one = Protection(sealer=SmimeSealer(), recipients=(SmimeRecipient(team),))
    with pytest.raises(MessageError, match=r"no key is for bob@b\.example") as caught:
        await sent(letter(protection=one))
    assert (
        'if the key of team@b.example is theirs, say so with for_addresses=["bob@b.example"]'
        in caught.value.hint
    )
    meant = SmimeRecipient(team, for_addresses=["bob@b.example", "eve@b.example"])
    assert meant.addresses == ("team@b.example", "bob@b.example", "eve@b.example")
    octets = await sent(letter(protection=Protection(sealer=SmimeSealer(), recipients=(meant,))))
    assert b"enveloped-data" in octets


async def test_a_signature_is_the_authors() -> None:
    """RFC 8550 §3: readers compare."""
    protection = Protection(signer=FakeSigner("sales@a.example"))
    with pytest.raises(
        MessageError, match=r"from alice@a\.example, .* for sales@a\.example"
    ) as found:
        await sent(letter(protection=protection))
    assert found.value.field == "protection" and "allows_other_author" in found.value.hint
    meant = Protection(signer=FakeSigner("sales@a.example"), allows_other_author=True)
    assert b"multipart/signed" in await sent(letter(protection=meant))
    upper = Protection(signer=FakeSigner("Alice@A.Example"))
    assert b"multipart/signed" in await sent(letter(protection=upper))


async def test_each_author_of_a_raw_message_is_named_by_the_key() -> None:
    raw = b"From: alice@a.example, eve@a.example\r\nSender: alice@a.example\r\n"
    raw += b"To: bob@b.example\r\n\r\nAt five?\r\n"
    with pytest.raises(MessageError, match=r"the message is from eve@a\.example, and"):
        await sent(Message(raw=raw, protection=Protection(signer=FakeSigner())))


async def test_a_protection_is_one() -> None:
    with pytest.raises(MessageError, match="has to be a Protection, not FakeSigner") as caught:
        await sent(letter(protection=FakeSigner()))
    assert caught.value.field == "protection" and "signer=" in caught.value.hint


async def test_dkim_signs_what_leaves() -> None:
    octets = await sent(letter(protection=Protection(signer=FakeSigner()), dkim=keys_of_a()))
    assert octets.startswith(b"DKIM-Signature:")
    assert octets.count(b"DKIM-Signature:") == 1


def keys_of_a() -> Dkim:
    key = ed25519.Ed25519PrivateKey.generate()
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Dkim(domain="a.example", selector="s", key=octets)
