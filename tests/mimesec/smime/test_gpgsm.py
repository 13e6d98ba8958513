"""Both ways with gpgsm, in a home of its own whose agent ends with the test.

gpgsm 2.2 (Debian 12) reads no AES-GCM and cannot import EC keys, so only signatures of those are
shown to it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.interop.programs import needs_program
from tests.mimesec.smime.people import ALICE, ENTITY, decoded, halves, opener

pytestmark = needs_program("gpgsm", package="gpgsm")
PASSWORD = b"five o'clock"
NOW = datetime.now(UTC)  # gpgsm looks at the machine's clock


@lru_cache
def authority() -> Identity:
    return make_authority("Small Authority", at=NOW, kind=KeyKind.RSA2048)


@lru_cache
def alice(kind: KeyKind = KeyKind.RSA2048) -> Identity:
    return make_identity([ALICE], at=NOW, kind=kind, issuer=authority())


class GpgSm:
    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "gpgsm.conf").write_text("disable-crl-checks\ndisable-dirmngr\n")
        (home / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
        root = hashlib.sha1(authority().certificate.octets).hexdigest().upper()
        (home / "trustlist.txt").write_text(f"{root} S relax\n")

    def run(self, *arguments: str) -> bytes:
        done = subprocess.run(
            [
                *("gpgsm", "--homedir", str(self.home), "--batch", "--yes"),
                *("--pinentry-mode", "loopback", "--passphrase-fd", "0", *arguments),
            ],
            cwd=self.home,
            input=PASSWORD + b"\n",
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def write(self, name: str, octets: bytes) -> str:
        (self.home / name).write_bytes(octets)
        return name

    def take(self, who: Identity) -> None:
        """Import its PKCS #12 file, in the old form that is all it knows."""
        how = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(2000)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(SHA1())
            .build(PASSWORD)
        )
        own, *chain = (
            x509.load_der_x509_certificate(one.octets) for one in (who.certificate, *who.chain)
        )
        # Once in some hundreds it trips over what comes out; with another salt it does not.
        for left in reversed(range(3)):
            octets = pkcs12.serialize_key_and_certificates(b"own", who.key, own, chain, how)
            try:
                self.run("--import", self.write("own.p12", octets))
                return
            except AssertionError:
                if not left:
                    raise


@pytest.fixture
def gpgsm() -> Iterator[GpgSm]:
    # Short, as the path of the agent's socket has at most 108 octets.
    home = Path(tempfile.mkdtemp(prefix="gpgsm", dir="/tmp"))
    try:
        yield GpgSm(home)
    finally:
        subprocess.run(
            ["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False
        )
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("kind", [KeyKind.RSA2048, KeyKind.P256, KeyKind.P384])
def test_gpgsm_verifies_what_is_signed(gpgsm: GpgSm, kind: KeyKind) -> None:
    gpgsm.run("--import", gpgsm.write("root", authority().certificate.octets))
    _, signature = halves(SmimeSigner(alice(kind)).sign(ENTITY, at=NOW))
    names = gpgsm.write("signature", signature), gpgsm.write("content", ENTITY)
    gpgsm.run("--verify", *names)
    gpgsm.write("content", ENTITY + b"x")
    with pytest.raises(AssertionError, match="does not match"):
        gpgsm.run("--verify", *names)


def test_what_gpgsm_signs_is_verified(gpgsm: GpgSm) -> None:
    gpgsm.take(alice())
    content = gpgsm.write("content", ENTITY)
    ours = opener(trusted=Trust(roots=[authority().certificate]))
    detached = gpgsm.run("-u", ALICE, "--detach-sign", content)
    (one,) = ours.verify(ENTITY, detached, at=NOW)
    assert (one.result, one.reason) == (SignatureResult.VALID, "")
    opaque = ours.unseal(gpgsm.run("-u", ALICE, "--sign", content), at=NOW)
    assert opaque.entity == ENTITY
    assert [one.result for one in opaque.signatures] == [SignatureResult.VALID]


def test_gpgsm_and_we_open_what_the_other_sealed(gpgsm: GpgSm) -> None:
    gpgsm.take(alice())
    sealer = SmimeSealer(cipher=Cipher.AES_256_CBC)
    sealed = sealer.seal(ENTITY, [SmimeRecipient(alice().certificate)], at=NOW, signer=None)
    assert gpgsm.run("--decrypt", gpgsm.write("sealed", decoded(sealed))) == ENTITY
    theirs = gpgsm.run("-r", ALICE, "--encrypt", gpgsm.write("content", ENTITY))
    unsealed = opener(alice()).unseal(theirs, at=NOW)
    assert unsealed.entity == ENTITY
    assert not unsealed.encryption.is_authenticated
