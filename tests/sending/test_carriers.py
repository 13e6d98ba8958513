"""Letters that leave in other ways: to a folder, into memory, by a command, through a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from posthouse.kernel.envelope import Notify, Ret, TlsDemand
from posthouse.message import read
from posthouse.sending import (
    AsyncTransport,
    AuthError,
    CapabilityError,
    ConnectError,
    EnvelopeError,
    Message,
    OptionError,
    SendEnvelope,
    SendingError,
    TlsError,
    Transport,
)
from tests.sending.bad_server import USUAL, BadServer

LETTER = Message(sender="Ada <ada@example.org>", to=["bob@example.net"], subject="Tea", text="…")


def test_memory_keeps_what_was_sent() -> None:
    with Transport("memory:") as way:
        receipt = way.send(LETTER)
        (letter,) = way.letters
    assert read(letter.octets).subject == "Tea"
    assert receipt.accepted == ("bob@example.net",)


def test_pictures_in_data_urls_become_parts_however_it_is_sent() -> None:
    html = '<img src="data:image/png;base64,iVBORw0KGgo=">'
    message = msgspec.structs.replace(LETTER, html=html, inline_data_urls=True)
    with Transport("memory:") as way:
        way.send(message)
        (letter,) = way.letters
    got = read(letter.octets)
    assert "cid:" in got.html and "data:" not in got.html
    assert b"multipart/related" in letter.octets


def test_a_folder_gets_a_file_and_its_envelope(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with Transport(f"folder://{out}") as way:
        first, second = way.send(LETTER), way.send(LETTER)
    names = sorted(path.name for path in out.iterdir())
    assert len(names) == 4 and first.queue_id < second.queue_id
    kept = json.loads((out / f"{first.queue_id}.json").read_text())
    assert kept == {
        "message_id": first.message_id,
        "sender": "ada@example.org",
        "recipients": ["bob@example.net"],
    }
    octets = (out / f"{first.queue_id}.eml").read_bytes()
    assert read(octets).message_id == first.message_id
    mode = (out / f"{first.queue_id}.eml").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with Transport(f"folder://{tmp_path}/file") as way, pytest.raises(ConnectError) as caught:
        way.send(LETTER)
    assert "cannot be written to" in caught.value.text


def program(tmp_path: Path, code: int, said: str = "") -> str:
    """A sendmail that keeps what it was given."""
    path = tmp_path / "sendmail"
    path.write_text(
        f"#!{sys.executable}\nimport sys, json\n"
        f"octets = sys.stdin.buffer.read()\n"
        f"kept = open({str(tmp_path / 'kept')!r}, 'w')\n"
        f"kept.write(json.dumps([sys.argv[1:], octets.decode()]))\nkept.close()\n"
        f"sys.stderr.write({said!r})\nsys.exit({code})\n"
    )
    path.chmod(0o755)
    return str(path)


def test_a_command_gets_envelope_and_message(tmp_path: Path) -> None:
    wish = SendEnvelope(sender="", recipients=["bob@example.net", "-oQ/tmp@example.net"])
    letter = Message(sender="ada@example.org", subject="x", text="hello", envelope=wish)
    with Transport(f"sendmail://{program(tmp_path, 0)}") as way:
        way.verify()
        way.send(letter)
    arguments, octets = json.loads((tmp_path / "kept").read_text())
    assert arguments == ["-i", "-f", "<>", "--", "bob@example.net", "-oQ/tmp@example.net"]
    assert octets.endswith("\n\nhello\n") and "\r" not in octets


def test_a_command_gets_its_own_arguments_first(tmp_path: Path) -> None:
    with Transport(
        "sendmail:", command=program(tmp_path, 0), arguments=["-a", "my work; $(id)"]
    ) as way:
        way.send(LETTER)
    arguments, _ = json.loads((tmp_path / "kept").read_text())
    sender = ["-i", "-f", "ada@example.org"]
    assert arguments == ["-a", "my work; $(id)", *sender, "--", "bob@example.net"]


@pytest.mark.parametrize("arguments", [["-t"], ["-v", "--read-recipients", "-v"], ["-v", "--"]])
def test_arguments_that_say_who_gets_the_letter_are_refused(
    tmp_path: Path, arguments: list[str]
) -> None:
    with (
        Transport("sendmail:", command=program(tmp_path, 0), arguments=arguments) as way,
        pytest.raises(OptionError) as caught,
    ):
        way.send(LETTER)
    assert caught.value.option == "arguments" and "leave it out" in caught.value.hint
    assert not (tmp_path / "kept").exists()


def test_what_a_command_can_be_asked_it_is_asked_and_what_not_is_told(tmp_path: Path) -> None:
    wish = SendEnvelope(envelope_id="order-17", ret=Ret.HDRS, notify=Notify.FAILURE)
    letter = msgspec.structs.replace(LETTER, envelope=wish)
    required = msgspec.structs.replace(LETTER, envelope=SendEnvelope(tls_demand=TlsDemand.REQUIRED))
    with Transport(f"sendmail://{program(tmp_path, 0)}") as way:
        way.send(letter)
        arguments, _ = json.loads((tmp_path / "kept").read_text())
        assert arguments[3:9] == ["-R", "hdrs", "-V", "order-17", "-N", "failure"]
        with pytest.raises(CapabilityError, match="tls_demand"):
            way.send(required)
    with Transport(f"folder://{tmp_path / 'out'}") as way:
        receipt = way.send(letter)
        demanded = way.send(required)
    kept = json.loads((tmp_path / "out" / f"{receipt.queue_id}.json").read_text())
    assert (kept["ret"], kept["envelope_id"], kept["notify"]) == ("HDRS", "order-17", ["FAILURE"])
    kept = json.loads((tmp_path / "out" / f"{demanded.queue_id}.json").read_text())
    assert kept["tls_demand"] == "required"


@pytest.mark.parametrize(
    ("code", "kind", "is_transient"),
    [
        (67, EnvelopeError, False),
        (75, SendingError, True),
        (77, AuthError, False),
        (1, SendingError, False),
    ],
)
def test_what_a_command_says_is_told(
    tmp_path: Path, code: int, kind: type[SendingError], is_transient: bool
) -> None:
    url = f"sendmail://{program(tmp_path, code, 'no such user')}"
    with Transport(url) as way, pytest.raises(kind) as caught:
        way.send(LETTER)
    assert "no such user" in caught.value.text and caught.value.is_transient == is_transient


def test_a_command_that_is_not_there() -> None:
    with Transport("sendmail:///no/such/program") as way:
        with pytest.raises(ConnectError):
            way.verify()
        with pytest.raises(ConnectError) as caught:
            way.send(LETTER)
    assert "sendmail:///usr/sbin/sendmail" in caught.value.hint


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("/no/msmtp -a work", 'write command="/no/msmtp", arguments=["-a", "work"]'),
        ("/no/msmtp -C 'my config'", 'write command="/no/msmtp", arguments=["-C", "my config"]'),
        ("/no/msmtp -C '", 'write command="/no/msmtp", arguments=["-C", "\'"]'),
    ],
)
async def test_a_command_line_is_told_apart(command: str, hint: str) -> None:
    async with AsyncTransport("sendmail:", command=command) as way:
        for ask in (way.verify, partial(way.send, LETTER)):
            with pytest.raises(ConnectError, match="cannot be run") as caught:
                await ask()
            assert caught.value.hint == hint


def test_a_command_may_have_a_blank_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "my programs"
    folder.mkdir()
    with Transport("sendmail:", command=program(folder, 0)) as way:
        way.send(LETTER)
    assert (folder / "kept").exists()


@pytest.mark.interop
async def test_msmtp_as_the_command(tmp_path: Path) -> None:
    if (msmtp := shutil.which("msmtp")) is None:
        pytest.skip("msmtp is not installed")
    async with BadServer() as server:
        config = tmp_path / "msmtprc"
        config.write_text(
            f"account default\nhost 127.0.0.1\nport {server.port}\nfrom ada@example.org\n"
        )
        config.chmod(0o600)
        arguments = ["-C", str(config)]
        async with AsyncTransport(f"sendmail://{msmtp}", arguments=arguments) as way:
            await way.send(LETTER)
    assert server.taken[0].recipients == ["bob@example.net"]


# --- proxies ---


async def speak(kind: str, reply: bytes, **more: Any) -> tuple[bytes, Any]:
    """What a proxy hears, and how sending through it ends, when it says `reply` to all."""
    heard = b""
    talks: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        talks.append(asyncio.current_task())
        heard += await reader.read(1000)
        writer.write(reply)
        if reply:
            await reader.read()
        writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    try:
        url = f"{kind}://ada:s3same@127.0.0.1:{port}"
        async with AsyncTransport(host="mail.example.org", proxy=url, **more) as way:
            try:
                return heard, await way.send(LETTER)
            except SendingError as error:
                return heard, error
    finally:
        proxy.close()
        await asyncio.wait([talk for talk in talks if talk is not None])


@pytest.mark.parametrize(
    ("kind", "reply", "words"),
    [
        ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "user and a password"),
        ("http", b"HTTP/1.1 403 Forbidden by rules\r\n\r\n", "403 Forbidden by rules"),
        ("http", b"220 mail ESMTP\r\n\r\n", "does not speak HTTP"),
        ("http", b"x" * 20_000, "too much"),
        ("http", b"", "hung up"),
        ("socks5", b"\x05\xff", "user and a password"),
        ("socks5", b"\x04\x5a", "does not speak SOCKS5"),
        ("socks5", b"", "hung up"),
    ],
)
async def test_what_a_proxy_says_against_it_is_told(kind: str, reply: bytes, words: str) -> None:
    _, error = await speak(kind, reply)
    assert isinstance(error, ConnectError) and words in error.text
    assert "option proxy" in error.hint and "s3same" not in str(error)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(params=["microsocks", "tinyproxy"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    name = request.param
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    if name == "microsocks":
        command = [path, "-i", "127.0.0.1", "-p", str(port), "-u", "ada", "-P", "sesame"]
        url = f"socks5://ada:sesame@127.0.0.1:{port}"
    else:
        config = tmp_path / "tinyproxy.conf"
        config.write_text(
            f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 10\nAllow 127.0.0.1\n"
            "BasicAuth ada sesame\nLogLevel Critical\n"
        )
        command = [path, "-d", "-c", str(config)]
        url = f"http://ada:sesame@127.0.0.1:{port}"
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        for _ in range(500):
            with socket.socket() as test:
                test.settimeout(0.02)
                if test.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield url
    finally:
        child.terminate()
        child.wait(10)


@pytest.mark.interop
async def test_a_letter_goes_through_a_real_proxy(proxy: str) -> None:
    async with (
        BadServer() as server,
        AsyncTransport(host="localhost", port=server.port, proxy=proxy) as way,
    ):
        receipt = await way.send(LETTER)
        assert receipt.accepted
    assert len(server.taken) == 1


@pytest.mark.interop
async def test_the_localhost_of_a_proxy_elsewhere_is_not_ours(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows who listens between that proxy and its localhost, nor before it."""
    monkeypatch.setattr(
        "posthouse.sending.connection.is_this_machine", lambda host: host == "localhost"
    )
    async with BadServer(extensions=(*USUAL, "AUTH PLAIN")) as server:
        for tls in ("auto", "off"):
            way = AsyncTransport(
                host="localhost", port=server.port, proxy=proxy, tls=tls, user="ada", password="x"
            )
            with pytest.raises((TlsError, AuthError)):
                await way.send(LETTER)
            await way.close()
    assert server.auth_lines == [] and server.taken == []


@pytest.mark.interop
async def test_a_real_proxy_that_refuses_is_told(proxy: str) -> None:
    wrong = proxy.replace("sesame", "wrong-7")
    async with AsyncTransport(host="localhost", port=free_port(), proxy=wrong) as way:
        with pytest.raises(ConnectError) as caught:
            await way.send(LETTER)
    assert "wrong-7" not in str(caught.value)
