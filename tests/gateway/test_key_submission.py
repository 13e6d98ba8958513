"""Users publish their keys by mail, as their programs do it by themselves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.app import key_submissions
from posthouse.mimesec.pgp.keys import PrivateKey
from posthouse.mimesec.pgp.make import make_key
from posthouse.net.world import SystemClock
from posthouse.sending import Attachment, EnvelopeError, Message, Transport
from tests.gateway.house import ADA, BOB, EVE, House
from tests.interop.programs import needs_program

SUBMISSION = "key-submission@example.test"


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
    from posthouse.gateway.key_directory import key_directory
    from posthouse.mimesec.pgp import wkd

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
