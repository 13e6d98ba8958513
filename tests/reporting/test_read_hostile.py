"""Reports of people who mean us harm: bombs, entities, junk. None raises, none takes long."""

from __future__ import annotations

import gzip
import io
import time
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.reporting.model import AggregateReport, TlsReport, Unread
from posthouse.reporting.options import Limits
from posthouse.reporting.read import read_report

RECORD = (
    b"<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated>"
    b"<disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>"
    b"<identifiers><header_from>example.org</header_from></identifiers>"
    b"<auth_results><spf><domain>example.org</domain><result>fail</result></spf></auth_results>"
    b"</record>"
)
HEAD = (
    b"<report_metadata><org_name>x</org_name><report_id>1</report_id><date_range><begin>1</begin>"
    b"<end>2</end></date_range></report_metadata>"
    b"<policy_published><domain>example.org</domain><p>none</p></policy_published>"
)
XML = b"<?xml version='1.0'?>\n<feedback>" + HEAD + RECORD + b"</feedback>"
TLS = (
    b'{"organization-name":"x","report-id":"1","date-range":{},"policies":[{"policy":'
    b'{"policy-type":"sts","policy-domain":"example.org"},"summary":'
    b'{"total-successful-session-count":"7","total-failure-session-count":1.0}}]}'
)


def packed(octets: bytes) -> bytes:
    """Without the time of day, so that every process names the test alike."""
    return gzip.compress(octets, mtime=0)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, octets in files:
            archive.writestr(name, octets)
    return made.getvalue()


def why(octets: bytes, limits: Limits | None = None) -> str:
    found = read_report(octets, limits)
    assert isinstance(found, Unread), found
    return found.reason


@pytest.mark.parametrize(
    "octets",
    [
        XML,
        b"\xef\xbb\xbf" + XML,
        b"\r\n\n " + XML,
        XML.decode().encode("utf-16"),
        packed(XML),
        packed(XML[:40]) + packed(XML[40:]),
        packed(XML) + b"\0" * 100,
        zipped(("a.xml", XML)),
        zipped(("a.xml", XML), method=zipfile.ZIP_STORED),
        zipped(("../../etc/passwd", XML)),  # H40: the name is never used
        XML.replace(b"<feedback>", b'<d:feedback xmlns:d="x">')
        .replace(b"</feedback>", b"</d:feedback>")
        .replace(b"<record>", b"<d:record>")
        .replace(b"</record>", b"</d:record>"),
        XML + b"<trailing & junk",
    ],
)
def test_the_same_report_is_found_however_it_is_packed(octets: bytes) -> None:
    report = read_report(octets)
    assert isinstance(report, AggregateReport), report
    assert report.policy.domain == "example.org" and report.messages == 2


@pytest.mark.parametrize("octets", [XML, packed(XML), zipped(("a.xml", XML))])
def test_a_mail_may_name_and_encode_its_report_wrongly(octets: bytes) -> None:
    import base64

    for fields in (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n",
        b"Content-Type: text/plain\r\n",  # base64 that says nothing of it
        b"Content-Type: application/zip; name=x.pdf\r\nContent-Transfer-Encoding: BASE64\r\n",
    ):
        mail = b"From: a@example.net\r\n" + fields + b"\r\n" + base64.encodebytes(octets)
        assert isinstance(read_report(mail), AggregateReport), fields


def test_elements_of_extensions_never_pass_for_ours() -> None:
    """RFC 9990 §5: they are namespaced and may be ignored."""
    extra = b'<x:row xmlns:x="urn:x"><source_ip>198.51.100.9</source_ip></x:row>'
    report = read_report(XML.replace(b"</record>", extra + b"</record>"))
    assert isinstance(report, AggregateReport)
    assert [record.source_ip for record in report.records] == ["192.0.2.1"]


# --- H40: its report part ---


def test_billion_laughs_are_refused_before_the_first() -> None:  # H40
    entities = b'<!DOCTYPE lolz [<!ENTITY a "lol">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + n, (b"&%c;" % (97 + n)) * 10) for n in range(9)
    )
    bomb = XML.replace(b"<feedback>", entities + b"]><feedback>").replace(b">x<", b">&j;<")
    assert "document type" in why(bomb)


