"""What may go wrong on the way to a place of the simulated network."""

from __future__ import annotations

import msgspec


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Of everything sent to or from one address, or one port of it. All of it may be combined."""

    is_refusing: bool = False
    """No listener: `ConnectionRefusedError`."""
    is_silent: bool = False
    """A black hole: nothing comes back, connecting ends by the caller's time limit."""
    is_unreachable: bool = False
    """`OSError` with EHOSTUNREACH."""
    latency_s: float | None = None
    """One way, in place of the network's own."""
    jitter_s: float = 0.0
    """Up to so much more, by chance; the order of octets stays."""
    octets_per_s: float | None = None
    """Each way. A slow drip is 1 octet per 100 s: 0.01, with `segment_octets_max` of 1."""
    segment_octets_max: int | None = None
    is_cut_at_random: bool = False
    """What is written at once arrives in segments of random sizes."""
    reset_after_octets: int | None = None
    """Both sides see a reset once so many octets have passed in both directions together."""
    vanish_after_octets: int | None = None
    """The line goes dead without a word (F31): later octets, and the FIN, are lost for ever."""
    datagram_loss: float = 0.0
    """Probability that a datagram, or the one that answers it, is lost."""


NONE = Faults()
