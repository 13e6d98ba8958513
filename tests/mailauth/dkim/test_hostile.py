"""What a stranger may send costs time that grows with its octets, within bounds: H42, H43, H46."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import pytest

from posthouse.kernel.ports import DnsAnswer, DnsStatus
from posthouse.mailauth import questions
from posthouse.mailauth.arc import verify as arc
from posthouse.mailauth.dkim import keys, verify
from posthouse.mailauth.dkim.canonical import BodyHasher, Canonicalization, hash_body
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.questions import Question
from posthouse.message.fields import read_section
from tests.fuzz.oracle import Shape, growth, seconds
from tests.mailauth.arc.lab import seal
from tests.mailauth.dkim.lab import MESSAGE, NOW, key, new_key, record, sign

pytestmark = pytest.mark.timed

CPU_S = 0.05
"""RELIABILITY H42."""
EMPTY_HASH = b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
RELAXED = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=r; h=From; b=QUJD; "
)
SIMPLE = RELAXED.replace(b"relaxed/relaxed", b"simple/simple")
REST = b"bh=" + EMPTY_HASH + b"\r\nFrom: a@example.org\r\n"


def judge(octets: bytes) -> None:
    """All checks of a message, with a key for whoever asks."""
    found = DnsAnswer(status=DnsStatus.FOUND, records=(record(RSA).encode(),))

    def answer(question: Question) -> DnsAnswer:
        return found

    section = read_section(octets)
    prepared = verify.prepare(octets, section, author_domains=("example.org",))
    questions.answer(verify.verify(prepared, NOW), answer)
    questions.answer(arc.verify(arc.prepare(octets, section), NOW), answer)


def streamed(octets: bytes) -> None:
    """In segments, as a body comes in."""
    for how in Canonicalization:
        hasher = BodyHasher(how)
        for at in range(0, len(octets), 1460):
            hasher.update(octets[at : at + 1460])
        hasher.digest()


def assert_linear(run: Callable[[bytes], object], shape: Shape) -> None:
    found = growth(run, shape.octets, sizes=(16 * 1024, 1024 * 1024))
    assert found is None or not found.is_too_fast, f"{found}"


BODIES = {
    "empty lines": (b"\r\n", b""),
    "empty lines and a word": (b"\r\n", b"a"),
    "blanks": (b" ", b""),
    "blanks and a word": (b" ", b"a"),
    "tabs": (b"\t ", b"\r\n"),
    "blanks at the ends of lines": (b" \r\n", b"a"),
    "lines of blanks": (b"  \t \r\n", b""),
    "two blanks each": (b"a  ", b"\r\n"),
    "three blanks each": (b"a   ", b"\r\n"),
    "growing runs": (b"a" + b" " * 40, b"\r\n"),
    "bare CR": (b"\r", b"\r\n"),
    "bare LF": (b"\n", b"\r\n"),
    "CR CR LF": (b"\r\r\n", b""),
    "LF CR": (b"\n\r", b"\n"),
    "no line end": (b"x", b""),
    "blank, CR": (b" \r", b"\n"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("head", [RELAXED, SIMPLE], ids=["relaxed", "simple"])
def test_a_body_takes_linear_time(name: str, head: bytes) -> None:  # H37
    piece, tail = BODIES[name]
    assert_linear(judge, Shape(head + REST + b"\r\n", piece, tail))


@pytest.mark.parametrize("name", BODIES)
def test_a_body_in_segments_takes_linear_time(name: str) -> None:  # H37
    assert_linear(streamed, Shape(b"", *BODIES[name]))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("how", Canonicalization)
def test_ten_million_octets_take_a_moment(how: Canonicalization, name: str) -> None:  # H37
    piece, tail = BODIES[name]
    octets = piece * (10_000_000 // len(piece)) + tail
    assert min(seconds(lambda body: hash_body(body, 0, how), octets) for _ in range(2)) < 0.5


HEADERS = {
    "signatures": Shape(b"", RELAXED + REST[: REST.index(b"From")], REST + b"\r\n"),  # H42
    "signatures of other domains": Shape(b"", b"DKIM-Signature: d=a.b\r\n", b"\r\n"),  # H42
    "blanks in b=": Shape(b"DKIM-Signature: v=1; b=", b" ", b"A;\r\n\r\n"),  # H43
    "folds in b=": Shape(b"DKIM-Signature: v=1; b=", b"\r\n A", b";\r\n\r\n"),  # H43
    "blanks behind a semicolon": Shape(b"DKIM-Signature: v=1;", b" ", b"b\r\n\r\n"),
    "semicolons": Shape(b"DKIM-Signature: v=1", b";", b"\r\n\r\n"),
    "semicolons and blanks": Shape(b"DKIM-Signature: v=1", b"; ", b"\r\n\r\n"),
    "tags": Shape(b"DKIM-Signature: v=1", b";b", b"=\r\n\r\n"),
    "names": Shape(b"DKIM-Signature: v=1; h=from", b":from", b"; " + REST + b"\r\n"),  # H42
    "names and fields": Shape(RELAXED + b"h2=", b"a", REST + b"\r\n"),
    "colons": Shape(RELAXED.replace(b"h=From", b"h="), b":", REST + b"\r\n"),
    "base64": Shape(RELAXED + b"x=", b"QUJD", REST + b"\r\n"),
    "quoted-printable": Shape(RELAXED + b"i=", b"=41", REST + b"\r\n"),
    "digits": Shape(RELAXED + b"l=", b"9", REST + b"\r\n"),  # H43
    "one field": Shape(RELAXED + REST + b"Subject: ", b"a ", b"\r\n\r\n"),
    "ARC seals": Shape(b"", b"ARC-Seal: i=1; a=rsa-sha256\r\n", b"\r\n"),  # H46
    "ARC results": Shape(b"ARC-Authentication-Results: ", b"(c)", b"\r\n\r\n"),
    "ARC comments": Shape(b"ARC-Authentication-Results: ", b"(", b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_section_takes_linear_time(name: str) -> None:  # H42, H43, H46
    assert_linear(judge, HEADERS[name])


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("size", [60_000, 250_000, 1024 * 1024])
def test_a_header_section_takes_little_time(name: str, size: int) -> None:  # H42, H43, H46
    octets = HEADERS[name].octets(size)
    assert min(seconds(judge, octets) for _ in range(5)) < CPU_S


@pytest.mark.parametrize(
    "piece", [b"a", b" ", b";", b"=", b"p=", b"p=QUJD", b":", b"t=y:", b"\\", b"\xff"]
)
def test_a_key_record_takes_linear_time(piece: bytes) -> None:  # H42
    assert_linear(keys._read, Shape(b"v=DKIM1; p=", piece, b""))
    octets = Shape(b"v=DKIM1; p=", piece, b"").octets(64 * 1024)
    assert min(seconds(keys._read, octets) for _ in range(3)) < 0.01


def test_five_hundred_signatures_that_verify_cost_as_eight() -> None:  # H42
    signed = sign(MESSAGE, key(ED25519))
    field = signed[: -len(MESSAGE)]
    found = DnsAnswer(status=DnsStatus.FOUND, records=(record(ED25519).encode(),))

    def run(octets: bytes) -> None:
        prepared = verify.prepare(octets, read_section(octets), author_domains=("example.org",))
        assert prepared.unchecked == 492
        outcomes = questions.answer(verify.verify(prepared, NOW), lambda _: found)
        assert sum(each.result.value == "pass" for each in outcomes) == 8

    assert min(seconds(run, field * 500 + MESSAGE) for _ in range(5)) < CPU_S


def test_the_dearest_keys_that_are_verified_cost_little() -> None:  # H42: RSA 4096, 8 times
    made = key(RSA, rsa_bits=4096)
    field = sign(MESSAGE, made)[: -len(MESSAGE)]
    text = f"v=DKIM1; p={b64encode(new_key(RSA, 4096).public).decode()}".encode()
    found = DnsAnswer(status=DnsStatus.FOUND, records=(text,))

    def run(octets: bytes) -> None:
        prepared = verify.prepare(octets, read_section(octets))
        outcomes = questions.answer(verify.verify(prepared, NOW), lambda _: found)
        assert sum(each.result.value == "pass" for each in outcomes) == 8

    assert min(seconds(run, field * 200 + MESSAGE) for _ in range(5)) < CPU_S


def test_limits_that_differ_do_not_hash_a_body_again() -> None:  # H42, H43
    body = b"a line of a body \r\n" * 200_000
    plain = RELAXED + REST + b"\r\n" + body
    field = (RELAXED + REST[: REST.index(b"From")]).rstrip(b"\r\n")
    fields = b"".join(b"%b; l=%d\r\n" % (field, 1000 * each) for each in range(8))
    eight = fields + b"From: a@example.org\r\n\r\n" + body
    once = min(seconds(judge, plain) for _ in range(5))
    assert min(seconds(judge, eight) for _ in range(5)) < 2 * once + CPU_S


def test_a_chain_of_fifty_sets_costs_little() -> None:  # H46
    message = MESSAGE
    for _ in range(50):
        message = seal(message)
    found = DnsAnswer(status=DnsStatus.FOUND, records=(record(ED25519).encode(),))

    def run(octets: bytes) -> None:
        prepared = arc.prepare(octets, read_section(octets))
        assert questions.answer(arc.verify(prepared, NOW), lambda _: found).reason == ""

    assert min(seconds(run, message) for _ in range(5)) < CPU_S
