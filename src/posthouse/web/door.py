"""HTTP on our own listeners: aiohttp's protocol behind a `net.stream.Stream`.

So ports 80 and 443 have what every port has: limits of connections, PROXY headers, TLS over memory
buffers with certificates by name, a PROXY line and a ClientHello in one segment, a drain. On top of
aiohttp's parser a whole request has a size and a time (H63).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import Limit
from posthouse.net.stream import Peer, Stream, TlsFailure

ACME_ALPN: Final = "acme-tls/1"
NEVER_S: Final = 86_400.0
FAREWELL_S: Final = 1.0
"""For a response that is under way when the client has said that it sends no more."""
PAGE_HEADERS: Final = {"Server": "Posthouse", "X-Content-Type-Options": "nosniff"}
_QUIET: Final = logging.getLogger("posthouse.web")
"""What aiohttp has to say about requests of strangers is not worth a line each."""
_QUIET.disabled = True


class Options(msgspec.Struct, frozen=True, kw_only=True):
    request_s: float = 15.0
    """For a whole request, and between two."""
    header_octets_max: int = 16_384
    """Of a request line, its header section and whatever follows before we answered."""
    body_path: bytes = b""
    """Requests that begin so ("POST /api/") may bring a body, when it is not empty."""
    body_octets_max: int = 0
    body_s: float = 300.0
    """For a whole request of those."""


Respond = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Reached = Callable[[str, float, float, Peer], None]
"""Told of a limit: its name, value, what was seen, and whose."""


def plain(status: int, words: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """A short answer of words."""
    reason = words or {400: "Bad Request", 404: "Not Found"}.get(status, "")
    return web.Response(
        status=status,
        body=f"{status} {reason}\n".encode() if reason else b"",
        content_type="text/plain",
        headers={**PAGE_HEADERS, **(headers or {})},
    )


class _Requests(RequestHandler):
    """Says nothing of a stranger's octets back to them."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response = plain(status)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Requests(self, loop=self._loop, **self._kwargs)


class Door:
    """What stands behind an HTTP listener (`net.listener.Service`)."""

    def __init__(
        self,
        options: Options,
        respond: Respond,
        *,
        deadlines: Deadlines,
        reached: Reached,
        on_tls_failed: Callable[[Stream, TlsFailure], None],
    ) -> None:
        """Args:
        respond: answers a request; what it raises becomes 500.
        """
        self.options = options
        self.deadlines = deadlines
        self.reached = reached
        self.on_tls_failed = on_tls_failed
        self.server = _Server(
            respond,
            access_log=None,
            logger=_QUIET,
            keepalive_timeout=NEVER_S,  # `Session` has the deadlines
            tcp_keepalive=False,
            lingering_time=0.0,
            max_line_size=options.header_octets_max,
            max_field_size=options.header_octets_max,
        )

    def session(self, stream: Stream) -> Session:
        return Session(self, stream)

    def refusal(self, limit: Limit) -> bytes:
        return _bare(503, "Service Unavailable", b"Retry-After: 60\r\n")

    def turned_away(self, peer: Peer) -> bytes | None:
        return None


def _bare(status: int, reason: str, more: bytes = b"") -> bytes:
    """A response that aiohttp has no part in."""
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n"
    return head.encode("ascii") + more + b"\r\n"


