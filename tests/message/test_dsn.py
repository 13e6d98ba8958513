"""Delivery status notifications: RFC 3464, RFC 6522, RFC 6533."""

from __future__ import annotations

import email
import email.policy
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address, Ret
from posthouse.message import dsn, mime
from posthouse.message.build import Mailbox
from posthouse.message.dsn import Action, RecipientReport, Report
from posthouse.message.dsn_text import ADVICE, advice
from posthouse.message.fields import read_section

NOW = datetime(2026, 11, 23, 20, 36, tzinfo=UTC)
FAILED = RecipientReport(
    final_recipient="nobody@b.example",
    action=Action.FAILED,
    status="5.1.1",
    original_recipient="rfc822;Nobody@b.example",
    remote_mta="mx.b.example",
    diagnostic="550 5.1.1 no such user",
    last_attempt_at=NOW,
)
DELAYED = RecipientReport(
    final_recipient="slow@b.example",
    action=Action.DELAYED,
    status="4.4.1",
    will_retry_until=NOW,
)
DELIVERED = RecipientReport(final_recipient="ok@b.example", action=Action.DELIVERED, status="2.0.0")
ORIGINAL = b"From: s@a.example\r\nMessage-ID: <1@a.example>\r\nSubject: hi\r\n\r\nsecret body\r\n"


def report(*recipients: RecipientReport, envelope_id: str | None = "QQ314159") -> Report:
    return Report(
        reporting_mta="mx.a.example",
        recipients=recipients,
        arrival_at=NOW,
        envelope_id=envelope_id,
    )


def compose(told: Report, original: bytes = ORIGINAL, **options: object) -> bytes:
    return dsn.compose(
        told,
        sender=Mailbox(Address("MAILER-DAEMON", "a.example"), "Mail Delivery System"),
        to=Address("s", "a.example"),
        date=NOW,
        message_id="<d1@a.example>",
        original=original,
        **options,  # type: ignore[arg-type]
    )


def returned(octets: bytes) -> tuple[str, bytes]:
    part = mime.scan(octets).children[2]
    kind = f"{part.maintype.decode()}/{part.subtype.decode()}"
    return kind, mime.content(part, octets_max=1_000_000)


def test_a_failure_notice_has_three_parts_and_says_who_wrote_it() -> None:
    # RFC 6522 §3, RFC 3464 §2, RFC 3834 §5
    octets = compose(report(FAILED), ret=Ret.FULL)
    root = mime.scan(octets)
    section = root.section
    assert (root.maintype, root.subtype) == (b"multipart", b"report")
    assert root.parameters.raw(b"report-type") == b"delivery-status"
    assert section.first(b"auto-submitted") == b"auto-replied"
    assert section.first(b"to") == b"s@a.example"
    assert section.first(b"in-reply-to") == b"<1@a.example>"
    human, status, _ = root.children
    assert (status.maintype, status.subtype) == (b"message", b"delivery-status")
    assert mime.content(status, octets_max=10_000).decode() == (
        "Original-Envelope-Id: QQ314159\r\n"
        "Reporting-MTA: dns; mx.a.example\r\n"
        "Arrival-Date: Mon, 23 Nov 2026 20:36:00 +0000\r\n"
        "\r\n"
        "Original-Recipient: rfc822; Nobody@b.example\r\n"
        "Final-Recipient: rfc822; nobody@b.example\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx.b.example\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
        "Last-Attempt-Date: Mon, 23 Nov 2026 20:36:00 +0000\r\n"
    )
    words = mime.text(human, octets_max=10_000)
    assert "nobody@b.example" in words and "550 5.1.1 no such user" in words
    assert "mx.b.example said" in words and advice("5.1.1").split(".")[0] in words
    assert returned(octets) == ("message/rfc822", ORIGINAL)


def test_only_a_host_is_said_to_have_answered_by_smtp() -> None:  # RFC 3464 §2.3.6
    words = "the domain b.example does not exist"
    told = RecipientReport(
        final_recipient="x@b.example", action=Action.FAILED, status="5.1.2", diagnostic=words
    )
    octets = compose(report(told))
    assert f"Diagnostic-Code: X-Posthouse; {words}\r\n".encode() in octets
    parsed = dsn.parse(octets)
    assert parsed is not None
    [read] = parsed.recipients
    assert read.diagnostic == words and read.remote_mta is None


