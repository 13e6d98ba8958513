"""Whole messages sent as they are: what changes, and whom they go to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import BodyType, TlsDemand
from posthouse.sending.errors import MessageError
from posthouse.sending.message import Attachment, Message, SendEnvelope
from tests.sending.making import field, letter_of, names, recipients

HEAD = b"Date: x\r\nMessage-ID: <1@x>\r\nFrom: a@x.example\r\n"


def raw(octets: bytes | str, **more: object):
    return letter_of(Message(raw=octets, **more))  # type: ignore[arg-type]


def test_nothing_changes_but_line_ends_and_bcc() -> None:
    octets = (
        HEAD + b"X-Odd:   two  blanks\r\n\tand a tab \r\nTo: b@x.example\r\n\r\n  body\t \r\n.\r\n"
    )
    assert raw(octets).octets == octets
    assert raw(octets.replace(b"\r\n", b"\n")).octets == octets
    blind = octets.replace(b"To:", b"bCC: c@x.example,\r\n d@x.example\r\nTo:")
    letter = raw(blind)
    assert letter.octets == octets
    assert recipients(letter) == ["c@x.example", "d@x.example", "b@x.example"]


def test_date_and_message_id_are_added_in_front() -> None:
    octets = b"From: a@x.example\r\nTo: b@x.example\r\n\r\nhi\r\n"
    letter = raw(octets)
    assert names(letter)[:2] == ["date", "message-id"] and letter.octets.endswith(octets)
    assert letter.message_id == field(letter, "message-id")
    assert letter.message_id.endswith("@x.example>")
    assert raw(HEAD + b"To: b@x.example\r\n\r\nx\r\n").message_id == "<1@x>"


def test_text_is_taken_as_utf_8_and_asks_for_smtputf8_only_where_fields_need_it() -> None:
    letter = raw("From: a@x.example\nTo: b@x.example\n\né\n")
    assert letter.octets.endswith("é\r\n".encode())
    assert letter.envelope.body is BodyType.EIGHT_BIT and not letter.envelope.is_smtputf8
    letter = raw("From: é <a@x.example>\nTo: b@x.example\n\nx\n")
    assert letter.envelope.is_smtputf8


def test_the_envelope_and_addresses_given_count_more_than_the_fields() -> None:
    octets = HEAD + b"To: nonsense\r\nCc: b@x.example\r\n\r\nx\r\n"
    with pytest.raises(MessageError, match="To can be read") as caught:
        raw(octets)
    assert caught.value.field == "raw" and "envelope" in caught.value.hint
    letter = raw(octets, envelope=SendEnvelope(sender="s@x.example", recipients=["r@x.example"]))
    assert recipients(letter) == ["r@x.example"]
    letter = raw(octets, to="r@x.example", bcc="q@x.example", sender="s@x.example")
    assert recipients(letter) == ["r@x.example", "q@x.example"]
    assert letter.envelope.reverse_path is not None
    assert letter.envelope.reverse_path.local_part == "s"
    assert letter.octets == octets


def test_resent_fields_say_who_gets_it_now() -> None:  # RFC 5322 §3.6.6
    block = (
        b"Resent-From: new@x.example\r\nResent-To: n1@x.example\r\nResent-Bcc: n2@x.example\r\n"
        b"Resent-From: old@x.example\r\nResent-To: o@x.example\r\n"
    )
    letter = raw(block + HEAD + b"To: b@x.example\r\n\r\nx\r\n")
    assert recipients(letter) == ["n1@x.example", "n2@x.example"]
    assert letter.envelope.reverse_path is not None
    assert letter.envelope.reverse_path.local_part == "new"
    assert b"n2" not in letter.octets and letter.octets.count(b"Resent-To") == 2


def test_of_several_authors_the_sender_gets_the_notices() -> None:
    octets = b"From: a@x.example, b@x.example\r\nSender: s@x.example\r\nTo: c@x.example\r\n\r\nx"
    letter = raw(octets)
    assert letter.envelope.reverse_path is not None
    assert letter.envelope.reverse_path.local_part == "s"
    assert letter.octets.endswith(b"\r\nx\r\n")
    with pytest.raises(MessageError, match="From names not one"):
        raw(octets.replace(b"Sender:", b"X-Sender:"))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\r\n",
        b"no fields at all",
        b"From a@x.example Mon Jan 1\nFrom: a@x.example\nTo: b@x.example\n\nx",
        HEAD + b"no colon\r\nTo: b@x.example\r\n\r\nx",
        HEAD + b"T\xc3\xb6: b@x.example\r\n\r\nx",
        HEAD + b"To: b@x.example\r\n\r\n\0",
        HEAD + b"From: b@x.example\r\nTo: b@x.example\r\n\r\nx",
        b"To: b@x.example\r\n\r\nx",
        HEAD + b"X: y\r\n" * 1_001 + b"Bcc: hidden@x.example\r\nTo: b@x.example\r\n\r\nx",
        HEAD + b"X: " + b"y" * 300_000 + b"\r\nBcc: hidden@x.example\r\n\r\nx",
    ],
)
def test_what_readers_could_see_otherwise_is_refused(octets: bytes) -> None:  # H33, H34, H66
    with pytest.raises(MessageError) as caught:
        raw(octets)
    assert caught.value.field == "raw"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject", "x"),
        ("text", "x"),
        ("html", "x"),
        ("headers", {"X": "y"}),
        ("attachments", [Attachment(content=b"x")]),
        ("on_behalf", "a@x.example"),
        ("message_id", "<x@y>"),
    ],
)
def test_arguments_that_would_be_left_out_are_refused(name: str, value: object) -> None:
    with pytest.raises(MessageError) as caught:
        raw(HEAD + b"To: b@x.example\r\n\r\nx", **{name: value})
    assert caught.value.field == name


@given(st.binary(max_size=300))
def test_whatever_stands_in_the_body_stays(body: bytes) -> None:
    head = HEAD + b"To: b@x.example\r\n\r\n"
    if b"\0" in body:
        with pytest.raises(MessageError):
            raw(head + body)
        return
    octets = raw(head + body).octets
    assert octets.startswith(head) and octets.endswith(b"\r\n")
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
    kept = octets[len(head) :].replace(b"\r\n", b"\n")
    wanted = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert kept == wanted or kept == wanted + b"\n"


def test_that_tls_is_not_needed_is_written_into_it() -> None:
    octets = HEAD + b"To: b@x.example\r\n\r\nhi\r\n"
    wish = SendEnvelope(tls_demand=TlsDemand.OPTIONAL)
    letter = raw(octets, envelope=wish)
    assert letter.octets == b"TLS-Required: No\r\n" + octets
    assert raw(letter.octets, envelope=wish).octets == letter.octets
