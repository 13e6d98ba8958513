"""What became of a letter later, read from notices in a real mailbox."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from posthouse.kernel.envelope import Address
from posthouse.message import dsn
from posthouse.message.build import Mailbox
from posthouse.sending import AsyncTransport, ConnectError, Message, OptionError, OutcomeState
from posthouse.sending.notice_box import read_notice_box
from posthouse.sending.outcomes import ask
from posthouse.sending.receipt import Receipt
from posthouse.testing import MailServer
from tests.sending.bad_server import BadServer

ADA = "ada@example.test"
PASSWORD = "sesame-street-7"


@pytest.fixture(scope="module")
def house() -> Iterator[MailServer]:
    with MailServer.ephemeral({ADA: PASSWORD}) as server:
        yield server


def box(house: MailServer, password: str = PASSWORD, name: str = "INBOX") -> str:
    """By STARTTLS."""
    return f"imap://ada%40example.test:{password}@localhost:{house.address('imap')[1]}/{name}"


def tls_box(house: MailServer) -> str:
    return f"imaps://ada%40example.test:{PASSWORD}@localhost:{house.address('imaps')[1]}"


def notice(house: MailServer, original: bytes, *reports: dsn.RecipientReport) -> None:
    """A DSN about `original` arrives in Ada's mailbox."""
    composed = dsn.compose(
        dsn.Report(reporting_mta="mx.example.net", recipients=reports),
        sender=Mailbox(Address("mailer-daemon", "mx.example.net")),
        to=Address("ada", "example.test"),
        date=datetime.now(UTC),
        message_id="<notice@mx.example.net>",
        original=original,
    )
    with smtplib.SMTP(*house.address("mx")) as smtp:
        smtp.sendmail("", [ADA], composed)


def report(address: str, action: dsn.Action, words: str) -> dsn.RecipientReport:
    return dsn.RecipientReport(
        final_recipient=address,
        action=action,
        status={"failed": "5.1.1", "delayed": "4.4.1", "delivered": "2.0.0"}[action.value],
        diagnostic=words,
    )


async def test_notices_tell_what_became_of_each_recipient(house: MailServer) -> None:
    to = ["bob@example.net", "eve@example.net", "joe@example.net", "amy@example.net"]
    async with (
        BadServer(replies={"RCPT": ["250 ok", "250 ok", "250 ok", "550 5.1.1 no amy"]}) as server,
        AsyncTransport(
            host="127.0.0.1", port=server.port, outcome_mailbox=tls_box(house), ca=house.ca
        ) as way,
    ):
        receipt = await way.send(Message(sender=ADA, to=to, text="x"))
        before = await receipt.outcome()
        assert [one.state for one in before] == [OutcomeState.ACCEPTED] * 3 + [
            OutcomeState.RETURNED
        ]
        original = server.taken[0].octets
        other = original.replace(receipt.message_id.encode(), b"<another@example.test>")
        waiting = asyncio.ensure_future(receipt.outcome(timeout_s=20))
        await asyncio.to_thread(
            notice, house, other, report("joe@example.net", dsn.Action.FAILED, "another letter")
        )
        await asyncio.to_thread(
            notice,
            house,
            original,
            report("bob@example.net", dsn.Action.FAILED, "550 no bob"),
            report("EVE@example.net", dsn.Action.DELIVERED, "250 ok"),
            report("joe@example.net", dsn.Action.DELAYED, "450 greylisted"),
        )
        await asyncio.to_thread(
            notice, house, original, report("joe@example.net", dsn.Action.DELIVERED, "250 at last")
        )
        outcomes = {one.recipient: one for one in await waiting}
    assert outcomes["bob@example.net"].state is OutcomeState.RETURNED
    assert outcomes["bob@example.net"].detail == "550 no bob"
    assert outcomes["eve@example.net"].state is OutcomeState.DELIVERED
    assert outcomes["joe@example.net"].state is OutcomeState.DELIVERED
    assert outcomes["amy@example.net"].detail == "no amy"


async def test_a_mailbox_that_cannot_be_read_is_told(house: MailServer) -> None:
    async with (
        BadServer() as server,
        AsyncTransport(
            host="127.0.0.1",
            port=server.port,
            outcome_mailbox=box(house, "wrong-password-1"),
            ca=house.ca,
        ) as way,
    ):
        receipt = await way.send(Message(sender=ADA, to="bob@example.net", text="x"))
        with pytest.raises(ConnectError) as caught:
            await receipt.outcome()
    assert caught.value.text.endswith("User name or password is wrong")
    assert "outcome_mailbox" in caught.value.hint and "wrong-password-1" not in str(caught.value)


async def test_a_mailbox_that_is_not_there_is_told(house: MailServer) -> None:
    for name in ("Notices", 'N"otices', "Bücher & Co"):
        at = box(house, name=quote(name, safe=""))
        async with (
            BadServer() as server,
            AsyncTransport(
                host="127.0.0.1", port=server.port, outcome_mailbox=at, ca=house.ca
            ) as way,
        ):
            receipt = await way.send(Message(sender=ADA, to="bob@example.net", text="x"))
            with pytest.raises(ConnectError, match=f"has no mailbox {name}"):
                await receipt.outcome()


async def test_no_password_leaves_the_machine_without_tls(
    house: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins: list[str] = []
    monkeypatch.setattr("imaplib.IMAP4.login", lambda *given: logins.append(given[1]))
    at = read_notice_box(box(house))
    receipt = Receipt(message_id="<1@example.test>", sender=ADA, recipients=(), accepted=())
    with pytest.raises(ConnectError, match="certificate"):
        await ask(at, ssl.create_default_context(), receipt, 0)
    assert logins == []


async def test_passwords_may_have_any_letters() -> None:
    with MailServer.ephemeral({ADA: "sésame-street-7"}) as house:
        at = box(house, quote("sésame-street-7"))
        async with (
            BadServer() as server,
            AsyncTransport(
                host="127.0.0.1", port=server.port, outcome_mailbox=at, ca=house.ca
            ) as way,
        ):
            receipt = await way.send(Message(sender=ADA, to="bob@example.net", text="x"))
            [one] = await receipt.outcome()
    assert one.state is OutcomeState.ACCEPTED


@pytest.mark.parametrize(
    "url",
    [
        "imaps://host",
        "imaps://u%0d%0aa1 LOGOUT:s3same@h",
        "imaps://u:s3same@h/INBOX%0d%0aa1 LOGOUT",
        "pop3://u:s3same@h",
        "imaps://u:s3same@h:x",
    ],
)
def test_a_mailbox_that_cannot_be_is_told_without_its_password(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_notice_box(url)
    assert caught.value.option == "outcome_mailbox" and "s3same" not in str(caught.value)
