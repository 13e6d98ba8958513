"""Mail that is kept encrypted to its owner's key, whichever way it comes in."""

from __future__ import annotations

import imaplib
import smtplib
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from posthouse.accounts import key_material, mail_keys, mail_policy
from posthouse.accounts.mail_keys import KeyMaterial, Source
from posthouse.accounts.mail_policy import Mode
from posthouse.message import read
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime import SmimeRecipient, SmimeSealer, make_identity
from posthouse.net.world import SystemClock
from posthouse.queue import admin as queue
from posthouse.sending import Message, MessageError, SendEnvelope, Transport
from posthouse.store import accounts as rows
from posthouse.testing import MailServer

ADA, BOB = "ada@example.test", "bob@example.test"
PASSWORD = "sesame-street-7"
SECRET = "the treasure is under the oak"


class House:
    """A server with two accounts; Ada has a key."""

    def __init__(self, server: MailServer) -> None:
        self.server = server
        self.key = key_material.make([ADA], at=SystemClock().now(), days=30)

    def write(self, unit: Any) -> Any:
        async def submit() -> Any:
            return await self.server._node.store.submit(unit)

        return self.server._call(submit())

    def give_key(self, key: KeyMaterial | None = None) -> None:
        node_key = self.server._node.node_key
        material = key or self.key
        self.write(
            lambda tx: mail_keys.add_own(tx, ADA, material, node_key, source=Source.IMPORTED)
        )

    def say(self, **modes: Mode) -> None:
        self.write(lambda tx: mail_policy.set_policy(tx, ADA, **modes))

    def send(self, *to: str, text: str = SECRET) -> None:
        with Transport(self.server.url, ca=self.server.ca) as way:
            way.send(Message(sender="eve@far.example", to=list(to), subject="Map", text=text))

    def stored(self, address: str) -> bytes:
        return self.server.wait_for(address)[-1].octets

    def opened(self, octets: bytes, folder: Path) -> bytes:
        """By OpenSSL, with the exported key."""
        assert self.key.private is not None
        material = self.key
        sealed, key, certificate = (folder / name for name in ("mail.eml", "key.der", "cert.pem"))
        sealed.write_bytes(octets)
        key.write_bytes(self.key.private)
        certificate.write_bytes(material.public)
        done = subprocess.run(
            [
                *("openssl", "cms", "-decrypt", "-in", sealed, "-inkey", key),
                *("-keyform", "DER", "-recip", certificate),
            ],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def everything_on_disk(self) -> bytes:
        """All files of the data, with what the log of the database still holds."""
        folder = Path(self.server._folder)
        return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def house() -> Iterator[House]:
    with MailServer.ephemeral({ADA: PASSWORD, BOB: PASSWORD}, takes_anything=False) as server:
        yield House(server)


def test_delivered_mail_is_stored_for_its_owner_alone(house: House, tmp_path: Path) -> None:
    house.give_key()
    house.say(at_rest=Mode.ALWAYS)
    house.send(ADA)
    octets = house.stored(ADA)
    letter = read(octets)
    assert SECRET.encode() not in octets
    assert letter.subject == "Map"  # what mail is listed and searched by stays
    assert letter.root.subtype in (b"pkcs7-mime", b"x-pkcs7-mime")
    inside = read(house.opened(octets, tmp_path))
    assert SECRET in inside.text and inside.subject == "Map"
    assert SECRET.encode() not in house.everything_on_disk()


def test_others_of_the_same_message_get_it_as_it_came(house: House) -> None:
    house.give_key()
    house.say(at_rest=Mode.ALWAYS)
    house.send(ADA, BOB)
    assert SECRET.encode() not in house.stored(ADA)
    assert SECRET.encode() in house.stored(BOB)


def test_without_a_key_mail_waits_or_is_stored_as_the_policy_says(house: House) -> None:
    house.say(at_rest=Mode.WHEN_POSSIBLE)
    house.send(ADA)
    assert SECRET.encode() in house.stored(ADA)
    house.say(at_rest=Mode.ALWAYS)
    with pytest.raises(MessageError) as caught:
        house.send(ADA)
    assert caught.value.is_transient and caught.value.reply is not None
    assert (caught.value.reply.code, caught.value.reply.status) == (451, "4.7.5")
    assert len(house.server.inbox(ADA)) == 1


def test_a_key_that_is_over_is_not_used(house: House) -> None:
    old = key_material.make([ADA], at=SystemClock().now() - timedelta(days=60), days=30)
    house.give_key(old)
    house.say(at_rest=Mode.ALWAYS)
    with pytest.raises(MessageError):
        house.send(ADA)


def test_what_came_encrypted_is_stored_as_it_came(house: House) -> None:
    house.give_key()
    house.say(at_rest=Mode.ALWAYS)
    now = SystemClock().now()
    stranger = make_identity(["else@far.example"], at=now - timedelta(hours=1)).certificate
    wish = Protection(recipients=(SmimeRecipient(stranger),), sealer=SmimeSealer())
    raw = protect(b"From: eve@far.example\r\nSubject: x\r\n\r\nsealed\r\n", wish, at=now)
    with Transport(house.server.url, ca=house.server.ca) as way:
        envelope = SendEnvelope(sender="eve@far.example", recipients=[ADA])
        way.send(Message(raw=raw, envelope=envelope))
    assert raw.partition(b"\r\n\r\n")[2] in house.stored(ADA)


def test_what_only_calls_itself_encrypted_is_encrypted(house: House) -> None:
    house.give_key()
    house.say(at_rest=Mode.ALWAYS)
    raw = (
        b"From: eve@far.example\r\nSubject: x\r\nContent-Type: multipart/encrypted; boundary=b\r\n"
        b"\r\n--b\r\n\r\nin the open\r\n--b--\r\n"
    )
    with Transport(house.server.url, ca=house.server.ca) as way:
        envelope = SendEnvelope(sender="eve@far.example", recipients=[ADA])
        way.send(Message(raw=raw, envelope=envelope))
    assert b"in the open" not in house.stored(ADA)


def imap(house: House) -> imaplib.IMAP4_SSL:
    port = house.server.address("imaps")[1]
    client = imaplib.IMAP4_SSL("localhost", port, ssl_context=house.server.client_context())
    client.login(ADA, PASSWORD)
    return client


def test_what_is_appended_is_kept_the_same_way_when_that_is_asked_for(house: House) -> None:
    house.give_key()
    octets = b"From: ada@example.test\r\nSubject: note\r\n\r\n" + SECRET.encode() + b"\r\n"
    with imap(house) as client:
        house.say(at_rest=Mode.ALWAYS)
        client.append("INBOX", "", "", octets)
        house.say(at_rest_append=Mode.ALWAYS)
        client.append("INBOX", "", "", octets)
    plain, sealed = (one.octets for one in house.server.wait_for(ADA, count=2))
    assert SECRET.encode() in plain and SECRET.encode() not in sealed
    assert read(sealed).subject == "note"


def test_an_append_that_cannot_be_sealed_is_refused(house: House) -> None:
    house.say(at_rest_append=Mode.ALWAYS)
    with imap(house) as client:
        state, words = client.append("INBOX", "", "", b"Subject: x\r\n\r\ny\r\n")
    assert state == "NO" and b"UNAVAILABLE" in words[0]
    assert house.server.inbox(ADA) == []


def test_mail_that_waited_in_the_queue_is_sealed_too(house: House) -> None:
    """Over quota at first: then it is delivered by the queue, in a unit of its own."""
    house.give_key()
    house.say(at_rest=Mode.ALWAYS)

    def quota(octets: int | None) -> None:
        def unit(tx: Any) -> None:
            account = rows.account_by_name(tx, ADA)
            assert account is not None
            rows.set_quota(tx, account.id, octets)

        house.write(unit)

    quota(100)
    octets = f"From: eve@far.example\r\nSubject: Map\r\n\r\n{SECRET}\r\n"
    with smtplib.SMTP(*house.server.address("mx")) as client:  # without SIZE, nobody knows yet
        client.ehlo()
        client.mail("eve@far.example")
        assert [client.rcpt(one)[0] for one in (ADA, BOB)] == [250, 250]
        assert client.data(octets)[0] == 250
    assert len(house.server.wait_for(BOB)) == 1 and house.server.inbox(ADA) == []
    quota(None)
    house.write(lambda tx: queue.retry(tx, queue.Selection(is_everything=True), by="a test"))
    kept = house.server.wait_for(ADA, timeout_s=20)[0].octets
    assert SECRET.encode() not in kept and read(kept).subject == "Map"


def test_the_database_is_whole_afterwards(house: House) -> None:
    house.give_key()
    house.say(at_rest=Mode.ALWAYS)
    for _ in range(3):
        house.send(ADA, BOB)
    database = next(Path(house.server._folder).rglob("posthouse.db"))
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
