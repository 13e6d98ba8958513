"""Authentication-Results: RFC 8601, with the examples of its Appendix B, and the `authres` module
beside ours."""

from __future__ import annotations

import authres as other
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from posthouse.kernel.finding import Evidence, Finding, Property
from posthouse.mailauth import findings as made
from posthouse.mailauth.authres import (
    METHODS,
    PROPERTIES_MAX,
    RESULTS_MAX,
    VALUE_OCTETS_MAX,
    forged,
    is_forged,
    normal_id,
    parse,
    render,
    without_forged,
)
from posthouse.mailauth.results import (
    ArcOutcome,
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    IprevOutcome,
    Result,
    SpfIdentity,
    SpfOutcome,
)
from posthouse.message.fields import FIELDS_MAX, HEADER_OCTETS_MAX, read_section, unfold

ID = "mx.ours.example"
OURS = frozenset({ID, "Ours.Example.", "bücher.example"})


def finding(name: str, result: str, *properties: tuple[str, str, str], reason: str = "") -> Finding:
    return Finding(
        name=name,
        result=result,
        reason=reason,
        properties=tuple(Property(*each) for each in properties),
    )


def value_of(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    assert name == b"Authentication-Results"
    assert value.endswith(b"\r\n")
    return value[:-2]


# --- writing ---


def test_nothing_checked_is_none() -> None:  # RFC 8601 Appendix B.2
    assert render(ID, []) == b"Authentication-Results: mx.ours.example; none\r\n"
    own = [finding("homograph", "fail"), finding("dns-budget", "fail")]
    assert render(ID, own).endswith(b"; none\r\n")


def test_all_results_of_a_message() -> None:
    policy = DmarcPolicy(domain="example.net", policy=Disposition.REJECT)
    written = render(
        ID,
        [
            made.iprev_finding(
                IprevOutcome(result=Result.PASS, address="2001:db8::1", name="mx.example.net")
            ),
            made.spf_finding(
                SpfOutcome(
                    result=Result.SOFTFAIL,
                    identity=SpfIdentity.MAIL_FROM,
                    domain="example.net",
                    sender="a@example.net",
                    reason="a transitioning domain",
                )
            ),
            made.spf_finding(
                SpfOutcome(
                    result=Result.PASS,
                    identity=SpfIdentity.HELO,
                    domain="mx.example.net",
                    sender="postmaster@mx.example.net",
                )
            ),
            made.dkim_finding(
                DkimOutcome(
                    result=Result.PASS,
                    domain="example.net",
                    selector="s1",
                    algorithm="rsa-sha256",
                    identity="@news.example.net",
                    signature="bGV0/bWU",
                )
            ),
            made.dkim_finding(DkimOutcome(result=Result.NONE)),
            made.dmarc_finding(
                DmarcOutcome(
                    result=Result.FAIL,
                    from_domain="example.net",
                    policy=policy,
                    requested=Disposition.QUARANTINE,
                )
            ),
            made.arc_finding(ArcOutcome(result=Result.FAIL), remote_ip="192.0.2.1"),
            made.auth_finding("ann o'nym@example.org"),
        ],
    )
    assert written.decode().split("\r\n") == [
        "Authentication-Results: mx.ours.example;",
        '\tiprev=pass policy.iprev="2001:db8::1";',
        '\tspf=softfail reason="a transitioning domain" smtp.mailfrom=example.net;',
        "\tspf=pass smtp.helo=mx.example.net;",
        "\tdkim=pass header.d=example.net header.i=@news.example.net header.s=s1",
        '\t\theader.a=rsa-sha256 header.b="bGV0/bWU";',
        "\tdkim=none;",
        "\tdmarc=fail header.from=example.net policy.dmarc=quarantine;",
        "\tarc=fail smtp.remote-ip=192.0.2.1;",
        '\tauth=pass smtp.auth="ann o\'nym"@example.org',
        "",
    ]
    assert len(parse(value_of(written)).results) == 8


def test_findings_keep_reason_and_evidence() -> None:
    evidence = (Evidence("TXT example.net", "v=spf1 -all"),)
    outcome = SpfOutcome(
        result=Result.PERMERROR,
        identity=SpfIdentity.HELO,
        domain="example.net",
        sender="x",
        reason="two records",
        evidence=evidence,
    )
    found = made.spf_finding(outcome)
    assert (found.reason, found.evidence) == ("two records", evidence)
    testing = made.dkim_finding(DkimOutcome(result=Result.PASS, domain="x", is_testing=True))
    assert testing.reason == "the key is in testing mode"
    nobody = made.dmarc_finding(DmarcOutcome(result=Result.PERMERROR, from_domain=""))
    assert nobody.properties == ()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("example.org", "example.org"),
        ("@example.org", "@example.org"),
        ("a.b+c@example.org", "a.b+c@example.org"),
        ("a b@example.org", '"a b"@example.org'),
        ('a"\\@example.org', '"a\\"\\\\"@example.org'),
        ("ü@example.org", "@example.org"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),  # RFC 8616
        ("@bücher.example", "@xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a@b@example.org", '"a@b"@example.org'),
        ("2001:db8::1", '"2001:db8::1"'),
        ("a;b=c", '"a;b=c"'),
        ('x" ; dmarc=pass "', '"x\\" ; dmarc=pass \\""'),
        ("x\r\nBcc: y", '"x??Bcc: y"'),
        ("a\r\nb@example.org", "a??b@example.org"),
        ("\x00\x7fü", '"???"'),
        ("a@b c", '"a@b c"'),
        ("(comment)", '"(comment)"'),
    ],
)
def test_no_value_leaves_its_place(value: str, written: str) -> None:  # H66
    field = render(ID, [finding("dkim", "pass", ("header", "i", value))])
    assert field == f"Authentication-Results: {ID};\r\n\tdkim=pass header.i={written}\r\n".encode()


