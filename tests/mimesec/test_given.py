"""Things handed over in the wrong place are told in words, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from posthouse.mimesec import Pin, Protection, ProtectionError, given, open_message
from posthouse.mimesec.pgp import (
    PgpOpener,
    PgpRecipient,
    PgpSealer,
    PgpSigner,
    make_key,
    read_private,
    read_public,
)
from posthouse.mimesec.smime import (
    SmimeOpener,
    SmimeRecipient,
    SmimeSealer,
    SmimeSigner,
    Trust,
    from_pem,
    from_pkcs12,
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
