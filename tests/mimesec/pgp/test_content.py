"""Encrypted octets cut, changed and put in another order, in both forms that come in chunks."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mimesec.pgp.content import CHUNK_MAX, decrypted
from posthouse.mimesec.pgp.packets import BadPackets, Packet, Tag, encoded, walk
from posthouse.mimesec.pgp.session import NotForUs, SessionKey

KEY = bytes(range(32))
CHUNK = 64  # the smallest
FORMS = ["v2 OCB", "v2 GCM", "packet 20"]


def chunks(form: str, plain: bytes, secret: bytes = KEY) -> tuple[bytes, list[bytes]]:
    """What stands in front, and each chunk with its tag; the last is the tag of all.

    Args:
        secret: the session key.
    """
    if form == "packet 20":
        start = bytes(range(7, 22))
        head = b"\x01\x09\x02\x00"
        about, front = b"\xd4" + head, head + start
        aead: AESOCB3 | AESGCM = AESOCB3(secret)
        low = int.from_bytes(start[7:], "big")
        nonces = [start[:7] + (low ^ one).to_bytes(8, "big") for one in range(1_000)]
    else:
        mode, size = (2, 15) if form == "v2 OCB" else (3, 12)
        salt = bytes(range(100, 132))
        head = bytes((2, 9, mode, 0))
        about, front = b"\xd2" + head, head + salt
        made = HKDF(algorithm=SHA256(), length=32 + size - 8, salt=salt, info=about).derive(secret)
        aead = AESOCB3(made[:32]) if mode == 2 else AESGCM(made[:32])
        nonces = [made[32:] + one.to_bytes(8, "big") for one in range(1_000)]
    found: list[bytes] = []
    is_numbered = form == "packet 20"
    for number, at in enumerate(range(0, len(plain), CHUNK)):
        more = number.to_bytes(8, "big") if is_numbered else b""
        found.append(aead.encrypt(nonces[number], plain[at : at + CHUNK], about + more))
    number = len(found)
    more = number.to_bytes(8, "big") if is_numbered else b""
    more += len(plain).to_bytes(8, "big")
    found.append(aead.encrypt(nonces[number], b"", about + more))
    return front, found


def container(form: str, front: bytes, parts: list[bytes]) -> Packet:
    tag = Tag.AEAD if form == "packet 20" else Tag.SEIPD
    [packet] = walk(encoded(tag, front + b"".join(parts)))
    return packet


def key(form: str) -> SessionKey:
    return SessionKey(9 if form == "packet 20" else None, KEY)


@pytest.mark.parametrize("form", FORMS)
@given(size=st.integers(1, 10 * CHUNK))
def test_chunks_are_joined(form: str, size: int) -> None:
    plain = os.urandom(size)
    assert decrypted(container(form, *chunks(form, plain)), key(form)) == plain


@pytest.mark.parametrize("form", FORMS)
def test_chunks_that_are_left_out_doubled_or_swapped_are_found_out(form: str) -> None:  # H65
    front, (one, two, three, last) = chunks(form, os.urandom(3 * CHUNK))
    short_front, short = chunks(form, os.urandom(2 * CHUNK))
    assert short_front == front
    for parts in (
        [one, two, last],
        [one, two, three],
        [one, two],
        [two, one, three, last],
        [one, two, three, three, last],
        [one, two, three, last, last],
        [one, two, three, short[-1]],
        [one[:-1], two, three, last],
        [last],
        [],
    ):
        with pytest.raises(BadPackets, match=r"changed on its way|cut off"):
            decrypted(container(form, front, parts), key(form))


@pytest.mark.parametrize("form", FORMS)
@given(at=st.integers(0, 1_000), flip=st.integers(1, 255))
def test_a_changed_octet_is_found_out(form: str, at: int, flip: int) -> None:
    whole = container(form, *chunks(form, bytes(2 * CHUNK)))
    body = bytearray(whole.body)
    body[at % len(body)] ^= flip
    [packet] = walk(encoded(whole.tag, bytes(body)))
    with pytest.raises((BadPackets, NotForUs)):
        decrypted(packet, key(form))


@pytest.mark.parametrize("form", FORMS)
def test_chunks_have_a_size_that_is_allowed(form: str) -> None:
    whole = container(form, *chunks(form, bytes(2 * CHUNK)))
    body = whole.body[:3] + bytes((CHUNK_MAX + 1,)) + whole.body[4:]
    [packet] = walk(encoded(whole.tag, body))
    with pytest.raises(BadPackets, match="larger than"):
        decrypted(packet, key(form))


def test_the_older_form_is_for_the_cipher_of_the_session_key_alone() -> None:
    whole = container("packet 20", *chunks("packet 20", b"x"))
    for cipher in (7, 10, None):
        with pytest.raises(NotForUs):
            decrypted(whole, SessionKey(cipher, KEY))
