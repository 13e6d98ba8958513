"""Mail as programs read it: decoded, bounded, and safe to save and show."""

from __future__ import annotations

import base64
import os
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import Named, ReceivedMessage, build, read, safe_name
from posthouse.message.dsn import Action
from posthouse.message.reading import NAME_OCTETS_MAX, TEXT_OCTETS_MAX

VECTORS = os.environ.get("POSTHOUSE_VECTORS")
LETTERS = (
    sorted(
        path
        for folder in ("mime", "smime", "arf", "bounce")
        for path in Path(VECTORS, folder).rglob("*")
        if path.suffix in (".eml", ".txt", ".msg", ".mbox", "") and path.is_file()
    )
    if VECTORS
    else []
)


def mail(*fields: str, body: str = "Hello\r\n") -> ReceivedMessage:
    return read(("\r\n".join(fields) + "\r\n\r\n" + body).encode())


def test_header_fields_are_decoded() -> None:
    letter = mail(
        "From: =?utf-8?q?Zo=C3=AB?= <zoe@xn--bcher-kva.example>",
        'To: Team: "Bob, Jr." <bob@example.net>, eve@example.net;, ada@example.org',
        "Subject: =?iso-8859-1?q?Caf=E9?= =?utf-8?b?4pyT?=",
        "Date: Thu, 26 Nov 2026 10:00:00 +0100",
        "Message-ID: <one@example.org>",
        "In-Reply-To: <zero@example.org> (a comment)",
        "References: <a@x.example>\r\n <b@x.example>",
        "X-Mark: one",
        "x-mark: two",
    )
    assert letter.subject == "Café✓"
    assert letter.authors == (Named("zoe@bücher.example", "Zoë"),)
    assert letter.sender == letter.authors[0]
    assert letter.to == (
        Named("bob@example.net", "Bob, Jr.", "Team"),
        Named("eve@example.net", "", "Team"),
        Named("ada@example.org"),
    )
    assert letter.date is not None and letter.date.isoformat() == "2026-11-26T10:00:00+01:00"
    assert letter.message_id == "<one@example.org>"
    assert letter.in_reply_to == ("<zero@example.org>",)
    assert letter.references == ("<a@x.example>", "<b@x.example>")
    assert letter.header("X-MARK") == "one"
    assert letter.headers("X-Mark") == ("one", "two")
    assert ("x-mark", "two") in list(letter.header_fields())


def test_what_is_missing_is_empty() -> None:
    letter = read(b"")
    assert (letter.subject, letter.text, letter.html, letter.message_id) == ("", "", "", "")
    assert letter.authors == letter.attachments == letter.messages == letter.calendars == ()
    assert letter.sender is None and letter.date is None
    assert letter.delivery_report is letter.disposition_report is letter.feedback_report is None


def test_texts_attachments_pictures_and_invitations_are_apart() -> None:
    picture = build.octets_entity("image/png", b"\x89PNG", file_name="dot.png")
    event = build.text_entity("BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR", subtype="calendar")
    event = build.Entity(
        (event.fields[0].replace(b"calendar;", b"calendar; method=request;"), *event.fields[1:]),
        event.chunks,
    )
    texts = build.multipart(
        "alternative",
        [build.text_entity("Grüße"), build.text_entity("<p>Grüße</p>", subtype="html"), event],
    )
    letter = read(
        build.message(
            [build.text_field("Subject", "Tee")], build.multipart("mixed", [texts, picture])
        )
    )
    assert letter.text == "Grüße\n"
    assert "<p>Grüße</p>" in letter.html
    assert [one.method for one in letter.calendars] == ["REQUEST"]
    event_part, dot = letter.attachments
    assert event_part.content_type == "text/calendar" and event_part.name == "attachment-1.ics"
    assert (dot.name, dot.content_type, dot.octets) == ("dot.png", "image/png", b"\x89PNG")
    assert not dot.is_inline


def test_html_alone_gives_the_text_as_words() -> None:
    letter = mail(
        "Content-Type: text/html; charset=utf-8",
        body="<style>p{}</style><p>Hello&nbsp;there</p>\r\n<script>no()</script><p>you</p>",
    )
    assert letter.text.split() == ["Hello", "there", "you"]
    assert letter.html.startswith("<style>")


def test_an_embedded_message_is_read_by_itself() -> None:
    inner = b"From: bob@example.net\r\nSubject: inside\r\n\r\ninner text\r\n"
    letter = read(
        b"From: ada@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\nouter\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        + inner
        + b"\r\n--b--\r\n"
    )
    assert [one.subject for one in letter.messages] == ["inside"]
    assert letter.messages[0].text == "inner text\n"
    assert letter.text == "outer"
    assert letter.attachments[0].name == "attachment-1.eml"
    assert letter.attachments[0].octets.startswith(b"From: bob@example.net")


