"""Where a server session stands and what it takes there (RFC 5321 §4.1.4, RFC 3030 §4.2)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    NEW = auto()  # no greeting sent
    GREETED = auto()  # our 220 is sent, no EHLO yet
    READY = auto()  # EHLO accepted, no transaction open
    MAIL = auto()  # reverse-path accepted
    RCPT = auto()  # at least one forward-path accepted
    CHUNKS = auto()  # between two chunks of one message
    CONTENT = auto()  # 354 is sent, the dot has not come
    CHUNK = auto()  # the octets of a chunk are coming
    AUTH = auto()  # a SASL exchange is going on
    HANDSHAKE = auto()  # STARTTLS accepted, TLS is not up yet
    ENDED = auto()  # the last reply is in the outbox


_ALWAYS: Final = frozenset(
    (b"EHLO", b"HELO", b"LHLO", b"NOOP", b"RSET", b"VRFY", b"EXPN", b"HELP", b"QUIT")
)
# What each phase allows; a known command out of turn earns 503 (RFC 5321 §4.1.4).
ALLOWED: Final = {
    Phase.GREETED: _ALWAYS,
    Phase.READY: _ALWAYS | {b"MAIL", b"STARTTLS", b"AUTH"},
    Phase.MAIL: _ALWAYS | {b"RCPT"},
    Phase.RCPT: _ALWAYS | {b"RCPT", b"DATA", b"BDAT"},
    Phase.CHUNKS: _ALWAYS | {b"BDAT"},
}
# First words of other protocols; whoever sends one shall not reach the next line.
FOREIGN_VERBS: Final = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
) | {b"PRI", b"PROXY", b"HOST:"}
_FIRST_OCTETS_OF_TLS: Final = frozenset((0x16, 0x80))


def is_foreign(octets: bytes, at: int) -> bool:
    """Whether a connection begins as TLS does, which has no lines to wait for."""
    return octets[at] in _FIRST_OCTETS_OF_TLS
