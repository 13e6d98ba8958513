"""The samples of RFC 9580 Appendix A, read from the text of the RFC."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

from posthouse.mimesec import SignatureResult, inline
from posthouse.mimesec.pgp import armour, content, locking
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey, read_private, read_public
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.packets import Tag, walk
from posthouse.mimesec.pgp.session import NotForUs, SessionKey
from tests.mimesec.pgp.people import NOW

FINGERPRINT = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9"
SHOPPING = b"What we need from the grocery store:\n\n- tofu\n- vegetables\n- noodles\n"


def text() -> str:
    """Beside the published vectors; "" where it is not at hand."""
    folder = os.environ.get("POSTHOUSE_VECTORS")
    path = Path(folder).parent / "rfc" / "rfc9580.txt" if folder else None
    return path.read_text() if path is not None and path.exists() else ""


pytestmark = pytest.mark.skipif(not text(), reason="the text of RFC 9580 is not at hand")


@cache
def section(number: str) -> str:
    """ "A.8.5": behind its heading, up to the next one."""
    begin = list(re.finditer(rf"^{re.escape(number)}\.  ", text(), re.MULTILINE))[-1]
    end = re.compile(r"^[A-Z]\.[0-9.]+  |^Appendix ", re.MULTILINE).search(text(), begin.end())
    assert end is not None
    return re.sub(r"^   ", "", text()[begin.end() : end.start()], flags=re.MULTILINE)


def octets(number: str) -> bytes:
    """Of the only armour in a section."""
    [found] = armour.blocks(section(number).encode())
    return found.octets


def numbers(number: str, title: str) -> bytes:
    """Hexadecimal below a line."""
    behind = section(number).split(f"{title}:\n", 1)[1].strip("\n")
    return bytes.fromhex(behind.split("\n\n", 1)[0])


def private() -> PrivateKey:
    [key] = read_private(section("A.4").encode())
    return key


def public() -> PublicKey:
    [key] = read_public(section("A.3").encode())
    return key


def test_keys() -> None:
    assert public().fingerprint == private().public.fingerprint == FINGERPRINT
    assert public().key_ids == (FINGERPRINT[:16], "12C83F1E706F6308")
    assert public().addresses == () and public().algorithm == "Ed25519"
    assert public().why_unusable(NOW) == ""


def test_a_locked_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password is hashed in 2 GiB of memory; the RFC says what comes out."""
    hashed = iter(
        bytes.fromhex("".join(section(number).split("is:\n", 2)[1].split("After")[0].split()))
        for number in ("A.5.1", "A.5.2")
    )

    class Hashed:
        def __init__(self, *, memory_cost: int, iterations: int, lanes: int, **_: object) -> None:
            assert (memory_cost, iterations, lanes) == (1 << 21, 1, 4)

        def derive(self, word: bytes) -> bytes:
            assert word == b"correct horse battery staple"
            return next(hashed)

    monkeypatch.setattr(locking, "Argon2id", Hashed)
    [key] = read_private(section("A.5").encode(), "correct horse battery staple")
    assert key.octets == private().octets


def test_a_signature_in_text() -> None:
    [block] = inline.blocks(section("A.6").split("\n\nThe Signature packet")[0].encode())
    for trusted, expected in (
        ((), SignatureResult.UNTRUSTED),
        ((FINGERPRINT,), SignatureResult.VALID),
    ):
        opener = PgpOpener(known=[public()], trusted=trusted)
        [found] = opener.verify(block.text, block.signature, at=NOW)
        assert found.result is expected and found.key == FINGERPRINT
        [found] = opener.verify(block.text + b"\r\n- caviar", block.signature, at=NOW)
        assert found.result is SignatureResult.INVALID


def test_a_message_that_is_only_signed() -> None:
    unsealed = PgpOpener(known=[public()], trusted=[FINGERPRINT]).unseal(octets("A.7"), at=NOW)
    assert unsealed.entity == SHOPPING and unsealed.encryption.algorithm == ""
    assert [one.result for one in unsealed.signatures] == [SignatureResult.VALID]


def test_a_signature_and_a_key_of_version_4() -> None:
    """The key has no signature of its own, so nothing of it counts."""
    [packet] = walk(octets("A.1"))
    fingerprint = "C959BDBAFA32A2F89A153B678CFDE12197965A9A"
    assert locking.key_id(packet.body) == fingerprint[-16:]
    [found] = PgpOpener().verify(b"OpenPGP", section("A.2").encode(), at=NOW)
    assert found.result is SignatureResult.NO_KEY and found.key == fingerprint[-16:]
    assert found.made_at is not None and f"{found.made_at:%Y-%m-%d}" == "2015-09-16"


def test_an_encrypted_message() -> None:
    unsealed = PgpOpener(own=[private()]).unseal(octets("A.8.5"), at=NOW)
    assert unsealed.entity == b"Hello, world!" and unsealed.encryption.is_authenticated
    assert unsealed.encryption.algorithm == "AES-128-OCB"
    assert unsealed.encryption.recipients == ("12C83F1E706F6308",)


@pytest.mark.parametrize(("number", "is_known"), [("A.9", False), ("A.10", True), ("A.11", True)])
def test_what_is_encrypted_by_each_mode(number: str, *, is_known: bool) -> None:
    """EAX is the library's."""
    [container] = [one for one in walk(octets(f"{number}.5")) if one.tag == Tag.SEIPD]
    key = SessionKey(None, numbers(f"{number}.2", "Decrypted session key"))
    if not is_known:
        with pytest.raises(NotForUs):
            content.decrypted(container, key)
        return
    found = content.content(content.decrypted(container, key))
    assert found.octets == b"Hello, world!" and found.signatures == ()


@pytest.mark.parametrize("number", ["A.12.1", "A.12.2", "A.12.3"])
def test_what_has_only_a_password_stays_closed_and_says_so(number: str) -> None:
    unsealed = PgpOpener(own=[private()]).unseal(octets(number), at=NOW)
    assert "with a password" in unsealed.encryption.reason and unsealed.entity == b""
