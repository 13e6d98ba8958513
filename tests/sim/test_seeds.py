"""A moment of `make sim`, and that it notices what may not be."""

from __future__ import annotations

import msgspec
import pytest

from tests.sim import seeds
from tests.sim.test_whole_retry import Story

STORY = Story(
    trace="",
    inbox=[],
    arrivals={"grey": [300.0], "away": [172_800.0]},
    states={"stored": 4, "relayed": 7},
    is_clean=True,
)


# P2, P4
def test_whatever_chance_does_everything_has_its_end() -> None:
    assert seeds.run(first=100, count=3) == []


def test_a_good_story_has_nothing_wrong() -> None:
    assert seeds.wrong_with(STORY) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"is_clean": False}, "ledger"),
        ({"states": {"queued": 1, "stored": 4}}, "queued"),
        ({"arrivals": {"grey": [1.0, 2.0], "away": [1.0]}}, "not once"),
        ({"arrivals": {"grey": [1.0], "away": []}}, "not once"),
    ],
)
def test_a_story_that_may_not_be_is_noticed(change: dict[str, object], word: str) -> None:
    assert word in seeds.wrong_with(msgspec.structs.replace(STORY, **change))


def test_a_seed_that_raises_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seed: int, folder: object) -> Story:
        raise RuntimeError(f"broken by {seed}")

    monkeypatch.setattr(seeds, "tell", broken)
    failed = seeds.run(first=7, count=2)
    assert [line.partition(":")[0] for line in failed] == ["seed 7", "seed 8"]
    assert "broken by 7" in failed[0]
