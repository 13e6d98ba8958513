"""The form in which nobody on the way finds anything to change (RFC 8551 §3.1, RFC 3156 §5)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message import mime
from posthouse.message.mime import Part
from posthouse.mimesec.entity import canonical, is_clean, join_message, split_message
from posthouse.mimesec.ports import ProtectionError

MESSAGE = (
    b"Received: by somebody\r\nFrom: a@b.example\r\nContent-Type: text/plain\r\n"
    b"MIME-Version: 1.0\r\nSubject: folded\r\n over two lines\r\nContent-Language: en\r\n\r\nHi\r\n"
)


def test_a_message_is_taken_apart_and_put_back() -> None:
    split = split_message(MESSAGE)
    assert split.fields == (
        b"Received: by somebody\r\n",
        b"From: a@b.example\r\n",
        b"Subject: folded\r\n over two lines\r\n",
    )
    assert split.entity == b"Content-Type: text/plain\r\nContent-Language: en\r\n\r\nHi\r\n"
    again = split_message(join_message(split.fields, split.entity))
    assert again == split


def test_bare_line_ends_of_fields_become_crlf_and_lines_of_blanks_go() -> None:
    split = split_message(b"Subject: a\n \t\n b\nContent-Type: text/plain\n\nx")
    assert split.fields == (b"Subject: a\r\n b\r\n",)
    assert split.entity == b"Content-Type: text/plain\r\n\r\nx"


def test_a_header_section_nobody_reads_is_refused() -> None:
    with pytest.raises(ProtectionError, match=r"message\.fields_max") as caught:
        split_message(b"X: y\r\n" * 2000 + b"\r\n")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("fields", "bound"),
    [
        (b"X: y\r\n" * 901, "fields_max"),
        (b"X: %b\r\n" % (b"y" * (100 * 1024 - 20)), "field_octets_max"),
        (b"X: %b\r\n" % (b"y" * 80_000) * 3, "header_octets_max"),
    ],
)
def test_a_header_section_without_room_for_the_fields_of_the_way_is_refused(
    fields: bytes, bound: str
) -> None:
    with pytest.raises(ProtectionError, match=bound):
        split_message(fields + b"\r\n")
    assert len(split_message(b"X: y\r\n" * 900 + b"\r\n").fields) == 900


def test_what_is_clean_is_kept_octet_for_octet() -> None:
    entity = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\npreamble\r\n--b\r\n\r\ntext\r\n'
        b"--b\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n"
    )
    assert canonical(entity) == entity


def test_only_the_part_that_needs_it_is_encoded() -> None:
    entity = (
        b'Content-Type: multipart/mixed; boundary="b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        b"X-Kept:  as it is\r\n\r\nGr\xc3\xbc\xc3\x9fe an alle, die das lesen  \r\nFrom here\r\n"
        b"--b\r\nContent-Type: text/x-patch\r\n\r\n-a\r\n+b\r\n--b--\r\n"
    )
    made = canonical(entity)
    assert is_clean(made)
    assert made.count(b"Content-Transfer-Encoding: 7bit") == 1  # the multipart's
    assert b"Content-Transfer-Encoding: quoted-printable\r\n" in made
    assert b"X-Kept:  as it is\r\n" in made
    assert b"\r\n\r\n-a\r\n+b\r\n--b--\r\n" in made
    assert b"lesen =20\r\n=46rom here" in made


@pytest.mark.parametrize(
    "body",
    [
        b"blank at the end \r\n",
        b"tab\t\r\n",
        b"no line end ",
        b"From the first line\r\n",
        b"x\r\nFrom the second\r\n",
        b"x" * 999 + b"\r\n",
        b"nul\0\r\n",
        b"bare\rcr\r\n",
        "Zürich\r\n".encode(),
        b"\xff\xfe" * 40,
        b"From " * 30 + b"\r\n",
        b"From " + b"x" * 71 + b"\r\n",
    ],
)
def test_each_thing_a_relay_would_change_is_hidden(body: bytes) -> None:
    entity = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body
    made = canonical(entity)
    assert is_clean(made)
    assert all(len(line) <= 76 for line in made.split(b"\r\n\r\n", 1)[1].split(b"\r\n"))
    assert mime.content(mime.scan(made), octets_max=10_000) == body


def test_octets_that_are_no_text_keep_their_line_ends() -> None:
    entity = (
        b"Content-Type: application/x-thing\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb\rc"
    )
    made = canonical(entity)
    assert b"Content-Transfer-Encoding: base64\r\n" in made
    assert mime.content(mime.scan(made), octets_max=100) == b"a\nb\rc"


def test_bare_lf_of_text_and_of_a_whole_message_becomes_crlf() -> None:
    assert canonical(b"Content-Type: text/plain\n\na\nb\n") == (
        b"Content-Type: text/plain\r\n\r\na\r\nb\r\n"
    )
    made = canonical(b"Content-Type: text/plain\r\n\r\na\nb\xc3\xa9\n")
    assert mime.content(mime.scan(made), octets_max=100) == b"a\r\nb\xc3\xa9\r\n"


SIGNED = (
    b'Content-Type: multipart/signed; protocol="x/y"; boundary="s"\r\n\r\n'
    b"--s\r\n\r\nis signed \r\nFrom somebody \xff\r\n--s\r\nContent-Type: x/y\r\n\r\nsig\r\n--s--"
)


def test_what_is_signed_already_is_not_touched() -> None:
    assert canonical(SIGNED) == SIGNED
    outer = (
        b'Content-Type: multipart/mixed; boundary="o"\r\n\r\n--o\r\n'
        + SIGNED
        + b"\r\n--o\r\n\r\nblank \r\n--o--"
    )
    made = canonical(outer)
    assert SIGNED in made
    assert b"blank=20" in made


def test_only_line_ends_of_what_is_signed_become_crlf() -> None:
    assert canonical(SIGNED.replace(b"\r\n", b"\n")) == SIGNED


def test_a_message_inside_is_gone_through_and_never_encoded_as_a_whole() -> None:
    entity = (
        b"Content-Type: message/rfc822\r\n\r\nSubject: caf\xc3\xa9 \r\nFrom: a@b.example\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\ncaf\xc3\xa9\r\n"
    )
    made = canonical(entity)
    assert is_clean(made)
    root = mime.scan(made)
    assert root.encoding == b"7bit"
    assert root.message is not None
    assert root.message.section.first(b"subject") == b"=?utf-8?q?caf=C3=A9?="
    assert root.message.section.first(b"from") == b"a@b.example"
    assert mime.content(root.message, octets_max=100) == b"caf\xc3\xa9\r\n"


def test_names_of_files_outside_ascii_are_written_as_parameters() -> None:
    entity = (
        b'Content-Type: text/plain; name="Z\xc3\xbcge.txt"; charset=us-ascii\r\n'
        b'Content-Disposition: attachment; filename="Z\xc3\xbcge.txt"\r\n\r\nx\r\n'
    )
    made = canonical(entity)
    assert is_clean(made)
    part = mime.scan(made)
    assert part.file_name == "Züge.txt"
    assert part.parameters.raw(b"charset") == b"us-ascii"


def test_preamble_and_blanks_behind_delimiters_are_made_clean_without_a_new_delimiter() -> None:
    entity = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\nPr\xc3\xa9amble \r\n--b\xff\r\n'
        b"From me\r\n--b \t\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--  \r\nepilogue "
    )
    made = canonical(entity)
    assert is_clean(made)
    bodies = [made[child.body : child.end] for child in mime.scan(made).children]
    assert bodies == [b"one", b"two"]


def test_a_part_without_fields_gets_the_one_it_needs() -> None:
    entity = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nno field \r\n--b--\r\n"
    made = canonical(entity)
    assert is_clean(made)
    (child,) = mime.scan(made).children
    assert mime.content(child, octets_max=100) == b"no field "


def test_an_encoding_nobody_knows_is_left_alone() -> None:
    entity = b"Content-Type: x/y\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nM\xff \r\n"
    assert canonical(entity) == entity


@pytest.mark.parametrize(
    ("head", "charset"),
    [
        (b"", b"utf-8"),
        (b"Content-Type: text/html; format=flowed; charset=US-ASCII\r\n", b"utf-8"),
        (b'Content-Type: text/plain; boundary="a\x01"\r\n', b"utf-8"),
        (b"Content-Type: text/plain; charset=iso-8859-1\r\n", b"iso-8859-1"),
        (b"Content-Type: text/plain; charset*=''koi8-r\r\n", None),
        (b"Content-Type: application/octet-stream\r\n", None),
    ],
)
def test_utf_8_that_says_nothing_of_it_is_named_once_it_is_encoded(
    head: bytes, charset: bytes | None
) -> None:
    text = "Grüße an alle\r\n".encode()
    part = mime.scan(canonical(head + b"\r\n" + text))
    assert part.parameters.raw(b"charset") == charset
    assert mime.content(part, octets_max=100) == text
    assert canonical(part.section.octets) == part.section.octets
    unknown = mime.scan(canonical(b"\r\nGr\xfc\xdfe\r\n"))
    assert b"content-type" not in unknown.section
    assert mime.content(unknown, octets_max=100) == b"Gr\xfc\xdfe\r\n"


# --- properties ---

LINES = st.sampled_from(
    [
        b"",
        b"text",
        b"From ",
        b"From x",
        b"blank ",
        b"\t",
        b"--a",
        b"--a--",
        b"--b",
        b"--b ",
        b"--b--",
        b"\xc3\xa9",
        b"=20",
        b"=",
        b"AAAA",
        b"nul\0",
        b"x\ry",
        b"y" * 1001,
        b"Content-Type: multipart/mixed; boundary=a",
        b"Content-Type: multipart/alternative; boundary=b",
        b"Content-Type: multipart/signed; boundary=b",
        b"Content-Type: message/rfc822",
        b"Content-Type: text/html; charset=utf-8",
        b"Content-Type: application/x; name=\xe9",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Transfer-Encoding: 8bit",
        b"Content-Transfer-Encoding: x-odd",
        b"Subject: \xff ",
        b" folded",
    ]
)
ENTITIES = st.builds(
    lambda lines, end: end.join(lines),
    st.lists(LINES, max_size=40),
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
)


def contents(entity: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Type and content of each leaf; line ends of text are not content."""
    found = []
    for part in mime.scan(entity).walk():
        if part.children or part.message is not None:
            found.append((part.maintype, part.subtype, b""))
            continue
        content = mime.content(part, octets_max=max(len(entity), 1))
        if is_read_as_text(part):
            content = re.sub(rb"(?<!\r)\n", b"\r\n", content)
        found.append((part.maintype, part.subtype, content))
    return found


def is_read_as_text(part: Part) -> bool:
    return part.maintype in (b"text", b"multipart", b"message")


@given(ENTITIES)
@settings(max_examples=600, deadline=None)
def test_the_canonical_form_has_the_same_content_and_is_its_own(entity: bytes) -> None:
    if b"\r" not in entity:
        entity = entity.replace(b"\n", b"\r\n")
    made = canonical(entity)
    assert contents(made) == contents(entity)
    assert canonical(made) == made


@given(st.text(max_size=400), st.sampled_from(["plain", "html"]))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_out_clean(text: str, subtype: str) -> None:
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    made = canonical(head.encode() + text.encode())
    assert is_clean(made)
    got = mime.content(mime.scan(made), octets_max=10_000)
    assert got == re.sub(rb"(?<!\r)\n", b"\r\n", text.encode()) or got == text.encode()


@given(st.binary(max_size=300))
def test_nothing_makes_it_raise(octets: bytes) -> None:
    canonical(octets)
    split_message(octets)
