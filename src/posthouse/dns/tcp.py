"""One DNS question over TCP, for answers that UDP cut (RFC 7766 §5, RFC 1035 §4.2.2)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from posthouse.kernel.ports import Network

LENGTH_OCTETS: Final = 2


async def exchange_tcp(
    network: Network, question: bytes, address: str, port: int, *, timeout_s: float
) -> bytes:
    """The first message that comes back: at most 65,535 octets, by its length field.

    The caller has set a deadline around all of it; `timeout_s` is for the connection.

    Raises:
        OSError: refused, reset, or closed before the whole message was there.
    """
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    protocol = _Question(question, answer)
    await network.connect(lambda: protocol, address, port, timeout_s=timeout_s)
    try:
        return await answer
    finally:
        protocol.abort()


class _Question:
    """An `asyncio.Protocol` for one question and one answer."""

    def __init__(self, question: bytes, answer: asyncio.Future[bytes]) -> None:
        self._question = question
        self._answer = answer
        self._inbox = bytearray()
        self._transport: Any = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(len(self._question).to_bytes(LENGTH_OCTETS) + self._question)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        end = LENGTH_OCTETS + int.from_bytes(self._inbox[:LENGTH_OCTETS])
        if len(self._inbox) >= max(end, LENGTH_OCTETS) and not self._answer.done():
            self._transport.pause_reading()
            self._answer.set_result(bytes(self._inbox[LENGTH_OCTETS:end]))

    def eof_received(self) -> bool | None:
        self.connection_lost(None)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            reason = exc if isinstance(exc, OSError) else ConnectionResetError("closed too soon")
            self._answer.set_exception(reason)

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...
