"""One real server on loopback for all tests of hostile input, and what looks at it from outside."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.server import PASSWORD, Server

DOMAIN = "hostile.test"
USER = f"u0@{DOMAIN}"
WITHIN_S = 20.0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("hostile") / "server", host=f"mx.{DOMAIN}")
    made.add(DOMAIN, ["u0"])
    made.start(within_s=WITHIN_S)
    try:
        yield made
        assert made.is_alive(), made.said()
        assert made.stop() == 0
    finally:
        made.kill()


def resident_octets(server: Server) -> int:
    """Of the server process."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


class Peak:
    """How far the server's resident memory rises in a block, above what it was before."""

    def __init__(self, server: Server) -> None:
        self._folder = Path(f"/proc/{server.pid}")
        self.risen_octets = 0

    def _high(self) -> int:
        status = (self._folder / "status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def __enter__(self) -> Peak:
        (self._folder / "clear_refs").write_text("5")  # sets the high-water mark to what is now
        self._before = self._high()
        return self

    def __exit__(self, *_: object) -> None:
        self.risen_octets = self._high() - self._before


def trusting(server: Server) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(server.certificate))
    context.check_hostname = False
    return context


class Line:
    """One connection; `heard` is everything that came."""

    def __init__(self, server: Server, service: str, tls: ssl.SSLContext | None = None) -> None:
        self.heard = b""
        self.socket = socket.create_connection(("127.0.0.1", server.port(service)), WITHIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def say(self, octets: bytes) -> None:
        """Until it is all sent or the server has closed; what comes meanwhile is read too."""
        reader = threading.Thread(target=self._send, args=(octets,))
        reader.start()
        reader.join(WITHIN_S * 2)
        assert not reader.is_alive(), "the server neither reads nor closes"

    def _send(self, octets: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(octets)

    def until(self, *marks: bytes) -> bytes:
        """Read until one of the marks, or the end."""
        while not any(mark in self.heard for mark in marks) and self._read():
            continue
        return self.heard

    def to_end(self) -> bytes:
        while self._read():
            continue
        return self.heard

    def _read(self) -> bool:
        try:
            octets = self.socket.recv(1 << 16)
        except (ConnectionError, ssl.SSLError):
            return False
        self.heard += octets
        return bool(octets)

    def ask(self, octets: bytes, mark: bytes) -> bytes:
        """Send a command and give what came up to the mark."""
        self.heard = b""
        if octets:
            self.socket.sendall(octets)
        heard = self.until(mark)
        assert mark in heard, heard
        return heard

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def logged_in(server: Server, user: str = USER) -> Line:
    line = Line(server, "imap")
    line.until(b"\r\n")
    line.ask(f'l LOGIN {user} "{PASSWORD}"\r\n'.encode(), b"l OK")
    line.ask(b"s SELECT INBOX\r\n", b"s OK")
    line.heard = b""
    return line


class Neighbour:
    """Sends NOOP over and over while something else goes on, and keeps how long each took."""

    def __init__(self, server: Server) -> None:
        self.took_s: list[float] = []
        self._line = Line(server, "imap")
        self._line.until(b"\r\n")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            began_s = time.perf_counter()
            self._line.ask(b"n NOOP\r\n", b"n OK")
            self.took_s.append(time.perf_counter() - began_s)
            if self._is_over.wait(0.005):
                return

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(WITHIN_S)
        self._line.close()

    @property
    def p99_s(self) -> float:
        assert self.took_s, "a NOOP was not answered at all"
        return sorted(self.took_s)[len(self.took_s) * 99 // 100]