def test_what_is_no_keyword_is_not_written() -> None:
    field = render(
        ID,
        [
            finding("spf", "pass; dkim=pass"),
            finding("spf", ""),
            finding("spf", "fail", ("smtp", "mail from", "x"), ("a=b", "c", "d"), ("x", "y", "")),
        ],
    )
    assert field == b"Authentication-Results: mx.ours.example;\r\n\tspf=fail\r\n"


def test_names_of_servers_are_written_as_they_may_be() -> None:
    assert render("bücher.example", []).startswith(
        b"Authentication-Results: xn--bcher-kva.example;"
    )
    assert render("a@b", []).startswith(b'Authentication-Results: "a@b";')
    assert render("a b", []).startswith(b'Authentication-Results: "a b";')


TEXT = st.text(max_size=400)
RESULTS = ["pass", "fail", "none", "temperror"]
FINDINGS = st.lists(
    st.builds(
        finding,
        st.sampled_from([*METHODS, "homograph"]),
        st.sampled_from(RESULTS) | TEXT,
        st.tuples(st.sampled_from(["smtp", "header", "policy"]) | TEXT, st.just("x") | TEXT, TEXT),
        reason=TEXT,
    ),
    max_size=5,
)


@given(TEXT, FINDINGS)
def test_what_is_written_is_one_field_in_ascii_and_is_read_again(
    identity: str, found: list[Finding]
) -> None:
    assume(normal_id(identity))
    field = render(identity, found)
    assert field.isascii()
    assert field.count(b"\n") == field.count(b"\r") == field.count(b"\r\n")
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    section = read_section(field + b"\r\nbody")
    assert [each.name for each in section.fields] == [b"authentication-results"]
    assert section.fields[0].end == len(field)
    read = parse(value_of(field))
    assert read is not None and read.is_complete
    written = [each for each in found if each.name in METHODS and each.result.lower() in RESULTS]
    assert [(each.name, each.result) for each in read.results if each.result in RESULTS] == [
        (each.name, each.result.lower()) for each in written
    ]
    assert is_forged(value_of(field), frozenset({read.authserv_id}))


