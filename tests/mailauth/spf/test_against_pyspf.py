"""Our results beside pyspf's, on random policies. POSTHOUSE_SPF_POLICIES tries more of them."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.mailauth.spf.oracle import CORRECTIONS, explain, verdict
from tests.mailauth.spf.policies import Policy, policy
from tests.mailauth.spf.zone import Zone, ask

SEEDS = range(int(os.environ.get("POSTHOUSE_SPF_POLICIES", "400")))


def ours(asked: Policy) -> tuple[str, str]:
    outcome = ask(
        Zone(asked.zone),
        ip=asked.ip,
        domain=asked.sender.rpartition("@")[2],
        sender=asked.sender,
        helo=asked.helo,
    )
    return outcome.result.value, outcome.explanation


def test_every_disagreement_with_pyspf_is_explained_by_the_rfc() -> None:  # RFC 7208
    results: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unexplained: list[str] = []
    for seed in SEEDS:
        asked = policy(seed)
        found, theirs = ours(asked), verdict(asked)
        results[found[0]] += 1
        if found == theirs:
            continue
        corrections = explain(asked, found)
        named = " and ".join(each.__name__ for each in corrections or ()) or "nothing"
        print(f"seed {seed}: {found}, pyspf {theirs}, explained by {named}")
        reasons[named] += 1
        if corrections is None:
            unexplained.append(f"seed {seed}: {asked}")
    print(f"{len(SEEDS)} policies: {dict(results)}; disagreements: {dict(reasons)}")
    assert not unexplained
    assert all(results[name] for name in ("pass", "fail", "softfail", "neutral", "permerror"))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_each_explanation_cites_the_rfc(correction: type) -> None:
    assert (correction.__doc__ or "").startswith("RFC 7208 §")
