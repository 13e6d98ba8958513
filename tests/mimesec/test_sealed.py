"""What is encrypted and what only looks so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from posthouse.mimesec.pgp import PgpRecipient, PgpSealer, make_key
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.sealed import is_sealed
from posthouse.mimesec.smime import Cipher, SmimeRecipient, SmimeSealer, SmimeSigner, make_identity

AT = datetime.now(UTC)
ADA = "ada@example.org"
PLAIN = f"From: {ADA}\r\nTo: {ADA}\r\nSubject: Map\r\n\r\nthe oak\r\n".encode()
ONE_PART = "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nthe oak\r\n--b--\r\n"
HEAD = f"From: {ADA}\r\nMIME-Version: 1.0\r\n"


@pytest.mark.parametrize("cipher", [Cipher.AES_256_CBC, Cipher.AES_256_GCM])
def test_what_smime_encrypts_is_sealed(cipher: Cipher) -> None:
    own = make_identity([ADA], at=AT - timedelta(hours=1))
    wish = Protection(
        recipients=(SmimeRecipient(own.certificate),), sealer=SmimeSealer(cipher=cipher)
    )
    assert is_sealed(protect(PLAIN, wish, at=AT))


def test_what_openpgp_encrypts_is_sealed() -> None:
    key, _ = make_key([ADA], at=AT - timedelta(hours=1), days=9)
    wish = Protection(recipients=(PgpRecipient(key.public),), sealer=PgpSealer())
    octets = protect(PLAIN, wish, at=AT)
    assert is_sealed(octets)
    # For some readers the header section ends there, and what is in that line everybody can read.
    assert not is_sealed(b"the oak\r\n" + octets)


def test_what_stands_beside_it_in_the_open_makes_it_none() -> None:
    """A sentence for readers without MIME is all that programs write."""
    key, _ = make_key([ADA], at=AT - timedelta(hours=1), days=9)
    wish = Protection(recipients=(PgpRecipient(key.public),), sealer=PgpSealer())
    head, gap, body = protect(PLAIN, wish, at=AT).partition(b"\r\n\r\n")
    begin, version = b"-----BEGIN PGP MESSAGE", b"Version: 1\r\n"
    note = b"This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n"
    assert is_sealed(head + gap + note + body)
    for beside in (
        (b"the oak\r\n" * 40) + body,
        body + b"the oak\r\n",
        body.replace(version, version + b"the oak\r\n"),
        body.replace(begin, b"the oak\r\n" + begin),
    ):
        assert beside != body and not is_sealed(head + gap + beside)


def opaque() -> bytes:
    own = make_identity([ADA], at=AT - timedelta(hours=1))
    entity = b"Content-Type: text/plain\r\n\r\nthe oak\r\n"
    return HEAD.encode() + SmimeSigner(own).sign_opaque(entity, at=AT)


def encrypted(inside: str, *, control: str = "application/pgp-encrypted") -> bytes:
    return (
        HEAD + 'Content-Type: multipart/encrypted; boundary=b; protocol="application/pgp-encrypted"'
        f"\r\n\r\n--b\r\nContent-Type: {control}\r\n\r\nVersion: 1\r\n"
        f"--b\r\nContent-Type: application/octet-stream\r\n\r\n{inside}\r\n--b--\r\n"
    ).encode()


def armoured(base64: str) -> str:
    return f"-----BEGIN PGP MESSAGE-----\r\n\r\n{base64}\r\n-----END PGP MESSAGE-----"


@pytest.mark.parametrize(
    "octets",
    [
        PLAIN,
        opaque(),
        HEAD.encode() + b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nx",
        encrypted("the oak"),
        encrypted(armoured("ywtiAAAAAAB0aGUgb2Fr")),  # a literal packet
        encrypted(armoured("ywtiAAAAAAB0aGUgb2Fr"), control="text/plain"),
        (
            HEAD
            + "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nthe oak\r\n--b--\r\n"
        ).encode(),
        PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Type: application/octet-stream\r\n\r\n"),
    ],
    ids=["plain", "opaque", "junk", "text", "literal", "control", "one part", "octets"],
)
def test_what_everybody_can_read_is_not(octets: bytes) -> None:
    assert not is_sealed(octets)
