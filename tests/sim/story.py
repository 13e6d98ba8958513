"""A busy little world, told as a list of lines: what has to be the same for the same seed."""

import asyncio
from functools import partial
from typing import Any

from posthouse.kernel.ports import RecordType
from posthouse.sim.dns import DnsFault, ZoneResolver
from posthouse.sim.faults import Faults
from posthouse.sim.peers import SmtpPeer
from posthouse.sim.personality import Personality
from posthouse.sim.world import World, run_virtual

CLIENTS = 8
SESSION = (
    b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@peer.test>\r\nDATA\r\n"
    b"Subject: hello\r\n\r\nbody\r\n.\r\nQUIT\r\n"
)


class Client(asyncio.Protocol):
    """Says everything at once and notes every segment that comes back."""

    def __init__(self, name: str, world: World, lines: list[str]) -> None:
        self.name, self.world, self.lines = name, world, lines
        self.closed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.note("connected")
        transport.write(SESSION)

    def data_received(self, data: bytes) -> None:
        self.note(repr(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(f"lost {exc!r}")
        self.closed.set()

    def note(self, text: str) -> None:
        self.lines.append(f"{self.world.clock.monotonic_s():.9f} {self.name} {text}")


def as_is(client: Client) -> Client:
    return client


async def live(world: World) -> list[str]:
    lines: list[str] = []
    peer = SmtpPeer(Personality(greylist_s=600, connections_max=CLIENTS - 1))
    await peer.serve(world.network, "192.0.2.25")
    world.zones.add("peer.test", "MX", "10 mx.peer.test.", "10 mx2.peer.test.")
    world.zones.fault("peer.test", DnsFault.SERVFAIL, times=CLIENTS)
    resolver = ZoneResolver(world.zones)
    world.network.fault(
        "192.0.2.25", Faults(jitter_s=0.5, is_cut_at_random=True, octets_per_s=2000)
    )

    async def run(number: int) -> None:
        for _ in range(3):
            answer = await resolver.resolve("peer.test", RecordType.MX)
            client = Client(f"client{number}", world, lines)
            client.note(answer.status.value)
            await world.network.connect(partial(as_is, client), "192.0.2.25", 25, timeout_s=30)
            await client.closed.wait()
            await world.clock.sleep(world.chance.uniform(300, 900))

    async def fail() -> None:
        await world.clock.sleep(2000)
        raise TimeoutError("the story ends")

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(run(number))
            group.create_task(fail())
    except* TimeoutError:
        lines.append("ended")
    lines += [f"{each.received_s:.9f} {each.client}" for each in peer.messages]
    return lines


def tell(*, seed: int) -> list[str]:
    return run_virtual(live, seed=seed)
