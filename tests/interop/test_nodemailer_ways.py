"""Examples of nodemailer's documentation on pools, DKIM, proxies, services by name, LMTP, defaults
and required TLS, and their twins of ours, to the same server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import dkim as dkimpy
import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from posthouse.kernel.envelope import TlsDemand
from posthouse.message import read
from posthouse.sending import AsyncTransport, Dkim, Message, SendEnvelope
from tests.interop.programs import needs_node_module, needs_program
from tests.interop.test_nodemailer_smtp import OURS, THEIRS, by_nodemailer, by_us, place, run
from tests.sending.bad_server import USUAL, BadServer
from tests.sending.conftest import Certificates, certificates
from tests.sending.test_carriers import proxy

__all__ = ["certificates", "proxy"]  # fixtures

pytestmark = needs_node_module("nodemailer")

PEOPLE = [f"p{n}@example.net" for n in range(60)]


def to_each(people: Sequence[str]) -> tuple[list[dict[str, Any]], list[Message]]:
    theirs = [THEIRS | {"to": one} for one in people]
    return theirs, [msgspec.structs.replace(OURS, to=one) for one in people]


# --- pool ---


async def test_no_more_begin_in_a_stretch_of_time_than_the_rate_says() -> None:
    theirs, ours = to_each(PEOPLE[:7])
    options = {"ignoreTLS": True, "pool": True, "rateLimit": 2, "rateDelta": 300}
    options["maxConnections"] = 1  # its rate lets one more through for each session that opens
    async with BadServer() as server:
        found = await run(options | place(server), *theirs)
        began_s = time.monotonic()
        await by_us({"tls": "off", "rate": 2, "rate_per_s": 0.3} | place(server), *ours)
        took_s = time.monotonic() - began_s
    assert len(server.taken) == 14
    # three whole stretches lie before the seventh
    assert found["took_ms"] >= 880 and took_s >= 0.88


async def test_messages_are_taken_as_the_pool_has_room() -> None:
    """`while (transporter.isIdle()) transporter.sendMail(…)` is `send_all` here."""
    theirs, ours = to_each(PEOPLE)
    given = done = ahead_most = 0

    def source() -> Iterator[Message]:
        nonlocal given, ahead_most
        for message in ours:
            given += 1
            ahead_most = max(ahead_most, given - done)
            yield message

    async with BadServer() as server:
        options = {"ignoreTLS": True, "pool": True, "maxConnections": 2}
        found = await run(options | place(server), *theirs, when_idle=True)
        async with AsyncTransport(tls="off", connections_max=2, **place(server)) as way:
            async for sent in way.send_all(source()):
                done += 1
                assert sent.receipt is not None
        assert server.open_most <= 2
    assert all(one["accepted"] for one in found["told"])
    arrived = [taken.recipients[0] for taken in server.taken]
    assert sorted(arrived[:60]) == sorted(arrived[60:]) == sorted(PEOPLE)
    assert 1 <= found["ahead_most"] <= 10 and 1 <= ahead_most <= 10


# --- DKIM ---


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def pem(key: RSAPrivateKey) -> str:
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()


def is_valid(octets: bytes, key: RSAPrivateKey) -> bool:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    return bool(dkimpy.DKIM(octets).verify(dnsfunc=lambda name, timeout=5: record))


def signed_fields(octets: bytes) -> list[str]:
    (signature,) = read(octets).headers("DKIM-Signature")
    found = re.search(r"[;\s]h=([^;]+)", signature)
    assert found is not None
    return [name.strip().lower() for name in found[1].split(":")]


DEFAULT_FIELDS = ("From", "Subject", "Date", "Message-ID", "To", "MIME-Version", "Content-Type")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"headerFieldNames": "from:to:subject"}, ("From", "To", "Subject")),
        (
            {"skipFields": "message-id:date"},
            tuple(one for one in DEFAULT_FIELDS if one not in ("Message-ID", "Date")),
        ),
    ],
    ids=["headerFieldNames", "skipFields"],
)
async def test_the_same_fields_are_signed(
    theirs: dict[str, str], ours: tuple[str, ...], key: RSAPrivateKey
) -> None:
    """What is not signed may be changed on the way, as Amazon's servers do with Message-ID."""
    named = {"domainName": "example.org", "keySelector": "2017", "privateKey": pem(key)}
    own = Dkim(domain="example.org", selector="2017", key=pem(key), header_fields=ours)
    async with BadServer() as server:
        await by_nodemailer(place(server) | {"ignoreTLS": True, "dkim": named | theirs})
        await by_us(place(server) | {"tls": "off", "dkim": own})
    first, second = (taken.octets for taken in server.taken)
    transfer = {"content-transfer-encoding"}  # whether there is one is each one's own
    assert set(signed_fields(first)) - transfer == set(signed_fields(second)) - transfer
    for octets in (first, second):
        assert is_valid(octets, key)
        assert is_valid(re.sub(rb"Message-ID: <[^>]+>", b"Message-ID: <by@ses>", octets), key)
        assert not is_valid(octets.replace(b"Subject: Tea", b"Subject: Sea"), key)


async def test_a_message_may_bring_its_own_key_and_be_large(
    key: RSAPrivateKey, tmp_path: Path
) -> None:
    """nodemailer keeps large messages in a file while it signs, and has to be told where."""
    named = {"domainName": "example.org", "keySelector": "2017", "privateKey": pem(key)}
    text = "Tea? " * 20 + "\n"
    theirs = THEIRS | {
        "text": text * 5_000,
        "dkim": named | {"cacheDir": str(tmp_path), "cacheTreshold": 100_000},
    }
    ours = msgspec.structs.replace(
        OURS,
        text=text * 5_000,
        dkim=Dkim(domain="example.org", selector="2017", key=pem(key)),
    )
    async with BadServer() as server:
        await by_nodemailer(place(server) | {"ignoreTLS": True}, theirs)
        await by_us(place(server) | {"tls": "off"}, ours)
    first, second = (taken.octets for taken in server.taken)
    assert is_valid(first, key) and is_valid(second, key)
    assert read(first).text.split() == read(second).text.split() == text.split() * 5_000


