"""Whatever octets come, there is a finding, soon, and nobody else is harmed."""

from __future__ import annotations

import bz2
import time
import zlib
from contextlib import closing
from functools import cache
from hashlib import sha1

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.kernel.ports import IsolationFailed
from posthouse.mimesec.child import OpenRequest, PgpKeys, open_isolated
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.pgp import sequoia, wrapping
from posthouse.mimesec.pgp.content import CONTENT_MAX, NESTING_MAX, content
from posthouse.mimesec.pgp.keys import PrivateKey
from posthouse.mimesec.pgp.make import KeyForm
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.pgp.packets import BadPackets, Tag, encoded, walk
from posthouse.mimesec.pgp.session import session_key
from posthouse.net.isolated import ProcessIsolation
from tests.mimesec.pgp.people import BOB, NOW, person
from tests.mimesec.pgp.test_content import chunks, container

SECONDS = 2.0
ENTITY = b"Content-Type: text/plain\r\n\r\nunder the oak\r\n"


@cache
def samples() -> tuple[bytes, ...]:
    ada, bob = person(), person(BOB)
    return (
        sequoia.encrypt(ENTITY, [bob.public.cert], ada.tsk),
        sequoia.encrypt(ENTITY, [bob.public.cert], None),
        sequoia.sign(ada.tsk, ENTITY),
        old_ocb(sequoia.encrypt(ENTITY, [bob.public.cert], None), bob),
        sequoia.encrypt(ENTITY, [rsa_key().public.cert], ada.tsk),
        sequoia.encrypt(ENTITY, [person(BOB, KeyForm.VERSION6).public.cert], ada.tsk),
    )


def old_ocb(message: bytes, key: PrivateKey) -> bytes:
    """A message with its content in the packet that GnuPG and RNP write."""
    pkesk = next(walk(message))
    [made] = [session_key(pkesk.body, one) for one in key.subkeys]
    literal = encoded(Tag.LITERAL, b"b\0\0\0\0\0" + ENTITY)
    return pkesk.octets + container("packet 20", *chunks("packet 20", literal, made.octets)).octets


SAMPLES = 6


def test_the_samples_are_good() -> None:
    assert len(samples()) == SAMPLES
    for number, octets in enumerate(samples()):
        if number == 2:
            [found] = opener().verify(ENTITY, octets, at=NOW)
            assert found.result is SignatureResult.VALID
        else:
            assert opener().unseal(octets, at=NOW).entity == ENTITY
        looked_at(octets)


@cache
def opener() -> PgpOpener:
    ada, bob = person(), person(BOB)
    own = [bob, rsa_key(), person(BOB, KeyForm.VERSION6)]
    return PgpOpener(own=own, known=[ada.public], trusted=[ada.public.fingerprint])


def looked_at(octets: bytes) -> None:
    """Both ways in; what is promised of any result."""
    began_s = time.perf_counter()
    for signature in opener().verify(ENTITY, octets, at=NOW):
        assert (signature.result is SignatureResult.VALID) is (signature.reason == "")
        assert signature.reason.isprintable() and "Error" not in signature.reason
    unsealed = opener().unseal(octets, at=NOW)
    encryption = unsealed.encryption
    assert encryption.is_opened or (unsealed.entity == b"" and encryption.reason)
    assert encryption.is_authenticated is encryption.is_opened
    assert encryption.reason.isprintable() and "backtrace" not in encryption.reason
    assert time.perf_counter() - began_s < SECONDS


@pytest.mark.timed
@given(st.integers(0, SAMPLES - 1), st.integers(0, 2000), st.integers(1, 255))
@settings(max_examples=240, deadline=None)
def test_changed_octets_are_found_out(which: int, at: int, flip: int) -> None:
    octets = bytearray(samples()[which])
    octets[at % len(octets)] ^= flip
    looked_at(bytes(octets))
    unsealed = opener().unseal(bytes(octets), at=NOW)
    assert unsealed.entity in (b"", ENTITY)  # all of it or nothing


@pytest.mark.timed
@given(st.integers(0, SAMPLES - 1), st.integers(0, 2000))
@settings(max_examples=120, deadline=None)
def test_cut_off_octets_are_found_out(which: int, at: int) -> None:
    octets = samples()[which]
    looked_at(octets[: at % len(octets)])
    looked_at(octets + octets[: at % len(octets)])


@pytest.mark.timed
@given(st.binary(max_size=500))
@settings(deadline=None)
def test_octets_by_chance_are_looked_at(octets: bytes) -> None:
    looked_at(octets)
    looked_at(b"-----BEGIN PGP MESSAGE-----\n\n" + octets + b"\n-----END PGP MESSAGE-----\n")


def packed(octets: int, depth: int = 1) -> bytes:
    """Packets that unpack to as many octets of text."""
    found = encoded(Tag.LITERAL, b"b\0\0\0\0\0" + b"\0" * octets)
    for _ in range(depth):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        found = encoded(Tag.COMPRESSED, b"\x01" + packer.compress(found) + packer.flush())
    return found


