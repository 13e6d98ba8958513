"""`posthouse report` on a house of its own: files read, kept, added up; what is owed."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from posthouse.cli.data import configured_store
from posthouse.net.world import SystemClock
from posthouse.reporting import collect, keep
from posthouse.reporting.model import Unread
from posthouse.reporting.options import US
from posthouse.store import reports as rows
from posthouse.store.reports import ReportKind, ResultKind
from tests.reporting.samples import row
from tests.reporting.test_read_hostile import TLS, XML

DAY_S = 86_400
NOW_S = int(time.time())
# A report of yesterday, with what a hostile terminal would like to hear in it.
YESTERDAY = (
    XML.replace(b"<begin>1</begin>", b"<begin>%d</begin>" % (NOW_S - 2 * DAY_S))
    .replace(b"<end>\n", b"<end>")
    .replace(b"<end>2</end>", b"<end>%d</end>" % (NOW_S - DAY_S))
    .replace(b"<org_name>x<", "<org_name>Réporter \u202eevil<".encode())
)
NOBODY = ("--resolver", "127.0.0.1:9")  # a port that answers nothing


def keeps(house, name: str, octets: bytes) -> str:
    Path(name).write_bytes(octets)
    code, _, err = house("report", "read", name, "--store")
    assert code == 0, err
    return err


def test_a_file_is_shown_without_a_server_or_a_store(cli) -> None:
    Path("r.xml.gz").write_bytes(gzip.compress(YESTERDAY))
    code, out, err = cli("report", "read", "r.xml.gz")
    assert code == 0, err
    assert "a DMARC report of" in out and "about example.org" in out
    assert "192.0.2.1\t2\tfail\tpass\tnone\texample.org" in out
    assert "\u202e" not in out
    code, out, _ = cli("report", "read", "r.xml.gz", "--json")
    (shown,) = json.loads(out)
    assert shown["kind"] == "DMARC report"
    assert shown["report"]["records"][0]["source_ip"] == "192.0.2.1"


def test_a_file_that_is_no_report_says_why_and_fails(cli) -> None:
    Path("x").write_bytes(b"<!DOCTYPE x>" + XML)
    code, out, _ = cli("report", "read", "x")
    assert code == 1 and "document type" in out
    assert cli("report", "read", "missing.xml")[0] == 4


def test_kept_files_are_added_up_once(house) -> None:
    assert "1 report kept, 0 were there" in keeps(house, "a.xml", YESTERDAY)
    assert "0 reports kept, 1 were there" in keeps(house, "a.xml", YESTERDAY)
    code, out, err = house("report", "dmarc", "example.org", "--no-names")
    assert code == 0
    assert out.startswith("192.0.2.1\t\t2\tfail\tpass\tnothing\texample.org\t")
    assert "2 messages in 1 report of the last 7 days: 100.0 % pass DMARC" in err
    code, out, _ = house("report", "dmarc", "example.org", "--no-names", "--json")
    found = json.loads(out)
    assert (found["messages"], found["passed"], found["sources"][0]["dkim"]) == (2, 2, "pass")


def test_only_the_days_and_the_domain_that_are_asked_for_count(house) -> None:
    keeps(house, "old.xml", XML)  # of 1970
    code, _, err = house("report", "dmarc", "example.org", "--no-names")
    assert code == 0 and "no DMARC report about example.org came" in err
    keeps(house, "new.xml", YESTERDAY)
    _, out, _ = house("report", "dmarc", "other.example", "--no-names")
    assert out == ""
    _, out, _ = house("report", "dmarc", "org", "--no-names")  # those below it count
    assert "192.0.2.1" in out
    assert house("report", "dmarc", "not a domain", "--no-names")[0] == 1


@pytest.mark.timed
def test_names_that_the_dns_does_not_tell_keep_nobody_waiting(house) -> None:
    keeps(house, "new.xml", YESTERDAY)
    started = time.monotonic()
    code, out, _ = house("report", "dmarc", "example.org", *NOBODY)
    assert code == 0 and out.startswith("192.0.2.1\t\t")
    assert time.monotonic() - started < 15


def add(kind: str, octets: bytes, *, is_authenticated: bool) -> None:
    """As the intake stores it."""
    from posthouse.reporting.read import read_report

    origin = keep.Origin(
        name=kind, received_at=SystemClock().unix_us(), is_authenticated=is_authenticated
    )
    with configured_store(None) as store:
        store.write_now(lambda tx: rows.add_report(tx, keep.row(read_report(octets), origin)))


def test_what_is_about_a_domain_of_others_is_said_to_be(house) -> None:
    assert "no domain of this server" not in keeps(house, "ours.xml", YESTERDAY)
    theirs = YESTERDAY.replace(b"example.org", b"theirs.example")
    assert "about theirs.example, which is no domain of this server" in keeps(house, "t", theirs)
    for command in ("dmarc", "tls", "failures"):
        code, _, err = house("report", command, "nosuch.test")
        assert code == 0
        assert "nosuch.test is no domain of this server; `posthouse domain list`" in err
        assert "dns records" not in err
    _, _, err = house("report", "tls", "below.example.org")
    assert "`posthouse dns records example.org` shows the record" in err


def test_what_anybody_could_have_written_is_left_out_and_said_to_be(house) -> None:
    add("q1", YESTERDAY, is_authenticated=False)
    code, out, err = house("report", "dmarc", "example.org", "--no-names")
    assert code == 0 and out == ""
    assert "1 report left out" in err and "--all" in err
    _, out, _ = house("report", "dmarc", "example.org", "--no-names", "--all")
    assert "192.0.2.1" in out


def test_tls_reports_are_added_up(house) -> None:
    dated = TLS.replace(
        b'"date-range":{}',
        b'"date-range":{"start-datetime":"2099-01-01T00:00:00Z",'
        b'"end-datetime":"2099-01-01T23:59:59Z"}',
    )
    keeps(house, "t.json", dated)
    code, out, err = house("report", "tls", "example.org")
    assert code == 0
    assert out.splitlines() == [
        "example.org\tsts\tfailure\t1\t\t\tx",
        "example.org\tsts\tsuccess\t7\t\t\tx",
    ]
    assert "8 sessions in 1 report" in err and "1 failed" in err


def test_failures_are_listed(house) -> None:
    mail = (
        b"From: <r@reporter.example>\r\nMessage-ID: <1@r>\r\n"
        b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n'
        b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: auth-failure\r\n"
        b"Auth-Failure: dmarc\r\nSource-IP: 192.0.2.9\r\nReported-Domain: example.org\r\n"
        b"Delivery-Result: reject\r\nOriginal-Mail-From: <>\r\n\r\n--b--\r\n"
    )
    add("q1", mail, is_authenticated=False)
    code, out, _ = house("report", "failures", "example.org")
    assert code == 0
    assert "\t192.0.2.9\tdmarc\treject\t<>\t1\treporter.example (not proved)" in out


def test_the_list_names_what_could_not_be_read_and_why(house) -> None:
    code, _, err = house("report", "list")
    assert code == 0 and "no report has come yet" in err
    keeps(house, "a.xml", YESTERDAY)
    origin = keep.Origin(name="q7", received_at=SystemClock().unix_us())
    with configured_store(None) as store:
        store.write_now(lambda tx: rows.add_report(tx, keep.row(Unread("it is a picture"), origin)))
    code, out, _ = house("report", "list", "--unread")
    assert code == 0 and "it is a picture" in out and len(out.splitlines()) == 1
    _, out, _ = house("report", "list", "--json")
    assert [each["kind"] for each in json.loads(out)] == ["dmarc", "unread"]
    assert ReportKind.UNREAD.value == "unread"


# --- what is owed ---


def owe() -> None:
    """As the collector writes it, an hour ago."""
    begin_at = (NOW_S - NOW_S % DAY_S) * US
    result = collect._dmarc_result(begin_at, row(), 3)
    with configured_store(None) as store:
        store.write_now(lambda tx: rows.add_results(tx, ResultKind.DMARC, [result], room=10))


def sign_now() -> None:
    """As if the DNS showed the keys of example.org long enough."""
    from posthouse.accounts import rotation

    with configured_store(None) as store:
        store.write_now(lambda tx: rotation.sign_now(tx, "example.org"))


def queued() -> list[str]:
    with configured_store(None) as store:
        return [
            found[0] for found in store.read_now(lambda tx: tx.all("SELECT address FROM recipient"))
        ]


def test_nothing_owed_is_said(house) -> None:
    code, out, err = house("report", "send", *NOBODY)
    assert (code, out) == (0, "") and "no report is owed" in err


def test_without_now_it_only_shows_what_would_be_sent(house) -> None:
    owe()
    _, out, _ = house("report", "send", *NOBODY)
    assert "not yet: no DKIM key signs" in out  # quickstart's waits for the DNS
    sign_now()
    code, out, err = house("report", "send", *NOBODY)
    assert code == 0, err
    assert out.startswith("dmarc\tauthor.example\t")
    assert "mailto:rua@author.example\twill be sent" in out
    assert "nothing was sent" in err and queued() == []


def test_with_now_it_is_sent_signed_and_only_once(house) -> None:
    owe()
    sign_now()
    code, out, err = house("report", "send", "--now", "--json", *NOBODY)
    assert code == 0, err
    (owed,) = json.loads(out)
    assert owed["to"] == ["mailto:rua@author.example"] and owed["total"] == 3
    assert owed["outcome"] == "sent to mailto:rua@author.example"
    assert queued() == ["rua@author.example"]
    with configured_store(None) as store:
        octets = store.read_now(lambda tx: tx.one("SELECT octets FROM blob ORDER BY id DESC"))[0]
    assert octets.startswith(b"DKIM-Signature:")
    code, out, err = house("report", "send", "--now", *NOBODY)
    assert (code, out) == (0, "") and "no report is owed" in err
    assert queued() == ["rua@author.example"]


@pytest.mark.parametrize("command", ["dmarc", "tls", "failures", "read", "list", "send"])
def test_every_command_explains_itself(cli, command: str) -> None:
    code, out, _ = cli("report", command, "--help")
    assert code == 0 and "--json" in out
