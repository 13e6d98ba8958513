"""The web of the small internet: answers by URL in memory, and HTTPS hosts on loopback that behave
as told."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import msgspec

from posthouse.kernel.ports import Fetched, FetchFailed, FetchTrouble
from posthouse.relay.sts_policy import PATH

HEAD_OCTETS_MAX: Final = 65_536


class Web:
    """The port `Fetch` in memory. What nobody put there cannot be reached."""

    def __init__(self) -> None:
        self.pages: dict[str, Fetched | FetchFailed] = {}
        self.delays_s: dict[str, float] = {}
        self.asked: list[str] = []
        """URLs, in order."""

    def put_policy(self, domain: str, text: str) -> None:
        """The MTA-STS policy of a domain."""
        octets = text.encode()
        page = Fetched(status=200, media_type="text/plain", octets=octets)
        self.pages[f"https://mta-sts.{domain}{PATH}"] = page

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        return await self._answer(url, octets_max, timeout_s)

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        return await self._answer(url, octets_max, timeout_s)

    async def _answer(self, url: str, octets_max: int, timeout_s: float) -> Fetched:
        self.asked.append(url)
        delay_s = self.delays_s.get(url, 0.0)
        await asyncio.sleep(min(delay_s, timeout_s))
        if delay_s >= timeout_s:
            raise FetchFailed("no answer in time", FetchTrouble.TIMEOUT)
        page = self.pages.get(url)
        if page is None:
            raise FetchFailed("nobody is there", FetchTrouble.CONNECT)
        if isinstance(page, FetchFailed):
            raise page
        if len(page.octets) > octets_max:
            raise FetchFailed("too much", FetchTrouble.TOO_BIG)
        return page


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a host on loopback sends back, octet for octet."""

    octets: bytes
    drip_s: float = 0.0
    """Between octets; 0 sends them at once."""
    is_endless: bool = False
    """Go on with the last 1,024 octets until the client has had enough."""


def page(text: str, *, status: int = 200, media_type: str = "text/plain") -> Answer:
    """A well-formed answer."""
    content = text.encode()
    head = (
        f"HTTP/1.1 {status} as you wish\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return Answer(octets=head.encode() + content)


class WebPeer:
    """An HTTPS host on loopback, or one of plain HTTP: the same answer to every request."""

    def __init__(self, context: ssl.SSLContext | None, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        """Heads of requests, the content left out."""
        self.address: tuple[str, int] = ("", 0)
        self._context = context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.start_server(
            self._connected, address, port, ssl=self._context, limit=HEAD_OCTETS_MAX
        )
        bound = self._server.sockets[0].getsockname()
        self.address = (bound[0], bound[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self._send(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        answer = self.answer
        if answer.drip_s:
            for at in range(len(answer.octets)):
                writer.write(answer.octets[at : at + 1])
                await asyncio.sleep(answer.drip_s)
            return
        writer.write(answer.octets)
        await writer.drain()
        while answer.is_endless:
            writer.write(answer.octets[-1024:])
            await writer.drain()
        writer.close()
        await writer.wait_closed()