def test_what_is_returned_follows_ret_and_the_bound() -> None:  # RFC 3461 §4.3
    header = ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n"
    as_fields = ("text/rfc822-headers", header)
    assert returned(compose(report(FAILED), ret=Ret.HDRS)) == as_fields
    assert returned(compose(report(FAILED))) == as_fields
    assert returned(compose(report(DELAYED), ret=Ret.FULL)) == as_fields
    assert returned(compose(report(DELIVERED), ret=Ret.FULL)) == as_fields
    both = compose(report(DELAYED, FAILED), ret=Ret.FULL)
    assert returned(both)[0] == "message/rfc822"
    assert returned(compose(report(FAILED), ret=Ret.FULL, return_octets_max=50))[1] == (
        b"From: s@a.example\r\nMessage-ID: <1@a.example>\r\n"
    )
    big = ORIGINAL + b"x" * dsn.RETURN_OCTETS_MAX
    assert b"secret body" not in compose(report(FAILED), big, ret=Ret.FULL)


def test_delay_and_success_notices_say_so() -> None:
    delay = compose(report(DELAYED))
    assert read_section(delay).first(b"subject") == b"Your message is delayed"
    assert b"Will-Retry-Until: Mon, 23 Nov 2026" in delay
    assert b"You need to do nothing now" in delay
    success = compose(report(DELIVERED))
    assert read_section(success).first(b"subject") == b"Your message was delivered"
    assert b"Action: delivered" in success


def test_addresses_and_headers_outside_ascii_take_the_global_forms() -> None:  # RFC 6533 §3–§5
    told = RecipientReport(final_recipient="jö@b.example", action=Action.FAILED, status="5.1.1")
    original = "From: jö@a.example\r\n\r\nx\r\n".encode()
    octets = compose(report(told), original, ret=Ret.FULL)
    status = mime.scan(octets).children[1]
    assert status.subtype == b"global-delivery-status"
    assert "Final-Recipient: utf-8; jö@b.example".encode() in octets
    assert returned(octets) == ("message/global", original)
    assert mime.scan(octets).section.first(b"content-transfer-encoding") == b"8bit"
    fields = compose(report(FAILED), original)
    assert returned(fields) == ("message/global-headers", original[: -len("\r\nx\r\n")])
    assert fields.isascii()


def test_words_of_others_stay_inside_their_field() -> None:  # H20, H66
    told = RecipientReport(
        final_recipient="a\r\nAction: delivered@b.example",
        action=Action.FAILED,
        status="5.1.1\r\nX: y",
        original_recipient="rfc822;a\r\nX-Evil: 1",
        remote_mta="mx\r\nX-Evil: 2",
        diagnostic="550 a\r\n550 b\x1b[31m\r\n\r\nX-Evil: 3" + "é" * 10 + "x" * 100_000,
    )
    octets = compose(report(told, envelope_id="x\r\nX-Evil: 4"))
    status = mime.content(mime.scan(octets).children[1], octets_max=1_000_000)
    assert b"\nX-Evil" not in octets and b"\x1b" not in octets
    assert b"Action: failed\r\nStatus: 5.0.0\r\n" in status
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert len(octets) < 10_000


@given(st.text(max_size=80), st.text(max_size=80), st.binary(max_size=80))
def test_a_notice_can_always_be_composed(words: str, address: str, original: bytes) -> None:
    told = RecipientReport(
        final_recipient=address,
        action=Action.FAILED,
        status=words,
        original_recipient=words,
        remote_mta=words,
        diagnostic=words,
    )
    octets = compose(report(told, envelope_id=words), original, ret=Ret.FULL)
    assert len(mime.scan(octets).children) == 3
    found = dsn.parse(octets)
    assert found is not None and len(found.recipients) == 1


