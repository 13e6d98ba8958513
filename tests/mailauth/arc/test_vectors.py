"""The ARC validation suite (RFC 8617 §5.2), and chains that the signing suite wants made."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.kernel.ports import DnsStatus
from tests.mailauth.arc.lab import judge
from tests.mailauth.arc.suite import Case, read_suite

# The suite is of 2016 and the RFC of 2019; where they differ the RFC counts.
DEVIATIONS = {
    # RFC 8617 §4.1.2 imports syntax and meaning of DKIM-Signature: RFC 6376 §3.5 says of h= "This
    # list MUST NOT be empty", §6.1.1 that a signature that does not cover From is ignored.
    "ams_fields_h_empty": "fail",
}


def cases(vectors: Path) -> list[Case]:
    return read_suite((vectors / "arc/arc-validation-tests-part.yml").read_text())


def test_the_suite_is_read_whole(vectors: Path) -> None:
    assert len(cases(vectors)) == 90  # one name stands twice


def test_every_chain_of_the_suite_is_judged_so(vectors: Path) -> None:
    wrong = []
    for case in cases(vectors):
        expected = DEVIATIONS.get(case.name, case.expected)
        outcome = judge(case.message, case.records, now=1_500_000_000)
        if outcome.result.value != expected:
            wrong.append(f"{case.name}: {outcome.result.value}, not {expected}; {outcome.reason}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("status", [DnsStatus.TEMPFAIL, DnsStatus.NO_NAME])
def test_a_chain_never_passes_without_its_keys(vectors: Path, status: DnsStatus) -> None:
    expected = {DnsStatus.TEMPFAIL: "temperror", DnsStatus.NO_NAME: "fail"}[status]
    for case in cases(vectors):
        if case.expected == "pass" and case.name not in DEVIATIONS:
            nothing = dict.fromkeys(case.records, status)
            outcome = judge(case.message, nothing, now=1_500_000_000)
            assert outcome.result.value == expected, case.name


def test_chains_as_the_signing_suite_wants_them_made(vectors: Path) -> None:
    judged = 0
    for case in read_suite((vectors / "arc/arc-sign-tests-part.yml").read_text()):
        if not case.made:
            continue  # one that is not to be sealed again
        expected = "fail" if b"cv=fail" in case.made else "pass"
        outcome = judge(case.made + case.message, case.records, now=1_500_000_000)
        assert outcome.result.value == expected, f"{case.name}: {outcome.reason}"
        judged += 1
    assert judged == 9
