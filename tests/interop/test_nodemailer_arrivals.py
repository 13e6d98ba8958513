"""Each example of nodemailer's documentation on messages, sent by it and by us to a real Posthouse,
and to a real Postfix that hands it on to one: what lies in the mailboxes in the end is compared
part by part, with the same differences explained as in test_nodemailer_twins.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from posthouse.message.address import format_address, parse_mailbox
from posthouse.message.fields import read_section
from posthouse.sending import Message, SendingError, Transport
from posthouse.sending.sources import gather
from posthouse.testing import MailServer
from tests.crash.server import free_port_base
from tests.interop.postfix import Postfix
from tests.interop.programs import needs_node_module, needs_program
from tests.interop.test_nodemailer_twins import (
    Difference,
    Twin,
    Web,
    by_nodemailer,
    compared,
    explained,
    in_order,
    made,
    taken_apart,
    web,
)

__all__ = ["made", "web"]  # fixtures

pytestmark = needs_node_module("nodemailer")

TRACE = frozenset({"field return-path", "field delivered-to", "field received"})
WITHIN_S = 15.0

Arrivals = dict[tuple[str, str], tuple[str, bytes]]
"""By recipient and Message-ID: sender and octets."""


@pytest.fixture
def sink() -> Iterator[MailServer]:
    with MailServer.ephemeral() as server:
        yield server


async def by_us(known: dict[str, Twin], host: str, port: int) -> dict[str, tuple[str, list[str]]]:
    """Message-ID and recipients of each, as sent."""
    sent: dict[str, tuple[str, list[str]]] = {}
    with Transport(host=host, port=port, tls="off", may_fetch_urls=True) as way:
        for name, twin in known.items():
            message: Message = await gather(twin.ours, options=way.options, fetch=Web())
            try:
                receipt = way.send(message)
            except SendingError as error:
                raise AssertionError(f"{name}: {error}") from error
            assert receipt.rejected == (), name
            sent[name] = receipt.message_id, [folded(one) for one in receipt.accepted]
    return sent


def arrived(sink: MailServer, sent: dict[str, tuple[str, list[str]]]) -> Arrivals:
    """All of them, once they are there."""
    wanted: dict[str, int] = {}
    for _, recipients in sent.values():
        for recipient in recipients:
            wanted[recipient] = wanted.get(recipient, 0) + 1
    found: Arrivals = {}
    for recipient, count in wanted.items():
        for one in sink.wait_for(recipient, count=count, timeout_s=WITHIN_S):
            found[recipient, one.message.message_id] = one.sender, one.octets
    return found


def differences(
    known: dict[str, Twin],
    theirs: dict[str, tuple[str, list[str]]],
    their_arrivals: Arrivals,
    ours: dict[str, tuple[str, list[str]]],
    our_arrivals: Arrivals,
) -> set[Difference]:
    found: set[Difference] = set()
    for name in known:
        (their_id, to), (our_id, own_to) = theirs[name], ours[name]
        if name.startswith("raw"):  # what is sent as it is has an id already
            their_id = our_id
        assert sorted(to) == sorted(own_to), name
        for recipient in to:
            other, own = their_arrivals[recipient, their_id], our_arrivals[recipient, our_id]
            found |= compared(name, aspects(*other), aspects(*own))
    return found


def aspects(sender: str, octets: bytes) -> dict[str, str]:
    assert b"\nreceived:" in octets.lower() and read_section(octets).fields
    whole = taken_apart(octets, sender, [])
    return {aspect: value for aspect, value in whole.items() if aspect not in TRACE}


def their_sent(told: dict) -> dict[str, tuple[str, list[str]]]:
    return {
        name: (one["messageId"], [folded(to) for to in one["accepted"]])
        for name, one in told.items()
    }


def folded(address: str) -> str:
    """With the domain as it is on the wire."""
    return format_address(parse_mailbox(address)).lower()


async def compare(known: dict[str, Twin], sink: MailServer, host: str, port: int) -> None:
    place = {"host": host, "port": port, "secure": False, "ignoreTLS": True, "pool": True,
             "maxConnections": 1}  # fmt: skip
    theirs = their_sent(by_nodemailer(known, place))
    their_arrivals = arrived(sink, theirs)
    sink.clear()
    ours = await by_us(known, host, port)
    our_arrivals = arrived(sink, ours)
    found = differences(known, theirs, their_arrivals, ours, our_arrivals)
    wanted = {one for one in explained() if one.aspect != "envelope.to"}
    assert (in_order(found - wanted), in_order(wanted - found)) == ([], [])


async def test_all_arrive_the_same_in_a_posthouse(
    made: tuple[dict[str, Twin], dict], sink: MailServer
) -> None:
    await compare(made[0], sink, *sink.address("mx"))


@needs_program("postfix", package="postfix", root=True)
async def test_all_arrive_the_same_through_a_postfix(
    made: tuple[dict[str, Twin], dict], sink: MailServer, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "cert.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    server = Postfix(
        free_port_base() + 27,
        relay_to=("example.com", sink.address("mx")[1]),
        certificate=tmp_path / "cert.pem",
        key=tmp_path / "key.pem",
    )
    with (server.etc / "main.cf").open("a") as config:
        config.write(f"relayhost = [127.0.0.1]:{sink.address('mx')[1]}\n")
    with server.running():
        await compare(made[0], sink, "127.0.0.1", server.port)
