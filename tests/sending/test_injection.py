"""Whatever stands in an argument, it adds no field, no recipient and no line (H66).

This is the Injection line of RELIABILITY section 5 for the sending library: header fields are made
by the one builder, and what it cannot take is refused with the argument's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.message import mime
from posthouse.sending.carrier import Letter
from posthouse.sending.errors import MessageError
from posthouse.sending.message import (
    Alternative,
    Attachment,
    CalendarEvent,
    ListFields,
    Mailbox,
    Message,
    SendEnvelope,
)
from tests.sending.making import check_wire, leaves, letter_of, names, recipients, simple

EVENT = "BEGIN:VCALENDAR\nEND:VCALENDAR\n"
EVIL = "evil@evil.example"


def attached(**given: object) -> Message:
    return simple(attachments=[Attachment(**({"content": b"x", "filename": "x"} | given))])  # type: ignore[arg-type]


def listed(**given: object) -> Message:
    return simple(list=ListFields(**given))  # type: ignore[arg-type]


# Each argument that takes text for a field: how it is given, and what an error about it is named.
ARGUMENTS: dict[str, tuple[Callable[[str], Message], str]] = {
    "subject": (lambda text: simple(subject=text), "subject"),
    "sender": (lambda text: simple(sender=text), "sender"),
    "sender.name": (lambda text: simple(sender=Mailbox("a@x.example", text)), "sender"),
    "sender.address": (lambda text: simple(sender=Mailbox(text)), "sender"),
    "on_behalf": (lambda text: simple(on_behalf=text), "on_behalf"),
    "to": (lambda text: simple(to=text), "to"),
    "to[1]": (lambda text: simple(to=["a@x.example", text]), "to[1]"),
    "to.name": (lambda text: simple(to=[Mailbox("bob@example.net", text)]), "to[0]"),
    "to.address": (lambda text: simple(to=[Mailbox(text)]), "to[0]"),
    "cc": (lambda text: simple(cc=text), "cc"),
    "bcc": (lambda text: simple(bcc=text), "bcc"),
    "reply_to": (lambda text: simple(reply_to=text), "reply_to"),
    "message_id": (lambda text: simple(message_id=text), "message_id"),
    "in_reply_to": (lambda text: simple(in_reply_to=text), "in_reply_to"),
    "references": (lambda text: simple(references=["<a@b>", text]), "references[1]"),
    "headers value": (lambda text: simple(headers={"X-Foo": text}), 'headers["X-Foo"]'),
    "headers name": (lambda text: simple(headers={text: "x"}), 'headers["'),
    "headers pair": (lambda text: simple(headers=[("X-Foo", text)]), 'headers["X-Foo"]'),
    "list.id": (lambda text: listed(id=text), "list.id"),
    "list.unsubscribe": (lambda text: listed(unsubscribe=text), "list.unsubscribe"),
    "list.help": (lambda text: listed(help=[text]), "list.help"),
    "list.comment": (lambda text: listed(help=f"https://x.example ({text})"), "list.help"),
    "list.post": (lambda text: listed(post=["NO", text]), "list.post[1]"),
    "attachment.filename": (lambda text: attached(filename=text), "attachments[0].filename"),
    "attachment.content_type": (
        lambda text: attached(content_type=text),
        "attachments[0].content_type",
    ),
    "attachment.type parameter": (
        lambda text: attached(content_type=f'a/b; c="{text}"'),
        "attachments[0].content_type",
    ),
    "attachment.cid": (lambda text: attached(cid=text), "attachments[0].cid"),
    "attachment.encoding": (lambda text: attached(encoding=text), "attachments[0].encoding"),
    "attachment.headers value": (
        lambda text: attached(headers={"X-Foo": text}),
        'attachments[0].headers["X-Foo"]',
    ),
    "attachment.headers name": (
        lambda text: attached(headers={text: "x"}),
        'attachments[0].headers["',
    ),
    "alternative.content_type": (
        lambda text: simple(alternatives=[Alternative(content="x", content_type=text)]),
        "alternatives[0].content_type",
    ),
    "calendar.method": (
        lambda text: simple(calendar=CalendarEvent(content=EVENT, method=text)),
        "calendar.method",
    ),
    "calendar.filename": (
        lambda text: simple(calendar=CalendarEvent(content=EVENT, filename=text)),
        "calendar.filename",
    ),
    "text_encoding": (lambda text: simple(text_encoding=text), "text_encoding"),
    "envelope.sender": (
        lambda text: simple(envelope=SendEnvelope(sender=text)),
        "envelope.sender",
    ),
    "envelope.recipients": (
        lambda text: simple(envelope=SendEnvelope(recipients=["a@x.example", text])),
        "envelope.recipients[1]",
    ),
    "envelope.envelope_id": (
        lambda text: simple(envelope=SendEnvelope(envelope_id=text)),
        "envelope.envelope_id",
    ),
}
TAKES_RECIPIENTS = {"to", "to[1]", "to.address", "cc", "bcc", "envelope.recipients"}
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

PIECES = st.sampled_from(
    [
        *("\r\n", "\n", "\r", "\0", "\t", "\x0b", "\x85", "\u2028", "\u2029", "\ud800", "\x7f"),
        *(f"\r\nBcc: {EVIL}", f"\nBcc: {EVIL}", "\r\n\r\n", "\r\n.\r\n", f"\r\nRCPT TO:<{EVIL}>"),
        *(f'" <{EVIL}>', f", {EVIL}", f">,<{EVIL}", "; boundary=x", '"', "\\", "<", ">", "(", ")"),
        *(
            "@",
            ",",
            ";",
            ":",
            "=?utf-8?q?=0D=0ABcc:_x?=",
            "=?",
            " ",
            "  ",
            "x",
            "é",
            "日本",
            "a@b.c",
        ),
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=6).map("".join))

# Fields that a use of the argument adds on purpose.
EXPECTED = {
    *("date", "from", "sender", "reply-to", "to", "cc", "subject", "message-id"),
    *("in-reply-to", "references", "list-id", "list-help", "list-unsubscribe", "list-post"),
    *("x-foo", "mime-version", "content-type", "content-transfer-encoding"),
}


def check_letter(argument: str, text: str, letter: Letter) -> None:
    check_wire(letter.octets) if letter.octets.isascii() else None
    found = names(letter)
    for name in set(found) - EXPECTED:
        assert argument == "headers name" and name == text.strip().lower(), name
    assert len(found) == len(set(found))
    assert "bcc" not in found
    root = mime.scan(letter.octets)
    fields = root.section.fields
    assert sum(one.end - one.start for one in fields) == root.section.end  # each line is a field's
    sent_to = recipients(letter)
    if argument not in TAKES_RECIPIENTS:
        assert sent_to == ["bob@example.net"]
    elif EVIL in sent_to:  # named as one of several, in a text that takes several
        assert argument in ("to", "to[1]", "cc", "bcc", "envelope.recipients")
    assert leaves(letter)[0].content == b"At five?\r\n"


@pytest.mark.parametrize("argument", list(ARGUMENTS))
@given(text=TEXTS)
@example(text=f"x\r\nBcc: {EVIL}")
@example(text=f"x\nBcc: {EVIL}\n\nbody")
@example(text="a@x.example\r\nRCPT TO:<evil@evil.example>")
def test_no_argument_adds_a_field_a_line_or_a_recipient(argument: str, text: str) -> None:
    # H66, and the Injection line of RELIABILITY section 5
    make, field = ARGUMENTS[argument]
    try:
        letter = letter_of(make(text))
    except MessageError as error:
        known = (field, "to") if argument in TAKES_RECIPIENTS else (field,)
        assert error.field.startswith(known), error.field
        assert not CONTROL.search(error.text) and not CONTROL.search(error.field)
        return
    # `message_id=""` and the like is nothing; any other control character is never let through.
    assert not CONTROL.search(text)
    check_letter(argument, text, letter)


@given(text=st.text(max_size=200))
@example(text=f"\r\n.\r\nMAIL FROM:<{EVIL}>")
@example(text="\r\n--=_0\r\nContent-Type: text/html\r\n\r\nx")
def test_contents_stay_in_their_parts(text: str) -> None:  # H66
    files = [Attachment(content=text.replace("\ud800", ""), filename="x")]
    wanted = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    try:
        letter = letter_of(simple(text=text, html=text or "x", attachments=files))
    except MessageError as error:
        assert error.field in ("text", "html", "attachments[0].content")
        assert "\0" in text or re.search("[\ud800-\udfff]", text)
        return
    check_wire(letter.octets)
    assert names(letter) == [
        *("date", "from", "to", "message-id", "mime-version", "content-type"),
    ]  # fmt: skip
    found = leaves(letter)
    plain = wanted if not wanted or wanted.endswith("\r\n") else f"{wanted}\r\n"
    if text:
        assert [one.content.decode() for one in found] == [plain, plain, text]
    assert found[-1].content.decode() == text


def test_a_part_made_elsewhere_cannot_end_the_multipart() -> None:  # H66
    first = letter_of(simple(attachments=[Attachment(content=b"x", filename="x")]))
    boundary = re.search(rb'boundary="([^"]+)"', first.octets)
    assert boundary is not None
    sly = b"Content-Type: text/plain\r\n\r\n--%b--\r\n\r\nhidden" % boundary[1]
    # Whoever knows one message's boundary knows nothing of the next one's.
    other = letter_of(simple(html="<p>", attachments=[Attachment(raw=sly)]))
    assert leaves(other)[-1].content.endswith(b"hidden")
