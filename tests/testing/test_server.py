"""The server for tests of other programs: ready at once, takes anything, lets nothing out."""

from __future__ import annotations

import asyncio
import imaplib
import smtplib
import subprocess
import sys

import pytest

from posthouse.sending import AsyncTransport, EnvelopeError, Message, Transport
from posthouse.testing import MailServer, NothingCame

PASSWORD = "sesame-street-7"


def letter(to: object = "bob@example.test", **more: object) -> Message:
    given = {"sender": "ada@example.test", "to": to, "subject": "Tea", "text": "At five?", **more}
    return Message(**given)  # type: ignore[arg-type]


def test_mail_for_anybody_arrives_and_stays_here() -> None:
    with MailServer.ephemeral() as server:
        with Transport(server.url, ca=server.ca) as way:
            receipt = way.send(letter(["bob@example.test", "Eve <eve@far.example>"]))
        (arrived,) = server.inbox("bob@example.test")
        assert arrived.message.subject == "Tea" and arrived.message.text == "At five?\n"
        assert (arrived.sender, arrived.recipient) == ("ada@example.test", "bob@example.test")
        assert len(server.inbox("EVE@far.example")) == 1
        assert receipt.queue_id and receipt.tls is not None and receipt.tls.is_verified
        assert server.addresses() == ["bob@example.test", "eve@far.example"]
        server.clear()
        assert server.inbox("bob@example.test") == []
        folder = server._folder
        assert folder.is_dir()
    assert not folder.exists()


async def test_in_a_test_with_a_loop() -> None:
    async with MailServer.ephemeral() as server:
        async with AsyncTransport(server.url, ca=server.ca) as way:
            await way.send(letter())
        (arrived,) = await server.arrival("bob@example.test")
    assert arrived.message.subject == "Tea"


def test_logins_are_those_of_a_server_in_earnest() -> None:
    with MailServer.ephemeral({"ada@example.test": PASSWORD}) as server:
        with Transport(server.login_url("ada@example.test"), ca=server.ca) as way:
            assert way.verify().is_logged_in
            way.send(letter())
            with pytest.raises(EnvelopeError, match="not yours"):
                way.send(letter(sender="eve@example.test"))
        with imaplib.IMAP4_SSL(
            "localhost", server.address("imaps")[1], ssl_context=server.client_context()
        ) as imap:
            imap.login("ada@example.test", PASSWORD)
            assert imap.select("INBOX")[0] == "OK"


def test_it_may_know_its_accounts_only() -> None:
    accounts = {"ada@example.test": PASSWORD}
    with MailServer.ephemeral(accounts, takes_anything=False) as server:
        with Transport(server.url, ca=server.ca) as way:
            way.send(letter("ada@example.test"))
            with pytest.raises(EnvelopeError) as caught:
                way.send(letter("bob@example.test"))
        assert caught.value.reply is not None and caught.value.reply.code == 550
        assert len(server.wait_for("ada@example.test")) == 1


def test_programs_without_tls_are_served_too() -> None:
    with MailServer.ephemeral() as server:
        host, port = server.address("mx")
        with smtplib.SMTP(host, port) as smtp:
            smtp.sendmail(
                "a@example.test",
                ["b@example.test"],
                "From: a@example.test\r\nSubject: x\r\n\r\nhello\r\n",
            )
        with Transport(server.plain_url) as way:
            way.send(letter("b@example.test"))
        assert [one.message.subject for one in server.inbox("b@example.test")] == ["x", "Tea"]


def test_what_does_not_come_is_told_with_what_did() -> None:
    with MailServer.ephemeral() as server:
        with Transport(server.url, ca=server.ca) as way:
            way.send(letter("rob@example.test"))
        with pytest.raises(NothingCame, match=r"rob@example\.test"):
            server.wait_for("bob@example.test", timeout_s=0.01)


def test_two_of_them_do_not_meet() -> None:
    with MailServer.ephemeral() as one, MailServer.ephemeral() as other:
        with Transport(one.url, ca=one.ca) as way:
            way.send(letter())
        assert len(one.inbox("bob@example.test")) == 1
        assert other.inbox("bob@example.test") == []


def test_the_plugin_loads_no_server_until_it_is_asked() -> None:
    program = (
        "import posthouse.testing.plugin, posthouse.testing, sys\nprint('apsw' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_the_fixture_is_empty_for_each_test(mail_server: MailServer) -> None:
    assert mail_server.inbox("bob@example.test") == []
    with Transport(mail_server.url, ca=mail_server.ca) as way:
        way.send(letter())
    assert len(mail_server.wait_for("bob@example.test")) == 1


def test_the_fixture_is_empty_once_more(mail_server: MailServer) -> None:
    assert mail_server.inbox("bob@example.test") == []


def test_what_is_not_there_is_told_with_what_is() -> None:
    with MailServer.ephemeral({"ada@example.test": "sesame-street-7"}) as server:
        with pytest.raises(ValueError, match="there is mx, submission"):
            server.address("smtp")
        words = "not one of the accounts with a password: ada"
        with pytest.raises(ValueError, match=words) as found:
            server.login_url("eve@example.test")
        assert "sesame" not in str(found.value)


async def test_letters_for_somebody_new_may_come_all_at_once() -> None:
    async with MailServer.ephemeral() as server:
        ways = [AsyncTransport(server.plain_url, connections_max=1) for _ in range(6)]
        for number in range(30):
            to = f"r{number}@example{number % 7}.test"
            letter = Message(sender="s@example.org", to=to, text="x")
            await asyncio.gather(*(way.send(letter) for way in ways))
            assert len(server.inbox(to)) == 6
        for way in ways:
            await way.close()
