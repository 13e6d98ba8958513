"""One connection, plain or TLS, between a transport and the protocol session that handles it.

`Stream` is the `asyncio.Protocol` of uvloop's, asyncio's and the simulator's transports. TLS runs
in a `TlsAdapter` on top of the plain transport, so that `start_tls` takes effect at once: what
arrives after it is TLS, and octets already at hand (a ClientHello behind a PROXY header) can be fed
to it.
"""

from __future__ import annotations

import fcntl
import math
import ssl
import termios
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from posthouse.kernel.errors import LocalProtocolError
from posthouse.kernel.ids import TraceId
from posthouse.kernel.ports import Transport
from posthouse.net.deadlines import Deadlines
from posthouse.net.tls_adapter import TlsAdapter, TlsFailure, TlsInfo, TlsTrouble

__all__ = [
    "Handler",
    "Peer",
    "Stream",
    "TlsFailure",
    "TlsInfo",
    "TlsStart",
    "TlsTrouble",
    "lost_words",
]

HANDSHAKE_S: Final = 20.0
CLOSE_S: Final = 30.0
"""How long octets that the peer does not take keep a closed connection alive."""


class Peer(msgspec.Struct, frozen=True):
    """An end of a connection. `address` is an IP address without scope, IPv4 never mapped."""

    address: str
    port: int


class TlsStart(msgspec.Struct, frozen=True, kw_only=True):
    """TLS from the first octet on (implicit TLS)."""

    context: ssl.SSLContext
    server_side: bool
    server_name: str | None = None
    handshake_s: float = HANDSHAKE_S


class Handler(Protocol):
    """What a protocol session gives its stream. Nothing is called after `lost`."""

    def connected(self, stream: Stream) -> None:
        """Once, before everything else but `lost`; for implicit TLS after the handshake."""
        ...

    def received(self, octets: bytes) -> None:
        """Decrypted octets, never empty."""
        ...

    def tls_started(self) -> None:
        """The handshake that `start_tls` began has succeeded."""
        ...

    def ended(self) -> None:
        """The peer will send nothing more, once. Replies can still be written: answer what is
        unanswered, then `close()`. `Stream.is_cut` tells whether TLS was cut off."""
        ...

    def lost(self, error: Exception | None) -> None:
        """The connection is gone: exactly once and last, also when `connected` never came.
        `error` is None after an orderly end, else a `TlsFailure` or an `OSError`."""
        ...

    def writable(self) -> None:
        """What waits to be sent fell below the low mark again; `is_writable` is true."""
        ...


