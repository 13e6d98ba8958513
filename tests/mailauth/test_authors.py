"""Whose domains the From field names (RFC 9989 §5.3.1, §11.5), and which are drawn like others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth import questions
from posthouse.mailauth.authors import Authors, author_domains, homograph, homographs
from posthouse.mailauth.dmarc.evaluate import (
    AUTHOR_DOMAINS_MAX,
    NO_AUTHOR,
    TOO_MANY_AUTHORS,
    evaluate,
    strictest,
)
from posthouse.mailauth.results import Result
from posthouse.message.address import AddressError, domain_to_ascii
from posthouse.message.address_list import parse_address_list
from posthouse.message.fields import FromFault, read_section
from tests.mailauth.dmarc.zone import Zone


def authors(header: bytes) -> Authors:
    return author_domains(read_section(header + b"\r\n\r\nbody\r\n"))


def of(value: str | bytes) -> Authors:
    return authors(b"From: " + (value if isinstance(value, bytes) else value.encode()))


# H33
@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("a@good.example", ["good.example"]),
        ("A <a@Good.Example>", ["good.example"]),
        ("(a@good.example)b@bad.example", ["bad.example"]),
        ('"a@good.example" <b@bad.example>', ["bad.example"]),
        ("a@good.example <b@bad.example>", ["bad.example"]),
        ("<a@good.example> <b@bad.example>", ["good.example", "bad.example"]),
        ("a@good.example, b@bad.example", ["good.example", "bad.example"]),
        ("A: a@x.example, b@y.example;", ["x.example", "y.example"]),
        ("A: a@x.example;, B: b@y.example;", ["x.example", "y.example"]),
        ("<@relay.example:a@x.example>", ["x.example"]),
        ("a@good.example(b@bad.example)", ["good.example"]),
        ("a@x.example (comment (a@y.example))", ["x.example"]),
        ('"a@good.example\\"" <b@bad.example>', ["bad.example"]),
        ("=?utf-8?q?a=40good.example?= <b@bad.example>", ["bad.example"]),
        ("a@bad.example.", ["bad.example"]),
        ("a@bad . example", ["bad.example"]),
        ("a\r\n @bad.example", ["bad.example"]),
        ("a%good.example@bad.example", ["bad.example"]),
        ("a@good.example, b@bad\x00.example", ["good.example", "bad.example"]),
        ("a@good.example@bad.example", ["bad.example"]),
        ("Doe, John <j@x.example>", ["x.example"]),
        ("a@x.example, a@X.EXAMPLE, b@x.example", ["x.example"]),
        # H49
        ("a@bücher.example", ["xn--bcher-kva.example"]),
        ("a@XN--BCHER-KVA.example", ["xn--bcher-kva.example"]),
        ("a@straße.example", ["xn--strae-oqa.example"]),
        ("a@bücher。example", ["xn--bcher-kva.example"]),
        ("a@bu\u0308cher.example", ["xn--bcher-kva.example"]),
        ("a@раypal.com", ["xn--ypal-43d9g.com"]),
    ],
)
def test_domains_of_authors(value: str, domains: list[str]) -> None:
    found = of(value)
    assert (list(found.domains), found.fault) == (domains, "")


# H33: never "not applicable"
@pytest.mark.parametrize(
    ("header", "domains", "words"),
    [
        (b"From: ", [], NO_AUTHOR),
        (b"From: undisclosed:;", [], NO_AUTHOR),
        (b"From: A: ;", [], NO_AUTHOR),
        (b"From: root", [], NO_AUTHOR),
        (b"From: <>", [], NO_AUTHOR),
        (b"From: a@[192.0.2.1]", [], "is no domain"),
        (b"From: a@b\xff.example", [], "is no domain"),
        (b"From: a@xn--a.example", [], "is no domain"),  # H49
        (b"From: a@" + b"x" * 64 + b".example", [], "is no domain"),
        (b"From: a@x..example, b@good.example", ["good.example"], "is no domain"),
        (b"Subject: x", [], FromFault.MISSING.value),
        (b"From\x00: a@x.example", [], FromFault.MISSING.value),
        (b" From: a@x.example\r\nSubject: x", [], FromFault.MISSING.value),
        (
            b"From: a@good.example\r\nFrom: b@bad.example",
            ["good.example", "bad.example"],
            FromFault.SEVERAL.value,
        ),
        (
            b"From: a@good.example\r\nFROM : b@bad.example",
            ["good.example", "bad.example"],
            FromFault.SEVERAL.value,
        ),
    ],
)
def test_what_cannot_be_judged_is_an_error_and_no_escape(
    header: bytes, domains: list[str], words: str
) -> None:
    found = authors(header)
    assert list(found.domains) == domains
    assert words in found.fault and found.fault.isprintable()
    outcomes = Zone({}).run(evaluate(found.domains, None, (), fault=found.fault))
    assert strictest(outcomes).result is Result.PERMERROR
    assert strictest(outcomes).reason == found.fault


# H33: blanks before the colon are the obsolete syntax; a line that is no field hides nothing
@pytest.mark.parametrize(
    "header",
    [
        b"From : b@bad.example",
        b"FROM\t:b@bad.example",
        b" From: a@good.example\r\nFrom: b@bad.example",
        b"From\x00: a@good.example\r\nFrom: b@bad.example",
        b"From a@good.example Mon Jan 1\r\nFrom: b@bad.example",
        b"Fr\xc3\xb6m: a@good.example\r\nFrom: b@bad.example",
        b"X: y\r\n From: a@good.example\r\nFrom: b@bad.example",
    ],
)
def test_only_the_from_field_names_the_author(header: bytes) -> None:
    found = authors(header)
    assert (found.domains, found.fault) == (("bad.example",), "")


def test_many_authors_are_too_many() -> None:  # H33, H26
    value = ", ".join(f"a@d{n}.example" for n in range(5_000))
    found = of(value)
    assert found.domains == tuple(f"d{n}.example" for n in range(AUTHOR_DOMAINS_MAX))
    assert found.fault == TOO_MANY_AUTHORS
    hidden = of(", ".join(["a@x..example"] * 50 + [f"a@d{n}..e" for n in range(9)]))
    assert hidden.fault


def test_malformed_lists_say_so() -> None:  # H33
    assert not of("A <a@x.example>").is_malformed
    assert of("a@good.example <b@bad.example>").is_malformed


@given(st.binary(max_size=200))
def test_the_domain_judged_is_the_domain_envelope_shows(value: bytes) -> None:  # H33
    octets = b"From: " + value + b"\r\n\r\n"
    section = read_section(octets)
    found = author_domains(section)
    shown = parse_address_list(section.raw(b"from") or b"").mailboxes()
    for item in shown[:AUTHOR_DOMAINS_MAX]:
        if not item.domain:
            continue
        try:
            domain = domain_to_ascii(item.domain.decode().removesuffix("."))
        except (UnicodeDecodeError, AddressError):
            assert found.fault
        else:
            assert domain in found.domains
    assert found.domains or found.fault


# --- homographs, H49 ---


@pytest.mark.parametrize(
    "domain",
    [
        "раypal.com",  # Cyrillic р and а
        "xn--ypal-43d9g.com",  # the same in A-labels
        "paypаl.com",
        "www.раypal.com",
        "аррӏе.com",  # all Cyrillic
        "xn--80ak6aa92e.com",
        "ехаmple.org",
        "gοοgle.com",  # Greek omicron
        "ορα.com",
        "shop-москва.com",
        "microsоft.xn--p1ai",
        "ѕоs。com",
        "թոп.com",
    ],
)
def test_domains_that_are_not_what_they_look_like(domain: str) -> None:
    found = homograph(domain)
    assert found is not None
    assert found.words


@pytest.mark.parametrize(
    "domain",
    [
        "paypal.com",
        "bücher.example",
        "xn--bcher-kva.example",
        "straße.example",
        "sørensen.example",
        "ışık.example",
        "москва.рф",
        "роса.рф",  # drawn like "poca", at home
        "москва.com",
        "ελλάδα.gr",
        "日本語テスト.jp",
        "テストabc.jp",
        "한국어abc.kr",
        "中文abc.tw",
        "ไทย.th",
        "مثال.إختبار",
        "l·l.cat",
        "xn--a.example",  # invalid: stays as it is, and is no author's domain at all
        "1-2.example",
        "",
    ],
)
def test_domains_that_are(domain: str) -> None:
    assert homograph(domain) is None


def test_findings_name_the_domain_and_why() -> None:
    (finding,) = homographs(of("Support <help@раypal.com>"))
    assert (finding.name, finding.result) == ("homograph", "fail")
    assert [str(each) for each in finding.properties] == ["header.from=xn--ypal-43d9g.com"]
    assert "mixes Cyrillic and Latin letters" in finding.reason


@pytest.mark.parametrize(
    "value",
    [
        '"service@раypal.com" <x@evil.example>',
        "=?utf-8?b?c2VydmljZUDRgNCweXBhbC5jb20=?= <x@evil.example>",
        "x@evil.example (service@раypal.com)",
        "service＠раypal.com <x@evil.example>",
    ],
)
def test_an_address_in_a_display_name_is_looked_at_too(value: str) -> None:
    found = of(value)
    assert found.domains == ("evil.example",)
    (finding,) = homographs(found)
    assert finding.properties[0].name == "display-name"


def test_plain_names_are_no_findings() -> None:
    for value in (
        "A <a@x.example>",
        '"b@y.example" <a@x.example>',
        "Müller @ Söhne <a@x.example>",
        "Иван Петров <ivan@x.example>",
        "Иван@home <ivan@x.example>",
    ):
        assert homographs(of(value)) == ()


def test_dmarc_of_a_homograph_is_its_own() -> None:  # H49
    found = of("a@раypal.com")
    zone = Zone({"paypal.com": "v=DMARC1; p=reject", "xn--ypal-43d9g.com": "v=DMARC1; p=none"})
    (outcome,) = zone.run(evaluate(found.domains, None, ()))
    assert outcome.from_domain == "xn--ypal-43d9g.com"
    assert questions.answer(evaluate((), None, ()), zone.answer)
