"""What reception and submission need to know; `config` fills it."""

from __future__ import annotations

import msgspec

from posthouse.protocol.smtp.limits import Limits, Mode, ServerHello

MIB = 1024 * 1024


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of one service: "mx", "submission", "submissions" or "lmtp"."""

    service: str
    host: str
    """Our name in greetings, Received fields and added Message-IDs."""
    mode: Mode
    hello: ServerHello
    limits: Limits
    stressed_limits: Limits | None = None
    idle_s: float = 300.0
    stressed_idle_s: float = 10.0
    command_s: float = 60.0
    data_idle_s: float = 180.0
    data_rate_min: int = 500
    """Octets a second, looked at over 60 s."""
    login_s: float = 120.0
    session_s: float = 3600.0
    output_octets_max: int = 64 * 1024
    """Replies left unread by the peer before nothing more is taken from it."""
    write_s: float = 300.0
    """How long they may stay so, before the connection is cut."""
    handshake_s: float = 20.0
    hops_max: int = 50
    header_octets_max: int = 256 * 1024
    field_octets_max: int = 100 * 1024
    fields_max: int = 1_000
    subaddress_separator: str = "+"
    relay_networks: tuple[str, ...] = ()
    """Networks whose hosts may relay without logging in."""
    free_octets_min: int = 500 * MIB
    free_inodes_min: int = 1_000
    queue_recipients_max: int = 1_000_000
    lifetime_s: float = 5 * 86_400.0
