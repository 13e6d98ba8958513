"""Things handed over in the wrong place are told in words, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from posthouse.mimesec import Pin, Protection, ProtectionError, given, open_message, protect
from posthouse.mimesec.pgp import (
    PgpOpener,
    PgpRecipient,
    PgpSealer,
    PgpSigner,
    make_key,
    read_private,
    read_public,
    revoked_by,
    with_end,
)
from posthouse.mimesec.smime import (
    Capabilities,
    SmimeOpener,
    SmimeRecipient,
    SmimeSealer,
    SmimeSigner,
    Trust,
    from_pem,
    from_pkcs12,
    make_authority,
    make_identity,
    read_certificates,
)
from tests.mimesec.fakes import NOW, FakeRecipient

ADA = make_identity(["ada@example.org"], at=NOW, days=2)
KEY = make_key(["ada@example.org"], at=NOW, days=2)[0]
ONE = SmimeRecipient(ADA.certificate)
WRONG: list[tuple[Callable[[], Any], str, str]] = [
    (
        lambda: Protection(signer=ADA),  # type: ignore[arg-type]
        "signer has to be a SmimeSigner or PgpSigner, not Identity",
        "SmimeSigner(identity)",
    ),
    (
        lambda: Protection(signer=KEY),  # type: ignore[arg-type]
        "signer has to be a SmimeSigner or PgpSigner, not PrivateKey",
        "PgpSigner(key)",
    ),
    (
        lambda: Protection(signer=SmimeSigner),  # type: ignore[arg-type]
        "not the class SmimeSigner",
        "SmimeSigner(…)",
    ),
    (
        lambda: Protection(sealer=SmimeSealer, recipients=(ONE,)),  # type: ignore[arg-type]
        "sealer has to be a SmimeSealer or PgpSealer, not the class SmimeSealer",
        "SmimeSealer(…)",
    ),
    (
        lambda: Protection(sealer=ONE),  # type: ignore[arg-type]
        "not SmimeRecipient",
        "give a SmimeSealer",
    ),
    (
        lambda: Protection(sealer=SmimeSealer(), recipients=(ONE, ADA.certificate)),  # type: ignore[arg-type]
        "recipients[1] has to be a SmimeRecipient or PgpRecipient, not Certificate",
        "SmimeRecipient(certificate)",
    ),
    (
        lambda: Protection(sealer=PgpSealer(), recipients=[KEY.public]),  # type: ignore[arg-type, list-item]
        "recipients[0] has to be a SmimeRecipient or PgpRecipient, not PublicKey",
        "PgpRecipient(key)",
    ),
    (
        lambda: Protection(sealer=PgpSealer(), hidden=(KEY,)),  # type: ignore[arg-type]
        "hidden[0] has to be",
        "PgpRecipient(key.public)",
    ),
    (
        lambda: Protection(sealer=SmimeSealer(), own=ADA),  # type: ignore[arg-type]
        "own has to be a SmimeRecipient or PgpRecipient, not Identity",
        "SmimeRecipient(identity.certificate)",
    ),
    (
        lambda: Protection(sealer=SmimeSealer(), recipients=ONE),  # type: ignore[arg-type]
        "recipients has to be several SmimeRecipient or PgpRecipient, as a tuple or list, not",
        "into brackets",
    ),
    (
        lambda: Protection(sealer=SmimeSealer(), recipients=("bob.pem",)),  # type: ignore[arg-type]
        "recipients[0] has to be",
        "read it first",
    ),
    (
        lambda: SmimeRecipient([ADA.certificate]),  # type: ignore[arg-type]
        "the certificate of a SmimeRecipient has to be a Certificate, not list",
        "[0]",
    ),
    (lambda: SmimeRecipient(ADA), "not Identity", "identity.certificate"),  # type: ignore[arg-type]
    (lambda: SmimeSigner((ADA,)), "has to be an Identity, not tuple", "[0]"),  # type: ignore[arg-type]
    (lambda: PgpRecipient(KEY), "has to be a PublicKey, not PrivateKey", "key.public"),  # type: ignore[arg-type]
    (lambda: PgpSigner(KEY.public), "has to be a PrivateKey, not PublicKey", "PgpRecipient"),  # type: ignore[arg-type]
    (lambda: SmimeRecipient(ADA.certificate, for_addresses=["Ada"]), "'Ada' is no address", "name"),
    (
        lambda: PgpRecipient(KEY.public, for_addresses=7),  # type: ignore[arg-type]
        "for_addresses has to be several addresses",
        "brackets",
    ),
    (lambda: SmimeOpener(identities=ADA), "identities has to be several Identity", "brackets"),  # type: ignore[arg-type]
    (lambda: SmimeOpener(trust=[ADA.certificate]), "trust has to be a Trust, not list", "[0]"),  # type: ignore[arg-type]
    (lambda: Trust(roots=ADA.certificate), "roots has to be several Certificate", "brackets"),  # type: ignore[arg-type]
    (lambda: Trust(roots=[ADA]), "roots[0] has to be a Certificate, not Identity", "certificate"),  # type: ignore[list-item]
    (lambda: PgpOpener(known=[KEY]), "known[0] has to be a PublicKey", "key.public"),  # type: ignore[list-item]
    (lambda: PgpOpener(trusted=["bob@example.net"]), "trusted[0] is no fingerprint", "40 or 64"),
    (lambda: PgpOpener(trusted=["DEADBEEF"]), "trusted[0] is no fingerprint", "a key id"),
    (lambda: PgpOpener(revoked=[7]), "revoked[0] has to be a fingerprint", "Pin"),
    (lambda: PgpOpener(trusted="AB"), "trusted has to be several fingerprints", "brackets"),
    (lambda: read_certificates(Path("a.pem")), "wants octets (bytes), not PosixPath", "read_bytes"),  # type: ignore[arg-type]
    (lambda: read_certificates("a.pem"), "read_certificates wants octets", "read_bytes"),  # type: ignore[arg-type]
    (lambda: from_pkcs12("a.p12", "secret"), "from_pkcs12 wants octets", "read_bytes"),  # type: ignore[arg-type]
    (lambda: from_pkcs12(b"", b"secret"), "a str or a Secret, not bytes", "decode"),  # type: ignore[arg-type]
    (
        lambda: from_pem(ADA.key_pem(), ADA.certificates_pem(), b"secret"),  # type: ignore[arg-type]
        "a password has to be a str or a Secret, not bytes",
        "decode",
    ),
    (
        lambda: read_private(KEY.armored(None), b"secret"),  # type: ignore[arg-type]
        "a password has to be a str or a Secret, not bytes",
        "decode",
    ),
    (lambda: from_pem("a", b""), "from_pem wants octets", "read_bytes"),  # type: ignore[arg-type]
    (lambda: read_public("a.asc"), "read_public wants octets", "read_bytes"),  # type: ignore[arg-type]
    (lambda: read_private(Path("a.asc")), "read_private wants octets", "read_bytes"),  # type: ignore[arg-type]
    (
        lambda: open_message("From: a", [], at=NOW),  # type: ignore[arg-type]
        "open_message wants octets (bytes), not str",
        "read_bytes",
    ),
    (
        lambda: open_message(b"", SmimeOpener(), at=NOW),  # type: ignore[arg-type]
        "openers has to be several SmimeOpener or PgpOpener",
        "brackets",
    ),
    (
        lambda: open_message(b"", [ADA], at=NOW),  # type: ignore[list-item]
        "openers[0] has to be a SmimeOpener or PgpOpener, not Identity",
        "",
    ),
    (
        lambda: open_message(b"", [], at=datetime(2026, 1, 1)),  # the mistake
        "at has to be a datetime with a time zone",
        "datetime.now(UTC)",
    ),
    (
        lambda: SmimeSealer(cipher="AES"),  # type: ignore[arg-type]
        "the cipher of a SmimeSealer has to be a Cipher, not str",
        "it can be Cipher.AES_256_GCM, Cipher.AES_128_GCM",
    ),
    (
        lambda: SmimeSealer(cipher="AES-128-CBC"),  # type: ignore[arg-type]
        "has to be a Cipher, not str",
        "give Cipher.AES_128_CBC",
    ),
    (
        lambda: SmimeSealer(key_transport="oaep"),  # type: ignore[arg-type]
        "the key_transport of a SmimeSealer has to be a KeyTransport",
        "give KeyTransport.OAEP",
    ),
    (
        lambda: Protection(header_policy="shy"),  # type: ignore[arg-type]
        "header_policy has to be a HeaderPolicy, not str",
        "give HeaderPolicy.SHY",
    ),
    (
        lambda: Protection(response_hcp="shy"),  # type: ignore[arg-type]
        "response_hcp has to be something that can be called",
        "reference_hcp",
    ),
    (
        lambda: Protection(sign=SmimeSigner(ADA)),  # type: ignore[call-arg]
        "Protection takes no sign",
        "give `signer`",
    ),
    (
        lambda: Protection(encrypt_to=[ONE]),  # type: ignore[call-arg]
        "Protection takes no encrypt_to",
        "`recipients`, with a `sealer`",
    ),
    (lambda: Protection(sealr=None), "Protection takes no sealr", "did you mean sealer?"),  # type: ignore[call-arg]
    (lambda: Protection(ONE), "Protection takes its arguments by name", "signer=…"),  # type: ignore[misc]
    (
        lambda: SmimeRecipient(ADA.certificate, capabilities="GCM"),  # type: ignore[arg-type]
        "the capabilities of a SmimeRecipient has to be a Capabilities, not str",
        "COMMON",
    ),
    (
        lambda: SmimeRecipient(ADA.certificate, capabilities=Capabilities(("AES-256-GCM",))),  # type: ignore[arg-type]
        "ciphers[0] of the capabilities of a SmimeRecipient has to be a Cipher, not str",
        "give Cipher.AES_256_GCM",
    ),
    (
        lambda: SmimeRecipient(ADA.certificate, capabilities=Capabilities("GCM")),  # type: ignore[arg-type]
        "the ciphers of the capabilities of a SmimeRecipient have to be several, not str",
        "Capabilities((",
    ),
    (
        lambda: SmimeRecipient(ADA.certificate, trust=[ADA.certificate]),  # type: ignore[arg-type]
        "the trust of a SmimeRecipient has to be a Trust, not list",
        "[0]",
    ),
    (
        lambda: SmimeRecipient(ADA.certificate, offered=ADA.certificate),  # type: ignore[arg-type]
        "offered has to be several Certificate",
        "brackets",
    ),
    (
        lambda: SmimeSigner(ADA, reads="GCM"),  # type: ignore[arg-type]
        "the reads of a SmimeSigner has to be a Capabilities, not str",
        "COMMON",
    ),
    (
        lambda: SmimeSigner(ADA, encryption=ADA),  # type: ignore[arg-type]
        "the encryption of a SmimeSigner has to be a Certificate, not Identity",
        "identity.certificate",
    ),
    (
        lambda: make_key("a@example.org", at=NOW, days=2, form="v6"),  # type: ignore[arg-type]
        "form has to be a KeyForm, not str",
        "give KeyForm.VERSION6",
    ),
    (
        lambda: make_key("a@example.org", at=datetime(2026, 1, 1), days=2),
        "at has to be a datetime with a time zone, not one without",
        "give a datetime with a time zone",
    ),
    (
        lambda: make_key("a@example.org", at=NOW, days="2"),  # type: ignore[arg-type]
        "days has to be a whole number, not str",
        "1 to 3650",
    ),
    (lambda: make_key(7, at=NOW, days=2), "addresses has to be several addresses", "brackets"),  # type: ignore[arg-type]
    (lambda: make_key([7], at=NOW, days=2), "addresses[0] has to be text (str), not int", '"'),  # type: ignore[list-item]
    (lambda: make_key(b"a@b.example", at=NOW, days=2), "addresses has to be text", "decode"),  # type: ignore[arg-type]
    (lambda: make_key("ada", at=NOW, days=2), "'ada' is no address", "bob@example.net"),
    (
        lambda: make_key("a@example.org", at=NOW, days=2, name=b"Ada"),  # type: ignore[arg-type]
        "name has to be text (str), not bytes",
        "decode",
    ),
    (lambda: make_identity("ada", at=NOW), "'ada' is no address", "whole address"),
    (
        lambda: make_identity("a@example.org", at=datetime(2026, 1, 1)),
        "at has to be a datetime with a time zone",
        "give a datetime with a time zone",
    ),
    (
        lambda: make_identity("a@example.org", at=NOW, kind="Ed25519"),  # type: ignore[arg-type]
        "kind has to be a KeyKind, not str",
        "give KeyKind.ED25519",
    ),
    (
        lambda: make_identity("a@example.org", at=NOW, issuer=ADA.certificate),  # type: ignore[arg-type]
        "issuer has to be an Identity, not Certificate",
        "make_authority(…)",
    ),
    (
        lambda: make_authority("Tea", at=datetime(2026, 1, 1)),
        "at has to be a datetime with a time zone",
        "give a datetime with a time zone",
    ),
    (
        lambda: with_end(KEY, at=datetime(2026, 1, 1)),
        "at has to be a datetime with a time zone",
        "give a datetime with a time zone",
    ),
    (lambda: revoked_by(KEY, b""), "public has to be a PublicKey, not PrivateKey", "key.public"),  # type: ignore[arg-type]
    (lambda: KEY.armored("word", salt="x" * 24), "wants octets (bytes), not str", "os.urandom(24)"),  # type: ignore[arg-type]
    (lambda: KEY.armored("word"), "has 24 octets, not 0", "os.urandom(24)"),
    (lambda: KEY.armored("word", salt=bytes(8)), "has 24 octets, not 8", "os.urandom(24)"),
]


@pytest.mark.parametrize(("call", "text", "hint"), WRONG, ids=[one[1] for one in WRONG])
def test_what_is_in_the_wrong_place_is_told(call: Callable[[], Any], text: str, hint: str) -> None:
    with pytest.raises(ProtectionError) as caught:
        call()
    assert text in caught.value.text and hint in caught.value.hint
    assert caught.value.hint and "secret" not in f"{caught.value.text}{caught.value.hint}"


@pytest.mark.parametrize(
    "protection",
    [
        Protection(signer=SmimeSigner(ADA)),
        Protection(sealer=SmimeSealer(), recipients=(ONE,)),
        Protection(signer=PgpSigner(KEY)),
        Protection(sealer=PgpSealer(), recipients=(PgpRecipient(KEY.public),)),
    ],
)
def test_a_moment_without_a_time_zone_is_told_whatever_it_is_for(protection: Protection) -> None:
    letter = b"From: ada@example.org\r\nTo: ada@example.org\r\n\r\nAt five?\r\n"
    with pytest.raises(ProtectionError, match="a datetime with a time zone, not one without"):
        protect(letter, protection, at=datetime(2026, 1, 1))


def test_one_address_is_one_and_not_its_letters() -> None:
    assert make_identity("ada@example.org", at=NOW).addresses == ("ada@example.org",)
    key, _ = make_key("ada@example.org", at=NOW, days=2)
    assert key.public.addresses == ("ada@example.org",)


def test_what_does_the_work_is_taken_whoever_made_it() -> None:
    protection = Protection(sealer=SmimeSealer(), recipients=[FakeRecipient("bob@b.example")])  # type: ignore[arg-type]
    assert protection.is_encrypting
    assert Trust(roots=(one for one in [ADA.certificate])).is_anchor(ADA.certificate)
    assert PgpRecipient(KEY.public, for_addresses="team@example.org").addresses == (
        "ada@example.org",
        "team@example.org",
    )
    assert KEY.armored(None).startswith(b"-----BEGIN PGP PRIVATE KEY")
    assert read_certificates(bytearray(ADA.certificates_pem())) == [ADA.certificate]  # type: ignore[arg-type]


def test_fingerprints_are_read_as_people_write_them() -> None:
    wanted = "0123456789ABCDEF0123456789ABCDEF01234567"
    forms = (
        wanted.lower(),
        f"0x{wanted}",
        " ".join(wanted[i : i + 4] for i in range(0, 40, 4)),
        ":".join(wanted[i : i + 2] for i in range(0, 40, 2)),
    )
    for text in forms:
        assert given.pins([text, Pin(text, "bob@example.net")], "trusted") == (
            Pin(wanted),
            Pin(wanted, "bob@example.net"),
        )
