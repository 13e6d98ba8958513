"""RCPT from a stranger: never for others, whatever the address looks like."""

import pytest

from posthouse.accounts import admin
from posthouse.config.schema import Service
from posthouse.sim.lab import PASSWORD, Lab
from posthouse.sim.talk import log_in
from posthouse.store import accounts as rows
from tests.reception.house import ADA, MESSAGE, greeted, ready, simulated

OWN = "198.51.100.2"
FOREIGN = [
    b"<user@remote.example>",
    b"<user%remote.example@north.example>",
    b"<remote.example!user@north.example>",
    b"<@north.example:user@remote.example>",
    b"<@north.example,@other.example:user@remote.example>",
    b'<"user@remote.example">',
    b'<"user@remote.example"@north.example>',
    b"<user@remote.example@north.example>",
    b"<user@[127.0.0.1]>",
    b"<user@[198.51.100.2]>",
    b"<ada@[198.51.100.2]>",
    b"<user@[IPv6:::1]>",
    b"<user@[192.0.2.77]>",
    b"<postmaster@[192.0.2.77]>",
    b"<user@remote.example.>",
    b"<user@.north.example>",
    b"<user@NORTH.example.remote.example>",
    b"<user>",
    b"<>",
]
LOCAL = [
    b"<ada@north.example>",
    b"<ADA@NORTH.EXAMPLE>",
    b'<"ada"@north.example>',
    b"<ada+tag@north.example>",
    b"<postmaster@north.example>",
    b"<Postmaster>",
    b"<postmaster@[198.51.100.2]>",
]


# H17, P12
@pytest.mark.parametrize("address", FOREIGN, ids=str)
@simulated()
async def test_a_stranger_reaches_nobody_elsewhere(lab: Lab, address: bytes) -> None:
    talk = await greeted(lab)
    await talk.say(b"MAIL FROM:<you@elsewhere.example>")
    reply = await talk.say(b"RCPT TO:" + address)
    assert reply.startswith((b"550 5.7.1", b"550 5.1.", b"501 5.1.3", b"501 5.5.4")), reply
    assert (await talk.say(b"DATA")).startswith(b"5")
    assert await lab.node("north").queued() == 0


# H17: what is local stays local
@pytest.mark.parametrize("address", LOCAL, ids=str)
@simulated()
async def test_a_stranger_reaches_who_is_here(lab: Lab, address: bytes) -> None:
    talk = await greeted(lab)
    await talk.say(b"MAIL FROM:<you@elsewhere.example>")
    assert (await talk.say(b"RCPT TO:" + address)).startswith(b"250 2.1.5")


@simulated()
async def test_a_final_dot_is_no_way_around(lab: Lab) -> None:
    talk = await greeted(lab)
    await talk.say(b"MAIL FROM:<you@elsewhere.example>")
    reply = await talk.say(b"RCPT TO:<ada@north.example.>")
    assert reply.startswith((b"250 2.1.5", b"501 5.1.3")), reply
    if reply.startswith(b"250"):
        await talk.say(b"DATA")
        assert (await talk.say(MESSAGE + b".")).startswith(b"250")
        assert len(await lab.inbox(ADA)) == 1


TAGS = ["../../etc/x", "%00", "$(id)", "INBOX/Sent", "INBOX.Trash", "a+b", "{}", "`id`", "x" * 50]


# H19: the tag is data
@pytest.mark.parametrize("tag", TAGS)
@simulated()
async def test_a_tag_chooses_nothing_it_should_not(lab: Lab, tag: str) -> None:
    node = lab.node("north")

    def mailboxes(tx):
        return tx.all("SELECT account_id, name FROM mailbox ORDER BY id")

    before = await node.store.read(mailboxes)
    talk = await greeted(lab)
    await talk.say(b"MAIL FROM:<you@elsewhere.example>")
    reply = await talk.say(f"RCPT TO:<ada+{tag}@north.example>".encode())
    if "(" in tag or ".." in tag:  # no dot-atom, RFC 5321 §4.1.2
        assert reply.startswith(b"501 5.1.3")
        return
    assert reply.startswith(b"250 2.1.5")
    await talk.say(b"DATA")
    assert (await talk.say(MESSAGE + b".")).startswith(b"250")
    assert len(await lab.inbox(ADA)) == 1
    assert await node.store.read(mailboxes) == before
    assert not [path for path in lab.folder.rglob("*") if "etc" in path.name]


