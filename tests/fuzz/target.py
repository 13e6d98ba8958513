"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import msgspec


class Target(msgspec.Struct, frozen=True):
    """Takes octets, raises nothing for whatever they are, and returns a short summary of what it
    made of them; inputs with a summary not seen before are mutated further."""

    name: str
    run: Callable[[bytes], Hashable]
    seeds: tuple[bytes, ...]
