"""Who mail is from, over a whole node: what is checked, what follows, what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.kernel.ports import RecordType
from posthouse.mailauth.dkim.grammar import ED25519
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import SigningKey, generate, load_private, sign
from posthouse.mailauth.policy import DmarcAction, SpfAction
from posthouse.message.fields import read_section
from posthouse.queue import admin
from posthouse.reception.decision import DecisionRecord, decode
from posthouse.sim.dns import DnsFault
from posthouse.sim.lab import PASSWORD, Lab
from posthouse.sim.talk import stuffed
from posthouse.store import refusals
from tests.reception.house import ADA, ALAN, ONE, greeted, simulated

BANK = "bank.example"
HEAD = b"To: <ada@north.example>\r\nMessage-ID: <1@x.example>\r\nSubject: hello\r\n"
NEW = generate(ED25519)
KEY = SigningKey(domain=BANK, selector="s1", algorithm=ED25519, private=load_private(NEW.private))


def from_bank(*fields: bytes, author: bytes = b"<boss@bank.example>") -> bytes:
    return b"".join((*fields, b"From: ", author, b"\r\n", HEAD, b"\r\nHello.\r\n"))


def signed(octets: bytes) -> bytes:
    fields = sign(read_section(octets), [KEY], now_unix_s=1_700_000_000, expires_s=None)
    return fields + octets


def publish(lab: Lab, policy: str = "v=DMARC1; p=reject", *, spf: str = "v=spf1 -all") -> None:
    lab.zones.add(BANK, "TXT", f'"{spf}"')
    lab.zones.add(f"_dmarc.{BANK}", "TXT", f'"{policy}"')
    lab.zones.add(f"s1._domainkey.{BANK}", "TXT", f'"{key_record(ED25519, NEW.public)}"')


async def bring(
    lab: Lab,
    octets: bytes,
    *,
    sender: str = "boss@bank.example",
    to: tuple[str, ...] = (ADA,),
    service: Service = Service.MX,
) -> bytes:
    """A message from the world; the reply that decided it."""
    talk = await greeted(lab, service=service)
    assert (await talk.say(f"MAIL FROM:<{sender}>".encode())).startswith(b"250 ")
    for address in to:
        assert (await talk.say(f"RCPT TO:<{address}>".encode())).startswith(b"250 ")
    assert (await talk.say(b"DATA")).startswith(b"354 ")
    talk.send(stuffed(octets))
    reply = await talk.reply()
    talk.close()
    return reply


async def decision(lab: Lab, reply: bytes) -> DecisionRecord:
    queue_id = reply.decode().split()[-1]
    history = await lab.node("north").store.read(partial(admin.show, queue_id=queue_id))
    assert history is not None
    return decode(history.decision)


def with_mailauth(**settings: object) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        return msgspec.structs.replace(config, mailauth=schema.Mailauth(**settings))

    return change


def results(message: bytes) -> str:
    """Our Authentication-Results field, unfolded."""
    section = read_section(message)
    [first, *_] = section.every(b"authentication-results")
    return " ".join(first.decode().split())


@simulated()
async def test_forged_mail_is_refused_where_its_domain_asks_for_it(lab: Lab) -> None:
    publish(lab)
    reply = await bring(lab, from_bank(), sender="x@elsewhere.example")
    assert reply.startswith(b"550 5.7.26 bank.example"), reply
    assert await lab.inbox(ADA) == []
    assert any(
        b'"event":"message.refused"' in line and b"asks to reject" in line
        for line in lab.node("north").log_lines
    )


@simulated()
async def test_what_was_refused_can_be_explained(lab: Lab) -> None:
    publish(lab)
    reply = await bring(lab, from_bank(), sender="x@elsewhere.example")
    name = reply.decode().rstrip().rpartition("(")[2].removesuffix(")")
    trace, _, number = name.rpartition(".")
    assert number == "1"
    await lab.ground.clock.sleep(5)
    for asked in (name, trace):
        [row] = await lab.node("north").store.read(
            lambda tx, asked=asked: refusals.named(tx, asked, limit=9)
        )
        assert (row.queue_id, row.reverse_path) == (name, "x@elsewhere.example")
        assert row.reply.startswith("550 5.7.26 ")
        record = decode(row.decision)
        assert (record.verdict, record.recipients[0].address) == ("refuse", ADA)
        [dmarc] = [one for one in record.findings if one.name == "dmarc"]
        assert any("v=DMARC1; p=reject" in each.found for each in dmarc.evidence)


@simulated()
async def test_forged_mail_is_junk_where_its_domain_asks_for_that(lab: Lab) -> None:
    publish(lab, "v=DMARC1; p=quarantine")
    reply = await bring(lab, from_bank(), sender="x@elsewhere.example")
    assert reply.startswith(b"250 "), reply
    assert await lab.inbox(ADA) == []
    [message] = await lab.inbox(ADA, count=1, mailbox="Junk")
    assert "dmarc=fail" in results(message)
    assert read_section(message).first(b"x-posthouse-verdict") == (
        b"accept as junk;\tDMARC fails and bank.example asks to quarantine such mail"
    )
    history = await lab.node("north").store.read(
        partial(admin.show, queue_id=reply.decode().split()[-1])
    )
    assert history is not None
    [[line]] = history.ledger.values()
    assert (line.reason, line.detail) == ("delivered", "Junk")  # explain names the mailbox
    record = await decision(lab, reply)
    assert record.verdict == "accept as junk"
    [dmarc] = [one for one in record.findings if one.name == "dmarc"]
    assert dmarc.result == "fail"
    assert any("v=DMARC1; p=quarantine" in each.found for each in dmarc.evidence)


@simulated()
async def test_junk_that_cannot_be_passed_on_is_told_to_nobody(lab: Lab) -> None:  # P5
    publish(lab, "v=DMARC1; p=quarantine")
    await lab.node("north").add_alias("gone@north.example", "nobody@nowhere.example")
    reply = await bring(
        lab, from_bank(), sender="victim@elsewhere.example", to=("gone@north.example",)
    )
    assert reply.startswith(b"250 "), reply
    await lab.settled(within_s=3600)
    history = await lab.node("north").store.read(
        partial(admin.show, queue_id=reply.decode().split()[-1])
    )
    assert history is not None
    [recipient] = history.recipients
    assert history.ledger[recipient.id][-1].reason == "junk"


@simulated()
async def test_a_policy_of_none_only_marks(lab: Lab) -> None:
    publish(lab, "v=DMARC1; p=none")
    assert (await bring(lab, from_bank(), sender="x@elsewhere.example")).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    said = results(message)
    assert "dmarc=fail" in said and "spf=none" in said
    assert message.index(b"Authentication-Results:") < message.index(b"\r\nReceived:")


@simulated()
async def test_a_signature_of_the_author_makes_it_pass_whoever_brings_it(lab: Lab) -> None:
    publish(lab)
    octets = signed(from_bank())
    assert (await bring(lab, octets, sender="list@elsewhere.example")).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert "dkim=pass" in results(message) and "dmarc=pass" in results(message)
    assert message.endswith(octets)


@simulated()
async def test_an_aligned_spf_pass_makes_it_pass(lab: Lab) -> None:
    publish(lab, spf="v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 -all")
    assert (await bring(lab, from_bank())).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert "spf=pass smtp.mailfrom=bank.example" in results(message)
    assert "dmarc=pass" in results(message)


@simulated()
async def test_the_strictest_of_several_authors_counts(lab: Lab) -> None:  # H33
    publish(lab)
    octets = from_bank(author=b"<me@elsewhere.example>, <boss@bank.example>")
    assert (await bring(lab, octets, sender="me@elsewhere.example")).startswith(b"550 5.7.26")


FORGED = (
    b"Authentication-Results: mail.north.example; dmarc=pass header.from=bank.example\r\n"
    b"Authentication-Results: (x) MAIL.north.EXAMPLE. 1;\r\n dmarc=pass\r\n"
    b"X-Posthouse-Verdict: accept\r\n"
)


@simulated()
async def test_results_that_claim_to_be_ours_go_and_others_stay(lab: Lab) -> None:  # H35
    publish(lab, "v=DMARC1; p=none")
    other = b"Authentication-Results: mx.other.example; spf=pass\r\n"
    octets = from_bank(FORGED, other)
    assert (await bring(lab, octets, sender="x@elsewhere.example")).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert message.endswith(from_bank(other))
    section = read_section(message)
    assert section.count(b"authentication-results") == 2
    assert section.count(b"x-posthouse-verdict") == 1
    assert "dmarc=fail" in results(message)


@simulated()
async def test_signatures_are_verified_before_anything_is_taken_out(lab: Lab) -> None:  # H35
    publish(lab)
    octets = signed(from_bank(b"Authentication-Results: mail.north.example; none\r\n"))
    assert (await bring(lab, octets, sender="x@elsewhere.example")).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert "dkim=pass" in results(message)
    assert b"mail.north.example; none" not in message


@simulated()
async def test_a_user_cannot_forge_our_results_either(lab: Lab) -> None:  # H35
    octets = FORGED + from_bank(author=b"<ada@north.example>")
    assert (await lab.send(ADA, ALAN, octets=octets)).startswith("250 ")
    [message] = await lab.inbox(ALAN, count=1)
    section = read_section(message)
    assert b"authentication-results" not in section and b"x-posthouse-verdict" not in section
    assert b"dkim-signature" in section


@simulated(change=with_mailauth(is_enabled=False))
async def test_where_nothing_is_checked_nothing_can_be_forged(lab: Lab) -> None:  # H35
    reply = await bring(lab, FORGED + from_bank(), sender="x@elsewhere.example")
    assert reply.startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert b"Authentication-Results" not in message and b"X-Posthouse" not in message


@simulated(change=with_mailauth(trusted_forwarders=("198.51.100.0/24", "192.0.2.0/24")))
async def test_mail_by_a_trusted_forwarder_is_not_refused(lab: Lab) -> None:
    publish(lab)
    reply = await bring(lab, from_bank(), sender="x@elsewhere.example")
    assert reply.startswith(b"250 "), reply
    record = await decision(lab, reply)
    assert record.verdict == "accept" and "trusted forwarder" in record.why
    assert [one.result for one in record.findings if one.name == "override"] == [
        "trusted_forwarder"
    ]
    assert len(await lab.inbox(ADA, count=1)) == 1


@simulated(change=with_mailauth(dmarc=DmarcAction.QUARANTINE))
async def test_who_would_rather_look_gets_refusals_as_junk(lab: Lab) -> None:
    publish(lab)
    assert (await bring(lab, from_bank(), sender="x@elsewhere.example")).startswith(b"250 ")
    assert len(await lab.inbox(ADA, count=1, mailbox="Junk")) == 1


@simulated(change=with_mailauth(spf=SpfAction.REFUSE, adds_received_spf=True))
async def test_spf_alone_refuses_where_that_is_wished(lab: Lab) -> None:
    lab.zones.add("spf.example", "TXT", '"v=spf1 -all exp=why.spf.example"')
    lab.zones.add("why.spf.example", "TXT", '"%{i} is none of ours"')
    octets = from_bank(author=b"<x@nothing.example>")
    reply = await bring(lab, octets, sender="x@spf.example")
    assert reply.startswith(b"550-5.7.23"), reply
    assert b"is none of ours" in reply
    assert (await bring(lab, octets, sender="x@nothing.example")).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert read_section(message).first(b"received-spf").startswith(b"none ")


@simulated(change=with_mailauth(is_enabled=False))
async def test_switched_off_nothing_is_asked(lab: Lab) -> None:
    publish(lab)
    assert (await bring(lab, from_bank(), sender="x@elsewhere.example")).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    assert b"Authentication-Results" not in message
    assert not [name for name, _ in lab.zones.questions if "_dmarc" in name]


# --- the DNS fails, or is made to ---


@simulated()
async def test_mail_is_put_off_while_its_authors_dns_fails(lab: Lab) -> None:  # F23, P8
    publish(lab)
    lab.zones.fault(f"s1._domainkey.{BANK}", DnsFault.SERVFAIL)
    octets = signed(from_bank())
    reply = await bring(lab, octets, sender="list@elsewhere.example")
    assert reply.startswith(b"451 4.7.26 "), reply
    lab.zones.heal(f"s1._domainkey.{BANK}")
    assert (await bring(lab, octets, sender="list@elsewhere.example")).startswith(b"250 ")


@simulated()
async def test_a_policy_that_cannot_be_asked_for_refuses_nothing(lab: Lab) -> None:  # F23
    publish(lab)
    lab.zones.fault(f"_dmarc.{BANK}", DnsFault.SERVFAIL)
    reply = await bring(lab, from_bank(), sender="x@elsewhere.example")
    assert reply.startswith(b"250 "), reply
    [message] = await lab.inbox(ADA, count=1)
    assert "dmarc=temperror" in results(message)


@simulated(change=with_mailauth(deadline_s=5.0))
async def test_name_servers_of_the_sender_keep_no_policy_from_being_found(lab: Lab) -> None:
    publish(lab)
    # Whoever forges has a domain whose DNS never answers, in SPF and in a signature.
    lab.zones.fault("slow.example", DnsFault.TIMEOUT)
    lab.zones.fault("x._domainkey.slow.example", DnsFault.TIMEOUT)
    foreign = with_changes(KEY, domain="slow.example", selector="x")
    octets = from_bank()
    fields = sign(read_section(octets), [foreign], now_unix_s=1_700_000_000, expires_s=None)
    before = lab.ground.clock.monotonic_s()
    reply = await bring(lab, fields + octets, sender="x@slow.example")
    assert reply.startswith(b"550 5.7.26"), reply
    assert lab.ground.clock.monotonic_s() - before < 6.0


def with_changes(key: SigningKey, **changes: object) -> SigningKey:
    return msgspec.structs.replace(key, **changes)


@simulated()
async def test_a_budget_spent_on_spf_hides_no_policy(lab: Lab) -> None:
    publish(lab)
    for number in range(10):
        lab.zones.add(
            f"m{number}.greedy.example",
            "MX",
            *(f"10 h{number}-{host}.greedy.example." for host in range(10)),
        )
    mechanisms = " ".join(f"mx:m{number}.greedy.example" for number in range(9))
    lab.zones.add("greedy.example", "TXT", f'"v=spf1 {mechanisms} -all"')
    reply = await bring(lab, from_bank(), sender="x@greedy.example")
    assert reply.startswith(b"550 5.7.26"), reply
    asked = [name for name, _ in lab.zones.questions]
    assert len(asked) <= 100


@simulated(
    change=lambda config: msgspec.structs.replace(
        config, dns=msgspec.structs.replace(config.dns, per_session_max=32)
    )
)
async def test_a_session_that_causes_too_many_questions_ends(lab: Lab) -> None:
    talk = await greeted(lab)
    for number in range(9):
        sender = f"x@d{number}.example"
        reply = await talk.say(f"MAIL FROM:<{sender}>".encode())
        if reply.startswith(b"421 4.7.0 "):
            break
        await talk.say(f"RCPT TO:<{ADA}>".encode())
        await talk.say(b"DATA")
        talk.send(stuffed(from_bank(author=f"<{sender}>".encode())))
        assert (await talk.reply()).startswith(b"250 ")
    else:
        raise AssertionError("nothing ended it")
    assert number >= 2
    lines = [line for line in lab.node("north").log_lines if b"dns.per_session_max" in line]
    assert len(lines) == 1


# --- what our own send ---


@simulated(domains=dict(ONE, **{"south.example": ("bob",)}))
async def test_what_users_send_passes_at_the_other_side(lab: Lab) -> None:
    for domain in ("north.example", "south.example"):
        lab.zones.add(f"_dmarc.{domain}", "TXT", '"v=DMARC1; p=reject; adkim=s; aspf=s"')
    assert (await lab.send(ADA, "bob@south.example")).startswith("250 ")
    [message] = await lab.inbox("bob@south.example", count=1)
    assert "dkim=pass" in results(message) and "dmarc=pass" in results(message)
    assert "spf=pass smtp.mailfrom=north.example" in results(message)
    assert "iprev=pass" in results(message)


@simulated(domains=dict(ONE, **{"south.example": ("bob",)}))
async def test_our_notices_are_signed_for_the_domain_above_the_host(lab: Lab) -> None:
    lab.zones.add("_dmarc.south.example", "TXT", '"v=DMARC1; p=reject"')
    await lab.node("south").add_alias("gone@south.example", "x@nowhere.invalid")
    assert (await lab.send(ADA, "gone@south.example")).startswith("250 ")
    [_, notice] = [b"", *await lab.inbox(ADA, count=1)]
    said = results(notice)
    assert "dkim=pass header.d=south.example" in said, said
    assert "dmarc=pass" in said and "header.from=mail.south.example" in said


@simulated()
async def test_what_would_continue_our_signature_is_not_taken_from_users(lab: Lab) -> None:
    octets = b" x\r\n" + from_bank(author=b"<ada@north.example>")
    assert (await lab.send(ADA, ALAN, octets=octets)).startswith("550 5.6.0 ")


@simulated()
async def test_mail_between_our_own_users_is_signed_and_not_judged(lab: Lab) -> None:
    assert (await lab.send(ADA, ALAN)).startswith("250 ")
    [message] = await lab.inbox(ALAN, count=1)
    section = read_section(message)
    assert b"dkim-signature" in section and b"authentication-results" not in section
    assert message.index(b"Received:") < message.index(b"DKIM-Signature:")


@simulated(
    change=lambda config: msgspec.structs.replace(
        config,
        smtp=msgspec.structs.replace(
            config.smtp, relay_networks=("198.51.100.0/24", "192.0.2.0/24")
        ),
    )
)
async def test_hosts_that_relay_by_us_are_signed_for_and_not_judged(lab: Lab) -> None:
    octets = from_bank(author=b"<ada@north.example>")
    assert (await bring(lab, octets, sender=ADA)).startswith(b"250 ")
    [message] = await lab.inbox(ADA, count=1)
    section = read_section(message)
    assert b"dkim-signature" in section and b"authentication-results" not in section


@pytest.mark.parametrize("policy", ["v=DMARC1; p=reject", "v=DMARC1; p=none"])
@simulated()
async def test_a_login_is_believed_about_its_own_address(lab: Lab, policy: str) -> None:
    lab.zones.add("_dmarc.north.example", "TXT", f'"{policy}"')
    assert PASSWORD
    assert (await lab.send(ADA, ALAN)).startswith("250 ")
    assert [name for name, kind in lab.zones.questions if kind == RecordType.TXT.value] == []
