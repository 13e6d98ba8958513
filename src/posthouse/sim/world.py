"""A whole injected world from one seed, and the runner for what lives in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from posthouse.sim.chance import SeededChance
from posthouse.sim.clock import START, VirtualClock
from posthouse.sim.dns import Zones
from posthouse.sim.isolated import InlineIsolation
from posthouse.sim.loop import VirtualLoop
from posthouse.sim.network import SimNetwork
from posthouse.sim.workers import InlineWorkers

T = TypeVar("T")


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Every port but the disk's, which needs a folder (`sim.disk.SimDisk`)."""

    seed: int
    loop: VirtualLoop
    clock: VirtualClock
    chance: SeededChance
    workers: InlineWorkers
    isolated: InlineIsolation
    network: SimNetwork
    zones: Zones


def run_virtual(
    main: Callable[[World], Awaitable[T]], *, seed: int = 0, start: datetime = START
) -> T:
    """Run `main` in a new world until it returns; its other tasks are cancelled then.

    The same seed gives the same run, as long as nothing iterates over sets of strings (their order
    changes with PYTHONHASHSEED).

    Raises:
        NothingWillHappen: everything waits for something that cannot come.
    """

    async def live() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        chance = SeededChance(seed)
        world = World(
            seed=seed,
            loop=loop,
            clock=VirtualClock(loop, start),
            chance=chance.fork("program"),
            workers=InlineWorkers(),
            isolated=InlineIsolation(),
            network=SimNetwork(chance.fork("network")),
            zones=Zones(),
        )
        return await main(world)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(live())
