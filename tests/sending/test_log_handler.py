"""Log records by mail: the last ones before the end, and in the place of `SMTPHandler`."""

from __future__ import annotations

import logging
import logging.config
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.sending import OptionError, TlsUse, Transport
from posthouse.sending.log_handler import MailHandler, SMTPHandler
from posthouse.testing import MailServer

BEGINNING = """
import logging, sys, threading, time
from posthouse.sending import Transport
from posthouse.sending import log_handler
from posthouse.sending.log_handler import MailHandler
url = sys.argv[1]
def handler(way, **more):
    made = MailHandler(way, sender="app@example.test", recipients="ops@example.test", **more)
    logging.getLogger().addHandler(made)
    return made
"""


def program(body: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGINNING + body, url], capture_output=True, text=True, timeout=60
    )


def texts(server: MailServer, *words: str) -> str:
    """Of all letters, once those words have come. Raises NothingCame."""
    count = 1
    while True:
        found = server.wait_for("ops@example.test", count=count)
        text = "".join(one.message.text for one in found)
        if all(word in text for word in words):
            return text
        count = len(found) + 1


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"smtp://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("app")
    yield made
    for handler in list(made.handlers):
        handler.close()


# --- the end of a program ---


@pytest.mark.parametrize("way", ["url", "Transport(url)"])
@pytest.mark.parametrize("per_minute", [1, 6])
def test_what_is_logged_right_before_the_end_is_sent(
    mail_server: MailServer, way: str, per_minute: int
) -> None:
    body = f"handler({way}, per_minute={per_minute})\n"
    body += "for n in range(4): logging.error('boom %d', n)\nsys.exit(3)"
    done = program(body, mail_server.plain_url)
    assert (done.returncode, done.stderr) == (3, "")
    texts(mail_server, *(f"boom {n}\n" for n in range(4)))


def test_the_record_that_says_why_it_ends_is_sent(mail_server: MailServer) -> None:
    body = """
made = handler(Transport(url))
logging.error("first")
made.flush()
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("last")
    sys.exit(3)
"""
    done = program(body, mail_server.plain_url)
    assert (done.returncode, done.stderr) == (3, "")
    texts(mail_server, "first", "ZeroDivisionError")


def test_what_another_says_while_the_program_ends_is_sent(mail_server: MailServer) -> None:
    body = """
import atexit
handler(url)
atexit.register(logging.error, "good night")
logging.error("first")
"""
    assert program(body, mail_server.plain_url).stderr == ""
    texts(mail_server, "good night")


def test_what_is_logged_right_before_the_end_is_written_to_a_folder(tmp_path: Path) -> None:
    body = "handler(url)\nfor n in range(4): logging.error('boom %d', n)\nsys.exit(3)"
    done = program(body, f"folder:{tmp_path}")
    assert (done.returncode, done.stderr) == (3, "")
    found = "".join(one.read_text() for one in tmp_path.glob("*.eml"))
    assert all(f"boom {n}" in found for n in range(4))


@pytest.mark.parametrize("way", ["url", "Transport(url)"])
def test_a_silent_server_holds_up_no_end(silent: str, way: str) -> None:
    """And the record that could not be sent is told."""
    body = f"""
log_handler.CLOSE_S = log_handler.BREAK_OFF_S = 0.2
handler({way})
handler({way})
logging.error("boom")
"""
    done = program(body, silent)
    assert done.returncode == 0
    assert done.stderr.count("--- Logging error ---") == 2 and "boom" in done.stderr


def test_the_loop_runs_from_the_first_record_on(silent: str, logger: logging.Logger) -> None:
    """Later versions of Python start no threads any more when a program ends."""
    before = set(threading.enumerate())
    handler = MailHandler(
        silent + "?greeting_timeout_s=0.1", sender="a@example.test", recipients="b@example.test"
    )
    logger.addHandler(handler)
    assert set(threading.enumerate()) == before
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    logger.error("x")
    assert {one.name for one in set(threading.enumerate()) - before} == {
        "posthouse-log-mail",
        "posthouse-sending",
    }


def test_a_record_behind_the_end_is_told(
    mail_server: MailServer, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = MailHandler(
        mail_server.plain_url, sender="app@example.test", recipients="ops@example.test"
    )
    logger.addHandler(handler)
    handler.close()
    handler.close()
    logger.error("too late")
    said = capsys.readouterr().err
    assert "--- Logging error ---" in said and "handler is closed" in said and "too late" in said


def test_a_fork_sends_what_waits_once(mail_server: MailServer) -> None:
    body = """
import os
made = handler(url, per_minute=1)
logging.error("first")
made.flush()
logging.error("of the parent")
if os.fork() == 0:
    logging.error("of the child")
    sys.exit()
os.wait()
"""
    done = program(body, mail_server.plain_url)
    assert done.stderr == ""
    found = texts(mail_server, "of the parent", "of the child")
    assert found.count("of the parent") == found.count("of the child") == 1


def test_a_bound_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="per_minute"):
        MailHandler("memory:", sender="a@example.test", recipients="b@x", per_minute=0)


