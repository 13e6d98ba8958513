"""A whole node under seeded traffic and seeded faults, and what must hold at the end.

One run is one seed: clients send for some virtual hours while the network, the DNS and the disk
fail; then everything is healed, the queue empties, and the books of the outside world are compared
with what arrived (RELIABILITY §6). The same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from pathlib import Path
from typing import Final

import msgspec

from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.kernel.ports import RecordType
from posthouse.sim.chance import SeededChance
from posthouse.sim.dns import DnsFault
from posthouse.sim.faults import Faults
from posthouse.sim.ground import Simulated
from posthouse.sim.lab import Lab, LabNode, NeverHappened
from posthouse.sim.peers import SmtpPeer
from posthouse.sim.personality import (
    ACCEPTS,
    PERMANENT,
    TEMPORARY,
    Behaviour,
    Drop,
    Personality,
    Stage,
    Stall,
)
from posthouse.sim.talk import Gone, Talk, transact
from posthouse.sim.world import World, run_virtual

INVARIANTS: Final = ("P1", "P2", "P3", "P4", "P5")
HOUR_S: Final = 3600.0
LIFETIME_S: Final = 8 * HOUR_S
SETTLED_WITHIN_S: Final = 3 * 86_400.0
LOSS_SEEN_S: Final = 900.0
"""How long after a sync was told to fail the node may take to meet it."""
EXPLAINED_S: Final = 2 * HOUR_S
"""A repeat is explained by a fault this close to the first arrival: an attempt may take as long."""
CLIENTS: Final = 3
CLIENT_PATIENCE_S: Final = 900.0
ACCOUNTS: Final = ("ada", "alan")
SENDER: Final = "ada@north.example"
FAR: Final = ("far.example", "wide.example")
SIZES: Final = (200, 3_000, 40_000)
_NUMBER: Final = re.compile(rb"^Message-ID: <(\d+)@load\.example>", re.MULTILINE)


class Fate(Enum):
    """What a client was told of a message."""

    ACKNOWLEDGED = auto()
    REFUSED = auto()
    UNKNOWN = auto()  # the line broke before the reply


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed."""

    seed: int
    virtual_s: float
    faults: int
    sent: int
    acknowledged: int
    repeated: int
    unknown_commits: int
    failures: tuple[str, ...]
    """Each names the invariant it breaks first."""


def run_seed(seed: int, *, hours: float, folder: Path) -> Outcome:
    """Args:
    folder: an empty one, for the disks; the caller removes it.
    """
    return run_virtual(lambda world: Run(world, folder, hours).live(), seed=seed)


def summary(outcomes: list[Outcome]) -> str:
    """The line that reports quote."""
    failed = [outcome for outcome in outcomes if outcome.failures]
    hours = sum(outcome.virtual_s for outcome in outcomes) / HOUR_S
    return (
        f"sim seeds={len(outcomes)} virtual-hours={hours:.0f}"
        f" faults={sum(outcome.faults for outcome in outcomes)}"
        f" invariants={','.join(INVARIANTS)}"
        f" failed={len(failed)} (first seed: {failed[0].seed if failed else '-'})"
    )


def _config(config: Config) -> Config:
    return msgspec.structs.replace(
        config,
        smtp=msgspec.structs.replace(config.smtp, relay_networks=("192.0.2.0/24",)),
        queue=schema.Queue(lifetime_s=LIFETIME_S, dsn_lifetime_s=LIFETIME_S, lease_s=900.0),
        blob=schema.Blob(inline_octets_max=8 * 1024),
    )


