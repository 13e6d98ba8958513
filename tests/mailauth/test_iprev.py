"""Reverse DNS: RFC 8601 §3 and the results of §2.7.3."""

from __future__ import annotations

import pytest

from posthouse.kernel.ports import DnsAnswer, DnsStatus
from posthouse.mailauth import questions
from posthouse.mailauth.iprev import NAMES_MAX, check
from posthouse.mailauth.questions import Question
from posthouse.mailauth.results import IprevOutcome, Result

FAILS = DnsAnswer(status=DnsStatus.TEMPFAIL, detail="SERVFAIL")
V4, V6 = "PTR 1.2.0.192.in-addr.arpa", f"PTR {'1.' + '0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa"

Zone = dict[str, tuple[str, ...] | DnsAnswer]


def judge(address: str, zone: Zone) -> tuple[IprevOutcome, list[str]]:
    asked: list[str] = []

    def answer(question: Question) -> DnsAnswer:
        asked.append(str(question))
        held = zone.get(str(question))
        if isinstance(held, DnsAnswer):
            return held
        if held is None:
            return DnsAnswer(status=DnsStatus.NO_NAME)
        return DnsAnswer(status=DnsStatus.FOUND, records=held)

    return questions.answer(check(address), answer), asked


@pytest.mark.parametrize(
    ("address", "zone", "result", "name"),
    [
        (
            "192.0.2.1",
            {V4: ("Mx.Example.org.",), "A mx.example.org": ("192.0.2.9", "192.0.2.1")},
            "pass",
            "mx.example.org",
        ),
        (
            "2001:db8::1",
            {V6: ("a.example", "b.example"), "AAAA b.example": ("2001:DB8:0::1",)},
            "pass",
            "b.example",
        ),
        ("::ffff:192.0.2.1", {V4: ("a.net",), "A a.net": ("192.0.2.1",)}, "pass", "a.net"),
        ("192.0.2.1", {V4: ("a.example",), "A a.example": ("192.0.2.2",)}, "fail", ""),
        ("192.0.2.1", {V4: ("a.example",)}, "fail", ""),
        ("192.0.2.1", {V4: ("a.example",), "A a.example": FAILS}, "temperror", ""),
        (
            "192.0.2.1",
            {V4: ("a.example", "b.example"), "A a.example": FAILS, "A b.example": ("192.0.2.1",)},
            "pass",
            "b.example",
        ),
        ("192.0.2.1", {V4: FAILS}, "temperror", ""),
        ("192.0.2.1", {}, "permerror", ""),
        ("192.0.2.1", {V4: ("",)}, "permerror", ""),
        ("192.0.2.1", {V4: ("a b.example", "x;y", "-" * 64, "a." * 200)}, "permerror", ""),
        ("2001:db8::1", {V6: ("a.example",), "AAAA a.example": ("junk",)}, "fail", ""),
        ("not an address", {}, "permerror", ""),
    ],
)  # fmt: skip
def test_the_name_has_to_lead_back(address: str, zone: Zone, result: str, name: str) -> None:
    outcome, _ = judge(address, zone)
    assert (outcome.result, outcome.name) == (Result(result), name)
    assert bool(outcome.reason) is (outcome.result is not Result.PASS)


def test_ten_names_are_followed_at_most_and_at_once() -> None:  # RFC 8601 §3, §7.4
    names = tuple(f"n{n}.example" for n in range(1_000))
    outcome, asked = judge("192.0.2.1", {V4: names, f"A n{NAMES_MAX}.example": ("192.0.2.1",)})
    assert outcome.result is Result.FAIL
    assert asked == [V4, *(f"A n{n}.example" for n in range(NAMES_MAX))]


def test_evidence_has_the_answers_cut() -> None:
    many = tuple(f"192.0.2.{n}" for n in range(100))
    outcome, _ = judge("192.0.2.1", {V4: ("a.example",), "A a.example": many})
    assert [each.what for each in outcome.evidence] == [V4, "A a.example"]
    assert outcome.evidence[1].found.endswith("192.0.2.3, …")
