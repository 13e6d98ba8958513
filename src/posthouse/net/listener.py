"""A port that accepts: limits and PROXY header first, then a session for each connection.

`Listener` is what `app` makes for each configured port. It binds through the `Network` port, so
the simulator's network serves as well. Refused connections hear one greeting line of their service
and are closed; none is left waiting in the backlog.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Clock, Listening, Network
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import Connections, Limit, LimitReached, Networks
from posthouse.net.proxy import ProxyError, parse_proxy
from posthouse.net.stream import HANDSHAKE_S, Handler, Peer, Stream, TlsStart

PROXY_HEADER_S: Final = 10.0
DRAIN_S: Final = 30.0
DRAIN_LOOK_S: Final = 0.1
LAST_WORDS_S: Final = 1.0
"""After `drain_s`, for what was already written; then connections are cut."""


class ServerHandler(Handler, Protocol):
    """A session that a listener can ask to finish."""

    def drain(self) -> None:
        """The process stops: finish the transaction at hand, say goodbye (421, BYE), close."""
        ...


class Service(Protocol):
    """What stands behind a listener."""

    def session(self, stream: Stream) -> ServerHandler:
        """A session for this connection; `connected` follows, after any implicit TLS."""
        ...

    def refusal(self, limit: Limit) -> bytes:
        """The greeting that refuses, such as `421 4.7.0 …` or `* BYE [LIMIT] …`, with CRLF."""
        ...

    def turned_away(self, peer: Peer) -> bytes | None:
        """A greeting that refuses this peer for a reason of the service (a ban, a full writer
        queue); None to let it in."""
        ...


class ListenerOptions(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """For logs and metrics: "smtp", "submissions", "imaps"."""
    address: str
    port: int
    proxy_networks: tuple[str, ...] = ()
    """Front proxies; from them a PROXY header is required, from others it is never read."""
    handshake_s: float = HANDSHAKE_S
    descriptors_max: int | None = None
    """RLIMIT_NOFILE; the last `descriptor_reserve()` numbers are only used to refuse (F21)."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that no session was made for."""

    listener: str
    peer: Peer
    reached: LimitReached | None
    """None when the service turned it away or its PROXY header was wrong."""
    reason: str


