"""Queue and relay together in the simulated world, with hosts that have a personality."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import Timeouts
from posthouse.net.trace_ids import TraceIds
from posthouse.queue.work import AttemptRecord, Ending
from posthouse.relay.options import Options, TlsContexts
from posthouse.relay.plan import RouteOptions
from posthouse.relay.pool import Relay
from posthouse.sim.dns import ZoneResolver
from posthouse.sim.peers import SmtpPeer
from posthouse.sim.personality import ACCEPTS, Personality
from posthouse.sim.world import World
from posthouse.store import queue as rows
from posthouse.tls.contexts import opportunistic_client_context, verifying_client_context
from tests.queue.house import House, say

CONTEXTS = TlsContexts(
    opportunistic=opportunistic_client_context(), verifying=verifying_client_context()
)
ROUTES = RouteOptions(allow_private_addresses=True, own_addresses=frozenset({"192.0.2.1"}))


class RelayHouse(House):
    """A `House` whose agent is the relay. `there.example` is served by `peers[0]` and on."""

    def __init__(self, folder: Path, world: World, **options: object) -> None:
        self.world = world
        super().__init__(folder, world.clock, say(Ending.RELAYED))
        self.deadlines = Deadlines(world.clock)
        timeouts = options.pop("timeouts", Timeouts())
        routes = options.pop("routes", ROUTES)
        self.relay = Relay(
            Options(host="mail.here.example", timeouts=timeouts, routes=routes, **options),
            network=world.network,
            resolver=ZoneResolver(world.zones),
            clock=world.clock,
            chance=world.chance,
            deadlines=self.deadlines,
            contexts=CONTEXTS,
            trace_ids=TraceIds(world.clock, world.chance),
        )
        self.agent = self.relay
        self.runner = self.new_runner()
        self.peers: list[SmtpPeer] = []

    async def host(
        self,
        personality: Personality = ACCEPTS,
        *,
        domain: str = "there.example",
        preference: int = 10,
        tls: object = None,
    ) -> SmtpPeer:
        """One more host of a domain."""
        number = len(self.peers) + 1
        peer = SmtpPeer(personality, tls=tls)
        address = f"198.51.100.{number}"
        await peer.serve(self.world.network, address)
        self.world.zones.add(domain, "MX", f"{preference} mx{number}.{domain}.")
        self.world.zones.add(f"mx{number}.{domain}", "A", address)
        self.peers.append(peer)
        return peer

    async def run_for(self, seconds: float) -> None:
        tasks = [
            asyncio.ensure_future(self.relay.run()),
            asyncio.ensure_future(self.deadlines.run()),
            asyncio.ensure_future(self.runner.run()),
        ]
        await self.clock.sleep(seconds)
        for task in tasks:
            if task.done():
                await task
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def attempts(self, message) -> list[AttemptRecord]:
        found = self.store.read_now(lambda tx: rows.attempts_of(tx, message))
        return [msgspec.json.decode(row.record, type=AttemptRecord) for row in found]

    def last_reply(self, message) -> str | None:
        return self.recipients(message)[0].last_reply
