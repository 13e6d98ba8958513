"""The tree walk: RFC 9989 §4.10, with the examples of Appendix B.4 and §5.1.8."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth import questions
from posthouse.mailauth.dmarc.discover import NAMES_MAX, SEVERAL, Discovered, find_policy, steps
from posthouse.mailauth.results import DmarcPolicy
from tests.mailauth.dmarc.zone import FAILS, Zone

P, PSD, OWN = "v=DMARC1; p=reject", "v=DMARC1; p=reject; psd=y", "v=DMARC1; p=reject; psd=n"


def walk(domain: str, zone: dict) -> Discovered:
    return Zone(zone).run(find_policy(domain))


def where(policy: DmarcPolicy | None) -> str | None:
    return None if policy is None else policy.domain


# RFC 9989 §4.10: the illustration
def test_a_walk_asks_for_eight_names_at_most() -> None:  # H45
    zone = Zone({})
    zone.run(find_policy("a.b.c.d.e.f.g.h.i.j.mail.example.com"))
    assert zone.rounds == [
        [
            "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com",
            "_dmarc.g.h.i.j.mail.example.com",
            "_dmarc.h.i.j.mail.example.com",
            "_dmarc.i.j.mail.example.com",
            "_dmarc.j.mail.example.com",
            "_dmarc.mail.example.com",
            "_dmarc.example.com",
            "_dmarc.com",
        ]
    ]


# RFC 9989 §5.1.8
def test_the_walk_of_a_large_organization() -> None:
    asked = [step.question.name for step in steps("mail.a.b.c.d.e.f.g.example.com")]
    assert asked == [
        "_dmarc.mail.a.b.c.d.e.f.g.example.com",
        "_dmarc.c.d.e.f.g.example.com",
        "_dmarc.d.e.f.g.example.com",
        "_dmarc.e.f.g.example.com",
        "_dmarc.f.g.example.com",
        "_dmarc.g.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
    ]


@pytest.mark.parametrize(
    ("labels", "names"), [(1, 1), (2, 2), (6, 6), (7, 7), (8, 8), (9, 8), (10, 8), (120, 8)]
)
def test_the_number_of_questions(labels: int, names: int) -> None:  # H45: a name of 120 labels
    domain = ".".join(["a"] * labels)
    asked = [step.domain for step in steps(domain)]
    assert len(asked) == names <= NAMES_MAX
    assert asked[0] == domain
    assert all(above.endswith(f".{below}") for above, below in itertools.pairwise(asked))
    assert asked[-1] == "a"


BANK = {"bank.example": PSD, "giant.bank.example": P}
SIGNING = {"example.com": P, "signing.example.com": P}
MIDDLE = {"b.example.com": P, "example.com": "v=DMARC1; p=none"}
DEEP = "a.b.c.d.e.f.g.h.i.j.k.example.com"
# Walked from, records, organizational domain, where the policy is.
TABLE = [
    # RFC 9989 §4.10.2: the three examples behind the rules
    ("a.mail.example.com", {"mail.example.com": P, "example.com": P}, "example.com", "example.com"),
    ("a.mail.example.com", {"mail.example.com": OWN}, "mail.example.com", "mail.example.com"),
    ("a.mail.example.com", {"com": PSD}, "example.com", "com"),
    # RFC 9989 §4.10.2, rule 2
    ("mail.example.com", {"example.com": PSD}, "mail.example.com", "example.com"),
    # RFC 9989 Appendix B.4.1
    ("example.com", SIGNING, "example.com", "example.com"),
    ("signing.example.com", SIGNING, "example.com", "signing.example.com"),
    # RFC 9989 Appendix B.4.2
    (DEEP, SIGNING, "example.com", "example.com"),
    # RFC 9989 Appendix B.4.3
    ("giant.bank.example", BANK, "giant.bank.example", "giant.bank.example"),
    ("mail.giant.bank.example", BANK, "giant.bank.example", "giant.bank.example"),
    ("mail.mega.bank.example", BANK, "mega.bank.example", "bank.example"),
    # RFC 9989 §4.10.1: a record between author and organization applies to neither's mail
    ("a.b.example.com", MIDDLE, "example.com", "example.com"),
    ("a.b.bank.example", {"b.bank.example": P, **BANK}, "b.bank.example", "b.bank.example"),
    ("a.b.c.bank.example", {"b.c.bank.example": P, **BANK}, "c.bank.example", "bank.example"),
    # RFC 9989 §4.10, step 2: psd=n ends the walk
    ("a.example.com", {"a.example.com": OWN, "example.com": P}, "a.example.com", "a.example.com"),
    ("a.b.example", {"b.example": OWN, "example": PSD}, "b.example", "b.example"),
    # rule 2: "other than the one for the domain where the Tree Walk started"
    ("bank.example", {"bank.example": PSD, "example": P}, "bank.example", "bank.example"),
    ("a.example.com", {}, "a.example.com", None),
    ("localhost", {"localhost": P}, "localhost", "localhost"),
    # A name that the walk leaves out is not found, whatever it holds.
    ("1.2.3.4.5.6.7.8.9.com", {"3.4.5.6.7.8.9.com": P, "com": PSD}, "9.com", "com"),
    # RFC 9989 §4.10, step 2: several are none, and others' records are not counted
    ("a.example.com", {"a.example.com": (P, P), "example.com": P}, "example.com", "example.com"),
    ("example.com", {"example.com": ("v=spf1 -all", P, "x")}, "example.com", "example.com"),
    ("example.com", {"example.com": ("v=spf1 -all", "x")}, "example.com", None),
]


@pytest.mark.parametrize(("domain", "zone", "organization", "policy"), TABLE)
def test_organizational_domains_and_policies(
    domain: str, zone: dict, organization: str, policy: str | None
) -> None:
    found = walk(domain, zone)
    assert (found.organizational_domain, where(found.policy)) == (organization, policy)
    assert not found.failure


SUB = "a.example.com"
FAILING = [
    ("example.com", {"example.com": FAILS}, None, None),
    (SUB, {SUB: P, "example.com": FAILS}, SUB, None),
    (SUB, {"example.com": FAILS, "com": PSD}, None, None),
    (SUB, {SUB: OWN, "com": FAILS}, SUB, SUB),  # psd=n comes before it
    ("a.b.example", {"b.example": PSD, "example": FAILS}, "b.example", "a.b.example"),
]


@pytest.mark.parametrize(("domain", "zone", "policy", "organization"), FAILING)
def test_a_failed_question_matters_where_the_walk_comes_to_it(
    domain: str, zone: dict, policy: str | None, organization: str | None
) -> None:  # RFC 9989 §5.3.6
    found = walk(domain, zone)
    assert (where(found.policy), found.organizational_domain) == (policy, organization)
    assert bool(found.failure) is (organization is None)


def test_evidence_shows_the_walk_up_to_where_it_ended() -> None:
    found = walk("a.b.bank.example", {"bank.example": PSD, "b.bank.example": (P, P)})
    assert [(each.what, each.found) for each in found.evidence] == [
        ("TXT _dmarc.a.b.bank.example", "no such name"),
        ("TXT _dmarc.b.bank.example", SEVERAL),
        ("TXT _dmarc.bank.example", PSD),
    ]


LABEL = st.sampled_from(["a", "b", "example", "com"])
DOMAINS = st.lists(LABEL, min_size=1, max_size=12).map(".".join)


@given(DOMAINS, st.dictionaries(DOMAINS, st.sampled_from([P, PSD, OWN, (P, OWN), "x", FAILS])))
def test_a_walk_stays_among_the_names_above(domain: str, zone: dict) -> None:
    def above(name: str) -> bool:
        return domain == name or domain.endswith(f".{name}")

    kept = Zone(zone)
    found = kept.run(find_policy(domain))
    assert len(kept.asked) <= NAMES_MAX
    assert len(kept.rounds) == 1
    assert found.organizational_domain is None or above(found.organizational_domain)
    assert found.policy is None or above(found.policy.domain)
    assert (found.organizational_domain is None) is bool(found.failure)
    if isinstance(own := zone.get(domain), str) and own.startswith("v="):
        assert where(found.policy) == domain  # §4.10.1: it is preferred to all others
    again = questions.answer(find_policy(domain), Zone(zone).answer)
    assert again == found
