"""Where the TLSA records of a host are, and whether DNSSEC proves them (RFC 7672 §2.2).

Asked only where the MX records and the host's addresses are proven: elsewhere an answer could be
anybody's, and some name servers of unsigned zones break on the question (RFC 7672 §2.2.2). A
question that fails makes the host unusable; nothing is ever taken for "there is no record" that the
DNS did not say (RFC 7672 §2.1.2).
"""

from __future__ import annotations

import msgspec

from posthouse.kernel.ports import DnsStatus, RecordType, Resolver, TlsaRecord
from posthouse.relay.plan import Host
from posthouse.tls.dane import usable


class Dane(msgspec.Struct, frozen=True, kw_only=True):
    """What the DNS says of one host."""

    base: str = ""
    """The TLSA base domain (RFC 7672 §2.2.3); "" where DANE does not apply."""
    records: tuple[TlsaRecord, ...] = ()
    """Usable ones."""
    trouble: str = ""
    """A question failed, so the host may not be used."""


NOT_APPLICABLE = Dane()


async def look_up(host: Host, resolver: Resolver) -> Dane:
    """The TLSA records of a host whose name is proven or was given by a person."""
    if host.is_authenticated:
        # Proven to the end: the expanded name first, then the one that was asked for.
        candidates = [host.canonical, host.name] if host.canonical else [host.name]
    elif host.canonical:
        # An alias that leads into an unsigned zone; the alias itself may be signed.
        alias = await resolver.resolve(host.name, RecordType.CNAME)
        if alias.status is DnsStatus.TEMPFAIL:
            return _failed(f"CNAME of {host.name}", alias.detail)
        if not alias.is_authenticated:
            return NOT_APPLICABLE
        candidates = [host.name]
    else:
        return NOT_APPLICABLE
    for candidate in candidates:
        name = f"_{host.port}._tcp.{candidate}"
        answer = await resolver.resolve(name, RecordType.TLSA)
        if answer.status is DnsStatus.TEMPFAIL:
            return _failed(f"TLSA of {name}", answer.detail)
        if answer.status is DnsStatus.FOUND and answer.is_authenticated:
            return Dane(base=candidate, records=usable(answer.records))
    return NOT_APPLICABLE


def _failed(asked: str, detail: str) -> Dane:
    return Dane(trouble=f"looking up {asked} failed: {detail or 'no answer'}")
