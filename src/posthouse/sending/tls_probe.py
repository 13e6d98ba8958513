"""Whether a port speaks TLS from the first octet (RFC 8314 §3).

Asked where one that should greet in plain text is silent: such a server waits for us to begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final, cast

from posthouse.kernel.ports import Network
from posthouse.sending.tls import unchecked_context

__all__ = ["speaks_tls"]

_RECORDS: Final = (b"\x15\x03", b"\x16\x03")
"""How an answer begins: an alert or a handshake, of any version (RFC 8446 §5.1)."""


async def speaks_tls(
    network: Network, address: str, port: int, *, server_name: str, timeout_s: float
) -> bool:
    """Whether a ClientHello is answered by TLS, be it a refusal, on a connection of its own."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    probe = _Probe(_client_hello(server_name), answer)
    with contextlib.suppress(OSError):  # TimeoutError is one
        async with asyncio.timeout(timeout_s):
            try:
                await network.connect(lambda: probe, address, port, timeout_s=timeout_s)
                return await answer
            finally:
                probe.leave()
    return False


def _client_hello(server_name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    try:
        session = unchecked_context().wrap_bio(
            ssl.MemoryBIO(), outgoing, server_hostname=server_name
        )
    except ValueError:  # a name that cannot be one in TLS
        session = unchecked_context().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


class _Probe(asyncio.Protocol):
    """Says hello, and looks at the first two octets that come."""

    def __init__(self, hello: bytes, answer: asyncio.Future[bool]) -> None:
        self._hello = hello
        self._answer = answer
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        self._came += data[:2]
        if len(self._came) > 1:
            self._settle(is_tls=self._came[:2] in _RECORDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(is_tls=False)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _settle(self, *, is_tls: bool) -> None:
        if not self._answer.done():
            self._answer.set_result(is_tls)
