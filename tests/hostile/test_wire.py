"""Hostile input over loopback to a real server: what it answers, that its memory stays where it is,
and that a neighbour's NOOP does not wait meanwhile."""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from tests.crash.server import Server
from tests.hostile.conftest import USER, WITHIN_S, Line, Neighbour, Peak, logged_in

pytestmark = pytest.mark.timed

MIB = 1024 * 1024
NOOP_S = 0.25
TRIES = 3
EHLO = b"EHLO c.example\r\n"
TRANSACTION = f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{USER}>\r\nDATA\r\n".encode()


class Case(msgspec.Struct, frozen=True, kw_only=True):
    octets: Callable[[], bytes]
    said: bytes
    """A pattern in what the server says, up to the end or the reply to what follows."""
    service: str = "mx"
    opening: tuple[tuple[bytes, bytes], ...] = ((b"", b"\r\n"), (EHLO, b"250 HELP\r\n"))
    """What is sent first, and what has to come before the next."""
    peak_octets_max: int = 8 * MIB
    """That the server's memory may rise meanwhile; for a message beyond its own octets."""


GREETED = ((b"", b"\r\n"),)


def over_smtp(octets: Callable[[], bytes], said: bytes) -> Case:
    return Case(octets=octets, said=said)


def message(octets: Callable[[], bytes], said: bytes) -> Case:
    """As the content of a message."""
    return Case(
        octets=lambda: octets() + b"\r\n.\r\nQUIT\r\n",
        said=said,
        opening=((b"", b"\r\n"), (EHLO, b"250 HELP\r\n"), (TRANSACTION, b"354 ")),
        peak_octets_max=64 * MIB,
    )


def imap(octets: Callable[[], bytes], said: bytes) -> Case:
    return Case(octets=octets, said=said, service="imap", opening=GREETED)


def selected(octets: Callable[[], bytes], said: bytes, *, peak: int = 8 * MIB) -> Case:
    logout = b"\r\nz LOGOUT\r\n"
    return Case(
        octets=lambda: octets() + logout,
        said=said,
        service="selected",
        opening=(),
        peak_octets_max=peak,
    )


def pop3(octets: Callable[[], bytes], said: bytes) -> Case:
    return Case(octets=octets, said=said, service="pop3", opening=GREETED)


