"""Users publish their keys by mail, as their programs do it by themselves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.accounts import admin, key_material
from posthouse.accounts.mail_keys import Source
from posthouse.accounts.mail_policy import MailPolicy
from posthouse.app import key_submissions
from posthouse.cli import key as cli_key
from posthouse.gateway.at_rest import usable_keys
from posthouse.gateway.key_directory import key_directory
from posthouse.gateway.opening_keys import opening_keys
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, wkd
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey
from posthouse.mimesec.pgp.make import make_key
from posthouse.mimesec.protection import Protection, protect
from posthouse.net.world import SystemClock
from posthouse.sending import Attachment, EnvelopeError, Message, Transport
from posthouse.store import accounts
from tests.gateway.house import ADA, BOB, EVE, House
from tests.interop.programs import find_program, needs_program

SUBMISSION = "key-submission@example.test"
LOCAL_HASH = wkd.local_hash("key-submission")


def new_key(*addresses: str) -> PrivateKey:
    return make_key(addresses, at=SystemClock().now(), days=9)[0]


def letter(sender: str, *keys: PrivateKey) -> Message:
    return Message(
        sender=sender,
        to=SUBMISSION,
        subject="Key publishing request",
        attachments=[
            Attachment(content=key.public.armored(), content_type="application/pgp-keys")
            for key in keys
        ],
    )


def read_all(house: House) -> int:
    async def work() -> Any:
        return await key_submissions.read_all(house.node)

    done: int = house.server._call(work())
    return done


def published(house: House, address: str) -> list[str]:
    return [one.fingerprint for one in house.keys_of(address) if one.is_published]


def test_a_key_is_published_for_its_sender_and_they_are_told(house: House) -> None:
    key = new_key(ADA, EVE)
    house.send(ADA, [], message=letter(ADA, key))
    read_all(house)
    assert published(house, ADA) == [key.public.fingerprint]
    assert house.keys_of(EVE) == ()  # an address that is not Ada's
    word = house.server.wait_for(ADA)[0].message
    assert word.subject == "Your key is published" and key.public.fingerprint in word.text
    assert read_all(house) == 0


def test_a_key_that_was_sent_in_does_not_take_over_what_is_kept(house: House) -> None:
    """Its private half is not here, and whoever has the password could send one of their own."""
    kept = key_material.make([ADA], at=SystemClock().now(), days=9, scheme=Scheme.OPENPGP)
    sent = new_key(ADA)
    house.send(ADA, [], message=letter(ADA, sent))
    read_all(house)
    account = house.read(lambda tx: accounts.account_by_address(tx, "ada", "example.test"))
    policy = MailPolicy(scheme=Scheme.OPENPGP)

    def usable() -> list[str]:
        found = house.read(lambda tx: usable_keys(tx, account.id, policy))
        return [one.fingerprint for one in found]

    assert usable() == [sent.public.fingerprint]  # better than none
    house.give_key(ADA, kept)
    later = new_key(ADA)
    house.send(ADA, [], message=letter(ADA, later))
    read_all(house)
    order = [kept.fingerprint, later.public.fingerprint, sent.public.fingerprint]
    assert usable() == order
    certificate = key_material.make([ADA], at=SystemClock().now(), days=9)
    house.give_key(ADA, certificate)
    assert usable() == [kept.fingerprint, certificate.fingerprint, *order[1:]]
    sources = {one.fingerprint: one.source for one in house.keys_of(ADA)}
    assert sources[kept.fingerprint] is Source.IMPORTED
    assert sources[later.public.fingerprint] is Source.SUBMITTED


def test_a_key_that_names_an_alias_alone_is_published_for_it_while_it_is_there(
    house: House,
) -> None:
    alias = "team@example.test"
    house.write(lambda tx: admin.add_alias(tx, alias, ADA))
    key = new_key(alias)
    house.send(ADA, [], message=letter(ADA, key))
    read_all(house)

    def shown() -> list[str]:
        found = house.server._call(key_directory(house.node.store))
        names = {wkd.local_hash(one): one for one in ("ada", "team", "key-submission")}
        return [names[one] for one in found.get("example.test", {})]

    assert published(house, alias) == [key.public.fingerprint] and shown() == ["team"]
    house.write(lambda tx: admin.remove_alias(tx, alias, None))
    assert published(house, alias) == [] and shown() == []
    house.server._call(key_submissions.make_keys(house.node))
    assert shown() == ["key-submission"]
    house.write(lambda tx: admin.add_alias(tx, SUBMISSION, BOB))
    assert shown() == []  # Bob could not read what is encrypted to it


def test_the_key_of_somebody_else_is_not_published(house: House) -> None:
    house.send(ADA, [], message=letter(ADA, new_key(BOB)))
    read_all(house)
    assert published(house, BOB) == []
    word = house.server.wait_for(ADA)[0].message
    assert word.subject == "Your key was not published" and "no address of yours" in word.text


def test_a_message_without_a_key_is_told(house: House) -> None:
    house.send(ADA, [], message=letter(ADA))
    read_all(house)
    assert "there is no key in the message" in house.server.wait_for(ADA)[0].message.text


def test_strangers_are_refused_at_once(house: House) -> None:
    with Transport(house.server.url, ca=house.server.ca) as way, pytest.raises(EnvelopeError) as no:
        way.send(letter(EVE, new_key(EVE)))
    assert "those who log in" in str(no.value)
    assert read_all(house) == 0


@pytest.fixture
def gpg_home(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(home), "LC_ALL": "C"}
    yield environment
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False)


@needs_program("gpg", package="gnupg")
def test_gnupg_reads_the_key_that_is_shown(house: House, gpg_home: dict[str, str]) -> None:
    house.send(ADA, [], message=letter(ADA, new_key(ADA)))
    read_all(house)
    shown = house.server._call(key_directory(house.node.store))
    octets = shown["example.test"][wkd.local_hash("ada")]
    done = subprocess.run(
        ["gpg", "--batch", "--import"], input=octets, capture_output=True, env=gpg_home, check=False
    )
    assert done.returncode == 0 and ADA.encode() in done.stderr
    asked = subprocess.run(
        ["gpg", "--batch", "--with-wkd-hash", "--list-keys", ADA],
        capture_output=True,
        env=gpg_home,
        check=False,
    )
    assert f"{wkd.local_hash('ada')}@example.test".encode() in asked.stdout


CLIENT = find_program("gpg-wks-client") or "/usr/lib/gnupg/gpg-wks-client"


def gpg(home: dict[str, str], *arguments: str, octets: bytes = b"") -> bytes:
    done = subprocess.run(
        arguments, input=octets, capture_output=True, env=home, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.interop
@needs_program(CLIENT, package="gpg-wks-client")
def test_the_client_of_gnupg_publishes_a_key(house: House, gpg_home: dict[str, str]) -> None:
    """As it does by itself, but for the look-up of the address and its key, which goes to port 443
    of openpgpkey.example.test."""

    house.server._call(key_submissions.make_keys(house.node))
    house.server._call(key_submissions.make_keys(house.node))  # once is enough
    assert len(published(house, SUBMISSION)) == 1
    shown = house.server._call(key_directory(house.node.store))
    gpg(gpg_home, "gpg", "--batch", "--import", octets=shown["example.test"][LOCAL_HASH])
    made = ("--batch", "--passphrase", "", "--quick-generate-key", ADA)
    gpg(gpg_home, "gpg", *made)
    listed = gpg(gpg_home, "gpg", "--batch", "--with-colons", "--list-keys", ADA).decode()
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line[:3] == "fpr")
    request = gpg(
        gpg_home,
        *(CLIENT, "--create", "--fake-submission-addr", SUBMISSION, fingerprint, ADA),
    )
    octets = request.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert b"multipart/encrypted" in octets and b"pgp-keys" not in octets.partition(b"\r\n\r\n")[2]
    house.send(ADA, [], message=Message(raw=octets))
    read_all(house)
    assert published(house, ADA) == [fingerprint]
    assert house.server.wait_for(ADA)[0].message.subject == "Your key is published"


def test_what_cannot_be_opened_is_told(house: House) -> None:
    elsewhere = new_key(SUBMISSION)
    wish = Protection(recipients=(PgpRecipient(elsewhere.public),), sealer=PgpSealer())
    octets = protect(
        f"From: {ADA}\r\nTo: {SUBMISSION}\r\nSubject: x\r\n\r\nkey\r\n".encode(),
        wish,
        at=SystemClock().now(),
    )
    house.send(ADA, [], message=Message(raw=octets))
    read_all(house)
    assert "the message stays closed" in house.server.wait_for(ADA)[0].message.text


def test_the_next_key_of_a_submission_address_is_made_in_time(house: House) -> None:
    """Both are shown, and what is encrypted to either is opened."""
    ending = key_material.make([SUBMISSION], at=SystemClock().now(), days=20, scheme=Scheme.OPENPGP)
    house.give_key("example.test", ending)
    house.server._call(key_submissions.make_keys(house.node))
    house.server._call(key_submissions.make_keys(house.node))
    assert len(house.keys_of(SUBMISSION)) == 2
    wish = Protection(recipients=(PgpRecipient(PublicKey(ending.public)),), sealer=PgpSealer())
    octets = f"From: {ADA}\r\nTo: {SUBMISSION}\r\nContent-Type: application/pgp-keys\r\n\r\n"
    octets += new_key(ADA).public.armored().decode()
    sealed = protect(octets.encode(), wish, at=SystemClock().now())
    house.send(ADA, [], message=Message(raw=sealed))
    read_all(house)
    assert house.server.wait_for(ADA)[0].message.subject == "Your key is published"


def test_an_address_that_is_somebody_s_has_no_key_of_ours(house: House) -> None:
    """They could not read what is encrypted to it."""
    house.write(lambda tx: admin.add_alias(tx, SUBMISSION, ADA))
    house.server._call(key_submissions.make_keys(house.node))
    assert house.keys_of(SUBMISSION) == ()


def test_the_key_of_a_submission_address_is_nobody_else_s(house: House) -> None:
    house.server._call(key_submissions.make_keys(house.node))
    account = house.read(lambda tx: accounts.account_by_address(tx, "ada", "example.test"))
    keys = house.read(
        lambda tx: opening_keys(tx, account=account.id, authors=(), node_key=house.node.node_key)
    )
    assert keys.own_ids == ()
    (listed,) = house.read(lambda tx: cli_key._found(tx, None))
    assert listed.state == "for key submissions" and listed.owner == "example.test"
