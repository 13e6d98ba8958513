"""Signature fields, read strictly and within bounds: RFC 6376 §3.2, §3.5, §6.1.1."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.dkim.canonical import Canonicalization
from posthouse.mailauth.dkim.grammar import (
    NAMES_MAX,
    TAGS_MAX,
    DkimSyntaxError,
    read_signature,
    read_tags,
)

HASH = b64encode(b"h" * 32).decode()
TAGS = {
    "v": "1",
    "a": "rsa-sha256",
    "d": "example.org",
    "s": "sel",
    "h": "From:To",
    "bh": HASH,
    "b": "QUJDREVGR0hJSg==",
}


def field(**tags: str | None) -> bytes:
    """A field's value with some tags changed; None takes one out."""
    return "; ".join(f"{k}={v}" for k, v in (TAGS | tags).items() if v is not None).encode()


def test_a_plain_signature_is_read() -> None:
    found = read_signature(
        field(c="relaxed/simple", t="5", x="6", l="7", i="=41nn@Sub.example.org")
    )
    assert found.algorithm == "rsa-sha256"
    assert found.key_name == "sel._domainkey.example.org"
    assert (found.header_how, found.body_how) == (
        Canonicalization.RELAXED,
        Canonicalization.SIMPLE,
    )
    assert found.names == (b"from", b"to")
    assert (found.identity, found.identity_domain) == ("Ann@sub.example.org", "sub.example.org")
    assert (found.body_limit, found.signed_at, found.expires_at) == (7, 5, 6)
    assert found.signature == b"ABCDEFGHIJ"
    assert found.start_of_b == "QUJDREVG"  # RFC 6008 §3


GOOD = [
    # what is changed, what comes out
    ({"i": None}, {"identity": "@example.org"}),
    ({"d": "EXAMPLE.org", "i": "@example.ORG"}, {"domain": "example.org"}),
    ({"d": "bücher.example"}, {"domain": "xn--bcher-kva.example"}),  # RFC 8616 §5
    (
        {"d": "xn--bcher-kva.example", "i": "ü@bücher.example"},
        {"identity": "ü@xn--bcher-kva.example"},
    ),
    ({"s": "größe"}, {"selector": "xn--gre-6ka8i"}),
    ({"s": "a.b_c"}, {"selector": "a.b_c"}),
    ({"i": '"a@b=3Bc"@example.org'}, {"identity": '"a@b;c"@example.org'}),
    ({"i": "a\r\n  b@example.org"}, {"identity": "ab@example.org"}),
    ({"h": " To :\r\n\tFROM\t: x-y "}, {"names": (b"to", b"from", b"x-y")}),
    ({"b": "QUJDREVGR0hJSg"}, {"signature": b"ABCDEFGHIJ"}),  # RFC 6376 §2.10: padding is optional
    ({"b": "QU JD\r\n\t REVG"}, {"signature": b"ABCDEF", "start_of_b": "QUJDREVG"}),
    ({"c": "simple"}, {"body_how": Canonicalization.SIMPLE}),
    ({"c": "relaxed"}, {"body_how": Canonicalization.SIMPLE}),
    ({"q": "http : dns/txt"}, {"domain": "example.org"}),
    ({"z": "From:a@b|To:c@d", "unknown": "a b", "x1_": ""}, {"domain": "example.org"}),
    ({"l": "9" * 76}, {"body_limit": 10**76 - 1}),
    ({"t": "9" * 12}, {"signed_at": 10**12 - 1}),
    ({"h": ":".join(["from"] * 200)}, {"names": (b"from",) * 200}),  # H42
]


@pytest.mark.parametrize(("changed", "expected"), GOOD)
def test_what_the_grammar_allows_is_read(
    changed: dict[str, str | None], expected: dict[str, object]
) -> None:
    found = read_signature(field(**changed))
    for name, value in expected.items():
        assert getattr(found, name) == value


def test_one_semicolon_may_stand_behind_the_last_tag() -> None:
    assert read_tags(b" a=1 ;b = 2;\r\n ") == {"a": "1", "b": "2"}
    assert read_tags(b"A=1;a=2") == {"A": "1", "a": "2"}  # case counts in names
    assert read_tags(b"a=b=c; d=") == {"a": "b=c", "d": ""}


BAD_LISTS = [
    *(b"", b";", b"a", b"a=1;;b=2", b"a=1;b", b"=1", b"1a=1", b"a-b=1", b"a b=1", b"\xc3\xa4=1"),
    *(b"a=1;a=2", b"a=\x00", b"a=\x7f", b"a=x\ry", b"a=\xff", b"a=1;;"),
    b";".join(b"t%d=1" % n for n in range(TAGS_MAX + 1)),
    b"a=" + b" " * (1024 * 1024),  # H43
]


