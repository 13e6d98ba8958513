"""`posthouse dns check`: every look at a domain, side by side, in the order people read them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from posthouse.zone.check_clients import check_autoconfig, check_srv
from posthouse.zone.check_host import check_blocklists, check_ports, check_ptr
from posthouse.zone.check_sender import check_dkim, check_dmarc, check_spf
from posthouse.zone.check_transport import (
    check_addresses,
    check_caa,
    check_dnssec,
    check_mta_sts,
    check_mx,
    check_tls_reports,
    check_tlsa,
)
from posthouse.zone.checked import Checked, Report
from posthouse.zone.subject import Subject

Look = Callable[[Subject], Awaitable[list[Checked]]]

DNS_LOOKS: Final[tuple[Look, ...]] = (
    check_mx,
    check_addresses,
    check_ptr,
    check_spf,
    check_dkim,
    check_dmarc,
    check_tls_reports,
    check_mta_sts,
    check_tlsa,
    check_dnssec,
    check_caa,
    check_srv,
    check_autoconfig,
)
HOST_LOOKS: Final[tuple[Look, ...]] = (check_ports, check_blocklists)


async def check_domain(subject: Subject, *, is_dns_only: bool = False) -> Report:
    """Never raises for what the DNS or a host does: that is in the report.

    Args:
        is_dns_only: leave out ports, certificates and blocklists.
    """
    looks = DNS_LOOKS if is_dns_only else DNS_LOOKS + HOST_LOOKS
    found = await asyncio.gather(*(look(subject) for look in looks))
    return Report(
        domain=subject.domain,
        host=subject.host,
        checked=tuple(checked for part in found for checked in part),
    )