# --- reading ---

NET = ("smtp", "mailfrom", "example.net")
# RFC 8601 Appendix B
READ = [
    ("example.org 1; none", "example.org", []),  # B.2
    (
        "example.com;\r\n          spf=pass smtp.mailfrom=example.net",
        "example.com",
        [finding("spf", "pass", NET)],
    ),  # B.3
    (
        (
            "example.com;\r\n  auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n"
            "  spf=pass smtp.mailfrom=example.net"
        ),
        "example.com",
        [
            finding("auth", "pass", ("smtp", "auth", "sender@example.net")),
            finding("spf", "pass", NET),
        ],
    ),  # B.4
    (
        "example.com; iprev=pass\r\n policy.iprev=192.0.2.200",
        "example.com",
        [finding("iprev", "pass", ("policy", "iprev", "192.0.2.200"))],
    ),  # B.4
    (
        (
            'example.com;\r\n dkim=pass reason="good signature"\r\n'
            " header.i=@mail-router.example.net;"
            '\r\n dkim=fail reason="bad signature"\r\n header.i=@newyork.example.com'
        ),
        "example.com",
        [
            finding(
                "dkim",
                "pass",
                ("header", "i", "@mail-router.example.net"),
                reason="good signature",
            ),
            finding(
                "dkim", "fail", ("header", "i", "@newyork.example.com"), reason="bad signature"
            ),
        ],
    ),  # B.6
    (
        (
            "foo.example.net (foobar) 1 (baz);\r\n"
            " dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n"
            " policy (A dot can go here) . (like that) expired\r\n"
            " (this surprised me) = (as I wasn't expecting it) 1362471462"
        ),
        "foo.example.net",
        [finding("dkim", "fail", ("policy", "expired", "1362471462"))],
    ),  # B.7
    # RFC 8601 §2.7.4
    (
        "a.example; auth=pass smtp.auth=client@c.example smtp.mailfrom=bob@b.example",
        "a.example",
        [
            finding(
                "auth",
                "pass",
                ("smtp", "auth", "client@c.example"),
                ("smtp", "mailfrom", "bob@b.example"),
            )
        ],
    ),
    # What others write: addresses, base64 and keys without quotes, a last semicolon
    (
        (
            'mx.google.com;\r\n       dkim=pass header.i=@example.org header.s=s header.b="b/+=x";'
            "\r\n spf=pass (google.com: domain of a@example.org designates 192.0.2.1 as permitted"
            " sender) smtp.mailfrom=a@example.org;\r\n"
            "       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=example.org"
        ),
        "mx.google.com",
        [
            finding(
                "dkim",
                "pass",
                ("header", "i", "@example.org"),
                ("header", "s", "s"),
                ("header", "b", "b/+=x"),
            ),
            finding("spf", "pass", ("smtp", "mailfrom", "a@example.org")),
            finding("dmarc", "pass", ("header", "from", "example.org")),
        ],
    ),
    (
        "a.example; iprev=pass smtp.remote-ip=2001:db8::1; arc=none;",
        "a.example",
        [finding("iprev", "pass", ("smtp", "remote-ip", "2001:db8::1")), finding("arc", "none")],
    ),
    (
        'a.example; dkim=pass header.i="a b"@x.example header.b=ab/+==',
        "a.example",
        [finding("dkim", "pass", ("header", "i", "a b@x.example"), ("header", "b", "ab/+=="))],
    ),
    ('"a.example"; SPF=Pass', "a.example", [finding("spf", "pass")]),
    (
        'a.example; spf=pass reason="a \\"b\\"; c"',
        "a.example",
        [finding("spf", "pass", reason='a "b"; c')],
    ),
    ("A.Example.; none", "a.example", []),
    ("bücher.example; none", "xn--bcher-kva.example", []),  # RFC 8616
    ("a.example", "a.example", []),
]


