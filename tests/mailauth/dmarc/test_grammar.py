"""Policy records: RFC 9989 §4.7, §4.8, §4.10.1, and old ones of RFC 7489."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.dmarc import grammar
from posthouse.mailauth.dmarc.grammar import TEXT_MAX, URIS_MAX, parse
from posthouse.mailauth.results import Alignment, Disposition, DmarcPolicy

NONE, QUARANTINE, REJECT = Disposition.NONE, Disposition.QUARANTINE, Disposition.REJECT


def read(text: str) -> DmarcPolicy:
    policy = parse(text.encode(), "example.org")
    assert policy is not None
    return policy


# RFC 9989 Appendix B.2, each example's record.
@pytest.mark.parametrize(
    ("record", "policy", "rua", "ruf", "is_testing"),
    [
        (
            "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com",
            NONE,
            ("mailto:dmarc-feedback@example.com",),
            (),
            False,
        ),  # B.2.1
        (
            (
                "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com;"
                " ruf=mailto:auth-reports@example.com"
            ),
            NONE,
            ("mailto:dmarc-feedback@example.com",),
            ("mailto:auth-reports@example.com",),
            False,
        ),  # B.2.2
        (
            (
                "v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,"
                "mailto:tld-test@thirdparty.example.net; t=y"
            ),
            QUARANTINE,
            ("mailto:dmarc-feedback@example.com", "mailto:tld-test@thirdparty.example.net"),
            (),
            True,
        ),  # B.2.5
        (
            (
                "v=DMARC1; p=reject; rua=mailto:dmarc-feedback@example.com,"
                "mailto:tld-test@thirdparty.example.net"
            ),
            REJECT,
            ("mailto:dmarc-feedback@example.com", "mailto:tld-test@thirdparty.example.net"),
            (),
            False,
        ),  # B.2.5
    ],
)
def test_the_examples_of_the_rfc(
    record: str, policy: Disposition, rua: tuple[str, ...], ruf: tuple[str, ...], is_testing: bool
) -> None:
    found = read(record)
    assert (found.policy, found.aggregate_uris, found.failure_uris) == (policy, rua, ruf)
    assert found.is_testing is is_testing
    assert found.fault == ""


def test_all_tags() -> None:
    found = read(
        "v=DMARC1;p=reject;sp=quarantine;np=reject;adkim=s;aspf=s;t=n;psd=n;fo=1:d:s;"
        "rua=mailto:a@b.example;ruf=mailto:c@d.example"
    )
    assert found == DmarcPolicy(
        domain="example.org",
        policy=REJECT,
        subdomain_policy=QUARANTINE,
        missing_policy=REJECT,
        dkim_alignment=Alignment.STRICT,
        spf_alignment=Alignment.STRICT,
        public_suffix="n",
        failure_options=("1", "d", "s"),
        aggregate_uris=("mailto:a@b.example",),
        failure_uris=("mailto:c@d.example",),
        text=found.text,
    )


@pytest.mark.parametrize(
    "record",
    [
        "v=DMARC1;p=reject",
        "v=DMARC1; p=reject;",
        "v = DMARC1 ; p = reject",
        " v=DMARC1;p=reject",
        "V=DMARC1; P=Reject",
        "v=DMARC1;;p=reject;;",
        "v=DMARC1; x=y; p=reject; zz",
        "v=DMARC1; p=reject; p=none",  # the first of two counts, H32
        "v=DMARC1;\tp=reject\t;",
        "v=DMARC1; p=reject; pct=-1; rf=afrf; ri=-5",  # H45: RFC 7489's tags mean nothing
        "v=DMARC1; p=reject; pct=0",
        "v=DMARC1; p=reject; adkim=x; aspf=; t=maybe; psd=q; fo=9",
        "v=DMARC1; p=reject; \x00\xff=\x01",
    ],
)
def test_what_is_wrong_elsewhere_leaves_the_policy(record: str) -> None:  # RFC 9989 §4.8
    found = parse(record.encode("latin-1"), "example.org")
    assert found is not None
    assert (found.policy, found.fault) == (REJECT, "")
    assert found.dkim_alignment is found.spf_alignment is Alignment.RELAXED
    assert (found.public_suffix, found.failure_options, found.is_testing) == ("u", ("0",), False)


@pytest.mark.parametrize(
    "record",
    [
        "",
        "v=DMARC1x; p=reject",
        "v=DMARC2; p=reject",
        "v=dmarc1; p=reject",  # case-sensitive
        "p=reject; v=DMARC1",  # has to come first
        "v=spf1 -all",
        "DMARC1; p=reject",
        "v=DMARC1 p=reject",
        "x=1; v=DMARC1; p=reject",
    ],
)
def test_what_does_not_begin_with_the_version_is_no_policy(record: str) -> None:
    assert parse(record.encode(), "example.org") is None
    assert not grammar.is_policy(record.encode())


# RFC 9989 §4.10.1
@pytest.mark.parametrize(
    "tags", ["", "p=rejct", "p=", "p=reject; sp=x", "p=reject; np=", "p=r; sp=reject"]
)
def test_a_policy_that_is_none_counts_as_p_none_where_reports_are_wanted(tags: str) -> None:
    found = read(f"v=DMARC1; {tags}; rua=mailto:a@b.example")
    assert (found.policy, found.subdomain_policy, found.missing_policy) == (NONE, None, None)
    assert found.fault == ""
    for rua in ("", "rua=", "rua=a@b.example", "rua=,!10m", "ruf=mailto:a@b.example"):
        assert read(f"v=DMARC1; {tags}; {rua}").fault == grammar.NO_POLICY


@pytest.mark.parametrize(
    ("value", "uris"),
    [
        ("mailto:a@b.example!10m", ("mailto:a@b.example",)),  # RFC 9989 §4.8, obs-dmarc-uri
        ("mailto:a@b.example!10", ("mailto:a@b.example",)),
        (
            "mailto:a@b.example!10G , mailto:c@d.example",
            ("mailto:a@b.example", "mailto:c@d.example"),
        ),
        ("mailto:a!b@c.example", ()),  # "!" has to be encoded
        ("mailto:a%21b@c.example", ("mailto:a%21b@c.example",)),
        ("MAILTO:A@b.example", ("MAILTO:A@b.example",)),
        ("https://r.example/x?y=z", ("https://r.example/x?y=z",)),
        ("a@b.example, :x, mailto:, 1a:b", ()),
        ("mailto:a@b.example,mailto:a@b.example", ("mailto:a@b.example",)),
        ("mailto:ü@b.example", ()),  # RFC 8616 §6: conventional addresses only
        ("mailto:a b@c.example", ()),
    ],
)
def test_addresses_for_reports(value: str, uris: tuple[str, ...]) -> None:
    assert read(f"v=DMARC1;p=none;rua={value};ruf={value}").aggregate_uris == uris
    assert read(f"v=DMARC1;p=none;rua={value};ruf={value}").failure_uris == uris


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("0", ("0",)),
        ("1", ("1",)),
        ("d", ("d",)),
        ("s:1:d", ("s", "1", "d")),
        ("0:1", ("0",)),  # exclude each other
        ("x", ("0",)),
        ("1:x", ("0",)),
        ("", ("0",)),
    ],
)
def test_options_of_failure_reports(value: str, options: tuple[str, ...]) -> None:
    with_address = read(f"v=DMARC1;p=none;fo={value};ruf=mailto:a@b.example")
    assert with_address.failure_options == options
    assert read(f"v=DMARC1;p=none;fo={value}").failure_options == ("0",)  # RFC 9989 §4.7


def test_a_record_of_64_kib_is_read_within_its_bounds() -> None:  # H45
    many = ",".join(f"mailto:victim{n}@example.net" for n in range(1_000))
    found = read(f"v=DMARC1; p=reject; rua={many}; ruf={many}; {'x=y;' * 5_000}")
    assert len(found.aggregate_uris) == len(found.failure_uris) == URIS_MAX
    assert found.aggregate_uris[0] == "mailto:victim0@example.net"
    assert len(found.text) == TEXT_MAX
    late = read("v=DMARC1;" + "x=y;" * 200 + "p=reject; rua=mailto:a@b.example")
    assert late.fault == grammar.NO_POLICY  # behind the tags that are read


@given(st.binary(max_size=200))
def test_any_octets_are_read(octets: bytes) -> None:
    found = parse(b"v=DMARC1;" + octets, "example.org")
    assert found is not None
    assert found.text.isprintable()
    assert all(uri.isascii() and uri.isprintable() for uri in found.aggregate_uris)
    parse(octets, "example.org")
