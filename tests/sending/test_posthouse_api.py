"""Letters by the HTTP API of a Posthouse, and what became of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import trustme

from posthouse.accounts.admin import add_alias
from posthouse.sending import (
    AsyncTransport,
    AuthError,
    ConnectError,
    EnvelopeError,
    Message,
    MessageError,
    Notify,
    OptionError,
    OutcomeState,
    ProtocolError,
    Receipt,
    SendEnvelope,
    TlsError,
    Transport,
)
from posthouse.testing import MailServer
from tests.interop.programs import needs_program

ADA, BOB, CAT = "ada@example.test", "bob@example.test", "cat@example.test"
EVE, TEA = "eve@far.example", "tea@example.test"
PASSWORD = "sesame-street-7"
RAW = f"From: {ADA}\r\nTo: {BOB}\r\nSubject: Tea\r\n\r\nAt five?\r\n".encode()


@pytest.fixture
def server() -> Iterator[MailServer]:
    accounts = dict.fromkeys((ADA, BOB, CAT), PASSWORD)
    with MailServer.ephemeral(accounts, takes_anything=False) as made:
        yield made


def letter(*to: str, **more: Any) -> Message:
    return Message(sender=ADA, to=list(to), subject="Tea", text="At five?", **more)


def place(server: MailServer) -> str:
    host, port = server.address("http")
    return f"http://{host}:{port}/api/v1/messages"


def call(
    url: str,
    octets: bytes | None = RAW,
    *,
    method: str = "POST",
    user: str = ADA,
    password: str = PASSWORD,
    **fields: str,
) -> tuple[int, dict[str, Any], Any]:
    """(status, JSON, header fields) as any HTTP client gets them."""
    headers = {
        "Content-Type": "message/rfc822",
        "Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode(),
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    request = urllib.request.Request(url, octets, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


# --- the library ---


def test_a_letter_arrives_and_its_outcome_is_known(server: MailServer) -> None:
    with Transport(server.api_url(ADA)) as way:
        assert way.verify().is_logged_in
        receipt = way.send(letter(BOB))
        assert receipt.accepted == (BOB,) and receipt.queue_id
        outcomes = way.outcome(receipt, timeout_s=5)
    assert [(one.recipient, one.state) for one in outcomes] == [(BOB, OutcomeState.DELIVERED)]
    arrived = server.wait_for(BOB)[0]
    assert arrived.message.subject == "Tea" and arrived.sender == ADA
    assert b"Received: from" in arrived.octets


def test_an_outcome_that_is_not_awaited_says_what_to_do(server: MailServer) -> None:
    with Transport(server.api_url(ADA)) as way:
        receipt = way.send(letter(BOB))
        with pytest.raises(TypeError, match=r"transport\.outcome\(receipt\)"):
            tuple(receipt.outcome())  # type: ignore[arg-type]
        (found,) = way.outcome(receipt, timeout_s=5)
    assert found.state is OutcomeState.DELIVERED


async def test_what_cannot_be_delivered_is_told(server: MailServer) -> None:
    """There is no DNS here, so the other domain does not exist."""
    async with AsyncTransport(server.api_url(ADA)) as way:
        receipt = await way.send(letter(EVE))
        [outcome] = await receipt.outcome(timeout_s=20)
    assert outcome.state is OutcomeState.RETURNED and outcome.detail


async def test_many_at_once_and_each_is_told_apart(server: MailServer) -> None:
    async with AsyncTransport(server.api_url(ADA), connections_max=4) as way:
        receipts = [sent.receipt async for sent in way.send_all(letter(BOB) for _ in range(20))]
    assert len({one.queue_id for one in receipts if one is not None}) == 20
    assert len(server.wait_for(BOB, count=20)) == 20


def test_a_recipient_who_is_not_there_is_named(server: MailServer) -> None:
    with Transport(server.api_url(ADA)) as way:
        receipt = way.send(letter(BOB, "nobody@example.test"))
        assert receipt.accepted == (BOB,)
        assert [(one.recipient, one.code) for one in receipt.rejected] == [
            ("nobody@example.test", 550)
        ]
        with pytest.raises(EnvelopeError) as caught:
            way.send(letter("nobody@example.test"))
    assert caught.value.rejected[0].status == "5.1.1"


def test_notices_can_be_asked_for(server: MailServer) -> None:
    envelope = SendEnvelope(sender=ADA, recipients=[BOB], notify=Notify.SUCCESS)
    with Transport(server.api_url(ADA)) as way:
        way.send(letter(BOB, envelope=envelope))
    [notice] = server.wait_for(ADA)
    assert notice.message.delivery_report is not None


def test_a_wrong_password_and_somebody_elses_address_are_refused(server: MailServer) -> None:
    with (
        Transport(server.api_url(ADA), password="guess-me") as way,
        pytest.raises(AuthError) as caught,
    ):
        way.send(letter(BOB))
    assert ADA in str(caught.value) and "guess-me" not in str(caught.value)
    with Transport(server.api_url(ADA)) as way, pytest.raises(EnvelopeError):
        way.send(Message(sender=BOB, to=[ADA], text="x"))


def test_a_wrong_password_is_tried_once_for_many_letters(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posthouse.sending.posthouse_api import PosthouseCarrier

    asked: list[str] = []
    ask = PosthouseCarrier._asked

    async def counted(self: PosthouseCarrier, method: str, *rest: Any) -> tuple[int, bytes]:
        asked.append(method)
        return await ask(self, method, *rest)

    monkeypatch.setattr(PosthouseCarrier, "_asked", counted)
    with Transport(server.api_url(ADA), password="guess-me") as way:
        results = list(way.send_all([letter(BOB)] * 50))
        assert all(isinstance(one.error, AuthError) for one in results) and len(results) == 50
        assert asked == ["POST"]
    with Transport(server.api_url(ADA)) as way:
        assert all(one.error is None for one in way.send_all([letter(BOB)] * 20))
    assert len(asked) == 21


def test_a_port_that_speaks_something_else_is_told(server: MailServer) -> None:
    for service, kind in (("mx", ProtocolError), ("submission", ProtocolError)):
        host, port = server.address(service)
        with (
            Transport(server.api_url(ADA), host=host, port=port) as way,
            pytest.raises(kind) as caught,
        ):
            way.send(letter(BOB))
        assert str(port) in str(caught.value)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Transport(server.api_url(ADA), port=port) as way, pytest.raises(ConnectError) as refused:
        way.send(letter(BOB))
    assert "serves_api" in refused.value.hint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("posthouse+http://ada:x@mail.example.org", "in the open"),
        ("posthouse://mail.example.org", "are needed"),
        ("posthouse://ada@mail.example.org", "are needed"),
        ("posthouse://ada:x@mail.example.org/path", "path"),
    ],
)
def test_what_cannot_be_is_told(url: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        AsyncTransport(url)


async def test_an_answer_that_is_lost_sends_nothing_twice(server: MailServer) -> None:
    """The first answer is cut off on its way; the library asks again under the same key."""
    target = server.address("http")
    cut: list[bytes] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(*target)

        async def onward() -> None:
            while octets := await reader.read(65_536):
                ours.write(octets)

        task = asyncio.ensure_future(onward())
        answer = await theirs.read(65_536)
        if not cut and answer.startswith(b"HTTP/1.1 202"):
            cut.append(answer)
        else:
            writer.write(answer)
        task.cancel()
        for one in (writer, ours):
            one.close()

    proxy = await asyncio.start_server(between, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with AsyncTransport(server.api_url(ADA), port=port) as way:
        receipt = await way.send(letter(BOB))
        assert cut and receipt.queue_id.encode() in cut[0]
    assert len(server.wait_for(BOB)) == 1
    await asyncio.sleep(0)
    assert len(server.inbox(BOB)) == 1
    proxy.close()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "ca="),
        ({"ca": True}, "server_name"),
        ({"ca": True, "server_name": "else.example"}, "server_name"),
        ({"ca": True, "server_name": "mail.example.test"}, ""),
        ({"verify": False}, ""),
    ],
)
async def test_a_certificate_of_another_name_can_be_named(
    server: MailServer, tmp_path: Path, options: dict[str, Any], hint: str
) -> None:
    """The server is behind HTTPS with a certificate of its own making."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.example.test").configure_cert(context)
    if "ca" in options:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        options = {**options, "ca": str(tmp_path / "ca.pem")}

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(*server.address("http"))

        async def pass_on(one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while octets := await one.read(65_536):
                    other.write(octets)
            other.close()

        await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))

    front = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
    port = front.sockets[0].getsockname()[1]
    url = f"posthouse://{ADA.replace('@', '%40')}:{PASSWORD}@127.0.0.1:{port}"
    async with AsyncTransport(url, **options) as way:
        if not hint:
            receipt = await way.send(letter(BOB))
            assert receipt.accepted == (BOB,)
            assert receipt.tls is not None and receipt.tls.version.startswith("TLSv1.")
            assert receipt.tls.is_verified == ("ca" in options)
        else:
            with pytest.raises(TlsError) as refused:
                await way.send(letter(BOB))
            assert hint in refused.value.hint and not refused.value.is_transient
    front.close()