FROM = b"From: a@b.example\r\n"
MIXED = FROM + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
NESTED = b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n"
CASES = {
    # H5
    "a command of 8 MiB": over_smtp(
        lambda: b"x" * 8 * MIB + b"\r\nNOOP\r\nQUIT\r\n", rb"^500 5\.5\.2 .*\r\n250 .*\r\n221 "
    ),
    # H13
    "10,000 NOOP": over_smtp(lambda: b"NOOP\r\n" * 10_000, rb"(?:250 .*\r\n){40,60}421 4\.7\.0"),
    "10,000 RSET": over_smtp(lambda: b"RSET\r\n" * 10_000, rb"(?:250 .*\r\n){40,60}421 4\.7\.0"),
    # H22
    "100,000 RCPT": over_smtp(
        lambda: b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<u0@hostile.test>\r\n" * 100_000,
        rb"(?:250 2\.1\.[05].*\r\n)+452 4\.5\.3",
    ),
    "100,000 VRFY": over_smtp(lambda: b"VRFY u0\r\n" * 100_000, rb"(?:252 .*\r\n){40,60}421 "),
    # H26
    "500,000 To fields": message(
        lambda: FROM + b"To: a@b.example\r\n" * 500_000, rb"^55[02] 5\.[36]\..*\r\n221 "
    ),
    # H27
    "a field of 20 MiB": message(
        lambda: FROM + b"Subject: a" + b"\r\n xxxxxxxx" * (2 * MIB), rb"^55[02] 5\.[36]\..*\r\n221 "
    ),
    # H28, H30
    "100,000 parts": message(lambda: MIXED + b"--b\r\n\r\nx\r\n" * 100_000, rb"^250 2\.0\.0 "),
    "100,000 parts, bare LF": message(lambda: MIXED + b"--b\n\nx\n" * 100_000, rb"^550 5\.6\.0 "),
    "10,000 multiparts in each other": message(
        lambda: FROM + b"".join(NESTED % (at, at) for at in range(10_000)), rb"^250 2\.0\.0 "
    ),
    "1,000 messages in each other": message(
        lambda: FROM + b"Content-Type: message/rfc822\r\n\r\n" * 1000, rb"^250 2\.0\.0 "
    ),
    # H29
    "100,000 parameters": message(
        lambda: FROM + b"Content-Type: a/b" + b";\r\n name*0*=a" * 100_000 + b"\r\n\r\nx",
        rb"^55[02] 5\.[36]\.",
    ),
    # H31
    "5,000 encoded-words": message(
        lambda: FROM + b"Subject:" + b"\r\n =?utf-8?q?a?=" * 5_000 + b"\r\n\r\nx", rb"^250 2\.0\.0 "
    ),
    # H37
    "10,000,000 empty lines": message(lambda: FROM + b"\r\n" * 10_000_000, rb"^250 2\.0\.0 "),
    "20 MiB in one line": message(lambda: FROM + b"\r\n" + b"x" * 20 * MIB, rb"^55[0-9] 5\.6\.0"),
    # H50
    "a literal of 4 GiB before login": imap(
        lambda: b"a LOGIN {4294967295+}\r\n" + b"x" * MIB, rb"a BAD .*\r\n\* BYE "
    ),
    "100,000 brackets before login": imap(
        lambda: b"".join(b"a LOGIN " + b"(" * 100_000 + b"\r\n" for _ in range(3)), rb"\* BYE "
    ),
    # H56
    "1 MiB of base64": imap(
        lambda: b"a AUTHENTICATE PLAIN\r\n" + b"QUFB" * (MIB // 4) + b"\r\nb LOGOUT\r\n",
        rb"^\+ \r\n\* BYE ",
    ),
    "IDLE and 1 MiB": selected(lambda: b"a IDLE\r\n" + b"x" * MIB, rb"(?:a BAD|\* BYE) "),
    # H51
    "a literal of 1 GiB": selected(
        lambda: b"a SEARCH TEXT {1073741824+}\r\n" + b"x" * MIB, rb"^a BAD .*TOOBIG"
    ),
    # H52
    "10,000 NOT": selected(lambda: b"a SEARCH " + b"NOT " * 10_000 + b"ALL", rb"^a BAD "),
    "a set of 30,000": selected(lambda: b"a FETCH 1" + b",1" * 30_000 + b" FLAGS", rb"^a BAD "),
    "numbers out of range": selected(
        lambda: b"a FETCH 4294967296 FLAGS\r\nb FETCH 0 FLAGS\r\nc UID FETCH *:* UID",
        rb"^a BAD .*\r\nb BAD (?:.*\r\n)+c OK ",
    ),
    # H53
    "a part 1,000 deep": selected(
        lambda: b"a UID FETCH 1:* BODY[" + b"1." * 1000 + b"1]",
        rb"^(?:\*.*\r\n)*a (?:OK|BAD) ",
        peak=64 * MIB,  # the messages of the other cases are read for it
    ),
    # H54
    "a pattern of 10 KiB": selected(
        lambda: b'a LIST "" ' + b"*a%" * 3_000 + b"b", rb"^a (?:OK|BAD|NO) "
    ),
    "names like paths": selected(
        lambda: b"a CREATE ../x\r\nb CREATE a/../b\r\nc SELECT ../../etc/passwd",
        rb"^a (?:OK|NO) .*\r\nb (?:OK|NO) .*\r\nc NO \[NONEXISTENT\]",
    ),
    # H58
    "a USER of 10 KiB": pop3(
        lambda: b"USER " + b"u" * 10_240 + b"\r\nQUIT\r\n", rb"-ERR .*\r\n\+OK"
    ),
    "POP3 numbers": pop3(
        lambda: b"RETR 999999999999\r\nTOP 1 -1\r\nNO\0OP\r\n", rb"(?:-ERR .*\r\n){3}"
    ),
    # H59
    "bad base64 to POP3": pop3(
        lambda: b"AUTH PLAIN\r\n!!!\r\nAUTH PLAIN AAAA\r\nQUIT\r\n", rb"-ERR .*\r\n-ERR "
    ),
    # H14, H62
    "noise instead of a handshake": Case(
        octets=lambda: b"\x16\x03\x00\x00\x40" + b"\xff" * MIB,
        said=b"",
        service="submissions",
        opening=(),
    ),
}


def talk(server: Server, case: Case) -> bytes:
    """What the server says to the hostile octets."""
    line = logged_in(server) if case.service == "selected" else Line(server, case.service)
    with line:
        for octets, mark in case.opening:
            line.ask(octets, mark)
        line.heard = b""
        line.say(case.octets())
        return line.to_end()


def small_message(server: Server) -> float:
    """Seconds until one is accepted."""
    began_s = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", server.port("mx"), "c.example", WITHIN_S) as client:
        client.sendmail("a@b.example", [USER], b"From: a@b.example\r\n\r\nx\r\n")
    return time.perf_counter() - began_s


@pytest.mark.parametrize("name", CASES)
def test_it_is_answered_and_harms_no_one(server: Server, name: str) -> None:
    # P9, P10, H5, H13, H14, H22, H26–H31, H37, H50–H54, H56, H58, H59, H62
    case = CASES[name]
    for left in reversed(range(TRIES)):  # the machine does other things too
        with Neighbour(server) as neighbour, Peak(server) as peak:
            heard = talk(server, case)
        if (neighbour.p99_s <= NOOP_S and peak.risen_octets <= case.peak_octets_max) or not left:
            break
    assert re.search(case.said, heard, re.MULTILINE), heard[:500]
    assert neighbour.p99_s <= NOOP_S
    assert peak.risen_octets <= case.peak_octets_max
    assert small_message(server) <= 2.0


FLOODS = {
    "pop3": b"CAPA\r\n",
    "imap": b"a CAPABILITY\r\n",
    "mx": b"HELP\r\n",
    "selected": b'a LIST "" *\r\n',
}


@pytest.mark.parametrize("service", FLOODS)
def test_a_client_that_asks_and_never_reads_costs_nobody_else(
    server: Server, service: str
) -> None:  # F33, H13, P9, P10
    octets = FLOODS[service] * (32 * MIB // len(FLOODS[service]))  # more than buffers hold
    for left in reversed(range(TRIES)):
        with logged_in(server) if service == "selected" else Line(server, service) as line:
            if service != "selected":
                line.until(b"\r\n")
            line.socket.settimeout(1.5)  # the server should have stopped reading by then
            with Neighbour(server) as neighbour, Peak(server) as peak, suppress(OSError):
                line.socket.sendall(octets)
        if neighbour.p99_s <= NOOP_S or not left:
            break
    assert neighbour.p99_s <= NOOP_S
    assert peak.risen_octets <= 48 * MIB
    assert small_message(server) <= 2.0
