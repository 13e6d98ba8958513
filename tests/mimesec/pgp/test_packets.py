"""Armour and packets: what is walked has bounds, and what is refused says why."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mimesec.pgp import armour, sequoia, structure
from posthouse.mimesec.pgp.armour import BadArmour, Kind
from posthouse.mimesec.pgp.packets import PACKETS_MAX, BadPackets, Tag, encoded, walk
from posthouse.mimesec.pgp.structure import RECIPIENTS_MAX, SIGNATURES_MAX
from tests.mimesec.pgp.people import person

PKESK = encoded(Tag.PKESK, b"\x03" + b"\x11" * 8 + b"\x12rest")
PKESK6 = encoded(Tag.PKESK, b"\x06\x15\x04" + b"\x22" * 20 + b"\x12rest")
SEIPD = encoded(Tag.SEIPD, b"\x01sealed")


@given(st.lists(st.tuples(st.integers(1, 63), st.binary(max_size=9000)), max_size=5))
def test_what_is_written_is_walked(packets: list[tuple[int, bytes]]) -> None:
    octets = b"".join(encoded(tag, body) for tag, body in packets)
    assert [(one.tag, one.body) for one in walk(octets)] == packets
    assert b"".join(one.octets for one in walk(octets)) == octets


def test_old_and_partial_lengths_are_read() -> None:
    assert [(p.tag, p.body) for p in walk(b"\x88\x03abc\x89\x00\x02de\x8a\x00\x00\x00\x01f")] == [
        (2, b"abc"), (2, b"de"), (2, b"f"),
    ]  # fmt: skip
    assert [p.body for p in walk(b"\x8babc")] == [b"abc"]  # to the end of all
    parts = b"\xcb\xe9" + b"x" * 512 + b"\x02yz"
    assert [p.body for p in walk(parts)] == [b"x" * 512 + b"yz"]


@pytest.mark.parametrize(
    "octets", [b"\xcb", b"\xcb\x05abc", b"\xcb\xff\xff\xff\xff\xff", b"\xcb\xe9x", b"abc"]
)
def test_what_is_cut_off_is_told(octets: bytes) -> None:
    with pytest.raises(BadPackets):
        list(walk(octets))


def test_there_is_an_end_to_packets_recipients_and_signatures() -> None:
    with pytest.raises(BadPackets, match="packets"):
        list(walk(b"\xca\x00" * (PACKETS_MAX + 1)))
    with pytest.raises(BadPackets, match="recipients"):
        structure.sealed_message(PKESK * (RECIPIENTS_MAX + 1) + SEIPD)
    with pytest.raises(BadPackets, match="signatures"):
        one = encoded(Tag.SIGNATURE, bytes.fromhex("0400160a00000000") + b"abcd")
        structure.signature_packets(one * (SIGNATURES_MAX + 1))


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (PKESK + encoded(Tag.SED, b"sealed"), "no MDC"),  # H65
        (PKESK + SEIPD + SEIPD, "behind"),
        (PKESK + SEIPD + encoded(Tag.LITERAL, b"b\0\0\0\0\0plain"), "behind"),
        (encoded(Tag.LITERAL, b"b\0\0\0\0\0plain") + PKESK + SEIPD, "no encrypted message"),
        (encoded(Tag.SKESK, b"\x04") + SEIPD, "password"),
        (SEIPD, "names no recipient"),
        (PKESK, "no encrypted message"),
        (PKESK + encoded(Tag.SEIPD, b"\x09"), "form of encryption"),
        (encoded(Tag.PKESK, b"\x03short") + SEIPD, "recipient of it"),
        (PKESK + encoded(30, b"unknown") + SEIPD, "no encrypted message"),
        # The version of the packet with the key has to fit (RFC 9580 §10.3.2.1).
        (PKESK6 + SEIPD, "names no recipient"),
        (PKESK + encoded(Tag.SEIPD, b"\x02\x09\x02\x06sealed"), "names no recipient"),
        (PKESK + encoded(Tag.AEAD, b"\x01\x09\x01\x06sealed"), "form of encryption"),
        (b"", "no encrypted message"),
    ],
)
def test_what_is_not_opened_says_why(octets: bytes, words: str) -> None:
    with pytest.raises(BadPackets, match=words):
        structure.sealed_message(octets)


def test_what_means_nothing_is_skipped() -> None:
    """A marker, padding, packets that need not be known, keys for another form of encryption."""
    message = structure.sealed_message(
        encoded(Tag.MARKER, b"PGP")
        + PKESK6
        + PKESK
        + encoded(45, b"new")
        + SEIPD
        + encoded(Tag.PADDING, b"x" * 9)
    )
    assert message.recipients == ("11" * 8,) and message.algorithm == "CFB with MDC"
    assert message.session_keys == (PKESK[2:],)


def test_armour_is_read_as_programs_write_it() -> None:
    octets = bytes(range(200))
    text = armour.write(b"\xcb" + octets, Kind.MESSAGE)
    assert text.count(b"\n=") == 1
    for form in (
        text,
        text.replace(b"\n", b"\r\n"),
        text.replace(b"-----\n\n", b"-----\nVersion: x\nComment: y\n\n", 1),
        text.replace(b"\n\n", b"\n \t\n" + b"\n" * 1_000, 1).replace(b"AB", b"A \tB"),
        text[: text.index(b"\n=")] + b"\n-----END PGP MESSAGE-----",
        b"leading text\n" + text + b"trailing text",
        text.replace(b"\n=", b"\n=AAAA\n", 1).replace(b"=AAAA\n", b"=", 1),
    ):
        assert armour.one(form, Kind.MESSAGE) == b"\xcb" + octets
    assert armour.one(b"\xcb" + octets, Kind.MESSAGE) == b"\xcb" + octets


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (armour.write(b"\xcb\x00", Kind.SIGNATURE), "PGP SIGNATURE"),
        (armour.write(b"\xcb\x00", Kind.MESSAGE) * 2, "2 blocks"),
        (b"-----BEGIN PGP MESSAGE-----\n\nyw==\n-----END PGP SIGNATURE-----\n", "does not end"),
        (
            b"-----BEGIN PGP MESSAGE-----\n" + b"A: b\n" * 21 + b"-----END PGP MESSAGE-----\n",
            "header",
        ),
        (
            b"-----BEGIN PGP MESSAGE-----\nnot a header\n\nyw==\n-----END PGP MESSAGE-----\n",
            "header",
        ),
        (b"-----BEGIN PGP MESSAGE-----\n\n*\n-----END PGP MESSAGE-----\n", "base64"),
    ],
)
def test_what_is_no_armour_is_told(octets: bytes, words: str) -> None:
    with pytest.raises(BadArmour, match=words):
        armour.one(octets, Kind.MESSAGE)


@given(st.binary(max_size=400))
def test_octets_by_chance_raise_nothing_else(octets: bytes) -> None:
    for read in (structure.sealed_message, structure.signature_packets):
        with contextlib.suppress(BadPackets):
            read(octets)
    with contextlib.suppress(BadArmour):
        armour.one(b"-----BEGIN PGP MESSAGE-----\n" + octets, Kind.MESSAGE)


def test_signatures_tell_their_maker_and_time() -> None:
    key = person()
    [one] = structure.signature_packets(sequoia.sign(key.tsk, b"text"))
    assert key.public.fingerprint in one.issuers and one.kind == 0
    assert one.hash_name == "SHA-512" and one.algorithm == "EdDSA"
    assert one.made_at is not None


@pytest.mark.timed
@pytest.mark.parametrize(
    "octets",
    [
        b"\xca\x00" * 500_000,
        b"\xcb\xe9" + b"x" * 512 + b"\xe0x" * 90_000 + b"\x00",
        b"-----BEGIN PGP MESSAGE-----\n" * 50_000,
        b"-----BEGIN PGP MESSAGE-----\n\n" + b"\n" * 1_000_000,
    ],
)
def test_a_million_octets_take_no_time(octets: bytes) -> None:  # H66
    began_s = time.thread_time()
    with contextlib.suppress(BadPackets, BadArmour):
        list(walk(octets, packets_max=1 << 30))
    with contextlib.suppress(BadPackets, BadArmour):
        list(armour.blocks(octets))
    assert time.thread_time() - began_s < 3.0
