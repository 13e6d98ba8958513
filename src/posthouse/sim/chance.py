"""Chance from a seed: the same seed, the same run."""

from __future__ import annotations

import hashlib
import random
from typing import TypeVar

T = TypeVar("T")


class SeededChance:
    """The port `Chance`, repeatable. Never for production: `token` can be guessed."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self._random = random.Random(hashlib.sha256(str(seed).encode()).digest())  # noqa: S311

    def fork(self, label: str) -> SeededChance:
        """A stream of its own, so that one part asking more often changes nothing for others."""
        return SeededChance(f"{self.seed}/{label}")

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def shuffled(self, items: list[T]) -> list[T]:
        mixed = list(items)
        self._random.shuffle(mixed)
        return mixed

    def token(self, octets: int) -> bytes:
        return self._random.randbytes(octets)

    def below(self, limit: int) -> int:
        """A whole number in [0, limit)."""
        return self._random.randrange(limit)

    def happens(self, probability: float) -> bool:
        return self._random.random() < probability
