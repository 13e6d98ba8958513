"""A server whose accounts have keys and policies."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from posthouse.accounts import key_material, mail_keys, mail_policy
from posthouse.accounts.mail_keys import KeyMaterial, MailKey, Source
from posthouse.accounts.mail_policy import Mode
from posthouse.message import read
from posthouse.net.world import SystemClock
from posthouse.queue import admin as queue
from posthouse.reception.decision import DecisionRecord, decode
from posthouse.sending import Message, Receipt, SendEnvelope, Transport
from posthouse.testing import MailServer

ADA, BOB, CAT = "ada@example.test", "bob@example.test", "cat@example.test"
EVE = "eve@far.example"
PASSWORD = "sesame-street-7"
SECRET = "the treasure is under the oak"


class HandClock:
    def __init__(self, at: datetime) -> None:
        self.at = at
        self.passed_s = 0.0

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.passed_s)

    def monotonic_s(self) -> float:
        return self.passed_s

    def unix_us(self) -> int:
        return int(self.now().timestamp() * 1e6)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps")


class House:
    def __init__(self, server: MailServer) -> None:
        self.server = server
        self.node = server._node

    def write(self, unit: Any) -> Any:
        async def submit() -> Any:
            return await self.node.store.submit(unit)

        return self.server._call(submit())

    def read(self, unit: Any) -> Any:
        async def look() -> Any:
            return await self.node.store.read(unit)

        return self.server._call(look())

    def give_key(self, whom: str, material: KeyMaterial | None = None) -> KeyMaterial:
        made = material or key_material.make([whom], at=SystemClock().now(), days=30)
        self.write(
            lambda tx: mail_keys.add_own(tx, whom, made, self.node.node_key, source=Source.IMPORTED)
        )
        return made

    def meet(self, material: KeyMaterial, *, is_trusted: bool = True) -> None:
        """The key of somebody elsewhere is known."""
        public = key_material.read_public(material.public)[0]
        self.write(
            lambda tx: mail_keys.add_found(
                tx, public, source=Source.IMPORTED, is_trusted=is_trusted
            )
        )

    def keys_of(self, address: str) -> tuple[MailKey, ...]:
        found: tuple[MailKey, ...] = self.read(lambda tx: mail_keys.by_address(tx, address))
        return found

    def say(self, whom: str, **modes: Mode) -> None:
        self.write(lambda tx: mail_policy.set_policy(tx, whom, **modes))

    def send(
        self,
        sender: str,
        to: Sequence[str],
        *,
        bcc: Sequence[str] = (),
        message: Message | None = None,
    ) -> Receipt:
        """By submission."""
        letter = message or Message(
            sender=sender, to=list(to), bcc=list(bcc), subject="Map", text=SECRET
        )
        with Transport(self.server.login_url(sender), ca=self.server.ca) as way:
            return way.send(letter)

    def arrive(self, octets: bytes, to: Sequence[str], sender: str = EVE) -> Receipt:
        """From elsewhere."""
        envelope = SendEnvelope(sender=sender, recipients=tuple(to))
        with Transport(self.server.url, ca=self.server.ca) as way:
            return way.send(Message(raw=octets, envelope=envelope))

    def stored(self, address: str, *, count: int = 1) -> bytes:
        return self.server.wait_for(address, count=count)[-1].octets

    def recipients(self, queue_id: str) -> list[str]:
        """Whom the queue has a message for, or had."""
        history = self.read(lambda tx: queue.show(tx, queue_id))
        return [one.address for one in history.recipients]

    def decision(self, queue_id: str) -> DecisionRecord:
        history = self.read(lambda tx: queue.show(tx, queue_id))
        return decode(history.decision)


def queue_id_of(receipt: Receipt) -> str:
    """As our reply names it."""
    return receipt.response.rpartition(" ")[2]


def told(octets: bytes) -> set[str]:
    """Whose keys an open message brings its readers (Autocrypt-Gossip)."""
    fields = read(octets).headers("Autocrypt-Gossip")
    return {field.partition("addr=")[2].partition(";")[0] for field in fields}


def openssl(arguments: Sequence[str | Path], octets: bytes) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=octets, capture_output=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def pem_files(material: KeyMaterial, folder: Path, name: str) -> tuple[Path, Path]:
    """(private key in DER, certificate in PEM)."""
    assert material.private is not None
    key, certificate = folder / f"{name}.der", folder / f"{name}.pem"
    key.write_bytes(material.private)
    certificate.write_bytes(material.public)
    return key, certificate
