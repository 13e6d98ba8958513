"""The server's side of TLS in memory, so that a peer needs no loop that can do it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

READ_OCTETS: Final = 16_384


class TlsSide:
    """Octets of the line in, plaintext out, and back; handshake records go out by `write`."""

    def __init__(
        self, context: ssl.SSLContext, write: Callable[[bytes], None], on_done: Callable[[], None]
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._write = write
        self._on_done = on_done
        self._is_done = False

    def receive(self, octets: bytes) -> bytes:
        """Plaintext that came with them. Raises ssl.SSLError."""
        self._incoming.write(octets)
        try:
            if not self._is_done:
                self._object.do_handshake()
                self._is_done = True
                self._on_done()
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        finally:
            if self._outgoing.pending:
                self._write(self._outgoing.read())

    def send(self, plaintext: bytes) -> bytes:
        """Records to put on the line."""
        self._object.write(plaintext)
        return self._outgoing.read()

    def _read(self) -> bytes:
        parts: list[bytes] = []
        try:
            while part := self._object.read(READ_OCTETS):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return b"".join(parts)
