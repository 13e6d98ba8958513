"""Both ways with `openssl cms`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.smime import structures
from posthouse.mimesec.smime.capabilities import Cipher
from posthouse.mimesec.smime.enveloped import KeyTransport
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import KeyKind
from posthouse.mimesec.smime.recipient import SmimeRecipient
from posthouse.mimesec.smime.sealer import SmimeSealer
from posthouse.mimesec.smime.signer import SmimeSigner
from tests.interop.programs import needs_program
from tests.mimesec.smime.people import (
    ALICE,
    AT,
    ENTITY,
    authority,
    decoded,
    halves,
    identity,
    opener,
)

pytestmark = needs_program("openssl", package="openssl")
ATTIME = str(int(AT.timestamp()))
SIGNING = [KeyKind.RSA2048, KeyKind.P256, KeyKind.P384, KeyKind.P521]
EDWARDS = [KeyKind.ED25519, KeyKind.ED448]
OPENING = [KeyKind.RSA2048, KeyKind.P256, KeyKind.P384, KeyKind.P521]


class OpenSsl:
    """The command, in a folder with somebody's key and certificates."""

    def __init__(self, folder: Path, who: Identity) -> None:
        self.folder = folder
        self.write("key.pem", who.key_pem())
        self.write("certificate.pem", who.certificates_pem())
        self.write("root.pem", authority().certificates_pem())

    def write(self, name: str, octets: bytes) -> None:
        (self.folder / name).write_bytes(octets)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def cms(self, *arguments: str) -> None:
        self.run("cms", *arguments)

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments],
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("is_pss", [False, True])
@pytest.mark.parametrize("kind", SIGNING, ids=lambda kind: kind.value)
def test_openssl_verifies_what_is_signed(tmp_path: Path, kind: KeyKind, is_pss: bool) -> None:
    who = identity(kind=kind)
    openssl = OpenSsl(tmp_path, who)
    signer = SmimeSigner(who, is_pss=is_pss)
    openssl.write("detached.eml", signer.sign(ENTITY, at=AT))
    openssl.write("opaque.eml", signer.sign_opaque(ENTITY, at=AT))
    for name in ("detached.eml", "opaque.eml"):
        openssl.cms(
            *("-verify", "-in", name, "-out", "content", "-CAfile", "root.pem"),
            *("-purpose", "smimesign", "-attime", ATTIME, "-cades"),
        )
        assert openssl.read("content") == ENTITY


@pytest.mark.parametrize("how", [(), ("-nodetach",), ("-nodetach", "-stream"), ("-keyid",)])
@pytest.mark.parametrize("kind", SIGNING, ids=lambda kind: kind.value)
def test_what_openssl_signs_is_verified(tmp_path: Path, kind: KeyKind, how: tuple) -> None:
    who = identity(kind=kind)
    openssl = OpenSsl(tmp_path, who)
    openssl.write("content", ENTITY)
    openssl.cms(
        *("-sign", "-in", "content", "-binary", "-outform", "DER", "-out", "signature"),
        *("-signer", "certificate.pem", "-inkey", "key.pem", "-md", "sha256", *how),
    )
    if "-nodetach" in how:
        unsealed = opener().unseal(openssl.read("signature"), at=AT)
        assert unsealed.entity == ENTITY
        found = unsealed.signatures
    else:
        found = opener().verify(ENTITY, openssl.read("signature"), at=AT)
    (one,) = found
    assert (one.result, one.reason, one.addresses) == (SignatureResult.VALID, "", (ALICE,))


@pytest.mark.parametrize("salt", ["-1", "20"])
def test_rsa_pss_of_openssl_is_verified(tmp_path: Path, salt: str) -> None:
    who = identity(kind=KeyKind.RSA2048)
    openssl = OpenSsl(tmp_path, who)
    openssl.write("content", ENTITY)
    openssl.cms(
        *("-sign", "-in", "content", "-binary", "-outform", "DER", "-out", "signature"),
        *("-signer", "certificate.pem", "-inkey", "key.pem", "-md", "sha384"),
        *("-keyopt", "rsa_padding_mode:pss", "-keyopt", f"rsa_pss_saltlen:{salt}", "-cades"),
    )
    (one,) = opener().verify(ENTITY, openssl.read("signature"), at=AT)
    assert (one.result, one.algorithm) == (SignatureResult.VALID, "RSA-PSS with SHA-384")


def test_sha1_of_openssl_is_refused_by_name(tmp_path: Path) -> None:
    openssl = OpenSsl(tmp_path, identity(kind=KeyKind.RSA2048))
    openssl.write("content", ENTITY)
    openssl.cms(
        *("-sign", "-in", "content", "-binary", "-outform", "DER", "-out", "signature"),
        *("-signer", "certificate.pem", "-inkey", "key.pem", "-md", "sha1"),
    )
    (one,) = opener().verify(ENTITY, openssl.read("signature"), at=AT)
    assert one.result is SignatureResult.UNSUPPORTED and "SHA-1" in one.reason


def test_signatures_without_attributes_and_of_several_signers_are_verified(tmp_path: Path) -> None:
    alice, other = identity(kind=KeyKind.RSA2048), identity("eve@example.org")
    openssl = OpenSsl(tmp_path, alice)
    openssl.write("other.pem", other.certificates_pem())
    openssl.write("other.key", other.key_pem())
    openssl.write("content", ENTITY)
    openssl.cms(
        *("-sign", "-in", "content", "-binary", "-outform", "DER", "-out", "signature", "-noattr"),
        *("-signer", "certificate.pem", "-inkey", "key.pem", "-md", "sha256"),
        *("-signer", "other.pem", "-inkey", "other.key"),
    )
    found = opener().verify(ENTITY, openssl.read("signature"), at=AT)
    assert {(one.result, one.addresses[0]) for one in found} == {
        (SignatureResult.VALID, ALICE),
        (SignatureResult.MISMATCH, "eve@example.org"),
    }
    found = opener().verify(ENTITY + b"\r\n", openssl.read("signature"), at=AT)
    assert [one.result for one in found] == [SignatureResult.INVALID] * 2


