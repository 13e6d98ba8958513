"""A TLS report: JSON of RFC 8460 §4.4, for a mail or for HTTPS. Pure: the job has the facts."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.message import build
from posthouse.reporting import mail
from posthouse.reporting.mail import Packed
from posthouse.reporting.model import TlsFailure, TlsPolicy, TlsReport
from posthouse.reporting.options import US, Options
from posthouse.reporting.rows import TlsFacts, TlsPolicyFacts

MEDIA_TYPE: Final = "application/tlsrpt+gzip"
HALVINGS_MAX: Final = 20


def report(
    domain: str,
    sums: Sequence[tuple[TlsPolicyFacts, TlsFacts, int]],
    *,
    begin_at: int,
    end_at: int,
    options: Options,
) -> TlsReport:
    """One entry for each policy that was applied, with what came of sessions under it."""
    begin_s, end_s = begin_at // US, max(begin_at // US, end_at // US - 1)
    grouped: dict[TlsPolicyFacts, list[tuple[TlsFacts, int]]] = {}
    for policy, facts, count in sums:
        grouped.setdefault(policy, []).append((facts, count))
    return TlsReport(
        organization=options.organization,
        contact=options.contact,
        report_id=mail.report_id(domain, options.submitter, begin_s, end_s),
        begin_s=begin_s,
        end_s=end_s,
        policies=tuple(_policy(policy, found) for policy, found in grouped.items()),
    )


def _policy(policy: TlsPolicyFacts, found: Sequence[tuple[TlsFacts, int]]) -> TlsPolicy:
    failed = [(facts, count) for facts, count in found if facts.trouble is not None]
    failures = sum(count for _, count in failed)
    return TlsPolicy(
        type=policy.type.value,
        domain=policy.domain,
        strings=policy.strings,
        mx_hosts=policy.mx_hosts,
        successes=sum(count for _, count in found) - failures,
        failures=failures,
        details=tuple(_failure(facts, count) for facts, count in failed),
    )


def _failure(facts: TlsFacts, count: int) -> TlsFailure:
    assert facts.trouble is not None
    return TlsFailure(
        result=facts.trouble.value,
        sessions=count,
        sending_ip=facts.sending_ip,
        receiving_host=facts.receiving_host,
        receiving_hello=facts.receiving_hello,
        receiving_ip=facts.receiving_ip,
        reason=facts.reason,
    )


def write(report: TlsReport) -> bytes:
    """The JSON."""
    return msgspec.json.encode(
        {
            "organization-name": report.organization,
            "date-range": {
                "start-datetime": _moment(report.begin_s),
                "end-datetime": _moment(report.end_s),
            },
            "contact-info": report.contact,
            "report-id": report.report_id,
            "policies": [_written(policy) for policy in report.policies],
        }
    )


def _moment(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(policy: TlsPolicy) -> dict[str, Any]:
    named: dict[str, Any] = {"policy-type": policy.type}
    if policy.strings:
        named["policy-string"] = list(policy.strings)
    named["policy-domain"] = policy.domain
    if policy.mx_hosts:
        named["mx-host"] = list(policy.mx_hosts)
    written: dict[str, Any] = {
        "policy": named,
        "summary": {
            "total-successful-session-count": policy.successes,
            "total-failure-session-count": policy.failures,
        },
    }
    if policy.details:
        written["failure-details"] = [_detail(each) for each in policy.details]
    return written


def _detail(failure: TlsFailure) -> dict[str, Any]:
    values = {
        "result-type": failure.result,
        "sending-mta-ip": failure.sending_ip,
        "receiving-mx-hostname": failure.receiving_host,
        "receiving-mx-helo": failure.receiving_hello,
        "receiving-ip": failure.receiving_ip,
        "failed-session-count": failure.sessions,
        "additional-information": failure.more,
        "failure-reason-code": failure.reason,
    }
    return {name: value for name, value in values.items() if value != ""}


def packed(report: TlsReport, octets_max: int) -> Packed:
    """gzip; with fewer details where all would be larger than a mail may be."""
    found = _gzip(write(report))
    whole_octets = len(found)
    keep = max((len(policy.details) for policy in report.policies), default=0)
    for _ in range(HALVINGS_MAX):
        if len(found) <= octets_max * mail.BASE64_SHARE or keep <= 1:
            break
        keep //= 2
        policies = tuple(
            msgspec.structs.replace(policy, details=policy.details[:keep])
            for policy in report.policies
        )
        found = _gzip(write(msgspec.structs.replace(report, policies=policies)))
    return Packed(octets=found, whole_octets=whole_octets)


def _gzip(octets: bytes) -> bytes:
    return gzip.compress(octets, compresslevel=9, mtime=0)


def compose(
    report: TlsReport,
    domain: str,
    file: bytes,
    *,
    to: Sequence[Address],
    date: datetime,
    options: Options,
) -> bytes:
    """The whole mail around its file, unsigned (RFC 8460 §5.3). Raises build.BuildError."""
    submitter = options.submitter
    name = mail.file_name(domain, submitter, report.begin_s, report.end_s, "json.gz")
    entity = build.multipart(
        "report",
        [
            build.text_entity(
                f"This is an aggregate TLS report from {submitter} about mail to {domain}.\n"
                "A program reads the file that comes with it (RFC 8460).\n\n"
                f"Questions: {options.contact}\n"
            ),
            build.octets_entity(MEDIA_TYPE, file, file_name=name),
        ],
        parameters=('report-type="tlsrpt"',),
    )
    letter = mail.Letter(
        sender=options.from_address,
        organization=options.organization,
        to=tuple(to),
        subject=mail.subject(domain, submitter, report.report_id),
        date=date,
        message_id=f"<{report.report_id}>",
        fields=(
            build.field("TLS-Report-Domain", domain),
            build.field("TLS-Report-Submitter", submitter),
            # RFC 8460 §5.3: MTA-STS and DANE failures are not honoured for it (RFC 8689 §5).
            build.field("TLS-Required", "No"),
        ),
    )
    return mail.letter(letter, entity)