@pytest.mark.parametrize(("value", "identity", "results"), READ)
def test_fields_of_others_are_read(value: str, identity: str, results: list[Finding]) -> None:
    for octets in (value.encode(), unfold(value.encode()), value.encode() + b"\r\n"):
        read = parse(octets)
        assert read is not None
        assert (read.authserv_id, list(read.results)) == (identity, results)
        assert (read.version, read.is_complete) == (1, True)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a.example; spf=pass smtp.mailfrom; dkim=pass", ["spf", "dkim"]),
        ("a.example; spf; dkim=pass", ["dkim"]),
        ("a.example; =pass; dkim=pass", ["dkim"]),
        ('a.example; spf=pass ="x;y"; dkim=pass', ["spf", "dkim"]),
        ("a.example; spf/2=pass; dkim/1=pass", ["dkim"]),  # RFC 8601 §2.6
        ("a.example; spf=pass (;dkim=fail;) junk; dkim=pass", ["spf", "dkim"]),
    ],
)
def test_what_cannot_be_read_is_left_out(value: str, names: list[str]) -> None:
    read = parse(value.encode())
    assert read is not None and not read.is_complete
    assert [each.name for each in read.results] == names


def test_another_version_is_not_read_on() -> None:  # RFC 8601 §2.6
    read = parse(b"a.example 2; spf=pass")
    assert read is not None
    assert (read.version, read.results) == (2, ())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b";",
        b"; spf=pass",
        b"(only a comment)",
        b"(open; spf=pass",
        b'"open; spf=pass',
        b"a.example (open; spf=pass",
        b"a.example b.example; spf=pass",
        b"spf=pass smtp.mailfrom=x; dkim=none",  # no authserv-id
        b'a.example; spf=pass reason="open',
        b"x" * (VALUE_OCTETS_MAX + 1),
    ],
)
def test_what_names_no_writer_or_does_not_close_is_not_read(value: bytes) -> None:
    assert parse(value) is None


def test_results_and_properties_are_bounded() -> None:
    read = parse(b"a.example" + b"; spf=pass" * (RESULTS_MAX + 1))
    assert read is not None
    assert (len(read.results), read.is_complete) == (RESULTS_MAX, False)
    read = parse(b"a.example; spf=pass" + b" x.y=z" * (PROPERTIES_MAX + 1) + b"; dkim=pass")
    assert read is not None
    assert len(read.results[0].properties) == PROPERTIES_MAX
    assert (read.results[1].name, read.is_complete) == ("dkim", False)


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_not(octets: bytes) -> None:
    parse(octets)
    parse(b"a.example;" + octets)
    is_forged(octets, OURS)
    is_forged(b"a.example;" + octets, OURS)


# --- the authres module, both ways ---

WORD = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
DOMAIN = st.lists(WORD, min_size=1, max_size=3).map(".".join)
RESULT = st.sampled_from(["pass", "fail", "neutral", "none", "temperror", "permerror", "policy"])
# Their parser takes printable values only as tokens, addresses and quoted strings.
VALUE = DOMAIN | DOMAIN.map(lambda name: f"@{name}") | st.builds("{}@{}".format, WORD, DOMAIN)
# Theirs leaves backslashes in quoted strings, and takes any value with an "@" for an address.
REASON = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\@'), max_size=40
)
PROPERTIES = {
    "spf": [("smtp", "mailfrom"), ("smtp", "helo")],
    "dkim": [("header", "d"), ("header", "i"), ("header", "s"), ("header", "a"), ("header", "b")],
    "dmarc": [("header", "from"), ("policy", "dmarc")],
    "iprev": [("policy", "iprev")],
    "arc": [("smtp", "remote-ip"), ("header", "oldest-pass")],
    "auth": [("smtp", "auth"), ("smtp", "mailfrom")],
}


@st.composite
def results(draw: st.DrawFn) -> list[Finding]:
    out = []
    for name in draw(st.lists(st.sampled_from(sorted(PROPERTIES)), min_size=1, max_size=5)):
        named = [(*each, draw(VALUE)) for each in PROPERTIES[name] if draw(st.booleans())]
        out.append(finding(name, draw(RESULT), *named, reason=draw(REASON)))
    return out


