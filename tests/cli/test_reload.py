"""SIGHUP to a real server: many of them, mistakes among them, certificate files half written."""

from __future__ import annotations

import imaplib
import signal
import ssl
import time
from collections.abc import Callable

from .conftest import PASSWORD, Server

WAIT_S = 20.0
SIGHUPS = 100


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for another process."""
    ends = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < ends, f"never: {what}"
        time.sleep(0.01)


def logged(server: Server, event: str) -> int:
    return server.log.read_text().count(event)


def trusting(server: Server) -> ssl.SSLContext:
    """Only the certificate that the server began with."""
    context = ssl.create_default_context(cadata=certificate(server).read_text())
    context.check_hostname = False
    return context


def certificate(server: Server):
    return server.config.parent / "tls/self-signed.pem"


# F36
def test_a_hundred_sighups_with_mistakes_among_them_change_nothing(server: Server) -> None:
    right = server.config.read_text()
    with imaplib.IMAP4_SSL("127.0.0.1", server.base + 993, ssl_context=trusting(server)) as imap:
        imap.login("you@example.org", PASSWORD)
        try:
            for number in range(SIGHUPS):
                mistake = "\n[smtp]\nidel_s = 3\n" if number % 3 == 1 else ""
                server.config.write_text(right + mistake)
                server.process.send_signal(signal.SIGHUP)
                assert imap.noop()[0] == "OK"  # a session stays, and is answered
            server.config.write_text(right)
            reloads = logged(server, "config.reloaded")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: logged(server, "config.reloaded") > reloads, "the last reload in the log")
        finally:
            server.config.write_text(right)
        assert imap.noop()[0] == "OK"
    assert server.process.poll() is None
    assert logged(server, "config.refused") >= 1
    assert "Traceback" not in server.log.read_text()


# F35
def test_a_certificate_file_half_written_raises_an_alarm_and_the_old_one_stays(
    server: Server,
) -> None:
    context, file = trusting(server), certificate(server)
    whole = file.read_bytes()
    try:
        for left in (len(whole) // 3, 0):
            alarms = logged(server, "certificate.refused")
            file.write_bytes(whole[:left])
            server.process.send_signal(signal.SIGHUP)
            until(lambda: logged(server, "certificate.refused") > alarms, "an alarm")  # noqa: B023
            with imaplib.IMAP4_SSL("127.0.0.1", server.base + 993, ssl_context=context) as imap:
                assert imap.noop()[0] == "OK"
    finally:
        file.write_bytes(whole)
    assert server.process.poll() is None
