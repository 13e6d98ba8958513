"""What the sender's program hears of a letter where its notices are kept encrypted."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import quote

from posthouse.accounts.mail_policy import Mode
from posthouse.kernel.envelope import Address
from posthouse.message import dsn
from posthouse.message.build import Mailbox
from posthouse.net.world import SystemClock
from posthouse.sending import Outcome, OutcomeState, Receipt
from posthouse.sending.notice_box import read_notice_box
from posthouse.sending.outcomes import ask
from tests.gateway.house import ADA, EVE, PASSWORD, SECRET, House


async def asked_at_once(house: House, receipt: Receipt) -> tuple[Outcome, ...]:
    """What the notices in Ada's mailbox tell."""
    port = house.server.address("imap")[1]
    box = read_notice_box(f"imap://{quote(ADA)}:{PASSWORD}@localhost:{port}")
    return await ask(box, ssl.create_default_context(cafile=house.server.ca), receipt, 0)


def notice_about(message_id: str, sender: str = "MAILER-DAEMON@mx.far.example") -> bytes:
    local_part, _, domain = sender.partition("@")
    reported = dsn.RecipientReport(
        final_recipient=EVE, action=dsn.Action.FAILED, status="5.1.1", diagnostic="550 no eve"
    )
    return dsn.compose(
        dsn.Report(reporting_mta="mx.far.example", recipients=(reported,)),
        sender=Mailbox(Address(local_part, domain)),
        to=Address("ada", "example.test"),
        date=SystemClock().now(),
        message_id="<notice@mx.far.example>",
        original=f"Message-ID: {message_id}\r\nFrom: {ADA}\r\n\r\nx\r\n".encode(),
    )


def test_a_notice_in_a_mailbox_that_keeps_mail_encrypted_is_not_missed(house: House) -> None:
    """Its body cannot be searched, and it was told that all went well."""
    house.give_key(ADA)
    house.say(ADA, at_rest=Mode.ALWAYS)
    receipt = Receipt(
        message_id="<map.1@example.test>",
        sender=ADA,
        recipients=(EVE,),
        accepted=(EVE,),
        response="250 ok",
    )
    other = notice_about("<other.1@example.test>")
    answer = notice_about(receipt.message_id, sender=EVE)  # of a person
    for number, octets in enumerate((other, answer)):
        house.arrive(octets, [ADA])
        assert b"550 no eve" not in house.stored(ADA, count=number + 1)
    (found,) = asyncio.run(asked_at_once(house, receipt))
    assert found.state is OutcomeState.ACCEPTED and found.detail == "250 ok"
    house.arrive(notice_about(receipt.message_id), [ADA])
    kept = house.stored(ADA, count=3)
    assert b"550 no eve" not in kept and b"In-Reply-To: <map.1@example.test>" in kept
    (found,) = asyncio.run(asked_at_once(house, receipt))
    assert found.state is OutcomeState.UNKNOWN and "it is encrypted" in found.detail


def test_our_own_notice_names_the_letter_where_it_is_kept_encrypted(house: House) -> None:
    """There is no DNS here, so the other domain does not exist."""
    house.give_key(ADA)
    house.say(ADA, at_rest=Mode.ALWAYS)
    receipt = house.send(ADA, [EVE])
    kept = house.stored(ADA)
    assert SECRET.encode() not in kept and b"does not exist" not in kept
    (found,) = asyncio.run(asked_at_once(house, receipt))
    assert found.state is OutcomeState.UNKNOWN and "it is encrypted" in found.detail
