"""Listeners: who gets in, who is told what, the PROXY header, draining. Then over real sockets."""

from __future__ import annotations

import asyncio
import gc
import resource
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.ids import TraceId
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import ConnectionLimits, Connections, Limit, WholeProcess
from posthouse.net.listener import (
    PROXY_HEADER_S,
    Listener,
    ListenerOptions,
    Refused,
    descriptor_reserve,
)
from posthouse.net.stream import Peer, Stream, TlsStart
from posthouse.net.tls_adapter import TlsAdapter
from posthouse.net.trace_ids import TraceIds
from posthouse.net.world import SystemNetwork
from posthouse.sim.world import World, run_virtual
from tests.net.memory import MemoryTransport, Recorder, ToldClock

PROXY = b"PROXY TCP4 198.51.100.7 192.0.2.9 4711 25\r\n"


class GreetingService:
    def __init__(self) -> None:
        self.sessions: list[Recorder] = []
        self.banned: set[str] = set()
        self.on: dict[str, Any] = {"connected": lambda h: h.stream.write(b"220 hello\r\n")}

    def session(self, stream: Stream) -> Recorder:
        self.sessions.append(Recorder(**self.on))
        return self.sessions[-1]

    def refusal(self, limit: Limit) -> bytes:
        return f"421 4.7.0 {limit.value}\r\n".encode()

    def turned_away(self, peer: Peer) -> bytes | None:
        return b"554 5.7.1 banned\r\n" if peer.address in self.banned else None


class MemoryNetwork:
    """Keeps the factory, so that tests make connections arrive."""

    factory: Callable[[], Any]
    is_open = False

    async def listen(self, factory: Callable[[], Any], address: str, port: int) -> MemoryNetwork:
        self.factory, self.is_open = factory, True
        return self

    @property
    def address(self) -> tuple[str, int]:
        return ("192.0.2.9", 25)

    def close(self) -> None:
        self.is_open = False

    def arrive(self, **about: Any) -> tuple[Stream, MemoryTransport]:
        stream, transport = self.factory(), MemoryTransport(**about)
        stream.connection_made(transport)
        return stream, transport


class House:
    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ConnectionLimits | None = None,
        process: WholeProcess | None = None,
        **options: Any,
    ) -> None:
        self.clock = ToldClock()
        self.deadlines = Deadlines(self.clock)
        self.service = GreetingService()
        self.network = MemoryNetwork()
        self.refused: list[Refused] = []
        self.process = process or WholeProcess()
        self.connections = Connections(limits or ConnectionLimits(), self.process)
        names: Iterator[int] = iter(range(1_000_000))
        self.listener = Listener(
            ListenerOptions(**{"name": "smtp", "address": "192.0.2.9", "port": 25, **options}),
            self.service,
            clock=self.clock,
            deadlines=self.deadlines,
            connections=self.connections,
            trace_ids=lambda: TraceId(f"t{next(names)}"),
            tls=(lambda: tls) if tls is not None else None,
            on_refused=self.refused.append,
        )

    async def opened(self) -> House:
        await self.listener.open(self.network)  # type: ignore[arg-type]
        return self


async def test_a_connection_gets_a_session_and_is_counted_until_it_is_lost() -> None:
    house = await House().opened()
    stream, transport = house.network.arrive()
    assert transport.writes == [b"220 hello\r\n"] and house.process.open == 1
    assert house.listener.sessions == 1 and house.listener.address == ("192.0.2.9", 25)
    stream.data_received(b"NOOP\r\n")
    stream.connection_lost(None)
    assert house.service.sessions[0].events == ["connected", "received", "lost"]
    assert (house.process.open, house.listener.sessions, house.connections.addresses) == (0, 0, 0)


async def test_limits_are_told_in_the_service_s_words_and_reported() -> None:  # P9
    house = await House(limits=ConnectionLimits(per_address_max=1)).opened()
    house.network.arrive()
    stream, transport = house.network.arrive()
    assert transport.writes == [b"421 4.7.0 net.per_address_max\r\n"] and transport.is_closed
    refused = house.refused[0]
    assert refused.reached is not None and refused.listener == "smtp"
    assert (refused.reached.value, refused.reached.observed) == (1, 1)
    stream.connection_lost(None)
    assert house.process.open == 1 and len(house.service.sessions) == 1


async def test_a_full_process_refuses_with_words_and_recovers() -> None:
    house = await House(process=WholeProcess(1)).opened()
    first, _ = house.network.arrive()
    _, transport = house.network.arrive(address="198.51.100.1")
    assert transport.writes == [b"421 4.7.0 net.connections_max\r\n"]
    first.connection_lost(None)
    _, transport = house.network.arrive(address="198.51.100.1")
    assert transport.writes == [b"220 hello\r\n"]