class Session:
    """One connection (`net.listener.ServerHandler`)."""

    __slots__ = (
        "_door",
        "_has_ended",
        "_is_paused",
        "_protocol",
        "_start",
        "_stream",
        "_unanswered",
        "deadline_s",
    )

    def __init__(self, door: Door, stream: Stream) -> None:
        self.deadline_s = math.inf
        self._door = door
        self._protocol: RequestHandler | None = None
        self._stream: Stream | None = stream
        self._unanswered = 0  # octets since the last response
        self._start = b""
        self._is_paused = False
        self._has_ended = False

    # --- what the stream calls ---

    def connected(self, stream: Stream) -> None:
        if stream.tls is not None and stream.tls.alpn == ACME_ALPN:
            stream.close()  # the handshake was all (RFC 8737 §4)
            return
        self._rest()
        self._door.deadlines.add(self)
        self._protocol = self._door.server()
        self._protocol.connection_made(_Transport(self, stream))

    def received(self, octets: bytes) -> None:
        if self._protocol is None or self._stream is None:
            return
        options = self._door.options
        if not self._unanswered:
            self.deadline_s = self._door.deadlines.after_s(options.request_s)
        self._unanswered += len(octets)
        limit, name = options.header_octets_max, "web.header_octets_max"
        if options.body_path and self._brings_body(octets):
            limit, name = limit + options.body_octets_max, "smtp.message_octets_max"
        if self._unanswered > limit:
            self._reached(name, limit, self._unanswered)
            self._refuse(_bare(400, "Bad Request"))
            return
        self._protocol.data_received(octets)

    def _brings_body(self, octets: bytes) -> bool:
        """By the first octets of the request, however they are cut."""
        wanted = self._door.options.body_path
        if len(self._start) >= len(wanted):
            return self._start == wanted
        self._start = (self._start + octets)[: len(wanted)]
        if self._start != wanted:
            return False
        self.deadline_s = self._door.deadlines.after_s(self._door.options.body_s)
        return True

    def tls_started(self) -> None:
        """Never: TLS begins with the connection."""

    def ended(self) -> None:
        self._has_ended = True
        if self._unanswered:
            self.deadline_s = min(self.deadline_s, self._door.deadlines.after_s(FAREWELL_S))
        elif self._stream is not None:
            self._stream.close()

    def lost(self, error: Exception | None) -> None:
        self._door.deadlines.discard(self)
        stream, self._stream = self._stream, None
        if isinstance(error, TlsFailure) and stream is not None:
            self._door.on_tls_failed(stream, error)
        if self._protocol is not None:
            self._protocol.connection_lost(error)
            self._protocol = None

    def writable(self) -> None:
        if self._is_paused and self._protocol is not None:
            self._is_paused = False
            self._protocol.resume_writing()

    # --- what others call ---

    def expired(self) -> None:
        """The request, or the next one, did not come in time."""
        if self._stream is None:
            return
        if self._unanswered and not self._has_ended:
            value = self._door.options.request_s
            self._reached("web.request_s", value, value)
            self._refuse(_bare(408, "Request Timeout"))
        else:
            self._stream.close()

    def drain(self) -> None:
        if self._stream is not None and not self._unanswered:
            self._stream.close()

    def wrote(self) -> None:
        """aiohttp has answered, wholly or in part."""
        self._rest()
        stream, protocol = self._stream, self._protocol
        if stream is None or protocol is None:
            return
        if not stream.is_writable and not self._is_paused:
            self._is_paused = True
            protocol.pause_writing()

    def _rest(self) -> None:
        self._unanswered, self._start = 0, b""
        self.deadline_s = self._door.deadlines.after_s(self._door.options.request_s)

    def _reached(self, name: str, value: float, observed: float) -> None:
        if self._stream is not None:
            self._door.reached(name, value, observed, self._stream.peer)

    def _refuse(self, response: bytes) -> None:
        if self._stream is not None:
            self._stream.write(response)
            self._stream.close()


class _Transport(asyncio.Transport):
    """A stream in the shape that aiohttp writes to."""

    def __init__(self, session: Session, stream: Stream) -> None:
        super().__init__()
        self._session = session
        self._stream = stream

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "peername":
                return (self._stream.peer.address, self._stream.peer.port)
            case "sslcontext" if self._stream.is_tls:
                return True
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._stream.write(bytes(data))
        self._session.wrote()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return not self._stream.is_open

    def close(self) -> None:
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._stream.unsent_octets

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The stream has its own."""


def is_tls(request: web.BaseRequest) -> bool:
    """Whether a request came encrypted."""
    transport = request.transport
    return transport is not None and bool(transport.get_extra_info("sslcontext"))
