"""Through a proxy: HTTP CONNECT (RFC 9110 §9.3.6) and SOCKS5 (RFC 1928, RFC 1929), as a `Network`.

Names are looked up by the proxy, which may see a DNS that this machine does not. All that a proxy
says has a bound, and all of it together a deadline.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from posthouse.kernel.ports import Listening, Network, TransportProtocol
from posthouse.sending.options import Proxy

__all__ = ["ProxyNetwork"]

REPLY_OCTETS_MAX: Final = 16_384
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_SOCKS_WORDS: Final = {
    1: "it failed",
    2: "its rules forbid that",
    3: "it cannot reach that network",
    4: "it cannot reach that host",
    5: "the host refused the connection",
    6: "it took too long",
    7: "it does not make connections",
    8: "it does not know this kind of address",
}


class ProxyNetwork:
    """Connects by way of the proxy; the rest is the network behind it."""

    def __init__(self, network: Network, proxy: Proxy) -> None:
        self._network = network
        self._proxy = proxy

    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        """As the port says, and `address` may be a name. What the proxy says against it comes as
        `OSError` without a number."""
        proxy = self._proxy
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                found = await loop.getaddrinfo(proxy.host, proxy.port)
                talk = _talk(proxy, address, port)
                client = factory()
                done: asyncio.Future[None] = loop.create_future()
                shim = _Shim(client, talk, done)
                await self._network.connect(
                    lambda: shim,
                    str(found[0][4][0]),
                    proxy.port,
                    timeout_s=timeout_s,
                    local_address=local_address,
                )
                try:
                    await done
                except BaseException:
                    shim.abort()
                    raise
        except TimeoutError:
            raise
        except UnicodeError as error:
            raise OSError(f"{proxy.host} is no host name") from error
        return client

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> Listening:
        return await self._network.listen(factory, address, port)

    async def exchange(
        self, datagram: bytes, address: str, port: int, *, timeout_s: float
    ) -> bytes:
        return await self._network.exchange(datagram, address, port, timeout_s=timeout_s)


class _Refused(Exception):
    """The proxy says no, in words."""


class _Talk(Protocol):
    """What is said to a proxy: octets in, octets to send out. `is_done` when the way is open."""

    is_done: bool

    def begin(self) -> bytes: ...

    def receive(self, octets: bytearray) -> bytes:
        """Takes what it understands off the front of `octets`. Raises _Refused."""
        ...


class _Connect:
    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.is_done = False

    def begin(self) -> bytes:
        lines = [f"CONNECT {self._place} HTTP/1.1", f"Host: {self._place}"]
        if self._proxy.user:
            login = f"{self._proxy.user}:{self._proxy.password.reveal()}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def receive(self, octets: bytearray) -> bytes:
        end = octets.find(b"\r\n\r\n")
        if end < 0:
            return b""
        status = _STATUS.match(bytes(octets[: end + 2]))
        del octets[: end + 4]
        if status is None:
            raise _Refused("it does not speak HTTP")
        if status[1] == b"407":
            raise _Refused("it wants a user and a password, or others (407)")
        if not status[1].startswith(b"2"):
            said = (status[2] or b"").decode("ascii", "replace")[:200]
            raise _Refused(f"it says {status[1].decode()} {said}".rstrip())
        self.is_done = True
        return b""


class _Socks:
    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._host = host
        self._port = port
        self._step = "method"
        self.is_done = False

    def begin(self) -> bytes:
        return b"\x05\x02\x00\x02" if self._proxy.user else b"\x05\x01\x00"

    def receive(self, octets: bytearray) -> bytes:
        if self._step == "reply":
            return self._take_reply(octets)
        if len(octets) < 2:
            return b""
        version, answer = octets[0], octets[1]
        del octets[:2]
        if self._step == "method":
            if version != 5:
                raise _Refused("it does not speak SOCKS5")
            if answer == 2 and self._proxy.user:
                self._step = "login"
                return self._login()
            if answer != 0:
                raise _Refused("it wants a user and a password")
        elif answer != 0:
            raise _Refused("it refuses the user or the password")
        self._step = "reply"
        return self._request()

    def _login(self) -> bytes:
        user = self._proxy.user.encode()[:255]
        password = self._proxy.password.reveal().encode()[:255]
        return b"\x01%c%b%c%b" % (len(user), user, len(password), password)

    def _request(self) -> bytes:
        try:
            address = ipaddress.ip_address(self._host)
            kind = 1 if address.version == 4 else 4
            where = bytes((kind,)) + address.packed
        except ValueError:
            name = self._host.encode("ascii", "replace")[:255]
            where = b"\x03%c%b" % (len(name), name)
        return b"\x05\x01\x00" + where + self._port.to_bytes(2, "big")

    def _take_reply(self, octets: bytearray) -> bytes:
        if len(octets) >= 2 and octets[1] != 0:
            raise _Refused(_SOCKS_WORDS.get(octets[1], f"it failed ({octets[1]})"))
        if len(octets) < 5:
            return b""
        sizes = {1: 4, 4: 16, 3: 1 + octets[4]}
        if octets[3] not in sizes:
            raise _Refused("it answers nonsense")
        length = 4 + sizes[octets[3]] + 2
        if len(octets) >= length:
            del octets[:length]
            self.is_done = True
        return b""


def _talk(proxy: Proxy, host: str, port: int) -> _Talk:
    return (_Connect if proxy.scheme == "http" else _Socks)(proxy, host, port)


class _Shim:
    """The transport's protocol until the way is open; then it only hands on."""

    def __init__(self, client: TransportProtocol, talk: _Talk, done: asyncio.Future[None]) -> None:
        self._client = client
        self._talk = talk
        self._done = done
        self._inbox = bytearray()
        self._transport: Any = None
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._talk.begin())

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self._client.data_received(data)
            return
        self._inbox += data
        try:
            if len(self._inbox) > REPLY_OCTETS_MAX:
                raise _Refused("it says too much")
            before = -1
            while not self._talk.is_done and len(self._inbox) != before:
                before = len(self._inbox)
                if answer := self._talk.receive(self._inbox):
                    self._transport.write(answer)
        except _Refused as refused:
            self._fail(OSError(str(refused)))
            return
        if self._talk.is_done:
            self._open()

    def _open(self) -> None:
        self._is_open = True
        if not self._done.done():
            self._done.set_result(None)
        self._client.connection_made(self._transport)
        if self._inbox:  # a quick server's greeting, in one segment with the proxy's reply
            self._client.data_received(bytes(self._inbox))
            self._inbox.clear()

    def eof_received(self) -> bool | None:
        if self._is_open:
            return self._client.eof_received()
        self._fail(OSError("it hung up"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open:
            self._client.connection_lost(exc)
        elif not self._done.done():
            self._done.set_exception(OSError("it hung up"))

    def pause_writing(self) -> None:
        if self._is_open:
            self._client.pause_writing()

    def resume_writing(self) -> None:
        if self._is_open:
            self._client.resume_writing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: OSError) -> None:
        if not self._done.done():
            self._done.set_exception(error)
        self.abort()