def descriptor_reserve(descriptors_max: int) -> int:
    """Descriptors that connections leave alone, for refusing, for files and for DNS."""
    return max(4, min(64, descriptors_max // 8))


class Listener:
    """One bound port and its live connections."""

    def __init__(
        self,
        options: ListenerOptions,
        service: Service,
        *,
        clock: Clock,
        deadlines: Deadlines,
        connections: Connections,
        trace_ids: Callable[[], TraceId],
        tls: Callable[[], ssl.SSLContext] | None = None,
        on_refused: Callable[[Refused], None] | None = None,
    ) -> None:
        """Args:
        connections: the counts, shared by the listeners of one service.
        tls: the present context for implicit TLS, asked at each connection; None for plain text.
        on_refused: for log and metrics.
        """
        self.options = options
        self._service = service
        self._clock = clock
        self._deadlines = deadlines
        self._connections = connections
        self._trace_ids = trace_ids
        self._tls = tls
        self._on_refused = on_refused
        self._trusted = Networks(options.proxy_networks)
        self._listening: Listening | None = None
        self._live: dict[Stream, ServerHandler] = {}
        self._arriving: set[Stream] = set()
        self._counted: dict[Stream, str] = {}
        self._forget_hook = self._forget  # one bound method for all streams
        self._descriptor_max: int | None = None
        if options.descriptors_max is not None:
            reserve = descriptor_reserve(options.descriptors_max)
            self._descriptor_max = options.descriptors_max - reserve

    @property
    def address(self) -> tuple[str, int]:
        """What was bound, with the real port."""
        if self._listening is None:
            raise LocalProtocolError("the listener is not open")
        return self._listening.address

    @property
    def sessions(self) -> int:
        """Live connections with a session."""
        return len(self._live)

    async def open(self, network: Network) -> None:
        """Bind and accept. Raises `UserError` in plain words when the port cannot be had."""
        self._listening = await network.listen(
            self._arrival, self.options.address, self.options.port
        )

    def close(self) -> None:
        """Accept no more; connections already open go on."""
        if self._listening is not None:
            self._listening.close()

    async def drain(self, drain_s: float = DRAIN_S) -> int:
        """Accept no more, let the sessions finish, then close what is left.

        Returns:
            How many connections had to be closed after `drain_s`.
        """
        self.close()
        for stream in list(self._arriving):
            stream.abort()
        for handler in list(self._live.values()):
            handler.drain()
        await self._all_gone(drain_s)
        late = list(self._live)
        for stream in late:
            stream.close()
        await self._all_gone(LAST_WORDS_S)
        for stream in list(self._live):
            stream.abort()
        return len(late)

    async def _all_gone(self, within_s: float) -> None:
        end_s = self._clock.monotonic_s() + within_s
        while (self._live or self._arriving) and self._clock.monotonic_s() < end_s:
            await self._clock.sleep(DRAIN_LOOK_S)

    # --- a connection arrives ---

    def _arrival(self) -> Stream:
        return Stream(
            _Arrival(self),
            trace_id=self._trace_ids(),
            deadlines=self._deadlines,
            on_lost=self._forget_hook,
        )

    def _arrived(self, stream: Stream, arrival: _Arrival) -> None:
        self._arriving.add(stream)
        if self._is_out_of_descriptors(stream):
            value = self._descriptor_max or 0
            reached = LimitReached(limit=Limit.DESCRIPTORS, value=value, observed=value + 1)
            self._refuse(stream, reached)
        elif stream.peer.address in self._trusted:
            arrival.read_header(self._deadlines)
        else:
            self._admit(stream, b"")

    def _admit(self, stream: Stream, octets: bytes) -> None:
        peer = stream.peer
        reached = self._connections.admit(peer.address, self._clock.monotonic_s())
        if reached is not None:
            self._refuse(stream, reached)
            return
        self._counted[stream] = peer.address
        if (greeting := self._service.turned_away(peer)) is not None:
            self._turn_away(stream, greeting, None, "turned away")
            return
        try:
            handler = self._service.session(stream)
        except Exception:
            stream.abort()  # a bug; without this the peer would wait for a greeting
            raise
        self._arriving.discard(stream)
        self._live[stream] = handler
        tls = None
        if self._tls is not None:
            tls = TlsStart(
                context=self._tls(), server_side=True, handshake_s=self.options.handshake_s
            )
        stream.hand_over(handler, tls=tls, octets=octets)

    def _refuse(self, stream: Stream, reached: LimitReached) -> None:
        greeting = self._service.refusal(reached.limit)
        self._turn_away(stream, greeting, reached, reached.limit.value)

    def _turn_away(
        self, stream: Stream, greeting: bytes, reached: LimitReached | None, reason: str
    ) -> None:
        if self._tls is None:  # a client that waits for a ServerHello cannot read a greeting
            stream.write(greeting)
        stream.close()
        if self._on_refused is not None:
            name = self.options.name
            refused = Refused(listener=name, peer=stream.peer, reached=reached, reason=reason)
            self._on_refused(refused)

    def _is_out_of_descriptors(self, stream: Stream) -> bool:
        """Whether this connection took a descriptor of the reserve (F21).

        Descriptors are given out lowest first, so a high number means that the table is nearly
        full, by whatever. Past that the loops themselves neither spin nor stop: they close what
        they cannot keep (uvloop) or wait a second (asyncio).
        """
        return self._descriptor_max is not None and stream.descriptor >= self._descriptor_max

    def _forget(self, stream: Stream) -> None:
        self._arriving.discard(stream)
        self._live.pop(stream, None)
        address = self._counted.pop(stream, None)
        if address is not None:
            self._connections.release(address)


class _Arrival:
    """The handler of a connection until its session is known; reads the PROXY header."""

    __slots__ = ("_header", "_listener", "_stream", "deadline_s")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._stream: Stream | None = None
        self._header = b""
        self.deadline_s = math.inf

    def connected(self, stream: Stream) -> None:
        self._stream = stream
        self._listener._arrived(stream, self)

    def read_header(self, deadlines: Deadlines) -> None:
        self.deadline_s = deadlines.after_s(PROXY_HEADER_S)
        deadlines.add(self)

    def received(self, octets: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        self._header += octets
        try:
            header = parse_proxy(self._header)
        except ProxyError as error:
            stream.deadlines.discard(self)
            self._listener._turn_away(stream, b"", None, str(error))
            return
        if header is None:
            return
        stream.deadlines.discard(self)
        if header.source is not None:
            stream.peer = Peer(*header.source)
        self._stream = None
        self._listener._admit(stream, self._header[header.octets :])

    def expired(self) -> None:
        if self._stream is not None:
            self._stream.abort()

    def tls_started(self) -> None:
        """Never: TLS begins after the hand-over."""

    def ended(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def lost(self, error: Exception | None) -> None:
        if self._stream is not None:
            self._stream.deadlines.discard(self)

    def writable(self) -> None:
        """Nothing waits for it."""
