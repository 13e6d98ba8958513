"""What a ClientHello offers by ALPN (RFC 7301 §3.1): `ssl` does not tell it when a certificate is
chosen. ACME's tls-alpn-01 has to know it (RFC 8737 §3); `tls.certificates` asks.
"""

from __future__ import annotations

from typing import Final

HANDSHAKE: Final = 22  # record type, RFC 8446 §5.1
CLIENT_HELLO: Final = 1  # handshake type, RFC 8446 §4
ALPN: Final = 16  # extension type, RFC 7301 §6
OCTETS_MAX: Final = 32_768
"""Looked at; the largest honest ones, with post-quantum keys, have two thousand."""


class _Cut(Exception):
    """The octets end too early."""


class _Octets:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._octets[self._at : self._at + count]
        if len(piece) < count:
            raise _Cut
        self._at += count
        return piece

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets))

    def vector(self, length_octets: int) -> bytes:
        """RFC 8446 §3.4: a length, then so many octets."""
        return self.take(self.number(length_octets))

    def has_more(self) -> bool:
        return self._at < len(self._octets)


def alpn_offers(octets: bytes) -> tuple[bytes, ...]:
    """The protocols offered in a ClientHello as it came by the wire, records and all.

    () when it offers none, is not complete or makes no sense: OpenSSL judges that.
    """
    try:
        return _offers(_Octets(_hello(octets[:OCTETS_MAX])))
    except _Cut:
        return ()


def _hello(octets: bytes) -> bytes:
    """The body of the first handshake message, which may be cut over several records."""
    records = _Octets(octets)
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        kind = records.number(1)
        records.take(2)  # version
        fragment = records.vector(2)
        if kind != HANDSHAKE or not fragment:
            raise _Cut
        message += fragment
    if message[0] != CLIENT_HELLO:
        raise _Cut
    return message[4 : 4 + int.from_bytes(message[1:4])]


def _offers(hello: _Octets) -> tuple[bytes, ...]:
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    extensions = _Octets(hello.vector(2))
    while extensions.has_more():
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == ALPN:
            return _names(_Octets(_Octets(content).vector(2)))
    return ()


def _names(names: _Octets) -> tuple[bytes, ...]:
    found = []
    while names.has_more():
        found.append(names.vector(1))
    return tuple(found)
