"""`posthouse check mail` explains signatures and encryption by the key store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from posthouse.accounts import key_material
from posthouse.accounts.mail_keys import KeyMaterial
from posthouse.cli.output import ExitCode
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.identity import Identity, private_key, read_certificates
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner

from .conftest import Cli

NOW = datetime.now(UTC)
ADA = "ada@example.org"
SESSION = ("--ip", "192.0.2.25", "--helo", "mail.example.net", "--from", "<>")
RESOLVER = ("--resolver", "127.0.0.1:9")
PLAIN = f"From: {ADA}\r\nTo: bob@example.net\r\nSubject: Map\r\n\r\nunder the oak\r\n".encode()


def written(folder: Path, octets: bytes) -> str:
    path = folder / "message.eml"
    path.write_bytes(octets)
    return str(path)


def signer(key: KeyMaterial) -> SmimeSigner:
    assert key.private is not None
    return SmimeSigner(Identity(private_key(key.private), read_certificates(key.public)[0], ()))


@pytest.fixture
def key() -> KeyMaterial:
    return key_material.make([ADA], at=NOW - timedelta(minutes=5), days=30)


def check(cli: Cli, file: str, *more: str) -> str:
    code, out, err = cli("check", "mail", file, *SESSION, *RESOLVER, *more)
    assert code in (ExitCode.OK, ExitCode.TEMPORARY), err
    return out


def test_a_signature_is_explained_whoever_made_it(
    house: Cli, tmp_path: Path, key: KeyMaterial
) -> None:
    octets = protect(PLAIN, Protection(signer=signer(key)), at=NOW)
    out = check(house, written(tmp_path, octets))
    assert "The message is not protected" in out
    assert "a signature that does not count (untrusted" in out


def test_the_key_store_vouches_for_its_own(house: Cli, tmp_path: Path) -> None:
    house("account", "add", ADA, "--password-stdin", stdin="sesame-street-7\n")
    assert house("key", "make", ADA)[0] == ExitCode.OK
    pem = tmp_path / "key.pem"
    pem.write_text(house("key", "export", ADA, "--private", "--unlocked")[1])
    material = key_material.read_private(pem.read_bytes(), None)[0]
    at = datetime.now(UTC)
    signed = protect(PLAIN, Protection(signer=signer(material)), at=at)
    out = check(house, written(tmp_path, signed))
    assert "The message is signed by its author." in out and f"validly signed by {ADA}" in out
    to = SmimeRecipient(read_certificates(material.public)[0])
    sealed = protect(
        PLAIN, Protection(recipients=(to,), sealer=SmimeSealer(cipher=Cipher.AES_256_GCM)), at=at
    )
    out = check(house, written(tmp_path, sealed))
    assert "The message is encrypted and stays closed." in out
    out = check(house, written(tmp_path, sealed), "--for", ADA)
    assert "The message was encrypted. Nobody signed it." in out
    code, _, err = house(
        "check", "mail", written(tmp_path, sealed), *SESSION, "--for", "x@example.org"
    )
    assert code != ExitCode.OK and "x@example.org" in err