async def test_the_service_may_turn_a_peer_away() -> None:
    house = await House().opened()
    house.service.banned.add("192.0.2.1")
    stream, transport = house.network.arrive()
    assert transport.writes == [b"554 5.7.1 banned\r\n"] and transport.is_closed
    stream.connection_lost(None)
    assert house.process.open == 0 and house.refused[0].reason == "turned away"


async def test_a_refusal_on_a_tls_port_closes_without_plaintext(
    server_tls: ssl.SSLContext,
) -> None:
    house = await House(tls=server_tls, process=WholeProcess(0)).opened()
    _, transport = house.network.arrive()
    assert transport.writes == [] and transport.is_closed


async def test_a_descriptor_of_the_reserve_only_refuses() -> None:  # F21
    house = await House(descriptors_max=64).opened()
    last = 64 - descriptor_reserve(64)
    _, transport = house.network.arrive(descriptor=last - 1)
    assert transport.writes == [b"220 hello\r\n"]
    _, transport = house.network.arrive(descriptor=last)
    assert transport.writes == [b"421 4.7.0 net.descriptors\r\n"] and transport.is_closed


async def test_a_bug_in_making_the_session_leaves_no_open_connection() -> None:
    house = await House().opened()
    house.service.session = lambda stream: 1 / 0  # type: ignore[method-assign,assignment]
    stream, transport = house.network.factory(), MemoryTransport()
    with pytest.raises(ZeroDivisionError):
        stream.connection_made(transport)
    assert transport.is_aborted
    stream.connection_lost(None)
    assert house.process.open == 0


# --- PROXY ---


async def test_a_trusted_proxy_s_header_names_the_peer_wherever_it_is_cut() -> None:  # H21
    whole = PROXY + b"EHLO x\r\n"
    for cut in range(1, len(whole)):
        house = await House(proxy_networks=("192.0.2.0/24",)).opened()
        stream, transport = house.network.arrive()
        stream.data_received(whole[:cut])
        stream.data_received(whole[cut:])
        session = house.service.sessions[0]
        assert stream.peer == Peer("198.51.100.7", 4711) and session.octets == b"EHLO x\r\n"
        assert transport.writes == [b"220 hello\r\n"] and len(house.deadlines) == 0


async def test_limits_count_the_original_client_behind_a_proxy() -> None:
    limits = ConnectionLimits(per_address_max=1)
    house = await House(proxy_networks=("192.0.2.1",), limits=limits).opened()
    first, _ = house.network.arrive()
    first.data_received(PROXY)
    second, transport = house.network.arrive()
    second.data_received(PROXY.replace(b".7 ", b".8 "))
    assert transport.writes == [b"220 hello\r\n"]
    third, transport = house.network.arrive()
    third.data_received(PROXY)
    assert transport.writes == [b"421 4.7.0 net.per_address_max\r\n"]
    first.connection_lost(None)
    second.connection_lost(None)
    third.connection_lost(None)
    assert (house.process.open, house.connections.addresses) == (0, 0)


async def test_a_stranger_s_proxy_header_is_only_a_bad_command() -> None:  # H21
    for trusted in ((), ("203.0.113.0/24",)):
        house = await House(proxy_networks=trusted).opened()
        stream, _ = house.network.arrive()
        stream.data_received(PROXY)
        assert house.service.sessions[0].octets == PROXY
        assert stream.peer == Peer("192.0.2.1", 1025)


async def test_a_trusted_proxy_without_a_right_header_is_closed() -> None:
    house = await House(proxy_networks=("192.0.2.1",)).opened()
    stream, transport = house.network.arrive()
    stream.data_received(b"EHLO x\r\n")
    assert transport.writes == [] and transport.is_closed and house.service.sessions == []
    assert house.refused[0].reason == "no PROXY header"
    stream.connection_lost(None)
    assert len(house.deadlines) == 0


async def test_a_header_that_never_comes_is_waited_for_only_a_while() -> None:  # H15
    house = await House(proxy_networks=("192.0.2.1",)).opened()
    stream, transport = house.network.arrive()
    stream.data_received(PROXY[:5])
    house.clock.elapsed_s += PROXY_HEADER_S + 1
    house.deadlines.sweep()
    assert transport.is_aborted
    stream.connection_lost(None)
    assert len(house.deadlines) == 0 and house.process.open == 0


async def test_a_proxy_that_hangs_up_before_its_header_is_forgotten() -> None:
    house = await House(proxy_networks=("192.0.2.1",)).opened()
    stream, transport = house.network.arrive()
    stream.eof_received()
    assert transport.is_closed
    stream.connection_lost(None)
    assert len(house.deadlines) == 0 and house.service.sessions == []


