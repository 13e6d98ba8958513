"""Published reports, read field by field as their collections expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posthouse.message.arf import FeedbackReport
from posthouse.reporting.model import AggregateReport, Report, TlsReport, Unread
from posthouse.reporting.read import read_report


def read(path: Path) -> Report:
    found = read_report(path.read_bytes())
    assert not isinstance(found, Unread), (path.name, found)
    return found


def named(folder: Path, *endings: str) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.name.endswith(endings))
    assert found, folder
    return found


def word(value: str | None) -> str:
    """mail-auth's names of enumerations, as reports spell them."""
    return {
        None: "",
        "Unspecified": "",
        "Relaxed": "r",
        "Strict": "s",
        "TrustedForwarder": "trusted_forwarder",
        "MailFrom": "mfrom",
        "TempError": "temperror",
        "PermError": "permerror",
        "SoftFail": "softfail",
    }.get(value, (value or "").lower())


def test_aggregate_reports_of_mail_auth_are_read_as_it_reads_them(vectors: Path) -> None:
    for path in named(vectors / "dmarc-reports/mail-auth", ".xml", ".eml"):
        expected = json.loads(path.with_suffix(".json").read_text())
        report = read(path)
        assert isinstance(report, AggregateReport), path.name
        same_metadata(report, expected)
        assert len(report.records) == len(expected["record"]), path.name
        for record, row in zip(report.records, expected["record"], strict=True):
            same_record(record, row)


def same_metadata(report: AggregateReport, expected: dict[str, Any]) -> None:
    metadata, published = expected["report_metadata"], expected["policy_published"]
    assert float(report.version or 0) == expected["version"]
    assert report.organization == metadata["org_name"]
    assert report.email == metadata["email"]
    assert report.contact == (metadata["extra_contact_info"] or "")
    assert report.report_id == metadata["report_id"]
    assert (report.begin_s, report.end_s) == (
        metadata["date_range"]["begin"],
        metadata["date_range"]["end"],
    )
    assert list(report.errors) == metadata["error"]
    policy = report.policy
    assert policy.domain == published["domain"]
    for name in ("adkim", "aspf", "p", "sp"):
        assert getattr(policy, name) == word(published[name]), name
    assert (policy.testing == "y") is published["testing"]
    assert policy.fo == (published["fo"] or "")


def same_record(record: Any, row: dict[str, Any]) -> None:
    evaluated, identifiers = row["row"]["policy_evaluated"], row["identifiers"]
    assert (record.source_ip, record.messages) == (row["row"]["source_ip"], row["row"]["count"])
    for name in ("disposition", "dkim", "spf"):
        assert getattr(record, name) == word(evaluated[name]), name
    assert [(each.type, each.comment) for each in record.reasons] == [
        (word(each["type_"]), each["comment"] or "") for each in evaluated["reason"]
    ]
    assert record.header_from == identifiers["header_from"]
    # It has "" where the element is missing and where it is empty; we keep these apart, as
    # RFC 9990 §3.1.1.10 gives an empty one a meaning of its own.
    assert (record.envelope_from or "") == identifiers["envelope_from"]
    assert record.envelope_to == (identifiers["envelope_to"] or "")
    assert [(e.domain, e.selector, e.result, e.human_result) for e in record.dkim_results] == [
        (e["domain"], e["selector"], word(e["result"]), e["human_result"] or "")
        for e in row["auth_results"]["dkim"]
    ]
    assert [(e.domain, e.scope, e.result, e.human_result) for e in record.spf_results] == [
        (e["domain"], word(e["scope"]), word(e["result"]), e["human_result"] or "")
        for e in row["auth_results"]["spf"]
    ]


def test_reports_of_real_receivers_are_read_the_odd_and_broken_ones_too(vectors: Path) -> None:
    """ikea's has a stray unclosed tag in front of its root; RFC 9990 §3.1.1 would have it discarded
    and lets an evaluator use it."""
    read_now = {
        path.name: read(path)
        for path in named(vectors / "dmarc-reports/parsedmarc/aggregate", ".xml", ".eml", ".gz")
    }
    assert len(read_now) == 10
    for name, report in read_now.items():
        assert isinstance(report, AggregateReport), name
        assert report.policy.domain and report.messages, name
    strays = [report for name, report in read_now.items() if name.startswith("ikea")]
    assert [report.policy.domain for report in strays] == ["example.de"]  # type: ignore[union-attr]


