"""What a message may hold, and what becomes of it."""

import time

import pytest

from posthouse.config.schema import Service
from posthouse.sim.lab import PASSWORD, Lab
from posthouse.sim.personality import PERMANENT, Personality, Stage
from tests.reception.house import ADA, MESSAGE, STRANGER, greeted, offered, ready, simulated

REST = b"To: <ada@north.example>\r\nMessage-ID: <1@x.example>\r\nSubject: hello\r\n\r\nHello.\r\n"
KIB, MIB = 1024, 1024 * 1024


def with_head(head: bytes) -> bytes:
    return head + b"\r\n" + REST


ONE_AUTHOR = [
    b"From: <you@elsewhere.example>",
    b"From : <you@elsewhere.example>",
    b"FROM:you@elsewhere.example",
    b"From: You\r\n <you@elsewhere.example>",
    b'From: "ada@north.example" <you@elsewhere.example>',
    b"From: (ada@north.example) you@elsewhere.example",
    b"From: <a@x.example>, <b@y.example>",
]
NO_AUTHOR = [
    b"Sender: <you@elsewhere.example>",
    b"From: <a@x.example>\r\nFrom: <b@y.example>",
    b"From: <a@x.example>\r\nfRoM: <a@x.example>",
    b"From: <a@x.example>\r\nSubject: x\r\nFrom : <b@y.example>",
    b"From\x00: <a@x.example>",
]


# H33: RFC 5322 §3.6 asks for exactly one
@pytest.mark.parametrize("head", NO_AUTHOR, ids=repr)
@simulated()
async def test_two_authors_fields_or_none_are_refused(lab: Lab, head: bytes) -> None:
    reply = await offered(lab, with_head(head))
    assert reply.startswith((b"550 5.6.0", b"554 5.6.0")), reply
    assert await lab.inbox(ADA) == []


@pytest.mark.parametrize("head", ONE_AUTHOR, ids=repr)
@simulated()
async def test_one_author_field_is_taken(lab: Lab, head: bytes) -> None:
    reply = await offered(lab, with_head(head))
    assert reply.startswith(b"250 2.0.0"), reply
    [message] = await lab.inbox(ADA)
    assert message.endswith(with_head(head))


# H33: what ENVELOPE shows is what the checks saw
@simulated()
async def test_a_field_that_begins_with_a_blank_is_no_author(lab: Lab) -> None:
    reply = await offered(lab, b" From: <a@x.example>\r\n" + REST)
    assert reply.startswith(b"550 5.6.0"), reply


# H34: where the header section ends; the octets stay as they came
HEAD = b"From: <you@elsewhere.example>\r\nSubject: x\r\n"
ODD_ENDS = [
    HEAD + b" \r\nBody.\r\n",
    HEAD + b"Body without a blank line.\r\n",
    HEAD + b"\r\n \r\nBody.\r\n",
    HEAD + b"no colon here\r\nX: y\r\n\r\nBody.\r\n",
    HEAD + b"B\xe4d: name\r\n\r\nBody.\r\n",
    HEAD + b"Two words: name\r\n\r\nBody.\r\n",
    HEAD + b"\r\n",
    HEAD,
]


# H34
@pytest.mark.parametrize("octets", ODD_ENDS, ids=repr)
@simulated()
async def test_however_the_header_ends_the_octets_stay(lab: Lab, octets: bytes) -> None:
    reply = await offered(lab, octets)
    assert reply.startswith(b"250 2.0.0"), reply
    [message] = await lab.inbox(ADA)
    assert message.endswith(octets)
    assert message.startswith(b"Return-Path: <you@elsewhere.example>\r\n")


# H34: an mbox line in front is no field, so what follows is body
@simulated()
async def test_an_mbox_line_in_front_hides_nothing(lab: Lab) -> None:
    octets = b"From you@elsewhere.example Thu Jan  1 00:00:00 1970\r\n" + MESSAGE
    reply = await offered(lab, octets)
    if reply.startswith(b"250"):
        [message] = await lab.inbox(ADA)
        assert message.endswith(octets)
    else:
        assert reply.startswith(b"550 5.6.0"), reply