# --- proxies and services ---


@needs_program("tinyproxy", package="tinyproxy")
@pytest.mark.parametrize("proxy", ["tinyproxy"], indirect=True)
async def test_both_go_through_the_same_proxy(proxy: str, certificates: Certificates) -> None:
    """By HTTP CONNECT; for SOCKS nodemailer needs a package of others, and we do not."""
    ca = Path(certificates.ca).read_text()
    async with BadServer(context=certificates.good) as server:
        options = {"proxy": proxy, "requireTLS": True, "tls": {"ca": ca}}
        (told,) = await by_nodemailer(place(server) | options)
        (receipt,) = await by_us(
            place(server) | {"proxy": proxy, "tls": "starttls", "ca": certificates.ca}
        )
    assert told["accepted"] == list(receipt.accepted) and len(server.taken) == 2


@contextlib.asynccontextmanager
async def tunnel(to_port: int) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that leads to one port here, whoever is asked for; its URL, and who was."""
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(1 << 16):
                writer.write(octets)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers = [writer]
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head.split(" ")[1])
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to_port)
            writers.append(far_writer)
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            for one in writers:
                one.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the lines that were cut are told so


@pytest.mark.parametrize(
    ("service", "host", "is_implicit"),
    [
        ("Gmail", "smtp.gmail.com", True),
        ("Outlook365", "smtp.office365.com", False),
        ("SendGrid", "smtp.sendgrid.net", False),
        ("Fastmail", "smtp.fastmail.com", True),
        ("Yahoo", "smtp.mail.yahoo.com", True),
    ],
)
async def test_a_service_by_name_is_the_same_host_and_port(
    service: str, host: str, is_implicit: bool, tmp_path: Path
) -> None:
    """Names never leave this machine: a proxy says who was asked for, and leads to our server."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    extensions = (*USUAL, "AUTH PLAIN LOGIN")
    async with (
        BadServer(extensions=extensions, context=context, is_implicit=is_implicit) as server,
        tunnel(server.port) as (url, asked),
    ):
        (told,) = await by_nodemailer(
            {
                "service": service,
                "auth": {"user": "ada", "pass": "sesame"},
                "proxy": url,
                "tls": {"ca": authority.cert_pem.bytes().decode()},
            }
        )
        (receipt,) = await by_us(
            {
                "service": service,
                "user": "ada",
                "password": "sesame",
                "proxy": url,
                "ca": tmp_path / "ca.pem",
            }
        )
    assert asked == [f"{host}:{465 if is_implicit else 587}"] * 2
    assert told["accepted"] == list(receipt.accepted)
    assert server.auth_lines == ["\0ada\0sesame"] * 2


# --- LMTP, defaults, required TLS ---


async def test_lmtp_tells_of_each_recipient() -> None:
    people = PEOPLE[:3]
    replies = ["250 2.0.0 ok", "552 5.2.2 full", "250 2.0.0 ok"]
    async with BadServer(is_lmtp=True, replies={"DOT": replies * 2}) as server:
        (told,) = await by_nodemailer(
            place(server) | {"lmtp": True, "ignoreTLS": True}, THEIRS | {"to": people}
        )
        url = f"lmtp://127.0.0.1:{server.port}"
        async with AsyncTransport(url) as way:
            receipt = await way.send(msgspec.structs.replace(OURS, to=people))
    assert [one.split(" ")[0] for one in server.commands].count("LHLO") == 2
    assert told["accepted"] == list(receipt.accepted) == [people[0], people[2]]
    assert told["rejected"] == [one.recipient for one in receipt.rejected] == [people[1]]


async def test_defaults_are_a_message_that_is_copied() -> None:
    letter = {"to": "bob@example.net", "subject": "Tea", "text": "At 5?"}
    base = Message(sender="Ada <ada@example.org>", headers={"X-Team": "tea"})
    async with BadServer() as server:
        defaults = {"from": "Ada <ada@example.org>", "headers": {"X-Team": "tea"}}
        await run(place(server) | {"ignoreTLS": True}, letter, defaults=defaults)
        await by_us(place(server) | {"tls": "off"}, msgspec.structs.replace(base, **letter))
    first, second = server.taken
    for taken in (first, second):
        got = read(taken.octets)
        assert taken.sender == "ada@example.org" and taken.recipients == ["bob@example.net"]
        assert (got.subject, got.text.strip()) == ("Tea", "At 5?")
        assert got.headers("X-Team") == ["tea"] or got.headers("X-Team") == ("tea",)


async def test_tls_can_be_required_on_the_whole_way(certificates: Certificates) -> None:  # RFC 8689
    ca = Path(certificates.ca).read_text()
    extensions = (*USUAL, "REQUIRETLS")
    required = SendEnvelope(tls_demand=TlsDemand.REQUIRED)
    async with BadServer(extensions=extensions, context=certificates.good) as server:
        options = {"requireTLS": True, "tls": {"ca": ca}}
        await by_nodemailer(place(server) | options, THEIRS | {"requireTLSExtensionEnabled": True})
        await by_us(
            place(server) | {"tls": "starttls", "ca": certificates.ca},
            msgspec.structs.replace(OURS, envelope=required),
        )
    assert ["REQUIRETLS" in one.parameters.split() for one in server.taken] == [True, True]