def test_an_external_entity_is_never_fetched() -> None:  # H40
    xxe = b'<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    assert "document type" in why(XML.replace(b"<feedback>", xxe + b"<feedback>"))
    # Hidden from the search in front of the root, it is still met by the parser or unknown.
    assert why(XML.replace(b">x<", b">&x;<")).startswith("the XML is not well formed")
    assert "document type" in why(b'<!DOCTYPE feedback SYSTEM "http://example.net/x.dtd">' + XML)


@pytest.mark.timed
def test_a_gzip_bomb_ends_at_the_ratio() -> None:  # H40
    bomb = gzip.compress(b"<feedback>" + b" " * (150 * 1024 * 1024), 9)
    started = time.perf_counter()
    tracemalloc.start()
    reason = why(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "times as large" in reason
    assert peak < 16 * 1024 * 1024
    assert time.perf_counter() - started < 10


def test_a_bomb_within_a_bomb_is_unpacked_once() -> None:  # H40
    bomb = b" " * (4 * 1024 * 1024)
    for _ in range(3):
        bomb = gzip.compress(bomb, 9)
    assert why(bomb) == "what is packed in it is neither XML nor JSON"


def test_a_zip_of_42_kb_that_holds_4_gb_is_not_unpacked() -> None:  # H40
    """A deflated stream of 42 kB that goes on for as long as anybody reads it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(b"<feedback>" + b" " * (42 * 1024 * 1024)) + packer.flush()
    made = bytearray(zipped(("a.xml", b"x"), method=zipfile.ZIP_STORED))
    made[8:10] = (8).to_bytes(2, "little")
    header = 30 + len("a.xml")
    bomb = bytes(made[:header]) + body + bytes(made[header + 1 :])
    assert len(bomb) < 50_000
    assert "times as large" in why(bomb)


def test_nested_and_crowded_zips_are_not_opened() -> None:  # H40
    assert why(zipped(("a.zip", zipped(("b.xml", XML))))) == (
        "what is packed in it is neither XML nor JSON"
    )
    assert "2 files" in why(zipped(("a.xml", XML), ("b.xml", XML)))
    assert "0 files" in why(b"PK\x03\x04" + zipped())


def test_each_bound_is_named_when_it_is_met() -> None:  # H40
    records = b"<feedback>" + HEAD + RECORD * 3 + b"</feedback>"
    assert "more than 2 records" in why(records, Limits(records_max=2))
    assert "larger than 50 octets" in why(gzip.compress(XML), Limits(packed_octets_max=50))
    assert "unpacked it is larger" in why(gzip.compress(XML), Limits(unpacked_octets_max=50))
    assert "nested deeper" in why(b"<feedback>" + b"<a>" * 1000)
    assert "far more elements" in why(b"<feedback>" + b"<a/>" * 200_000)
    assert "tag that is too long" in why(b"<feedback><a b='" + b"x" * (1 << 21))
    assert "parts" in why(b'{"policies":[' + b"{}," * 200_000 + b"{}]}")
    assert "JSON is larger" in why(b'{"a":"' + b" " * (11 << 20) + b'"}', Limits(
        packed_octets_max=1 << 30
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("octets", "limits", "expected"),
    [
        (XML, Limits(packed_octets_max=50), ("reports.packed_octets_max", 50, len(XML))),
        (packed(XML), Limits(unpacked_octets_max=50),
         ("reports.unpacked_octets_max", 50, len(XML))),
        (XML.replace(RECORD, RECORD * 3), Limits(records_max=2), ("reports.records_max", 2, 3)),
        (TLS, Limits(records_max=2), ("reports.records_max", 2, TLS.count(b"{"))),
        (b"From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n<html/>\r\n"
         b"--x\r\n\r\n" + TLS + b"\r\n--x--\r\n", Limits(records_max=2),
         ("reports.records_max", 2, TLS.count(b"{"))),
    ],
)  # fmt: skip
def test_a_limit_that_ends_the_reading_is_told_by_its_name(
    octets: bytes, limits: Limits, expected: tuple[str, int, int]
) -> None:  # H40
    found = read_report(octets, limits)
    assert isinstance(found, Unread) and found.overrun is not None, found
    assert (found.overrun.name, found.overrun.value, found.overrun.observed) == expected


def test_the_ratio_is_told_as_it_was_met() -> None:  # H40
    bomb = gzip.compress(b"<feedback>" + b" " * (4 << 20), 9)
    found = read_report(bomb, Limits(ratio_max=100))
    assert isinstance(found, Unread) and found.overrun is not None
    assert (found.overrun.name, found.overrun.value) == ("reports.ratio_max", 100)
    assert 100 < found.overrun.observed < 1100
    assert read_report(b"\x1f\x8b") == Unread("the compressed file is cut off")  # no limit


def test_a_long_value_is_cut_and_many_results_are_not_all_kept() -> None:
    long = XML.replace(b">x<", b">" + b"y" * 100_000 + b"<")
    report = read_report(long)
    assert isinstance(report, AggregateReport) and len(report.organization) == 1000
    spf = b"<spf><domain>d</domain><result>fail</result></spf>"
    report = read_report(XML.replace(b"<auth_results>", b"<auth_results>" + spf * 500))
    assert isinstance(report, AggregateReport) and len(report.records[0].spf_results) == 100


@pytest.mark.parametrize(
    "octets",
    [b"", b"\0", b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b\x08", b"{", b"<", b"<feedback>", b"[]",
     b"{}", b"H4sI", b"null", b"\xff\xfe", b"\xff\xfe<", packed(b""), XML[:-5],
     packed(XML)[:-20], b"Subject: x\r\n\r\n",
     b"From: a\r\nContent-Type: multipart/report\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_report_says_why(octets: bytes) -> None:
    assert why(octets)


def test_odd_counts_of_tls_reports_are_numbers_all_the_same() -> None:
    report = read_report(TLS)
    assert isinstance(report, TlsReport)
    assert (report.policies[0].successes, report.policies[0].failures) == (7, 1)
    for value in (b"1e300", b"-5", b'"x"', b"99999999999999999999999", b"null"):
        odd = read_report(TLS.replace(b"1.0", value))
        assert isinstance(odd, TlsReport | Unread)


# --- properties ---

SEEDS = [XML, TLS, packed(XML), zipped(("a.xml", XML)), packed(TLS)]


@given(st.binary(max_size=2000))
def test_no_octets_make_it_raise(octets: bytes) -> None:
    read_report(octets)
    read_report(b"From: a@b\r\nContent-Type: application/gzip\r\n\r\n" + octets)


@settings(max_examples=300)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=8)), max_size=6),
    st.integers(0, 5000),
)
def test_no_change_of_a_report_makes_it_raise(
    seed: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    octets = bytearray(seed)
    for at, new in changes:
        at %= len(octets) + 1
        octets[at : at + len(new)] = new
    read_report(bytes(octets))
    read_report(bytes(octets[: cut % (len(octets) + 1)]))


@pytest.mark.timed
def test_time_grows_with_the_octets_and_no_faster() -> None:
    """Twice the records, twice the time."""

    def seconds(records: int) -> float:
        octets = gzip.compress(b"<feedback>" + HEAD + RECORD * records + b"</feedback>")
        limits = Limits(ratio_max=10_000)
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            assert isinstance(read_report(octets, limits), AggregateReport)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(8_000) < 3.5 * seconds(4_000)


def test_only_one_module_reads_xml_and_only_with_expat() -> None:
    """The linter sees top-level modules only."""
    from pathlib import Path

    source = Path(__file__).parents[2] / "src" / "posthouse"
    users = {
        path.name: [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith(("import xml", "from xml"))
        ]
        for path in source.rglob("*.py")
    }
    assert {name: lines for name, lines in users.items() if lines} == {
        "read_xml.py": ["from xml.parsers import expat"]
    }
