"""The fuzzer: mutates, runs, keeps what showed something new, reports what broke.

`python -m tests.fuzz.run --seconds 60 --seed 1`, or `make fuzz FUZZ_S=60`; `--target mime` for one.
An input that breaks is printed as Python octets; put it into a test of the parser.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Hashable
from random import Random

import msgspec

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

SLOW_S = 1.0
"""For at most `mutate.OCTETS_MAX`; much more than any of it should take on a busy machine."""
POOL_MAX = 2000
BROKEN_MAX = 5


class Broken(msgspec.Struct, frozen=True):
    octets: bytes
    why: str


class Result(msgspec.Struct, kw_only=True):
    target: str
    runs: int = 0
    new: int = 0
    slowest_s: float = 0.0
    broken: list[Broken] = []

    def __str__(self) -> str:
        return (
            f"fuzz target={self.target} execs={self.runs} new={self.new}"
            f" crashes={len(self.broken)} slowest={self.slowest_s * 1000:.0f}ms"
        )


def fuzz(target: Target, *, seed: int, is_over: Callable[[int, float], bool]) -> Result:
    """Run one target until `is_over(runs, seconds)`; the seeds themselves come first."""
    rng = Random(f"{target.name} {seed}")
    result = Result(target=target.name)
    pool, seen = list(target.seeds), set[Hashable]()
    began_s = time.perf_counter()
    while len(result.broken) < BROKEN_MAX:
        is_seed = result.runs < len(target.seeds)
        octets = target.seeds[result.runs] if is_seed else mutated(rng, rng.choice(pool), pool)
        summary = _try(target, octets, result)
        result.runs += 1
        if summary not in seen:
            seen.add(summary)
            result.new += 1
            if len(pool) < POOL_MAX:
                pool.append(octets)
            else:
                pool[rng.randrange(POOL_MAX)] = octets
        if not is_seed and is_over(result.runs, time.perf_counter() - began_s):
            break
    return result


def _try(target: Target, octets: bytes, result: Result) -> Hashable:
    began_s = time.process_time()
    try:
        summary = target.run(octets)
    except Exception as error:
        _note(result, Broken(octets, traceback.format_exc()))
        return type(error).__name__
    took_s = time.process_time() - began_s
    result.slowest_s = max(result.slowest_s, took_s)
    if took_s > SLOW_S:
        _note(result, Broken(octets, f"took {took_s:.1f} s for {len(octets)} octets"))
    return summary


def _note(result: Result, broken: Broken) -> None:
    """Keep the shortest input for each way of breaking."""
    for at, known in enumerate(result.broken):
        if known.why == broken.why:
            if len(broken.octets) < len(known.octets):
                result.broken[at] = broken
            return
    result.broken.append(broken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    options = parser.parse_args()
    is_broken = False
    for target in TARGETS:
        if options.target in (None, target.name):
            over = options.seconds
            result = fuzz(target, seed=options.seed, is_over=lambda runs, s, over=over: s >= over)
            for one in result.broken:
                print(f"{target.name}: {one.octets!r}\n{one.why}")
            print(result, flush=True)
            is_broken |= bool(result.broken)
    return 1 if is_broken else 0


if __name__ == "__main__":
    sys.exit(main())
