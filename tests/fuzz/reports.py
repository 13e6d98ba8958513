"""Targets of reports about authentication and transport, of transport policies, and of what the
servers of others answer to us: TLSA records with certificates, dynamic updates."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime

import dns.name
import dns.tsig
import dns.update

from posthouse.dns.update import Rfc2136Updater, UpdateOptions
from posthouse.kernel.ports import DnsUpdateFailed, TlsaRecord
from posthouse.kernel.secret import Secret
from posthouse.message.arf import FeedbackReport
from posthouse.relay.sts_policy import BadPolicy, parse_policy, record_id
from posthouse.reporting import tlsrpt_record
from posthouse.reporting.model import AggregateReport, TlsReport, Unread
from posthouse.reporting.options import Limits
from posthouse.reporting.read import read_report
from posthouse.sim.chance import SeededChance
from posthouse.sim.dns import ZoneResolver, Zones
from posthouse.tls import dane
from tests.fuzz import report_samples as samples
from tests.fuzz.target import Target

NAMES = ("mail.example.org", "example.org")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
MIB = 1024 * 1024
UNPACKED_OCTETS_MAX = 8 * MIB
"""What a short input may unpack to, so that a run stays short."""


def report(octets: bytes) -> Hashable:
    """In a mail or as a file of any kind."""
    limits = Limits(unpacked_octets_max=UNPACKED_OCTETS_MAX, records_max=10_000)
    found = read_report(octets, limits)
    match found:
        case Unread(reason=reason):
            assert reason.isprintable() or "line" in reason, reason
            return reason[:24]
        case AggregateReport():
            assert all(record.messages >= 0 for record in found.records)
            return "dmarc", len(found.records), len(found.errors), found.policy.p
        case TlsReport():
            return "tls", len(found.policies), sum(len(one.details) for one in found.policies)
        case FeedbackReport():
            return found.feedback_type[:12], found.auth_failure[:12], len(found.reported_domains)


def tlsrpt(octets: bytes) -> Hashable:
    found = tlsrpt_record.parse(octets)
    assert len(found.targets) <= tlsrpt_record.URIS_MAX
    assert bool(found.targets) != bool(found.reason)
    for target in found.targets:
        assert target.uri.isprintable()
    return len(found.targets), len(found.ignored), found.reason[:20]


def mta_sts_record(octets: bytes) -> Hashable:
    """Each line a TXT record."""
    found = record_id(octets.split(b"\n"))
    assert found is None or (found.isascii() and found.isalnum() and len(found) <= 32)
    return found


def mta_sts_policy(octets: bytes) -> Hashable:
    try:
        policy = parse_policy(octets)
    except BadPolicy as problem:
        assert str(problem).isprintable()
        return str(problem)[:24]
    assert policy.mx or policy.mode.value == "none"
    for pattern in policy.mx:  # H47: never for everything
        assert pattern.removeprefix("*.") and "*" not in pattern.removeprefix("*.")
        assert policy.allows(pattern.replace("*", "a"))
        assert not policy.allows(f"a.b.{pattern.removeprefix('*.')}") or len(policy.mx) > 1
    return policy.mode, len(policy.mx), policy.max_age_s


def tlsa(octets: bytes) -> Hashable:
    """TLSA records and the chain that a host shows: pieces with their length in two octets."""
    records, chain, at = [], [], 0
    while at + 2 <= len(octets) and len(records) + len(chain) < 1000:
        size = int.from_bytes(octets[at : at + 2])
        piece = octets[at + 2 : at + 2 + size]
        at += 2 + size
        if len(piece) > 3 and piece[0] < 8:
            records.append(TlsaRecord(piece[0], piece[1], piece[2], piece[3:]))
        else:
            chain.append(piece)
    usable = dane.usable(records)
    assert len(usable) <= dane.USABLE_MAX
    found = dane.verify(usable, chain, NAMES, NOW)
    return len(usable), found.mismatch, found.words[:24]


def dns_update(octets: bytes) -> Hashable:
    """What the primary server answers to an update of ours. Nobody can say that it is done."""
    update = dns.update.UpdateMessage(dns.name.from_text("example.org"), keyring=KEY, id=7)
    update.add("_acme-challenge.example.org.", 60, "TXT", '"x"')
    update.to_wire()
    try:
        UPDATER._judge(octets[:65_535], update, "the server", "_acme-challenge.example.org")
    except DnsUpdateFailed as failed:
        return str(failed)[:60]
    raise AssertionError("an answer without our key was believed")


OPTIONS = UpdateOptions(server=("127.0.0.1", 53), key_name="k.", key=Secret("c2VjcmV0"))
KEY = dns.tsig.Key(dns.name.from_text("k."), "c2VjcmV0", dns.name.from_text("hmac-sha256"))
UPDATER = Rfc2136Updater(
    OPTIONS,
    network=None,  # type: ignore[arg-type]  # nothing is sent
    resolver=ZoneResolver(Zones()),
    chance=SeededChance(1),
)

TARGETS = (
    Target("report", report, samples.REPORTS),
    Target("tlsrpt-record", tlsrpt, samples.TLSRPT_RECORDS),
    Target("mta-sts-record", mta_sts_record, samples.STS_RECORDS),
    Target("mta-sts-policy", mta_sts_policy, samples.STS_POLICIES),
    Target("tlsa", tlsa, samples.tlsa()),
    Target("dns-update", dns_update, samples.UPDATE_ANSWERS),
)
