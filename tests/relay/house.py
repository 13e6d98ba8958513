"""Queue and relay together in the simulated world, with hosts that have a personality."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from posthouse.net.deadlines import Deadlines
from posthouse.net.smtp_client import Timeouts
from posthouse.net.trace_ids import TraceIds
from posthouse.queue.work import AttemptRecord, Ending
from posthouse.relay.mta_sts import Options as StsOptions
from posthouse.relay.mta_sts import StsPolicies
from posthouse.relay.options import Options, tls_contexts
from posthouse.relay.plan import RouteOptions
from posthouse.relay.pool import Relay
from posthouse.relay.tls_result import TlsResult
from posthouse.sim.dns import ZoneResolver
from posthouse.sim.peers import SmtpPeer
from posthouse.sim.personality import ACCEPTS, Personality
from posthouse.sim.web import Web
from posthouse.sim.world import World
from posthouse.store import queue as rows
from tests.queue.house import House, say

CONTEXTS = tls_contexts()
ROUTES = RouteOptions(allow_private_addresses=True, own_addresses=frozenset({"192.0.2.1"}))


class RelayHouse(House):
    """A `House` whose agent is the relay. `there.example` is served by `peers[0]` and on."""

    def __init__(self, folder: Path, world: World, **options: object) -> None:
        self.world = world
        super().__init__(folder, world.clock, say(Ending.RELAYED))
        self.deadlines = Deadlines(world.clock)
        timeouts = options.pop("timeouts", Timeouts())
        routes = options.pop("routes", ROUTES)
        resolver = options.pop("resolver", None) or ZoneResolver(world.zones)
        self.web = Web()
        self.told: list[TlsResult] = []
        self.policies = StsPolicies(
            StsOptions(),
            resolver=resolver,
            fetch=self.web,
            clock=world.clock,
            store=self.store,
            on_tls=self.told.append,
        )
        self.relay = Relay(
            Options(host="mail.here.example", timeouts=timeouts, routes=routes, **options),
            network=world.network,
            resolver=resolver,
            clock=world.clock,
            chance=world.chance,
            deadlines=self.deadlines,
            contexts=CONTEXTS,
            trace_ids=TraceIds(world.clock, world.chance),
            policies=self.policies,
            on_tls=self.told.append,
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
            asyncio.ensure_future(self.policies.run()),
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
