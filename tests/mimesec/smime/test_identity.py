"""Keys and certificates in PEM and PKCS #12, of others and of our own making."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.secret import Secret
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import identity as identities
from posthouse.mimesec.smime import pem
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.identity import Identity, from_pem, from_pkcs12, private_key
from posthouse.mimesec.smime.make import KeyKind, make_authority, make_identity
from tests.interop.programs import needs_program
from tests.mimesec.smime.people import ALICE, AT, BOB, authority, identity

KINDS = [kind for kind in KeyKind if kind not in (KeyKind.RSA3072, KeyKind.RSA4096)]
PASSWORD = Secret("tëa at five")


def pfx(who: Identity, password: Secret | None = PASSWORD, **how: object) -> bytes:
    own, *chain = (
        x509.load_der_x509_certificate(one.octets) for one in (who.certificate, *who.chain)
    )
    word = password.reveal().encode() if password else b""
    protection: object = NoEncryption()
    if password:
        built = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1000)
        if "algorithm" in how:
            built = built.key_cert_algorithm(how["algorithm"])
        if "digest" in how:
            built = built.hmac_hash(how["digest"])
        protection = built.build(word)
    return pkcs12.serialize_key_and_certificates(b"own", who.key, own, chain, protection)


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256()])
@pytest.mark.parametrize(
    "algorithm",
    [pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, pkcs12.PBES.PBESv2SHA256AndAES256CBC],
)
def test_pkcs12_of_both_kinds_is_read(algorithm: object, digest: object) -> None:
    who = identity()
    (found,) = from_pkcs12(pfx(who, algorithm=algorithm, digest=digest), PASSWORD)
    assert found.certificate == who.certificate
    assert found.chain == (authority().certificate,)
    assert found.key_octets() == who.key_octets()


def test_pkcs12_without_a_password_is_read() -> None:
    (found,) = from_pkcs12(pfx(identity(), None), None)
    assert found.certificate == identity().certificate


def test_a_wrong_password_is_told_and_nothing_of_it_shown() -> None:
    with pytest.raises(
        ProtectionError, match="the password of the PKCS #12 file is wrong"
    ) as raised:
        from_pkcs12(pfx(identity()), Secret("wrong"))
    assert raised.value.hint and "wrong" not in raised.value.hint


@pytest.mark.parametrize("password", [None, "", Secret("")])
def test_a_password_that_was_not_given_is_not_a_wrong_one(password: Secret | str | None) -> None:
    with pytest.raises(
        ProtectionError, match="the PKCS #12 file has a password, and none was given"
    ) as raised:
        from_pkcs12(pfx(identity()), password)
    assert raised.value.hint.startswith("give the password")


@pytest.mark.parametrize("octets", [b"", b"\x30\0", b"-----BEGIN", bytes(100)])
def test_what_is_no_pkcs12_is_told(octets: bytes) -> None:
    with pytest.raises(ProtectionError, match="no whole PKCS #12 file"):
        from_pkcs12(octets, PASSWORD)


PFX_SAMPLE = pfx(identity())


@given(st.data())
def test_a_damaged_pkcs12_is_told(data: st.DataObject) -> None:
    octets = bytearray(PFX_SAMPLE)
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = from_pkcs12(bytes(octets[: data.draw(st.integers(0, len(octets)))]), PASSWORD)
    except ProtectionError as error:
        assert error.hint
    else:
        assert found[0].certificate == identity().certificate


@needs_program("openssl", package="openssl")
@pytest.mark.parametrize(
    "how",
    [
        ("-keypbe", "AES-128-CBC", "-certpbe", "AES-256-CBC", "-macalg", "sha512"),
        ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES"),
        ("-keypbe", "PBE-SHA1-2DES", "-certpbe", "NONE"),
        ("-keypbe", "NONE", "-certpbe", "NONE", "-nomac"),
        ("-legacy", "-keypbe", "PBE-SHA1-RC2-128", "-certpbe", "PBE-SHA1-RC2-128"),
        ("-iter", "1", "-nomaciter"),
    ],
    ids=lambda how: how[1],
)
def test_pkcs12_of_openssl_is_read(tmp_path: Path, how: tuple[str, ...]) -> None:
    who = identity(kind=KeyKind.RSA2048)
    (tmp_path / "in.pem").write_bytes(who.key_pem() + who.certificates_pem())
    subprocess.run(
        [
            *("openssl", "pkcs12", "-export", "-in", "in.pem", "-out", "out.p12"),
            *("-passout", f"pass:{PASSWORD.reveal()}", *how),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (found,) = from_pkcs12((tmp_path / "out.p12").read_bytes(), PASSWORD)
    assert found.certificate == who.certificate


@needs_program("openssl", package="openssl")
def test_ciphers_of_forty_bits_are_refused_by_name(tmp_path: Path) -> None:
    who = identity()
    (tmp_path / "in.pem").write_bytes(who.key_pem() + who.certificates_pem())
    subprocess.run(
        [
            *("openssl", "pkcs12", "-export", "-legacy", "-in", "in.pem", "-out", "out.p12"),
            *("-passout", "pass:x", "-certpbe", "PBE-SHA1-RC2-40"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with pytest.raises(ProtectionError, match="RC2 of 40 bits") as raised:
        from_pkcs12((tmp_path / "out.p12").read_bytes(), Secret("x"))
    assert "AES" in raised.value.hint


# --- PEM ---


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_keys_and_certificates_come_back_from_pem(kind: KeyKind) -> None:
    who = identity(kind=kind)
    for password in (None, PASSWORD):
        found = from_pem(who.key_pem(password), who.certificates_pem(), password)
        assert found.certificate == who.certificate
        assert found.chain == who.chain


def test_the_order_of_certificates_does_not_matter() -> None:
    middle = make_authority("Middle", at=AT, issuer=authority())
    who = make_identity([ALICE], at=AT, issuer=middle)
    mixed = [
        authority().certificate,
        who.certificate,
        identity(BOB).certificate,
        middle.certificate,
    ]
    found = from_pem(who.key_pem(), pem.certificates_pem(one.octets for one in mixed))
    assert found.certificate == who.certificate
    assert found.chain == (middle.certificate, authority().certificate)


@needs_program("openssl", package="openssl")
@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_bundles_of_certificates_are_read(tmp_path: Path, form: str) -> None:
    who = identity()
    (tmp_path / "in.pem").write_bytes(who.certificates_pem())
    subprocess.run(
        [
            *("openssl", "crl2pkcs7", "-nocrl", "-certfile", "in.pem"),
            *("-outform", form, "-out", "out.p7b"),
        ],
        cwd=tmp_path,
        check=True,
    )
    found = identities.read_certificates((tmp_path / "out.p7b").read_bytes())
    assert set(found) == {who.certificate, *who.chain}


@pytest.mark.parametrize(
    ("password", "words"),
    [(None, "has a password"), (Secret("wrong"), "cannot be read")],
)
def test_a_locked_key_says_what_it_needs(password: Secret | None, words: str) -> None:
    with pytest.raises(ProtectionError, match=words) as raised:
        private_key(identity().key_pem(PASSWORD), password)
    assert PASSWORD.reveal() not in str(raised.value) + raised.value.hint


def test_a_password_for_an_open_key_is_told() -> None:
    with pytest.raises(ProtectionError, match="has no password"):
        private_key(identity().key_pem(), PASSWORD)


def test_keys_that_are_not_used_are_told() -> None:
    other = dsa.generate_private_key(2048)
    octets = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ProtectionError, match="not used in S/MIME"):
        private_key(octets)
    for octets in (b"", b"-----BEGIN PRIVATE KEY-----\n", b"\x30\0"):
        with pytest.raises(ProtectionError, match="cannot be read"):
            private_key(octets)


def test_an_old_rsa_key_opens_and_signs_nothing() -> None:
    from posthouse.mimesec.smime.signer import SmimeSigner

    key = rsa.generate_private_key(65537, 1024)
    made = (
        x509.CertificateBuilder()
        .subject_name(authority().certificate.subject_name)
        .issuer_name(authority().certificate.subject_name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=5))
        .sign(authority().key, hashes.SHA256())
    )
    old = Identity(
        private_key(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
        Certificate(made.public_bytes(Encoding.DER)),
    )
    with pytest.raises(ProtectionError, match="1024 bits is too short"):
        SmimeSigner(old)
    assert "too short" in old.certificate.why_not_encryption()


def test_a_key_and_the_certificate_of_another_are_told() -> None:
    one, other = identity(), identity(BOB)
    with pytest.raises(ProtectionError, match="does not belong"):
        Identity(one.key, other.certificate)
    with pytest.raises(ProtectionError, match="none of the certificates"):
        from_pem(one.key_pem(), other.certificates_pem())


@pytest.mark.parametrize("octets", [b"", b"no certificate", b"\x30\x03\x02\x01\x05"])
def test_files_without_a_certificate_are_told(octets: bytes) -> None:
    with pytest.raises(ProtectionError):
        identities.read_certificates(octets)


def test_nothing_of_a_key_is_shown() -> None:
    who = identity()
    secret = format(who.key.private_numbers().private_value, "x")  # type: ignore[union-attr]
    assert secret not in repr(who) and secret not in str(vars(who))
    assert who.key_pem(PASSWORD).count(b"ENCRYPTED") == 2


# --- made ---


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA2048, KeyKind.ED25519])
def test_a_self_signed_certificate_is_one_for_mail(kind: KeyKind) -> None:
    who = make_identity([ALICE, "zoë@exämple.org"], at=AT, kind=kind, name="Alice Liddell")
    certificate = who.certificate
    assert certificate.addresses == (ALICE, "zoë@xn--exmple-cua.org")
    assert certificate.name == "Alice Liddell"
    assert who.can_sign and who.can_decrypt is (kind is not KeyKind.ED25519)
    assert certificate.is_self_issued
    assert certificate.not_after - certificate.not_before == timedelta(days=730)
    assert check_path(certificate, Trust(roots=[certificate]), at=AT).result is (
        SignatureResult.VALID
    )
    basic = certificate.extension(x509.BasicConstraints)
    assert basic is not None and not basic.ca


@needs_program("openssl", package="openssl")
def test_openssl_finds_the_made_certificates_good_for_mail(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    root = make_authority("Root", at=now)
    who = make_identity([ALICE], at=now, issuer=make_authority("Middle", at=now, issuer=root))
    (tmp_path / "root.pem").write_bytes(root.certificates_pem())
    (tmp_path / "middle.pem").write_bytes(pem.certificates_pem([who.chain[0].octets]))
    (tmp_path / "own.pem").write_bytes(pem.certificates_pem([who.certificate.octets]))
    # Not "smimeencrypt": openssl 3.0 wants keyEncipherment there, which is for RSA only.
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-CAfile", "root.pem"),
            *("-untrusted", "middle.pem", "-purpose", "smimesign", "own.pem"),
        ],
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("addresses", "given", "words"),
    [
        ([], {}, "needs a"),
        (["no address"], {}, "is no address"),
        (["a@b\r\nc"], {}, "no address|control"),
        ([ALICE], {"kind": KeyKind.X25519}, "cannot sign its own"),
        ([ALICE], {"days": 0}, "0 days"),
        ([ALICE], {"can_sign": False, "can_decrypt": False}, "do nothing"),
        ([ALICE], {"kind": KeyKind.ED25519, "can_sign": False}, "do nothing"),
        ([ALICE], {"name": "a\nb"}, "control characters"),
    ],
)
def test_what_cannot_be_made_is_told(addresses: list[str], given: dict, words: str) -> None:
    with pytest.raises(ProtectionError, match=words) as raised:
        make_identity(addresses, at=AT, **given)
    assert raised.value.hint


def test_an_authority_that_cannot_sign_is_told() -> None:
    with pytest.raises(ProtectionError, match="cannot sign certificates"):
        make_authority("X", at=AT, kind=KeyKind.X25519)