def test_reports_are_told_as_what_they_are() -> None:
    status = (
        "Reporting-MTA: dns; mx.example.net\r\n\r\n"
        "Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    )
    bounced = mail("Content-Type: message/delivery-status", body=status)
    assert bounced.delivery_report is not None
    assert bounced.delivery_report.recipients[0].action is Action.FAILED

    notification = (
        "Reporting-UA: reader.example; Mail 1.0\r\n"
        "Final-Recipient: rfc822;bob@example.net\r\nOriginal-Message-ID: <one@example.org>\r\n"
        "Disposition: manual-action/MDN-sent-automatically; displayed\r\n"
    )
    read_ = mail("Content-Type: message/disposition-notification", body=notification)
    assert read_.disposition_report is not None
    assert read_.disposition_report.disposition == "displayed"
    assert read_.disposition_report.is_automatic
    assert read_.disposition_report.original_message_id == "<one@example.org>"
    assert read_.disposition_report.final_recipient == "bob@example.net"

    feedback = mail(
        "Content-Type: message/feedback-report", body="Feedback-Type: abuse\r\nUser-Agent: x/1\r\n"
    )
    assert feedback.feedback_report is not None
    assert feedback.feedback_report.feedback_type == "abuse"
    assert mail("Content-Type: message/feedback-report", body="x: y\r\n").feedback_report is None
    assert mail("Content-Type: message/disposition-notification").disposition_report is None


# H41
@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\evil.exe", "evil.exe"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("a\x00b\r\nc.txt", "abc.txt"),
        ("file.txt. . ", "file.txt"),
        (".bashrc", "bashrc"),
        ("..", ""),
        ("NUL.txt", "_NUL.txt"),
        ("com1", "_com1"),
        ("Übersicht für Ähren.pdf", "Übersicht für Ähren.pdf"),
        ("x" * 300 + ".pdf", "x" * (NAME_OCTETS_MAX - 4) + ".pdf"),
    ],
)
def test_names_are_safe_to_save_under(sent: str, name: str) -> None:
    assert safe_name(sent) == name


@given(st.text())
def test_any_name_becomes_one_that_leads_nowhere(sent: str) -> None:
    name = safe_name(sent)
    assert "/" not in name and "\\" not in name and name not in (".", "..")
    assert len(name.encode("utf-8")) <= NAME_OCTETS_MAX
    assert safe_name(name) == name


# H31
def test_subjects_that_decode_to_controls_show_none() -> None:
    letter = mail("Subject: =?utf-8?q?a=00b=0D=0ABcc:_eve=40x.example?= =?utf-7?q?+ADw-?=")
    assert letter.subject == "ab  Bcc: eve@x.example =?utf-7?q?+ADw-?="


# H37
def test_a_text_without_end_is_cut_and_says_so() -> None:
    letter = read(b"Subject: long\r\n\r\n" + b"x" * (TEXT_OCTETS_MAX + 10))
    assert len(letter.text) == TEXT_OCTETS_MAX and letter.is_cut
    assert not mail("Subject: short").is_cut


# H37
@pytest.mark.parametrize(
    "fields_and_body",
    [
        b"\r\n" + b"\r\n" * 1_000_000,
        b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUJD\r\n" * 500_000,
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=\xff=ZZ=" * 500_000,
        b"\r\nbegin 644 x\r\n" + b"#0V%T\r\n" * 500_000,
    ],
    ids=["empty lines", "base64 of three", "broken quoted-printable", "uuencode"],
)
def test_strange_bodies_are_read_as_far_as_they_go(fields_and_body: bytes) -> None:
    letter = read(b"Subject: x\r\n" + fields_and_body)
    assert len(letter.text) <= TEXT_OCTETS_MAX
    assert letter.attachments == ()


@given(st.binary(max_size=2_000))
def test_anything_is_a_message(octets: bytes) -> None:
    everything(read(octets))


@pytest.mark.skipif(not LETTERS, reason="published messages: POSTHOUSE_VECTORS is not set")
def test_published_messages_are_read_whole() -> None:
    assert len(LETTERS) > 200
    for path in LETTERS:
        everything(read(path.read_bytes()))


@pytest.mark.skipif(not LETTERS, reason="published messages: POSTHOUSE_VECTORS is not set")
def test_well_formed_messages_say_what_the_standard_library_reads() -> None:
    """Where the standard library reads a message without defects, the texts are the same."""
    compared = 0
    for path in LETTERS:
        octets = path.read_bytes()
        try:
            other = message_from_bytes(octets, policy=policy.default)
            body = other.get_body(("plain",))
            if body is None or other.is_multipart() or any(p.defects for p in other.walk()):
                continue
            theirs = body.get_content()
        except (LookupError, ValueError, AttributeError, RecursionError, KeyError):
            continue  # it cannot read them; we can
        if other.get_content_type() != "text/plain" or body["content-disposition"]:
            continue
        if "\ufffd" in theirs or "mbox" in path.parts:
            continue
        ours = read(octets).text
        assert ours.split() == theirs.split(), path
        compared += 1
    assert compared > 20