class Stream:
    """One connection. Writing to a stream that is closing or lost does nothing."""

    __slots__ = (
        "_adapter",
        "_error",
        "_handler",
        "_has_ended",
        "_is_announced",
        "_on_lost",
        "_tls_start",
        "_transport",
        "deadline_s",
        "deadlines",
        "is_cut",
        "is_open",
        "is_writable",
        "peer",
        "trace_id",
    )

    def __init__(
        self,
        handler: Handler,
        *,
        trace_id: TraceId,
        deadlines: Deadlines,
        tls: TlsStart | None = None,
        on_lost: Callable[[Stream], None] | None = None,
    ) -> None:
        """Args:
        tls: handshake first; `handler.connected` comes when it is done.
        on_lost: called after `handler.lost`, for whoever counts connections.
        """
        self.trace_id = trace_id
        self.deadlines = deadlines
        self.deadline_s = math.inf
        """Of the handshake and of closing only; a session has its own."""
        self.peer = NOWHERE
        self.is_open = False
        """Connected, and neither closed nor aborted by us."""
        self.is_writable = True
        self.is_cut = False
        """The peer ended TLS without close_notify: the last octets may be missing."""
        self._handler = handler
        self._transport: Transport | None = None
        self._adapter: TlsAdapter | None = None
        self._tls_start = tls
        self._error: Exception | None = None
        self._on_lost = on_lost
        self._is_announced = False
        self._has_ended = False

    # --- what a session does ---

    @property
    def tls(self) -> TlsInfo | None:
        """None in plaintext and while the handshake runs."""
        adapter = self._adapter
        return adapter.info() if adapter is not None and adapter.is_established else None

    @property
    def is_tls(self) -> bool:
        """Octets written now go out encrypted."""
        return self._adapter is not None

    def peer_chain(self) -> tuple[bytes, ...]:
        """The peer's certificates as DER, leaf first; empty without TLS or certificates."""
        return self._adapter.peer_chain() if self._adapter is not None else ()

    @property
    def local(self) -> Peer:
        """Our end of the connection."""
        if self._transport is None:
            return NOWHERE
        return peer_of(self._transport.get_extra_info("sockname"))

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor; -1 in the simulator and when it is closed."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        return int(sock.fileno()) if sock is not None else -1

    @property
    def has_unread_octets(self) -> bool:
        """Whether the peer sent something that nobody has read yet; False where no socket is."""
        descriptor = self.descriptor
        if descriptor < 0:
            return False
        try:
            waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
        except OSError:
            return False
        return any(waiting)

    @property
    def unsent_octets(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def write(self, octets: bytes) -> None:
        """Send; one write to the transport for each call, so join replies before it."""
        if not self.is_open or self._transport is None:
            return
        if self._adapter is not None:
            octets = self._adapter.encrypt(octets)
        if octets:
            self._transport.write(octets)

    def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        """Octets that arrive from now on are TLS; `handler.tls_started()` or `lost` will follow.

        Write the reply to STARTTLS before. Octets that a session already received must not be
        carried over: they came in plaintext (RFC 3207 §6).
        """
        if self._adapter is not None:
            raise LocalProtocolError("TLS is already on")
        if not self.is_open:
            return
        self.deadline_s = self.deadlines.after_s(handshake_s)
        self.deadlines.add(self)
        try:
            self._adapter = TlsAdapter(context, server_side=server_side, server_name=server_name)
            if not server_side:
                self._adapter.advance()
        except TlsFailure as failure:
            self._fail(failure)
        else:
            self._flush()

    def pause_reading(self) -> None:
        if self.is_open and self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.is_open and self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what was written (and close_notify), then close; `lost` follows."""
        if not self.is_open or self._transport is None:
            return
        self.is_open = False
        if self._adapter is not None and (farewell := self._adapter.shutdown()):
            self._transport.write(farewell)
        self._close_transport(self._transport)

    def abort(self) -> None:
        """Close at once; what was not sent is dropped. `lost` follows."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def hand_over(self, handler: Handler, *, tls: TlsStart | None, octets: bytes = b"") -> None:
        """Give the stream to the session it is for, after an earlier handler looked at the first
        octets; `octets` are those it did not use. Only before TLS."""
        self._handler = handler
        self._is_announced = False
        self._tls_start = tls
        self._begin()
        if octets and self.is_open:
            self.data_received(octets)

    # --- what the transport calls ---

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport
        self.peer = peer_of(transport.get_extra_info("peername"))
        self.is_open = True
        self._begin()

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        if self._adapter is None:
            self._handler.received(data)
        else:
            self._tls_received(self._adapter, data)

    def eof_received(self) -> bool:
        """True keeps our direction open until the session closes it."""
        if self._has_ended or not self.is_open:
            return True
        if self._adapter is not None:
            if not self._adapter.is_established:
                words = "the peer hung up during the TLS handshake"
                self._fail(TlsFailure(TlsTrouble.CUT, words))
                return True
            self.is_cut = True
        self._has_ended = True
        self._handler.ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.deadlines.discard(self)
        handler, on_lost = self._handler, self._on_lost
        self._on_lost = None
        adapter = self._adapter
        if self._error is None and exc is None and adapter and not adapter.is_established:
            exc = TlsFailure(TlsTrouble.CUT, "the connection ended during the TLS handshake")
        try:
            handler.lost(self._error or exc)
        finally:
            if on_lost is not None:
                on_lost(self)

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        if self.is_open and self._is_announced:
            self._handler.writable()

    def expired(self) -> None:
        """The handshake or the closing took too long."""
        if self.is_open and self._adapter is not None:
            self._error = TlsFailure(TlsTrouble.TIMEOUT, "the TLS handshake took too long")
        self.abort()

    # --- inside ---

    def _begin(self) -> None:
        start = self._tls_start
        if start is None:
            self._is_announced = True
            self._handler.connected(self)
            return
        self._tls_start = None
        self.start_tls(
            start.context,
            server_side=start.server_side,
            server_name=start.server_name,
            handshake_s=start.handshake_s,
        )

    def _tls_received(self, adapter: TlsAdapter, data: bytes) -> None:
        was_established = adapter.is_established
        try:
            plain = adapter.receive(data)
        except TlsFailure as failure:
            self._fail(failure)
            return
        if not was_established and adapter.is_established:
            self._established(adapter)
        if plain and self.is_open:
            self._handler.received(plain)
        if adapter.has_ended and not self._has_ended and self.is_open:
            self._has_ended = True
            self._handler.ended()
        self._flush()

    def _established(self, adapter: TlsAdapter) -> None:
        """The server's tickets stay in the adapter, to leave in one write with the greeting."""
        self.deadline_s = math.inf
        self.deadlines.discard(self)
        if adapter.early:
            early, adapter.early = adapter.early, b""
            self.write(early)
        if self._is_announced:
            self._handler.tls_started()
        else:
            self._is_announced = True
            self._handler.connected(self)

    def _flush(self) -> None:
        if self.is_open and self._adapter is not None and self._transport is not None:
            octets = self._adapter.take_outgoing()
            if octets:
                self._transport.write(octets)

    def _fail(self, failure: TlsFailure) -> None:
        """Send the alert that OpenSSL has prepared and close."""
        self._error = failure
        self._flush()
        self.is_open = False
        if self._transport is not None:
            self._close_transport(self._transport)

    def _close_transport(self, transport: Transport) -> None:
        if transport.get_write_buffer_size():
            self.deadline_s = self.deadlines.after_s(CLOSE_S)
            self.deadlines.add(self)
        else:
            self.deadline_s = math.inf
        transport.close()


NOWHERE: Final = Peer("", 0)


def lost_words(error: Exception | None) -> str:
    """Why a connection is gone, for the log and for people; "" after an orderly end."""
    if error is None:
        return ""
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__


def peer_of(name: object) -> Peer:
    """A socket name as `Peer`; `NOWHERE` for what is no IP socket."""
    if not isinstance(name, tuple) or len(name) < 2:
        return NOWHERE
    address = str(name[0]).partition("%")[0]
    if address.startswith("::ffff:") and "." in address:
        address = address[len("::ffff:") :]
    return Peer(address, int(name[1]))