@given(DOMAIN, results())
def test_the_authres_module_reads_what_we_write(identity: str, found: list[Finding]) -> None:
    read = other.AuthenticationResultsHeader.parse(render(identity, found).decode().rstrip())
    assert read.authserv_id == identity
    assert [
        finding(
            each.method,
            each.result,
            *((part.type, part.name, part.value) for part in each.properties),
            reason=each.reason or "",
        )
        for each in read.results
    ] == found


@given(DOMAIN, results())
def test_we_read_what_the_authres_module_writes(identity: str, found: list[Finding]) -> None:
    header = other.AuthenticationResultsHeader(
        authserv_id=identity,
        results=[
            other.AuthenticationResult(
                each.name,
                result=each.result,
                reason=each.reason or None,
                properties=[
                    other.AuthenticationResultProperty(part.ptype, part.name, part.value)
                    for part in each.properties
                ],
            )
            for each in found
        ],
    )
    read = parse(header.header_value().encode())
    assert read is not None
    assert (read.authserv_id, list(read.results)) == (identity, found)


# --- forged in our name, H35 ---

FORGED = [
    "mx.ours.example; dmarc=pass",
    "MX.Ours.EXAMPLE; dmarc=pass",
    "mx.ours.example.; dmarc=pass",
    "mx.ours.example 1; dmarc=pass",
    "mx.ours.example 2; dmarc=pass",
    "mx.ours.example; none",
    "mx.ours.example",
    "  mx.ours.example  ; dmarc=pass",
    "\r\n mx.ours.example;\r\n\tdmarc=pass",
    "\n mx.ours.example\n ;\n dmarc=pass",
    "(hello) mx.ours.example; dmarc=pass",
    "(a (nested) \\) one) mx.ours.example (another) 1 (third); dmarc=pass",
    '"mx.ours.example"; dmarc=pass',
    '"mx\\.ours.example"; dmarc=pass',
    '"mx.ours.example." 1; dmarc=pass',
    "ours.example; dmarc=pass",
    # IDN forms
    "bücher.example; dmarc=pass",
    "BÜCHER.example; dmarc=pass",
    "bu\u0308cher.example; dmarc=pass",
    "xn--bcher-kva.example; dmarc=pass",
    "XN--BCHER-KVA.EXAMPLE; dmarc=pass",
    '"bücher.example"; dmarc=pass',
    "bücher。example; dmarc=pass",
    "mx。ours。example; dmarc=pass",
    "ｍｘ.ours.example; dmarc=pass",
    "mx.ours\u200b.example; dmarc=pass",
    "mx.ours\u00ad.example; dmarc=pass",
    # another version is nobody's (RFC 8601 §5)
    "other.example 2; dmarc=pass",
    "other.example 999999999999999; dmarc=pass",
    # malformed, and our name is in it
    "mx.ours.example dmarc=pass",
    "mx.ours.example, dmarc=pass",
    "mx.ours.example/1; dmarc=pass",
    "mx .ours.example; dmarc=pass",
    "mx.(x)ours.example; dmarc=pass",
    "mx\x00.ours.example; dmarc=pass",
    ";mx.ours.example; dmarc=pass",
    "; mx.ours.example; dmarc=pass",
    "other.example mx.ours.example; dmarc=pass",
    "(open mx.ours.example; dmarc=pass",
    '"mx.ours.example; dmarc=pass',
    "other.example; dmarc=pass (mx.ours.example",
    'other.example; dmarc=pass reason="mx.ours.example',
    "=?utf-8?q?mx.ours=2Eexample?=; dmarc=pass",
    "=?utf-8?b?bXgub3Vycy5leGFtcGxl?=; dmarc=pass",
    "dmarc=pass header.from=x by mx.ours.example",
    "spf=pass smtp.mailfrom=bu\u0308cher.example",
    "spf=pass smtp.mailfrom=xn--bcher-kva.example",
    "x\rAuthentication-Results: mx.ours.example; dmarc=pass",
]
OTHERS = [
    "other.example; dmarc=pass",
    "other.example 1; dmarc=pass header.from=ours.example",
    "other.example (mx.ours.example); dmarc=pass",
    'other.example; dmarc=pass reason="mx.ours.example"',
    "mx.ours.example.net; dmarc=pass",
    "a.mx.ours.example; dmarc=pass",
    "other.example; junk; ;; x=y=z",
    "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=x.example; dkim=none",
    "",
    "(open",
]


