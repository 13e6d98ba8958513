"""MTA-STS records and policies as text: tables (RFC 8461 §3.1, §3.2)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.relay.sts_policy import (
    MAX_AGE_S,
    PATTERNS_MAX,
    BadPolicy,
    Mode,
    parse_policy,
    record_id,
)
from tests.fuzz.oracle import Shape, growth

GOOD = (
    b"version: STSv1\r\nmode: enforce\r\n"
    b"mx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"
)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1; id=1"], "1"),
        ([b"v=STSv1;id=1;"], "1"),
        ([b"v=STSv1 ;\tid=1 ; "], "1"),
        ([b"v=STSv1; new=field; id=1; other=x"], "1"),
        ([b"v=STSv1; id=1; id=2"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1", b"anything"], "1"),
        ([], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=" + b"1" * 33], None),
        ([b"v=STSv1; nonsense; id=1"], None),
        ([b"v=STSv1;; id=1"], None),
        ([b"v=STSv1; bad value=1; id=1"], None),
        ([b"v=stsv1; id=1"], None),
        ([b"v=STSv2; id=1"], None),
        ([b" v=STSv1; id=1"], None),
        ([b"id=1; v=STSv1"], None),
        ([b"v=STSv1; id=1", b"v=STSv1; id=2"], None),
        ([b"v=STSv1; id=1; x=\xc3\xa4"], None),
        ([b"v=STSv1; id=1;" + b"x=y;" * 5000], None),
    ],
)
def test_a_record_says_which_policy_is_current(texts: list[bytes], found: str | None) -> None:
    assert record_id(texts) == found


def test_a_policy_is_read() -> None:
    policy = parse_policy(GOOD)
    assert (policy.mode, policy.max_age_s) == (Mode.ENFORCE, 604800)
    assert policy.mx == ("mail.example.com", "*.example.net")
    assert policy.lines == (
        "version: STSv1",
        "mode: enforce",
        "mx: mail.example.com",
        "mx: *.example.net",
        "max_age: 604800",
    )


@pytest.mark.parametrize(
    "octets",
    [
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.removesuffix(b"\r\n"),
        GOOD.replace(b": ", b":"),
        GOOD.replace(b": ", b":\t "),
        GOOD.replace(b"\r\n", b"  \r\n"),
        GOOD + b"\r\n\r\n",
        GOOD + b"future_field: something \xe2\x82\xac else\r\n",
        GOOD + b"mode: none\r\nversion: STSv2\r\nmax_age: 1\r\n",  # the first counts
        GOOD.replace(b"mail.example.com", b"MAIL.Example.COM."),
        b"max_age: 604800\nmx: mail.example.com\nmx: *.example.net\nmode: enforce\nversion: STSv1",
    ],
)
def test_forms_of_the_same_policy(octets: bytes) -> None:
    policy, good = parse_policy(octets), parse_policy(GOOD)
    assert (policy.mode, policy.max_age_s, set(policy.mx)) == (
        good.mode,
        good.max_age_s,
        set(good.mx),
    )


def line(old: bytes, new: bytes) -> bytes:
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"<html>404</html>",
        line(b"version: STSv1\r\n", b""),
        line(b"STSv1", b"STSv2"),
        line(b"STSv1", b"stsv1"),
        line(b"mode: enforce\r\n", b""),
        line(b"enforce", b"Enforce"),
        line(b"enforce", b"strict"),
        line(b"max_age: 604800\r\n", b""),
        line(b"604800", b"-1"),
        line(b"604800", b"1e5"),
        line(b"604800", b"12345678901"),
        line(b"mx: mail.example.com\r\nmx: *.example.net\r\n", b""),
        line(b"*.example.net", b"*.*.com"),  # H47
        line(b"*.example.net", b"*"),
        line(b"*.example.net", b"*."),
        line(b"*.example.net", b"mx*.example.net"),
        line(b"*.example.net", b"mx.*.example.net"),
        line(b"*.example.net", b"*.example..net"),
        line(b"*.example.net", b"-a.example.net"),
        line(b"*.example.net", b"b\xc3\xbccher.example"),
        line(b"*.example.net", b"mx.example.net:25"),
        line(b"*.example.net", b"a b"),
        line(b"*.example.net", b""),
        line(b"*.example.net", b"a" * 64 + b".example"),
        line(b"*.example.net", b"a." * 150 + b"example"),
        line(b"mode: enforce", b"mode enforce"),
        line(b"mode: enforce", b"mode: enforce\rmode: none"),
        GOOD + b"\x00\r\n",
        GOOD + b"x: \xff\r\n",
        GOOD + b"x" * 65_536,
        GOOD + b"mx: a.example\r\n" * (PATTERNS_MAX + 1),
    ],
)
def test_what_is_no_policy(octets: bytes) -> None:
    with pytest.raises(BadPolicy):
        parse_policy(octets)


def test_a_domain_may_take_its_policy_back_without_naming_hosts() -> None:  # RFC 8461 §8.3
    policy = parse_policy(b"version: STSv1\nmode: none\nmax_age: 86400\n")
    assert (policy.mode, policy.mx) == (Mode.NONE, ())


def test_no_policy_counts_for_more_than_a_year() -> None:
    assert parse_policy(line(b"604800", b"9999999999")).max_age_s == MAX_AGE_S


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mail.example.com", True),
        ("MAIL.example.com.", True),
        ("mx1.example.net", True),
        ("example.net", False),
        ("a.mx1.example.net", False),
        (".example.net", False),
        ("example.com", False),
        ("mail.example.com.evil.example", False),
        ("xmail.example.com", False),
        ("net", False),
        ("", False),
    ],
)
def test_an_mx_host_is_named_by_a_policy_or_not(host, is_allowed) -> None:  # RFC 8461 §4.1
    assert parse_policy(GOOD).allows(host) is is_allowed


@given(st.binary(max_size=300))
def test_octets_of_any_kind_never_raise_anything_else(octets: bytes) -> None:
    record_id([octets, b"v=STSv1;" + octets])
    for text in (octets, GOOD + octets):
        try:
            parse_policy(text)
        except BadPolicy as error:
            assert str(error)


SHAPES = [
    Shape(b"version: STSv1\n", b"mx: a.example\n", b"mode: none\nmax_age: 1\n"),
    Shape(b"version: STSv1\n", b"x: y\n", b"mode: none\nmax_age: 1\n"),
    Shape(b"version: STSv1\n", b"\r\n", b"mode: none\nmax_age: 1\n"),
    Shape(b"version: STSv1\nx:", b" ", b"y\n"),
    Shape(b"version: STSv1\nmx: ", b"a.", b"example\n"),
    Shape(b"version: STSv1\nmx: ", b"a-", b"example\n"),
    Shape(b"", b"version: STSv1\r", b"\n"),
]


@pytest.mark.timed
@pytest.mark.parametrize("shape", SHAPES)
def test_reading_takes_linear_time(shape: Shape) -> None:  # H47
    def judge(octets: bytes) -> None:
        with contextlib.suppress(BadPolicy):
            parse_policy(octets)
        record_id([b"v=STSv1; id=1;" + octets])

    found = growth(judge, shape.octets, sizes=(8 * 1024, 60 * 1024))
    assert found is None or not found.is_too_fast, f"{found}"