@pytest.mark.parametrize("octets", BAD_LISTS, ids=range(len(BAD_LISTS)))
def test_what_is_no_tag_list_is_refused(octets: bytes) -> None:
    with pytest.raises(DkimSyntaxError):
        read_tags(octets)


BAD = [
    # what is changed, a part of the reason
    *(({name: None}, f"{name}= is missing") for name in TAGS),
    ({"v": "2"}, "v="),
    ({"v": "01"}, "v="),
    ({"v": ""}, "v="),
    ({"a": "rsa-sha1"}, "RFC 8301"),
    ({"a": ""}, "a="),
    ({"b": ""}, "b= is empty"),
    ({"b": "=" * 4}, "b= is no base64"),
    ({"b": "QUJ!"}, "b= is no base64"),
    ({"b": "Q"}, "b= is no base64"),
    ({"b": "QQ==QQ=="}, "b= is no base64"),
    ({"b": "QUJÄ"}, "b= is no base64"),
    ({"b": " " * 60_000}, "b= is empty"),
    ({"bh": "QUJD"}, "bh= has 3 octets"),
    ({"c": ""}, "c="),
    ({"d": "example"}, "d="),  # RFC 6376 §3.5: sub-domain 1*("." sub-domain)
    ({"d": "example.org."}, "d="),
    ({"d": "a..b"}, "d="),
    ({"d": "a b.example"}, "d="),
    ({"d": "[192.0.2.1]"}, "d="),
    ({"d": ".".join(["a" * 60] * 4), "s": "b" * 60}, "longer than the DNS"),
    ({"d": "a" * 70_000}, "longer than"),
    ({"d": "xn--a.example"}, "d="),
    ({"s": ""}, "s="),
    ({"s": "a..b"}, "s="),
    ({"h": ""}, "h= is empty"),
    ({"h": "To:Subject"}, "does not cover From"),  # H43
    ({"h": "From::To"}, "h="),
    ({"h": "From:"}, "h="),
    ({"h": ":From"}, "h="),
    ({"h": "From:a b"}, "h="),
    ({"h": "From:ä"}, "h="),
    ({"h": ":".join(["from"] * (NAMES_MAX + 1))}, "more than"),
    ({"i": "example.org"}, "i="),
    ({"i": ""}, "i="),
    ({"i": "@"}, "i="),
    ({"i": "a@example.com"}, "not within d="),  # H43
    ({"i": "a@notexample.org"}, "not within d="),
    ({"i": "a@org"}, "not within d="),
    ({"i": "=4@example.org"}, "encodes nothing"),
    ({"i": "=4a@example.org"}, "encodes nothing"),  # lower case, RFC 6376 §2.11
    ({"i": "=0D=0A@example.org"}, "no identity"),
    ({"i": "=FF@example.org"}, "UTF-8"),
    ({"i": "a" * 600 + "@example.org"}, "longer than"),
    ({"l": ""}, "l="),
    ({"l": "-1"}, "l="),
    ({"l": "1 0"}, "l="),
    ({"l": "9" * 77}, "l="),
    ({"l": "٣"}, "l="),
    ({"t": "9" * 13}, "t="),
    ({"t": "1.5"}, "t="),
    ({"x": "soon"}, "x="),
    ({"t": "5", "x": "5"}, "not after"),  # H43
    ({"t": "6", "x": "5"}, "not after"),
    ({"q": ""}, "q="),
]


@pytest.mark.parametrize(("changed", "reason"), BAD)
def test_what_the_rfc_faults_is_told_in_words(changed: dict[str, str | None], reason: str) -> None:
    with pytest.raises(DkimSyntaxError) as caught:
        read_signature(field(**changed))
    assert reason in str(caught.value)
    assert not caught.value.is_unknown
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "changed",
    [{"a": "rsa-sha512"}, {"a": "RSA-SHA256"}, {"c": "nofws"}, {"c": "relaxed/x"}, {"q": "dns"}],
)
def test_what_is_only_unknown_is_told_apart(changed: dict[str, str | None]) -> None:
    # RFC 6376 §3.3.4, §3.4: to be ignored; values are case-sensitive (§3.2)
    with pytest.raises(DkimSyntaxError) as caught:
        read_signature(field(**changed))
    assert caught.value.is_unknown


pieces = st.sampled_from(
    [*(f"{name}={value};" for name, value in TAGS.items()), "; ", "=", "\r\n ", "b", "\x00", "é"]
)


@given(st.binary(max_size=300) | st.lists(pieces, max_size=30).map(lambda p: "".join(p).encode()))
def test_a_field_of_any_octets_gives_a_signature_or_a_reason(octets: bytes) -> None:
    try:
        found = read_signature(octets)
    except DkimSyntaxError as error:
        assert str(error).isprintable()
    else:
        assert b"from" in found.names
