"""The fuzzer: mutates, runs, keeps what showed something new, reports what broke.

`python -m tests.fuzz --target all --seconds 60 --seed 1`, or `make fuzz FUZZ_S=60`; the same seed
makes the same inputs as far as the time reaches. An input that breaks is printed as Python octets;
put it into a test of the parser. Published vectors named by POSTHOUSE_VECTORS are inputs to begin
from. Where atheris is installed (`pip install atheris`), its coverage-guided engine takes a turn of
its own at each target; `--engine` chooses one of the two.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Hashable
from pathlib import Path
from random import Random

import msgspec

from tests.fuzz import guided, oracle
from tests.fuzz.edges import Edges
from tests.fuzz.mutate import mutated, shape
from tests.fuzz.oracle import INPUT_OCTETS_MAX, MEMORY_OCTETS_MAX, SLOW_S, Memory, growth, seconds
from tests.fuzz.published import with_published
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

OWN_FILES = (__file__, oracle.__file__)
POOL_MAX = 2000
BROKEN_MAX = 5
TRACED_EVERY = 16
TRACED_OCTETS_MAX = 4096
SWOLLEN_EVERY = 100
"""Runs until one with up to a mebibyte."""
GROWN_OCTETS_MIN = 8 * 1024
GROWN_EVERY = 300
"""Runs until n, 2n and 4n of an input are compared."""


class Broken(msgspec.Struct, frozen=True):
    octets: bytes
    why: str


def story(error: Exception) -> str:
    """Its traceback without the fuzzer's own part, so that one way of breaking has one text."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename in OWN_FILES:
        place = place.tb_next
    return "".join(traceback.format_exception(type(error), error, place))


class Result(msgspec.Struct, kw_only=True):
    target: str
    runs: int = 0
    new: int = 0
    """Summaries not seen before."""
    edges: int = 0
    """Seen beyond those of the inputs it began from."""
    slowest_s: float = 0.0
    broken: list[Broken] = []

    def __str__(self) -> str:
        return (
            f"fuzz target={self.target} execs={self.runs} new-edges={self.edges}"
            f" crashes={len(self.broken)} slowest={self.slowest_s * 1000:.0f}ms"
        )


