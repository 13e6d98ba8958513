"""The messages of RFC 9788 Appendix C opened with the keys of RFC 9216, and made again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from posthouse.message.fields import read_section
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.header_policy import HeaderPolicy
from posthouse.mimesec.header_protection import FieldState, HeaderScheme
from posthouse.mimesec.opening import REFUSED, Opened, Summary, open_message
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity, from_pem, read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.mimesec import rfc9788

VECTORS = rfc9788.messages()
MESSAGES = [name for name in VECTORS if name.count(".") == 2]
FOLDER = Path(os.environ.get("POSTHOUSE_VECTORS", "")) / "smime" / "rfc9216"
AT = datetime(2021, 2, 20, 18, 0, tzinfo=UTC)

pytestmark = pytest.mark.skipif(
    not VECTORS or not FOLDER.exists(), reason="RFC 9788 and the keys of RFC 9216 are not at hand"
)


@cache
def keys(name: str) -> bytes:
    (path,) = FOLDER.glob(f"{name}-*.pem")
    return path.read_bytes()


@cache
def person(number: int) -> tuple[Identity, Identity]:
    """To sign, to decrypt."""
    return (
        from_pem(keys(f"{number}-2"), keys(f"{number}-1")),
        from_pem(keys(f"{number}-4"), keys(f"{number}-3")),
    )


@cache
def bob() -> SmimeOpener:
    roots = read_certificates(keys("3-1"))
    return SmimeOpener(
        identities=person(5),
        trust=Trust(roots=roots, intermediates=read_certificates(keys("6-3"))),
    )


def opened(octets: bytes) -> Opened:
    return open_message(octets, [bob()], at=AT)


def is_encrypted(name: str) -> bool:
    return b"enveloped-data" in VECTORS[name]


@pytest.mark.parametrize("name", [name for name in MESSAGES if name not in ("C.1.1", "C.1.5")])
def test_each_message_opens_as_the_rfc_says(name: str) -> None:
    found = opened(VECTORS[name])
    wanted = Summary.SIGNED_AND_ENCRYPTED if is_encrypted(name) else Summary.SIGNED
    assert found.whole is not None
    assert [one.result for one in found.whole.signatures] == [SignatureResult.VALID]
    assert found.summary is wanted
    shown = read_section(found.octets)
    assert shown.count(b"from") == shown.count(b"subject") == shown.count(b"content-type") == 1
    assert b"hp-outer" not in shown
    assert b"legacy-display" not in found.octets
    if name.startswith("C.1."):
        assert found.header_scheme is None and found.fields == ()
        return
    is_old = b"rfc8551" in found.octets
    assert found.header_scheme is (HeaderScheme.RFC_8551 if is_old else HeaderScheme.RFC_9788)
    states = {one.name: one.state for one in found.fields}
    wanted_state = FieldState.SIGNED_AND_ENCRYPTED if is_encrypted(name) else FieldState.SIGNED_ONLY
    assert states["Subject"] is wanted_state
    assert (shown.first(b"subject") or b"").startswith(b"smime-")


@pytest.mark.parametrize("name", ["C.1.1", "C.1.5"])
def test_what_has_no_protection_is_as_it_came(name: str) -> None:
    assert opened(VECTORS[name]) == Opened(octets=VECTORS[name], summary=Summary.NOT_PROTECTED)


# H65
def test_without_trust_in_the_signer_cbc_stays_closed() -> None:
    stranger = SmimeOpener(identities=person(5))
    found = open_message(VECTORS["C.3.1"], [stranger], at=AT)
    assert found.summary is Summary.BROKEN
    assert found.whole is not None and found.whole.reason.startswith(REFUSED)
    assert "the signature of alice@smime.example inside would prove it" in found.whole.reason
    assert found.octets == VECTORS["C.3.1"]


# H65
def test_one_changed_octet_of_cbc_is_noticed() -> None:
    octets = bytearray(VECTORS["C.3.1"])
    octets[len(octets) // 2] ^= 1
    found = opened(bytes(octets))
    assert found.summary is Summary.BROKEN
    assert found.octets == octets


@pytest.mark.parametrize("policy", list(HeaderPolicy))
@pytest.mark.parametrize("is_opaque", [False, True])
@pytest.mark.parametrize("cipher", [Cipher.AES_256_GCM, Cipher.AES_256_CBC])
def test_what_we_make_of_the_simple_message_opens_again(
    policy: HeaderPolicy, is_opaque: bool, cipher: Cipher
) -> None:
    signing, decrypting = person(4)
    protection = Protection(
        signer=SmimeSigner(signing, encryption=decrypting.certificate),
        sealer=SmimeSealer(cipher=cipher),
        recipients=(SmimeRecipient(person(5)[1].certificate),),
        own=SmimeRecipient(decrypting.certificate),
        is_opaque=is_opaque,
        header_policy=policy,
    )
    made = protect(VECTORS["C.1.1"], protection, at=AT)
    found = opened(made)
    assert found.summary is Summary.SIGNED_AND_ENCRYPTED
    plain = read_section(VECTORS["C.1.1"])
    shown = read_section(found.octets)
    for name in (b"subject", b"from", b"to", b"date", b"message-id"):
        assert shown.first(name) == plain.first(name)
    hidden = policy is not HeaderPolicy.NO_CONFIDENTIALITY
    assert (read_section(made).first(b"subject") == b"[...]") is hidden
    assert found.whole is not None
    assert found.whole.is_authenticated is (cipher is Cipher.AES_256_GCM)
    alice = SmimeOpener(identities=person(4), trust=bob().trust)
    assert open_message(made, [alice], at=AT).summary is Summary.SIGNED_AND_ENCRYPTED


def test_a_signed_message_of_ours_survives_its_way_and_not_a_change() -> None:
    made = protect(VECTORS["C.1.5"], Protection(signer=SmimeSigner(person(4)[0])), at=AT)
    assert opened(made).summary is Summary.SIGNED
    relayed = b"Received: by a relay\r\n" + made.replace(b"\r\n", b"\n")
    assert opened(relayed).summary is Summary.SIGNED
    assert b"message.</p>" in made
    assert opened(made.replace(b"message.</p>", b"mess4ge.</p>")).summary is Summary.NOT_PROTECTED


# H65
def test_a_signature_of_alice_on_mail_from_somebody_else_is_none() -> None:
    message = VECTORS["C.1.1"].replace(b"alice@smime.example", b"carlos@smime.example")
    made = protect(message, Protection(signer=SmimeSigner(person(4)[0])), at=AT)
    found = opened(made)
    assert found.summary is Summary.NOT_PROTECTED
    assert found.whole is not None
    assert found.whole.signatures[0].result is SignatureResult.MISMATCH
