"""Whether a new key may be used: where the DNS binds a name to keys (DANE), only once it has shown
the new one's TLSA record for two TTLs (RFC 7671 §8.1), so that nobody holds an older answer.

The order is: make the next key; publish its record beside the present one's; wait; use it; drop the
old record. The first and the fourth step are the keeper's, the others happen in the DNS.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from posthouse.kernel.ports import DnsStatus, RecordType, Resolver, TlsaRecord
from posthouse.tls.tlsa import DANE_EE, SHA2_256, SPKI

PORTS: Final = (25, 465, 587, 143, 993, 110, 995, 443)
"""Where TLS of ours may be bound by a record."""
END_ENTITY: Final = frozenset({1, 3})
"""Usages that name our own certificate or key (RFC 6698 §2.1.1)."""
TTLS: Final = 2
TTL_S_MIN: Final = 3_600.0
"""What a resolver's cache still keeps is less than the record's own TTL; no rotation is in such a
hurry."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What the DNS shows of the next key."""

    is_ready: bool
    seen_at: datetime | None = None
    """Since when it is seen everywhere; to be given to the next look."""
    ttl_s: float = 0.0
    """The longest TTL met so far."""
    waits_for: str = ""


async def look(
    resolver: Resolver,
    name: str,
    upcoming: bytes,
    *,
    now: datetime,
    seen_at: datetime | None,
    ttl_s: float,
) -> Sight:
    """Ask for the TLSA records of every port.

    Args:
        upcoming: the data of the next key's `3 1 1` record.
        seen_at: of the last look, as is `ttl_s`.
    """
    record = TlsaRecord(usage=DANE_EE, selector=SPKI, matching=SHA2_256, data=upcoming)
    is_bound = False
    for port in PORTS:
        owner = f"_{port}._tcp.{name}"
        answer = await resolver.resolve(owner, RecordType.TLSA)
        if answer.status is DnsStatus.TEMPFAIL:
            waits = f"the DNS could not be asked for {owner} TLSA ({answer.detail})"
            return Sight(is_ready=False, seen_at=seen_at, ttl_s=ttl_s, waits_for=waits)
        if not any(item.usage in END_ENTITY for item in answer.records):
            continue
        is_bound = True
        ttl_s = max(ttl_s, answer.ttl_s)
        if record not in answer.records:
            waits = f"{owner} has no TLSA record 3 1 1 {upcoming.hex()} yet: publish it beside the"
            return Sight(is_ready=False, ttl_s=ttl_s, waits_for=f"{waits} present one")
    if not is_bound:
        return Sight(is_ready=True)
    since = now if seen_at is None else seen_at
    ready_at = since + timedelta(seconds=TTLS * max(ttl_s, TTL_S_MIN))
    if now >= ready_at:
        return Sight(is_ready=True, seen_at=since, ttl_s=ttl_s)
    waits = (
        f"its TLSA record is published; older answers are forgotten by {ready_at:%Y-%m-%d %H:%M}"
    )
    return Sight(is_ready=False, seen_at=since, ttl_s=ttl_s, waits_for=f"{waits} UTC")
