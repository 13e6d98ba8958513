"""What the store needs to know; `config` fills it."""

from __future__ import annotations

import msgspec

MIB = 1024 * 1024


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`folder` holds `posthouse.db`, its WAL, its lock and the folder `blobs`."""

    folder: str
    inline_octets_max: int = 16 * 1024
    """Blobs up to here lie in the database, in the same commit as their metadata."""
    segment_octets_max: int = 256 * MIB
    waiting_units_max: int = 2_000
    waiting_octets_max: int = 256 * MIB
    waiting_reads_max: int = 20_000
    batch_units_max: int = 256
    batch_octets_max: int = 64 * MIB
    busy_s: float = 20.0
    """How long a locked database is waited for before units are answered StorageBusy (F12)."""
    readers: int = 2
    wal_checkpoint_octets: int = 24 * MIB
    wal_octets_max: int = 64 * MIB
    sweep_grace_s: float = 300.0
    """How long an unowned blob or a replaced segment stays, for readers still at it."""
    poll_s: float = 0.2
    """How often another process's commits are looked for when nothing else happens."""
