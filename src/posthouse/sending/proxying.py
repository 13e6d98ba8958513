"""Through a proxy: HTTP CONNECT (RFC 9110 §9.3.6) and SOCKS5 (RFC 1928, RFC 1929), as a `Network`.

Names are looked up by the proxy, which may see a DNS that this machine does not. All that a proxy
says has a bound, and all of it together a deadline. What goes wrong on the way to it is told of the
proxy and not of the server.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from posthouse.kernel.ports import Listening, Network, TransportProtocol
from posthouse.sending.errors import ConnectError, SendingError, SendTimeout
from posthouse.sending.names import addresses_of
from posthouse.sending.options import Proxy

__all__ = ["ProxyFailed", "ProxyNetwork", "proxy_not_reached", "proxy_said_no"]

ADDRESSES_MAX: Final = 8
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


_ITS_FAULT: Final = frozenset({2, 7, 8})
"""Of those: it, and not the server, says no, and will again."""
_LOGIN: Final = "check user and password in the option proxy"
_KIND: Final = "check the option proxy: is it an http:// or a socks5:// one, and is this its port?"
_BEYOND: Final = (
    "the proxy itself works: are the server's host and port right, and may the one of the option"
    " proxy connect there?"
)


class ProxyFailed(OSError):
    """The way ends at the proxy or before it. Nothing here has its user or password."""

    def __init__(
        self,
        proxy: Proxy,
        words: str,
        *,
        hint: str,
        is_late: bool = False,
        is_transient: bool = False,
        is_beyond: bool = False,
    ) -> None:
        """
        Args:
            is_beyond: the proxy was reached, and `words` are of what it says or does.
        """
        where = f"the proxy {_place(proxy.host, proxy.port)}"
        super().__init__(f"{where}: {words}")
        self._where = where
        self._words = words
        self._hint = hint
        self._is_late = is_late
        self._is_transient = is_transient or is_late
        self._is_beyond = is_beyond

    def told(self, place: str) -> SendingError:
        """As the error of whoever wanted to go to `place`."""
        kind = SendTimeout if self._is_late else ConnectError
        text = f"{self._where} cannot be reached: {self._words}"
        if self._is_beyond:
            text = f"{place} cannot be reached by {self._where}: {self._words}"
        return kind(text, hint=self._hint, server=place, is_transient=self._is_transient)


def proxy_not_reached(proxy: Proxy, error: OSError, *, timeout_s: float) -> ProxyFailed:
    """None of its addresses takes a connection, or it has none."""
    if isinstance(error, socket.gaierror):
        return ProxyFailed(
            proxy,
            "its address cannot be found",
            hint="check the spelling of the host in the option proxy",
            is_transient=error.errno == socket.EAI_AGAIN,
        )
    if isinstance(error, TimeoutError):
        hint = "check host and port in the option proxy; a firewall may be in the way"
        return ProxyFailed(proxy, f"no answer within {timeout_s:g} s", hint=hint, is_late=True)
    hint = "check host and port in the option proxy"
    if error.errno == errno.ECONNREFUSED:
        hint = f"check the option proxy: nothing listens at port {proxy.port} there"
    words = os.strerror(error.errno) if error.errno else str(error)
    return ProxyFailed(proxy, words, hint=hint, is_transient=True)


def proxy_said_no(proxy: Proxy, code: int, words: str) -> ProxyFailed:
    """What it answers to CONNECT (RFC 9110 §9.3.6)."""
    if code == 407:
        text = "it wants a user and a password, or others (407)"
        return ProxyFailed(proxy, text, hint=_LOGIN, is_beyond=True)
    return ProxyFailed(
        proxy,
        f"it says {code} {words}".rstrip(),
        hint=_BEYOND,
        is_beyond=True,
        is_transient=code >= 500,
    )


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
        """`address` may be a name. All addresses of the proxy are tried in turn, each of which has
        `timeout_s`, as have its name before and the talk behind.

        Raises:
            ProxyFailed: whatever goes wrong.
        """
        proxy = self._proxy
        failed: OSError = OSError("it has no address")
        client = factory()
        shim = _Shim(client, proxy, address, port)
        try:
            for one in await self._addresses(timeout_s):
                try:
                    await self._network.connect(
                        lambda: shim,
                        one,
                        proxy.port,
                        timeout_s=timeout_s,
                        local_address=local_address,
                    )
                    break
                except OSError as error:
                    failed = error
            else:
                raise failed
        except OSError as error:
            raise proxy_not_reached(proxy, error, timeout_s=timeout_s) from error
        await shim.opened(timeout_s)
        return client

    async def _addresses(self, timeout_s: float) -> list[str]:
        proxy = self._proxy
        try:
            async with asyncio.timeout(timeout_s):
                return (await addresses_of(proxy.host, proxy.port))[:ADDRESSES_MAX]
        except UnicodeError as error:
            raise OSError("its host is no host name") from error

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> Listening:
        return await self._network.listen(factory, address, port)

    async def exchange(
        self, datagram: bytes, address: str, port: int, *, timeout_s: float
    ) -> bytes:
        return await self._network.exchange(datagram, address, port, timeout_s=timeout_s)


class _Talk(Protocol):
    """What is said to a proxy: octets in, octets to send out. `is_done` when the way is open."""

    is_done: bool

    def begin(self) -> bytes: ...

    def receive(self, octets: bytearray) -> bytes:
        """Takes what it understands off the front of `octets`. Raises ProxyFailed."""
        ...


class _Connect:
    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._place = _place(host, port)
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
            raise _refused(self._proxy, "it does not speak HTTP", _KIND)
        if not status[1].startswith(b"2"):
            said = (status[2] or b"").decode("ascii", "replace")[:200]
            raise proxy_said_no(self._proxy, int(status[1]), said)
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
                raise _refused(self._proxy, "it does not speak SOCKS5", _KIND)
            if answer == 2 and self._proxy.user:
                self._step = "login"
                return self._login()
            if answer != 0:
                raise _refused(self._proxy, "it wants a user and a password", _LOGIN)
        elif answer != 0:
            raise _refused(self._proxy, "it refuses the user or the password", _LOGIN)
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
            code = octets[1]
            words = _SOCKS_WORDS.get(code, f"it failed ({code})")
            raise _refused(self._proxy, words, _BEYOND, is_transient=code not in _ITS_FAULT)
        if len(octets) < 5:
            return b""
        sizes = {1: 4, 4: 16, 3: 1 + octets[4]}
        if octets[3] not in sizes:
            raise _refused(self._proxy, "it answers nonsense", _KIND)
        length = 4 + sizes[octets[3]] + 2
        if len(octets) >= length:
            del octets[:length]
            self.is_done = True
        return b""


def _talk(proxy: Proxy, host: str, port: int) -> _Talk:
    return (_Connect if proxy.scheme == "http" else _Socks)(proxy, host, port)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refused(proxy: Proxy, words: str, hint: str, *, is_transient: bool = False) -> ProxyFailed:
    return ProxyFailed(proxy, words, hint=hint, is_transient=is_transient, is_beyond=True)


class _Shim:
    """The transport's protocol until the way is open; then it only hands on."""

    def __init__(self, client: TransportProtocol, proxy: Proxy, host: str, port: int) -> None:
        self._client = client
        self._proxy = proxy
        self._talk = _talk(proxy, host, port)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox = bytearray()
        self._transport: Any = None
        self._is_open = False

    async def opened(self, timeout_s: float) -> None:
        """Once connected: wait until the way is open. Raises ProxyFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._done
        except TimeoutError:
            self.abort()
            words = f"it does not say within {timeout_s:g} s whether it can"
            hint = f"the server may be silent, or the proxy of another kind: {_KIND}"
            raise ProxyFailed(self._proxy, words, hint=hint, is_late=True, is_beyond=True) from None
        except BaseException:
            self.abort()
            raise

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
                raise _refused(self._proxy, "it says too much", _KIND)
            before = -1
            while not self._talk.is_done and len(self._inbox) != before:
                before = len(self._inbox)
                if answer := self._talk.receive(self._inbox):
                    self._transport.write(answer)
        except ProxyFailed as refused:
            self._fail(refused)
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
        self._fail(self._hung_up())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open:
            self._client.connection_lost(exc)
        elif not self._done.done():
            self._done.set_exception(self._hung_up())

    def pause_writing(self) -> None:
        if self._is_open:
            self._client.pause_writing()

    def resume_writing(self) -> None:
        if self._is_open:
            self._client.resume_writing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _hung_up(self) -> ProxyFailed:
        return _refused(self._proxy, "it hung up", _KIND, is_transient=True)

    def _fail(self, error: ProxyFailed) -> None:
        if not self._done.done():
            self._done.set_exception(error)
        self.abort()
