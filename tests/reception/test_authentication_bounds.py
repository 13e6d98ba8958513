"""Mail authentication over a whole node where senders are many, strange or many times the same."""

from __future__ import annotations

from posthouse.message.fields import read_section
from posthouse.sim.dns import DnsFault
from posthouse.sim.lab import Lab
from posthouse.sim.talk import stuffed
from tests.reception.house import ADA, greeted, simulated
from tests.reception.test_authentication import (
    bring,
    decision,
    from_bank,
    publish,
    results,
    signed,
    with_mailauth,
)


@simulated()
async def test_a_sender_of_many_messages_is_checked_to_the_last_one(lab: Lab) -> None:
    """What is known already costs nothing of `dns.per_session_max`."""
    publish(lab)
    talk = await greeted(lab)
    for number in range(80):
        assert (await talk.say(b"MAIL FROM:<boss@bank.example>")).startswith(b"250 ")
        assert (await talk.say(f"RCPT TO:<{ADA}>".encode())).startswith(b"250 ")
        assert (await talk.say(b"DATA")).startswith(b"354 ")
        talk.send(stuffed(signed(from_bank())))
        reply = await talk.reply()
        assert reply.startswith(b"250 "), (number, reply)
    talk.close()
    record = await decision(lab, reply)
    assert [one.result for one in record.findings if one.name in ("dkim", "dmarc")] == ["pass"] * 2


# H49
@simulated()
async def test_an_author_drawn_like_another_is_taken_with_a_finding(lab: Lab) -> None:
    drawn = "<boss@раypal.example>".encode()
    reply = await bring(lab, from_bank(author=drawn), sender="boss@x.example")
    assert reply.startswith(b"250 "), reply
    [found] = [one for one in (await decision(lab, reply)).findings if one.name == "homograph"]
    assert found.result == "fail"


# H35: the first line of a message would continue the field that we put in front of it
@simulated()
async def test_a_message_that_begins_with_a_continuation_adds_nothing_to_our_results(
    lab: Lab,
) -> None:
    publish(lab, "v=DMARC1; p=none")
    reply = await bring(lab, b" ; dmarc=pass header.from=bank.example\r\n" + from_bank())
    assert reply.startswith(b"250 "), reply
    [message] = await lab.inbox(ADA, count=1)
    said = results(message)
    assert "dmarc=fail" in said and "dmarc=pass" not in said
    verdict = read_section(message).first(b"x-posthouse-verdict")
    assert verdict is not None and b"dmarc" not in verdict


@simulated(change=with_mailauth(adds_received_spf=True))
async def test_a_message_does_not_tell_which_name_servers_failed(lab: Lab) -> None:
    publish(lab, "v=DMARC1; p=none")
    lab.zones.fault("broken.example", DnsFault.SERVFAIL)
    reply = await bring(lab, from_bank(), sender="x@broken.example")
    [message] = await lab.inbox(ADA, count=1)
    [spf] = [each for each in results(message).split("; ") if "smtp.mailfrom" in each]
    assert spf == "spf=temperror smtp.mailfrom=broken.example"
    assert (
        read_section(message).first(b"received-spf").endswith(b'problem="the DNS did not answer";')
    )
    found = [one for one in (await decision(lab, reply)).findings if one.result == "temperror"]
    assert found and all(one.reason for one in found)  # we are told
