"""Letters signed and encrypted by a transport."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.message.fields import read_section
from posthouse.mimesec.protection import Protection
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Message
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
    with pytest.raises(MessageError, match="somebody in Bcc"):
        await sent(letter(bcc="carol@c.example", protection=protection))
    shown = letter(cc="carol@c.example", protection=protection)
    assert b"multipart/encrypted" in await sent(shown)


async def test_dkim_signs_what_leaves() -> None:
    octets = await sent(letter(protection=Protection(signer=FakeSigner()), dkim=keys_of_a()))
    assert octets.startswith(b"DKIM-Signature:")
    assert octets.count(b"DKIM-Signature:") == 1


def keys_of_a() -> Dkim:
    key = ed25519.Ed25519PrivateKey.generate()
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Dkim(domain="a.example", selector="s", key=octets)
