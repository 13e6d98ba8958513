"""Who may be sent reports: URIs, and destinations outside the domain that have to agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ports import DnsAnswer, DnsStatus
from posthouse.mailauth.questions import Question, answer
from posthouse.reporting import tlsrpt_record
from posthouse.reporting.destinations import Destinations, Tag, verify
from posthouse.reporting.uris import Https, MailTo, targets

DOMAIN = "author.example"
ORGANIZATIONS = {
    "_dmarc.author.example": "v=DMARC1; p=none",
    "_dmarc.victim.example": "v=DMARC1; p=none",
    "_dmarc.red.example": "v=DMARC1; p=none",
}


def dns(records: dict[str, str], asked: list[str] | None = None) -> Callable[[Question], DnsAnswer]:
    known = {**ORGANIZATIONS, **records}

    def found(question: Question) -> DnsAnswer:
        if asked is not None:
            asked.append(question.name)
        text = known.get(question.name)
        if text == "fails":
            return DnsAnswer(status=DnsStatus.TEMPFAIL, name=question.name, detail="SERVFAIL")
        if text is None:
            return DnsAnswer(status=DnsStatus.NO_NAME, name=question.name)
        return DnsAnswer(
            status=DnsStatus.FOUND,
            name=question.name,
            records=tuple(each.encode() for each in text.split("|")),
        )

    return found


def decided(
    uris: list[str], records: dict[str, str] | None = None, tag: Tag = Tag.AGGREGATE
) -> Destinations:
    return answer(verify(DOMAIN, uris, tag), dns(records or {}))


def mailed(found: Destinations) -> list[str]:
    return [f"{each.address.local_part}@{each.address.domain}" for each in found.allowed]


AUTHORIZED = "author.example._report._dmarc.red.example"


def test_the_domain_itself_needs_no_permission() -> None:
    asked: list[str] = []
    found = answer(verify(DOMAIN, ["mailto:rua@author.example"], Tag.AGGREGATE), dns({}, asked))
    assert mailed(found) == ["rua@author.example"] and asked == []


def test_the_same_organization_needs_no_permission() -> None:
    """RFC 9990 §4: the organizational domains are compared, found by the tree walk."""
    assert mailed(decided(["mailto:rua@mail.author.example"])) == ["rua@mail.author.example"]


def test_a_victim_that_never_agreed_gets_nothing() -> None:  # H45
    found = decided(["mailto:victim@victim.example"])
    assert found.allowed == ()
    assert "does not say that it takes reports" in found.ignored[0].reason


def test_a_name_that_only_looks_like_below_the_domain_is_outside_of_it() -> None:  # H45
    assert decided(["mailto:x@notauthor.example"]).allowed == ()
    assert decided(["mailto:x@author.example.victim.example"]).allowed == ()


@pytest.mark.parametrize(
    "record", ["v=DMARC1", "v=DMARC1;", "v=DMARC1; p=junk", "nonsense|v=DMARC1"]
)
def test_a_destination_that_agrees_gets_reports(record: str) -> None:
    """RFC 9990 §4, steps 6 to 8."""
    assert mailed(decided(["mailto:rua@red.example"], {AUTHORIZED: record})) == ["rua@red.example"]


@pytest.mark.parametrize("record", ["", "v=spf1", "p=none; v=DMARC1", "V=DMARC2", "v=dmarc1"])
def test_other_records_are_no_agreement(record: str) -> None:
    assert decided(["mailto:rua@red.example"], {AUTHORIZED: record}).allowed == ()


def test_the_destination_may_name_another_address_of_its_own() -> None:
    """RFC 9990 §4, step 9."""
    record = "v=DMARC1; rua=mailto:better@red.example; ruf=mailto:failures@red.example"
    found = decided(["mailto:rua@red.example"], {AUTHORIZED: record})
    assert mailed(found) == ["better@red.example"]
    found = decided(["mailto:ruf@red.example"], {AUTHORIZED: record}, Tag.FAILURE)
    assert mailed(found) == ["failures@red.example"]


def test_one_that_sends_them_on_to_somebody_else_gets_none_and_neither_does_that_one() -> None:
    record = "v=DMARC1; rua=mailto:x@victim.example"
    found = decided(["mailto:rua@red.example"], {AUTHORIZED: record})
    assert found.allowed == () and "somebody else" in found.ignored[0].reason


def test_a_dns_that_fails_is_no_agreement_and_no_refusal() -> None:
    """RFC 9990 §4, step 5: it may be asked again."""
    found = decided(["mailto:rua@red.example"], {AUTHORIZED: "fails"})
    assert found.allowed == () and found.failure
    found = decided(["mailto:rua@red.example"], {"_dmarc.red.example": "fails"})
    assert found.allowed == () and found.failure


def test_a_permission_that_would_not_fit_the_dns_cannot_be_given() -> None:
    """RFC 9990 §4, step 4."""
    long = ".".join(["a" * 60] * 4) + ".example"
    found = answer(
        verify(long, ["mailto:rua@red.example"], Tag.AGGREGATE),
        dns({f"_dmarc.{long}": "v=DMARC1; p=none"}),
    )
    assert found.allowed == () and "would not fit" in found.ignored[0].reason


def test_of_a_thousand_uris_ten_are_served() -> None:  # H45
    uris = [f"mailto:r{n}@author.example" for n in range(1_000)]
    assert mailed(decided(uris)) == [f"r{n}@author.example" for n in range(10)]
    asked: list[str] = []
    outside = [f"mailto:r@v{n}.example" for n in range(1_000)]
    answer(verify(DOMAIN, outside, Tag.AGGREGATE), dns({}, asked))
    assert len(asked) <= 3 + 10 * 4


def test_only_mailto_is_served_and_why_is_said() -> None:
    found = decided(
        ["https://x.example/", "ftp://x", "mailto:", "mailto:a@b@c", "mailto:a@[192.0.2.1]"]
    )
    assert found.allowed == () and len(found.ignored) == 5


def test_size_limits_of_old_records_are_ignored() -> None:
    """RFC 9989 §4.8."""
    assert mailed(decided(["mailto:rua@author.example!10m"])) == ["rua@author.example"]


def test_a_mailto_gives_its_first_address_decoded_and_no_header_field() -> None:
    """RFC 6068 §2, §4."""
    found, _ = targets(
        ["mailto:r%2Bx@author.example?subject=hi&bcc=victim@victim.example,"], most=10
    )
    assert [each.address.local_part for each in found if isinstance(each, MailTo)] == ["r+x"]
    injected, ignored = targets(["mailto:a%0D%0ABcc:x@author.example"], most=10)
    assert injected == () and len(ignored) == 1


@given(st.lists(st.text(max_size=80), max_size=5))
def test_no_uri_makes_it_raise(uris: list[str]) -> None:
    targets(uris, most=10, takes_https=True)
    targets([f"mailto:{uri}" for uri in uris], most=10)
    targets([f"https:{uri}" for uri in uris], most=10, takes_https=True)


# --- TLS (RFC 8460 §3) ---


def tls(record: str) -> tlsrpt_record.TlsReporting:
    return answer(tlsrpt_record.find("there.example"), dns({"_smtp._tls.there.example": record}))


def test_the_examples_of_the_rfc_are_read() -> None:
    """RFC 8460 §3.1."""
    (mail,) = tls("v=TLSRPTv1;rua=mailto:reports@example.com").targets
    assert isinstance(mail, MailTo) and mail.address.domain == "example.com"
    (web,) = tls("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt").targets
    assert web == Https("https://reporting.example.com/v1/tlsrpt")


def test_several_destinations_and_unknown_fields_are_read() -> None:
    found = tls("v=TLSRPTv1; x-new=1 ;rua=mailto:a@b.example , https://c.example/x; rua=mailto:z@z")
    assert [each.uri for each in found.targets] == ["mailto:a@b.example", "https://c.example/x"]


@pytest.mark.parametrize(
    "record",
    [
        "v=TLSRPTv1",
        "v=TLSRPTv2;rua=mailto:a@b.example",
        "v=tlsrptv1;rua=mailto:a@b.example",
        "v=TLSRPTv1;rua=ftp://x",
        "v=TLSRPTv1;",
        "v=TLSRPTv1;rua=mailto:a@b.example|v=TLSRPTv1;rua=mailto:c@d.example",
        "v=TLSRPTv1;rua=http://plain.example/",
        "v=TLSRPTv1;rua=https://user:secret@x.example/",
        "v=TLSRPTv1;rua=https://x.example/a\0b",
        "v=TLSRPTv1;rua=https://x.example/\r\nX: y",
        "v=TLSRPTv1;rua=https://x.example/a b",
    ],
)
def test_what_asks_for_nothing_says_why(record: str) -> None:
    found = tls(record)
    assert found.targets == () and found.reason


def test_records_of_something_else_beside_it_do_not_count() -> None:
    assert len(tls("v=spf1|v=TLSRPTv1;rua=mailto:a@b.example").targets) == 1


@given(st.binary(max_size=200))
def test_no_record_makes_it_raise(octets: bytes) -> None:
    tlsrpt_record.parse(b"v=TLSRPTv1;" + octets)
    tlsrpt_record.parse(octets)
