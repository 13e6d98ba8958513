"""Examples of nodemailer's documentation on SMTP, pool, DKIM and envelope, and their twins of ours,
to the same server: the same login, envelope and letters, and the same said about them. Those on
OAuth2 are in test_nodemailer_oauth2.py; those on pool, DKIM, proxies, services and LMTP that take
more in test_nodemailer_ways.py.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import dkim as dkimpy
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from posthouse.kernel.envelope import Notify, Ret
from posthouse.message import read
from posthouse.sending import (
    AsyncTransport,
    AuthError,
    ConnectError,
    Dkim,
    EnvelopeError,
    Message,
    MessageError,
    SendEnvelope,
    SendingError,
    TlsError,
)
from posthouse.testing import MailServer
from tests.interop.programs import needs_node_module, node_modules
from tests.sending.bad_server import USUAL, BadServer
from tests.sending.conftest import Certificates, certificates

__all__ = ["certificates"]  # the fixture

pytestmark = needs_node_module("nodemailer")

LOGIN = (*USUAL, "AUTH PLAIN LOGIN XOAUTH2")
THEIRS = {
    "from": "Ada <ada@example.org>",
    "to": "bob@example.net",
    "subject": "Tea",
    "text": "At 5?",
}
OURS = Message(sender="Ada <ada@example.org>", to="bob@example.net", subject="Tea", text="At 5?")
KINDS = {
    "EAUTH": AuthError,
    "EENVELOPE": EnvelopeError,
    "EMESSAGE": MessageError,
    "ESOCKET": (TlsError, ConnectError),
    "ETLS": TlsError,
    "ECONNECTION": ConnectError,
    "ECONNREFUSED": ConnectError,
}
"""nodemailer's error codes, and which error of ours says the same."""


