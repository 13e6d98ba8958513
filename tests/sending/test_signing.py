"""DKIM signatures of the library, checked by dkimpy and by our own verifier's rules for keys."""

from __future__ import annotations

import os
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from posthouse.mailauth.dkim.grammar import ED25519 as ED25519_SHA256
from posthouse.mailauth.dkim.grammar import RSA as RSA_SHA256
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import public_octets
from posthouse.message.fields import read_section
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Attachment
from posthouse.sending.options import Dkim
from posthouse.sending.signing import dkim_fields, load_key
from tests.sending.making import letter_of, simple

NOW_S = 1_700_000_000  # in the past, as dkimpy has a clock of its own
RSA = rsa.generate_private_key(65537, 1024)
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key, how: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, how, NoEncryption())


def der(key, how: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.DER, how, NoEncryption())


def verifies(octets: bytes, at: int = 0) -> bool:
    records = {
        b"r._domainkey.example.org.": key_record(RSA_SHA256, public_octets(RSA)),
        b"e._domainkey.example.org.": key_record(ED25519_SHA256, public_octets(ED)),
    }

    def ask(name: bytes, timeout: float = 5) -> bytes | None:
        record = records.get(name)
        return None if record is None else record.encode()

    return dkim.DKIM(octets, minkey=1024).verify(at, dnsfunc=ask)


OCTETS = letter_of(
    simple(
        subject="Grüße",
        html="<p>x</p>",
        attachments=[Attachment(content=os.urandom(3_000), filename="ö.bin")],
    )
).octets


@pytest.mark.parametrize(
    "key",
    [
        pem(RSA),
        pem(RSA).decode(),
        pem(RSA, PrivateFormat.TraditionalOpenSSL).decode(),
        der(RSA),
        der(RSA, PrivateFormat.TraditionalOpenSSL),
        b"\n" + pem(RSA),
    ],
)
def test_rsa_keys_in_every_form_sign_what_dkimpy_verifies(key: bytes | str) -> None:
    fields = dkim_fields(
        OCTETS, [Dkim(domain="example.org", selector="r", key=key)], now_unix_s=NOW_S
    )
    assert fields.count(b"DKIM-Signature:") == 1 and verifies(fields + OCTETS)
    assert not verifies(fields + OCTETS.replace(b"Subject: ", b"Subject: x"))


def test_several_keys_sign_with_rsa_and_ed25519(tmp_path: Path) -> None:  # RFC 8463
    path = tmp_path / "ed.pem"
    path.write_bytes(pem(ED))
    keys = [
        Dkim(domain="Example.ORG", selector="r", key=pem(RSA)),
        Dkim(domain="example.org", selector="e", key=path, expires_s=1_000_000_000),
        Dkim(domain="example.org", selector="e", key=str(path), header_fields=("From", "To")),
    ]
    fields = dkim_fields(OCTETS, keys, now_unix_s=NOW_S)
    assert [verifies(fields + OCTETS, at) for at in range(3)] == [True, True, True]
    section = read_section(fields + OCTETS)
    signatures = [one for one in section.fields if one.name == b"dkim-signature"]
    values = [section.value(one) for one in signatures]
    assert b"x=%d" % (NOW_S + 1_000_000_000) in values[1] and b"h=From:To;" in values[2]
    assert b"a=ed25519-sha256" in values[1] and b"d=example.org" in values[0]


def test_fields_are_signed_as_often_as_they_stand_or_are_named() -> None:
    octets = b"From: a@x.example\r\nX-A: 1\r\nX-A: 2\r\n\r\nx\r\n"
    names = ("from", "X-A", "Subject", "Subject", "From")
    given = Dkim(domain="example.org", selector="r", key=pem(RSA), header_fields=names)
    fields = dkim_fields(octets, [given], now_unix_s=NOW_S)
    assert b"h=From:From:X-A:X-A:Subject:Subject;" in fields and verifies(fields + octets)
    assert not verifies(fields + b"Subject: new\r\n" + octets)


def test_a_key_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(pem(RSA))
    given = Dkim(domain="example.org", selector="r", key=path)
    first = load_key(given)
    assert load_key(given).private is first.private
    path.write_bytes(pem(ED))
    os.utime(path, ns=(1, 1))
    assert load_key(given).algorithm != first.algorithm


LOCKED = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": b"junk-secret"}, "no private key"),
        (
            {"key": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"},
            "no private",
        ),
        ({"key": LOCKED}, "encrypted"),
        ({"key": pem(ec.generate_private_key(ec.SECP256R1()))}, "neither RSA nor Ed25519"),
        ({"key": "/nowhere/key.pem"}, "no key file"),
        ({"key": "/"}, "cannot be read"),
        ({"key": "a\0b"}, "null"),
        ({"domain": "exa mple"}, "no domain"),
        ({"selector": "a;b"}, "no selector"),
        ({"selector": "a\r\nX: y"}, "no selector"),
        ({"selector": ""}, "no selector"),
        ({"header_fields": ("To",)}, "From"),
        ({"header_fields": ("From", "X\r\nY: z")}, "no field name"),
        ({"expires_s": 0}, "more than 0"),
    ],
)
def test_a_wrong_key_is_named_by_selector_and_domain_and_never_shown(changes, words: str) -> None:
    given = {"domain": "example.org", "selector": "sel", "key": pem(RSA)} | changes
    with pytest.raises(MessageError, match=words) as caught:
        dkim_fields(OCTETS, [Dkim(**given)], now_unix_s=NOW_S)
    text = caught.value.text
    assert "PRIVATE" not in repr(Dkim(**given))
    assert repr(given["domain"]) in text and repr(given["selector"]) in text
    assert "secret" not in text and "PRIVATE KEY-" not in text and "\n" not in text
    assert caught.value.field == "dkim"
