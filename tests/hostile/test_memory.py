"""What connections cost the real server while they are idle, and that it gives it back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.crash.server import Server
from tests.hostile.conftest import WITHIN_S, Line, Neighbour, resident_octets, trusting

KIB = 1024
MIB = 1024 * KIB
PLAINTEXT_OCTETS_MAX = 40 * KIB
TLS_OCTETS_MAX = 100 * KIB
BURST = 300
BURST_SLACK_OCTETS = 8 * MIB
EHLO = b"EHLO c.example\r\n"
CHUNK = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u0@hostile.test>\r\nBDAT %d\r\n" % MIB


def greeted(server: Server, service: str, *, is_tls: bool) -> Line:
    line = Line(server, service, trusting(server) if is_tls else None)
    line.until(b"\r\n")
    return line


def pass_a_mebibyte(line: Line) -> None:
    """Into a transaction that is then given up, so that nothing is stored."""
    line.ask(EHLO, b"250 HELP\r\n")
    line.ask(CHUNK + b"x" * 99 + b"\r\n" * ((MIB - 99) // 2) + b"\n", b"250 2.0.0")
    line.ask(b"RSET\r\n", b"250 2.0.0")


@contextlib.contextmanager
def lines(server: Server, service: str, count: int, *, is_tls: bool) -> Iterator[list[Line]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(greeted(server, service, is_tls=is_tls)) for _ in range(count)]


def settled(server: Server) -> int:
    """Its memory once it no longer falls."""
    with Line(server, "imap") as line:
        line.until(b"\r\n")
        lowest = resident_octets(server)
        for _ in range(20):
            line.ask(b"n NOOP\r\n", b"n OK")
            lowest = min(lowest, resident_octets(server))
    return lowest


@pytest.mark.parametrize(
    ("service", "is_tls", "octets_max"),
    [
        ("mx", False, PLAINTEXT_OCTETS_MAX),
        ("imap", False, PLAINTEXT_OCTETS_MAX),
        ("pop3", False, PLAINTEXT_OCTETS_MAX),
        ("submissions", True, TLS_OCTETS_MAX),
        ("imaps", True, TLS_OCTETS_MAX),
    ],
)
def test_an_idle_connection_costs_the_server_little(
    server: Server, service: str, is_tls: bool, octets_max: int
) -> None:  # P9
    count = 500
    with lines(server, service, 20, is_tls=is_tls):
        before = settled(server)
    with lines(server, service, count, is_tls=is_tls):
        each = (settled(server) - before) / count
    assert each <= octets_max


@pytest.mark.parametrize(
    ("is_tls", "octets_max"), [(False, PLAINTEXT_OCTETS_MAX), (True, TLS_OCTETS_MAX)]
)
def test_an_idle_connection_stays_small_after_a_mebibyte(
    server: Server, is_tls: bool, octets_max: int
) -> None:  # P9
    count = 200
    service = "mx"
    with lines(server, service, 20, is_tls=False) as first:
        for line in first:
            pass_a_mebibyte(line)
        before = settled(server)
    with lines(server, service, count, is_tls=False) as those:
        if is_tls:
            context = trusting(server)
            for line in those:
                line.ask(EHLO, b"250 HELP\r\n")
                line.ask(b"STARTTLS\r\n", b"220 ")
                line.socket = context.wrap_socket(line.socket, server_hostname="localhost")
        for line in those:
            pass_a_mebibyte(line)
        each = (settled(server) - before) / count
    assert each <= octets_max


@pytest.mark.timed
def test_a_burst_of_connections_is_served_and_its_memory_given_back(server: Server) -> None:
    # F34, P10
    with lines(server, "mx", BURST, is_tls=False):
        pass  # what a first burst needs is kept: pools, code that had not run yet
    before = settled(server)
    with Neighbour(server) as neighbour:
        began_s = time.monotonic()
        for _ in range(3):
            with lines(server, "mx", BURST, is_tls=False) as those:
                assert all(line.heard.startswith(b"220 ") for line in those)
        assert time.monotonic() - began_s < WITHIN_S
    assert neighbour.p99_s <= 0.25
    assert abs(settled(server) - before) <= max(BURST_SLACK_OCTETS, before // 10)