def test_an_outcome_is_asked_for_on_any_loop_and_behind_the_end(server: MailServer) -> None:
    async def ask(receipt: Receipt) -> OutcomeState:
        (found,) = await receipt.outcome(timeout_s=5)
        return found.state

    with Transport(server.api_url(ADA)) as way:
        receipt = way.send(letter(BOB))
        assert asyncio.run(ask(receipt)) is OutcomeState.DELIVERED
    assert asyncio.run(ask(receipt)) is OutcomeState.DELIVERED

    async def after_its_own_end() -> OutcomeState:
        async with AsyncTransport(server.api_url(ADA)) as way:
            receipt = await way.send(letter(BOB))
        return await ask(receipt)

    assert asyncio.run(after_its_own_end()) is OutcomeState.DELIVERED


def test_a_receipt_tells_what_it_took(server: MailServer) -> None:
    with Transport(server.api_url(ADA)) as way:
        first, second = way.send(letter(BOB)), way.send(letter(BOB))
    assert first.phases.connect_s > 0 == second.phases.connect_s
    for phases in (first.phases, second.phases):
        assert phases.message_s == phases.content_s > 0
    assert first.tls is None


async def test_a_proxy_that_fails_is_named() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 who are you\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    way = f"posthouse://ada:{PASSWORD}@mail.example.org"
    async with AsyncTransport(way, proxy=f"http://u:s3same@127.0.0.1:{port}") as asked:
        with pytest.raises(ConnectError, match=f"proxy 127.0.0.1:{port}: it wants a user") as told:
            await asked.send(letter(BOB))
        assert "s3same" not in str(told.value)
    proxy.close()
    await proxy.wait_closed()
    async with AsyncTransport(way, proxy=f"http://127.0.0.1:{port}") as asked:
        with pytest.raises(ConnectError, match=f"the proxy 127.0.0.1:{port} cannot be reached"):
            await asked.send(letter(BOB))


