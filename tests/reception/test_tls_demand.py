"""What a message asks of TLS is kept with it, and goes on with it (RFC 8689 §4.1)."""

from __future__ import annotations

import pytest

from posthouse.config.schema import Service
from posthouse.kernel.envelope import TlsDemand
from posthouse.message.fields import read_section
from posthouse.protocol.smtp.events import SenderOffered
from posthouse.reception.tls_demand import tls_demand
from posthouse.sim.lab import Lab
from posthouse.sim.talk import Talk, log_in, stuffed
from tests.reception.house import ADA, simulated

PLAIN, REQUIRETLS = (
    SenderOffered(reverse_path=None),
    SenderOffered(reverse_path=None, is_requiretls=True),
)


@pytest.mark.parametrize(
    ("fields", "demand"),
    [
        (b"", TlsDemand.NONE),
        (b"TLS-Required: No\r\n", TlsDemand.OPTIONAL),
        (b"tls-required:NO\r\n", TlsDemand.OPTIONAL),
        (b"TLS-Required:\r\n No\r\n", TlsDemand.OPTIONAL),
        (b"TLS-Required: Yes\r\n", TlsDemand.NONE),
        (b"TLS-Required: Nope\r\n", TlsDemand.NONE),
        (b"TLS-Required:\r\n", TlsDemand.NONE),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n", TlsDemand.NONE),
        (b"X-TLS-Required: No\r\n", TlsDemand.NONE),
    ],
)
def test_a_header_field_lowers_the_demand(fields: bytes, demand: TlsDemand) -> None:
    section = read_section(b"From: a@b.example\r\n" + fields + b"\r\nTLS-Required: No\r\n")
    assert tls_demand(PLAIN, section) is demand
    assert tls_demand(REQUIRETLS, section) is TlsDemand.REQUIRED, "REQUIRETLS goes before it"


FOR_FAR = b"From: <ada@north.example>\r\nTo: <you@far.example>\r\n%b\r\nHello.\r\n"


async def submitted(lab: Lab, parameter: bytes, field: bytes = b"") -> bytes:
    """The reply to a message from Ada for a far domain."""
    talk: Talk = await lab.connect("north", Service.SUBMISSION)
    await talk.reply()
    await log_in(talk, ADA, lab._password, lab.client_tls)
    reply = await talk.say(b"MAIL FROM:<ada@north.example>" + parameter)
    if reply.startswith(b"2"):
        await talk.say(b"RCPT TO:<you@far.example>")
        await talk.say(b"DATA")
        talk.send(stuffed(FOR_FAR % field))
        reply = await talk.reply()
    talk.close()
    return reply


@pytest.mark.parametrize(
    ("parameter", "field", "demand"),
    [
        (b"", b"", TlsDemand.NONE),
        (b" REQUIRETLS", b"", TlsDemand.REQUIRED),
        (b"", b"TLS-Required: No\r\n", TlsDemand.OPTIONAL),
        (b" REQUIRETLS", b"TLS-Required: No\r\n", TlsDemand.REQUIRED),
    ],
)
@simulated()
async def test_it_is_kept_with_the_message(lab: Lab, parameter, field, demand) -> None:
    lab.publish("far.example", "mx.far.example", "198.51.100.200")
    assert (await submitted(lab, parameter, field)).startswith(b"250")
    kept = await lab.node("north").store.read(
        lambda tx: tx.all("SELECT tls_demand FROM message WHERE origin <> 'dsn'")
    )
    assert kept == [(demand,)]


# RFC 8689 §4.2.1, §5: the notice comes into Ada's own mailbox, without what she wrote
@simulated()
async def test_what_cannot_be_protected_comes_back(lab: Lab) -> None:
    peer = await lab.peer(domain="far.example")
    assert (await submitted(lab, b" REQUIRETLS")).startswith(b"250")
    [notice] = await lab.inbox(ADA, count=1)
    assert b"Status: 5.7.10" in notice and b"Hello." not in notice
    assert not peer.messages
    await lab.settled()
    assert (await lab.node("north").ledger()).is_clean
