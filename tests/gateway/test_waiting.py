"""What waits in the queue for an account that keeps its mail encrypted: never the message in the
open, be its mailbox full or the message not for it."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from posthouse.accounts import admin as accounts
from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial
from posthouse.accounts.mail_policy import Mode
from posthouse.app.postmaster import Word, queue_word
from posthouse.cli import explain
from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import IsolationFailed
from posthouse.mailbox import names
from posthouse.message import read
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.identity import read_certificates
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.net.world import SystemClock
from posthouse.queue import admin as queue
from posthouse.queue import ledger
from posthouse.queue.item import State
from posthouse.store import accounts as rows
from posthouse.store.transaction import DirectoryChanged
from posthouse.web import api
from tests.gateway.house import ADA, BOB, CAT, EVE, SECRET, House, openssl, pem_files, queue_id_of
from tests.gateway.test_incoming import PLAIN, results, signed

NOW = SystemClock().now()
WORDS = SECRET.encode()
LONG = PLAIN + f"{SECRET}\r\n".encode() * 20_000
"""More than lies in the database itself."""
TRACE = ["Return-Path", "Delivered-To", "Authentication-Results", "Received"]


class Waiting(House):
    """A `House` whose mailboxes can be full."""

    def set_quota(self, whom: str, octets: int | None) -> None:
        def unit(tx: Any) -> None:
            account = rows.account_by_name(tx, whom)
            assert account is not None
            rows.set_quota(tx, account.id, octets)

        self.write(unit)

    def remove(self, whom: str) -> None:
        def unit(tx: Any) -> None:
            account = rows.account_by_name(tx, whom)
            assert account is not None
            names.delete_all(tx, account.id)
            rows.remove_account(tx, account.id)
            tx.changed(DirectoryChanged())

        self.write(unit)

    def say_to(self, address: Address) -> None:
        """A word of the server."""
        word = Word(subject="Word", text=SECRET)
        assert self.write(lambda tx: queue_word(tx, self.node, address, word))

    def offer(self, octets: bytes, *to: str, sender: str = EVE) -> tuple[int, bytes]:
        """By port 25, without a SIZE: nobody knows before the end that it does not fit."""
        with smtplib.SMTP(*self.server.address("mx")) as client:
            client.ehlo("far.example")
            client.mail(sender)
            assert [client.rcpt(one)[0] for one in to] == [250] * len(to)
            return client.data(octets)

    def try_again(self) -> None:
        everything = queue.Selection(is_everything=True)
        self.write(lambda tx: queue.retry(tx, everything, by="a test"))

    def waiting(self) -> list[queue.Entry]:
        found: list[queue.Entry] = self.read(queue.entries)
        return found

    def tried(self) -> list[queue.Entry]:
        """What waits once it was tried."""
        for _ in range(200):
            found = [one for one in self.waiting() if one.recipient.state is State.QUEUED]
            if found and all(one.recipient.attempts for one in found):
                return found
            self.server._call(SystemClock().sleep(0.05))
        raise AssertionError("it is not tried")

    def on_disk(self) -> bytes:
        """All files, with what the log of the database holds."""
        folder = Path(self.server._folder)
        return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())

    def check(self) -> None:
        """The books are right, and no octets have more or fewer owners than there are."""
        report = self.read(lambda tx: ledger.check(tx, reads_octets=True))
        assert report.is_clean, report.faults
        wrong = self.read(
            lambda tx: tx.all(
                "SELECT id, refs FROM blob b WHERE refs <>"
                " (SELECT count(*) FROM email WHERE blob_id = b.id)"
                " + (SELECT count(*) FROM message WHERE blob_id = b.id)"
            )
        )
        assert wrong == []


@pytest.fixture
def full(house: House) -> Iterator[Waiting]:
    """Ada and Bob keep their mail encrypted; Ada has no room."""
    waiting = Waiting(house.server)
    for whom in (ADA, BOB):
        waiting.say(whom, at_rest=Mode.ALWAYS)
    waiting.give_key(BOB)
    waiting.set_quota(ADA, 100)
    yield waiting
    waiting.check()


def opened(octets: bytes, key: KeyMaterial, folder: Path) -> bytes:
    private, certificate = pem_files(key, folder, "ada")
    arguments = ["cms", "-decrypt", "-inkey", private, "-keyform", "DER", "-recip", certificate]
    code, out, error = openssl(arguments, octets)
    assert code == 0, error
    return out


def trace_names(octets: bytes) -> list[str]:
    """The names of our fields in front."""
    names = [line.partition(b":")[0].decode() for line in octets.split(b"\r\n")[:9]]
    return [name for name in names if name in TRACE]


@pytest.mark.parametrize("mode", [Mode.ALWAYS, Mode.WHEN_POSSIBLE])
@pytest.mark.parametrize("octets", [PLAIN, LONG], ids=["short", "long"])
def test_what_does_not_fit_waits_sealed_and_is_stored_so(
    full: Waiting, mode: Mode, octets: bytes, tmp_path: Path
) -> None:
    key = full.give_key(ADA)
    full.say(ADA, at_rest=mode)
    code, reply = full.offer(octets, ADA, BOB)
    assert code == 250
    direct = full.stored(BOB)
    assert full.server.inbox(ADA) == [] and WORDS not in full.on_disk()
    (entry,) = full.waiting()
    name = reply.split()[-1].decode()
    assert entry.recipient.address == ADA and entry.message.queue_id == f"{name}.1"
    assert full.recipients(name) == [BOB]
    assert full.decision(f"{name}.1") == full.decision(name)
    full.set_quota(ADA, None)
    full.try_again()
    kept = full.stored(ADA)
    assert WORDS not in full.on_disk()
    assert WORDS in opened(kept, key, tmp_path) and read(kept).subject == "Map"
    late, early = (one.partition(b"\r\nFrom:")[0] for one in (kept, direct))
    assert late == early.replace(BOB.encode(), ADA.encode())
    assert full.waiting() == []


def test_the_sender_and_who_runs_the_server_are_told_of_the_copy_too(full: Waiting) -> None:
    full.give_key(ADA)
    full.set_quota(ADA, 1500)  # room for the letter, and not for the sealed one
    name = queue_id_of(full.send(BOB, [ADA, CAT]))
    account = full.read(lambda tx: rows.account_by_name(tx, BOB)).id
    told = full.read(lambda tx: api._histories(name, account, tx))
    assert {one.address for history in told for one in history.recipients} == {ADA, CAT}
    assert full.read(lambda tx: api._histories(name, account + 1, tx)) == []

    class Reading:
        read_now = staticmethod(full.read)

    explained = explain._histories(Reading(), name)  # type: ignore[arg-type]
    assert [one.message.queue_id for one in explained] == [name, f"{name}.1"]


def test_it_still_does_not_fit(full: Waiting) -> None:
    full.give_key(ADA)
    assert full.offer(PLAIN, ADA, BOB)[0] == 250
    full.try_again()
    full.server.wait_for(BOB)
    (entry,) = full.tried()
    assert "full" in (entry.recipient.last_reply or "")
    assert WORDS not in full.on_disk()


def test_what_waits_is_neither_opened_nor_verified_again(full: Waiting, tmp_path: Path) -> None:
    eve = key_material.make([EVE], at=NOW - timedelta(hours=1), days=30)
    full.meet(eve)
    key = full.give_key(ADA)
    full.say(ADA, open=Mode.ALWAYS)
    assert full.offer(signed(eve), ADA, BOB)[0] == 250
    full.say(ADA, at_rest=Mode.NEVER)  # the key that opens it is here, too
    full.set_quota(ADA, None)
    full.try_again()
    kept = full.stored(ADA)
    assert trace_names(kept) == TRACE
    assert results(kept).count("smime=pass") == 1
    assert WORDS in opened(kept, key, tmp_path) and WORDS not in full.on_disk()


def hidden(to: KeyMaterial) -> bytes:
    """With a subject that only the reader sees."""
    recipient = SmimeRecipient(read_certificates(to.public)[0])
    sealer = SmimeSealer(cipher=Cipher.AES_256_GCM)
    wish = Protection(recipients=(recipient,), sealer=sealer, header_policy=HeaderPolicy.BASELINE)
    return protect(PLAIN, wish, at=NOW)


def test_a_notice_about_it_shows_no_more_than_the_sender_sent_in_the_open(full: Waiting) -> None:
    key = full.give_key(ADA)
    full.say(ADA, open=Mode.WHEN_POSSIBLE)
    full.say(BOB, at_rest=Mode.NEVER)
    octets = hidden(key)
    assert b"Map" not in octets
    assert full.offer(octets, ADA, BOB, sender=BOB)[0] == 250
    full.remove(ADA)
    full.try_again()
    arrived = full.server.wait_for(BOB, count=2, timeout_s=20)
    (notice,) = [one.octets for one in arrived if one.sender == ""]
    assert b"5.1.1" in notice and b"Action: failed" in notice
    assert b"text/rfc822-headers" in notice and b"[...]" in notice
    assert b"Map" not in notice and b"MII" not in notice


def test_it_goes_to_the_account_it_was_made_for(full: Waiting) -> None:
    """Though the address leads to somebody else by then, who could not read it."""
    full.give_key(ADA)
    assert full.offer(PLAIN, "ada+map@example.test", BOB)[0] == 250
    full.write(lambda tx: accounts.add_alias(tx, "ada+map@example.test", BOB))
    full.set_quota(ADA, None)
    full.try_again()
    kept = full.stored(ADA)
    assert b"Delivered-To: ada+map@example.test\r\n" in kept
    assert len(full.server.inbox(BOB)) == 1


FAKE = (
    f"From: Eve <{EVE}>\r\nTo: {ADA}\r\nSubject: Map\r\nMessage-ID: <1@far.example>\r\n"
    'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b\r\n'
    "\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    f"--b\r\nContent-Type: application/octet-stream\r\n\r\n{SECRET}\r\n--b--\r\n"
).encode()


def test_of_what_an_account_does_not_take_only_the_fields_wait(full: Waiting) -> None:
    full.give_key(ADA)
    full.set_quota(ADA, None)
    full.say(ADA, open=Mode.ALWAYS)
    code, reply = full.offer(FAKE, ADA, BOB, sender=BOB)
    assert code == 250
    arrived = full.server.wait_for(BOB, count=2, timeout_s=20)
    (notice,) = [one for one in arrived if one.sender == ""]
    assert full.server.inbox(ADA) == [] and WORDS not in full.on_disk()
    name = reply.split()[-1].decode()
    history = full.read(lambda tx: queue.show(tx, f"{name}.1"))
    (recipient,) = history.recipients
    assert recipient.address == ADA and history.message.refusal
    steps = [one.reason for one in history.ledger[recipient.id]]
    assert steps == ["accepted", "leased", "failed"]
    assert notice.message.subject


class Broken:
    """No child process can be had."""

    async def run(self, *_: Any, **__: Any) -> bytes:
        raise IsolationFailed("no process")

    def close(self) -> None: ...


def test_what_cannot_be_opened_for_now_does_not_wait_in_the_open(full: Waiting) -> None:
    eve = key_material.make([EVE], at=NOW - timedelta(hours=1), days=30)
    key = full.give_key(ADA)
    full.set_quota(ADA, None)
    full.say(ADA, open=Mode.ALWAYS)
    incoming = full.node.gateway.incoming
    sound, incoming._isolated = incoming._isolated, Broken()
    code, reply = full.offer(signed(eve), ADA, BOB)
    assert (code, reply[:5]) == (451, b"4.7.5") and b"could not be opened" in reply
    assert full.waiting() == [] and full.server.inbox(BOB) == []
    assert full.offer(hidden(key), ADA, BOB)[0] == 250  # what is encrypted may wait as it came
    (entry,) = full.tried()
    assert (entry.recipient.address, entry.message.kept_for) == (ADA, None)
    assert WORDS not in full.on_disk()
    incoming._isolated = sound
    full.try_again()
    kept = full.stored(ADA)
    assert read(kept).subject == "Map" and WORDS not in full.on_disk()


def test_when_possible_it_waits_as_it_came(full: Waiting) -> None:
    eve = key_material.make([EVE], at=NOW - timedelta(hours=1), days=30)
    full.give_key(ADA)
    full.set_quota(ADA, None)
    full.say(ADA, open=Mode.ALWAYS, at_rest=Mode.WHEN_POSSIBLE)
    full.node.gateway.incoming._isolated = Broken()
    assert full.offer(signed(eve), ADA, BOB)[0] == 250
    assert [one.recipient.address for one in full.waiting()] == [ADA]


def test_what_the_server_writes_to_an_owner_waits_sealed(full: Waiting, tmp_path: Path) -> None:
    key = full.give_key(ADA)
    full.say_to(Address("ada", "example.test"))
    assert len(full.tried()) == 1 and WORDS not in full.on_disk()
    full.set_quota(ADA, None)
    full.try_again()
    kept = full.stored(ADA)
    assert WORDS in opened(kept, key, tmp_path) and WORDS not in full.on_disk()


def test_each_whom_its_address_leads_to_gets_it_as_they_keep_mail(full: Waiting) -> None:
    for whom in (ADA, BOB, CAT):
        full.write(lambda tx, whom=whom: accounts.add_alias(tx, "all@example.test", whom))
    full.set_quota(ADA, None)
    full.give_key(ADA)
    full.say_to(Address("all", "example.test"))
    assert [WORDS in full.stored(one) for one in (ADA, BOB, CAT)] == [False, False, True]
    assert [len(full.server.inbox(one)) for one in (ADA, BOB, CAT)] == [1, 1, 1]


def test_a_notice_waits_sealed_to_whom_it_tells(full: Waiting) -> None:
    """It quotes what they sent."""
    full.set_quota(CAT, 100)
    assert full.offer(PLAIN, CAT, BOB, sender=BOB)[0] == 250
    full.remove(CAT)
    full.try_again()
    arrived = full.server.wait_for(BOB, count=2, timeout_s=20)
    (notice,) = [one.octets for one in arrived if one.sender == ""]
    assert WORDS not in notice
    made = full.read(lambda tx: tx.all("SELECT kept_for FROM message WHERE origin = 'dsn'"))
    assert made == [(BOB,)]


def test_who_has_no_key_any_more_does_not_hold_up_the_others(full: Waiting) -> None:
    """Of a message that came to the queue before anybody said how to keep it."""
    full.say(ADA, at_rest=Mode.NEVER)
    full.set_quota(CAT, 100)
    assert full.offer(PLAIN, ADA, CAT, BOB)[0] == 250
    full.say(ADA, at_rest=Mode.ALWAYS)
    for whom in (ADA, CAT):
        full.set_quota(whom, None)
    full.try_again()
    assert WORDS in full.stored(CAT)
    (entry,) = full.tried()
    assert entry.recipient.address == ADA and "no key" in (entry.recipient.last_reply or "")
