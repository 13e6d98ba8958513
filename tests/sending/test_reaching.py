"""The way to a server: by a Unix socket, or by a proxy that is not as it should be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.sending import (
    AsyncTransport,
    ConnectError,
    Message,
    SendingError,
    SendTimeout,
    Transport,
)
from tests.sending.bad_server import USUAL, BadServer

LETTER = Message(sender="ada@example.org", to=["bob@example.net", "eve@example.net"], text="Hi")


async def failure(**more: Any) -> SendingError:
    async with AsyncTransport("smtps://mail.example.org", **more) as way:
        with pytest.raises(SendingError) as caught:
            await way.send(LETTER)
    assert "s3same" not in str(caught.value)
    return caught.value


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# --- sockets ---


async def test_lmtp_goes_to_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    replies = {"DOT": ["250 2.0.0 saved", "552 5.2.2 full"]}
    extensions = (*USUAL, "STARTTLS")
    async with (
        BadServer(
            is_lmtp=True, socket_path=str(path), extensions=extensions, replies=replies
        ) as server,
        AsyncTransport(f"lmtp://{path}") as way,
    ):
        receipt = await way.send(LETTER)
        assert (await way.verify()).server == str(path)
    assert receipt.server == str(path) and receipt.tls is None
    assert receipt.accepted == ("bob@example.net",)
    assert [one.recipient for one in receipt.rejected] == ["eve@example.net"]
    assert server.commands[0].startswith("LHLO") and "STARTTLS" not in server.commands


def test_a_socket_that_takes_nobody_is_told(tmp_path: Path) -> None:
    with Transport(f"lmtp://{tmp_path}/gone") as way:
        with pytest.raises(ConnectError, match="gone cannot be reached: No such file") as caught:
            way.send(LETTER)
        assert "is the server running" in caught.value.hint and caught.value.is_transient
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{tmp_path}/left")
    with Transport(f"lmtp://{tmp_path}/left") as way:
        with pytest.raises(ConnectError, match="left cannot be reached: Connection ref") as caught:
            way.send(LETTER)
        assert "does not run any more" in caught.value.hint


# --- proxies ---


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_is_down_is_not_the_servers_fault(kind: str) -> None:
    port = free_port()
    error = await failure(proxy=f"{kind}://ada:s3same@127.0.0.1:{port}")
    assert isinstance(error, ConnectError) and error.is_transient
    assert error.text == f"the proxy 127.0.0.1:{port} cannot be reached: Connection refused"
    assert f"option proxy: nothing listens at port {port}" in error.hint


async def test_a_proxy_nobody_knows_is_told_in_words() -> None:
    error = await failure(proxy="http://nosuch.invalid:3128")
    assert isinstance(error, ConnectError)
    assert "the proxy nosuch.invalid:3128 cannot be reached: its address" in error.text
    assert "option proxy" in error.hint


@pytest.fixture
async def mute() -> AsyncIterator[int]:
    """The port of somebody who takes connections and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in held:
        writer.transport.abort()
    await asyncio.sleep(0)


async def test_a_proxy_that_is_silent_is_named(mute: int) -> None:
    proxy = f"socks5://ada:s3same@127.0.0.1:{mute}"
    error = await failure(proxy=proxy, connect_timeout_s=0.1)
    assert isinstance(error, SendTimeout)
    assert f"mail.example.org:465 cannot be reached by the proxy 127.0.0.1:{mute}" in error.text
    assert "does not say within 0.1 s" in error.text and "option proxy" in error.hint


async def test_all_addresses_of_a_proxy_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first leads nowhere."""
    port = free_port()
    loop = asyncio.get_running_loop()
    asked = loop.getaddrinfo

    async def two(host: str, *rest: Any, **more: Any) -> Any:
        if host != "proxy.example":
            return await asked(host, *rest, **more)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.3", port)), (*kind, ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", two, raising=False)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 503 not today\r\n\r\n")
        await reader.read()
        writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        error = await failure(proxy=f"http://proxy.example:{port}")
    finally:
        proxy.close()
        await asyncio.sleep(0)
    assert "it says 503 not today" in error.text and error.is_transient
