"""Time grows no faster than what a stranger sends: policy records, From fields, forged fields."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posthouse.mailauth import authres
from posthouse.mailauth.authors import author_domains, homographs
from posthouse.mailauth.authres import is_forged, parse, without_forged
from posthouse.mailauth.dmarc import grammar
from posthouse.message.fields import read_section
from posthouse.message.lookalike import ascii_twin, mixed_scripts, skeleton
from tests.fuzz.oracle import Shape, growth

pytestmark = pytest.mark.timed

OURS = frozenset({"mx.ours.example", "bücher.example"})


def assert_linear(judge: Callable[[bytes], object], shape: Shape) -> None:
    found = growth(judge, shape.octets, sizes=(16 * 1024, 256 * 1024))
    assert found is None or not found.is_too_fast, f"{found}"


RECORDS = {
    "tags": Shape(b"v=DMARC1;p=none;", b"x=y;", b""),
    "empty tags": Shape(b"v=DMARC1;", b";", b""),
    "addresses": Shape(b"v=DMARC1;p=none;rua=", b"mailto:a@b.example!10m,", b""),
    "bad addresses": Shape(b"v=DMARC1;p=none;rua=", b"a!,", b""),
    "one address": Shape(b"v=DMARC1;p=none;rua=mailto:", b"a!1", b""),
    "blanks": Shape(b"v=DMARC1;p=none;rua=", b" ", b";"),
    "blanks in front": Shape(b"", b" ", b"v=DMARC1"),
    "signs": Shape(b"v=DMARC1;p", b"=", b""),
    "options": Shape(b"v=DMARC1;p=none;ruf=mailto:a@b.c;fo=", b"1:", b""),
    "8-bit": Shape(b"v=DMARC1;p=none;rua=", b"\xff,", b""),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_policy_record_takes_linear_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # H45
    monkeypatch.setattr(grammar, "RECORD_OCTETS_MAX", 10**9)
    monkeypatch.setattr(grammar, "TAGS_MAX", 10**9)
    monkeypatch.setattr(grammar, "URIS_MAX", 10**9)
    monkeypatch.setattr(grammar, "URI_OCTETS_MAX", 10**9)
    assert_linear(lambda octets: grammar.parse(octets, "example.org"), RECORDS[name])


HEADS = (b"", b"a.example;", b"mx.ours.example 2 ;", b"a.example; spf=pass ")
PIECES = (
    b" ", b"(", b"()", b"(()", b'"', b'""', b"\\", b";", b"=", b".", b"a", b"a=", b"a=b;",
    b"a=b c.d=e ", b"a=b reason=c ", b"@", b"\xff", b"\xe2\x80\x8b", b"\r\n ",
    b"=?utf-8?q?a?= ", b"=?", b"1", b"xn--", b"mx.ours.exampl",
)  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("head", HEADS)
def test_a_field_of_results_takes_linear_time(
    head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:  # H35
    monkeypatch.setattr(authres, "VALUE_OCTETS_MAX", 10**9)
    monkeypatch.setattr(authres, "RESULTS_MAX", 10**9)
    monkeypatch.setattr(authres, "PROPERTIES_MAX", 10**9)
    for tail in (b"", b"("):
        shape = Shape(head, piece, tail)
        assert_linear(parse, shape)
        assert_linear(lambda octets: is_forged(octets, OURS), shape)


FIELDS = {
    "ours": b"Authentication-Results: mx.ours.example; none\r\n",
    "others'": b"Authentication-Results: x.example; none\r\n",
    "malformed": b"Authentication-Results: (\r\n",
    "folded": b"Authentication-Results:\r\n \r\n",
}


@pytest.mark.parametrize("name", FIELDS)
def test_taking_fields_out_takes_linear_time(name: str) -> None:  # H35
    def judge(octets: bytes) -> None:
        without_forged(read_section(octets), OURS)

    assert_linear(judge, Shape(b"", FIELDS[name], b"\r\nbody"))


AUTHORS = {
    "addresses": b"a@b.example, ",
    "other addresses": "a@раypal.com, ".encode(),
    "names": b'"a@b.example" <a@b.example>, ',
    "one name": b"@a",
    "a name of encoded-words": b"=?utf-8?q?=40a.b?= ",
    "groups": b"g:a@b;,",
    "comments": b"(@",
    "bad domains": b"a@b..c,",
    "no domains": b"a, ",
}


@pytest.mark.parametrize("name", AUTHORS)
def test_finding_the_authors_takes_linear_time(name: str) -> None:  # H33, H49
    def judge(octets: bytes) -> None:
        homographs(author_domains(read_section(octets)))

    assert_linear(judge, Shape(b"From: ", AUTHORS[name], b" <a@b.example>\r\n\r\n"))


@pytest.mark.parametrize("piece", ["a", "а", "e\u0301", "ß", "漢", "\u200b", "\ufdfa", "ﷺа"])
def test_looking_for_lookalikes_is_bounded(piece: str) -> None:  # H49
    for judge in (skeleton, mixed_scripts, ascii_twin):
        assert_linear(
            lambda octets, judge=judge: judge(octets.decode()), Shape(b"", piece.encode(), b"")
        )
