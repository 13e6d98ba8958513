"""A moment of `make fuzz` for each parser, and that the fuzzer sees what it should."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutate import OCTETS_MAX, mutated
from tests.fuzz.oracle import growth
from tests.fuzz.published import published
from tests.fuzz.run import BROKEN_MAX, GROWN_EVERY, fuzz, main
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, is_one_list

RUNS = 310


# H39, P9: whatever comes, a parser answers, soon
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_input_breaks_no_parser(target: Target) -> None:
    runs = RUNS + len(target.seeds)
    result = fuzz(target, seed=1, is_over=lambda done, seconds: done >= runs)
    assert result.broken == []
    assert result.runs == runs


def test_published_vectors_break_no_parser(vectors: Path) -> None:
    found = published(vectors)
    assert all(len(inputs) > 5 for inputs in found.values()) and len(found) == 18
    assert found.keys() <= {target.name for target in TARGETS}
    for target in TARGETS:
        for octets in found.get(target.name, ()):
            target.run(octets)


def test_each_way_of_breaking_is_kept_with_the_shortest_input_that_showed_it() -> None:
    def breaks(octets: bytes) -> None:
        if b"\0" in octets:
            raise IndexError("no room")
        if b"@" in octets:
            raise KeyError("no such key")

    target = Target("x", breaks, (b"abc", b"def"))
    broken = fuzz(target, seed=1, is_over=lambda runs, s: runs > 3000).broken
    assert sorted(one.why.splitlines()[-1] for one in broken) == [
        "IndexError: no room",
        "KeyError: 'no such key'",
    ]
    assert all(len(one.octets) <= 3 for one in broken)


def test_a_target_that_breaks_in_many_ways_is_left() -> None:
    def breaks(octets: bytes) -> None:
        raise ValueError(octets)

    result = fuzz(Target("x", breaks, (b"abc",)), seed=1, is_over=lambda runs, s: False)
    assert len(result.broken) == BROKEN_MAX


def test_what_shows_something_new_is_mutated_further() -> None:
    """Four brackets in a row are found only by building on one, two and three."""

    def depth(octets: bytes) -> int:
        return max(number for number in range(5) if b"<" * number in octets)

    result = fuzz(Target("x", depth, (b"a b c d",)), seed=1, is_over=lambda runs, s: runs > 3000)
    assert result.new == 5


def test_a_seed_repeats_its_run() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        fuzz(Target("x", seen.append, (b"abc",)), seed=seed, is_over=lambda runs, s: runs > 50)
        return seen

    assert inputs(1) == inputs(1) != inputs(2)


def test_new_edges_of_our_code_make_an_input_worth_keeping(capsys) -> None:
    result = fuzz(TARGETS[0], seed=1, is_over=lambda runs, s: runs > 400)
    assert result.edges > 0
    assert main(["--target", "sasl", "--seconds", "0.01", "--engine", "mutator"]) == 0
    line = r"fuzz target=sasl execs=[0-9]+ new-edges=[0-9]+ crashes=0 slowest=[0-9]+ms\n"
    assert re.fullmatch(line, capsys.readouterr().out)


@pytest.mark.timed
def test_time_that_grows_faster_than_the_input_is_found() -> None:
    def quadratic(octets: bytes) -> None:
        for at in range(0, len(octets), 2048):
            octets.count(b"a\n", at)

    def linear(octets: bytes) -> None:
        sum(octets * 8)

    found = growth(quadratic, bytes)
    assert found is not None and found.is_too_fast
    found = growth(linear, bytes)
    assert found is not None and not found.is_too_fast
    over = lambda runs, s: runs > GROWN_EVERY  # noqa: E731
    broken = fuzz(Target("x", quadratic, (b"abc",)), seed=1, is_over=over).broken
    assert any("n, 2n and 4n took" in one.why for one in broken)


def test_an_input_that_takes_much_memory_is_found() -> None:
    def bomb(octets: bytes) -> int:
        return len(b"x" * (b"b" in octets) * 200_000_000)

    broken = fuzz(Target("x", bomb, (b"abc",)), seed=1, is_over=lambda runs, s: True).broken
    assert broken and re.fullmatch("took 1[89][0-9] MiB for 3 octets", broken[0].why)


def test_mutations_change_and_are_bounded() -> None:
    rng = Random(1)
    pool = [b"EHLO x\r\n", b"x" * 20_000]
    results = [mutated(rng, rng.choice(pool), pool) for _ in range(500)]
    assert len(set(results)) > 400
    assert max(map(len, results)) <= OCTETS_MAX


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (b'("a" NIL 12 ({2}\r\n\xff)) "b\\"")', True),
        (b'("a"', False),
        (b'("a"))', False),
        (b'("\xff")', False),
        (b'("a\r\n")', False),
        (b"({9}\r\nab)", False),
    ],
)
def test_a_list_is_told_from_what_only_looks_like_one(text: bytes, is_one: bool) -> None:
    assert is_one_list(text) == is_one
