"""Reports about single messages: only where asked for, redacted, and never a flood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Evidence
from posthouse.mailauth.results import Disposition, DmarcPolicy, Result
from posthouse.message.arf import FeedbackReport
from posthouse.message.fields import read_section
from posthouse.message.mime import scan
from posthouse.reporting.failures import Failed, is_asked
from posthouse.reporting.read import read_report
from posthouse.reporting.redact import OCTETS_MAX, Redactor
from posthouse.sim.world import World, run_virtual
from tests.reporting.house import House
from tests.reporting.samples import DKIM_FAIL, OPTIONS, POLICY, SPF_FAIL, outcome

ON = msgspec.structs.replace(OPTIONS, sends_failures=True, failures_per_hour=3)
MESSAGE = (
    b"Received: from x (x [192.0.2.9]) by mx.here.example for <bob.private@here.example>;"
    b" Thu, 26 Nov 2026 01:02:03 +0000\r\n"
    b'From: "Alice Secretname" <alice.private@author.example>\r\n'
    b"To: Bob Secretname <bob.private@here.example>\r\n"
    b"Subject: my secret subject\r\nX-Thing: secret\r\n"
    b"Date: Thu, 26 Nov 2026 01:02:00 +0000\r\n\r\nsecret body\r\n"
)


def failed(policy: DmarcPolicy = POLICY, **changes: Any) -> Failed:
    spf = msgspec.structs.replace(
        SPF_FAIL, evidence=(Evidence("TXT author.example", 'v=spf1 "quoted" -all'),)
    )
    values: dict[str, Any] = {
        "outcome": outcome(policy=policy),
        "source_ip": "192.0.2.9",
        "reverse_path": Address("alice.private", "author.example"),
        "recipients": (Address("bob.private", "here.example"),),
        "spf": spf,
        "dkim": (DKIM_FAIL,),
        "section": read_section(MESSAGE),
        "disposition": Disposition.REJECT,
        "authentication_results": (
            "mx.here.example; spf=fail smtp.mailfrom=alice.private@author.example"
        ),
        "queue_id": "q1",
        "arrived_at": 1_795_654_923_000_000,
    }
    return Failed(**{**values, **changes})


def policy(**changes: Any) -> DmarcPolicy:
    return msgspec.structs.replace(POLICY, **changes)


def test_a_failure_is_told_to_who_asked_for_it(tmp_path: Path) -> None:
    """RFC 9991 §4, RFC 6591 §3, RFC 5965 §3."""

    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        assert house.failures.report(failed())
        assert await house.failures.send_waiting() == 1
        ((recipients, octets),) = house.mails()
        assert [each.address for each in recipients] == ["ruf@author.example"]
        assert recipients[0].notify == 0
        report = read_report(octets)
        assert isinstance(report, FeedbackReport)
        assert (report.feedback_type, report.auth_failure, report.version) == (
            "auth-failure",
            "dmarc",
            "1",
        )
        assert report.identity_alignment == "dkim, spf"
        assert report.delivery_result == "reject"
        assert report.source_ip == "192.0.2.9" and report.reported_domains == ("author.example",)
        assert (report.dkim_domain, report.dkim_selector) == ("author.example", "s2")
        assert report.spf_dns == ('txt : author.example : "v=spf1 \\"quoted\\" -all"',)
        assert report.arrival_s == 1_795_654_923
        root = scan(octets)
        assert root.parameters.raw(b"report-type") == b"feedback-report"
        assert [(p.maintype, p.subtype) for p in root.children] == [
            (b"text", b"plain"),
            (b"message", b"feedback-report"),
            (b"text", b"rfc822-headers"),
        ]

    run_virtual(main)


def test_nothing_private_leaves_the_house(tmp_path: Path) -> None:
    """RFC 9991 §7, RFC 6590: local-parts hashed, names, subject and body left out."""

    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        house.failures.report(failed())
        await house.failures.send_waiting()
        ((_, octets),) = house.mails()
        for private in (b"private", b"ecret", b"Alice", b"Bob"):
            assert private not in octets, private
        assert b"@author.example" in octets  # domains are what it is about

    run_virtual(main)


def test_an_unsigned_failure_report_is_not_sent(tmp_path: Path) -> None:
    """RFC 9991 §5.1: unaligned ones make mail loops."""

    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        house.has_key = False
        assert house.failures.report(failed())
        assert await house.failures.send_waiting() == 0
        assert house.mails() == []

    run_virtual(main)


def test_it_is_off_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        assert not House(tmp_path, world).failures.report(failed())

    run_virtual(main)


@pytest.mark.parametrize(
    ("options", "spf", "dkim", "asked"),
    [
        (("0",), False, False, True),
        (("0",), True, False, False),
        (("1",), True, False, True),
        (("1",), True, True, False),
        (("d",), False, False, False),
        (("1", "s"), False, True, True),
    ],
)
def test_what_fo_asks_for_is_told_and_nothing_else(
    options: tuple[str, ...], spf: bool, dkim: bool, asked: bool
) -> None:
    """RFC 9989 §4.7."""
    judged = outcome(spf=spf, dkim=dkim, policy=policy(failure_options=options))
    assert is_asked(judged) is asked


def test_who_does_not_ask_and_public_suffixes_are_told_nothing() -> None:
    """RFC 9991 §2."""
    assert not is_asked(outcome(policy=policy(failure_uris=())))
    assert not is_asked(outcome(policy=policy(public_suffix="y")))
    assert not is_asked(msgspec.structs.replace(outcome(), policy=None))
    assert not is_asked(msgspec.structs.replace(outcome(), result=Result.TEMPERROR))


def test_a_victim_is_never_told_of_failures(tmp_path: Path) -> None:  # H45
    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        house.zone("_dmarc.author.example", "v=DMARC1; p=reject")
        house.zone("_dmarc.victim.test", "v=DMARC1; p=none")
        house.failures.report(failed(policy(failure_uris=("mailto:x@victim.test",))))
        assert await house.failures.send_waiting() == 0
        assert house.mails() == []

    run_virtual(main)


def test_a_flood_of_failures_is_a_few_reports_that_count_the_rest(tmp_path: Path) -> None:  # P9
    """RFC 9991 §2, §8.1: a MUST."""

    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        sent = [house.failures.report(failed()) for _ in range(1_000)]
        assert sum(sent) == 1  # alike
        unlike = [house.failures.report(failed(source_ip=f"198.51.100.{n}")) for n in range(9)]
        assert sum(unlike) == 2  # three an hour in all
        assert house.reached() == {"reports.failures_per_hour": 1}  # told once
        await world.clock.sleep(3601)
        assert house.failures.report(failed())
        await house.failures.send_waiting()
        last = read_report(house.mails()[-1][1])
        assert isinstance(last, FeedbackReport) and last.incidents == 1_000

    run_virtual(main)


def test_domains_do_not_use_up_each_others_hour(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        for n in range(5):
            house.failures.report(failed(source_ip=f"192.0.2.{n}"))
        assert house.failures.report(failed(policy(domain="other.example")))

    run_virtual(main)


def test_names_below_one_domain_share_its_hour(tmp_path: Path) -> None:  # P9 H45
    async def main(world: World) -> None:
        house = House(tmp_path, world, ON)
        sent = [
            house.failures.report(failed(policy(domain=f"n{n}.evil.test", public_suffix="n")))
            for n in range(50)
        ]
        assert sum(sent) == 3
        await world.clock.sleep(3601)
        again = [house.failures.report(failed(policy(domain=f"m{n}.evil.test"))) for n in range(9)]
        assert sum(again) == 3
        assert house.reached() == {"reports.failures_per_hour": 2}

    run_virtual(main)


# --- redaction ---


def test_the_same_person_is_the_same_word_and_another_one_another() -> None:
    """RFC 6590 §3."""
    one, other = Redactor(b"potatoes"), Redactor(b"turnips")
    assert one.local_part("bob") == one.local_part("Bob") == one.local_part('"bob"')
    assert one.local_part("bob") != one.local_part("alice")
    assert one.local_part("bob") != other.local_part("bob")
    assert one.text("for <bob@here.example>;") == f"for <{one.local_part('bob')}@here.example>;"


def test_copies_of_fields_in_a_signature_are_not_told() -> None:
    """z= of RFC 6376 §3.5 has the subject in it, and addresses that are encoded."""
    signature = b"DKIM-Signature: v=1; d=a.example;%bz%b=Subject:secret|To:bob=40b.example; b=aGk=;"
    for before, behind in ((b"", b""), (b"\r\n\t", b""), (b"\r\n  ", b" ")):
        section = read_section(signature % (before, behind) + b"\r\n\r\n")
        redacted = Redactor(b"k").section(section)
        assert b"secret" not in redacted and b"bob" not in redacted
        assert b"d=a.example;" in redacted and b"b=aGk=;" in redacted


@given(st.binary(max_size=4_000))
def test_whatever_a_stranger_sends_stays_ascii_bounded_and_inside_its_fields(octets: bytes) -> None:
    section = read_section(octets + b"\r\n\r\n")
    redacted = Redactor(b"k").section(section)
    assert redacted.isascii() and len(redacted) <= OCTETS_MAX
    assert b"\r\n\r\n" not in redacted
    assert all(len(line) <= 998 for line in redacted.split(b"\r\n"))
    names = [field.name for field in section.fields]
    assert [f.name for f in read_section(redacted).fields] == names[: redacted.count(b"\r\n")] or (
        len(read_section(redacted).fields) <= len(names)
    )


@pytest.mark.timed
def test_time_to_redact_grows_with_the_octets_and_no_faster() -> None:
    import time

    def seconds(count: int) -> float:
        section = read_section(b"Received: " + b"a" * count + b"\r\n" * 2)
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            Redactor(b"k").section(section)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(60_000) < 0.05