# H26: CVE-2024-23184
@pytest.mark.timed
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"To: <a@x.example>\r\n" * 500_000, (b"552 5.3.4",)),
        (b"To: " + b"<a@x.example>,\r\n " * 100_000 + b"<b@x.example>\r\n", (b"552 5.3.4",)),
        (b"To: <a@x.example>\r\n" * 2_000, (b"550 5.6.0",)),
        (b"To: " + b"<a@x.example>,\r\n " * 8_000 + b"<b@x.example>\r\n", (b"550 5.6.0",)),
    ],
    ids=["many fields", "one field", "2,000 fields", "120 KiB field"],
)
@simulated()
async def test_floods_of_addresses_are_refused_at_their_limit(
    lab: Lab, octets: bytes, expected: tuple[bytes, ...]
) -> None:
    began_s = time.process_time()
    reply = await offered(lab, octets + MESSAGE)
    assert reply.startswith(expected), reply
    assert time.process_time() - began_s < 1.0
    assert await lab.inbox(ADA) == []


# H26: what is stored is shown in bounds
@pytest.mark.timed
@simulated()
async def test_the_envelope_of_many_addresses_is_bounded(lab: Lab) -> None:
    many = b"Cc: " + b"<a@x.example>,\r\n " * 5_500 + b"<b@x.example>\r\n"
    assert (await offered(lab, many + MESSAGE)).startswith(b"250")
    talk = await lab.connect("north", Service.IMAPS)
    await talk.line()
    talk.send(f"a LOGIN {ADA} {PASSWORD}\r\nb SELECT INBOX\r\nc FETCH 1 ENVELOPE\r\n".encode())
    began_s = time.process_time()
    shown = b""
    while not shown.startswith(b"c "):
        shown = await talk.line()
        assert len(shown) <= 512 * KIB
    assert shown.startswith(b"c OK")
    assert time.process_time() - began_s < 1.0


# H27: CVE-2024-23185, and time that grows with the octets only
@pytest.mark.timed
@pytest.mark.parametrize(
    "filling",
    [b"x" * 70 + b"\r\n ", b"\r\n x"],
    ids=["folded", "continuation lines"],
)
@simulated()
async def test_one_huge_field_is_refused_in_linear_time(lab: Lab, filling: bytes) -> None:
    took = []
    for size in (2 * MIB, 4 * MIB, 8 * MIB):
        octets = b"Subject: " + filling * (size // len(filling)) + b"\r\n" + MESSAGE
        began_s = time.process_time()
        assert (await offered(lab, octets)).startswith(b"552 5.3.4")
        took.append(time.process_time() - began_s)
    assert took[2] < 4 * 2.5 * max(took[0], 0.01), took
    assert await lab.inbox(ADA) == []


# H24 P5: what we refuse in the session is nobody's notice
@simulated()
async def test_nothing_goes_to_a_forged_sender_for_what_was_refused(lab: Lab) -> None:
    victim = await lab.peer(domain="victim.example")
    talk = await greeted(lab)
    for recipient in ("nobody@north.example", "x@remote.example"):
        await talk.say(b"MAIL FROM:<victim@victim.example>")
        assert (await talk.say(f"RCPT TO:<{recipient}>".encode())).startswith(b"550")
        await talk.say(b"RSET")
    refused = await offered(lab, b"no author\r\n\r\n")
    assert refused.startswith(b"550")
    await lab.ground.clock.sleep(3_600)
    assert await lab.node("north").queued() == 0
    assert not victim.messages


# H24 P5: RFC 5321 §4.5.5
@simulated()
async def test_a_notice_that_fails_makes_no_notice(lab: Lab) -> None:
    node = lab.node("north")
    await lab.peer(Personality(at={Stage.RCPT: PERMANENT}), domain="full.example")
    await node.add_alias("list@north.example", "you@full.example")
    talk = await ready(lab, "list@north.example", sender="")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    await lab.settled()
    report = await node.ledger()
    assert report.is_clean
    assert report.ends == {"null-reverse-path": 1}
    assert await lab.inbox(ADA) == []


# H24: a null sender with many recipients is taken like any other, or told why not
@simulated()
async def test_a_null_sender_with_many_recipients_brings_no_notice(lab: Lab) -> None:
    talk = await ready(lab, ADA, "alan@north.example", "postmaster@north.example", sender="")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    report = await lab.node("north").ledger()
    assert set(report.states) >= {"stored"}
    assert report.states["stored"] == 2
    assert sum(report.states.values()) == 2


# P5: one failure notice, to the one who sent it
@simulated()
async def test_a_forwarded_message_that_fails_is_returned_once(lab: Lab) -> None:
    sender = await lab.peer(domain="elsewhere.example")
    await lab.peer(Personality(at={Stage.RCPT: PERMANENT}), domain="full.example")
    await lab.node("north").add_alias("list@north.example", "you@full.example")
    talk = await ready(lab, "list@north.example")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    await lab.settled()
    [notice] = sender.messages
    assert notice.reverse_path == ""
    assert notice.forward_paths == (STRANGER,)
