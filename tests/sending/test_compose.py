"""Composing: which parts and fields a message gets, and whom it goes to."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from posthouse.kernel.envelope import BodyType, Notify, Ret, TlsDemand
from posthouse.sending.errors import MessageError
from posthouse.sending.message import (
    Alternative,
    Attachment,
    CalendarEvent,
    ListFields,
    Mailbox,
    Message,
    Priority,
    SendEnvelope,
)
from tests.sending.making import (
    HOST,
    Leaf,
    check_wire,
    field,
    leaves,
    letter_of,
    names,
    raw_field,
    recipients,
    simple,
    tree,
)

PNG = b"\x89PNG\r\n\x1a\n"
EVENT = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
PICTURE = Attachment(content=PNG, filename="p.png", cid="p@x")
FILE = Attachment(content=b"%PDF", filename="a.pdf")
HTML = "<p>Hi <img src='cid:p@x'></p>"


# --- structure ---


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "text/plain"),
        ({"text": None}, "text/plain"),
        ({"text": ""}, "text/plain"),
        ({"html": HTML}, "alternative(text/plain text/html)"),
        ({"text": None, "html": HTML}, "alternative(text/plain text/html)"),
        ({"text": "", "html": HTML}, "alternative(text/plain text/html)"),
        ({"text": None, "html": "<img src=x>"}, "text/html"),
        ({"attachments": [FILE]}, "mixed(text/plain application/pdf)"),
        ({"attachments": [FILE, FILE]}, "mixed(text/plain application/pdf application/pdf)"),
        ({"text": None, "attachments": [FILE]}, "application/pdf"),
        ({"text": None, "attachments": [FILE, FILE]}, "mixed(application/pdf application/pdf)"),
        (
            {"html": HTML, "attachments": [PICTURE]},
            "alternative(text/plain related(text/html image/png))",
        ),
        (
            {"html": HTML, "attachments": [FILE, PICTURE]},
            "mixed(alternative(text/plain related(text/html image/png)) application/pdf)",
        ),
        ({"attachments": [PICTURE]}, "mixed(text/plain image/png)"),
        (
            {"html": HTML, "calendar": CalendarEvent(content=EVENT)},
            "mixed(alternative(text/plain text/html text/calendar) application/ics)",
        ),
        (
            {"calendar": CalendarEvent(content=EVENT, filename=None)},
            "alternative(text/plain text/calendar)",
        ),
        (
            {"text": None, "calendar": CalendarEvent(content=EVENT, filename=None)},
            "text/calendar",
        ),
        (
            {
                "html": HTML,
                "alternatives": [
                    Alternative(content="<html amp4email>", content_type="text/x-amp-html"),
                    Alternative(content=b"{}", content_type="application/json"),
                ],
            },
            "alternative(text/plain text/x-amp-html text/html application/json)",
        ),
    ],
)
def test_parts_nest_as_readers_expect(given: dict[str, object], wanted: str) -> None:
    letter = letter_of(simple(**given))
    assert tree(letter) == wanted
    check_wire(letter.octets)
    assert letter.octets.isascii() and letter.envelope.body is BodyType.SEVEN_BIT


def test_related_names_the_type_of_its_root() -> None:  # RFC 2387 §3.1
    octets = letter_of(simple(html=HTML, attachments=[PICTURE])).octets
    assert b'Content-Type: multipart/related; type="text/html";' in octets
    assert b"Content-ID: <p@x>\r\n" in octets and b"Content-Disposition: inline;" in octets


def test_an_attachment_with_fields_of_its_own_is_never_the_message_itself() -> None:  # H66
    sly = Attachment(content=b"x", filename="x", headers={"To": "evil@evil.example"})
    raw = Attachment(raw=b"Content-Type: text/plain\nBcc: evil@evil.example\n\nx")
    for attachment in (sly, raw):
        letter = letter_of(simple(text=None, attachments=[attachment]))
        assert tree(letter).startswith("mixed(") and field(letter, "to") == "bob@example.net"
        assert "bcc" not in names(letter) and recipients(letter) == ["bob@example.net"]


def test_invitations_say_the_method_of_their_content() -> None:  # RFC 6047 §2.4
    made = letter_of(simple(calendar=CalendarEvent(content=EVENT)))
    assert b"text/calendar; charset=us-ascii; method=REQUEST\r\n" in made.octets
    assert leaves(made)[-1] == Leaf("application/ics", EVENT.encode(), "attachment", "invite.ics")
    plain = EVENT.replace("METHOD:REQUEST\r\n", "")
    assert b"method=PUBLISH" in letter_of(simple(calendar=CalendarEvent(content=plain))).octets
    given = CalendarEvent(content=plain, method="cancel")
    assert b"method=CANCEL" in letter_of(simple(calendar=given)).octets
    with pytest.raises(MessageError, match=r"METHOD:'REQUEST'") as caught:
        letter_of(simple(calendar=CalendarEvent(content=EVENT, method="REPLY")))
    assert caught.value.field == "calendar.method"


def test_text_that_is_missing_is_made_of_the_html() -> None:
    markup = "<style>p{}</style><h1>Grüße</h1><p>See <a href='https://x.example/a'>this</a>"
    letter = letter_of(simple(text=None, html=markup))
    assert leaves(letter)[0].content.decode() == ("Grüße\r\n\r\nSee this (https://x.example/a)\r\n")


# --- attachments ---


@pytest.mark.parametrize(
    ("attachment", "wanted"),
    [
        (
            Attachment(content="Grüße", filename="a.txt"),
            Leaf("text/plain", "Grüße".encode(), "attachment", "a.txt"),
        ),
        (
            Attachment(content=b"\xff\n\r", filename="a.txt"),
            Leaf("text/plain", b"\xff\n\r", "attachment", "a.txt"),
        ),
        (
            Attachment(content=PNG),
            Leaf("application/octet-stream", PNG, "attachment", "attachment-1.bin"),
        ),
        (
            Attachment(content=PNG, content_type="image/png"),
            Leaf("image/png", PNG, "attachment", "attachment-1.png"),
        ),
        (Attachment(content=PNG, filename=""), Leaf("application/octet-stream", PNG, "attachment")),
        (
            Attachment(content=PNG, filename="x.png", is_inline=True),
            Leaf("image/png", PNG, "inline", "x.png"),
        ),
        (
            Attachment(content="a\nb", filename="a.txt", encoding="quoted-printable"),
            Leaf("text/plain", b"a\r\nb", "attachment", "a.txt"),
        ),
        (
            Attachment(content="a\nb\n", filename="a.csv", encoding="7bit"),
            Leaf("text/csv", b"a\r\nb\r\n", "attachment", "a.csv"),
        ),
        (
            Attachment(content="é\n", filename="a.csv", encoding="8bit"),
            Leaf("text/csv", "é\r\n".encode(), "attachment", "a.csv"),
        ),
        (
            Attachment(content=b"", filename="empty.bin"),
            Leaf("application/octet-stream", b"", "attachment", "empty.bin"),
        ),
        (
            Attachment(content=b"x", filename="a.b", content_type='a/b; name=c; x="d e"'),
            Leaf("a/b", b"x", "attachment", "a.b"),
        ),
        (
            Attachment(raw=b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\neA==\n"),
            Leaf("image/png", b"x"),
        ),
    ],
)
def test_attachments_of_every_kind_arrive_as_they_were(attachment, wanted: Leaf) -> None:
    letter = letter_of(simple(attachments=[attachment]))
    assert leaves(letter)[1] == wanted
    check_wire(letter.octets)
    is_wide = attachment.encoding == "8bit"
    assert letter.envelope.body is (BodyType.EIGHT_BIT if is_wide else BodyType.SEVEN_BIT)


def test_a_message_within_is_not_encoded() -> None:  # RFC 2046 §5.2.1
    inner = b"From: a@b.example\nSubject: x\n\nhi\n"
    letter = letter_of(simple(attachments=[Attachment(content=inner, filename="x.eml")]))
    assert inner.replace(b"\n", b"\r\n") in letter.octets
    wide = Attachment(content="Subject: é\n\né".encode(), content_type="message/rfc822")
    letter = letter_of(simple(attachments=[wide]))
    assert letter.envelope.body is BodyType.EIGHT_BIT
    assert letter.octets.count(b"Content-Transfer-Encoding: 8bit\r\n") == 2  # RFC 2045 §6.4
    long = Attachment(content=b"Subject: x\n\n" + b"a" * 2_000, content_type="message/rfc822")
    with pytest.raises(MessageError, match="more than 998") as caught:
        letter_of(simple(attachments=[long]))
    assert caught.value.field == "attachments[0].content" and "octet-stream" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a.pdf", b" filename=a.pdf\r\n"),
        ("a b.pdf", b' filename="a b.pdf"\r\n'),
        ('q"\\.pdf', b' filename="q\\"\\\\.pdf"\r\n'),
        ("Jö.pdf", b" filename*=utf-8''J%C3%B6.pdf\r\n"),
        ("x" * 70 + ".pdf", b' filename*0="' + b"x" * 54 + b'";\r\n filename*1="' + b"x" * 16),
        ("ö" * 20, b"filename*0*=utf-8''%C3%B6"),
    ],
)
def test_file_names_are_written_by_rfc_2231_and_not_as_encoded_words(
    name: str, line: bytes
) -> None:
    letter = letter_of(simple(attachments=[Attachment(content=b"x", filename=name)]))
    assert line in letter.octets and b"=?" not in letter.octets
    assert leaves(letter)[1].file_name == name


# --- encodings ---


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain\n", None),
        ("long " * 300, b"quoted-printable"),
        (
            "Grüße aus dem schönen Süden, wo es warm ist und die Sonne scheint\n",
            b"quoted-printable",
        ),
        ("Привет\n", b"base64"),
    ],
)
def test_each_text_gets_the_encoding_that_suits_it(text: str, wanted: bytes | None) -> None:
    letter = letter_of(simple(text=text))
    assert raw_field(letter, "content-transfer-encoding") == wanted
    assert letter.octets.isascii()
    check_wire(letter.octets)


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit", "BASE64"])
def test_an_encoding_that_is_asked_for_is_taken(encoding: str) -> None:
    letter = letter_of(simple(text="é\n", html="<p>é</p>", text_encoding=encoding))
    written = f"Content-Transfer-Encoding: {encoding.lower()}\r\n".encode()
    assert letter.octets.count(written) >= 2
    is_wide = encoding == "8bit"
    assert letter.envelope.body is (BodyType.EIGHT_BIT if is_wide else BodyType.SEVEN_BIT)
    assert not letter.envelope.is_smtputf8


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"text_encoding": "uuencode"}, "text_encoding"),
        ({"text": "é", "text_encoding": "7bit"}, "text"),
        ({"text": "a" * 1_000, "text_encoding": "8bit"}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"html": "\ud800"}, "html"),
        ({"text": b"\xff"}, "text"),
        ({"text": 5}, "text"),
        ({"attachments": [Attachment(content="é", encoding="7bit")]}, "attachments[0].content"),
        ({"attachments": [Attachment(content="x", encoding="x")]}, "attachments[0].encoding"),
        ({"attachments": [Attachment()]}, "attachments[0]"),
        ({"attachments": ["path.txt"]}, "attachments[0]"),
        ({"attachments": [PICTURE, PICTURE]}, "attachments[1].cid"),
        ({"attachments": [Attachment(raw=b"no fields")]}, "attachments[0].raw"),
        ({"attachments": [Attachment(raw=b"A: b\nnone\n\nx")]}, "attachments[0].raw"),
        ({"attachments": [Attachment(raw=b"A: b\n\n\xff")]}, "attachments[0].raw"),
        ({"attachments": [Attachment(raw=b"A: \xff\n\nx")]}, "attachments[0].raw"),
        ({"attachments": [Attachment(raw=b"A: b\n\n" + b"x" * 999)]}, "attachments[0].raw"),
        (
            {"attachments": [Attachment(content=b"", content_type="multipart/mixed")]},
            "attachments[0].content_type",
        ),
        (
            {"alternatives": [Alternative(content="x", content_type="text")]},
            "alternatives[0].content_type",
        ),
        ({"calendar": CalendarEvent(content=EVENT, method="A B")}, "calendar.method"),
        ({"sender": ""}, "sender"),
        ({"sender": "a@x.example, b@x.example"}, "sender"),
        ({"sender": "Team: a@x.example;"}, "sender"),
        ({"to": ()}, "to"),
        ({"to": None}, "to"),
        ({"to": [5]}, "to[0]"),
        ({"to": ["a@x.example", ""]}, "to[1]"),
        ({"to": b"a@x.example"}, "to"),
        ({"date": datetime(2026, 1, 1)}, "date"),
        ({"subject": 5}, "subject"),
        ({"priority": "high"}, "priority"),
        ({"message_id": "<a@b> <c@d>"}, "message_id"),
        ({"in_reply_to": "<a"}, "in_reply_to"),
        ({"in_reply_to": "abc d"}, "in_reply_to"),
        ({"in_reply_to": "<abc d>"}, "in_reply_to"),
        ({"in_reply_to": "<a@x <b@x>"}, "in_reply_to"),
        ({"in_reply_to": "a>b@x"}, "in_reply_to"),
        ({"in_reply_to": "<>"}, "in_reply_to"),
        ({"in_reply_to": "Your letter <a@x>"}, "in_reply_to"),
        ({"in_reply_to": "<a@x>\r\nBcc: b@x"}, "in_reply_to"),
        ({"references": ["<a@x>", "b c"]}, "references[1]"),
        ({"message_id": "a b"}, "message_id"),
        ({"headers": {"X": 5}}, 'headers["X"]'),
        ({"headers": [("X",)]}, "headers"),
        ({"headers": {"Content-Type": "text/html"}}, 'headers["Content-Type"]'),
        ({"headers": {"bcc": "a@x.example"}}, 'headers["bcc"]'),
        ({"headers": {"Bcc ": "a@x.example"}}, 'headers["Bcc "]'),
        ({"headers": {"DKIM-Signature": "x"}}, 'headers["DKIM-Signature"]'),
        ({"headers": {"Resent-To": "x"}}, 'headers["Resent-To"]'),
        ({"headers": {"List-Id": "<x>"}, "list": ListFields(id="x")}, 'headers["List-Id"]'),
        ({"list": ListFields(is_one_click=True, unsubscribe="mailto:a@b.c")}, "list.is_one_click"),
        ({"list": ListFields(unsubscribe="example.org")}, "list.unsubscribe"),
        ({"list": ListFields(unsubscribe=["https://a", "x y"])}, "list.unsubscribe[1]"),
        ({"list": ListFields(id="a b")}, "list.id"),
        ({"envelope": "a@x.example"}, "envelope"),
        ({"calendar": EVENT}, "calendar"),
        ({"list": "https://x.example"}, "list"),
        ({"list": ListFields(help=5)}, "list.help"),
        ({"list": ListFields(help=[5])}, "list.help[0]"),
        ({"list": ListFields(unsubscribe=[5], is_one_click=True)}, "list.unsubscribe[0]"),
        ({"alternatives": "x"}, "alternatives"),
        ({"alternatives": ["x"]}, "alternatives[0]"),
        ({"attachments": None}, "attachments"),
        ({"attachments": "a.pdf"}, "attachments"),
        ({"attachments": [Attachment(content="x", content_type=5)]}, "attachments[0].content_type"),
        ({"attachments": [Attachment(content="x", cid=5)]}, "attachments[0].cid"),
        ({"attachments": [Attachment(content="x", filename=5)]}, "attachments[0].filename"),
        ({"attachments": [Attachment(content="x", headers=5)]}, "attachments[0].headers"),
        ({"references": 5}, "references"),
        ({"headers": 5}, "headers"),
        ({"headers": {5: "x"}}, 'headers["5"]'),
        ({"message_id": 5}, "message_id"),
        ({"sender": None}, "sender"),
        ({"sender": Mailbox(5)}, "sender"),
        ({"sender": Mailbox("a@x.example", None)}, "sender"),
        ({"on_behalf": None}, "on_behalf"),
        ({"text_encoding": 5}, "text_encoding"),
        ({"envelope": SendEnvelope(recipients=[])}, "envelope.recipients"),
        ({"envelope": SendEnvelope(sender="a@b@c")}, "envelope.sender"),
        ({"envelope": SendEnvelope(envelope_id="é")}, "envelope.envelope_id"),
        ({"envelope": SendEnvelope(notify="NEVER")}, "envelope.notify"),
        ({"envelope": SendEnvelope(ret="FULL")}, "envelope.ret"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes: dict[str, object], where: str) -> None:
    with pytest.raises(MessageError) as caught:
        letter_of(simple(**changes))
    assert caught.value.field == where
    assert len(caught.value.text) > 10 and "\n" not in caught.value.text


# --- fields ---


def test_fields_say_what_was_given() -> None:
    letter = letter_of(
        simple(
            sender=Mailbox("ada@example.org", "Ada, Countess"),
            on_behalf="Secretary <s@example.org>",
            to=["Bob <bob@example.net>", Mailbox("c@example.net", "Jö")],
            cc="d@example.net",
            bcc="blind@example.net",
            reply_to="answers@example.org",
            subject="Grüße",
            date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3))),
            message_id="id@example.org",
            in_reply_to="<a@x>",
            references="<r1@x> r2@x,<a@x>",
            priority=Priority.HIGH,
            headers={"X-A": ["1", "zwei ü"], "X-B": "ö"},
        )
    )
    assert names(letter)[:12] == [
        *("date", "from", "sender", "reply-to", "to", "cc", "subject", "message-id"),
        *("in-reply-to", "references", "importance", "x-priority"),
    ]
    assert raw_field(letter, "date") == b"Fri, 2 Jan 2026 03:04:05 -0300"
    assert raw_field(letter, "from") == b'"Ada, Countess" <ada@example.org>'
    assert field(letter, "to") == "Bob <bob@example.net>, Jö <c@example.net>"
    assert field(letter, "subject") == "Grüße"
    assert letter.message_id == field(letter, "message-id") == "<id@example.org>"
    assert raw_field(letter, "references") == b"<r1@x> <r2@x> <a@x>"
    assert letter.octets.count(b"X-A: ") == 2 and field(letter, "x-b") == "ö"
    assert b"blind" not in letter.octets
    assert recipients(letter) == [
        *("bob@example.net", "c@example.net", "d@example.net", "blind@example.net"),
    ]  # fmt: skip


def test_a_new_message_id_is_at_the_authors_domain() -> None:
    assert letter_of(simple()).message_id.endswith("@example.org>")
    at_address = letter_of(simple(sender="a@[192.0.2.1]"))
    assert at_address.message_id.endswith(f"@{HOST}>")
    assert letter_of(simple()).message_id == field(letter_of(simple()), "message-id")


def test_a_reply_is_put_into_its_thread() -> None:
    assert field(letter_of(simple(in_reply_to="x@y")), "references") == "<x@y>"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("abc", "<abc>"),
        ("<abc>", "<abc>"),
        ("<a,b;c@[x]>", "<a,b;c@[x]>"),
        ("<a@x><b>", "<a@x> <b>"),
        (" a@x b@y ", "<a@x> <b@y>"),
        ('<"a..b"@@x>', '<"a..b"@@x>'),
    ],
)
def test_ids_of_real_mail_are_odd(given: str, written: str) -> None:
    assert field(letter_of(simple(in_reply_to=given)), "in-reply-to") == written


def test_a_picture_that_no_part_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    markup = '<p>cid:text <img src="cid:nowhere-1"> <img src="cid:here"></p>'
    here = Attachment(content=b"x", content_type="image/png", cid="here")
    for _ in range(2):
        letter = letter_of(simple(html=markup, attachments=[here]))
        assert b"nowhere-1" in letter.octets
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.name == "posthouse.sending"
    assert "a picture by the cid 'nowhere-1', which no part" in record.getMessage()
    letter_of(simple(html='<a href="cid:nowhere-2">x</a>'))
    assert len(caplog.records) == 1


def test_a_subject_without_blanks_fits_its_lines() -> None:
    letter = letter_of(simple(subject="x" * 3_000))
    check_wire(letter.octets)
    assert field(letter, "subject") == "x" * 3_000


def test_list_fields_stand_once_each() -> None:  # RFC 2369 §2, RFC 8058
    given = ListFields(
        id="Grüße <g.example.org>",
        help="admin@example.org?subject=help",
        unsubscribe=["https://example.org/u?t=1", "mailto:leave@example.org"],
        is_one_click=True,
        subscribe="https://example.org/s (Come (in))",
        post="NO",
        archive="<https://example.org/a>",
        owner="owner@example.org",
    )
    letter = letter_of(simple(list=given))
    assert field(letter, "list-id") == "Grüße <g.example.org>"
    wanted = {
        "list-help": b"<mailto:admin@example.org?subject=help>",
        "list-unsubscribe": b"<https://example.org/u?t=1>, <mailto:leave@example.org>",
        "list-unsubscribe-post": b"List-Unsubscribe=One-Click",
        "list-subscribe": b"<https://example.org/s> (Come \\(in\\))",
        "list-post": b"NO",
        "list-archive": b"<https://example.org/a>",
        "list-owner": b"<mailto:owner@example.org>",
    }
    assert {name: raw_field(letter, name) for name in wanted} == wanted


# --- envelope ---


def test_the_envelope_is_made_of_the_fields_each_recipient_once() -> None:
    letter = letter_of(
        simple(to="Team: a@x.example, b@x.example;", cc=["a@x.example", "c@x.example"])
    )
    assert recipients(letter) == ["a@x.example", "b@x.example", "c@x.example"]
    assert raw_field(letter, "to") == b"Team: a@x.example, b@x.example;"
    assert letter.envelope.reverse_path is not None
    assert letter.envelope.reverse_path.domain == "example.org"


def test_an_empty_group_hides_who_gets_it() -> None:
    letter = letter_of(simple(to="undisclosed-recipients:;", bcc="a@x.example"))
    assert raw_field(letter, "to") == b"undisclosed-recipients:;"
    assert recipients(letter) == ["a@x.example"]


def test_the_envelope_can_be_another() -> None:
    given = SendEnvelope(
        sender="",
        recipients=["Bob <b@x.example>", "b@x.example", "ü@x.example"],
        notify=Notify.SUCCESS | Notify.FAILURE,
        ret=Ret.HDRS,
        envelope_id="order 7",
        tls_demand=TlsDemand.OPTIONAL,
    )
    letter = letter_of(simple(envelope=given))
    envelope = letter.envelope
    assert envelope.reverse_path is None and recipients(letter) == ["b@x.example", "ü@x.example"]
    assert [one.original_recipient for one in envelope.recipients] == [
        "rfc822;b@x.example",
        "utf-8;ü@x.example",
    ]
    assert envelope.recipients[0].notify == Notify.SUCCESS | Notify.FAILURE
    assert (envelope.ret, envelope.envelope_id) == (Ret.HDRS, "order 7")
    assert envelope.is_smtputf8 and field(letter, "tls-required") == "No"  # RFC 8689 §5
    assert field(letter, "to") == "bob@example.net"


@pytest.mark.parametrize(
    ("address", "written", "is_wide"),
    [
        ("bob@bücher.example", b"bob@xn--bcher-kva.example", False),
        ("bob@BÜCHER.example", b"bob@xn--bcher-kva.example", False),
        ("bob@straße.example", b"bob@xn--strae-oqa.example", False),
        ("jörg@example.org", "jörg@example.org".encode(), True),
        ("jörg@bücher.example", "jörg@xn--bcher-kva.example".encode(), True),
    ],
)
def test_domains_become_a_labels_and_local_parts_need_smtputf8(
    address: str, written: bytes, is_wide: bool
) -> None:
    for made in (letter_of(simple(to=address)), letter_of(simple(sender=address))):
        assert written in made.octets
        assert made.envelope.is_smtputf8 is is_wide
        assert made.envelope.body is (BodyType.EIGHT_BIT if is_wide else BodyType.SEVEN_BIT)


def test_what_is_not_gathered_is_refused() -> None:
    with pytest.raises(MessageError, match="read first"):
        letter_of(Message(sender="a@b.example", to="c@d.example", text=iter([b"x"])))


class Safe(str):
    """As template engines mark text they have escaped."""

    def replace(self, *args: object) -> str:  # type: ignore[override]
        raise AssertionError("it is made plain first")

    split = encode = replace  # type: ignore[assignment]


def test_text_of_template_engines_is_plain_text_here() -> None:
    letter = letter_of(simple(subject=Safe("Grüße"), text=Safe("a\r\nb"), html=Safe("<p>x</p>")))
    assert field(letter, "subject") == "Grüße"
    assert [one.content for one in leaves(letter)] == [b"a\r\nb\r\n", b"<p>x</p>\r\n"]


def test_the_tag_comes_along() -> None:
    tag = object()
    assert letter_of(simple(tag=tag)).tag is tag
    assert letter_of(simple()).octets.startswith(b"Date: Thu, 26 Nov 2026 10:00:00 +0000\r\n")