def test_an_octet_that_is_no_utf8_costs_one_character_and_not_the_report(vectors: Path) -> None:
    report = read(vectors / "dmarc-reports/parsedmarc/aggregate/invalid_utf_8.xml")
    assert isinstance(report, AggregateReport)
    assert report.records[0].header_from == "bad_byte\ufffd"


def test_the_sample_of_the_rfc_is_read_whole(vectors: Path) -> None:
    """RFC 9990 appendix B."""
    report = read(vectors / "dmarc-reports/parsedmarc/aggregate/rfc9990-sample.xml")
    assert isinstance(report, AggregateReport)
    assert report.generator == "Example DMARC Aggregate Reporter v1.2"
    assert (report.policy.np, report.policy.discovery_method) == ("none", "treewalk")
    assert [(r.disposition, r.messages) for r in report.records] == [("pass", 123)]


def test_tls_reports_are_read_from_mail_and_from_files(vectors: Path) -> None:
    """RFC 8460 appendix B, in its own spelling and as others write it."""
    mail = read(vectors / "tlsrpt/mail-auth/rpt01.eml")
    bare = read(vectors / "tlsrpt/mail-auth/rpt01.json")
    rfc = read(vectors / "tlsrpt/parsedmarc/smtp_tls/rfc8460.json")
    for report in (mail, bare, rfc):
        assert isinstance(report, TlsReport)
        assert report.report_id == "5065427c-23d3-47ca-b6e0-946ea0e8c4be"
        assert (report.begin_s, report.end_s) == (1459468800, 1459555199)
        (policy,) = report.policies
        assert (policy.type, policy.domain) == ("sts", "company-y.example")
        assert policy.mx_hosts == ("*.mail.company-y.example",)
        assert (policy.successes, policy.failures) == (5326, 303)
        assert [(each.result, each.sessions) for each in policy.details] == [
            ("certificate-expired", 100),
            ("starttls-not-supported", 200),
            ("validation-failure", 3),
        ]
    for path in named(vectors / "tlsrpt/parsedmarc/smtp_tls", ".json", ".eml"):
        assert isinstance(read(path), TlsReport), path.name


def test_feedback_reports_are_read_as_mail_auth_reads_them(vectors: Path) -> None:
    """RFC 5965 appendix B, and one of OpenDMARC's."""
    for path in named(vectors / "arf/mail-auth", ".eml"):
        expected = json.loads(path.with_suffix(".json").read_text())
        report = read(path)
        assert isinstance(report, FeedbackReport), path.name
        assert report.feedback_type.replace("-", "") == expected["feedback_type"].lower()
        assert report.user_agent == expected["user_agent"]
        assert report.incidents == expected["incidents"]
        assert report.arrival_s == expected["arrival_date"]
        assert report.envelope_id == (expected["original_envelope_id"] or "")
        mail_from = expected["original_mail_from"]
        assert (report.original_mail_from or "") == (mail_from or "").strip("<>")
        rcpt_to = expected["original_rcpt_to"]
        assert report.original_recipients == ((rcpt_to.strip("<>"),) if rcpt_to else ())
        assert list(report.reported_domains) == expected["reported_domain"]
        assert list(report.reported_uris) == expected["reported_uri"]
        assert report.reporting_mta == (expected["reporting_mta"] or "")
        assert report.source_ip == (expected["source_ip"] or "")
        assert report.auth_failure == word(expected["auth_failure"])
        # We unfold, it keeps line ends.
        found = [" ".join(each.split()) for each in report.authentication_results]
        assert found == [" ".join(each.split()) for each in expected["authentication_results"]]


@pytest.mark.parametrize("ending", ["linkedin.eml", "linkedin.crlf.eml", "_.eml"])
def test_dmarc_failure_reports_of_real_receivers_are_read(vectors: Path, ending: str) -> None:
    for path in named(vectors / "dmarc-reports/parsedmarc/failure", ending):
        report = read(path)
        assert isinstance(report, FeedbackReport)
        assert (report.feedback_type, report.auth_failure) == ("auth-failure", "dmarc")
        assert report.reported_domains and report.source_ip == "10.10.10.10"
        assert "from:" in report.header_section.lower()
