"""Django's backend and the logging handler, with real mail to a real server."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from posthouse.sending import Transport
from posthouse.sending.log_handler import MailHandler
from posthouse.testing import MailServer

DJANGO = """
    import sys
    import django
    from django.conf import settings
    settings.configure(EMAIL_BACKEND="posthouse.sending.django.EmailBackend", **{settings})
    django.setup()
    from django.core.mail import EmailMultiAlternatives, get_connection, mail_admins, send_mail
    {body}
"""


def django(body: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """A program that uses Django, in a process of its own."""
    program = textwrap.dedent(DJANGO).replace("{settings}", repr(settings))
    program = program.replace("{body}", textwrap.dedent(body).strip().replace("\n", "\n"))
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_django_sends_by_a_url(mail_server: MailServer) -> None:
    done = django(
        """
        print(send_mail("Tea", "At five?", "Ada <ada@example.test>", ["bob@example.test"]))
        letter = EmailMultiAlternatives("Blümchen", "text", "ada@example.test",
            ["Bob <bob@example.test>"], bcc=["eve@example.test"])
        letter.attach_alternative("<p>html</p>", "text/html")
        letter.attach("a.txt", "content", "text/plain")
        print(letter.send())
        print(get_connection().send_messages([]))
        """,
        POSTHOUSE_TRANSPORT_URL=mail_server.plain_url,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n1\n0\n"
    tea, flowers = mail_server.wait_for("bob@example.test", count=2)
    assert tea.message.text == "At five?\n" and tea.sender == "ada@example.test"
    assert flowers.message.subject == "Blümchen" and "<p>html</p>" in flowers.message.html
    assert [one.name for one in flowers.message.attachments] == ["a.txt"]
    (blind,) = mail_server.wait_for("eve@example.test")
    assert blind.message.header("Bcc") == ""


def test_djangos_own_settings_say_where_to(mail_server: MailServer) -> None:
    host, port = mail_server.address("mx")
    done = django(
        'print(send_mail("x", "y", "a@example.test", ["b@example.test"]))',
        EMAIL_HOST=host,
        EMAIL_PORT=port,
        EMAIL_TIMEOUT=5,
    )
    assert done.stdout == "1\n", done.stderr
    assert len(mail_server.wait_for("b@example.test")) == 1


def test_django_trusts_a_certificate_by_name(mail_server: MailServer) -> None:
    body = 'print(send_mail("x", "y", "a@example.test", ["b@example.test"]))'
    by_url = django(body, POSTHOUSE_TRANSPORT_URL=mail_server.url, POSTHOUSE_CA=mail_server.ca)
    assert by_url.stdout == "1\n", by_url.stderr
    host, port = mail_server.address("mx")
    own = {"EMAIL_HOST": host, "EMAIL_PORT": port, "EMAIL_USE_TLS": True}
    named = {"POSTHOUSE_CA": mail_server.ca, "POSTHOUSE_SERVER_NAME": "localhost"}
    by_settings = django(body, **own, **named)
    assert by_settings.stdout == "1\n", by_settings.stderr
    body = f"""
        way = get_connection(ca={mail_server.ca!r}, server_name="localhost")
        print(way.send_messages([EmailMultiAlternatives("x", "y", "a@x.test", ["b@x.test"])]))
        """
    by_arguments = django(body, **own)
    assert by_arguments.stdout == "1\n", by_arguments.stderr
    assert len(mail_server.wait_for("b@example.test", count=2)) == 2


BY_ARGUMENTS = textwrap.dedent("""
    def by(**given):
        letter = EmailMultiAlternatives("x", "y", "a@example.test", ["arguments@example.test"])
        try:
            print(get_connection(**given).send_messages([letter]))
        except Exception as error:
            print(type(error).__name__, str(error).partition(chr(10))[0])

    def sent(**given):
        try:
            send_mail("x", "y", "a@example.test", ["arguments@example.test"], **given)
        except Exception as error:
            print(type(error).__name__, str(error).partition(chr(10))[0])
    """)


def test_djangos_arguments_win_over_the_url(mail_server: MailServer) -> None:
    """Mail went out under the URL's login, whoever was named."""
    host, port = mail_server.address("mx")
    here = f"{host}:{port}"
    calls = {
        'sent(auth_user="eve", auth_password="x")': f"AuthError {here} offers no login",
        'sent(auth_user="eve")': "OptionError the option password of eve is missing",
        "by(port=1)": f"ConnectError {host}:1 cannot be reached: Connection refused",
        'by(host="127.0.0.2", port=1)': "ConnectError 127.0.0.2:1 cannot be reached: "
        "Connection refused",
        "by(timeout=-1)": "OptionError the option connect_timeout_s has to be a number of seconds "
        "up to 86400",
        "by(use_tls=True)": f"TlsError {here}: the peer's certificate does not verify: "
        "self-signed certificate",
        "by(use_ssl=True)": f"TlsError {here}: the peer spoke plain text where TLS begins",
        'by(use_tls=True, ssl_certfile="/gone.pem")': "OptionError the option certificate cannot "
        "be read: No such file or directory",
        'by(ssl_context="x")': "OptionError the option ssl_context is not known",
        'by(use_tls=False, use_ssl=False, username="", password="")': "1",
        f'by(url="smtp://eve:x@127.0.0.1:1", host="{host}", port={port}, username="")': "1",
        f'by(url="smtp://eve@{here}", password="x", use_tls=False)': "AuthError "
        f"{here} offers no login",
    }
    done = django(
        BY_ARGUMENTS + "\n".join(calls),
        POSTHOUSE_TRANSPORT_URL=mail_server.plain_url,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(calls.values())


def test_django_refuses_arguments_that_do_not_go_with_the_url() -> None:
    calls = {
        'by(url="folder:outbox", port=25)': "port is of no use with folder:",
        'by(url="folder:outbox", username="ada", password="x")': "password is of no use with "
        "folder:",
        'by(url="sendmail:", use_tls=True)': "tls is of no use with sendmail:",
        'by(url="lmtp:///run/lmtp", host="mail.example.org")': "host is of no use with a socket",
        'by(url="smtps://127.0.0.1:1", use_tls=True)': "tls contradicts smtps:",
        'by(url="smtps://127.0.0.1:1", use_ssl=False)': "tls contradicts smtps:",
        'by(url="smtp+starttls://127.0.0.1:1", use_tls=False)': "tls contradicts smtp+starttls:",
        'by(url="posthouse://a:b@127.0.0.1:1", use_tls=True)': "tls contradicts posthouse:",
    }
    done = django(BY_ARGUMENTS + "\n".join(calls))
    assert done.returncode == 0, done.stderr
    said = [line.removeprefix("OptionError the option ") for line in done.stdout.splitlines()]
    assert said == list(calls.values())


def test_django_hears_what_went_wrong_unless_it_wants_silence() -> None:
    body = """
        try:
            send_mail("x", "y", "a@example.test", ["b@example.test"])
        except Exception as error:
            print(type(error).__name__)
        print(send_mail("x", "y", "a@b.test", ["b@example.test"], fail_silently=True))
        """
    done = django(body, EMAIL_HOST="127.0.0.1", EMAIL_PORT=1)
    assert done.stdout == "ConnectError\n0\n", done.stderr
    body = body.replace("type(error).__name__", "error")
    done = django(body, EMAIL_USE_TLS=True, EMAIL_SSL_CERTFILE="/gone.pem", EMAIL_PORT=1)
    assert done.stdout == "the option certificate cannot be read: No such file or directory\n0\n"
    done = django("get_connection()", EMAIL_USE_TLS=True, EMAIL_USE_SSL=True)
    assert "cannot both be True" in done.stderr


@pytest.fixture
def logger() -> Any:
    made = logging.Logger("app")
    yield made
    for handler in list(made.handlers):
        handler.close()


def test_a_record_becomes_a_letter(mail_server: MailServer, logger: logging.Logger) -> None:
    handler = MailHandler(
        mail_server.plain_url, sender="app@example.test", recipients="ops@example.test"
    )
    logger.addHandler(handler)
    logger.warning("only a warning")
    try:
        raise ValueError("broken\r\nBcc: eve@example.test")
    except ValueError:
        logger.exception("it %s", "fell\r\nBcc: eve@example.test")
    handler.flush()
    (letter,) = mail_server.wait_for("ops@example.test")
    assert letter.message.subject == "ERROR: it fell"
    assert "ValueError: broken" in letter.message.text
    assert mail_server.inbox("eve@example.test") == []


def test_many_records_become_few_letters(mail_server: MailServer, logger: logging.Logger) -> None:
    handler = MailHandler(
        mail_server.plain_url,
        sender="app@example.test",
        recipients=["ops@example.test"],
        subject="trouble",
        per_minute=3,
    )
    logger.addHandler(handler)
    for n in range(2_000):
        logger.error("number %d", n)
    handler.close()
    letters = mail_server.wait_for("ops@example.test")
    assert len(letters) <= 4
    text = "".join(one.message.text for one in letters)
    assert "number 0\n" in text and "number 500\n" in text
    assert "were left out" in text


def test_a_server_that_is_away_harms_nobody_who_logs(logger: logging.Logger) -> None:
    with Transport(host="127.0.0.1", port=1) as way:
        handler = MailHandler(way, sender="a@example.test", recipients="b@example.test")
        logger.addHandler(handler)
        logger.error("x")
        handler.close()
        logger.error("behind the end")
    assert threading.active_count() >= 1
