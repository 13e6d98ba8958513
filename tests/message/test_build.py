"""Building new messages: nothing a caller passes becomes a line of its own."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.message import build, mime, words
from posthouse.message.address_list import parse_address_list
from posthouse.message.build import BuildError, Encoding, Mailbox
from posthouse.message.fields import read_section

A = Address("a", "example.org")

INJECTIONS = [
    ("Subject", lambda: build.text_field("Subject", "x\r\nBcc: evil@x")),
    ("Subject", lambda: build.text_field("Subject", "x\ny")),
    ("Subject", lambda: build.text_field("Subject", "x\0")),
    ("Subject", lambda: build.text_field("Subject", "x\u2028y")),
    ("Subject", lambda: build.text_field("Subject", "\ud800")),
    ("X-A: b\r\nX-B", lambda: build.field("X-A: b\r\nX-B", "c")),
    ("", lambda: build.field("", "c")),
    ("Xé", lambda: build.field("Xé", "c")),
    ("To", lambda: build.address_field("To", [Mailbox(A, "x\r\nBcc: evil@x")])),
    ("To", lambda: build.address_field("To", [Mailbox(Address("a\r\nb", "x"))])),
    ("To", lambda: build.address_field("To", [Mailbox(Address("a", "x>\r\nBcc: y"))])),
    ("To", lambda: build.address_field("To", [Mailbox(Address("a", "evil x"))])),
    ("To", lambda: build.address_field("To", [])),
    ("Message-ID", lambda: build.message_id_field("<a>\r\nX: y")),
    ("Message-ID", lambda: build.message_id_field("a@b")),
    (
        "Content-Disposition",
        lambda: build.octets_entity("a/b", b"", file_name='x"\r\nContent-Type: text/html'),
    ),
    ("Content-Type", lambda: build.octets_entity("a/b\r\nX: y", b"")),
    ("body", lambda: build.text_entity("a\0b")),
    ("body", lambda: build.text_entity("\ud800")),
    ("body", lambda: build.text_entity("é", encoding=Encoding.SEVEN_BIT)),
    ("X", lambda: build.field("X", "a" * 1_000)),
]


@pytest.mark.parametrize(("name", "made"), INJECTIONS)
def test_a_value_that_does_not_fit_is_refused_with_its_fields_name(name: str, made) -> None:  # H66
    with pytest.raises(BuildError) as caught:
        made()
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("mailbox", "written"),
    [
        (Mailbox(A), b"To: a@example.org\r\n"),
        (Mailbox(A, "John Doe"), b"To: John Doe <a@example.org>\r\n"),
        (Mailbox(A, "Doe, J"), b'To: "Doe, J" <a@example.org>\r\n'),
        (Mailbox(A, 'a "b" \\'), b'To: "a \\"b\\" \\\\" <a@example.org>\r\n'),
        (Mailbox(A, "Jö, x"), b"To: =?utf-8?q?J=C3=B6=2C_x?= <a@example.org>\r\n"),  # H66
        (Mailbox(A, "=?x"), b"To: =?utf-8?q?=3D=3Fx?= <a@example.org>\r\n"),
        (Mailbox(Address("a@evil x", "good.example")), b'To: "a@evil x"@good.example\r\n'),  # H66
        (Mailbox(Address("jö", "example.org")), "To: jö@example.org\r\n".encode()),
    ],
)  # fmt: skip
def test_mailboxes_are_written_so_that_they_are_read_alike(
    mailbox: Mailbox, written: bytes
) -> None:
    assert build.address_field("To", [mailbox]) == written
    value = read_section(written + b"\r\n").first(b"to") or b""
    (item,) = parse_address_list(value).items
    assert item.address() == mailbox.address
    assert item.display_name == mailbox.display_name


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=200)


@given(PRINTABLE)
def test_text_survives_its_field(text: str) -> None:
    octets = build.text_field("Subject", text)
    lines = octets.split(b"\r\n")
    assert lines.pop() == b"" and octets.isascii()
    assert all(len(line) <= 998 and line.strip() for line in lines)  # RFC 5322 §2.1.1
    assert all(line[:1] == b" " for line in lines[1:])
    value = read_section(octets + b"\r\n").first(b"subject")
    assert value is not None and words.decode(value).strip(" ") == text.strip(" ")


@given(st.lists(PRINTABLE.filter(lambda name: "  " not in name), min_size=1, max_size=20))
def test_address_fields_survive_folding(names: list[str]) -> None:
    octets = build.address_field("To", [Mailbox(A, name) for name in names])
    value = read_section(octets + b"\r\n").first(b"to") or b""
    found = parse_address_list(value)
    assert [item.address() for item in found.items] == [A] * len(names)
    assert [item.display_name.strip() for item in found.items] == [name.strip() for name in names]


@given(st.text(st.characters(exclude_categories=["Cs"]).filter(lambda c: c != "\0"), max_size=300))
def test_text_bodies_survive_any_encoding(text: str) -> None:
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    wanted += "\n" if wanted and not wanted.endswith("\n") else ""
    for encoding in (None, Encoding.EIGHT_BIT, Encoding.QUOTED_PRINTABLE, Encoding.BASE64):
        octets = build.message([], build.text_entity(text, encoding=encoding))
        root = mime.scan(octets)
        assert mime.content(root, octets_max=10_000).decode() == wanted.replace("\n", "\r\n")
        if encoding not in (Encoding.EIGHT_BIT,):
            assert octets.isascii()
            assert all(len(line) <= 998 for line in octets.split(b"\r\n"))


def test_a_multipart_is_read_back() -> None:
    parts = [
        build.text_entity("Grüße"),
        build.text_entity("plain\n--=_x\n"),
        build.octets_entity("image/png", b"\0\1\2" * 100, file_name='Jö "x".png'),
    ]
    whole = build.message(
        [
            build.address_field("From", [Mailbox(A)]),
            build.date_field(datetime(2026, 11, 23, 20, 36, tzinfo=UTC)),
            build.message_id_field("<1@example.org>"),
        ],
        build.multipart("mixed", parts),
    )
    root = mime.scan(whole)
    assert [child.subtype for child in root.children] == [b"plain", b"plain", b"png"]
    assert root.children[2].file_name == 'Jö "x".png'
    assert mime.content(root.children[2], octets_max=1_000) == b"\0\1\2" * 100
    assert root.section.first(b"date") == b"Mon, 23 Nov 2026 20:36:00 +0000"
    # The standard library reads the same.
    oracle = email.message_from_bytes(whole, policy=email.policy.default)
    shown = [part.get_content() for part in oracle.iter_parts()]  # type: ignore[attr-defined]
    assert shown == ["Grüße\r\n", "plain\r\n--=_x\r\n", b"\0\1\2" * 100]


def test_no_part_holds_the_boundary() -> None:
    inner = build.multipart("mixed", [build.text_entity("x")])
    outer = build.multipart("mixed", [inner, build.text_entity(inner.body.decode())])
    root = mime.scan(build.message([], outer))
    assert len(root.children) == 2 and len(root.children[0].children) == 1
