"""Settings of the gateway (section `mimesec`)."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    """Ours: the authserv-id of the results."""
    roots: tuple[bytes, ...] = ()
    """PEM: authorities that S/MIME chains have to end in."""
    is_learning: bool = True
    sends_autocrypt: bool = True
    recipients_max: int = 100
    """That one message is encrypted to."""
    open_s: float = 15.0
    memory_octets: int = 512 << 20
    """To open one message, besides what it takes itself."""
    result_octets_max: int = 100 << 20
    """Of a message that is opened, with its sections apart."""
