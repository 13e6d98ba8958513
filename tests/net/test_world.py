"""The real clock, chance, network and threads."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from posthouse.kernel.errors import UserError
from posthouse.net.trace_ids import TraceIds
from posthouse.net.workers import ThreadWorkers, WorkersBusy
from posthouse.net.world import (
    STRANGE_DATAGRAMS_MAX,
    SystemChance,
    SystemClock,
    SystemNetwork,
    connections_max_for,
    raise_descriptor_limit,
)
from tests.net.memory import ToldClock


def test_the_clock_tells_one_time_in_two_forms() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    difference = clock.now().timestamp() * 1e6 - clock.unix_us()
    assert abs(difference) < timedelta(minutes=1) / timedelta(microseconds=1)
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_chance_keeps_every_item_and_gives_what_was_asked() -> None:
    chance = SystemChance()
    items = list(range(100))
    assert sorted(chance.shuffled(items)) == items == list(range(100))
    assert len(chance.token(16)) == 16 and chance.token(16) != chance.token(16)
    assert 2 <= chance.uniform(2, 3) <= 3


def test_trace_ids_sort_by_time_and_do_not_repeat() -> None:
    clock = ToldClock()
    names = TraceIds(clock, SystemChance())
    seen = []
    for _ in range(1000):
        clock.elapsed_s += 0.000_002
        seen.append(names.next())
    assert seen == sorted(set(seen)) and {len(name) for name in seen} == {14}


# --- network ---


async def test_a_taken_port_and_a_strange_address_are_told_in_words() -> None:
    network = SystemNetwork()
    listening = await network.listen(asyncio.Protocol, "127.0.0.1", 0)
    with pytest.raises(UserError, match="another program uses it") as told:
        await network.listen(asyncio.Protocol, *listening.address)
    assert str(listening.address[1]) in told.value.hint
    with pytest.raises(UserError, match="does not have that address"):
        await network.listen(asyncio.Protocol, "192.0.2.1", 0)
    with pytest.raises(UserError, match="not-an-address"):
        await network.listen(asyncio.Protocol, "not-an-address", 0)
    listening.close()


async def test_two_processes_can_share_a_port() -> None:
    first = await SystemNetwork(reuse_port=True).listen(asyncio.Protocol, "127.0.0.1", 0)
    second = await SystemNetwork(reuse_port=True).listen(asyncio.Protocol, *first.address)
    assert first.address == second.address
    first.close()
    second.close()


async def test_an_inherited_socket_is_used_in_place_of_binding() -> None:
    sock = SystemNetwork().bind("127.0.0.1", 0)
    network = SystemNetwork(inherited={("0.0.0.0", 25): sock})
    listening = await network.listen(asyncio.Protocol, "0.0.0.0", 25)
    assert listening.address == sock.getsockname()
    listening.close()


async def test_connections_have_no_delay_and_keepalive_on_both_ends() -> None:
    made: list[asyncio.Transport] = []

    class Keep(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)  # type: ignore[arg-type]

    network = SystemNetwork()
    listening = await network.listen(Keep, "127.0.0.1", 0)
    await network.connect(Keep, *listening.address, timeout_s=5, local_address="127.0.0.7")
    while len(made) < 2:
        await asyncio.sleep(0)
    for transport in made:
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    names = {transport.get_extra_info("peername")[0] for transport in made}
    assert names == {"127.0.0.1", "127.0.0.7"}
    for transport in made:
        transport.abort()
    listening.close()
    await asyncio.sleep(0)


async def test_a_refused_and_a_late_connection_are_os_errors() -> None:
    network = SystemNetwork()
    closed = network.bind("127.0.0.1", 0)
    address = closed.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(asyncio.Protocol, *address, timeout_s=5)
    closed.listen(0)
    fillers = []
    for _ in range(4):  # nobody accepts: the queue fills and the handshake hangs
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex(address)
    with pytest.raises(TimeoutError):
        await network.connect(asyncio.Protocol, *address, timeout_s=0.05)
    for sock in (*fillers, closed):
        sock.close()


async def test_a_path_is_a_unix_socket(tmp_path: Path) -> None:
    network, path = SystemNetwork(), tmp_path / "socket"
    with pytest.raises(FileNotFoundError):
        await network.connect(asyncio.Protocol, str(path), 0, timeout_s=5)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(ConnectionRefusedError):
            await network.connect(asyncio.Protocol, str(path), 0, timeout_s=5)
        server.listen(0)
        made: list[asyncio.Transport] = []

        class Keep(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append(transport)  # type: ignore[arg-type]

        await network.connect(Keep, str(path), 0, timeout_s=5)
        with pytest.raises(TimeoutError):  # the queue is full
            await network.connect(Keep, str(path), 0, timeout_s=0.05)
        waiting = asyncio.ensure_future(network.connect(Keep, str(path), 0, timeout_s=5))
        first, _ = server.accept()
        await waiting
        second, _ = server.accept()
        made[1].write(b"hello")
        assert await asyncio.to_thread(second.recv, 5) == b"hello"
        for end in (first, second):
            end.close()
        for transport in made:
            transport.close()
        await asyncio.sleep(0)


class ClosesAtOnce(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def test_a_connection_closed_at_once_closes_its_descriptor_once() -> None:
    """A second close, by whoever collects the socket object, would hit somebody else's."""
    network = SystemNetwork()
    listening = await network.listen(asyncio.Protocol, "127.0.0.1", 0)
    for _ in range(5):
        await network.connect(ClosesAtOnce, *listening.address, timeout_s=5)
        with socket.socket() as other:
            gc.collect()
            assert os.fstat(other.fileno())
    listening.close()