def everything(letter: ReceivedMessage) -> None:
    """Ask all there is to ask."""
    waiting = [letter]
    while waiting:
        one = waiting.pop()
        assert "\r" not in one.subject and "\n" not in one.subject
        assert isinstance(one.text, str) and isinstance(one.html, str)
        for each in one.attachments:
            assert each.name and isinstance(each.octets, bytes) and each.content_type
            assert isinstance(each.content_id, str) and isinstance(each.description, str)
        list(one.header_fields())
        _ = (one.date, one.authors, one.to, one.cc, one.bcc, one.reply_to, one.sender, one.is_cut)
        _ = (one.message_id, one.references, one.in_reply_to, one.calendars)
        _ = (one.delivery_report, one.disposition_report, one.feedback_report)
        waiting.extend(one.messages)


# --- what real mail has ---

INNER = b"From: x@x.example\r\nSubject: inner\r\n\r\nhello inner\r\n"


def multipart(*parts: bytes, subtype: bytes = b"mixed", boundary: bytes = b"b0") -> bytes:
    return (
        b"From: a@x.example\r\nSubject: outer\r\nContent-Type: multipart/"
        + subtype
        + b"; boundary="
        + boundary
        + b"\r\n\r\n"
        + b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
        + b"--"
        + boundary
        + b"--\r\n"
    )


def embedded(octets: bytes, kind: bytes = b"rfc822", encoding: bytes = b"") -> bytes:
    field = b"Content-Transfer-Encoding: " + encoding + b"\r\n" if encoding else b""
    return b"Content-Type: message/" + kind + b"\r\n" + field + b"\r\n" + octets


@pytest.mark.parametrize(
    "part",
    [
        embedded(INNER),
        embedded(INNER, b"global"),  # RFC 6532 §3.7
        embedded(base64.encodebytes(INNER), encoding=b"base64"),
        embedded(base64.encodebytes(INNER), b"global", b"base64"),
        embedded(INNER.replace(b"hello", b"=68ello"), encoding=b"quoted-printable"),
    ],
)
def test_an_embedded_message_is_read_however_it_is_written(part: bytes) -> None:
    [inner] = read(multipart(b"\r\nhi", part)).messages
    assert (inner.subject, inner.text.strip()) == ("inner", "hello inner")


def test_a_message_within_a_message_belongs_to_that_one() -> None:
    [outer] = read(multipart(embedded(multipart(embedded(INNER), boundary=b"b1")))).messages
    assert [one.subject for one in outer.messages] == ["inner"]


BOUNCE = multipart(
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; m.example\r\n\r\n"
    b"Final-Recipient: rfc822; q@q.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
    b"Content-Type: message/disposition-notification\r\n\r\n"
    b"Disposition: manual-action/MDN-sent-manually; displayed\r\n",
    b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n",
    b"Content-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n",
    subtype=b"report",
    boundary=b"b1",
)


def test_whoever_forwards_a_report_sends_none() -> None:
    def said(letter: ReceivedMessage) -> list[object]:
        return [
            letter.delivery_report,
            letter.disposition_report,
            letter.feedback_report,
            letter.calendars,
        ]

    letter = read(multipart(b"\r\nlook", embedded(BOUNCE)))
    assert not any(said(letter))
    [bounce] = letter.messages
    assert all(said(bounce))


def test_the_words_of_html_have_its_links_lists_and_tables() -> None:
    letter = read(
        b"Content-Type: text/html\r\n\r\n<h1>Head</h1><p>See <a href='https://e.example/r?t=1'>here"
        b"</a></p><ul><li>one<li>two</ul>"
    )
    assert letter.text.rstrip() == "Head\n\nSee here (https://e.example/r?t=1)\n\n- one\n- two"


UU = b"begin 644 a.txt\r\n%:&5L;&\\\r\n`\r\nend\r\n"


@pytest.mark.parametrize("encoding", [b"x-uuencode", b"UUENCODE", b"x-uue"])
@pytest.mark.parametrize(
    "octets",
    [
        UU,
        UU.replace(b"\r\n", b"\n"),
        UU[17:],
        b"some words\r\n" + UU,
        UU.replace(b"`\r\nend", b"\xff\xfe\r\n`"),
        UU.replace(b"&\\\\", b"&\\\\  "),
    ],
)
def test_old_mail_has_uuencoded_files(octets: bytes, encoding: bytes) -> None:
    octets = b"Content-Type: application/x; name=a\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        encoding,
        octets,
    )
    [attachment] = read(octets).attachments
    assert attachment.octets == b"hello"
