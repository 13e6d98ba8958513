"""Reports that we write: by the schema, readable by our own reader, and nothing breaks out."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.mailauth.results import Disposition, DkimOutcome, Result
from posthouse.message.fields import read_section
from posthouse.message.mime import scan
from posthouse.reporting import compose_dmarc, compose_tls
from posthouse.reporting.model import AggregateReport, TlsReport
from posthouse.reporting.options import US
from posthouse.reporting.read import read_report
from posthouse.reporting.rows import (
    AppliedDisposition,
    DkimFact,
    DmarcFacts,
    Override,
    OverrideType,
    SpfFact,
    dmarc_row,
    tls_row,
)
from tests.interop.programs import needs_program
from tests.reporting.samples import (
    DAY_S,
    DKIM_FAIL,
    DKIM_PASS,
    OPTIONS,
    POLICY,
    SPF_PASS,
    outcome,
    row,
)

SCHEMA = Path(__file__).with_name("dmarc-2.0.xsd")
DATE = datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)
BEGIN = 20_000 * DAY_S * US
TO = (Address("rua", "author.example"),)


def aggregate(*facts: tuple[DmarcFacts, int]) -> AggregateReport:
    return compose_dmarc.report(
        POLICY, facts, begin_at=BEGIN, end_at=BEGIN + DAY_S * US, options=OPTIONS
    )


FAILED = row(
    passes=False,
    overrides=(Override(OverrideType.TRUSTED_FORWARDER, "our <list> & yours"),),
    disposition=Disposition.NONE,
)
FULL = aggregate((row().facts, 3), (FAILED.facts, 2))
FILE = compose_dmarc.packed(FULL, 1 << 20).octets


@needs_program("xmllint", package="libxml2-utils")
def test_the_xml_is_valid_by_the_schema(tmp_path: Path) -> None:
    """RFC 9990 appendix A, with each kind of element in it."""
    null_sender = msgspec.structs.replace(row().facts, envelope_from="", spf=None, dkim=())
    whole = msgspec.structs.replace(
        aggregate((row().facts, 3), (FAILED.facts, 2), (null_sender, 1)),
        errors=("two policy records",),
        contact="https://here.example/",
    )
    file = tmp_path / "report.xml"
    file.write_bytes(compose_dmarc.write(whole))
    done = subprocess.run(
        ["xmllint", "--nonet", "--noout", "--schema", str(SCHEMA), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_composed_is_read_back_the_same() -> None:
    assert read_report(compose_dmarc.write(FULL)) == FULL
    mail = compose_dmarc.compose(FULL, FILE, to=TO, date=DATE, options=OPTIONS)
    assert read_report(mail) == FULL


words = st.text(max_size=40)
names = st.text(st.characters(codec="ascii", exclude_categories=("C",)), max_size=30)


@given(
    st.lists(
        st.builds(
            DmarcFacts,
            source_ip=names,
            header_from=names,
            envelope_from=st.none() | names,
            envelope_to=names,
            disposition=st.sampled_from(AppliedDisposition),
            is_dkim_aligned=st.booleans(),
            is_spf_aligned=st.booleans(),
            overrides=st.lists(
                st.builds(Override, st.sampled_from(OverrideType), words), max_size=2
            ).map(tuple),
            dkim=st.lists(
                st.builds(DkimFact, names, words, st.just("fail"), words), max_size=3
            ).map(tuple),
            spf=st.none() | st.builds(SpfFact, names, st.just("fail"), words),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_value_breaks_out_of_its_element(facts: list[DmarcFacts]) -> None:
    """Whatever a stranger signed with or said: as many records as there were, and no other."""
    report = aggregate(*((each, 1) for each in facts))
    read = read_report(compose_dmarc.write(report))
    assert isinstance(read, AggregateReport)
    assert len(read.records) == len(facts)
    assert [len(r.dkim_results) for r in read.records] == [len(f.dkim) for f in facts]
    assert read.policy == report.policy and read.report_id == report.report_id


def test_the_mail_is_as_the_rfc_has_it() -> None:
    """RFC 9990 §3.5.2: subject, file name, media type; RFC 3834: nobody answers it."""
    octets = compose_dmarc.compose(FULL, FILE, to=TO, date=DATE, options=OPTIONS)
    section = read_section(octets)
    subject = (section.first(b"subject") or b"").decode()
    assert re.fullmatch(
        r"Report +Domain: +author\.example +Submitter: +here\.example +Report-ID: +<[^<> ]+>",
        subject,
    )
    assert section.first(b"auto-submitted") == b"auto-generated"
    assert (section.first(b"message-id") or b"").decode() == f"<{FULL.report_id}>"
    part = scan(octets).children[1]
    assert (part.maintype, part.subtype) == (b"application", b"gzip")
    end = (BEGIN // US) + DAY_S - 1
    assert part.file_name == f"here.example!author.example!{BEGIN // US}!{end}.xml.gz"


def test_the_same_report_has_the_same_id_name_and_octets() -> None:
    """RFC 9990 §3.5.2: one that is sent again overwrites the first."""
    assert compose_dmarc.packed(FULL, 1 << 20) == compose_dmarc.packed(FULL, 1 << 20)


def test_a_report_that_is_too_large_loses_its_smallest_records() -> None:
    facts = [msgspec.structs.replace(row().facts, source_ip=f"192.0.{n // 250}.{n % 250}") for n in
             range(5_000)]  # fmt: skip
    report = aggregate(*((each, 5_000 - n) for n, each in enumerate(facts)))
    packed = compose_dmarc.packed(report, 20_000)
    octets = packed.octets
    assert packed.whole_octets > 20_000
    assert len(octets) <= 20_000
    read = read_report(octets)
    assert isinstance(read, AggregateReport) and 0 < len(read.records) < 5_000
    assert read.records[0] == report.records[0]


# --- what a row is made of ---


def test_nobody_who_did_not_ask_gets_a_row() -> None:
    silent = msgspec.structs.replace(POLICY, aggregate_uris=())
    for policy in (None, silent):
        judged = msgspec.structs.replace(outcome(), policy=policy)
        assert dmarc_row(
            judged, source_ip="192.0.2.1", envelope_from="", envelope_to="", spf=None, dkim=(),
            disposition=Disposition.NONE,
        ) is None  # fmt: skip


def test_a_pass_is_called_pass_only_under_a_policy_that_would_do_something() -> None:
    """RFC 9990 appendix A, ActionDispositionType."""
    assert row().facts.disposition is AppliedDisposition.PASS
    monitored = msgspec.structs.replace(POLICY, policy=Disposition.NONE)
    assert row(policy=monitored).facts.disposition is AppliedDisposition.NONE
    assert row(passes=False).facts.disposition is AppliedDisposition.REJECT


def test_the_testing_mode_is_given_as_a_reason() -> None:
    """RFC 9990 §3.1.6."""
    testing = msgspec.structs.replace(POLICY, is_testing=True)
    assert row(passes=False, policy=testing).facts.overrides == (
        Override(OverrideType.POLICY_TEST_MODE),
    )
    assert row(policy=testing).facts.overrides == ()


def test_signatures_that_matter_come_first_and_a_hundred_are_enough() -> None:
    """RFC 9990 §3.1.3."""
    related = DkimOutcome(result=Result.PASS, domain="mail.author.example", selector="s")
    other = DkimOutcome(result=Result.PASS, domain="list.example", selector="s")
    unread = DkimOutcome(result=Result.PERMERROR)
    found = dmarc_row(
        outcome(dkim=True), source_ip="192.0.2.1", envelope_from="", envelope_to="", spf=SPF_PASS,
        dkim=[DKIM_FAIL, other, related, unread, DKIM_PASS] + [DKIM_FAIL] * 200,
        disposition=Disposition.NONE,
    )  # fmt: skip
    assert found is not None
    assert [fact.domain for fact in found.facts.dkim[:3]] == [
        "author.example",
        "mail.author.example",
        "list.example",
    ]
    assert len(found.facts.dkim) == 100


# --- TLS ---

STS = {
    "type": PolicyType.STS,
    "strings": ["version: STSv1", "mode: enforce", "mx: *.there.example", "max_age: 86400"],
    "mx_hosts": ["*.there.example"],
}
SESSIONS = [
    (tls_row("there.example", **STS), 5),  # type: ignore[arg-type]
    (
        tls_row(
            "there.example",
            **STS,  # type: ignore[arg-type]
            trouble=ResultType.CERTIFICATE_HOST_MISMATCH,
            sending_ip="192.0.2.1",
            receiving_ip="198.51.100.1",
            receiving_host="mx1.there.example",
            reason="it is for another.example",
        ),
        2,
    ),
    (tls_row("there.example", type=PolicyType.NONE), 1),
]


def tls_report() -> TlsReport:
    return compose_tls.report(
        "there.example",
        [(row.policy, row.facts, count) for row, count in SESSIONS],
        begin_at=BEGIN,
        end_at=BEGIN + DAY_S * US,
        options=OPTIONS,
    )


def test_a_tls_report_is_read_back_the_same_from_mail_and_file() -> None:
    report = tls_report()
    assert [(p.type, p.successes, p.failures) for p in report.policies] == [
        ("sts", 5, 2),
        ("no-policy-found", 1, 0),
    ]
    file = compose_tls.packed(report, 1 << 20).octets
    assert read_report(file) == report
    mail = compose_tls.compose(report, "there.example", file, to=TO, date=DATE, options=OPTIONS)
    assert read_report(mail) == report


def test_the_mail_of_a_tls_report_is_as_the_rfc_has_it() -> None:
    """RFC 8460 §5.3, and that it has to come through whatever TLS says (RFC 8689 §5)."""
    octets = compose_tls.compose(
        tls_report(), "there.example", b"{}", to=TO, date=DATE, options=OPTIONS
    )
    section = read_section(octets)
    assert section.first(b"tls-report-domain") == b"there.example"
    assert section.first(b"tls-report-submitter") == b"here.example"
    assert section.first(b"tls-required") == b"No"
    root = scan(octets)
    assert (root.subtype, root.parameters.raw(b"report-type")) == (b"report", b"tlsrpt")
    assert [(p.maintype, p.subtype) for p in root.children] == [
        (b"text", b"plain"),
        (b"application", b"tlsrpt+gzip"),
    ]
    written = json.loads(compose_tls.write(tls_report()))
    assert written["contact-info"].endswith("@here.example")  # the submitter
    assert written["date-range"]["start-datetime"].endswith("T00:00:00Z")
    assert written["date-range"]["end-datetime"].endswith("T23:59:59Z")
