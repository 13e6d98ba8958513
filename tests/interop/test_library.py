"""The client library with servers of other projects: Postfix over STARTTLS, Dovecot over LMTP, and
what Dovecot's IMAP says of the parts that arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import imapclient
import pytest
import trustme

from posthouse.kernel.envelope import Notify
from posthouse.message import read
from posthouse.sending import (
    AsyncTransport,
    Attachment,
    EnvelopeError,
    Message,
    SendEnvelope,
    TlsError,
)
from tests.crash.server import free_port_base
from tests.interop import dovecot
from tests.interop.postfix import DOMAIN, FRIEND, Postfix
from tests.interop.programs import missing_program, needs_program


def letter(to: str, **more: object) -> Message:
    given = {
        "sender": "Ada Lovelace <ada@example.org>",
        "to": to,
        "subject": "Grüße",
        "text": "Zeile eins\n.Zeile zwei\n",
        "html": "<p>Grüße</p>",
        "attachments": [Attachment(filename="Übersicht.bin", content=bytes(range(256)))],
        **more,
    }
    return Message(**given)  # type: ignore[arg-type]


def check(octets: bytes) -> None:
    got = read(octets)
    assert got.subject == "Grüße" and got.text == "Zeile eins\n.Zeile zwei\n"
    assert "<p>Grüße</p>" in got.html
    (attached,) = got.attachments
    assert (attached.name, attached.octets) == ("Übersicht.bin", bytes(range(256)))


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postfix, str]]:
    if missing_program("postfix", package="postfix", root=True) is not None:
        pytest.skip("Postfix cannot be started")
    folder = tmp_path_factory.mktemp("library")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = Postfix(
        free_port_base() + 27,
        relay_to=("nowhere.test", 1),
        certificate=folder / "cert.pem",
        key=folder / "key.pem",
    )
    with made.running():
        yield made, str(folder / "ca.pem")


@needs_program("postfix", package="postfix", root=True)
async def test_postfix_takes_letters_over_starttls(postfix: tuple[Postfix, str]) -> None:
    server, ca = postfix
    async with AsyncTransport(host="localhost", port=server.port, tls="starttls", ca=ca) as way:
        found = await way.verify()
        receipts = await asyncio.gather(
            *(way.send(letter(FRIEND, headers={"X-Number": str(n)})) for n in range(20))
        )
        wish = SendEnvelope(sender="", notify=Notify.NEVER)
        bounced = await way.send(letter(FRIEND, envelope=wish, headers={"X-Number": "none"}))
        with pytest.raises(EnvelopeError) as caught:
            await way.send(letter(f"nobody@{DOMAIN}"))
    assert found.tls is not None and found.tls.is_verified and "PIPELINING" in found.extensions
    assert all(one.queue_id and one.queue_id in one.response for one in receipts)
    assert bounced.sender == ""
    assert caught.value.reply is not None and caught.value.reply.code == 550
    assert "spelling" in caught.value.hint
    octets = await asyncio.to_thread(server.wait_for, b"X-Number: 7\r\n")
    check(octets)
    assert b"TLSv1." in octets  # as Postfix's own Received says
    async with AsyncTransport(host="localhost", port=server.port, tls="starttls") as way:
        with pytest.raises(TlsError, match="does not verify"):
            await way.send(letter(FRIEND))


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[int, int]]:
    """Ports of Dovecot's LMTP and IMAP."""
    if why := dovecot.why_not():
        pytest.skip(why)
    with dovecot.running() as ports:
        yield ports


@pytest.mark.interop
async def test_dovecot_takes_letters_by_lmtp_and_sees_the_same_parts(
    house: tuple[int, int],
) -> None:
    lmtp, imap = house
    async with AsyncTransport(f"lmtp://127.0.0.1:{lmtp}") as way:
        receipt = await way.send(letter("bob@house.test, eve@house.test"))
    assert receipt.accepted == ("bob@house.test", "eve@house.test")

    def look() -> tuple[bytes, tuple[object, ...]]:
        with imapclient.IMAPClient("127.0.0.1", imap, ssl=False) as client:
            client.login("bob@house.test", "sesame")
            client.select_folder("INBOX", readonly=True)
            (uid,) = client.search()
            got = client.fetch([uid], ["BODY[]", "BODYSTRUCTURE"])[uid]
            return got[b"BODY[]"], got[b"BODYSTRUCTURE"]

    octets, structure = await asyncio.to_thread(look)
    check(octets)
    parts, kind = structure[0], structure[1]
    assert str(kind).lower() == "b'mixed'"
    flat = repr(parts).lower()
    assert flat.count("b'alternative'") == 1 and flat.count("b'html'") == 1
    assert flat.count("b'octet-stream'") == 1
