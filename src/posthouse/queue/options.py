"""What the queue's runner may be told, and what it counts for metrics."""

from __future__ import annotations

import msgspec

from posthouse.queue import schedule, second_look, window
from posthouse.queue.item import Reason


class Options(msgspec.Struct, frozen=True, kw_only=True):
    owner: str
    """Names this process among all that share the store, the same after a restart."""
    lease_s: float = 120.0
    retention_s: float = 30 * 86_400.0
    """How long messages that have had their end are remembered for `explain`."""
    scan_domains: int = 500
    """Domains looked at in one read."""
    scan_gap_s: float = 0.05
    scan_share: float = 0.1
    """Part of the time that scans may take."""
    sweep_s: float = 3600.0
    """How often recipients that no attempt reached, and old messages, are looked for."""
    fault_pause_s: float = 1.0
    inline_octets_max: int = 64 * 1024
    """Messages up to here are read while they are leased, larger ones by themselves."""
    content_octets_max: int = 64 * 1024 * 1024
    """Large messages in memory at once; one is always allowed."""
    hot_octets_max: int = 32 * 1024 * 1024
    schedule: schedule.Options = schedule.Options()
    window: window.Options = window.Options()
    second_look: second_look.Options = second_look.Options()


class Counts:
    """What the runner did since it was made, for metrics."""

    __slots__ = ("clock_jumps", "endings", "leased", "notices", "reclaimed", "refused", "turns")

    def __init__(self) -> None:
        self.turns = 0
        self.leased = 0
        self.endings: dict[Reason, int] = {}
        self.refused = 0  # outcomes that came after their lease was lost (F17)
        self.reclaimed = 0  # leases of dead processes: each may be a repeat (P4)
        self.notices = 0
        self.clock_jumps = 0
