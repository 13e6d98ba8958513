"""What the relay needs to know; `config` fills it."""

from __future__ import annotations

import ssl

import msgspec

from posthouse.net.smtp_client import Timeouts
from posthouse.relay.plan import RouteOptions


class Options(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    """Our name in EHLO."""
    timeouts: Timeouts = Timeouts()
    routes: RouteOptions = RouteOptions()
    concurrency_first: int = 2
    """Sessions to a destination at first."""
    concurrency_max: int = 20
    sessions_max: int = 500
    """To all destinations together."""
    messages_max: int = 100
    """In one session."""
    reply_lines_max: int = 100
    line_octets_max: int = 2048
    reply_octets_max: int = 4096
    """Kept of a reply."""
    dead_first_s: float = 60.0
    """How long a destination that cannot be reached is left alone; doubles while it stays so."""
    dead_max_s: float = 900.0


class TlsContexts(msgspec.Struct, frozen=True, kw_only=True):
    opportunistic: ssl.SSLContext
    """Takes any certificate (RFC 7435)."""
    verifying: ssl.SSLContext
    """Ends the handshake unless the certificate is for the host's name."""