class Run:
    """One seed."""

    def __init__(self, world: World, folder: Path, hours: float) -> None:
        self.world = world
        self.end_s = hours * HOUR_S
        self.chance = SeededChance(f"{world.seed}/whole")
        self.ground = Simulated(world)
        self.lab = Lab(
            self.ground, domains={"north.example": ACCOUNTS}, folder=folder, change=_config
        )
        self.fates: dict[int, Fate] = {}
        self.goals: dict[int, str] = {}
        self.troubles: list[tuple[float, float]] = []  # from, to: when a line or node was lost
        self.faults = 0
        self.unknown_commits = 0
        self.lives = 0
        self.peers: dict[str, SmtpPeer] = {}

    @property
    def node(self) -> LabNode:
        return self.lab.node("north")

    async def live(self) -> Outcome:
        async with self.lab:
            for domain in FAR:
                self.peers[domain] = await self.lab.peer(domain=domain)
            async with asyncio.TaskGroup() as tasks:
                for number in range(CLIENTS):
                    tasks.create_task(self._send_for_ever(number))
                tasks.create_task(self._break_for_ever())
            failures = await self._judge()
            self.unknown_commits += self.node.store.stats.unknown_commits
            return Outcome(
                seed=self.world.seed,
                virtual_s=self.world.clock.monotonic_s(),
                faults=self.faults,
                sent=len(self.fates),
                acknowledged=sum(fate is Fate.ACKNOWLEDGED for fate in self.fates.values()),
                repeated=sum(count - 1 for _, count in self._far_counts().items()),
                unknown_commits=self.unknown_commits,
                failures=tuple(failures),
            )

    # --- traffic ---

    async def _send_for_ever(self, client: int) -> None:
        chance = self.chance.fork(f"client {client}")
        clock = self.world.clock
        while clock.monotonic_s() < self.end_s:
            await clock.sleep(chance.uniform(10, 900))
            number = len(self.fates) + 1
            self.fates[number] = Fate.UNKNOWN
            self.fates[number] = await self._send(number, chance)

    async def _send(self, number: int, chance: SeededChance) -> Fate:
        is_inward = chance.happens(0.5)
        sender = "you@load.example" if is_inward else SENDER
        goal = ACCOUNTS[chance.below(2)] + "@north.example" if is_inward else _far(chance, number)
        self.goals[number] = goal
        octets = b"From: <%b>\r\nTo: <%b>\r\nMessage-ID: <%d@load.example>\r\n\r\n%b\r\n" % (
            sender.encode(),
            goal.encode(),
            number,
            _filling(chance, number),
        )
        address, port = self.node.place(Service.MX)
        try:
            talk = await Talk.open(
                self.world.network.at("192.0.2.7" if not is_inward else "203.0.113.9"),
                address,
                port,
                clock=self.world.clock,
                patience_s=CLIENT_PATIENCE_S,
            )
        except OSError:
            return Fate.REFUSED
        try:
            if not (await talk.reply()).startswith(b"2"):
                return Fate.REFUSED
            await talk.say(b"EHLO load.example")
            reply, _ = await transact(talk, sender, [goal], octets)
            return Fate.ACKNOWLEDGED if reply.startswith(b"2") else Fate.REFUSED
        except Gone:
            return Fate.UNKNOWN
        finally:
            talk.close()

    # --- faults ---

    async def _break_for_ever(self) -> None:
        clock, chance = self.world.clock, self.chance.fork("faults")
        ways: list[Callable[[SeededChance], Awaitable[None]]] = [
            self._network_fault,
            self._network_fault,
            self._peer_fault,
            self._peer_fault,
            self._dns_fault,
            self._full_disk,
            self._failed_sync,
            self._loss_of_power,
        ]
        while clock.monotonic_s() < self.end_s:
            await clock.sleep(chance.uniform(300, 3_600))
            self.faults += 1
            await ways[chance.below(len(ways))](chance)
        self.world.network.heal()
        for peer in self.peers.values():
            peer.personality = ACCEPTS
        for disk in self.ground.disks.values():
            disk.heal()

    async def _network_fault(self, chance: SeededChance) -> None:
        """A line of a peer or of our own port 25 is cut, slow, dead or gone for a while."""
        kinds = [
            Faults(is_refusing=True),
            Faults(is_silent=True),
            Faults(is_unreachable=True),
            Faults(reset_after_octets=1 + chance.below(3_000)),
            Faults(vanish_after_octets=1 + chance.below(3_000)),
            Faults(latency_s=chance.uniform(0.1, 5), jitter_s=2, is_cut_at_random=True),
        ]
        places = [self.node.address, *(peer.address[0] for peer in self.peers.values())]
        place = places[chance.below(len(places))]
        began_s = self.world.clock.monotonic_s()
        self.world.network.fault(place, kinds[chance.below(len(kinds))])
        await self.world.clock.sleep(chance.uniform(60, 7_200))
        self.world.network.heal(place)
        self.troubles.append((began_s, self.world.clock.monotonic_s()))

    async def _peer_fault(self, chance: SeededChance) -> None:
        stages = [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT]
        behaviours: list[Behaviour] = [TEMPORARY, PERMANENT, Drop(), Drop(is_reset=True), Stall()]
        peer = self.peers[FAR[chance.below(len(FAR))]]
        stage = stages[chance.below(len(stages))]
        began_s = self.world.clock.monotonic_s()
        peer.personality = Personality(
            at={stage: behaviours[chance.below(len(behaviours))]},
            greylist_s=300 if chance.happens(0.3) else None,
        )
        await self.world.clock.sleep(chance.uniform(60, 7_200))
        peer.personality = ACCEPTS
        self.troubles.append((began_s, self.world.clock.monotonic_s()))

    async def _dns_fault(self, chance: SeededChance) -> None:
        faults = [DnsFault.SERVFAIL, DnsFault.TIMEOUT, DnsFault.REFUSED, DnsFault.GARBAGE]
        self.ground.zones.fault(
            FAR[chance.below(len(FAR))],
            faults[chance.below(len(faults))],
            record_type=RecordType.MX,
            times=1 + chance.below(6),
        )

    async def _full_disk(self, chance: SeededChance) -> None:
        disk = self.ground.disks[self.node.folder]
        disk.fill(free_octets=chance.below(3_000_000))
        await self.world.clock.sleep(chance.uniform(60, 3_600))
        disk.heal()

    async def _failed_sync(self, chance: SeededChance) -> None:
        """The node has to notice, and a new one goes on with the files (F2)."""
        disk = self.ground.disks[self.node.folder]
        disk.fail_sync(1 + chance.below(8))
        began_s = self.world.clock.monotonic_s()
        try:
            async with asyncio.timeout(LOSS_SEEN_S):
                await asyncio.shield(self.node.node.lost)
        except TimeoutError:
            disk.heal()
            return
        await self._begin_anew(chance, began_s)

    async def _loss_of_power(self, chance: SeededChance) -> None:
        """The machine is gone; a new one starts from what its disk kept (F9)."""
        node = self.node
        disk = self.ground.disks[node.folder]
        began_s = self.world.clock.monotonic_s()
        disk.cut_power()
        self.lives += 1
        after = node.folder.parent / f"life-{self.lives}"
        disk.survive(after)
        await self._begin_anew(chance, began_s, folder=after)

    async def _begin_anew(
        self, chance: SeededChance, began_s: float, *, folder: Path | None = None
    ) -> None:
        node, clock = self.node, self.world.clock
        self.unknown_commits += node.store.stats.unknown_commits
        old = self.ground.disks[node.folder]
        await node.kill()
        old.heal()
        node.folder = folder or node.folder
        await clock.sleep(chance.uniform(5, 600))
        await node.start()
        self.troubles.append((began_s, clock.monotonic_s()))

    # --- the judgement ---

    async def _judge(self) -> list[str]:
        failures: list[str] = []
        try:
            await self.lab.settled(within_s=SETTLED_WITHIN_S)
        except NeverHappened:
            failures.append(f"P2 {await self.node.queued()} recipients never came to an end")
        report = await self.node.ledger()
        failures += [f"P2 {fault.rule}" for fault in report.faults]
        stored = await self._stored()
        failures += self._lost_and_ghosts(stored, await self._returned())
        failures += self._repeats(stored)
        return failures

    async def _stored(self) -> Counter[tuple[int, str]]:
        """Messages of the load in our inboxes: number and account."""
        found: Counter[tuple[int, str]] = Counter()
        for local_part in ACCOUNTS:
            address = f"{local_part}@north.example"
            for message in await self.node.messages(address):
                number = _own_number(message)
                if number is not None:
                    found[number, address] += 1
        return found

    async def _returned(self) -> Counter[int]:
        """Failure notices in the sender's inbox, by the number of the message they are about."""
        found: Counter[int] = Counter()
        for message in await self.node.messages(SENDER):
            if b"\r\nAction: failed\r\n" in message:
                found.update(int(number) for number in _NUMBER.findall(message))
        return found

    def _far_counts(self) -> Counter[int]:
        return Counter(
            number
            for peer in self.peers.values()
            for message in peer.messages
            if (number := _own_number(message.content)) is not None
        )

    def _lost_and_ghosts(
        self, stored: Counter[tuple[int, str]], returned: Counter[int]
    ) -> list[str]:
        failures: list[str] = []
        far = self._far_counts()
        ghosts = 0
        for number, fate in self.fates.items():
            goal = self.goals[number]
            has_come = stored[number, goal] > 0 or far[number] > 0
            has_end = has_come or returned[number] > 0
            if fate is Fate.ACKNOWLEDGED and not has_end:
                failures.append(f"P1 message {number} to {goal} is lost")
            if fate is Fate.REFUSED and has_end:
                ghosts += 1
            if returned[number] > 1:
                failures.append(f"P5 message {number} was returned {returned[number]} times")
        if ghosts > self.unknown_commits:
            failures.append(
                f"P3 {ghosts} refused messages are here, {self.unknown_commits} commits are unknown"
            )
        return failures

    def _repeats(self, stored: Counter[tuple[int, str]]) -> list[str]:
        failures = [
            f"P4 message {number} is {count} times in the inbox of {address}"
            for (number, address), count in stored.items()
            if count > 1
        ]
        arrivals: dict[int, list[float]] = {}
        for peer in self.peers.values():
            for message in peer.messages:
                number = _own_number(message.content)
                if number is not None:
                    arrivals.setdefault(number, []).append(message.received_s)
        for number, times in arrivals.items():
            for first_s in sorted(times)[:-1]:
                if not self._is_explained(first_s):
                    failures.append(f"P4 message {number} was sent again without a reason")
        return failures

    def _is_explained(self, at_s: float) -> bool:
        return any(
            began_s - EXPLAINED_S <= at_s <= ended_s + EXPLAINED_S
            for began_s, ended_s in self.troubles
        )


def _far(chance: SeededChance, number: int) -> str:
    return f"you{number}@{FAR[chance.below(len(FAR))]}"


def _filling(chance: SeededChance, number: int) -> bytes:
    octets = SIZES[chance.below(len(SIZES))]
    line = b"%d " % number * 8 + b"\r\n"
    return line * (octets // len(line))


def _own_number(message: bytes) -> int | None:
    """The number of a message of the load; None for notices, which only quote one."""
    head = message.partition(b"\r\n\r\n")[0]
    found = _NUMBER.search(head)
    return int(found[1]) if found is not None else None
