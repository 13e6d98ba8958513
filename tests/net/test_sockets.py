"""Streams over real loopback sockets, on both loops; openssl as a stranger; memory when idle."""

from __future__ import annotations

import asyncio
import gc
import shutil
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from posthouse.kernel.ids import TraceId
from posthouse.net.deadlines import Deadlines
from posthouse.net.stream import Stream, TlsFailure, TlsStart, TlsTrouble
from posthouse.net.world import SystemClock, SystemNetwork
from tests.net.memory import Recorder

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    def run(work: Any) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(work)

    return run


class Ends:
    """A listening port whose streams use the handlers of `make`, and a way to dial it."""

    def __init__(self, make: Callable[[], Recorder], tls: TlsStart | None = None) -> None:
        self.network = SystemNetwork()
        self.deadlines = Deadlines(SystemClock())
        self.served: list[Recorder] = []
        self.make, self.tls = make, tls
        self.streams: list[Stream] = []

    async def __aenter__(self) -> Ends:
        self.listening = await self.network.listen(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listening.close()
        for stream in self.streams:
            stream.abort()
        async with asyncio.timeout(10):
            while self.streams:
                await asyncio.sleep(0)

    async def dial(self, handler: Recorder, tls: TlsStart | None = None) -> Stream:
        stream = self._stream(handler, tls)
        await self.network.connect(lambda: stream, *self.listening.address, timeout_s=5)
        return stream

    def _accepted(self) -> Stream:
        self.served.append(self.make())
        return self._stream(self.served[-1], self.tls)

    def _stream(self, handler: Recorder, tls: TlsStart | None) -> Stream:
        stream = Stream(
            handler,
            trace_id=TraceId("t"),
            deadlines=self.deadlines,
            tls=tls,
            on_lost=self.streams.remove,
        )
        self.streams.append(stream)
        return stream


def echo(handler: Recorder) -> None:
    assert handler.stream is not None
    handler.stream.write(handler.octets)
    handler.octets = b""


def dialling(context: ssl.SSLContext) -> TlsStart:
    return TlsStart(context=context, server_side=False, server_name="mail.example.org")


def test_a_mebibyte_comes_back_over_tls(
    on_loop: Any, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main() -> None:
        whole = bytes(range(256)) * 4096
        serving = TlsStart(context=server_tls, server_side=True)
        async with Ends(lambda: Recorder(received=echo), serving) as ends:
            client = Recorder()
            stream = await ends.dial(client, dialling(client_tls))
            await client.until("connected")
            stream.write(whole)
            await client.until("received", octets=len(whole))
            assert client.octets == whole
            stream.close()
            await client.until("lost")
            await ends.served[0].until("ended")
            assert ends.served[0].stream is not None and not ends.served[0].stream.is_cut
            ends.served[0].stream.close()
            await ends.served[0].until("lost")
            assert client.error is None and ends.served[0].error is None

    on_loop(main())


def test_starttls_over_sockets(
    on_loop: Any, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def serve(handler: Recorder) -> None:
        assert handler.stream is not None
        if not handler.stream.is_tls:
            handler.stream.write(b"220 go\r\n")
            handler.stream.start_tls(server_tls, server_side=True)
        else:
            handler.stream.write(b"250 " + handler.octets[-6:])

    async def main() -> None:
        async with Ends(lambda: Recorder(received=serve)) as ends:
            client = Recorder()
            stream = await ends.dial(client)
            stream.write(b"STARTTLS\r\n")
            await client.until("received")
            stream.start_tls(client_tls, server_side=False, server_name="mail.example.org")
            await client.until("tls_started")
            stream.write(b"NOOP\r\n")
            await client.until("received", octets=len(b"220 go\r\n250 NOOP\r\n"))
            assert client.octets == b"220 go\r\n250 NOOP\r\n"
            assert ends.served[0].events == ["connected", "received", "tls_started", "received"]
            stream.abort()
            await client.until("lost")

    on_loop(main())


def test_a_slow_reader_makes_the_stream_unwritable_until_it_reads(on_loop: Any) -> None:
    async def main() -> None:
        async with Ends(Recorder) as ends:
            client = Recorder()
            stream = await ends.dial(client)
            while not ends.served:
                await asyncio.sleep(0)
            await ends.served[0].until("connected")
            server = ends.served[0].stream
            assert server is not None
            stream.pause_reading()
            sent = 0
            while server.is_writable and sent < 64 << 20:
                server.write(b"x" * 65_536)
                sent += 65_536
                await asyncio.sleep(0)
            assert not server.is_writable and server.unsent_octets > 0
            stream.resume_reading()
            await ends.served[0].until("writable")
            await client.until("received", octets=sent)
            assert server.unsent_octets == 0 and len(client.octets) == sent
            stream.close()
            await client.until("lost")

    on_loop(main())


def test_a_half_closed_peer_still_hears_the_answer(on_loop: Any) -> None:
    def answer(handler: Recorder) -> None:
        assert handler.stream is not None
        handler.stream.write(b"221 bye\r\n")
        handler.stream.close()

    async def main() -> None:
        async with Ends(lambda: Recorder(ended=answer)) as ends:
            reader, writer = await asyncio.open_connection(*ends.listening.address)
            writer.write(b"QUIT\r\n")
            writer.write_eof()
            assert await reader.read() == b"221 bye\r\n"
            writer.close()
            await writer.wait_closed()
            await ends.served[0].until("lost")

    on_loop(main())


def test_plain_text_on_a_tls_port_is_named_so(on_loop: Any, server_tls: ssl.SSLContext) -> None:
    async def main() -> None:
        serving = TlsStart(context=server_tls, server_side=True)
        async with Ends(Recorder, serving) as ends:
            stream = await ends.dial(client := Recorder())
            stream.write(b"EHLO x\r\n")
            await client.until("ended")
            while not ends.served:
                await asyncio.sleep(0)
            await ends.served[0].until("lost")
            error = ends.served[0].error
            assert isinstance(error, TlsFailure) and error.trouble is TlsTrouble.PLAINTEXT
            stream.abort()
            await client.until("lost")

    on_loop(main())


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3", "-tls1_1"])
def test_openssl_s_client_agrees(
    on_loop: Any, authority: trustme.CA, server_tls: ssl.SSLContext, tmp_path: Path, version: str
) -> None:
    # H62
    def greet(handler: Recorder) -> None:
        assert handler.stream is not None
        handler.stream.write(b"220 mail.example.org ready\r\n")
        handler.stream.close()

    async def main() -> None:
        roots = tmp_path / "roots.pem"
        authority.cert_pem.write_to_path(str(roots))
        serving = TlsStart(context=server_tls, server_side=True)
        async with Ends(lambda: Recorder(connected=greet), serving) as ends:
            where = f"127.0.0.1:{ends.listening.address[1]}"
            command = ["s_client", "-connect", where, "-servername", "mail.example.org", version]
            command += ["-CAfile", str(roots), "-verify_return_error", "-alpn", "h2", "-ign_eof"]
            process = await asyncio.create_subprocess_exec(
                "openssl",
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await process.communicate()
            if version == "-tls1_1":
                assert b"220 mail.example.org" not in said
                return
            assert b"220 mail.example.org ready" in said
            assert b"Verify return code: 0 (ok)" in said
            assert b"Secure Renegotiation IS" in said and b"Compression: NONE" in said
            assert b"No ALPN negotiated" in said

    on_loop(main())


HOARD = """
import socket, ssl, sys
tls = ssl.create_default_context(cafile=sys.argv[2]) if sys.argv[2] else None
whole = b"x" * int(sys.argv[4])
hoard = []
for _ in range(int(sys.argv[3])):
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    if tls:
        connection = tls.wrap_socket(connection, server_hostname="mail.example.org")
    hoard.append(connection)
    if whole:
        connection.sendall(whole)
    heard = 0
    while heard < len(whole) or not heard:
        heard += len(connection.recv(65536))
print("ready", flush=True)
sys.stdin.read()
"""


def resident_octets() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Sink:
    """A handler that keeps nothing: greets, and answers `whole` octets with as many."""

    __slots__ = ("left", "stream")

    def __init__(self, whole: int) -> None:
        self.left = whole

    def connected(self, stream: Stream) -> None:
        self.stream = stream
        if not self.left:
            stream.write(b"+OK\r\n")

    def received(self, octets: bytes) -> None:
        self.left -= len(octets)
        if self.left <= 0:
            self.stream.write(b"y" * (1 << 20))

    def ended(self) -> None:
        self.stream.close()

    def tls_started(self) -> None: ...
    def lost(self, error: Exception | None) -> None: ...
    def writable(self) -> None: ...


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("is_tls", "whole", "octets_max"),
    [(False, 0, 10_240), (True, 0, 40_960), (True, 1 << 20, 51_200)],
    ids=["plain", "tls", "tls after 1 MiB each way"],
)
def test_an_idle_connection_costs_little_memory(  # P9
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    tmp_path: Path,
    is_tls: bool,
    whole: int,
    octets_max: int,
) -> None:
    count = 200 if whole else 500
    authority.cert_pem.write_to_path(str(tmp_path / "roots.pem"))

    async def main() -> float:
        serving = TlsStart(context=server_tls, server_side=True) if is_tls else None
        async with Ends(lambda: Sink(whole), serving) as ends:  # type: ignore[arg-type,return-value]
            gc.collect()
            before = resident_octets()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                HOARD,
                str(ends.listening.address[1]),
                str(tmp_path / "roots.pem") if is_tls else "",
                str(count),
                str(whole),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None and process.stdin is not None
            assert await process.stdout.readline() == b"ready\n"
            gc.collect()
            grown = resident_octets() - before
            assert len(ends.served) == count
            process.stdin.close()
            await process.wait()
            return grown / count

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) <= octets_max
