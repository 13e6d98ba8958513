"""What is encrypted here and opened again is what it was: no field, part or letter is lost."""

from __future__ import annotations

import pytest

from posthouse.accounts.mail_policy import Mode
from posthouse.message import mime, read
from posthouse.mimesec.opening import open_message
from posthouse.mimesec.smime.identity import Identity, private_key, read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.net.world import SystemClock
from posthouse.sending import Message, MessageError, SendEnvelope
from tests.gateway.house import ADA, BOB, EVE, SECRET, House

NOW = SystemClock().now()
HEAD = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: Map\r\n".encode()
BODY = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\n" + SECRET.encode() + b"\r\n"
    b"--b\r\nContent-Type: application/pdf; name=map.pdf\r\n"
    b"Content-Disposition: attachment; filename=map.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b--\r\n"
)


def friends(count: int) -> bytes:
    return b",\r\n ".join(b"friend%05d@far.example" % number for number in range(count))


def tags(count: int) -> bytes:
    return b"".join(b"X-Tag-%d: %d\r\n" % (number, number) for number in range(count))


def sent(house: House, octets: bytes) -> bytes:
    """As the recipient has it, for whom it was encrypted and opened."""
    for whom in (ADA, BOB):
        house.give_key(whom)
    house.say(ADA, encrypt=Mode.ALWAYS, open=Mode.WHEN_POSSIBLE)
    house.say(BOB, open=Mode.ALWAYS)
    house.send(ADA, [BOB], message=raw(octets))
    return house.stored(BOB)


def raw(octets: bytes) -> Message:
    return Message(raw=octets, envelope=SendEnvelope(sender=ADA, recipients=(BOB,)))


@pytest.mark.parametrize(
    "more",
    [tags(520), tags(880), b"Cc: %b\r\nReply-To: %b\r\n" % (friends(3500), friends(3500))],
    ids=["more than half of the fields there may be", "nearly all of them", "long lists"],
)
def test_a_message_of_many_fields_loses_none_and_no_part(house: House, more: bytes) -> None:
    kept = sent(house, HEAD + more + BODY)
    found = read(kept)
    assert found.text.strip() == SECRET
    assert [one.name for one in found.attachments] == ["map.pdf"]
    for line in more.split(b"\r\n"):
        name = line.partition(b":")[0].decode()
        if name and not line.startswith(b" "):
            assert len(found.headers(name)) == 1
    assert found.headers("Subject") == ("Map",)


def test_what_would_lose_fields_is_refused_or_sent_as_it_is(house: House) -> None:
    for whom in (ADA, BOB):
        house.give_key(whom)
    octets = HEAD + tags(950) + BODY
    house.say(ADA, encrypt=Mode.ALWAYS)
    with pytest.raises(MessageError, match="so large that some of it would be lost"):
        house.send(ADA, [BOB], message=raw(octets))
    house.say(ADA, encrypt=Mode.WHEN_POSSIBLE)
    house.send(ADA, [BOB], message=raw(octets))
    assert house.stored(BOB).endswith(octets[-len(BODY) :])


@pytest.mark.parametrize("text", ["Grüße".encode(), b"Gr\xfc\xdfe"], ids=["UTF-8", "another"])
def test_text_that_does_not_say_its_charset_keeps_its_octets(house: House, text: bytes) -> None:
    """As many programs on servers write it; readers find out."""
    part = mime.scan(sent(house, HEAD + b"\r\n" + text + b"\r\n"))
    assert mime.content(part, octets_max=100).strip() == text
    is_utf_8 = text.decode("utf-8", "ignore") == "Grüße"
    assert part.parameters.raw(b"charset") == (b"utf-8" if is_utf_8 else None)


def test_what_a_sender_marks_is_not_taken_from_mail_at_rest(house: House) -> None:
    """In the open everybody shows all of the text, whatever it calls itself (RFC 9788 §4.5.3)."""
    made = house.give_key(BOB)
    assert made.private is not None
    house.say(BOB, at_rest=Mode.ALWAYS)
    octets = (
        f"From: {EVE}\r\nTo: {BOB}\r\nSubject: Map\r\nMIME-Version: 1.0\r\n"
        'Content-Type: text/plain; hp-legacy-display="1"\r\n\r\nOffer: 500 EUR\r\n\r\nYes?\r\n'
    ).encode()
    house.arrive(octets, [BOB])
    certificate = read_certificates(made.public)[0]
    opener = SmimeOpener(identities=[Identity(private_key(made.private), certificate, ())])
    opened = open_message(house.stored(BOB), [opener], at=NOW, allow_unauthenticated=True)
    assert "500 EUR" in read(opened.octets).text