# --- in the place of SMTPHandler ---


def place(server: MailServer) -> tuple[str, int]:
    return server.address("mx")


def test_the_arguments_are_those_of_the_standard_library(
    mail_server: MailServer, logger: logging.Logger
) -> None:
    handler = SMTPHandler(place(mail_server), "app@example.test", ["ops@example.test"], "trouble")
    assert handler.level == logging.NOTSET
    logger.addHandler(handler)
    logger.warning("it creaks")
    handler.close()
    (letter,) = mail_server.wait_for("ops@example.test")
    assert letter.message.subject == "trouble" and "it creaks" in letter.message.text


def test_a_configuration_only_changes_the_class(mail_server: MailServer) -> None:
    class Own(SMTPHandler):
        def getSubject(self, record: logging.LogRecord) -> str:
            return f"{self.subject}: {record.levelname}"

    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "mail": {
                "()": Own,
                "mailhost": list(place(mail_server)),
                "fromaddr": "app@example.test",
                "toaddrs": "ops@example.test",
                "subject": "trouble",
                "timeout": 20,
            }
        },
        "loggers": {"app.configured": {"handlers": ["mail"]}},
    }
    logging.config.dictConfig(config)
    logger = logging.getLogger("app.configured")
    logger.error("boom")
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
    (letter,) = mail_server.wait_for("ops@example.test")
    assert letter.message.subject == "trouble: ERROR"


@pytest.mark.parametrize(
    ("port", "credentials", "secure", "tls"),
    [
        (25, None, None, "opportunistic"),
        (587, ("ada", "x"), None, "auto"),
        (587, ("ada", "x"), (), "starttls"),
        (25, None, (), "starttls"),
        (465, ("ada", "x"), (), "implicit"),
    ],
)
def test_a_login_goes_over_tls(
    port: int, credentials: tuple[str, str] | None, secure: tuple[str, ...] | None, tls: str
) -> None:
    handler = SMTPHandler(
        ("mail.example.org", port), "a@x.example", "b@x.example", "s", credentials, secure, 7.0
    )
    options = handler._transport.options
    assert (options.port, options.tls.value, options.command_timeout_s) == (port, tls, 7.0)
    assert (options.login is not None) == (credentials is not None)
    handler.close()


# --- a server with a certificate of its own ---


def test_it_trusts_a_certificate_by_name(mail_server: MailServer, logger: logging.Logger) -> None:
    people = {"sender": "app@example.test", "recipients": "ops@example.test"}
    logger.addHandler(MailHandler(mail_server.url, ca=mail_server.ca, **people))
    logger.error("by its URL")
    host, port = mail_server.address("mx")
    where = {"ca": mail_server.ca, "server_name": "localhost"}
    handler = SMTPHandler((host, port), "app@example.test", "ops@example.test", "x", **where)
    assert handler._transport.options.tls is TlsUse.STARTTLS
    logger.addHandler(handler)
    logger.error("by its name")
    texts(mail_server, "by its URL", "by its name")


def test_a_transport_says_itself_whom_it_trusts() -> None:
    with Transport("memory:") as way, pytest.raises(OptionError) as caught:
        MailHandler(way, sender="a@example.test", recipients="b@example.test", ca="a.pem")
    assert caught.value.option == "ca" and "Transport(…, ca=…)" in caught.value.hint


def test_what_keeps_letters_back_is_told_in_a_few_lines(
    mail_server: MailServer, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(
        MailHandler(mail_server.url, sender="app@example.test", recipients="ops@example.test")
    )
    logger.error("boom %d", 1)
    for handler in logger.handlers:
        handler.flush()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "--- Logging error ---" and lines[1].startswith("TlsError: localhost:")
    assert lines[2].startswith("hint: ") and 'ca="certificate.pem"' in lines[2]
    assert lines[3] == "Message: 'boom 1'" and lines[4].startswith(f"Logged from {__file__}, line")
    assert len(lines) == 5


def test_a_mistake_in_the_program_is_told_with_its_place(
    mail_server: MailServer, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.addHandler(
        MailHandler(mail_server.plain_url, sender="app@example.test", recipients="o@example.test")
    )
    logger.error("boom %d", "one")
    said = capsys.readouterr().err
    assert "Traceback" in said and "TypeError" in said and __file__ in said
