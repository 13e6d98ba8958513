"""Reports that came, added up for people: per source, per way of failing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import msgspec

from posthouse.message.arf import FeedbackReport
from posthouse.reporting import keep
from posthouse.store.reports import ReportRow

NAMES_MAX: Final = 20
"""Reporters and the like that are named of one line."""


class Source(msgspec.Struct, kw_only=True):
    """Mail of one address that was judged alike."""

    source_ip: str
    name: str = ""
    """Where it leads back to the address; "" where it was not asked for or does not."""
    messages: int = 0
    spf: str
    """The aligned result."""
    dkim: str
    disposition: str
    header_from: list[str] = msgspec.field(default_factory=list)
    reporters: list[str] = msgspec.field(default_factory=list)
    reasons: list[str] = msgspec.field(default_factory=list)


class DmarcSummary(msgspec.Struct, kw_only=True):
    domain: str
    reports: int = 0
    messages: int = 0
    passed: int = 0
    left_out: int = 0
    """Reports whose mail did not prove whom it is from."""
    damaged: int = 0
    sources: list[Source] = msgspec.field(default_factory=list)


class TlsLine(msgspec.Struct, kw_only=True):
    """Sessions of one policy, or that failed in one way."""

    domain: str
    policy: str
    result: str
    """ "success", or the RFC's word for the failure."""
    sessions: int = 0
    host: str = ""
    reason: str = ""
    reporters: list[str] = msgspec.field(default_factory=list)


class TlsSummary(msgspec.Struct, kw_only=True):
    domain: str
    reports: int = 0
    sessions: int = 0
    failed: int = 0
    left_out: int = 0
    damaged: int = 0
    lines: list[TlsLine] = msgspec.field(default_factory=list)


def dmarc(domain: str, rows: Iterable[ReportRow], *, is_everything: bool = False) -> DmarcSummary:
    """Args: is_everything: also reports whose mail did not pass DMARC (RFC 9990 §3.5.2)."""
    found = DmarcSummary(domain=domain)
    sources: dict[tuple[str, str, str, str], Source] = {}
    for row in rows:
        if not (row.is_authenticated or is_everything):
            found.left_out += 1
            continue
        try:
            report = keep.aggregate(row)
        except (msgspec.MsgspecError, zlib.error):
            found.damaged += 1
            continue
        found.reports += 1
        for record in report.records:
            key = (record.source_ip, record.spf, record.dkim, record.disposition)
            source = sources.get(key)
            if source is None:
                source = sources[key] = Source(
                    source_ip=record.source_ip,
                    spf=record.spf,
                    dkim=record.dkim,
                    disposition=record.disposition,
                )
            source.messages += record.messages
            found.messages += record.messages
            if "pass" in (record.spf, record.dkim):
                found.passed += record.messages
            _name(source.header_from, record.header_from)
            _name(source.reporters, row.reporter)
            for reason in record.reasons:
                _name(source.reasons, f"{reason.type} {reason.comment}".strip())
    found.sources = sorted(sources.values(), key=lambda each: (-each.messages, each.source_ip))
    return found


def tls(domain: str, rows: Iterable[ReportRow], *, is_everything: bool = False) -> TlsSummary:
    """Args: is_everything: also unsigned reports, which RFC 8460 §3 says to ignore."""
    found = TlsSummary(domain=domain)
    lines: dict[tuple[str, str, str, str, str], TlsLine] = {}

    def add(
        where: str, policy: str, result: str, host: str, reason: str, count: int, who: str
    ) -> None:
        key = (where, policy, result, host, reason)
        line = lines.get(key)
        if line is None:
            line = lines[key] = TlsLine(
                domain=where, policy=policy, result=result, host=host, reason=reason
            )
        line.sessions += count
        _name(line.reporters, who)

    for row in rows:
        if not (row.is_authenticated or is_everything):
            found.left_out += 1
            continue
        try:
            report = keep.tls(row)
        except (msgspec.MsgspecError, zlib.error):
            found.damaged += 1
            continue
        found.reports += 1
        for part in report.policies:
            found.sessions += part.successes + part.failures
            found.failed += part.failures
            if part.successes:
                add(part.domain, part.type, "success", "", "", part.successes, row.reporter)
            for each in part.details:
                host = each.receiving_host or each.receiving_ip
                add(
                    part.domain, part.type, each.result, host, each.reason, each.sessions,
                    row.reporter,
                )  # fmt: skip
            if part.failures and not part.details:
                add(part.domain, part.type, "failure", "", "", part.failures, row.reporter)
    found.lines = sorted(
        lines.values(), key=lambda each: (each.result == "success", -each.sessions)
    )
    return found


def failures(rows: Iterable[ReportRow]) -> list[tuple[ReportRow, FeedbackReport]]:
    """The newest first."""
    found: list[tuple[ReportRow, FeedbackReport]] = []
    for row in rows:
        try:
            found.append((row, keep.failure(row)))
        except (msgspec.MsgspecError, zlib.error):
            continue
    return found[::-1]


def _name(names: list[str], name: str) -> None:
    if name and name not in names and len(names) < NAMES_MAX:
        names.append(name)
