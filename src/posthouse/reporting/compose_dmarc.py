"""An aggregate report: XML of RFC 9990, packed into a mail. Pure: the job has the facts."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from posthouse import __version__
from posthouse.kernel.envelope import Address
from posthouse.mailauth.results import DmarcPolicy
from posthouse.message import build
from posthouse.reporting import mail
from posthouse.reporting.mail import Packed
from posthouse.reporting.model import (
    AggregateReport,
    DkimResult,
    PublishedPolicy,
    Reason,
    Record,
    SpfResult,
)
from posthouse.reporting.options import US, Options
from posthouse.reporting.rows import DmarcFacts
from posthouse.reporting.write_xml import Element, document

NAMESPACE: Final = "urn:ietf:params:xml:ns:dmarc-2.0"
GENERATOR: Final = f"Posthouse {__version__}"
HALVINGS_MAX: Final = 20


def report(
    policy: DmarcPolicy,
    sums: Sequence[tuple[DmarcFacts, int]],
    *,
    begin_at: int,
    end_at: int,
    options: Options,
) -> AggregateReport:
    """Args:
    policy: the last one seen in the interval (RFC 9990 §3.1).
    begin_at, end_at: microseconds; the report's end is inclusive, a second before.
    """
    begin_s, end_s = begin_at // US, max(begin_at // US, end_at // US - 1)
    return AggregateReport(
        version="1.0",
        organization=options.organization,
        email=options.contact,
        report_id=mail.report_id(policy.domain, options.submitter, begin_s, end_s),
        begin_s=begin_s,
        end_s=end_s,
        generator=GENERATOR,
        policy=_published(policy),
        records=tuple(_record(facts, count) for facts, count in sums),
    )


def _published(policy: DmarcPolicy) -> PublishedPolicy:
    """With defaults for what the record does not say (RFC 9990 §3.1.1.5)."""
    p = policy.policy
    sp = policy.subdomain_policy or p
    return PublishedPolicy(
        domain=policy.domain,
        discovery_method="treewalk",
        p=p.value,
        sp=sp.value,
        np=(policy.missing_policy or sp).value,
        fo=":".join(policy.failure_options),
        adkim=policy.dkim_alignment.value,
        aspf=policy.spf_alignment.value,
        testing="y" if policy.is_testing else "n",
    )


def _record(facts: DmarcFacts, count: int) -> Record:
    spf = facts.spf
    return Record(
        source_ip=facts.source_ip,
        messages=count,
        disposition=facts.disposition.value,
        dkim="pass" if facts.is_dkim_aligned else "fail",
        spf="pass" if facts.is_spf_aligned else "fail",
        reasons=tuple(Reason(one.type.value, one.comment) for one in facts.overrides),
        header_from=facts.header_from,
        envelope_from=facts.envelope_from,
        envelope_to=facts.envelope_to,
        dkim_results=tuple(
            DkimResult(one.domain, one.selector, one.result, one.reason) for one in facts.dkim
        ),
        spf_results=(
            () if spf is None else (SpfResult(spf.domain, spf.result, "mfrom", spf.reason),)
        ),
    )


def write(report: AggregateReport) -> bytes:
    """The XML, by the schema of RFC 9990 appendix A."""
    metadata = _present(
        ("org_name", report.organization),
        ("email", report.email),
        ("extra_contact_info", report.contact or None),
        ("report_id", report.report_id),
        ("date_range", [("begin", str(report.begin_s)), ("end", str(report.end_s))]),
        ("error", "; ".join(report.errors) or None),
        ("generator", report.generator or None),
    )
    policy = report.policy
    published = _present(
        ("domain", policy.domain),
        ("discovery_method", policy.discovery_method or None),
        *((name, getattr(policy, name) or None) for name in ("p", "sp", "np", "fo")),
        *((name, getattr(policy, name) or None) for name in ("adkim", "aspf", "testing")),
    )
    content: list[Element] = [
        *_present(("version", report.version or None)),
        ("report_metadata", metadata),
        ("policy_published", published),
        *(("record", _written(record)) for record in report.records),
    ]
    return document("feedback", NAMESPACE, content)


def _written(record: Record) -> list[Element]:
    evaluated: list[Element] = [
        ("disposition", record.disposition),
        ("dkim", record.dkim),
        ("spf", record.spf),
        *(
            ("reason", _present(("type", each.type), ("comment", each.comment or None)))
            for each in record.reasons
        ),
    ]
    row: list[Element] = [
        ("source_ip", record.source_ip),
        ("count", str(record.messages)),
        ("policy_evaluated", evaluated),
    ]
    identifiers = _present(
        ("header_from", record.header_from),
        ("envelope_from", record.envelope_from),
        ("envelope_to", record.envelope_to or None),
    )
    results: list[Element] = [
        (
            "dkim",
            _present(
                ("domain", each.domain),
                ("selector", each.selector),
                ("result", each.result),
                ("human_result", each.human_result or None),
            ),
        )
        for each in record.dkim_results
    ]
    # RFC 9990 §3.1.1.11: at most one of SPF.
    results += [
        (
            "spf",
            _present(
                ("domain", each.domain),
                ("scope", each.scope or None),
                ("result", each.result),
                ("human_result", each.human_result or None),
            ),
        )
        for each in record.spf_results[:1]
    ]
    return [("row", row), ("identifiers", identifiers), ("auth_results", results)]


def _present(*elements: tuple[str, str | list[Element] | None]) -> list[Element]:
    return [(name, content) for name, content in elements if content is not None]


def packed(report: AggregateReport, octets_max: int) -> Packed:
    """gzip; with fewer records, the first ones, where all would be larger than a mail may be."""
    found = _gzip(write(report))
    whole_octets = len(found)
    for _ in range(HALVINGS_MAX):
        if len(found) <= octets_max * mail.BASE64_SHARE or len(report.records) <= 1:
            break
        kept = report.records[: len(report.records) // 2]
        report = msgspec.structs.replace(report, records=kept)
        found = _gzip(write(report))
    return Packed(octets=found, whole_octets=whole_octets)


def _gzip(octets: bytes) -> bytes:
    """Without a time, so that the same report has the same octets."""
    return gzip.compress(octets, compresslevel=9, mtime=0)


def compose(
    report: AggregateReport, file: bytes, *, to: Sequence[Address], date: datetime, options: Options
) -> bytes:
    """The whole mail around its file, unsigned. Raises build.BuildError."""
    domain, submitter = report.policy.domain, options.submitter
    name = mail.file_name(domain, submitter, report.begin_s, report.end_s, "xml.gz")
    entity = build.multipart(
        "mixed",
        [
            build.text_entity(
                f"This is a DMARC aggregate report from {submitter} about mail that claims to be"
                f" from {domain}.\nA program reads the file that comes with it (RFC 9990).\n\n"
                f"Questions: {options.contact}\n"
            ),
            build.octets_entity("application/gzip", file, file_name=name),
        ],
    )
    letter = mail.Letter(
        sender=options.from_address,
        organization=options.organization,
        to=tuple(to),
        subject=mail.subject(domain, submitter, report.report_id),
        date=date,
        message_id=f"<{report.report_id}>",
    )
    return mail.letter(letter, entity)