class Fuzzer:
    """One target with its pool of inputs; `step` makes one run."""

    def __init__(self, target: Target, *, seed: int) -> None:
        self.result = Result(target=target.name)
        self._target = target
        self._rng = Random(f"{target.name} {seed}")
        self._pool = list(target.seeds)
        self._seen = set[Hashable]()
        self._edges = Edges()
        self._memory = Memory()
        self._at_first = 0

    def close(self) -> None:
        self._memory.close()

    @property
    def is_begun(self) -> bool:
        """Whether all of the inputs to begin from have been run."""
        return self.result.runs >= len(self._target.seeds)

    def step(self) -> None:
        rng, runs = self._rng, self.result.runs
        if not self.is_begun:
            self._take(self._target.seeds[runs], is_traced=True)
            self._at_first = len(self._edges)
            return
        octets = mutated(rng, rng.choice(self._pool), self._pool)
        if runs % GROWN_EVERY == 0:
            self._grow(octets)
        elif runs % SWOLLEN_EVERY == 0:
            size = rng.randint(len(octets), INPUT_OCTETS_MAX)
            self._try(shape(rng, octets, self._pool).octets(size)[:INPUT_OCTETS_MAX])
        else:
            self._take(octets, is_traced=runs % TRACED_EVERY == 0)

    def _take(self, octets: bytes, *, is_traced: bool) -> None:
        """Run it, and keep it when it showed anything new."""
        summary = self._try(octets)
        is_new = summary not in self._seen
        if is_new:
            self._seen.add(summary)
            self.result.new += 1
        if (is_traced or is_new) and len(octets) <= TRACED_OCTETS_MAX:
            is_new |= self._edges.trace(self._target.run, octets) > 0
            self.result.edges = len(self._edges) - self._at_first
        if is_new and len(self._pool) < POOL_MAX:
            self._pool.append(octets)
        elif is_new:
            self._pool[self._rng.randrange(POOL_MAX)] = octets

    def _try(self, octets: bytes) -> Hashable:
        """What it made of the octets, after looking at how it did so."""
        result = self.result
        result.runs += 1
        self._memory.begin()
        began_s = time.thread_time()
        try:
            summary = self._target.run(octets)
        except Exception as error:
            self._note(Broken(octets, story(error)))
            return type(error).__name__
        took_s = time.thread_time() - began_s
        risen = self._memory.risen_octets()
        if took_s > SLOW_S:  # once more: the machine may have been elsewhere
            took_s = min(took_s, seconds(self._target.run, octets))
        result.slowest_s = max(result.slowest_s, took_s)
        if took_s > SLOW_S:
            self._note(Broken(octets, f"took {took_s:.1f} s for {len(octets)} octets"))
        if risen > MEMORY_OCTETS_MAX:
            self._note(Broken(octets, f"took {risen >> 20} MiB for {len(octets)} octets"))
        return summary

    def _grow(self, octets: bytes) -> None:
        """Whether the time grows with the size and no faster."""
        made = shape(self._rng, octets, self._pool)
        self.result.runs += 1
        try:
            # What is repeated has to be most of the input, else its own cost looks like growth.
            first = max(GROWN_OCTETS_MIN, 4 * (len(made.head) + len(made.tail)))
            sizes = (first, max(first, INPUT_OCTETS_MAX // 4))
            found = growth(self._target.run, made.octets, sizes=sizes)
        except Exception as error:
            self._note(Broken(made.octets(INPUT_OCTETS_MAX), story(error)))
            return
        if found is not None:
            self.result.slowest_s = max(self.result.slowest_s, found.took_s[2])
            if found.is_too_fast:
                self._note(Broken(made.octets(256), f"{found}; {made}"))

    def _note(self, broken: Broken) -> None:
        """Keep the shortest input for each way of breaking."""
        known = self.result.broken
        for at, each in enumerate(known):
            if each.why == broken.why:
                if len(broken.octets) < len(each.octets):
                    known[at] = broken
                return
        known.append(broken)


def fuzz(target: Target, *, seed: int, is_over: Callable[[int, float], bool]) -> Result:
    """Run one target until `is_over(runs, seconds)`; the seeds themselves come first."""
    fuzzer = Fuzzer(target, seed=seed)
    result = fuzzer.result
    began_s = time.perf_counter()
    try:
        while len(result.broken) < BROKEN_MAX:
            was_begun = fuzzer.is_begun
            fuzzer.step()
            if was_begun and is_over(result.runs, time.perf_counter() - began_s):
                break
    finally:
        fuzzer.close()
    return result


def main(arguments: list[str] | None = None) -> int:
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=["all", *names], default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target and engine")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["all", "mutator", "atheris"], default="all")
    options = parser.parse_args(arguments)
    folder = os.environ.get("POSTHOUSE_VECTORS")
    chosen = [target for target in TARGETS if options.target in ("all", target.name)]
    is_broken = False
    for target in with_published(chosen, Path(folder)) if folder else chosen:
        if options.engine != "atheris":
            is_broken |= _mutate(target, options.seed, options.seconds)
        if options.engine == "atheris" or (options.engine == "all" and guided.is_there()):
            is_broken |= guided.run(target, options.seed, options.seconds)
    return 1 if is_broken else 0


def _mutate(target: Target, seed: int, over_s: float) -> bool:
    result = fuzz(target, seed=seed, is_over=lambda runs, passed_s: passed_s >= over_s)
    for one in result.broken:
        shown = f"{one.octets[:2000]!r}"
        print(f"{target.name}: {len(one.octets)} octets {shown}\n{one.why}")
    print(result, flush=True)
    return bool(result.broken)


if __name__ == "__main__":
    sys.exit(main())