@pytest.mark.parametrize("has_key_ids", [False, True])
@pytest.mark.parametrize("cipher", [Cipher.AES_256_GCM, Cipher.AES_128_GCM, Cipher.AES_256_CBC])
@pytest.mark.parametrize("kind", OPENING, ids=lambda kind: kind.value)
def test_openssl_opens_what_is_sealed(
    tmp_path: Path, kind: KeyKind, cipher: Cipher, has_key_ids: bool
) -> None:
    who = identity(kind=kind)
    openssl = OpenSsl(tmp_path, who)
    for transport in (KeyTransport.PKCS1, KeyTransport.OAEP):
        sealer = SmimeSealer(cipher=cipher, key_transport=transport, has_key_ids=has_key_ids)
        recipients = [SmimeRecipient(who.certificate), SmimeRecipient(identity().certificate)]
        sealed = sealer.seal(ENTITY, recipients, at=AT, signer=None)
        openssl.write("sealed.eml", sealed)
        openssl.write("sealed.der", decoded(sealed))
        for name, form in (("sealed.eml", "SMIME"), ("sealed.der", "DER")):
            openssl.cms(
                *("-decrypt", "-in", name, "-inform", form, "-out", "content"),
                *("-recip", "certificate.pem", "-inkey", "key.pem"),
            )
            assert openssl.read("content") == ENTITY


CIPHERS = ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "des3"]
GCM = ["aes-128-gcm", "aes-192-gcm", "aes-256-gcm"]


@pytest.mark.parametrize("cipher", CIPHERS + GCM)
@pytest.mark.parametrize("how", [(), ("-stream",), ("-keyid",)])
@pytest.mark.parametrize("kind", OPENING, ids=lambda kind: kind.value)
def test_what_openssl_seals_is_opened(
    tmp_path: Path, kind: KeyKind, how: tuple, cipher: str
) -> None:
    who = identity(kind=kind)
    openssl = OpenSsl(tmp_path, who)
    openssl.write("content", ENTITY)
    openssl.cms(
        *("-encrypt", f"-{cipher}", "-in", "content", "-binary", *how),
        *("-outform", "DER", "-out", "sealed", "-recip", "certificate.pem"),
    )
    unsealed = opener(who).unseal(openssl.read("sealed"), at=AT)
    if cipher == "des3" and kind is not KeyKind.RSA2048:
        assert "key wrap" in unsealed.encryption.reason  # 3DES's own, which nobody needs
        return
    assert unsealed.entity == ENTITY
    assert unsealed.encryption.is_authenticated is (cipher in GCM)
    assert unsealed.encryption.algorithm.replace("3DES-CBC", "des3").lower() == cipher


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_oaep_and_key_derivations_of_openssl_are_opened(tmp_path: Path, digest: str) -> None:
    for kind, option in (
        (KeyKind.RSA2048, ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", f"rsa_oaep_md:{digest}")),
        (KeyKind.P256, ("-keyopt", f"ecdh_kdf_md:{digest}")),
        (KeyKind.P384, ("-keyopt", f"ecdh_kdf_md:{digest}", "-keyopt", "ecdh_cofactor_mode:1")),
    ):
        who = identity(kind=kind)
        openssl = OpenSsl(tmp_path, who)
        openssl.write("content", ENTITY)
        openssl.cms(
            *("-encrypt", "-aes-256-cbc", "-in", "content", "-binary", "-outform", "DER"),
            *("-out", "sealed", "-recip", "certificate.pem", *option),
        )
        assert opener(who).unseal(openssl.read("sealed"), at=AT).entity == ENTITY


def test_what_openssl_streams_in_megabytes_is_read_in_linear_time(tmp_path: Path) -> None:
    who = identity(kind=KeyKind.RSA2048)
    openssl = OpenSsl(tmp_path, who)
    large = ENTITY + b"The same line, once more.\r\n" * 200_000
    openssl.write("content", large)
    openssl.cms(
        *("-encrypt", "-aes-128-cbc", "-in", "content", "-binary", "-stream"),
        *("-outform", "DER", "-out", "sealed", "-recip", "certificate.pem"),
    )
    assert opener(who).unseal(openssl.read("sealed"), at=AT).entity == large


@pytest.mark.parametrize("kind", EDWARDS, ids=lambda kind: kind.value)
def test_edwards_signatures_are_made_over_the_octets_openssl_verifies(
    tmp_path: Path, kind: KeyKind
) -> None:
    """`openssl cms` 3.0 fails on signed attributes with these keys, so `pkeyutl` looks."""
    who = identity(kind=kind)
    openssl = OpenSsl(tmp_path, who)
    _, structure = halves(SmimeSigner(who).sign(ENTITY, at=AT))
    found = structures.read(structure)
    assert isinstance(found, structures.SignedData)
    (signer,) = found.signers
    assert signer.attributes is not None
    openssl.write("attributes", signer.attributes.as_sent)
    openssl.write("signature", signer.signature)
    openssl.run(
        *("pkeyutl", "-verify", "-rawin", "-in", "attributes", "-sigfile", "signature"),
        *("-certin", "-inkey", "certificate.pem"),
    )


def test_the_halves_are_what_was_signed() -> None:
    first, _ = halves(SmimeSigner(identity()).sign(ENTITY, at=AT))
    assert first == ENTITY
