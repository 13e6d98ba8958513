"""Key records: RFC 6376 §3.6.1, §6.1.2, RFC 8301 §3.2, RFC 8463 §4.2."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.keys import Key, Unusable, key_record, read_key
from tests.mailauth.dkim.lab import new_key

RSA_P = b64encode(new_key(RSA).public).decode()
ED_P = b64encode(new_key(ED25519).public).decode()


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(number: int) -> bytes:
    return der(2, number.to_bytes(number.bit_length() // 8 + 1))


def rsa_record(modulus: int, exponent: int) -> str:
    """An RSAPublicKey (RFC 8017 A.1.1) of any numbers."""
    octets = der(0x30, integer(modulus) + integer(exponent))
    return f"v=DKIM1; p={b64encode(octets).decode()}"


GOOD = [
    (f"v=DKIM1; k=rsa; p={RSA_P}", RSA, 2048),
    (f"p={RSA_P}", RSA, 2048),
    (f"v=DKIM1;p={RSA_P};", RSA, 2048),
    (f" v = DKIM1 ; n=a note=3B 100%; p = {RSA_P[:60]} \t {RSA_P[60:]}", RSA, 2048),
    (f"k=rsa; h=sha1:sha256; s=*; t=x:z; g=*; p={RSA_P}", RSA, 2048),
    (f"h= sha256 : new; s=other: email; p={RSA_P}", RSA, 2048),
    (f"v=DKIM1; k=ed25519; p={ED_P}", ED25519, 256),
    (f"k=ed25519; p={ED_P.rstrip('=')}", ED25519, 256),
]


@pytest.mark.parametrize(("record", "algorithm", "bits"), GOOD, ids=range(len(GOOD)))
def test_a_key_record_gives_its_key(record: str, algorithm: str, bits: int) -> None:
    found = read_key(record.encode())
    assert isinstance(found, Key), found
    assert (found.algorithm, found.bits) == (algorithm, bits)
    assert not found.is_testing
    assert not found.is_strict


def test_flags_are_read() -> None:
    for flags, testing, strict in (("y", True, False), ("s", False, True), (" y : s ", True, True)):
        found = read_key(f"t={flags}; p={RSA_P}".encode())
        assert isinstance(found, Key)
        assert (found.is_testing, found.is_strict) == (testing, strict)
    revoked = read_key(b"t=y; p=")
    assert isinstance(revoked, Unusable)
    assert revoked.is_testing


EC = ec.generate_private_key(ec.SECP256R1()).public_key()
EC_P = b64encode(EC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
ED_SPKI = Ed25519PrivateKey.generate().public_key()
ED_SPKI_P = b64encode(
    ED_SPKI.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()
ODD = (1 << 2047) + 1

BAD = [
    # record, a part of the reason
    ("", "no tag list"),
    ("v=spf1 -all", "none of DKIM's"),
    ("verification=123", "no p="),
    ("v=DKIM2; p=x", "none of DKIM's"),
    ("v=dkim1; p=x", "none of DKIM's"),
    (f"v=DKIM1.0; p={RSA_P}", "none of DKIM's"),
    (f"k=rsa; v=DKIM1; p={RSA_P}", "has to come first"),
    (f"v=DKIM1\\; p={RSA_P}", "none of DKIM's"),
    ("v=DKIM1; k=rsa", "no p="),
    ("v=DKIM1; p=", "revoked"),
    ("v=DKIM1; p= ", "revoked"),
    (f"p={RSA_P}; p={RSA_P}", "twice"),
    (f'v=DKIM1; p="{RSA_P}"', "no base64"),
    ("v=DKIM1; p=AAAA", "no RSA key"),
    (f"v=DKIM1; k=ec; p={EC_P}", "not known"),
    (f"v=DKIM1; k=; p={EC_P}", "not known"),
    (f"v=DKIM1; k=rsa; p={EC_P}", "another kind"),
    (f"v=DKIM1; k=rsa; p={ED_P}", "no RSA key"),
    (f"v=DKIM1; k=ed25519; p={RSA_P}", "octets, an Ed25519 key 32"),  # H42
    (f"v=DKIM1; k=ed25519; p={ED_SPKI_P}", "p= has 44 octets"),  # H42
    ("v=DKIM1; k=ed25519; p=AAAA", "p= has 3 octets"),  # H42
    (f"h=sha1; p={RSA_P}", "not for SHA-256"),
    (f"h=; p={RSA_P}", "not for SHA-256"),
    (f"s=tlsrpt; p={RSA_P}", "not for mail"),
    (rsa_record(ODD, 1), "RSA key"),  # H42
    (rsa_record(ODD, 65536), "RSA key"),  # H42
    (rsa_record(ODD, 2), "RSA key"),
    (rsa_record(ODD, (1 << 64) + 1), "has over 32 bits"),  # H42: it would only cost
    (rsa_record(0, 3), "no RSA key"),
    ("p=" + b64encode(b"0" * 5000).decode(), "more than any RSA key"),
    ("p=" + "A" * 70_000, "longer than 65535"),  # H42
    ("p=\x00", "control character"),
]


@pytest.mark.parametrize(("record", "reason"), BAD, ids=range(len(BAD)))
def test_a_record_that_gives_no_key_says_why(record: str, reason: str) -> None:
    found = read_key(record.encode())
    assert isinstance(found, Unusable)
    assert reason in found.reason
    assert len(found.reason) < 200


NUMBERS = [
    ((1 << 2047) + 2, 65537),  # an even modulus
    (ODD, 3),
    ((1 << 1023) + 1, 65537),
    (3, 3),
    ((1 << 16_383) + 1, 3),
    ((1 << 4095) + 1, (1 << 63) + 1),
]


@pytest.mark.parametrize(("modulus", "exponent"), NUMBERS, ids=range(len(NUMBERS)))
def test_no_numbers_make_verifying_raise(modulus: int, exponent: int) -> None:  # H42
    found = read_key(rsa_record(modulus, exponent).encode())
    if isinstance(found, Key):
        for signature in (b"", b"\0" * 128, b"\1" * 256, b"\xff" * 2048):
            assert not found.verifies(signature, b"d" * 32)
            assert found.signed_digest(signature) is None


@pytest.mark.parametrize("bits", [512, 768])
def test_short_keys_are_read_so_that_they_can_be_told(bits: int) -> None:  # H42
    prime = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    found = read_key(rsa_record(prime >> (1024 - bits) | 1, 65537).encode())
    assert isinstance(found, Unusable) or found.bits == bits


def test_the_same_record_gives_the_same_key_object() -> None:
    record = f"v=DKIM1; n=cached; p={RSA_P}".encode()
    assert read_key(record) is read_key(b"".join((record[:5], record[5:])))


def test_a_long_record_is_read_and_not_kept() -> None:  # H42: 64 KiB
    record = f"v=DKIM1; p={RSA_P}; n={'x' * 64_000}".encode()
    assert isinstance(read_key(record), Key)
    assert read_key(record) is not read_key(record)


@pytest.mark.parametrize("algorithm", [RSA, ED25519])
def test_the_record_of_a_key_is_read_as_that_key(algorithm: str) -> None:
    public = new_key(algorithm).public
    text = key_record(algorithm, public)
    assert text.startswith("v=DKIM1; k=")
    found = read_key(text.encode())
    assert isinstance(found, Key)
    assert found.algorithm == algorithm
    testing = read_key(key_record(algorithm, public, is_testing=True).encode())
    assert isinstance(testing, Key)
    assert testing.is_testing
    revoked = read_key(key_record(algorithm, public, is_revoked=True).encode())
    assert isinstance(revoked, Unusable)
    assert "revoked" in revoked.reason


tags = st.sampled_from(
    [
        "v=DKIM1",
        "k=rsa",
        "k=ed25519",
        f"p={RSA_P}",
        f"p={ED_P}",
        "t=y:s",
        "h=sha256",
        "p=",
        "s=email",
    ]
)


@given(
    st.binary(max_size=400) | st.lists(tags, max_size=6).map(lambda all: "; ".join(all).encode())
)
def test_a_record_of_any_octets_gives_a_key_or_a_reason(octets: bytes) -> None:
    found = read_key(octets)
    assert isinstance(found, Key) or found.reason.isprintable()


@given(st.binary(max_size=300))
def test_a_public_key_of_any_octets_gives_a_key_or_a_reason(octets: bytes) -> None:
    for kind in ("rsa", "ed25519"):
        read_key(f"k={kind}; p={b64encode(octets).decode()}".encode())


@given(cut=st.integers(0, len(new_key(RSA).public) - 1), octet=st.integers(0, 255))
def test_a_public_key_that_was_changed_does_not_make_reading_raise(cut: int, octet: int) -> None:
    public = bytearray(new_key(RSA).public)
    public[cut] = octet
    found = read_key(f"p={b64encode(public).decode()}".encode())
    if isinstance(found, Key):
        found.verifies(b"\1" * 256, b"d" * 32)