@pytest.mark.parametrize("value", FORGED)
def test_what_is_forged_in_our_name_goes(value: str) -> None:  # H35
    assert is_forged(value.encode(), OURS)
    name = b"AUTHENTICATION-Results \t:" if len(value) % 2 else b"Authentication-Results:"
    octets = b"X: y\r\n" + name + value.encode() + b"\r\nFrom: a@b.example\r\n\r\nbody"
    assert without_forged(read_section(octets), OURS) == b"X: y\r\nFrom: a@b.example\r\n\r\nbody"


@pytest.mark.parametrize("value", OTHERS)
def test_what_others_wrote_stays(value: str) -> None:
    assert not is_forged(value.encode(), OURS)
    octets = b"Authentication-Results:" + value.encode() + b"\r\n\r\nbody"
    assert without_forged(read_section(octets), OURS) is None


def test_latin_1_and_broken_utf_8_do_not_hide_a_name() -> None:  # H35
    assert is_forged(b"mx.ours.example (\xff); dmarc=pass", OURS)
    assert is_forged(b"\xff mx.ours.example; dmarc=pass", OURS)


def test_a_field_too_long_to_read_goes() -> None:  # H35
    assert is_forged(b"other.example; x=" + b"y" * VALUE_OCTETS_MAX, OURS)


def test_without_names_of_ours_only_other_versions_go() -> None:
    assert not is_forged(b"mx.ours.example; dmarc=pass", frozenset())
    assert not is_forged(b"(open mx.ours.example", frozenset({""}))
    assert is_forged(b"mx.ours.example 2; dmarc=pass", frozenset())


def test_all_forged_fields_go_and_everything_else_stays_as_it_is() -> None:  # H35
    ours = b"Authentication-Results: mx.ours.example; dmarc=pass\r\n"
    folded = b"authentication-results:\r\n (x)\r\n ours.example;\r\n\tdkim=pass\r\n"
    theirs = b"Authentication-Results: other.example;\r\n spf=pass\r\n"
    sealed = b"ARC-Authentication-Results: i=1; mx.ours.example; dmarc=pass\r\n"
    body = b"\r\nAuthentication-Results: mx.ours.example; dmarc=pass\r\n"
    octets = ours + b"A: 1\n" + folded + theirs + b"junk line\r\n" + sealed + ours + body
    section = read_section(octets)
    assert len(forged(section, OURS)) == 3
    assert without_forged(section, OURS) == b"A: 1\n" + theirs + b"junk line\r\n" + sealed + body


@pytest.mark.parametrize(
    "padding", [b"A: b\r\n" * (FIELDS_MAX + 5), b"A: " + b"x" * HEADER_OCTETS_MAX + b"\r\n"]
)
def test_a_forged_field_behind_what_is_read_as_fields_goes_too(padding: bytes) -> None:  # H35
    octets = padding + b"Authentication-Results: mx.ours.example; none\r\n\r\nbody"
    assert without_forged(read_section(octets), OURS) == padding + b"\r\nbody"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Example-Auth", "example-auth"),
        ("a b", "a b"),
        ("", ""),
        (" x.example.. ", "x.example"),
        ("STRASSE.example", "strasse.example"),
        ("straße.example", "xn--strae-oqa.example"),  # H49: not "strasse"
    ],
)
def test_names_of_servers_have_one_spelling(text: str, normal: str) -> None:
    assert normal_id(text) == normal
