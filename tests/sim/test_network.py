"""The network in memory: transports behave as asyncio's, faults do what they say."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from posthouse.sim.faults import Faults
from posthouse.sim.world import World, run_virtual

SERVER, CLIENT = "192.0.2.1", "192.0.2.2"
PORT = 25


class Side(asyncio.Protocol):
    """Keeps what it hears, as (time, what) pairs."""

    def __init__(self, world: World, *, keeps_open_at_eof: bool = False) -> None:
        self.world = world
        self.transport: Any = None
        self.heard: list[tuple[float, bytes]] = []
        self.events: list[str] = []
        self.error: Exception | None = None
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.keeps_open_at_eof = keeps_open_at_eof

    @property
    def octets(self) -> bytes:
        return b"".join(octets for _, octets in self.heard)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.set()
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard.append((self.world.clock.monotonic_s(), data))

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keeps_open_at_eof

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.error = exc
        self.lost.set()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


async def pair(
    world: World, faults: Faults | None = None, **server_options: Any
) -> tuple[Side, Side]:
    """A client and a server that are connected."""
    servers: list[Side] = []

    def factory() -> Side:
        servers.append(Side(world, **server_options))
        return servers[-1]

    await world.network.at(SERVER).listen(factory, "0.0.0.0", PORT)
    if faults is not None:
        world.network.fault(SERVER, faults)
    client = Side(world)
    host = world.network.at(CLIENT)
    assert await host.connect(lambda: client, SERVER, PORT, timeout_s=30) is client
    await servers[0].made.wait()
    return client, servers[0]


def test_octets_arrive_in_order_after_the_latency() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world, Faults(latency_s=0.2))
        assert world.clock.monotonic_s() == pytest.approx(0.4)  # SYN and SYN-ACK
        client.transport.write(b"one ")
        client.transport.writelines([b"two ", b"three"])
        await world.clock.sleep(0.19)
        assert server.octets == b""
        await world.clock.sleep(0.02)
        assert server.octets == b"one two three"
        server.transport.write(b"yes")
        await world.clock.sleep(1)
        assert client.octets == b"yes"
        assert client.transport.get_extra_info("peername") == (SERVER, PORT)
        assert server.transport.get_extra_info("peername")[0] == CLIENT
        assert server.transport.get_extra_info("sockname") == (SERVER, PORT)
        assert server.transport.get_extra_info("nothing", 7) == 7

    run_virtual(main)


def test_close_delivers_what_was_written_and_tells_each_side_once() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world)
        client.transport.write(b"x" * 500_000)  # more than buffer and window hold
        client.transport.close()
        client.transport.close()
        client.transport.write(b"too late")
        assert client.transport.is_closing()
        await server.lost.wait()
        await client.lost.wait()
        assert server.octets == b"x" * 500_000
        assert (client.error, server.error) == (None, None)
        assert client.events.count("lost") == server.events.count("lost") == 1
        assert server.events == ["made", "eof", "lost"]
        assert not world.network.connections

    run_virtual(main)


def test_a_side_may_go_on_writing_after_the_other_has_finished() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world, keeps_open_at_eof=True)
        client.transport.write(b"question")
        client.transport.write_eof()
        with pytest.raises(RuntimeError):
            client.transport.write(b"more")
        await world.clock.sleep(1)
        assert server.events == ["made", "eof"]
        server.transport.write(b"answer")
        server.transport.close()
        await client.lost.wait()
        assert client.octets == b"answer"

    run_virtual(main)


def test_abort_is_a_reset_for_the_peer() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world)
        client.transport.abort()
        await client.lost.wait()
        await server.lost.wait()
        assert client.error is None
        assert isinstance(server.error, ConnectionResetError)

    run_virtual(main)


def test_writing_to_a_side_that_is_gone_is_a_reset() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world, keeps_open_at_eof=True)
        client.transport.close()
        await client.lost.wait()
        await world.clock.sleep(1)
        server.transport.write(b"anybody?")
        await server.lost.wait()
        assert isinstance(server.error, ConnectionResetError)

    run_virtual(main)


def test_a_reader_that_pauses_makes_the_writer_pause() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world)
        server.transport.pause_reading()
        client.transport.write(b"x" * 60_000)  # the window takes it
        await world.clock.sleep(1)
        assert client.events == ["made"]
        client.transport.write(b"x" * 80_000)
        assert client.events == ["made", "pause"]
        assert client.transport.get_write_buffer_size() == 140_000 - 65_536
        await world.clock.sleep(3600)
        assert server.octets == b""
        server.transport.resume_reading()
        await world.clock.sleep(1)
        assert client.events == ["made", "pause", "resume"]
        assert len(server.octets) == 140_000

    run_virtual(main)


def test_buffer_limits_can_be_set_as_in_asyncio() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world)
        server.transport.pause_reading()
        client.transport.set_write_buffer_limits(high=0)
        assert client.transport.get_write_buffer_limits() == (0, 0)
        client.transport.write(b"x" * 65_536)
        assert client.events == ["made"]
        client.transport.write(b"x")
        assert client.events == ["made", "pause"]

    run_virtual(main)


def test_a_protocol_that_raises_loses_its_connection_only() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world)
        complaints: list[dict[str, Any]] = []
        world.loop.set_exception_handler(lambda _, context: complaints.append(context))

        def explode(data: bytes) -> None:
            raise ValueError("a bug")

        server.data_received = explode  # type: ignore[method-assign]
        client.transport.write(b"boom")
        await server.lost.wait()
        await client.lost.wait()
        assert isinstance(server.error, ValueError)
        assert isinstance(client.error, ConnectionResetError)
        assert len(complaints) == 1

    run_virtual(main)


@pytest.mark.parametrize(
    ("faults", "error", "took_s"),
    [
        (Faults(is_refusing=True), ConnectionRefusedError, 0.002),
        (Faults(is_silent=True), TimeoutError, 30),
        (Faults(is_unreachable=True), OSError, 0.002),
        (Faults(latency_s=20), TimeoutError, 30),
    ],
)
def test_ways_not_to_connect(faults: Faults, error: type[OSError], took_s: float) -> None:
    async def main(world: World) -> float:
        await world.network.listen(lambda: Side(world), SERVER, PORT)
        world.network.fault((SERVER, PORT), faults)
        with pytest.raises(error):
            await world.network.connect(lambda: Side(world), SERVER, PORT, timeout_s=30)
        return world.clock.monotonic_s()

    assert run_virtual(main) == pytest.approx(took_s)


def test_a_closed_listener_refuses_and_its_connections_live_on() -> None:
    async def main(world: World) -> None:
        servers: list[Side] = []

        def factory() -> Side:
            servers.append(Side(world))
            return servers[-1]

        listening = await world.network.listen(factory, SERVER, 0)
        client = Side(world)
        await world.network.connect(lambda: client, *listening.address, timeout_s=1)
        with pytest.raises(OSError):
            await world.network.listen(factory, *listening.address)
        listening.close()
        with pytest.raises(ConnectionRefusedError):
            await world.network.connect(lambda: Side(world), *listening.address, timeout_s=1)
        client.transport.write(b"still here")
        await world.clock.sleep(1)
        assert servers[0].octets == b"still here"

    run_virtual(main)


@pytest.mark.parametrize("limit", [0, 1, 10, 11])
def test_a_reset_after_so_many_octets(limit: int) -> None:
    async def main(world: World) -> None:
        client, server = await pair(world, Faults(reset_after_octets=limit))
        client.transport.write(b"0123456")
        await world.clock.sleep(1)
        client.transport.write(b"789ABC")
        await world.clock.sleep(1)
        assert server.octets == b"0123456789ABC"[:limit]
        assert isinstance(client.error, ConnectionResetError)
        assert isinstance(server.error, ConnectionResetError)

    run_virtual(main)


# Half-open.
def test_a_line_that_vanishes_says_nothing_to_either_side() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world, Faults(vanish_after_octets=5))
        client.transport.write(b"0123456789")
        await world.clock.sleep(1)
        client.transport.abort()
        await world.clock.sleep(100_000)
        assert server.octets == b"01234"
        assert server.events == ["made"]

    run_virtual(main)


def test_octets_drip_at_the_rate_asked_for() -> None:
    async def main(world: World) -> None:
        faults = Faults(octets_per_s=0.01, segment_octets_max=1)
        client, server = await pair(world, faults)
        client.transport.write(b"250 ok")
        await server_heard(server, 6)
        times = [time_s for time_s, _ in server.heard]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert [octets for _, octets in server.heard] == [b"2", b"5", b"0", b" ", b"o", b"k"]
        assert gaps == pytest.approx([100.0] * 5)

    run_virtual(main)


async def server_heard(server: Side, octets: int) -> None:
    while len(server.octets) < octets:
        await server.world.clock.sleep(1)


def test_segments_are_cut_at_random_and_in_the_same_places_for_a_seed() -> None:
    async def main(world: World) -> list[bytes]:
        client, server = await pair(world, Faults(is_cut_at_random=True, jitter_s=0.5))
        client.transport.write(bytes(range(256)) * 4)
        await server_heard(server, 1024)
        assert server.octets == bytes(range(256)) * 4
        return [octets for _, octets in server.heard]

    assert run_virtual(main, seed=1) == run_virtual(main, seed=1) != run_virtual(main, seed=2)
    assert len(run_virtual(main, seed=1)) > 3


def test_a_partition_holds_octets_until_it_heals() -> None:
    async def main(world: World) -> None:
        client, server = await pair(world)
        world.network.partition([CLIENT], [SERVER, "192.0.2.9"])
        client.transport.write(b"first ")
        await world.clock.sleep(1000)
        client.transport.write(b"second")
        await world.clock.sleep(1000)
        assert server.octets == b""
        host = world.network.at(CLIENT)
        with pytest.raises(TimeoutError):
            await host.connect(lambda: Side(world), SERVER, PORT, timeout_s=10)
        await world.network.at("192.0.2.8").connect(lambda: Side(world), SERVER, PORT, timeout_s=10)
        world.network.heal_partitions()
        assert server.octets == b"first second"

    run_virtual(main)


class Echo(asyncio.DatagramProtocol):
    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for answer in self.answers:
            self.transport.sendto(answer, addr)


# An answer with another id is not ours.
def test_a_datagram_with_a_wrong_id_is_ignored() -> None:
    async def main(world: World) -> bytes:
        answers = [b"\x09\x09forged", b"\x01\x02true"]
        await world.network.listen_datagrams(lambda: Echo(answers), SERVER, 53)
        return await world.network.exchange(b"\x01\x02?", SERVER, 53, timeout_s=5)

    assert run_virtual(main) == b"\x01\x02true"


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(is_silent=True), TimeoutError),
        (Faults(datagram_loss=1.0), TimeoutError),
        (Faults(latency_s=3.0), TimeoutError),
        (Faults(is_refusing=True), OSError),
        (Faults(is_unreachable=True), OSError),
    ],
)
def test_ways_to_lose_a_datagram(faults: Faults, error: type[OSError]) -> None:
    async def main(world: World) -> None:
        await world.network.listen_datagrams(lambda: Echo([b"\x01\x02"]), SERVER, 53)
        assert await world.network.exchange(b"\x01\x02", SERVER, 53, timeout_s=5)
        world.network.fault(SERVER, faults)
        with pytest.raises(error):
            await world.network.exchange(b"\x01\x02", SERVER, 53, timeout_s=5)
        world.network.heal(SERVER)
        assert await world.network.exchange(b"\x01\x02", SERVER, 53, timeout_s=5)
        with pytest.raises(ConnectionRefusedError):
            await world.network.exchange(b"\x01\x02", SERVER, 54, timeout_s=5)

    run_virtual(main)
