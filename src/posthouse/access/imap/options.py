"""What IMAP needs to know; `config` fills it."""

from __future__ import annotations

import msgspec

from posthouse.mailbox.names import Limits as NameLimits
from posthouse.protocol.imap.limits import MIB, Limits


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of one IMAP service; listeners with and without implicit TLS share it."""

    limits: Limits = Limits()
    names: NameLimits = NameLimits()
    keywords_max: int = 500
    """Of one mailbox."""
    sessions_max: int = 50
    """Of one account."""
    login_s: float = 120.0
    idle_s: float = 1_800.0
    handshake_s: float = 20.0
    attempts_max: int = 3
    """Failed logins before the session is closed."""
    output_octets_max: int = MIB
    """Left unread by the client before a command waits."""
    output_s: float = 300.0
    """How long it waits then, before the connection is cut."""
    kept_octets_max: int = 64 * MIB
    """Of messages that are being read in parts, by all sessions together."""
    is_plaintext_login_allowed: bool = False
    """For everybody: only for tests (P12)."""
    plaintext_networks: tuple[str, ...] = ()
    """`auth.plaintext_networks`: from there a login without TLS is taken."""