def sealed(packets: bytes, key: PrivateKey) -> bytes:
    """Encrypted to an RSA key as of old: what is inside is not ours to choose by the library."""
    [subkey] = [one for one in key.subkeys if one.key_id == key.public.key_ids[1]]
    n, e = (int.from_bytes(one, "big") for one in _mpis(subkey.public, 2))
    session = bytes(range(32))
    total = (sum(session) & 0xFFFF).to_bytes(2, "big")
    public = rsa.RSAPublicNumbers(e, n).public_key()
    number = public.encrypt(b"\x09" + session + total, PKCS1v15())
    bits = int.from_bytes(number, "big").bit_length().to_bytes(2, "big")
    head = b"\x03" + bytes.fromhex(subkey.key_id) + b"\x01" + bits + number.lstrip(b"\0")
    plain = bytes(16) + bytes(2) + packets + b"\xd3\x14"
    plain += sha1(plain, usedforsecurity=False).digest()
    encryptor = Cipher(AES(session), CFB(bytes(16))).encryptor()
    body = b"\x01" + encryptor.update(plain) + encryptor.finalize()
    return encoded(Tag.PKESK, head) + encoded(Tag.SEIPD, body)


def _mpis(octets: bytes, count: int) -> list[bytes]:
    found, at = [], 0
    for _ in range(count):
        size = int.from_bytes(octets[at : at + 2], "big") + 7 >> 3
        found.append(octets[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def rsa_key() -> PrivateKey:
    return person(BOB, KeyForm.RSA3072)


@pytest.mark.parametrize("bits", [0, 1, 3_071, 3_072, 3_073, 5_000, 65_535])
def test_a_number_of_any_size_is_no_session_key(bits: int) -> None:
    pkesk, container_ = walk(samples()[4])
    number = ((1 << bits) - 1).to_bytes(bits + 7 >> 3, "big")
    body = pkesk.body[:10] + bits.to_bytes(2, "big") + number
    octets = encoded(Tag.PKESK, body) + container_.octets
    looked_at(octets)
    assert not opener().unseal(octets, at=NOW).encryption.is_opened


def test_what_is_packed_in_the_usual_way_is_unpacked() -> None:
    literal = encoded(Tag.LITERAL, b"b\0\0\0\0\0" + ENTITY)
    for method, body in (
        (b"\x00", literal),
        (b"\x02", zlib.compress(literal)),
        (b"\x03", bz2.compress(literal)),
    ):
        octets = sealed(encoded(Tag.COMPRESSED, method + body), rsa_key())
        unsealed = PgpOpener(own=[rsa_key()]).unseal(octets, at=NOW)
        assert unsealed.entity == ENTITY and unsealed.encryption.algorithm == "AES-256 with MDC"


def test_what_is_packed_twice_counts_twice() -> None:
    """So that all that is held at a time is bounded."""
    once = zlib.decompress(next(walk(packed(9_000, depth=2))).body[1:], -15)
    twice = zlib.decompress(next(walk(once)).body[1:], -15)
    total = len(once) + len(twice)
    assert content(packed(9_000, depth=2), octets_max=total).octets == bytes(9_000)
    with pytest.raises(BadPackets, match="larger when it is unpacked"):
        content(packed(9_000, depth=2), octets_max=total - 1)


@pytest.mark.parametrize(
    ("packets", "words"),
    [
        (packed(CONTENT_MAX + 1), "larger when it is unpacked"),
        (packed(10, depth=NESTING_MAX + 1), "packed more than"),
        (encoded(Tag.COMPRESSED, b"\0\xca\0") + packed(10), "more than one piece"),
        (encoded(38, b"unknown") + encoded(Tag.LITERAL, b"b\0\0\0\0\0a"), "no message"),
        (encoded(Tag.COMPRESSED, b"\x01garbage"), "cannot be unpacked"),
        (encoded(Tag.COMPRESSED, b"\x09x"), "not known here"),
        (encoded(Tag.LITERAL, b"b\0\0\0\0\0a") * 2, "more than one text"),
        (encoded(Tag.LITERAL, b"b\xff"), "malformed"),
        (encoded(Tag.SEIPD, b"\x01x"), "no message"),
        (b"", "no text"),
    ],
)
def test_what_is_inside_has_to_be_one_message(packets: bytes, words: str) -> None:  # H65, H66
    unsealed = PgpOpener(own=[rsa_key()]).unseal(sealed(packets, rsa_key()), at=NOW)
    assert not unsealed.encryption.is_opened and words in unsealed.encryption.reason


@pytest.mark.timed
async def test_a_bomb_harms_nobody() -> None:  # H66
    message = b"From: eve@x.example\r\nTo: bob@example.net\r\n" + wrapping.multipart_encrypted(
        sealed(packed(200 << 20), rsa_key())
    )
    assert len(message) < 1 << 20
    request = OpenRequest(message=message, at=NOW, pgp=PgpKeys(own=(rsa_key().octets,)))
    with closing(ProcessIsolation()) as isolated:
        began_s = time.perf_counter()
        with pytest.raises(IsolationFailed, match="memory"):
            await open_isolated(
                isolated, request, timeout_s=20, memory_octets=128 << 20, result_octets=64 << 20
            )
        assert time.perf_counter() - began_s < 30
