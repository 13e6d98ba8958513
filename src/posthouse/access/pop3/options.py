"""What POP3 needs to know; `config` fills it."""

from __future__ import annotations

import msgspec

from posthouse.protocol.pop3.server import Limits

MIB = 1024 * 1024


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of one POP3 service; listeners with and without implicit TLS share it."""

    limits: Limits = Limits()
    login_s: float = 120.0
    idle_s: float = 600.0  # RFC 1939 §3: no less
    handshake_s: float = 20.0
    attempts_max: int = 3
    """Failed logins before the session is closed."""
    output_octets_max: int = MIB
    """`imap.output_octets_max`: left unread by the client before we wait."""
    output_s: float = 300.0
    """How long we wait then, before the connection is cut."""
    is_plaintext_login_allowed: bool = False
    """For everybody: only for tests (P12)."""
    plaintext_networks: tuple[str, ...] = ()
    """`auth.plaintext_networks`: from there a login without TLS is taken."""
