"""SPF records: RFC 7208 §4.5, §4.6.1, §5, §6, §7.1, §12."""

from __future__ import annotations

import pytest

from posthouse.mailauth.results import Result
from posthouse.mailauth.spf.grammar import (
    RECORD_OCTETS_MAX,
    All,
    BadRecord,
    Exists,
    Hosts,
    Include,
    Macro,
    Network,
    Ptr,
    Record,
    is_record,
    parse_explanation,
    parse_record,
)


@pytest.mark.parametrize(
    ("octets", "is_one"),
    [
        (b"v=spf1", True),
        (b"v=spf1 -all", True),
        (b"V=SpF1 -all", True),
        (b"v=spf10 -all", False),
        (b"v=spf1-all", False),
        (b"v=spf1\t-all", False),
        (b" v=spf1 -all", False),
        (b"v=spf2.0/pra -all", False),
        (b"", False),
    ],
)
def test_a_record_begins_with_its_version(octets: bytes, is_one: bool) -> None:  # RFC 7208 §4.5
    assert is_record(octets) is is_one


GOOD = [
    "v=spf1",
    "v=spf1   ",
    "v=spf1  a   -all ",
    "v=spf1 +a ?mx ~ptr -all",
    "v=spf1 A:Example.ORG MX/24 PTR:b.example ALL",
    "v=spf1 a/0 a//0 a/32//128 a:b.example/24//64",
    "v=spf1 ip4:192.0.2.1 ip4:0.0.0.0/0 ip6:::/0 ip6:2001:db8::192.0.2.1/127 ip6:::1",
    "v=spf1 a:b.example. include:c.d.",
    "v=spf1 a:foo:bar/baz.example",  # RFC 7208 §7.1: any visible character
    "v=spf1 a:b.1-2 a:b.xn--zckzah",
    "v=spf1 exists:%{ir}.%{l1r+-}._spf.%{d} exists:%{D2} exists:%%%_%-",
    "v=spf1 exists:%{S}%{L}%{O}%{D}%{I}%{P}%{H}%{V}",
    "v=spf1 exists:%{d7r.+,/_=-}",
    "v=spf1 exists:%{d007} exists:%{d999999999999999999999}",
    "v=spf1 redirect=b.example exp=c.%{d}",
    "v=spf1 REDIRECT=b.example -all",
    "v=spf1 moo.cow-far_out=man:dog/cat -all a=b default=",
    "v=spf1 foo=%{d2} foo=%{d2}",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_record_that_follows_the_grammar_is_read(text: str) -> None:
    record = parse_record(text.encode())
    assert isinstance(record, Record)
    assert record.text == text


BAD = [
    ("v=spf1 moo", "unknown mechanism"),
    ("v=spf1 -all moo", "unknown mechanism"),
    ("v=spf1 ip4:1.2.3.4 -all moo", "unknown mechanism"),  # anywhere, RFC 7208 §4.6
    ("v=spf1 all.", "nothing may follow"),
    ("v=spf1 all:b.example", "nothing may follow"),
    ("v=spf1 -all/8", "nothing may follow"),
    ("v=spf1 --all", "unknown mechanism"),
    ("v=spf1 - all", "unknown mechanism"),
    ("v=spf1 a\tmx", "the domain is missing"),
    ("v=spf1 a\nmx", "the domain is missing"),
    ("v=spf1 a:b.example\0", "a bad character"),
    ("v=spf1 include", "the domain is missing"),
    ("v=spf1 include:", "the domain is empty"),
    ("v=spf1 include:b.example/24", "does not end like a domain name"),
    ("v=spf1 exists", "the domain is missing"),
    ("v=spf1 exists:b.example/24", "does not end like a domain name"),
    ("v=spf1 ptr/24", "the domain is missing"),
    ("v=spf1 ptr:", "the domain is empty"),
    ("v=spf1 a:", "the domain is empty"),
    ("v=spf1 a:/24", "the domain is empty"),
    ("v=spf1 a:museum", "does not end like"),
    ("v=spf1 a:museum.", "does not end like"),
    ("v=spf1 a:b.example..", "does not end like"),
    ("v=spf1 a:%{d}.", "does not end like"),
    ("v=spf1 a:192.0.2.1", "does not end like"),
    ("v=spf1 a:b.-com", "does not end like"),
    ("v=spf1 a:b.com-", "does not end like"),
    ("v=spf1 a:b.c_d", "does not end like"),
    ("v=spf1 a:b.example:8080", "does not end like"),
    ("v=spf1 a/33", "a prefix length"),
    ("v=spf1 a//129", "a prefix length"),
    ("v=spf1 a/024", "the domain is missing"),
    ("v=spf1 a/24/64", "a prefix length"),
    ("v=spf1 a//64/24", "the domain is missing"),
    ("v=spf1 a/", "the domain is missing"),
    ("v=spf1 mx:b.example/-1", "does not end like"),
    ("v=spf1 ip4", "the network is missing"),
    ("v=spf1 ip4:", "not an IPv4 network"),
    ("v=spf1 ip4:1.2.3", "not an IPv4 network"),
    ("v=spf1 ip4:1.2.3.04", "not an IPv4 network"),
    ("v=spf1 ip4:1.2.3.256", "not an IPv4 network"),
    ("v=spf1 ip4:1.2.3.4/33", "a prefix length"),
    ("v=spf1 ip4:1.2.3.4/032", "a prefix length"),
    ("v=spf1 ip4:1.2.3.4/", "a prefix length"),
    ("v=spf1 ip4:1.2.3.4//32", "a prefix length"),
    ("v=spf1 ip4:1.2.3.4:25", "not an IPv4 network"),
    ("v=spf1 ip4:::1", "not an IPv4 network"),
    ("v=spf1 ip6:192.0.2.1", "not an IPv6 network"),
    ("v=spf1 ip6:fe80::1%eth0", "not an IPv6 network"),
    ("v=spf1 ip6:1::2::3", "not an IPv6 network"),
    ("v=spf1 ip6:::1/129", "a prefix length"),
    ("v=spf1 redirect=", "the domain is empty"),
    ("v=spf1 redirect=b", "does not end like"),
    ("v=spf1 redirect=-all ?all", "does not end like"),
    ("v=spf1 redirect:b.example", "unknown mechanism"),
    ("v=spf1 -redirect=b.example", "unknown mechanism"),
    ("v=spf1 redirect=b.example redirect=b.example", "appears twice"),
    ("v=spf1 exp=b.example EXP=b.example", "appears twice"),
    ("v=spf1 exp=", "the domain is empty"),
    ("v=spf1 exp=%{r}.b.example", "a bad macro"),  # RFC 7208 §7.2
    ("v=spf1 exists:%{c}.b.example", "a bad macro"),
    ("v=spf1 exists:%{t}", "a bad macro"),
    ("v=spf1 exists:%{a}", "a bad macro"),
    ("v=spf1 exists:%{d0}", "keeps 0 parts"),
    ("v=spf1 exists:%{d000}", "keeps 0 parts"),
    ("v=spf1 exists:%{l1r999}", "a bad macro"),  # H44
    ("v=spf1 exists:%{d2", "a bad macro"),
    ("v=spf1 exists:%{}", "a bad macro"),
    ("v=spf1 exists:%{dd}", "a bad macro"),
    ("v=spf1 exists:%(d)", "a bad macro"),
    ("v=spf1 exists:b%.example", "a bad macro"),
    ("v=spf1 exists:%", "a bad macro"),
    ("v=spf1 foo=%abc", "a bad macro"),
    ("v=spf1 1up=foo", "unknown mechanism"),
    ("v=spf1 =all", "unknown mechanism"),
    ("v=spf1 moo.cow/far_out=man", "unknown mechanism"),
    ("v=spf1 a:\xe9.example", "characters outside ASCII"),  # RFC 7208 §3.1
]


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_an_error_anywhere_spoils_the_record(text: str, reason: str) -> None:  # RFC 7208 §4.6
    record = parse_record(text.encode("latin-1"))
    assert isinstance(record, BadRecord)
    assert reason in record.reason
    assert record.text.isascii() and record.text.isprintable()
    assert record.reason.isascii() and record.reason.isprintable()


def test_terms_are_values() -> None:
    record = parse_record(
        b"v=spf1 ip4:192.0.2.0/24 ~ip6:2001:db8::/32 -a:b.example/28//64 mx ?ptr:c.example"
        b" include:d.example exists:%{ir}.e.example all"
    )
    assert isinstance(record, Record)
    ip4, ip6, a, mx, ptr, include, exists, last = record.mechanisms
    assert ip4 == Network(Result.PASS, "ip4:192.0.2.0/24", 4, 0xC00002, 8)
    assert ip6 == Network(Result.SOFTFAIL, "~ip6:2001:db8::/32", 6, 0x20010DB8, 96)
    assert isinstance(a, Hosts) and a.domain is not None
    assert (a.result, a.is_mx, a.bits_4, a.bits_6) == (Result.FAIL, False, 28, 64)
    assert a.domain.name == "b.example"
    assert mx == Hosts(Result.PASS, "mx", None, True, 32, 128)
    assert isinstance(ptr, Ptr) and ptr.result is Result.NEUTRAL
    assert isinstance(include, Include)
    assert isinstance(exists, Exists)
    assert exists.domain.parts == (Macro("i", 0, True, "", False), ".e.example")
    assert exists.domain.name is None
    assert last == All(Result.PASS, "all")


def test_a_record_longer_than_the_bound_is_refused() -> None:  # H44
    filler = b"v=spf1" + b" ip4:192.0.2.1" * 2000
    kept = parse_record(filler[: RECORD_OCTETS_MAX - 5].rpartition(b" ")[0] + b" -all")
    assert isinstance(kept, Record)
    record = parse_record(b"v=spf1 " + b"x" * 450_000)
    assert isinstance(record, BadRecord)
    assert "octets" in record.reason
    assert len(record.text) <= 1024


def test_explanations_hold_visible_characters_blanks_and_every_macro() -> None:  # RFC 7208 §7.1
    assert parse_explanation(b"") == ()
    assert parse_explanation(b"no %{c}: %{r} %{T}%%") == (
        "no ",
        Macro("c", 0, False, "", False),
        ": ",
        Macro("r", 0, False, "", False),
        " ",
        Macro("t", 0, False, "", True),
        "%",
    )


@pytest.mark.parametrize(
    "octets", [b"a\r\nb", b"a\nb", b"a\tb", b"\xef\xbb\xbfx", b"%{x}", b"100%", b"a\x7fb", b"\0"]
)
def test_explanations_hold_nothing_else(octets: bytes) -> None:  # RFC 7208 §6.2, H44
    assert parse_explanation(octets) is None