# H22: RFC 5321 §4.5.3.1.10, a bound on recipients that answers each
@simulated()
async def test_recipients_beyond_the_bound_are_told_to_come_later(lab: Lab) -> None:
    most, more = 1_000, 2_000
    talk = await greeted(lab)
    await talk.say(b"MAIL FROM:<you@elsewhere.example>")
    talk.send(b"RCPT TO:<ada@north.example>\r\n" * (most + more))
    replies = await talk.replies(most)
    assert all(reply.startswith(b"250 2.1.5") for reply in replies)
    rest = await talk.replies(10)
    assert all(reply.startswith((b"452 4.5.3", b"421 4.7.0")) for reply in rest), rest


# H22: VRFY and EXPN say nothing, and not for ever
@pytest.mark.parametrize("verb", [b"VRFY ada", b"VRFY nobody", b"EXPN staff"], ids=str)
@simulated()
async def test_nobody_is_verified_and_the_asking_ends(lab: Lab, verb: bytes) -> None:
    talk = await greeted(lab)
    talk.send((verb + b"\r\n") * 2_000)
    answers = [line for line in (await talk.rest()).split(b"\r\n") if line]
    assert len(answers) <= 51
    assert answers[-1].startswith(b"421 4.7.0")
    assert {answer[:3] for answer in answers[:-1]} <= {b"252", b"502"}
    assert len(set(answers[:-1])) == 1


# H23: a login tells nobody who exists
@simulated()
async def test_a_failed_login_tells_nothing_about_the_account(lab: Lab) -> None:
    node = lab.node("north")
    alan = "alan@north.example"

    def disable(tx):
        account = admin.known_account(tx, alan)
        rows.set_disabled(tx, account.id, is_disabled=True)

    await node.write(disable)
    tried = [
        (ADA, "wrong-password"),
        ("nobody@north.example", PASSWORD),
        (alan, PASSWORD),
        ("nobody@remote.example", PASSWORD),
    ]
    clock, workers = lab.ground.clock, lab.ground.world.workers
    seen = set()
    for number, (name, password) in enumerate(tried):
        address = f"203.0.{number}.9"
        talk = await lab.connect("north", Service.SUBMISSION, local_address=address)
        await talk.reply()
        began_s, hashed = clock.monotonic_s(), workers.finished
        reply = await log_in(talk, name, password, lab.client_tls)
        seen.add((reply, round(clock.monotonic_s() - began_s, 3), workers.finished - hashed))
        talk.close()
    [(reply, _, hashes)] = seen
    assert reply.startswith(b"535 5.7.8")
    assert hashes == 1


# H23: RCPT may say what policy allows: unknown and full, each in its own words
@simulated()
async def test_a_full_mailbox_is_told_at_rcpt(lab: Lab) -> None:
    await lab.node("north").add_account("small@north.example", quota_octets=100)
    talk = await greeted(lab)
    await talk.say(b"MAIL FROM:<you@elsewhere.example> SIZE=5000")
    assert (await talk.say(b"RCPT TO:<small@north.example>")).startswith(b"552 5.2.2")
    assert (await talk.say(b"RCPT TO:<nobody@north.example>")).startswith(b"550 5.1.1")
    talk = await ready(lab, "small@north.example")
    reply = await talk.say(MESSAGE + b".")
    assert reply.startswith((b"452 4.2.2", b"552 5.2.2")), reply
    assert await lab.node("north").queued() == 0
