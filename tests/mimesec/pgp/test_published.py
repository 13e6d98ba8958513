"""Keys and messages that others published, most of them from before SHA-1 fell."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from posthouse.mimesec import SignatureResult
from posthouse.mimesec.inline import blocks
from posthouse.mimesec.pgp.keys import PublicKey, read_private, read_public
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.ports import ProtectionError
from tests.mimesec.pgp.people import NOW


@pytest.fixture
def folder(vectors: Path) -> Path:
    return vectors / "openpgp/pgpy"


@cache
def keys(folder: Path) -> tuple[PublicKey, ...]:
    found: list[PublicKey] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                found += read_public(path.read_bytes())
            except ProtectionError as error:
                assert error.text.isprintable() and error.hint
    return tuple(found)


@pytest.fixture
def opener(folder: Path) -> PgpOpener:
    own = read_private((folder / "keys/ecc.1.sec.asc").read_bytes())
    return PgpOpener(own=own, known=keys(folder))


def test_keys_that_are_bound_by_good_signatures_are_read(folder: Path) -> None:
    named = {address for one in keys(folder) for address in one.addresses}
    assert named >= {"openpgp@brainhub.org", "dsa@test.key", "mixed1@test.key"}


def test_every_file_has_a_finding(folder: Path, opener: PgpOpener) -> None:
    looked_at = 0
    for path in folder.rglob("*"):
        if path.is_file():
            octets = path.read_bytes()
            unsealed = opener.unseal(octets, at=NOW)
            assert unsealed.encryption.is_opened or unsealed.encryption.reason
            assert opener.verify(b"", octets, at=NOW)
            looked_at += 1
    assert looked_at > 30


@pytest.mark.parametrize("name", ["literal.nomdc.pass.cast5", "nomdc.pass", "rsa.cast5.no-mdc"])
def test_encryption_without_protection_is_refused(
    folder: Path, opener: PgpOpener, name: str
) -> None:  # H65
    octets = (folder / f"messages/message.{name}.asc").read_bytes()
    reason = opener.unseal(octets, at=NOW).encryption.reason
    assert "no MDC" in reason


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("blocks/cleartext.asc", [SignatureResult.UNSUPPORTED]),
        (
            "blocks/cleartext.twosigs.asc",
            [SignatureResult.UNSUPPORTED, SignatureResult.UNTRUSTED],
        ),
        (
            "messages/cleartext.dashesc.signed.asc",
            [SignatureResult.UNSUPPORTED, SignatureResult.UNSUPPORTED, SignatureResult.UNTRUSTED],
        ),
    ],
)
def test_signatures_in_text(
    folder: Path, opener: PgpOpener, name: str, results: list[SignatureResult]
) -> None:
    """SHA-1 is not believed; the others are good, and nobody vouches for their keys."""
    [block] = blocks((folder / name).read_bytes())
    found = opener.verify(block.text, block.signature, at=NOW)
    assert [one.result for one in found] == results


def test_a_message_that_is_only_signed_is_no_encryption(folder: Path, opener: PgpOpener) -> None:
    octets = (folder / "messages/message.signed.ecdsa.asc").read_bytes()
    unsealed = opener.unseal(octets, at=NOW)
    assert unsealed.encryption.is_opened and not unsealed.encryption.is_authenticated
    assert unsealed.encryption.algorithm == "" and len(unsealed.signatures) == 1
    assert unsealed.entity