def test_a_refused_content_is_the_error_that_it_is_by_smtp(server: MailServer) -> None:
    raw = RAW.replace(f"From: {ADA}".encode(), b"From: eve@far.example")
    forged = Message(raw=raw, envelope=SendEnvelope(sender=ADA, recipients=(BOB, CAT)))
    for url in (server.api_url(ADA), server.login_url(ADA)):
        with Transport(url, **({} if "http" in url else {"ca": server.ca})) as way:
            with pytest.raises(MessageError) as caught:
                way.send(forged)
            reply = caught.value.reply
            assert reply is not None and (reply.code, reply.status) == (550, "5.7.1")
            assert [one.recipient for one in caught.value.rejected] == [BOB, CAT]
            with pytest.raises(EnvelopeError):
                way.send(letter("nobody@example.test"))


# --- HTTP ---


def test_what_any_program_gets(server: MailServer) -> None:
    status, taken, fields = call(f"{place(server)}?from={ADA}&to={BOB}")
    assert status == 202 and taken["accepted"] == [BOB]
    assert fields["Location"] == f"/api/v1/messages/{taken['id']}"
    assert fields["Cache-Control"] == "no-store"
    status, told, _ = call(f"{place(server)}/{taken['id']}", None, method="GET")
    assert status == 200 and told["recipients"][0]["state"] == "delivered"


