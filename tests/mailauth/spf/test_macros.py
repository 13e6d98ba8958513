"""Macro expansion: RFC 7208 §7, RFC 8616 §4."""

from __future__ import annotations

import pytest

from posthouse.mailauth.spf.grammar import Record, parse_explanation, parse_record
from posthouse.mailauth.spf.macros import (
    EXPLANATION_CHARACTERS_MAX,
    expand_name,
    expand_text,
    read_client,
)
from posthouse.mailauth.spf.names import fit, question_name

IPV6 = "2001:db8::cb01"


def values(**changed: str) -> dict[str, str]:
    """Of RFC 7208 §7.4."""
    return {
        "s": "strong-bad@email.example.com",
        "l": "strong-bad",
        "o": "email.example.com",
        "d": "email.example.com",
        "i": "192.0.2.3",
        "p": "mx.example.org",
        "v": "in-addr",
        "h": "mx.example.org",
        "c": "192.0.2.3",
        "r": "mx.example.net",
        "t": "1700000000",
        **changed,
    }


def name(text: str, **changed: str) -> str:
    record = parse_record(f"v=spf1 exists:{text}".encode())
    assert isinstance(record, Record), record
    return expand_name(record.mechanisms[0].domain, values(**changed))


def text(written: str, **changed: str) -> str:
    parts = parse_explanation(written.encode())
    assert parts is not None
    return expand_text(parts, values(**changed))


@pytest.mark.parametrize(
    ("macro", "expansion"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        (
            "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
            "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
        ),
        (
            "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}",
            "3.2.0.192.in-addr.strong.lp._spf.example.com",
        ),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("%{p}", "mx.example.org"),
        ("%{h}", "mx.example.org"),
        ("%{d255}", "email.example.com"),  # H44
        ("%{d128}", "email.example.com"),
        ("%{d0002}", "example.com"),
        ("%{d99999999999999999999}", "email.example.com"),
        ("a%%b%_c%-d.example", "a%b c%20d.example"),
    ],
)
def test_the_examples_of_the_rfc(macro: str, expansion: str) -> None:  # RFC 7208 §7.4
    assert name(macro) == expansion


def test_an_ipv6_address_is_nibbles() -> None:  # RFC 7208 §7.4
    client = read_client(IPV6)
    assert client is not None
    expanded = name("%{ir}.%{v}._spf.%{d2}", i=client.dotted, v=client.family)
    assert question_name(expanded) == (
        "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
    )


def test_an_ipv4_address_in_ipv6_is_ipv4() -> None:  # RFC 7208 §5
    client = read_client("::FFFF:192.0.2.3")
    assert client is not None
    assert (client.version, client.text, client.dotted) == (4, "192.0.2.3", "192.0.2.3")
    assert (client.family, client.reverse_name) == ("in-addr", "3.2.0.192.in-addr.arpa")


@pytest.mark.parametrize("ip", ["", "unknown", "192.0.2", "192.0.2.256", "x" * 10_000])
def test_what_is_no_address_is_none(ip: str) -> None:
    assert read_client(ip) is None


@pytest.mark.parametrize(
    ("macro", "local_part", "expansion"),
    [
        ("%{l+}.%{d}", "foo-bar+zip", "foo-bar.zip.email.example.com"),
        ("%{l2r+-}.%{d}", "foo-bar+zip+quux", "bar.foo.email.example.com"),
        ("%{l/_=,.}.%{d}", "a/b_c=d,e.f", "a.b.c.d.e.f.email.example.com"),
        ("%{lr}.%{d}", "a..b.", ".b..a.email.example.com"),  # empty parts stay, §7.3
        ("%{l1}.%{d}", "a.", ".email.example.com"),
        ("%{L}.%{d}", "jack&jill=up", "jack%26jill%3Dup.email.example.com"),
        ("%{L}.%{d}", "~-._a B", "~-._a%20B.email.example.com"),
        ("%{L2r&}.%{d}", "a", None),
    ],
)
def test_delimiters_divide_and_capitals_escape(
    macro: str, local_part: str, expansion: str | None
) -> None:  # RFC 7208 §7.3
    if expansion is None:
        assert not isinstance(parse_record(f"v=spf1 exists:{macro}".encode()), Record)
    else:
        assert name(macro, l=local_part) == expansion


LABEL = "a" * 62 + "."


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("bc." + LABEL * 4, LABEL * 4),
        (LABEL * 4 + "b", LABEL * 4 + "b"),
        ("c." + LABEL * 4 + "b", LABEL * 4 + "b"),
        ("c." + LABEL * 4 + "b.", LABEL * 4 + "b"),
        (LABEL * 4 + "bc", LABEL * 3 + "bc"),
        ("x" * 300 + ".b.c", "b.c"),
        ("x" * 300, ""),
        ("b.c.", "b.c"),
    ],
)
def test_a_name_longer_than_253_loses_labels_at_the_left(
    written: str, kept: str
) -> None:  # RFC 7208 §7.3
    kept = kept.removesuffix(".")
    assert fit(written) == kept
    for at in range(0, 300, 7):  # wherever macros divide it
        assert name("%{l}%{o}", l=written[:at], o=written[at:]) == kept


def test_an_expansion_stops_when_nothing_more_can_be_seen() -> None:  # H44
    many = "%{s}" * 1500
    assert len(name(f"{many}.b.example", s="x" * 254)) <= 253
    assert len(text(many, s="x" * 254)) == EXPLANATION_CHARACTERS_MAX


def test_an_explanation_is_one_printable_line() -> None:  # RFC 7208 §6.2, H44
    said = text("%{l} by %{h}", l="a\r\n550 b", h="\x1b[31m\u202eé")
    assert said == "a??550 b by ?[31m??"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Example.ORG", "example.org"),
        ("foo:bar/baz.example", "foo:bar/baz.example"),
        ("a b.example", "a\\032b.example"),
        ("a\\b.(c).example", "a\\\\b.\\(c\\).example"),
        ("a..example", ""),
        ("", ""),
        (".", ""),
        (".example", ""),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("a" * 64 + ".example", ""),
        ("a" * 64 + "(.example", ""),
        ("\xe9.example", ""),
        ("a.\xe9", ""),
    ],
)
def test_a_name_is_fit_for_a_question_or_none(written: str, asked: str) -> None:  # RFC 7208 §4.8
    assert question_name(written) == asked