async def test_proxy_header_and_client_hello_in_one_segment_work(  # H21
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    house = await House(tls=server_tls, proxy_networks=("192.0.2.1",)).opened()
    stream, transport = house.network.arrive()
    client = TlsAdapter(client_tls, server_side=False, server_name="mail.example.org")
    client.advance()
    stream.data_received(PROXY + client.take_outgoing())
    client.receive(transport.take())
    stream.data_received(client.take_outgoing())
    assert client.receive(transport.take()) == b"220 hello\r\n"
    assert stream.tls is not None and stream.peer.address == "198.51.100.7"


# --- draining ---


async def test_draining_lets_sessions_finish_and_then_closes_them() -> None:
    house = await House().opened()
    obedient, at_obedient = house.network.arrive()
    stubborn, at_stubborn = house.network.arrive(address="198.51.100.1")
    first, second = house.service.sessions
    first.on["drain"] = lambda handler: (handler.stream.close(), obedient.connection_lost(None))
    started_s = house.clock.elapsed_s
    assert await house.listener.drain(30) == 1
    assert not house.network.is_open and first.events[-2:] == ["drain", "lost"]
    assert second.events == ["connected", "drain"] and at_stubborn.is_aborted
    assert 30 <= house.clock.elapsed_s - started_s < 32 and at_obedient.is_closed
    stubborn.connection_lost(None)
    assert house.process.open == 0


async def test_draining_an_idle_listener_takes_no_time() -> None:
    house = await House(proxy_networks=("192.0.2.1",)).opened()
    stream, transport = house.network.arrive()  # still without its PROXY header
    transport.abort = lambda: stream.connection_lost(None)  # type: ignore[method-assign]
    started_s = house.clock.elapsed_s
    assert await house.listener.drain() == 0 and house.clock.elapsed_s == started_s


def test_a_closed_listener_has_no_address() -> None:
    with pytest.raises(LocalProtocolError):
        _ = House().listener.address


# --- in the simulator ---


def test_a_tls_listener_lives_in_the_simulator_too(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main(world: World) -> None:
        service, dialled = GreetingService(), Recorder()
        service.on["drain"] = lambda handler: handler.stream.close()
        deadlines = Deadlines(world.clock)
        listener = Listener(
            ListenerOptions(name="smtps", address="192.0.2.9", port=465),
            service,
            clock=world.clock,
            deadlines=deadlines,
            connections=Connections(ConnectionLimits(), WholeProcess()),
            trace_ids=TraceIds(world.clock, world.chance).next,
            tls=lambda: server_tls,
        )
        await listener.open(world.network)
        start = TlsStart(context=client_tls, server_side=False, server_name="mail.example.org")
        stream = Stream(dialled, trace_id=TraceId("c"), deadlines=deadlines, tls=start)
        dialled.on["ended"] = lambda handler: handler.stream.close()
        await world.network.connect(lambda: stream, "192.0.2.9", 465, timeout_s=5)
        await dialled.until("received")
        assert dialled.octets == b"220 hello\r\n" and listener.sessions == 1
        assert await listener.drain() == 0
        await dialled.until("lost")
        assert dialled.error is None and not stream.is_cut

    run_virtual(main)


# --- over sockets ---


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


CLIENTS = """
import socket, sys
def read(connection):
    try:
        return connection.recv(100)
    except OSError:
        return b""
sys.stdin.readline()
many = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(80)]
for connection in many:
    connection.settimeout(10)
heard = [read(connection) for connection in many]
print(heard.count(b"220 hello\\r\\n"), sum(h.startswith(b"421") for h in heard),
      heard.count(b""), flush=True)
for connection in many:
    connection.close()
sys.stdin.readline()
again = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
again.settimeout(10)
print(read(again).decode().strip(), flush=True)
"""


@pytest.mark.timed
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_out_of_descriptors_it_refuses_does_not_spin_and_recovers(loop: str) -> None:  # F21
    async def main() -> None:
        limits = ConnectionLimits(exempt_networks=("127.0.0.0/8",))
        gc.collect()  # descriptors that tests before left would be freed in the middle
        maximum = len(list(Path("/proc/self/fd").iterdir())) + 40
        house = House(limits=limits, descriptors_max=maximum, address="127.0.0.1", port=0)
        house.service.on["ended"] = lambda handler: handler.stream.close()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncio logs EMFILE
        await house.listener.open(SystemNetwork())
        clients = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CLIENTS,
            str(house.listener.address[1]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert clients.stdin is not None and clients.stdout is not None
        with descriptors(maximum):
            cpu_s = time.process_time()
            clients.stdin.write(b"go\n")
            served, told, cut = map(int, (await clients.stdout.readline()).split())
            for session in house.service.sessions:
                await session.until("lost")
            assert time.process_time() - cpu_s < 2
        assert served + told + cut == 80 and 10 <= served < 40 and told > 0
        clients.stdin.write(b"go\n")
        assert await clients.stdout.readline() == b"220 hello\n"
        await clients.wait()
        assert house.process.open <= 1
        house.listener.close()

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