async def test_a_datagram_s_answer_is_the_one_with_its_id() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        asked = asyncio.ensure_future(
            SystemNetwork().exchange(b"\x12\x34?", *server.getsockname(), timeout_s=5)
        )
        question, client = await asyncio.to_thread(server.recvfrom, 100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
            forger.sendto(b"\x12\x34forged", client)  # right id, wrong source
        server.sendto(b"\x99\x99late", client)
        server.sendto(b"\x12\x34!", client)
        assert question == b"\x12\x34?" and await asked == b"\x12\x34!"


async def test_guessing_the_id_of_a_datagram_has_an_end() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        asked = asyncio.ensure_future(
            SystemNetwork().exchange(b"\x12\x34?", *server.getsockname(), timeout_s=5)
        )
        _, client = await asyncio.to_thread(server.recvfrom, 100)
        for number in range(STRANGE_DATAGRAMS_MAX):
            server.sendto(bytes([0, number]), client)
        with pytest.raises(OSError, match="wrong id"):
            await asked
        with pytest.raises(TimeoutError):
            address = server.getsockname()
            await SystemNetwork().exchange(b"ab", *address, timeout_s=0.01)


def test_the_connection_limit_leaves_a_fifth_of_the_descriptors() -> None:
    assert connections_max_for(1024, 10_000) == 819
    assert connections_max_for(1_000_000, 10_000) == 10_000
    assert raise_descriptor_limit() >= 64


# --- workers ---


async def test_work_runs_on_other_threads_and_its_errors_come_back() -> None:
    workers = ThreadWorkers(hash_max=2)
    here = threading.get_ident()
    assert here not in await asyncio.gather(*(workers.run(threading.get_ident) for _ in range(9)))
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    with pytest.raises(TimeoutError, match="its own"):
        await workers.run(lambda: (_ for _ in ()).throw(TimeoutError("its own")))
    assert workers.waiting == 0
    workers.close()


async def test_too_much_waiting_work_is_refused_at_once() -> None:  # F22
    workers, gate = ThreadWorkers(hash_max=1, queue_max=2), threading.Event()
    waiting = [asyncio.ensure_future(workers.run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    assert workers.waiting == 2
    with pytest.raises(WorkersBusy):
        await workers.run(int)
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert await workers.run(int) == 0
    workers.close()


async def test_a_thread_that_hangs_is_replaced_and_nobody_waits_for_ever() -> None:  # F22
    workers, gate = ThreadWorkers(hash_max=1, work_s=0.05), threading.Event()
    hung = await asyncio.gather(
        workers.run(gate.wait), workers.run(gate.wait), return_exceptions=True
    )
    assert all(isinstance(error, WorkersBusy) for error in hung)
    workers._work_s = 10
    assert await workers.run(lambda: 7) == 7
    gate.set()
    assert await workers.run(lambda: 8) == 8
    workers.close()
