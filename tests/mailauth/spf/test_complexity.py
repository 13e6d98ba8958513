"""Time of SPF grows no faster than what is published (H44)."""

from __future__ import annotations

import pytest

from posthouse.mailauth.spf import grammar
from posthouse.mailauth.spf.grammar import parse_explanation, parse_record
from tests.fuzz.oracle import Shape, growth
from tests.mailauth.spf.zone import Zone, ask

pytestmark = pytest.mark.timed

RECORDS = {
    "terms": Shape(b"v=spf1", b" a", b" -all"),
    "distinct terms": Shape(b"v=spf1", b" ip4:192.0.2.1/31 ip4:192.0.2.2", b" -all"),
    "bad end": Shape(b"v=spf1", b" mx", b" -all moo"),
    "blanks": Shape(b"v=spf1", b" ", b"x"),
    "one long domain": Shape(b"v=spf1 a:", b"a", b".b"),
    "a domain of digits": Shape(b"v=spf1 a:b.", b"1", b"-"),
    "labels": Shape(b"v=spf1 a:", b"a.", b"-"),
    "dashes": Shape(b"v=spf1 a:b.a", b"-", b"a"),
    "slashes": Shape(b"v=spf1 a:b.c", b"/1", b"//"),
    "macros": Shape(b"v=spf1 exists:", b"%{s}", b".b.example"),
    "open macros": Shape(b"v=spf1 exists:", b"%{", b""),
    "delimiters": Shape(b"v=spf1 exists:%{s", b".-+", b"}"),
    "digits": Shape(b"v=spf1 exists:%{s", b"9", b"r}"),
    "zeros": Shape(b"v=spf1 exists:%{s", b"0", b"}"),
    "percent signs": Shape(b"v=spf1 exists:", b"%%", b""),
    "a modifier's name": Shape(b"v=spf1 ", b"a-", b"x"),
    "modifiers": Shape(b"v=spf1", b" a=b", b""),
    "colons": Shape(b"v=spf1 ip6:", b":", b""),
}


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bound ends the comparison early, and nothing is remembered."""
    monkeypatch.setattr(grammar, "RECORD_OCTETS_MAX", 10**9)
    monkeypatch.setattr(grammar, "_parse_long", grammar._parse)


def evaluated(octets: bytes) -> None:
    ask(Zone({"example.org": {"TXT": octets}}), sender="x" * 200 + "@example.org", helo="y" * 500)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_takes_linear_time(name: str, wide: None) -> None:  # H44
    for judge in (parse_record, evaluated):
        found = growth(judge, RECORDS[name].octets, sizes=(16 * 1024, 256 * 1024))
        assert found is None or not found.is_too_fast, f"{judge.__name__}: {found}"


@pytest.mark.parametrize("piece", [b"a", b" ", b"%{s}", b"%{", b"%%", b"%{d1r.-}", b"%{L9+}"])
def test_an_explanation_takes_linear_time(piece: bytes, wide: None) -> None:  # H44
    def explained(octets: bytes) -> None:
        zone = Zone(
            {"example.org": {"TXT": "v=spf1 -all exp=b.c"}, "b.c": {"TXT": octets}},
        )
        ask(zone, sender="x" * 200 + "@example.org")

    for judge in (parse_explanation, explained):
        found = growth(judge, Shape(b"", piece, b"").octets, sizes=(16 * 1024, 256 * 1024))
        assert found is None or not found.is_too_fast, f"{found}"


def test_many_records_and_answers_take_linear_time() -> None:  # H44
    def records(octets: bytes) -> None:
        texts = octets.split(b"\n")
        hosts = [(at % 65536, f"h{at}.example") for at in range(len(texts))]
        addresses = [f"198.51.{at // 256 % 256}.{at % 256}" for at in range(len(texts))]
        names = {
            "example.org": {"TXT": [*texts, b"v=spf1 a ptr -all"], "A": addresses},
            "b.example": {"MX": hosts},
            "1.2.0.192.in-addr.arpa": {"PTR": [host for _, host in hosts]},
        }
        ask(Zone(names))

    found = growth(records, Shape(b"x", b"\nv=spf2", b"").octets, sizes=(64 * 1024, 256 * 1024))
    assert found is None or not found.is_too_fast, f"{found}"
