"""DMARC's result: RFC 9989 §4.4, §4.10.2, §5.3, §11.5, with the examples of Appendix B."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ports import DnsAnswer, DnsStatus
from posthouse.mailauth.check import RESERVED
from posthouse.mailauth.dmarc.discover import NAMES_MAX, find_policy
from posthouse.mailauth.dmarc.evaluate import (
    AUTHOR_DOMAINS_MAX,
    IDENTIFIERS_MAX,
    NO_AUTHOR,
    TOO_MANY_AUTHORS,
    evaluate,
    strictest,
)
from posthouse.mailauth.questions import Budget, Question, Suspended, try_known
from posthouse.mailauth.results import (
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    Result,
    SpfIdentity,
    SpfOutcome,
)
from tests.mailauth.dmarc.zone import FAILS, Zone

PASS, FAIL, NONE = Result.PASS, Result.FAIL, Result.NONE
TEMPERROR, PERMERROR = Result.TEMPERROR, Result.PERMERROR
REJECT, QUARANTINE = Disposition.REJECT, Disposition.QUARANTINE
P, PSD, OWN = "v=DMARC1; p=reject", "v=DMARC1; p=reject; psd=y", "v=DMARC1; p=reject; psd=n"
STRICT = "v=DMARC1; p=reject; adkim=s; aspf=s"


def spf(
    domain: str, result: Result = PASS, identity: SpfIdentity = SpfIdentity.MAIL_FROM
) -> SpfOutcome:
    return SpfOutcome(result=result, identity=identity, domain=domain, sender=f"a@{domain}")


def dkim(domain: str, result: Result = PASS, **more: bool) -> DkimOutcome:
    return DkimOutcome(result=result, domain=domain, **more)


def judge(
    author: str,
    zone: dict | Zone,
    *signatures: DkimOutcome,
    mail_from: SpfOutcome | None = None,
) -> DmarcOutcome:
    held = zone if isinstance(zone, Zone) else Zone(zone)
    (outcome,) = held.run(evaluate((author,), mail_from, signatures))
    return outcome


# RFC 9989 Table 1, Appendix B.1.1 and B.1.2; author, authenticated, relaxed, strict
EXAMPLES = [
    ("news.example.com", "foo.example.com", True, False),  # Table 1
    ("news.example.com", "news.example.com", True, True),
    ("news.example.com", "foo.example.net", False, False),
    ("example.com", "example.com", True, True),  # B.1.1, 1
    ("example.com", "child.example.com", True, False),  # B.1.1, 2
    ("child.example.com", "example.net", False, False),  # B.1.1, 3
    ("child.example.com", "example.com", True, False),  # B.1.2, 2
    ("example.com", "notexample.com", False, False),
    ("example.com", "com", False, False),
]


@pytest.mark.parametrize(("author", "authenticated", "relaxed", "strict"), EXAMPLES)
def test_alignment_of_the_examples(
    author: str, authenticated: str, relaxed: bool, strict: bool
) -> None:
    for record, expected in ((P, relaxed), (STRICT, strict)):
        zone = {"example.com": record, "example.net": record}
        by_spf = judge(author, zone, mail_from=spf(authenticated))
        by_dkim = judge(author, zone, dkim(authenticated))
        assert (by_spf.is_spf_aligned, by_spf.is_dkim_aligned) == (expected, False)
        assert (by_dkim.is_spf_aligned, by_dkim.is_dkim_aligned) == (False, expected)
        assert by_spf.result is by_dkim.result is (PASS if expected else FAIL)
        assert by_dkim.aligned_signature == (authenticated if expected else "")
        assert by_spf.requested is by_dkim.requested is REJECT


# RFC 9989 Appendix B.3.1
def test_the_session_of_the_appendix() -> None:
    record = "v=DMARC1; p=reject; aspf=r; rua=mailto:dmarc-feedback@example.com"
    outcome = judge(
        "example.com",
        {"example.com": record},
        dkim("example.com"),
        mail_from=spf("mail.example.com"),
    )
    assert outcome.result is PASS
    assert outcome.is_spf_aligned and outcome.is_dkim_aligned


# RFC 9989 Appendix B.4: author, MAIL FROM, signer; which are aligned
WALKS = [
    (
        {"example.com": P, "signing.example.com": P},
        ("example.com", "example.com", "signing.example.com"),
        (True, True),
    ),  # B.4.1
    (
        {"example.com": P, "signing.example.com": P},
        ("a.b.c.d.e.f.g.h.i.j.k.example.com", "example.com", "signing.example.com"),
        (True, True),
    ),  # B.4.2
    (
        {"bank.example": PSD, "giant.bank.example": P},
        ("giant.bank.example", "mail.giant.bank.example", "mail.mega.bank.example"),
        (True, False),
    ),  # B.4.3
    # RFC 9989 §5.1.8: psd=n parts a department from the rest
    (
        {"example.com": P, "dep.example.com": OWN},
        ("example.com", "dep.example.com", "a.dep.example.com"),
        (False, False),
    ),
    (
        {"example.com": P, "dep.example.com": OWN},
        ("a.dep.example.com", "example.com", "b.dep.example.com"),
        (False, True),
    ),
    # RFC 9989 §11.8: a suffix without psd=y makes strangers one organization, as the RFC warns
    ({"com": P}, ("a.com", "b.com", "c.com"), (True, True)),
    ({"com": PSD}, ("a.com", "b.com", "x.a.com"), (False, True)),
]


@pytest.mark.parametrize(("zone", "names", "aligned"), WALKS)
def test_alignment_by_tree_walks(
    zone: dict, names: tuple[str, str, str], aligned: tuple[bool, bool]
) -> None:
    author, mail_from, signer = names
    outcome = judge(author, zone, dkim(signer), mail_from=spf(mail_from))
    assert (outcome.is_spf_aligned, outcome.is_dkim_aligned) == aligned
    assert outcome.result is (PASS if any(aligned) else FAIL)


# --- who may speak for an author ---


@pytest.mark.parametrize(
    "outcome",
    [
        spf("example.com", FAIL),
        spf("example.com", Result.SOFTFAIL),
        spf("example.com", Result.NEUTRAL),
        spf("example.com", NONE),
        spf("example.com", PERMERROR),
        spf("example.com", PASS, SpfIdentity.HELO),  # RFC 9989 §4.4.2
        spf(""),
        None,
    ],
)
def test_spf_that_is_no_pass_of_mail_from_authenticates_nothing(
    outcome: SpfOutcome | None,
) -> None:
    found = judge("example.com", {"example.com": P}, mail_from=outcome)
    assert (found.result, found.reason) == (FAIL, "neither SPF nor DKIM passed")


@pytest.mark.parametrize(
    "outcome",
    [
        dkim("example.com", FAIL),
        dkim("example.com", Result.NEUTRAL),
        dkim("example.com", PERMERROR),
        dkim("example.com", Result.POLICY, is_partial=True),
        dkim("", PASS),
    ],
)
def test_signatures_that_authenticate_nothing(outcome: DkimOutcome) -> None:
    assert judge("example.com", {"example.com": P}, outcome).result is FAIL


def test_any_aligned_signature_is_enough() -> None:  # RFC 9989 §4.4.1
    found = judge(
        "example.com",
        {"example.com": P},
        dkim("example.com", FAIL),
        dkim("list.example.net"),
        dkim("Mail.Example.com"),
    )
    assert (found.result, found.aligned_signature) == (PASS, "mail.example.com")


# --- which policy ---

ASKS = [
    ("example.com", "p=reject; sp=none; np=none", REJECT),
    ("there.example.com", "p=reject", REJECT),
    ("there.example.com", "p=reject; sp=quarantine", QUARANTINE),
    ("there.example.com", "p=none; sp=quarantine; np=reject", QUARANTINE),
    ("gone.example.com", "p=none; sp=quarantine; np=reject", REJECT),
    ("gone.example.com", "p=none; np=reject", REJECT),
    ("there.example.com", "p=none; np=reject", Disposition.NONE),
    ("gone.example.com", "p=none; sp=quarantine", QUARANTINE),
    ("gone.example.com", "p=quarantine", QUARANTINE),
    # t=y takes it down one step (RFC 9989 §4.7)
    ("example.com", "p=reject; t=y", QUARANTINE),
    ("example.com", "p=quarantine; t=y", Disposition.NONE),
    ("example.com", "p=none; t=y", Disposition.NONE),
    ("gone.example.com", "p=none; np=reject; t=y", QUARANTINE),
    # RFC 7489's pct is no more (RFC 9989 Appendix A.6)
    ("example.com", "p=reject; pct=0", REJECT),
    ("example.com", "p=reject; pct=-1", REJECT),  # H45
]


@pytest.mark.parametrize(("author", "tags", "requested"), ASKS)
def test_what_the_policy_asks_for(author: str, tags: str, requested: Disposition) -> None:
    zone = Zone({"example.com": f"v=DMARC1; {tags}"}, exists=("there.example.com",))
    outcome = judge(author, zone)
    assert (outcome.result, outcome.requested) == (FAIL, requested)


def test_a_policy_of_the_suffix_covers_who_has_none() -> None:  # RFC 9989 §4.10.1
    zone = {"bank.example": "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"}
    outcome = judge("gone.bank.example", zone)
    assert (outcome.requested, outcome.organizational_domain) == (REJECT, "gone.bank.example")
    assert judge("there.bank.example", Zone(zone, exists=("there.bank.example",))).requested is (
        QUARANTINE
    )


@pytest.mark.parametrize(
    ("status", "result", "requested"),
    [
        (DnsStatus.NO_NAME, FAIL, REJECT),
        (DnsStatus.NO_DATA, FAIL, QUARANTINE),
        (DnsStatus.TEMPFAIL, TEMPERROR, REJECT),  # RFC 9989 §5.3.6; the stricter of the two
    ],
)
def test_existence_is_what_the_dns_says(
    status: DnsStatus, result: Result, requested: Disposition
) -> None:  # RFC 9989 §3.2.13, Appendix A.4
    zone = Zone({"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"})
    policies = zone.answer
    zone.answer = lambda question: (  # type: ignore[method-assign]
        DnsAnswer(status=status) if question.name == "a.example.com" else policies(question)
    )
    outcome = judge("a.example.com", zone)
    assert (outcome.result, outcome.requested) == (result, requested)
    assert judge("a.example.com", zone, dkim("a.example.com")).result is PASS


def test_existence_is_asked_for_only_where_it_decides() -> None:
    for tags in (
        "p=reject",
        "p=none; sp=reject",
        "p=reject; np=reject",
        "p=none;sp=reject;np=reject",
    ):
        zone = Zone({"example.com": f"v=DMARC1; {tags}"})
        judge("a.example.com", zone)
        assert len(zone.rounds) == 1
    known = Zone({"a.example.com": ("x",), "example.com": "v=DMARC1; p=none; np=reject"})
    assert judge("a.example.com", known).requested is Disposition.NONE
    assert len(known.rounds) == 1  # there is a TXT record below it, so it is there


def test_without_a_policy_dmarc_does_not_apply() -> None:  # RFC 9989 §4.10.1
    outcome = judge("example.com", {}, dkim("example.com"), mail_from=spf("example.com"))
    assert (outcome.result, outcome.policy) == (NONE, None)


def test_a_policy_that_asks_for_nothing_is_an_error_with_a_reason() -> None:  # RFC 9989 §9.2
    outcome = judge("example.com", {"example.com": "v=DMARC1; p=rejct"}, dkim("example.com"))
    assert (outcome.result, outcome.requested) == (PERMERROR, Disposition.NONE)
    assert "no valid p=" in outcome.reason


# --- failures of the DNS, RFC 9989 §5.3.6 ---

ON = "v=DMARC1; p=reject"
TROUBLE = [
    # no policy can be told
    ({"example.com": FAILS}, None, (), TEMPERROR),
    ({"com": FAILS}, None, (), TEMPERROR),
    # the policy is known and what passed is the very domain
    ({"example.com": ON, "com": FAILS}, spf("example.com"), (), PASS),
    ({"example.com": STRICT, "com": FAILS}, spf("a.example.com"), (), FAIL),
    ({"example.com": ON, "com": FAILS}, spf("example.net"), (), FAIL),
    ({"example.com": ON, "com": FAILS}, spf("a.example.com"), (), TEMPERROR),
    # the organizational domain of what passed
    ({"example.com": ON, "a.example.com": FAILS}, spf("a.example.com"), (), TEMPERROR),
    ({"example.com": ON, "a.example.com": FAILS}, spf("a.example.com"), ("example.com",), PASS),
    # SPF and DKIM that could not be decided, where deciding would have helped
    ({"example.com": ON}, spf("example.com", TEMPERROR), (), TEMPERROR),
    ({"example.com": ON}, spf("a.example.com", TEMPERROR), (), TEMPERROR),
    ({"example.com": STRICT}, spf("a.example.com", TEMPERROR), (), FAIL),
    ({"example.com": STRICT}, spf("example.com", TEMPERROR), (), TEMPERROR),
    ({"example.com": ON}, spf("example.net", TEMPERROR), (), FAIL),
    ({"example.com": ON}, spf("example.com", TEMPERROR), ("example.com",), PASS),
]


@pytest.mark.parametrize(("zone", "mail_from", "signers", "result"), TROUBLE)
def test_what_failing_dns_leaves(
    zone: dict, mail_from: SpfOutcome | None, signers: tuple[str, ...], result: Result
) -> None:
    signatures = [dkim(name) for name in signers]
    outcome = judge("example.com", zone, *signatures, mail_from=mail_from)
    assert outcome.result is result
    if result is TEMPERROR:
        assert outcome.reason
        held = zone.get("example.com", FAILS)
        assert outcome.requested is (REJECT if isinstance(held, str) else Disposition.NONE)


def test_a_signature_whose_key_could_not_be_had_leaves_it_open() -> None:
    for domain, result in (("example.com", TEMPERROR), ("example.net", FAIL)):
        outcome = judge("example.com", {"example.com": ON}, dkim(domain, TEMPERROR))
        assert outcome.result is result


# --- several authors ---


def test_each_author_domain_is_judged_and_the_strictest_failure_counts() -> None:  # H33
    zone = Zone(
        {
            "evil.example": "v=DMARC1; p=none",
            "bank.example": P,
            "shop.example": "v=DMARC1; p=quarantine",
        }
    )
    authors = ("evil.example", "shop.example", "bank.example")
    outcomes = zone.run(evaluate(authors, spf("evil.example"), [dkim("evil.example")]))
    assert [each.from_domain for each in outcomes] == list(authors)
    assert [each.result for each in outcomes] == [PASS, FAIL, FAIL]
    counts = strictest(outcomes)
    assert (counts.from_domain, counts.requested) == ("bank.example", REJECT)
    assert len(zone.rounds) == 1


def test_nobody_escapes_behind_many_or_unreadable_authors() -> None:  # H33
    many = tuple(f"d{n}.example" for n in range(AUTHOR_DOMAINS_MAX + 1))
    zone = Zone({"example": "v=DMARC1; p=none", "d0.example": "v=DMARC1; p=none"})
    outcomes = zone.run(evaluate(many, spf("d0.example"), ()))
    assert len(outcomes) == AUTHOR_DOMAINS_MAX + 1
    assert strictest(outcomes).reason == TOO_MANY_AUTHORS
    assert len(zone.asked) <= NAMES_MAX * AUTHOR_DOMAINS_MAX
    for authors in ((), ("d0.example",)):
        found = Zone({}).run(evaluate(authors, spf("d0.example"), (), fault="no domain"))
        assert strictest(found).result is PERMERROR
    (none,) = Zone({}).run(evaluate((), None, ()))
    assert (none.result, none.reason) == (PERMERROR, NO_AUTHOR)


def test_the_longest_names_of_others_leave_questions_for_the_last_author() -> None:  # H33, H45
    """What is kept back for DMARC covers the walks of all authors that are judged."""
    authors = [f"a.b.c.d.e.f.g{n}.example" for n in range(AUTHOR_DOMAINS_MAX - 1)]
    records = {"bank.example": P}
    step = try_known(
        evaluate((*authors, "bank.example"), None, ()),
        lambda name, kind: Zone(records).answer(Question(name, kind)),
        Budget(RESERVED),
    )
    assert not isinstance(step, Suspended)
    assert strictest(step).from_domain == "bank.example"
    assert AUTHOR_DOMAINS_MAX * NAMES_MAX <= RESERVED


def test_a_domain_named_twice_is_judged_once() -> None:
    assert len(Zone({}).run(evaluate(("a.example", "a.example"), None, ()))) == 1


STRICTNESS = [
    (PASS, REJECT),
    (NONE, Disposition.NONE),
    (TEMPERROR, Disposition.NONE),
    (FAIL, Disposition.NONE),
    (PERMERROR, Disposition.NONE),
    (TEMPERROR, QUARANTINE),
    (FAIL, QUARANTINE),
    (TEMPERROR, REJECT),
    (FAIL, REJECT),
]


def test_the_order_of_strictness() -> None:  # RFC 9989 §11.5
    outcomes = [
        DmarcOutcome(result=result, from_domain="x.example", requested=requested)
        for result, requested in STRICTNESS
    ]
    for count in range(1, len(outcomes) + 1):
        assert strictest(outcomes[:count]) is outcomes[count - 1]
        assert strictest(outcomes[:count][::-1]) is outcomes[count - 1]


# --- how much is asked for ---


def test_equal_domains_need_no_walk_of_their_own() -> None:
    zone = Zone({"example.com": P})
    judge(
        "example.com",
        zone,
        dkim("example.com"),
        dkim("esp.example.net"),
        mail_from=spf("example.com"),
    )
    assert zone.rounds == [["_dmarc.example.com", "_dmarc.com"]]


def test_a_name_below_the_author_needs_one_question_more() -> None:
    zone = Zone({"example.com": P})
    judge("example.com", zone, dkim("esp.example.net"), mail_from=spf("bounce.example.com"))
    assert zone.rounds[1:] == [["_dmarc.bounce.example.com"]]


def test_strangers_are_never_walked() -> None:  # H45
    zone = Zone({"example.com": P})
    signers = [dkim(f"a.b.c.d{n}.example.net") for n in range(50)]
    judge("example.com", zone, *signers, mail_from=spf("x.example.org"))
    assert len(zone.rounds) == 1


def test_many_deep_identifiers_cost_a_bounded_number_of_questions() -> None:  # H45
    zone = Zone({"example.com": P, **{f"n{n}.example.com": OWN for n in range(50)}})
    signers = [dkim(f"a.b.c.d.e.f.g.n{n}.example.com") for n in range(50)]
    assert judge("example.com", zone, *signers).result is FAIL
    assert len(zone.rounds) == 2
    assert len(zone.asked) <= 2 + IDENTIFIERS_MAX * 8


# --- properties ---

LABEL = st.sampled_from(["a", "b", "c", "example"])
DOMAINS = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
RECORDS = st.sampled_from([P, PSD, OWN, STRICT, "v=DMARC1; p=none; sp=reject; np=quarantine; t=y"])


@given(DOMAINS, DOMAINS, st.dictionaries(DOMAINS, RECORDS))
def test_relaxed_alignment_is_having_one_organization(author: str, signer: str, zone: dict) -> None:
    """Against the rule as RFC 9989 §4.10.2 states it, walks for both and no shortcuts."""
    outcome = judge(author, zone, dkim(signer))
    ours, theirs = Zone(zone).run(find_policy(author)), Zone(zone).run(find_policy(signer))
    if ours.policy is None:
        assert outcome.result is NONE
        return
    same = ours.organizational_domain == theirs.organizational_domain
    is_strict = ours.policy.dkim_alignment.value == "s"
    assert outcome.is_dkim_aligned is (author == signer or (same and not is_strict))
    assert outcome.result is (PASS if outcome.is_dkim_aligned else FAIL)


@given(DOMAINS, DOMAINS, DOMAINS, st.dictionaries(DOMAINS, st.one_of(RECORDS, st.just(FAILS))))
def test_what_is_decided_despite_failing_dns_is_what_whole_answers_decide(
    author: str, signer: str, mail_from: str, zone: dict
) -> None:
    outcome = judge(author, zone, dkim(signer), mail_from=spf(mail_from))
    if outcome.result is TEMPERROR:
        return
    for said in (None, P, PSD, OWN):
        filled = ((name, said if held is FAILS else held) for name, held in zone.items())
        healed = {name: held for name, held in filled if held is not None}
        whole = judge(author, healed, dkim(signer), mail_from=spf(mail_from))
        assert whole.result is outcome.result


@given(DOMAINS, DOMAINS, st.dictionaries(DOMAINS, RECORDS))
def test_order_and_repeats_of_signatures_change_nothing(
    author: str, signer: str, zone: dict
) -> None:
    one = judge(author, zone, dkim(signer), dkim("else.test"))
    other = judge(author, zone, dkim("else.test"), dkim(signer), dkim(signer))
    assert (one.result, one.aligned_signature) == (other.result, other.aligned_signature)


def test_a_key_left_in_testing_mode_proves_what_it_signs() -> None:
    """Deviation from RFC 6376 §3.6.1, argued at `evaluate._of_dkim`."""
    outcome = dkim("example.com", PASS, is_testing=True)
    assert judge("example.com", {"example.com": P}, outcome).result is PASS


def test_a_partial_signature_counts_where_the_checks_let_it_pass() -> None:
    """They do so only as told (`mailauth.accepts_partial`); else its result is policy."""
    outcome = dkim("example.com", PASS, is_partial=True)
    assert judge("example.com", {"example.com": P}, outcome).result is PASS
