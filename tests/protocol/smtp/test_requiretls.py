"""REQUIRETLS in both machines (RFC 8689)."""

from __future__ import annotations

import pytest

from posthouse.kernel.envelope import Address, Envelope, ForwardPath, TlsDemand
from posthouse.kernel.errors import Refusal
from posthouse.protocol.smtp.client import ClientSession
from posthouse.protocol.smtp.client_events import MessageEnded, OutgoingMessage, Result
from posthouse.protocol.smtp.grammar import parse_sender
from posthouse.protocol.smtp.limits import Limits, ServerHello, ehlo_octets

OFFERED = b"250-mx.example\r\n250-REQUIRETLS\r\n250 PIPELINING\r\n"
NOT_OFFERED = b"250-mx.example\r\n250 PIPELINING\r\n"
ALICE = Address("alice", "client.example")


def ready(ehlo: bytes, *, is_tls: bool) -> ClientSession:
    session = ClientSession(name="client.example", is_tls=is_tls)
    session.receive(b"220 mx.example\r\n")
    session.next_event()
    session.take_outgoing()
    session.receive(ehlo)
    session.next_event()
    return session


def message(demand: TlsDemand, reverse_path: Address | None = ALICE) -> OutgoingMessage:
    recipients = (ForwardPath(address=Address("bob", "mx.example")),)
    envelope = Envelope(reverse_path=reverse_path, recipients=recipients, tls_demand=demand)
    return OutgoingMessage(envelope=envelope, octets=b"Subject: x\r\n\r\nbody\r\n")


@pytest.mark.parametrize("reverse_path", [ALICE, None])
def test_the_parameter_goes_to_a_server_that_offers_it_over_tls(reverse_path) -> None:
    session = ready(OFFERED, is_tls=True)
    session.send(message(TlsDemand.REQUIRED, reverse_path))
    assert session.take_outgoing().split(b"\r\n")[0].endswith(b"> REQUIRETLS")


@pytest.mark.parametrize("demand", [TlsDemand.NONE, TlsDemand.OPTIONAL])
def test_nobody_else_asks_for_it(demand: TlsDemand) -> None:
    session = ready(OFFERED, is_tls=True)
    session.send(message(demand))
    assert b"REQUIRETLS" not in session.take_outgoing()


# RFC 8689 §4.2.1
@pytest.mark.parametrize(
    ("ehlo", "is_tls", "status"), [(NOT_OFFERED, True, "5.7.30"), (OFFERED, False, "5.7.10")]
)
def test_the_message_never_leaves_without(ehlo: bytes, is_tls: bool, status: str) -> None:
    session = ready(ehlo, is_tls=is_tls)
    session.send(message(TlsDemand.REQUIRED))
    assert session.take_outgoing() == b""
    event = session.next_event()
    assert isinstance(event, MessageEnded)
    (outcome,) = event.outcomes
    assert (outcome.result, outcome.status) == (Result.PERMANENT, status)


# RFC 8689 §5
@pytest.mark.parametrize(("ehlo", "is_tls"), [(NOT_OFFERED, True), (OFFERED, False)])
def test_a_notice_goes_without_rather_than_not_at_all(ehlo: bytes, is_tls: bool) -> None:
    session = ready(ehlo, is_tls=is_tls)
    session.send(message(TlsDemand.REQUIRED, None))
    assert session.take_outgoing().startswith(b"MAIL FROM:<>\r\n")


def test_a_server_offers_it_in_tls_only() -> None:
    for is_tls in (False, True):
        offered = ehlo_octets(
            ServerHello(host="mx.example"), Limits(), is_tls=is_tls, is_authenticated=False
        )
        assert (b"REQUIRETLS" in offered) is is_tls


def test_the_parameter_is_read_where_it_is_offered() -> None:
    options = {"is_smtputf8": True, "is_binary": False, "is_dsn": True}
    argument = b"FROM:<a@b.example> RequireTLS"
    assert parse_sender(argument, **options, is_requiretls=True).is_requiretls
    with pytest.raises(Refusal):
        parse_sender(argument, **options)
    assert not parse_sender(b"FROM:<a@b.example>", **options, is_requiretls=True).is_requiretls