def test_lines_of_unix_become_those_of_mail(server: MailServer) -> None:
    call(f"{place(server)}?from={ADA}&to={BOB}", RAW.replace(b"\r\n", b"\n").rstrip())
    assert server.wait_for(BOB)[0].message.text.strip() == "At five?"


def test_the_same_key_again_is_the_same_message(server: MailServer) -> None:
    url = f"{place(server)}?from={ADA}&to={BOB}"
    first = call(url, Idempotency_Key="order-17")[1]
    again = call(url, Idempotency_Key="order-17")[1]
    assert first["id"] == again["id"] and again["accepted"] == [BOB]
    other = call(url, Idempotency_Key="order-18")[1]
    assert other["id"] != first["id"]
    assert len(server.wait_for(BOB, count=2)) == 2
    from_bob = f"From: {BOB}\r\nTo: {ADA}\r\nSubject: Tea\r\n\r\nAt six.\r\n".encode()
    theirs = call(
        f"{place(server)}?from={BOB}&to={ADA}", from_bob, user=BOB, Idempotency_Key="order-17"
    )
    assert theirs[0] == 202 and theirs[1]["id"] != first["id"]


@pytest.mark.parametrize(
    ("query", "octets"),
    [
        (f"from={ADA}&to={CAT}", RAW),
        (f"from={ADA}&to={BOB}&to={CAT}", RAW),
        (f"from={ADA}&to={BOB}&notify=success", RAW),
        (f"from=&to={BOB}", RAW),
        (f"from={ADA}&to={BOB}", RAW.replace(b"five", b"six")),
    ],
    ids=["another", "one more", "notice", "sender", "text"],
)
def test_a_key_of_another_letter_is_refused_and_nothing_is_lost_unsaid(
    server: MailServer, query: str, octets: bytes
) -> None:
    url = f"{place(server)}?from={ADA}&to={BOB}"
    first = call(url, Idempotency_Key="order-17")[1]
    status, problem, _ = call(f"{place(server)}?{query}", octets, Idempotency_Key="order-17")
    assert (
        status == 422
        and first["id"] in problem["title"]
        and "a key of its own" in (problem["detail"])
    )
    assert call(url, Idempotency_Key="order-17")[1]["id"] == first["id"]
    assert call(f"{url}&to={BOB}", Idempotency_Key="order-17")[1]["id"] == first["id"]
    assert len(server.wait_for(BOB)) == 1 and server.inbox(CAT) == []


def test_the_letter_that_went_to_an_alias_is_known_again(server: MailServer) -> None:
    node = server._node

    async def make() -> None:
        await node.store.submit(lambda tx: add_alias(tx, TEA, BOB))

    server._call(make())
    url = f"{place(server)}?from={ADA}&to={TEA}"
    first = call(url, Idempotency_Key="order-17")
    again = call(url, Idempotency_Key="order-17")
    assert first[0] == again[0] == 202 and first[1]["id"] == again[1]["id"]
    assert call(f"{place(server)}?from={ADA}&to={BOB}", Idempotency_Key="order-17")[0] == 422


@pytest.mark.parametrize(
    ("query", "more", "status", "words"),
    [
        ("", {}, 400, "from"),
        (f"from={ADA}", {}, 400, "to="),
        (f"from={ADA}&to=nonsense", {}, 400, "no address"),
        (f"from={ADA}&to={BOB}&cc=x", {}, 400, "no parameter"),
        (f"from={ADA}&to={BOB}&notify=sometimes", {}, 400, "notify"),
        (f"from={ADA}&to={BOB}", {"octets": b""}, 400, "no message"),
        (f"from={ADA}&to={BOB}", {"Content_Type": "text/plain"}, 415, "message"),
        (f"from={ADA}&to={BOB}", {"Idempotency_Key": "a=b"}, 400, "Idempotency-Key"),
        (f"from={ADA}&to={BOB}", {"password": "wrong"}, 401, "wrong"),
        (f"from={ADA}&to={BOB}", {"Authorization": "Bearer x"}, 401, "Log in"),
        (f"from={ADA}&to={BOB}", {"Authorization": "Basic %%"}, 401, "cannot be read"),
        (f"from={BOB}&to={ADA}", {}, 422, "not yours"),
        (f"from={ADA}&to={BOB}", {"octets": b"Subject: x\r\n\r\ny\r\n"}, 422, "From"),
        (f"from={ADA}&to={BOB}", {"method": "PUT"}, 405, "asked so"),
    ],
)
def test_what_is_wrong_is_told_as_a_problem(
    server: MailServer, query: str, more: dict[str, Any], status: int, words: str
) -> None:
    found, problem, fields = call(f"{place(server)}?{query}", **more)
    assert found == status == problem["status"], problem
    assert words in problem["title"] + problem["detail"]
    assert fields["Content-Type"].startswith("application/problem+json")
    assert server.inbox(BOB) == []


