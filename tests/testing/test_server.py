"""The server for tests of other programs: ready at once, takes anything, lets nothing out."""

from __future__ import annotations

import asyncio
import imaplib
import smtplib
import subprocess
import sys
from typing import Any

import pytest

from posthouse.sending import AsyncTransport, EnvelopeError, Message, Transport
from posthouse.testing import MailServer, MailServerError, NothingCame

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


@pytest.mark.parametrize(
    ("given", "text", "hint"),
    [
        ({"acounts": {}}, "MailServer.ephemeral takes no acounts", "did you mean accounts?"),
        ({"users": {}}, "takes no users", "give accounts={"),
        ({"domain": "example.test"}, "takes no domain", "for every domain"),
        ({"port": 2525}, "takes no port", "those that are free"),
        ({"accounts": ["ada@example.test"]}, "a dict of address to password, and this is list", ""),
        ({"accounts": "ada@example.test"}, "and this is str", 'write accounts={"ada@'),
        ({"accounts": {"ada": "x"}}, "accounts: 'ada' is no address: the domain", "whole"),
        ({"accounts": {"ada@-x-": "x"}}, "the domain is malformed", "whole"),
        ({"accounts": {7: "x"}}, "an address has to be text, and this is int", "whole"),
        ({"accounts": {"ada@example.test": 7}}, "of 'ada@example.test' has to be text", "any"),
        ({"accounts": {"ada@example.test": ""}}, "has to be text, and is empty", "any"),
        (
            {"accounts": {"ada@example.test": "x", "ADA@Example.test": "y"}},
            "accounts: 'ADA@Example.test' is there already, as 'ada@example.test'",
            "leave one",
        ),
        ({"takes_anything": "no"}, "takes_anything has to be True or False", ""),
    ],
)
def test_what_it_cannot_be_made_of_is_told(given: dict[str, Any], text: str, hint: str) -> None:
    with pytest.raises(MailServerError) as caught:
        MailServer.ephemeral(**given)
    assert text in caught.value.text and hint in caught.value.hint
    assert caught.value.hint in str(caught.value)


def test_an_account_that_the_server_does_not_take_is_told_when_it_starts() -> None:
    server = MailServer.ephemeral({"ada@[127.0.0.1]": PASSWORD})
    with pytest.raises(MailServerError, match=r"accounts: .* has no domain name"), server:
        pass


def test_it_says_that_it_does_not_run() -> None:
    server = MailServer.ephemeral({"ada@example.test": PASSWORD})

    def asked_of(words: str) -> None:
        for ask in (
            lambda: server.url,
            lambda: server.plain_url,
            lambda: server.login_url("ada@example.test"),
            lambda: server.api_url("ada@example.test"),
            lambda: server.ca,
            server.client_context,
            lambda: server.address("imap"),
            lambda: server.inbox("ada@example.test"),
            lambda: server.wait_for("ada@example.test"),
            server.addresses,
            server.clear,
        ):
            with pytest.raises(MailServerError, match=words) as caught:
                ask()
            assert "within the block" in caught.value.hint

    asked_of("the server does not run yet")
    with server:
        with pytest.raises(MailServerError, match="runs already"), server:
            pass
        with Transport(server.url, ca=server.ca) as way:
            way.send(letter())
        server.clear()
    asked_of("the server has ended")
    with server:  # it may run once more, with nothing in it
        assert server.addresses() == ["ada@example.test"]
        with Transport(server.url, ca=server.ca) as way:
            way.send(letter())
        assert len(server.inbox("bob@example.test")) == 1
    server.__exit__(None, None, None)  # twice is once


def test_what_is_asked_for_has_to_be_something() -> None:
    with MailServer.ephemeral() as server:
        with pytest.raises(MailServerError, match="'ada' is no address: the domain is missing"):
            server.inbox("ada")
        with pytest.raises(MailServerError, match="has to be text, and this is NoneType"):
            server.inbox(None)  # type: ignore[arg-type]
        with pytest.raises(MailServerError, match="count is 0") as caught:
            server.wait_for("bob@example.test", count=0)
        assert "inbox('bob@example.test') == []" in caught.value.hint
        with pytest.raises(MailServerError, match="timeout_s has to be a number of seconds"):
            server.wait_for("bob@example.test", timeout_s="1")  # type: ignore[arg-type]
        with pytest.raises(MailServerError, match="wait_for takes no timeout") as caught:
            server.wait_for("bob@example.test", timeout=1.0)  # type: ignore[arg-type]
        assert caught.value.hint == "give `timeout_s`"
