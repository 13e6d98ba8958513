"""What one SMTP session may use, and what its EHLO offers. Shared by all sessions of a listener."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Final

import msgspec

OUTBOX_OCTETS_MAX: Final = 65_536
"""Replies waiting to be written; beyond it nothing more is parsed until they are taken."""
INBOX_OCTETS_MAX: Final = 65_536
"""Octets not yet parsed at which `ServerSession.is_hungry` asks the driver to stop reading."""
DRAIN_OCTETS_MAX: Final = 1 << 30
"""Refused content that is read and dropped before the session is closed instead."""
AUTH_ROUNDS_MAX: Final = 8
"""Challenges in one AUTH exchange."""
EXCESS_RECIPIENTS_MAX: Final = 10_000
"""RCPT commands beyond `recipients_max` in one transaction that are still answered."""
LIMITS_HIT_MAX: Final = 100
"""Names of limits remembered for the metrics until they are taken."""


class Mode(Enum):
    """What kind of listener the session came in by."""

    MX = "mx"  # port 25, RFC 5321
    SUBMISSION = "submission"  # ports 587 and 465, RFC 6409
    LMTP = "lmtp"  # RFC 2033


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one session. A session's `limits` may be replaced while it runs (stress)."""

    message_octets_max: int = 50 * 1024 * 1024
    command_octets_max: int = 2048  # CRLF included
    auth_octets_max: int = 12_288  # CRLF included, RFC 4954 §4
    recipients_max: int = 1000
    unknown_recipients_soft: int = 10
    unknown_recipients_max: int = 25
    errors_soft: int = 5
    errors_max: int = 15
    soft_delay_s: float = 1.0
    junk_commands_max: int = 50
    transactions_max: int = 100
    auth_attempts_max: int = 3
    text_line_octets_max: int = 100_000


class BareNewlines(Enum):
    """What becomes of content with a CR or LF that is not part of a CRLF."""

    REFUSE = "refuse"  # 550 5.6.0 after the real end of the content
    NORMALIZE = "normalize"  # a bare LF is made CRLF, a bare CR a space
    ALLOW = "allow"  # kept as it came


class ServerHello(msgspec.Struct, frozen=True, kw_only=True):
    """Who we say we are and what EHLO offers."""

    host: str
    software: str = "Posthouse"
    is_pipelining: bool = True
    is_eight_bit: bool = True
    is_smtputf8: bool = True
    is_chunking: bool = True
    is_binary: bool = False
    """BINARYMIME, RFC 3030 §3. Off: what is taken this way can be relayed to few."""
    is_dsn: bool = True
    is_starttls: bool = True
    is_limits: bool = True
    is_requiretls: bool = True
    """REQUIRETLS, in sessions with TLS: what is taken with it is handed on by verified TLS only."""
    mechanisms: tuple[str, ...] = ()
    """SASL mechanisms in upper case, in the order to offer them; empty is no AUTH at all."""
    is_auth_without_tls: bool = False
    bare_newlines: BareNewlines = BareNewlines.REFUSE

    def greeting(self, mode: Mode) -> bytes:
        protocol = "LMTP" if mode is Mode.LMTP else "ESMTP"
        return f"220 {self.host} {protocol} {self.software}\r\n".encode()


@lru_cache(maxsize=64)
def ehlo_octets(
    hello: ServerHello,
    limits: Limits,
    *,
    is_tls: bool,
    is_authenticated: bool,
) -> bytes:
    """The reply to EHLO or LHLO (RFC 5321 §4.1.1.1); made once for each combination."""
    auth = bool(hello.mechanisms) and not is_authenticated and (is_tls or hello.is_auth_without_tls)
    lines = (
        (True, hello.host),
        (hello.is_pipelining, "PIPELINING"),
        (True, f"SIZE {limits.message_octets_max}"),
        (hello.is_starttls and not is_tls, "STARTTLS"),
        (auth, "AUTH " + " ".join(hello.mechanisms)),
        (True, "ENHANCEDSTATUSCODES"),
        (hello.is_eight_bit, "8BITMIME"),
        (hello.is_dsn, "DSN"),
        (hello.is_smtputf8, "SMTPUTF8"),
        (hello.is_chunking, "CHUNKING"),
        (hello.is_binary, "BINARYMIME"),
        (hello.is_requiretls and is_tls, "REQUIRETLS"),  # RFC 8689 §2
        (
            hello.is_limits,
            f"LIMITS RCPTMAX={limits.recipients_max} MAILMAX={limits.transactions_max}",
        ),
    )
    offered = [f"250-{text}\r\n" for is_on, text in lines if is_on]
    return ("".join(offered) + "250 HELP\r\n").encode()