async def by_nodemailer(options: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What it said of each."""
    told: list[dict[str, Any]] = (await run(options, *messages))["told"]
    return told


async def run(options: dict[str, Any], *messages: dict[str, Any], **more: object) -> dict[str, Any]:
    """All that the script tells; nodemailer_smtp.js says what `more` can be."""
    script = os.path.join(os.path.dirname(__file__), "nodemailer_smtp.js")
    wish = json.dumps({"options": options, "messages": list(messages or [THEIRS]), **more})
    done = await asyncio.to_thread(
        subprocess.run,
        ["node", script],
        input=wish.encode(),
        capture_output=True,
        timeout=60,
        env={**os.environ, "NODE_PATH": str(node_modules()), "NODE_TLS_REJECT_UNAUTHORIZED": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def by_us(options: dict[str, Any], *messages: Message) -> list[Any]:
    async with AsyncTransport(**options) as way:
        return await asyncio.gather(
            *(way.send(one) for one in messages or [OURS]), return_exceptions=True
        )


def place(server: BadServer) -> dict[str, Any]:
    return {"host": "localhost", "port": server.port}


Pair = tuple[dict[str, Any], dict[str, Any]]
OPTIONS: dict[str, Pair] = {
    "plain": ({"ignoreTLS": True}, {"tls": "off"}),
    "login": (
        {"ignoreTLS": True, "auth": {"user": "ada", "pass": "sesame"}},
        {"tls": "off", "user": "ada", "password": "sesame"},
    ),
    "authMethod": (
        {"ignoreTLS": True, "auth": {"user": "ada", "pass": "sesame"}, "authMethod": "PLAIN"},
        {"tls": "off", "user": "ada", "password": "sesame", "mechanism": "PLAIN"},
    ),
    "OAuth2 with an access token": (
        {
            "ignoreTLS": True,
            "auth": {"type": "OAuth2", "user": "ada@example.org", "accessToken": "ya29.x"},
        },
        {"tls": "off", "user": "ada@example.org", "token": "ya29.x"},
    ),
    "name": (
        {"ignoreTLS": True, "name": "client.example.org"},
        {"tls": "off", "hello_name": "client.example.org"},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
async def test_the_same_login_and_hello(name: str) -> None:
    theirs, ours = OPTIONS[name]
    async with BadServer(extensions=LOGIN) as server:
        (told,) = await by_nodemailer(theirs | place(server))
        (receipt,) = await by_us(ours | place(server))
        hellos = [one for one in server.commands if one.startswith("EHLO")]
        lines = server.auth_lines
    first, second = server.taken
    assert (first.sender, first.recipients) == (second.sender, second.recipients)
    assert told["accepted"] == list(receipt.accepted) and told["rejected"] == []
    assert told["response"].rsplit(" ", 1)[0] == receipt.response.rsplit(" ", 1)[0]
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    if name == "name":
        assert hellos == ["EHLO client.example.org"] * 2


async def test_the_same_starttls_and_tls_from_the_start(certificates: Certificates) -> None:
    ca = Path(certificates.ca).read_text()
    async with BadServer(extensions=LOGIN, context=certificates.good) as server:
        (told,) = await by_nodemailer(place(server) | {"requireTLS": True, "tls": {"ca": ca}})
        (receipt,) = await by_us(place(server) | {"tls": "starttls", "ca": certificates.ca})
        assert told["accepted"] == list(receipt.accepted)
    async with BadServer(context=certificates.good, is_implicit=True) as server:
        (told,) = await by_nodemailer(place(server) | {"secure": True, "tls": {"ca": ca}})
        (receipt,) = await by_us(place(server) | {"tls": "implicit", "ca": certificates.ca})
        assert told["accepted"] == list(receipt.accepted)
    assert len(server.taken) == 2


@pytest.mark.parametrize(
    ("script", "theirs", "ours"),
    [
        (
            {"replies": {"AUTH": "535 5.7.8 no"}},
            {"ignoreTLS": True, "auth": {"user": "ada", "pass": "x"}},
            {"tls": "off", "user": "ada", "password": "x"},
        ),
        ({"replies": {"RCPT": "550 5.1.1 nobody"}}, {"ignoreTLS": True}, {"tls": "off"}),
        ({"replies": {"MAIL": "553 5.7.1 not you"}}, {"ignoreTLS": True}, {"tls": "off"}),
        ({"replies": {"DOT": "554 5.7.1 spam"}}, {"ignoreTLS": True}, {"tls": "off"}),
        ({}, {"requireTLS": True}, {"tls": "starttls"}),
    ],
    ids=["login", "recipients", "sender", "content", "no STARTTLS"],
)
async def test_the_same_goes_wrong(
    script: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    async with BadServer(extensions=LOGIN, **script) as server:
        (told,) = await by_nodemailer(theirs | place(server))
        (error,) = await by_us(ours | place(server))
    assert isinstance(error, SendingError)
    assert isinstance(error, KINDS[told["code"]]), (told, error)
    code = error.reply.code if error.reply is not None else 0
    assert told["responseCode"] in (code, 0)


async def test_a_self_signed_certificate_is_refused_by_both(certificates: Certificates) -> None:
    async with BadServer(context=certificates.self_signed) as server:
        (told,) = await by_nodemailer(place(server))
        (error,) = await by_us(place(server) | {"tls": "starttls"})
        assert told["code"] in ("ESOCKET", "ETLS") and isinstance(error, TlsError)
        (told,) = await by_nodemailer(place(server) | {"tls": {"rejectUnauthorized": False}})
        (receipt,) = await by_us(place(server) | {"tls": "starttls", "verify": False})
    assert told["accepted"] == list(receipt.accepted)


async def test_some_recipients_are_refused_the_same_way() -> None:
    replies = ["250 ok", "550 5.1.1 nobody", "250 ok"]
    people = ["a@example.net", "b@example.net", "c@example.net"]
    async with BadServer(replies={"RCPT": replies * 2}) as server:
        (told,) = await by_nodemailer(
            place(server) | {"ignoreTLS": True}, THEIRS | {"to": ", ".join(people)}
        )
        ours = msgspec.structs.replace(OURS, to=people)
        (receipt,) = await by_us(place(server) | {"tls": "off"}, ours)
    assert told["accepted"] == list(receipt.accepted)
    assert told["rejected"] == [one.recipient for one in receipt.rejected]


async def test_the_same_envelope_and_dsn() -> None:
    theirs = THEIRS | {
        "envelope": {"from": "bounces@example.org", "to": ["eve@example.net"]},
        "dsn": {"id": "tea-1", "return": "headers", "notify": ["failure", "delay"]},
    }
    wish = SendEnvelope(
        sender="bounces@example.org",
        recipients=["eve@example.net"],
        envelope_id="tea-1",
        ret=Ret.HDRS,
        notify=Notify.FAILURE | Notify.DELAY,
    )
    async with BadServer() as server:
        (told,) = await by_nodemailer(place(server) | {"ignoreTLS": True}, theirs)
        ours = msgspec.structs.replace(OURS, envelope=wish)
        (receipt,) = await by_us(place(server) | {"tls": "off"}, ours)
        mail = [one for one in server.commands if one.startswith("MAIL")]
        rcpt = [one for one in server.commands if one.startswith("RCPT")]
    assert told["envelope"] == {"from": receipt.sender, "to": list(receipt.recipients)}
    for each in mail:
        assert {"RET=HDRS", "ENVID=tea-1"} <= set(each.split(" "))
    for each in rcpt:
        assert set(each.partition("NOTIFY=")[2].split(" ")[0].split(",")) == {"FAILURE", "DELAY"}


async def test_a_pool_sends_all_over_few_sessions() -> None:
    theirs = {"ignoreTLS": True, "pool": True, "maxConnections": 2, "maxMessages": 100}
    people = [f"p{n}@example.net" for n in range(30)]
    async with BadServer() as server:
        told = await by_nodemailer(
            place(server) | theirs, *(THEIRS | {"to": one} for one in people)
        )
        connections = server.connections
        receipts = await by_us(
            place(server) | {"tls": "off", "connections_max": 2},
            *(msgspec.structs.replace(OURS, to=one) for one in people),
        )
        assert connections <= 2 and server.connections - connections <= 2
    assert [one["accepted"] for one in told] == [list(one.accepted) for one in receipts]
    arrived = [taken.recipients[0] for taken in server.taken]
    assert sorted(arrived[:30]) == sorted(arrived[30:]) == sorted(people)


def _pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


async def test_the_same_dkim_with_one_key_and_with_several() -> None:
    keys = {name: generate_private_key(65537, 2048) for name in ("2017", "2016")}
    records = {
        f"{name}._domainkey.example.org.".encode(): b"v=DKIM1; k=rsa; p="
        + base64.b64encode(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        for name, key in keys.items()
    }
    each = [
        {
            "domainName": "example.org",
            "keySelector": name,
            "privateKey": _pem(key).decode(),
        }
        for name, key in keys.items()
    ]
    ours = [Dkim(domain="example.org", selector=name, key=_pem(key)) for name, key in keys.items()]
    async with BadServer() as server:
        await by_nodemailer(place(server) | {"ignoreTLS": True, "dkim": each[0]})
        await by_us(place(server) | {"tls": "off", "dkim": ours[0]})
        await by_nodemailer(place(server) | {"ignoreTLS": True, "dkim": {"keys": each}})
        await by_us(place(server) | {"tls": "off", "dkim": ours})
    counts = []
    for taken in server.taken:
        signatures = read(taken.octets).headers("DKIM-Signature")
        counts.append(len(signatures))
        for at in range(len(signatures)):
            verifier = dkimpy.DKIM(taken.octets)
            assert verifier.verify(idx=at, dnsfunc=lambda name, timeout=5: records[name])
    assert counts == [1, 1, 2, 2]


async def test_what_both_send_is_the_same_to_a_real_server(mail_server: MailServer) -> None:
    host, port = mail_server.address("mx")
    theirs = THEIRS | {
        "to": "bob@example.test",
        "html": "<p>At 5?</p>",
        "attachments": [{"filename": "a.txt", "content": "hello"}],
    }
    from posthouse.sending import Attachment

    ours = msgspec.structs.replace(
        OURS,
        to="bob@example.test",
        html="<p>At 5?</p>",
        attachments=[Attachment(filename="a.txt", content="hello")],
    )
    await by_nodemailer({"host": host, "port": port, "ignoreTLS": True}, theirs)
    await by_us({"host": host, "port": port, "tls": "off"}, ours)
    first, second = await mail_server.arrival("bob@example.test", count=2)
    for one in (first, second):
        assert one.message.subject == "Tea" and one.sender == "ada@example.org"
    assert first.message.text.split() == second.message.text.split()
    assert first.message.html.strip() == second.message.html.strip()
    kept = [
        [(a.name, a.content_type, a.octets.strip()) for a in one.message.attachments]
        for one in (first, second)
    ]
    assert kept[0] == kept[1]
