"""What reporting is told by the config."""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.kernel.envelope import Address

US: Final = 1_000_000
MIB: Final = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a report that came is looked at (RELIABILITY: "Aggregate report in")."""

    packed_octets_max: int = 10 * MIB
    unpacked_octets_max: int = 100 * MIB
    ratio_max: int = 200
    """Unpacked to packed."""
    records_max: int = 100_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    """Our name: the MTA that reports."""
    from_address: Address
    """From and reverse-path of reports; its domain has to have a DKIM key."""
    contact: str
    """An address, for people who have a question about a report."""
    organization: str
    sends_dmarc: bool = True
    sends_tls: bool = True
    sends_failures: bool = False
    failures_per_hour: int = 10
    """To the domains of one organization."""
    per_organization_max: int = 20
    """Reports of one interval to the domains of one organization."""
    interval_s: float = 86_400.0
    uris_max: int = 10
    mail_octets_max: int = 10 * MIB
    rows_max: int = 20_000
    """Sums in memory between two flushes."""
    results_max: int = 500_000
    """Sums of one kind in the store."""
    records_max: int = 100_000
    """Of one report that we make; the smallest sums are left out beyond that."""
    keep_s: float = 400 * 86_400.0
    stored_max: int = 100_000
    unproven_max: int = 10_000
    """Of the stored ones: unread, or of nobody knows whom."""
    limits: Limits = Limits()

    @property
    def interval_us(self) -> int:
        return int(self.interval_s) * US

    @property
    def submitter(self) -> str:
        """The domain that reports name as the one that reports."""
        return self.contact.rpartition("@")[2]
