"""`check_host()` and the identities of a session: RFC 7208 §2, §4, §5, §6, RFC 8616 §4."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import DnsAnswer, RecordType
from posthouse.mailauth.questions import (
    TOO_LATE,
    Budget,
    Late,
    Question,
    Suspended,
    answer,
    finish,
    try_known,
)
from posthouse.mailauth.results import Result, SpfIdentity
from posthouse.mailauth.spf.check import QUESTIONS_MAX, check_host, verify
from posthouse.mailauth.spf.evaluation import EVIDENCE_MAX, Limits
from posthouse.mailauth.spf.grammar import parse_record
from tests.mailauth.spf.zone import TIMEOUT, Zone, ask, steps

HERE = "192.0.2.1"
R = Result


def txt(record: str) -> dict[str, object]:
    return {"TXT": record}


BASE = {
    "mail.example": {"A": HERE, "AAAA": "2001:db8::1"},
    "a.deep.example": {"A": HERE},
    "other.example": {"A": "198.51.100.1"},
    "v6only.example": {"AAAA": "2001:db8::1"},
    "slow.example": {"A": TIMEOUT, "TXT": TIMEOUT, "MX": TIMEOUT},
    "mx.example": {"MX": [(10, "other.example"), (20, "mail.example")]},
    "halfslow.example": {"MX": [(10, "slow.example"), (20, "mail.example")]},
    "slowmx.example": {"MX": [(10, "slow.example"), (20, "other.example")]},
    "nullmx.example": {"MX": [(0, "")]},
    "pass.example": txt("v=spf1 +all"),
    "fail.example": txt("v=spf1 -all"),
    "soft.example": txt("v=spf1 ~all"),
    "neutral.example": txt("v=spf1 ?all"),
    "bad.example": txt("v=spf1 moo"),
    "text.example": txt("hello"),
    "loop.example": txt("v=spf1 include:loop.example -all"),
    "self.example": txt("v=spf1 redirect=self.example"),
}

CASES = [
    # record, result, mechanism
    ("v=spf1 -all", R.FAIL, "-all"),
    ("V=SPF1 -ALL", R.FAIL, "-ALL"),
    ("v=spf1", R.NEUTRAL, ""),
    ("v=spf1 ip4:192.0.2.0/24 -all", R.PASS, "ip4:192.0.2.0/24"),
    ("v=spf1 ip4:192.0.3.0/24 ~all", R.SOFTFAIL, "~all"),
    ("v=spf1 ?ip4:0.0.0.0/0", R.NEUTRAL, "?ip4:0.0.0.0/0"),
    ("v=spf1 ip6:::/0 -all", R.FAIL, "-all"),
    ("v=spf1 ip6:::ffff:192.0.2.1 -all", R.FAIL, "-all"),  # RFC 7208 §5
    ("v=spf1 a:mail.example -all", R.PASS, "a:mail.example"),
    ("v=spf1 a:MAIL.example. -all", R.PASS, "a:MAIL.example."),
    ("v=spf1 a:other.example -all", R.FAIL, "-all"),
    ("v=spf1 a:other.example/0 -all", R.PASS, "a:other.example/0"),
    ("v=spf1 a:v6only.example/0 -all", R.FAIL, "-all"),
    ("v=spf1 a:slow.example -all", R.TEMPERROR, ""),
    ("v=spf1 a:foo..example -all", R.FAIL, "-all"),  # RFC 7208 §4.8: no such name
    ("v=spf1 mx:mx.example -all", R.PASS, "mx:mx.example"),
    ("v=spf1 mx:nullmx.example -all", R.FAIL, "-all"),
    ("v=spf1 mx:mail.example -all", R.FAIL, "-all"),  # no implicit MX, RFC 7208 §5.4
    ("v=spf1 mx:slow.example -all", R.TEMPERROR, ""),
    ("v=spf1 mx:halfslow.example -all", R.PASS, "mx:halfslow.example"),
    ("v=spf1 mx:slowmx.example -all", R.TEMPERROR, ""),
    ("v=spf1 exists:other.example -all", R.PASS, "exists:other.example"),
    ("v=spf1 exists:v6only.example -all", R.FAIL, "-all"),
    ("v=spf1 exists:%{ir}.b.example -all", R.FAIL, "-all"),
    ("v=spf1 exists:slow.example -all", R.TEMPERROR, ""),
    # RFC 7208 §5.2
    ("v=spf1 include:pass.example -all", R.PASS, "include:pass.example"),
    ("v=spf1 -include:pass.example ?all", R.FAIL, "-include:pass.example"),
    ("v=spf1 include:fail.example ?all", R.NEUTRAL, "?all"),
    ("v=spf1 include:soft.example ?all", R.NEUTRAL, "?all"),
    ("v=spf1 include:neutral.example -all", R.FAIL, "-all"),
    ("v=spf1 include:slow.example -all", R.TEMPERROR, ""),
    ("v=spf1 include:bad.example -all", R.PERMERROR, ""),
    ("v=spf1 include:text.example -all", R.PERMERROR, ""),
    ("v=spf1 include:gone.example -all", R.PERMERROR, ""),
    ("v=spf1 include:%{h}.b. include:b..example -all", R.PERMERROR, ""),
    ("v=spf1 include:self.example -all", R.PERMERROR, ""),
    # RFC 7208 §6.1
    ("v=spf1 redirect=pass.example", R.PASS, "+all"),
    ("v=spf1 redirect=pass.example -all", R.FAIL, "-all"),
    ("v=spf1 redirect=neutral.example", R.NEUTRAL, "?all"),
    ("v=spf1 redirect=text.example", R.PERMERROR, ""),
    ("v=spf1 redirect=gone.example", R.PERMERROR, ""),
    ("v=spf1 redirect=slow.example", R.TEMPERROR, ""),
    ("v=spf1 redirect=b..example", R.PERMERROR, ""),
    # RFC 7208 §5.5
    ("v=spf1 ptr:deep.example -all", R.PASS, "ptr:deep.example"),  # a.deep.example is
    ("v=spf1 ptr:mail.example -all", R.PASS, "ptr:mail.example"),
    ("v=spf1 ptr:ail.example -all", R.FAIL, "-all"),
    ("v=spf1 ptr:other.example -all", R.FAIL, "-all"),  # named so, but does not lead back
]


@pytest.mark.parametrize(("record", "result", "mechanism"), CASES)
def test_a_record_decides(record: str, result: Result, mechanism: str) -> None:
    zone = Zone(
        {
            **BASE,
            "example.org": txt(record),
            "1.2.0.192.in-addr.arpa": {"PTR": ["other.example", "a.deep.example", "mail.example"]},
        }
    )
    outcome = ask(zone)
    assert outcome.result is result, outcome
    assert outcome.mechanism == mechanism
    assert bool(outcome.reason) is (
        result in (R.TEMPERROR, R.PERMERROR) or (result is R.NEUTRAL and not mechanism)
    )


V6_CASES = [
    ("v=spf1 ip4:0.0.0.0/0 -all", R.FAIL),
    ("v=spf1 ip6:2001:db8::/32 -all", R.PASS),
    ("v=spf1 a:mail.example -all", R.PASS),
    ("v=spf1 a:mail.example/0//127 -all", R.FAIL),
    ("v=spf1 a:mail.example//64 -all", R.PASS),
    ("v=spf1 a:other.example//0 -all", R.FAIL),
    ("v=spf1 exists:other.example -all", R.PASS),
    ("v=spf1 ptr:mail.example -all", R.PASS),
]


@pytest.mark.parametrize(("record", "result"), V6_CASES)
def test_an_ipv6_client_is_judged_by_its_own_addresses(record: str, result: Result) -> None:
    reverse = "9." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    zone = Zone(
        {
            **BASE,
            "mail.example": {
                "AAAA": ["2001:db8::2", "2001:DB8:0::9" if "//" not in record else "2001:db8::6"]
            },
            "example.org": txt(record),
            reverse: {"PTR": "mail.example"},
        }
    )
    assert ask(zone, ip="2001:db8::9").result is result
    assert ask(zone, ip="2001:DB8:0:0::9%eth0").result is result


def test_one_failing_look_up_of_a_ptr_is_no_error() -> None:  # RFC 7208 §5.5
    names = {**BASE, "example.org": txt("v=spf1 ptr:mail.example -all")}
    reverse = "1.2.0.192.in-addr.arpa"
    assert ask(Zone({**names, reverse: {"PTR": TIMEOUT}})).result is R.FAIL
    slow = {"PTR": ["slow.example", "mail.example"]}
    assert ask(Zone({**names, reverse: slow})).result is R.PASS


NAMELESS = [
    "localhost",
    "",
    "..",
    "a..example",
    "a" * 64 + ".example",
    "b." * 126 + "example",
    "\xff\u202e.example",
]


@pytest.mark.parametrize("domain", NAMELESS)
def test_nothing_is_asked_for_what_is_no_domain(domain: str) -> None:  # RFC 7208 §4.3
    zone = Zone({})
    outcome = ask(zone, domain=domain)
    assert outcome.result is R.NONE
    assert not zone.asked
    assert outcome.domain.isascii() and outcome.reason.isascii()


def test_a_reason_is_printable_whatever_the_domain_holds() -> None:
    outcome = ask(Zone({"a\x1f.example": txt("v=spf1")}), domain="a\x1f.example")
    assert outcome.reason == "no mechanism of a?.example matched"


def test_what_is_no_address_gets_no_result() -> None:
    assert ask(Zone(BASE), ip="unix", domain="fail.example").result is R.NONE


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (["v=spf1 -all", "v=spf1 -all"], R.PERMERROR),  # H44
        (["v=spf1 -all", "V=SPF1 +all"], R.PERMERROR),
        (["v=spf1 -all", "v=spf10 +all", "v=spf1+all"], R.FAIL),
        (["v=spf1 -all", b"\x96", "x" * 450_000], R.FAIL),
        (["v=spf2.0/pra +all"], R.NONE),
        ([b"v=spf1 a:\xef\xbb\xbfb.example -all"], R.PERMERROR),
        (["v=spf1 " + "x" * 450_000], R.PERMERROR),  # H44
        (["v=spf1" + " ip4:192.0.2.1" * 32_000], R.PERMERROR),  # H44
    ],
)
def test_one_record_is_selected(records: list[object], result: Result) -> None:  # RFC 7208 §4.5
    outcome = ask(Zone({"example.org": {"TXT": records}}))
    assert outcome.result is result
    assert all(len(each.found) <= 512 for each in outcome.evidence)


def test_a_name_that_does_not_exist_has_no_record() -> None:  # RFC 7208 §4.3, §4.4
    assert ask(Zone({})).result is R.NONE
    outcome = ask(Zone({"example.org": {"TXT": TIMEOUT}}))
    assert outcome.result is R.TEMPERROR
    assert outcome.reason == "TXT example.org: no answer in time"


# --- limits ---


def voids(count: int) -> str:
    return " ".join(f"a:gone{at}.example" for at in range(count))


LIMITED = [
    ("v=spf1" + " a:mail.example/0" * 1 + " -all", R.PASS),
    ("v=spf1" + " a:other.example" * 10 + " ip4:192.0.2.1 -all", R.PASS),
    ("v=spf1" + " a:other.example" * 11 + " ip4:192.0.2.1 -all", R.PERMERROR),  # H44
    ("v=spf1 ip4:192.0.2.1" + " a:other.example" * 11 + " -all", R.PASS),  # never evaluated
    ("v=spf1" + " a:other.example" * 10 + " redirect=pass.example", R.PERMERROR),
    ("v=spf1" + " a:other.example" * 9 + " redirect=pass.example", R.PASS),
    ("v=spf1" + " include:fail.example" * 10 + " ?all", R.NEUTRAL),
    ("v=spf1" + " include:fail.example" * 11 + " ?all", R.PERMERROR),
    ("v=spf1 include:loop.example -all", R.PERMERROR),  # H44
    ("v=spf1 redirect=self.example", R.PERMERROR),  # H44
    ("v=spf1 include:example.org -all", R.PERMERROR),  # H44
    (f"v=spf1 {voids(2)} ?all", R.NEUTRAL),
    (f"v=spf1 {voids(3)} ?all", R.PERMERROR),  # H44
    (f"v=spf1 {voids(2)} exists:gone.example ?all", R.PERMERROR),
    (f"v=spf1 {voids(2)} a:v6only.example ?all", R.PERMERROR),  # no data is void, too
    (f"v=spf1 {voids(2)} ptr ?all", R.PERMERROR),
    (f"v=spf1 {voids(2)} mx:nohosts.example ?all", R.PERMERROR),
    (f"v=spf1 {voids(2)} mx:mx.example ?all", R.PASS),
    ("v=spf1 mx:nohosts.example ?all", R.NEUTRAL),  # four hosts, but one term
    ("v=spf1 mx:ten.example -all", R.FAIL),
    ("v=spf1 mx:eleven.example -all", R.PERMERROR),
    ("v=spf1 mx:many.example -all", R.PERMERROR),  # H44
    ("v=spf1 exists:%{p}.b.example ?all", R.NEUTRAL),
    ("v=spf1" + " a:other.example" * 9 + " exists:%{p}.b.example ?all", R.PERMERROR),
]


@pytest.mark.parametrize(("record", "result"), LIMITED)
def test_terms_that_look_up_are_limited(record: str, result: Result) -> None:  # RFC 7208 §4.6.4
    hosts = [(10, f"gone{at}.example") for at in range(4)]
    zone = Zone(
        {
            **BASE,
            "nohosts.example": {"MX": hosts},
            "ten.example": {"MX": [(at, "other.example") for at in range(10)]},
            "eleven.example": {"MX": [(at, "mail.example") for at in range(11)]},
            "many.example": {"MX": [(at, f"mx{at}.example") for at in range(200)]},
            "example.org": txt(record),
        }
    )
    outcome = ask(zone)
    assert outcome.result is result, outcome
    assert len(zone.asked) <= QUESTIONS_MAX
    assert len(outcome.evidence) <= EVIDENCE_MAX


def test_limits_can_be_set() -> None:
    zone = Zone({**BASE, "example.org": txt(f"v=spf1 {voids(3)} ?all")})
    check = check_host(
        HERE,
        "example.org",
        "",
        helo="",
        identity=SpfIdentity.MAIL_FROM,
        limits=Limits(voids_max=3),
    )
    assert answer(check, zone).result is R.NEUTRAL


def test_of_many_names_of_the_client_ten_are_looked_at() -> None:  # RFC 7208 §4.6.4
    names = [f"n{at}.example" for at in range(200)]
    zone = Zone(
        {
            **{name: {"A": HERE} for name in names},
            "1.2.0.192.in-addr.arpa": {"PTR": names},
            "example.org": txt("v=spf1 ptr:n10.example ?ptr:n9.example -all"),
        }
    )
    assert ask(zone).result is R.NEUTRAL
    assert len(zone.asked) == 1 + 1 + 10  # and once for both terms


def test_the_worst_record_stays_within_the_bound() -> None:  # H44
    hosts = {f"h{at}.example": {"A": "198.51.100.1"} for at in range(20)}
    mx = [(10, name) for name in list(hosts)[:10]]
    zone = Zone(
        {
            **hosts,
            "mx.example": {"MX": mx},
            "1.2.0.192.in-addr.arpa": {"PTR": list(hosts)},
            "example.org": txt("v=spf1" + " mx:mx.example" * 10 + " -all exp=e.%{p}.example"),
        }
    )
    outcome = ask(zone)
    assert outcome.result is R.FAIL
    assert len(zone.asked) == QUESTIONS_MAX
    assert len(outcome.evidence) == EVIDENCE_MAX
    assert outcome.evidence[-1].what == "TXT e.unknown.example"


async def test_what_is_not_answered_in_time_is_a_temporary_error() -> None:  # RFC 7208 §4.6.4, H44
    class Silent:
        async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
            late.now()
            return await asyncio.Future()

        def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
            question = Question(name, record_type)
            return zone(question) if record_type is RecordType.TXT else None

    zone = Zone({**BASE, "example.org": txt("v=spf1 a:mail.example -all")})
    late, budget, resolver = Late(), Budget(100), Silent()
    check = check_host(HERE, "example.org", "", helo="", identity=SpfIdentity.MAIL_FROM)
    suspended = try_known(check, resolver.known, budget)
    assert isinstance(suspended, Suspended)
    outcome = await finish(suspended, resolver, budget, late)
    assert outcome.result is R.TEMPERROR
    assert outcome.reason == f"A mail.example: {TOO_LATE}"


def test_what_one_term_needs_is_asked_at_once() -> None:
    zone = Zone({**BASE, "example.org": txt("v=spf1 mx:mx.example -all")})
    check = check_host(HERE, "example.org", "", helo="", identity=SpfIdentity.MAIL_FROM)
    assert steps(check, zone) == [
        ("TXT example.org",),
        ("MX mx.example",),
        ("A other.example", "A mail.example"),
    ]


# --- explanations ---


def explained(explanation: object, **kwargs: str) -> str:
    record = "v=spf1 exp=why.%{d} -all"
    zone = Zone({"example.org": txt(record), "why.example.org": {"TXT": explanation}})
    outcome = ask(zone, **kwargs)
    assert outcome.result is R.FAIL
    return outcome.explanation


@pytest.mark.parametrize(
    ("explanation", "text"),
    [
        (
            "See http://%{d}/why?s=%{S}&i=%{I}",
            "See http://example.org/why?s=joe%40example.org&i=192.0.2.1",
        ),
        ("%{c} %{r} %{t}", "192.0.2.1 mx.example.net 1700000000"),
        ("%{p} %{v} %{h}", "unknown in-addr mx.example.org"),
        ("", ""),
        ("a.", "a."),
        (["a", "b"], ""),
        (TIMEOUT, ""),
        ([], ""),
        ("\xef\xbb\xbfa", ""),
        ("%{x}", ""),
        ("a\r\n250 ok", ""),  # H44
        ("a\n", ""),  # H44
        ("a\0", ""),
        ("a" * 65_536, ""),  # H44
        ("a" * 8_000, "a" * 480),  # H44
        ("%{s}" * 2_000, ("joe@example.org" * 40)[:480]),  # H44
    ],
)
def test_a_domain_explains_its_failure(explanation: object, text: str) -> None:  # RFC 7208 §6.2
    assert explained(explanation) == text


def test_an_explanation_is_printable_whatever_the_client_said() -> None:  # H44
    said = explained("%{l} %{h}", sender="a\r\n250 b@example.org", helo="x\x1b[2J\r\n")
    assert said == "a??250 b x?[2J??"
    assert explained("%{l}", sender="jörg@example.org") == "j?rg"
    assert explained("%{L}", sender="jörg@example.org") == "j%C3%B6rg"


def test_only_a_failure_is_explained_and_by_its_own_domain() -> None:  # RFC 7208 §6.2
    names = {
        "a.example": txt("v=spf1 -all exp=a.why.example"),
        "b.example": txt("v=spf1 redirect=a.example exp=b.why.example"),
        "c.example": txt("v=spf1 include:a.example -all exp=c.why.example"),
        "d.example": txt("v=spf1 include:a.example -all"),
        "e.example": txt("v=spf1 ~all exp=e.why.example"),
        "f.example": txt("v=spf1 redirect=d.example exp=b.why.example"),
        **{f"{at}.why.example": txt(at) for at in "abcdef"},
    }
    found = {at: ask(Zone(names), domain=f"{at}.example").explanation for at in "abcdef"}
    assert found == {"a": "a", "b": "a", "c": "c", "d": "", "e": "", "f": ""}
    zone = Zone(names)
    ask(zone, domain="e.example")
    assert [str(each) for each in zone.asked] == ["TXT e.example"]


# --- macros in terms ---


def test_macros_build_names() -> None:  # RFC 7208 §7
    record = "v=spf1 exists:%{ir}.%{l1r-}.%{d2}.b.example exists:%{h}.c.example ?all"
    zone = Zone({"sub.example.org": txt(record)})
    ask(zone, domain="sub.example.org", sender="strong-bad@other.example", helo="Hello World")
    assert [str(each) for each in zone.asked[1:]] == [
        "A 1.2.0.192.strong.example.org.b.example",
        "A hello\\032world.c.example",
    ]


def test_in_an_include_the_domain_is_the_included_one() -> None:  # RFC 7208 §5.2, §7.3
    zone = Zone(
        {
            "example.org": txt("v=spf1 include:in.example exists:%{d}.x.example ?all"),
            "in.example": txt("v=spf1 exists:%{d}.%{o}.%{l}.x.example -all"),
        }
    )
    ask(zone, sender="joe@sender.example")
    assert [str(each) for each in zone.asked[2:]] == [
        "A in.example.sender.example.joe.x.example",
        "A example.org.x.example",
    ]


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (["a.example", "example.org"], "example.org"),
        (["a.example", "b.example.org"], "b.example.org"),
        (["a.example", "b.example"], "a.example"),
        (["gone.example"], "unknown"),
        (["x\\032y.example"], "unknown"),
    ],
)
def test_the_p_macro_prefers_names_within_the_domain(
    names: list[str], used: str
) -> None:  # RFC 7208 §7.3
    zone = Zone(
        {
            **{name: {"A": HERE} for name in names if not name.startswith("gone")},
            "1.2.0.192.in-addr.arpa": {"PTR": names},
        }
    )
    assert answer_p(zone) == used


def answer_p(zone: Zone) -> str:
    def answers(question: object) -> object:
        if str(question) == "TXT example.org":
            return Zone({"example.org": txt("v=spf1 exists:%{p}.b.c.d ?all")})(question)
        return zone(question)

    check = check_host(HERE, "example.org", "", helo="", identity=SpfIdentity.MAIL_FROM)
    answer(check, answers)
    return zone.asked[-1].name.removesuffix(".b.c.d")


def test_names_of_other_scripts_are_asked_for_in_a_labels() -> None:  # RFC 8616 §4
    zone = Zone({"xn--strae-oqa.example": txt("v=spf1 exists:%{o}.b.example -all")})
    outcome = ask(zone, domain="straße.example")
    assert outcome.domain == "xn--strae-oqa.example"
    assert outcome.sender == "joe@xn--strae-oqa.example"
    assert str(zone.asked[1]) == "A xn--strae-oqa.example.b.example"


def test_a_local_part_outside_ascii_matches_no_term_that_has_it() -> None:  # RFC 8616 §4
    record = "v=spf1 exists:%{l}.b.example include:%{L}.b.example exists:%{s} -exists:c.example"
    zone = Zone({"example.org": txt(record), "c.example": {"A": HERE}})
    assert ask(zone, sender="jörg@example.org").result is R.FAIL
    assert [str(each) for each in zone.asked] == ["TXT example.org", "A c.example"]
    zone = Zone({"example.org": txt("v=spf1 redirect=%{l}.b.example")})
    assert ask(zone, sender="jörg@example.org").result is R.PERMERROR  # RFC 7208 §6.1


# --- identities ---

MX = "mx.example.org"


def test_both_identities_are_checked_side_by_side() -> None:  # RFC 7208 §2.3, §2.4
    zone = Zone(
        {
            MX: {"TXT": "v=spf1 a -all", "A": HERE},
            "example.org": txt("v=spf1 include:in.example -all"),
            "in.example": txt("v=spf1 exists:b.example -all"),
        }
    )
    check = verify(HERE, MX, Address("joe", "example.org"))
    assert steps(check, zone) == [
        (f"TXT {MX}", "TXT example.org"),
        (f"A {MX}", "TXT in.example"),
        ("A b.example",),
    ]
    helo, mail_from = answer(verify(HERE, MX, Address("joe", "example.org")), zone)
    assert (helo.result, helo.identity, helo.sender) == (
        R.PASS,
        SpfIdentity.HELO,
        f"postmaster@{MX}",
    )
    assert (mail_from.result, mail_from.identity, mail_from.sender) == (
        R.FAIL,
        SpfIdentity.MAIL_FROM,
        "joe@example.org",
    )


def test_the_null_reverse_path_is_postmaster_at_helo() -> None:  # RFC 7208 §2.4
    zone = Zone({MX: txt("v=spf1 exists:%{l}.b.example -all"), "postmaster.b.example": {"A": HERE}})
    helo, mail_from = answer(verify(HERE, MX, None), zone)
    assert helo.result is mail_from.result is R.PASS
    assert mail_from.identity is SpfIdentity.MAIL_FROM
    assert mail_from.sender == f"postmaster@{MX}"
    assert len(zone.asked) == 2  # not twice


@pytest.mark.parametrize(
    "helo",
    [
        "",
        "localhost",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "192.0.2.1",
        "JUMPIN' JUPITER",
        "a b.example",
        "a..example",
        "x" * 500 + ".example",
        "\r\n.example",
    ],
)
def test_a_helo_that_is_no_host_name_has_no_result(helo: str) -> None:  # RFC 7208 §2.3
    zone = Zone({})
    for outcome in answer(verify(HERE, helo, None), zone):
        assert outcome.result is R.NONE
        assert outcome.reason
        assert outcome.reason.startswith("the client named itself") is (not helo)
        assert outcome.domain.isascii() and outcome.domain.isprintable()
    assert not zone.asked
    assert (
        answer(verify(HERE, helo, Address("joe", "fail.example")), Zone(BASE))[1].result is R.FAIL
    )


def test_a_sender_at_an_address_literal_has_no_result() -> None:
    zone = Zone({})
    helo, mail_from = answer(verify(HERE, MX, Address("joe", "[192.0.2.1]")), zone)
    assert mail_from.result is R.NONE
    assert helo.result is R.NONE
    assert [str(each) for each in zone.asked] == [f"TXT {MX}"]


# --- evidence ---


def test_evidence_tells_what_was_asked_and_found() -> None:
    zone = Zone(
        {
            **BASE,
            "example.org": txt("v=spf1 a:other.example mx:mx.example -all"),
        }
    )
    found = [(each.what, each.found) for each in ask(zone).evidence]
    assert found == [
        ("TXT example.org", "v=spf1 a:other.example mx:mx.example -all"),
        ("A other.example", "198.51.100.1"),
        ("MX mx.example", "10 other.example, 20 mail.example"),
        ("A mail.example", "192.0.2.1"),
    ]


def test_a_record_is_parsed_once() -> None:
    octets = b"v=spf1 ip4:192.0.2.1 -all"
    assert parse_record(octets) is parse_record(bytes(bytearray(octets)))
