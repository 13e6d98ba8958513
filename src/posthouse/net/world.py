"""The real world behind `kernel.ports`: time, chance and the network of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import random
import resource
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar, cast

import uvloop

from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import TransportProtocol

T = TypeVar("T")

BACKLOG: Final = 1024
OWN_DESCRIPTORS: Final = 48
"""Listeners, database, segments, log and the event loop."""
KEEPALIVE_IDLE_S: Final = 600
KEEPALIVE_EVERY_S: Final = 60
KEEPALIVE_TIMES: Final = 5
DATAGRAM_OCTETS_MAX: Final = 65_535
SOCKET_BUSY_S: Final = 0.02
"""Between two tries to connect to a Unix socket whose queue is full."""
STRANGE_DATAGRAMS_MAX: Final = 32
"""Answers with a wrong id before we stop listening: somebody is guessing."""
PORT_UNPRIVILEGED: Final = 1024


class SystemClock:
    """The `Clock` port."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def unix_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemChance:
    """The `Chance` port, from the system's generator throughout."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def shuffled(self, items: list[T]) -> list[T]:
        return self._random.sample(items, len(items))

    def token(self, octets: int) -> bytes:
        return secrets.token_bytes(octets)


class SystemListening:
    """The `Listening` port over the loop's server."""

    def __init__(self, server: asyncio.Server, address: tuple[str, int]) -> None:
        self._server = server
        self._address = address

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    def close(self) -> None:
        self._server.close()


class SystemNetwork:
    """The `Network` port on the running loop, uvloop's or asyncio's."""

    def __init__(
        self,
        *,
        reuse_port: bool = False,
        inherited: Mapping[tuple[str, int], socket.socket] | None = None,
    ) -> None:
        """Args:
        reuse_port: several processes listen on the same port (SO_REUSEPORT).
        inherited: listening sockets by address and port that a service manager opened, or we
            did before privileges were dropped; used instead of binding.
        """
        self._reuse_port = reuse_port
        self._inherited = dict(inherited or {})

    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        """As the port says: `OSError` when refused or unreachable, `TimeoutError` when late."""
        if address.startswith("/"):
            return await _connect_socket(factory, address, timeout_s)
        loop = asyncio.get_running_loop()
        sock = socket.socket(_family(address), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _tune(sock)
            if local_address is not None:
                sock.bind((local_address, 0))
            async with asyncio.timeout(timeout_s):
                await loop.sock_connect(sock, (address, port))
            transport, protocol = await loop.create_connection(_as_asyncio(factory), sock=sock)
            _leave_to(loop, transport, sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError) and error.errno:  # the loops' own words are for nobody
                raise OSError(error.errno, os.strerror(error.errno)) from error
            raise
        return cast(TransportProtocol, protocol)

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> SystemListening:
        """Raises `UserError`, with a hint, when the port cannot be had."""
        sock = self._inherited.pop((address, port), None) or self.bind(address, port)
        try:
            server = await asyncio.get_running_loop().create_server(
                _as_asyncio(factory), sock=sock, backlog=BACKLOG
            )
        except BaseException:
            sock.close()
            raise
        bound = sock.getsockname()
        return SystemListening(server, (str(bound[0]), int(bound[1])))

    def bind(self, address: str, port: int) -> socket.socket:
        """A bound socket, not yet listening; to be opened before privileges are dropped."""
        try:
            sock = socket.socket(_family(address), socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot listen on {address!r} port {port}: {error}") from error
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _tune(sock)
            sock.bind((address, port))
        except OSError as error:
            sock.close()
            raise _cannot_listen(error, address, port) from error
        return sock

    async def exchange(
        self, datagram: bytes, address: str, port: int, *, timeout_s: float
    ) -> bytes:
        """One datagram there, the first one back that carries the same id (octets 0 and 1).

        The socket is connected, so the kernel drops what other addresses or ports send; its port
        is a fresh random one of the ephemeral range (RFC 5452 §4.5).

        Raises:
            OSError: refused or unreachable, `TimeoutError`, or too many answers with a wrong id.
        """
        loop = asyncio.get_running_loop()
        with socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((address, port))
            sock.send(datagram)
            async with asyncio.timeout(timeout_s):
                for _ in range(STRANGE_DATAGRAMS_MAX):
                    answer = await loop.sock_recv(sock, DATAGRAM_OCTETS_MAX)
                    if answer[:2] == datagram[:2]:
                        return answer
        raise OSError(errno.EPROTO, f"{STRANGE_DATAGRAMS_MAX} answers with a wrong id")


def raise_descriptor_limit() -> int:
    """Raise RLIMIT_NOFILE to what is allowed without privileges; returns the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft


def connections_max_for(descriptors_max: int, configured: int) -> int:
    """`net.connections_max` in force: as configured, or 80 % of the descriptors if that is less.

    Where there are few, listeners and files come first: a connection too many is told so (F21).
    """
    return max(1, min(configured, descriptors_max * 4 // 5, descriptors_max - OWN_DESCRIPTORS))


async def _connect_socket(
    factory: Callable[[], TransportProtocol], path: str, timeout_s: float
) -> TransportProtocol:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    sock.connect(path)
                    break
                except BlockingIOError:  # too many wait there, and nobody tells when there is room
                    await asyncio.sleep(SOCKET_BUSY_S)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_unix_connection(_as_asyncio(factory), sock=sock)
        _leave_to(loop, transport, sock)
    except BaseException:
        sock.close()
        raise
    return cast(TransportProtocol, protocol)


def _leave_to(
    loop: asyncio.AbstractEventLoop, transport: asyncio.BaseTransport, sock: socket.socket
) -> None:
    """Where it was closed in `connection_made`, uvloop closed the descriptor before it knew of the
    socket object, which would close it once more, by then somebody else's."""
    if transport.is_closing() and isinstance(loop, uvloop.Loop):
        sock.detach()


def _family(address: str) -> socket.AddressFamily:
    """Raises `ValueError` for what is no IP address."""
    version = ipaddress.ip_address(address.partition("%")[0]).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _tune(sock: socket.socket) -> None:
    """What accepted connections inherit from a listening socket (Linux), and our own ones have."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_TIMES)


def _as_asyncio(
    factory: Callable[[], TransportProtocol],
) -> Callable[[], asyncio.Protocol]:
    """The loops want the callbacks, not the base class."""
    return cast(Callable[[], asyncio.Protocol], factory)


def _cannot_listen(error: OSError, address: str, port: int) -> UserError:
    where = f"cannot listen on {address} port {port}: "
    if error.errno == errno.EADDRINUSE:
        return UserError(
            where + "another program uses it",
            hint=f"`ss -ltnp 'sport = :{port}'` shows which one",
        )
    if error.errno == errno.EACCES and port < PORT_UNPRIVILEGED:
        return UserError(
            where + "ports below 1024 need a privilege",
            hint="start it from the service manager, or choose a higher port",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UserError(
            where + "this machine does not have that address",
            hint="`ip address` lists the addresses it has",
        )
    return UserError(where + (error.strerror or str(error)))