def test_what_we_compose_we_read() -> None:
    told = report(FAILED, DELAYED, DELIVERED)
    found = dsn.parse(compose(told))
    assert found is not None
    assert found.recipients[1:] == told.recipients[1:]
    assert found.recipients[0] == RecipientReport(
        final_recipient="nobody@b.example",
        action=Action.FAILED,
        status="5.1.1",
        original_recipient="rfc822; Nobody@b.example",
        remote_mta="mx.b.example",
        diagnostic="550 5.1.1 no such user",
        last_attempt_at=NOW,
    )
    assert (found.reporting_mta, found.arrival_at, found.envelope_id) == (
        "mx.a.example", NOW, "QQ314159",
    )  # fmt: skip


def test_the_standard_library_reads_our_notice() -> None:
    whole = email.message_from_bytes(compose(report(FAILED, DELAYED)), policy=email.policy.default)
    status = list(whole.iter_parts())[1]  # type: ignore[attr-defined]
    groups = status.get_payload()
    assert [group["Action"] for group in groups] == [None, "failed", "delayed"]


@pytest.mark.parametrize("key", ADVICE)
def test_advice_is_words_for_people(key: str) -> None:
    status = f"5.{key}" if "." in key else f"5.{key}.999"
    assert advice(status) == ADVICE[key]
    assert ADVICE[key].endswith(".") and ADVICE[key][0].isupper()
    assert advice("") == "Try again later."


def test_no_report_is_none() -> None:
    assert dsn.parse(b"") is None
    assert dsn.parse(ORIGINAL) is None
    empty = b"Content-Type: message/delivery-status\r\n\r\n\r\n\r\n"
    assert dsn.parse(empty) is None


PIECES = [
    b"Final-Recipient:", b"Action:", b"Status:", b" rfc822;", b"a@b", b"failed", b"5.1.1", b"\r\n",
    b"\n", b" ", b"\xff", b"\0", b";", b"Reporting-MTA: dns;",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES)))
def test_reading_a_notice_never_raises(pieces: list[bytes]) -> None:
    found = dsn.parse(b"Content-Type: message/delivery-status\r\n\r\n" + b"".join(pieces))
    assert found is None or found.recipients


# --- published vectors ---

# They name a delivery-status part but are not built so that they have one of their own.
WITHOUT_A_PART = {
    "lhost-sendmail-53.eml": "no Content-Type of its own names the boundary",
    "lhost-x5-01.eml": "it is in a message that this one forwards",
    "rfc3464-06.eml": "the boundary stands before no part",
    "rfc3464-35.eml": "the delimiter in front of the part is missing, so it is text",
}


def test_sisimai_vectors(vectors: Path) -> None:
    folder = vectors / "bounce" / "sisimai"
    read = 0
    for file in sorted(folder.glob("*.eml")):
        octets = file.read_bytes()
        found = dsn.parse(octets)
        folded = octets.lower()
        if b"\nfinal-recipient:" in folded and b"message/delivery-status" in folded:
            if file.name in WITHOUT_A_PART:
                assert found is None, file
                continue
            assert found is not None, file
        if found is None:
            continue
        read += 1
        for one in found.recipients:
            assert one.final_recipient, file
            if b"\nstatus:" in folded:
                assert one.status, file
    assert read >= 120


def test_sisimai_statuses(vectors: Path) -> None:
    """Where that set's own reading kept the part's status, ours is the same."""
    folder = vectors / "bounce" / "sisimai"
    expected = json.loads((folder / "expected.json").read_text())
    same = other = 0
    for name, rows in expected.items():
        found = dsn.parse((folder / name).read_bytes()) if (folder / name).exists() else None
        if found is None or len(found.recipients) != len(rows):
            continue
        for one, row in zip(found.recipients, rows):
            status = row["status"]
            if status.startswith(("5.0.9", "4.0.9")):
                continue  # made up there
            same += one.status == status
            other += one.status != status
    # The others were corrected there from the words of the diagnostic; we tell what was written.
    assert same > 4 * other


def test_mimekit_delivery_status_vectors(vectors: Path) -> None:
    folder = vectors / "mime" / "mimekit" / "messages"
    for name, recipients in (
        ("delivery-status-multiple-blank-lines.txt", 1),
        ("delivery-status-no-blank-line.txt", 1),
        ("delivery-status.anonymized.eml", 1),
    ):
        found = dsn.parse((folder / name).read_bytes())
        assert found is not None and len(found.recipients) == recipients, name
        assert found.recipients[0].action is Action.FAILED, name
        assert found.reporting_mta, name