def test_a_message_that_is_too_large_is_not_read(server: MailServer) -> None:
    node = server._node
    node.config = msgspec.structs.replace(
        node.config, smtp=msgspec.structs.replace(node.config.smtp, message_octets_max=1000)
    )
    host, port = server.address("http")
    login = base64.b64encode(f"{ADA}:{PASSWORD}".encode()).decode()
    head = (
        f"POST /api/v1/messages?from={ADA}&to={BOB} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: message/rfc822\r\nAuthorization: Basic {login}\r\n"
        "Content-Length: 5000000\r\n\r\n"
    ).encode()
    with socket.create_connection((host, port)) as client:
        client.sendall(head)
        answer = client.recv(65_536)
    assert b" 413 " in answer and b"1000 octets" in answer


def test_nobody_hears_of_others_mail(server: MailServer) -> None:
    taken = call(f"{place(server)}?from={ADA}&to={BOB}")[1]
    for user, name in ((BOB, taken["id"]), (ADA, "nothing"), (ADA, "../x"), (ADA, "a" * 500)):
        status, problem, _ = call(f"{place(server)}/{name}", None, method="GET", user=user)
        assert (status, problem["title"]) == (404, "There is no such message")


def test_a_message_that_is_cut_off_is_nobodys(server: MailServer) -> None:
    host, port = server.address("http")
    login = base64.b64encode(f"{ADA}:{PASSWORD}".encode()).decode()
    with socket.create_connection((host, port)) as client:
        client.sendall(
            f"POST /api/v1/messages?from={ADA}&to={BOB} HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: message/rfc822\r\nAuthorization: Basic {login}\r\n"
            f"Content-Length: {len(RAW) + 10}\r\n\r\n".encode()
            + RAW
        )
    call(f"{place(server)}?from={ADA}&to={BOB}")
    assert len(server.wait_for(BOB)) == 1


def test_a_large_letter_goes_however_it_is_cut(server: MailServer) -> None:
    host, port = server.address("http")
    login = base64.b64encode(f"{ADA}:{PASSWORD}".encode()).decode()
    body = RAW + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20_000
    request = (
        f"POST /api/v1/messages?from={ADA}&to={BOB} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: message/rfc822\r\nAuthorization: Basic {login}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
    with socket.create_connection((host, port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, 40, 3):
            client.sendall(request[at : at + 3])
        client.sendall(request[42:])
        answer = client.recv(65_536)
    assert b" 202 " in answer, answer
    assert len(server.wait_for(BOB)[0].octets) > len(body)


@needs_program("curl", package="curl")
def test_curl_submits(server: MailServer, tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_bytes(RAW)
    done = subprocess.run(
        [
            *("curl", "-sS", "--fail-with-body", "-u", f"{ADA}:{PASSWORD}"),
            *("-H", "Content-Type: message/rfc822", "--data-binary", f"@{tmp_path}/m.eml"),
            f"{place(server)}?from={ADA}&to={BOB}",
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["accepted"] == [BOB]
    assert server.wait_for(BOB)[0].message.subject == "Tea"


def test_the_api_is_off_unless_it_is_asked_for(server: MailServer) -> None:
    server._node.own_certificates.known.api = None
    request = urllib.request.Request(place(server))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    caught.value.close()
    assert caught.value.code == 404
    assert urlsplit(place(server)).path == "/api/v1/messages"
