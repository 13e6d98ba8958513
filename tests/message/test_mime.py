"""The MIME scanner and what IMAP shows of it: RFC 2045, RFC 2046, RFC 3501 §7.4.2."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import mime
from posthouse.message.fields import header_end, read_section
from posthouse.message.html import to_words
from posthouse.message.mime import DEPTH_MAX, PARTS_MAX, Part, content, scan, text
from posthouse.message.preview import preview
from posthouse.protocol.imap.structure import (
    SectionKind,
    basic_body,
    envelope,
    header_fields,
    render,
    section,
)

MIXED = b"""From: A <a@x.example>\r
Content-Type: multipart/mixed; boundary="out"\r
\r
preamble\r
--out\r
Content-Type: multipart/alternative; boundary=out-in\r
\r
--out-in\r
Content-Type: text/plain; charset=utf-8\r
\r
Hello\r
world\r
--out-in \t\r
Content-Type: text/html\r
\r
<p>Hi\r
--out-in--\r
epilogue\r
--out\r
Content-Type: image/png\r
Content-ID: <1@x>\r
Content-Disposition: attachment; filename="\xc3\xa9.png"\r
Content-Transfer-Encoding: base64\r
Content-Language: de, en\r
\r
aGVsbG8=\r
--out\r
Content-Type: message/rfc822\r
\r
Subject: inner\r
\r
body\r
--out--\r
--out\r
not a part\r
"""


def outline(part: Part) -> object:
    """Types of leaves, lists for multiparts, pairs for messages."""
    if part.children:
        return [outline(child) for child in part.children]
    if part.message is not None:
        return ("message", outline(part.message))
    return (part.maintype + b"/" + part.subtype).decode()


def body_of(part: Part) -> bytes:
    return part.section.octets[part.body : part.end]


def test_parts_are_found_with_their_octets() -> None:  # RFC 2046 §5.1.1
    root = scan(MIXED)
    assert outline(root) == [
        ["text/plain", "text/html"],
        "image/png",
        ("message", "text/plain"),
    ]
    alternative, image, message = root.children
    assert body_of(alternative.children[0]) == b"Hello\r\nworld"
    assert alternative.children[0].lines == 1
    assert body_of(alternative.children[1]) == b"<p>Hi"
    assert body_of(alternative).endswith(b"epilogue")
    assert image.file_name == "é.png"
    assert content(image, octets_max=100) == b"hello"
    assert content(image, octets_max=3) == b"hel"
    assert message.message is not None
    assert message.message.section.first(b"subject") == b"inner"
    assert body_of(message.message) == b"body"
    assert [part.subtype for part in root.walk()] == [
        b"mixed", b"alternative", b"plain", b"html", b"png", b"rfc822", b"plain",
    ]  # fmt: skip


def test_bare_lf_divides_as_crlf_does() -> None:
    lf = MIXED.replace(b"\r\n", b"\n")
    assert outline(scan(lf)) == outline(scan(MIXED))
    assert body_of(scan(lf).children[0].children[0]) == b"Hello\nworld"


def multipart(boundary: bytes, body: bytes, *, subtype: bytes = b"mixed") -> bytes:
    head = b'Content-Type: multipart/%b; boundary="%b"\r\n\r\n' % (subtype, boundary)
    return head + body


ODD = [
    # A part without its empty line, or without any field, is still there.
    (multipart(b"x", b"--x\r\nHello you\r\n--x--\r\n"), ["text/plain"], [b"Hello you"]),
    (multipart(b"x", b"--x\r\nA: b\r\n--x\r\n\r\nc\r\n--x--"), ["text/plain"] * 2, [b"", b"c"]),
    (multipart(b"x", b"--x\r\n--x\r\n\r\nc\r\n--x--"), ["text/plain"] * 2, [b"", b"c"]),
    (multipart(b"x", b"--x\r\n\r\n--x\r\n\r\nc\r\n--x--"), ["text/plain"] * 2, [b"", b"c"]),
    # Not closed: the last part holds the rest.
    (multipart(b"x", b"--x\r\n\r\na\r\n"), ["text/plain"], [b"a\r\n"]),
    # Prefixes of each other are different delimiters (RFC 2046 §5.1.1 wants whole lines).
    (multipart(b"x", b"--xy\r\n\r\na\r\n--x\r\n\r\nb\r\n--x--"), ["text/plain"], [b"b"]),
    # A digest holds messages (RFC 2046 §5.1.5).
    (
        multipart(b"x", b"--x\r\n\r\nSubject: s\r\n\r\nb\r\n--x--", subtype=b"digest"),
        [("message", "text/plain")],
        [b"Subject: s\r\n\r\nb"],
    ),
]


@pytest.mark.parametrize(("octets", "shape", "bodies"), ODD)
def test_odd_multiparts_keep_their_parts(
    octets: bytes, shape: list[object], bodies: list[bytes]
) -> None:  # H28
    root = scan(octets)
    assert outline(root) == shape
    assert [body_of(part) for part in root.children] == bodies


def test_a_multipart_without_parts_is_shown_as_text() -> None:  # RFC 2045 §5.2, H28
    for octets in (
        multipart(b"", b"--\r\n\r\na\r\n"),
        multipart(b"x" * 10_240, b"--" + b"x" * 10_240 + b"\r\n\r\na"),
        multipart(b"x", b"nothing"),
        b"Content-Type: multipart/mixed\r\n\r\nbody",
    ):
        root = scan(octets)
        assert root.is_opaque and not root.children
        assert render(octets).bodystructure.startswith(b'("text" "plain" NIL')
        assert section(octets, (1,)) == (root.body, len(octets))


def test_the_outer_multipart_owns_a_boundary_that_is_there_twice() -> None:  # H28
    inner = multipart(b"x", b"--x\r\n\r\nb\r\n--x--\r\n")
    root = scan(multipart(b"x", b"--x\r\n" + inner))
    assert outline(root) == ["multipart/mixed", "text/plain"]


def test_the_first_of_two_fields_counts() -> None:  # H32
    octets = (
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\n"
        b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\nx"
    )
    root = scan(octets)
    assert (root.subtype, root.encoding, root.is_ambiguous) == (b"plain", b"7bit", True)
    assert b'"text" "plain"' in render(octets).bodystructure
    boundaries = b"Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--b\r\n\r\nx"
    assert scan(boundaries).children == []
    assert scan(boundaries).is_ambiguous


@pytest.mark.parametrize("name", [b"boundary", b"protocol", b"smime-type", b"charset"])
def test_a_parameter_in_one_piece_and_in_several_leaves_open_what_a_part_is(name: bytes) -> None:
    """H29, H32: readers that join the pieces first see other parts."""
    body = b"\r\n\r\n--a\r\n\r\nx\r\n--a--\r\n"
    field = b"Content-Type: multipart/mixed; %b; %b=a" % (b"%b*0=b" % name, name)
    more = b"" if name == b"boundary" else b"; boundary=a"
    root = scan(field + more + body)
    assert [text(one, octets_max=9) for one in root.children] == ["x"]  # it is shown all the same
    assert root.is_ambiguous is (name != b"charset")
    assert not scan(field.replace(b"*0=b; ", b"=a; ") + more + body).is_ambiguous


@pytest.mark.parametrize("kind", [b"multipart/mixed; boundary=x", b"message/rfc822"])
def test_what_is_made_of_parts_is_not_encoded_as_a_whole(kind: bytes) -> None:  # RFC 2045 §6.4
    body = b"\r\n\r\n--x\r\n\r\na\r\n--x--\r\n"
    for encoding in (b"7bit", b"8BIT", b"binary"):
        field = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b" % (kind, encoding)
        assert not scan(field + body).is_ambiguous
    for encoding in (b"base64", b"Quoted-Printable", b"(a) base64", b"x-uuencode"):
        field = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b" % (kind, encoding)
        root = scan(field + body)
        assert root.is_ambiguous
        assert len(list(root.walk())) == 2  # it is shown all the same
    assert not scan(b"Content-Transfer-Encoding: base64\r\n\r\nYQ==").is_ambiguous


def test_where_no_more_parts_are_looked_for_there_may_be_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # H28
    inner = multipart(b"y", b"--y\r\n\r\na\r\n--y--\r\n")
    octets = multipart(b"x", b"--x\r\n%b--x\r\n\r\nb\r\n--z\r\n--x--\r\n" % inner)
    assert not any(part.is_ambiguous for part in scan(octets).walk())
    root = scan(octets, parts_max=3)
    assert root.is_ambiguous and len(root.children) == 1
    monkeypatch.setattr(mime, "STRAY_LINES_MAX", 1)
    root = scan(octets)
    assert root.is_ambiguous and not root.children[0].is_ambiguous  # that one was closed before


@pytest.mark.parametrize(
    "odd", [b"--xy", b"--x" + b" " * 300, b"--x--y", b"--x-", b"--x--\r\n--x--", b"--x--\n--x"]
)
def test_lines_that_begin_as_delimiters_divide_for_others(odd: bytes) -> None:  # RFC 2046 §5.1.1
    octets = multipart(b"x", b"--x\r\n\r\na\r\n--y\r\n%b\r\nb\r\n--x--\r\n")
    assert scan(octets % odd).has_odd_delimiters
    for plain in (b"-x", b" --x", b"--X", b"--x \t"):
        assert not scan(octets % plain).has_odd_delimiters
    assert not scan((octets % b"c").removesuffix(b"--x--\r\n")).has_odd_delimiters


NAMES = st.sampled_from([b"boundary", b"boundary*", b"boundary*0", b"boundary*0*", b"boundary*01"])


@given(st.lists(st.tuples(NAMES, st.sampled_from([b"a", b'"a"', b"b", b"", b"''a"])), max_size=6))
def test_whatever_the_boundary_is_said_to_be_it_is_read(given: list[tuple[bytes, bytes]]) -> None:
    said = b"".join(b"; %b=%b" % one for one in given)
    octets = b"Content-Type: multipart/mixed%b\r\n\r\n--a\r\n\r\nx\r\n--b--\r\n" % said
    root = scan(octets)
    plain = {value.strip(b'"') for name, value in given if name == b"boundary"}
    if len(plain) > 1 or (plain and len({name for name, _ in given}) > 1):
        assert root.is_ambiguous
    for part in root.walk():
        text(part, octets_max=9)


HOSTILE = {
    "nested": lambda n: b"".join(multipart(b"b%d" % at, b"--b%d\r\n" % at) for at in range(n)),
    "nested, each a prefix": lambda n: b"".join(
        multipart(b"b" * (at % 150 + 1), b"--" + b"b" * (at % 150 + 1) + b"\r\n") for at in range(n)
    ),
    "parts": lambda n: multipart(b"x", b"--x\r\n\r\na\r\n" * n * 10),
    "parts without empty lines": lambda n: multipart(b"x", b"--x\r\na:b\r\n" * n * 10),
    "the same boundary": lambda n: multipart(b"x", b"--x\r\n") * n,
    "messages in messages": lambda n: b"Content-Type: message/rfc822\r\n\r\n" * n,
    "many messages": lambda n: multipart(
        b"x", b"--x\r\nContent-Type: message/rfc822\r\n\r\nFrom: a@b\r\n\r\n" * n
    ),
    "stray delimiters": lambda n: multipart(b"x", b"--y\r\n" * n * 10),
    "address fields": lambda n: b"To: a@b.example\r\n" * n * 50 + b"\r\n",
    "one address field": lambda n: b"To: " + b"\xc3\xa9 <a@b.example>, " * n * 10 + b"\r\n\r\n",
    "8-bit subject": lambda n: b"Subject: " + b"\xc3\xa9 " * n * 10 + b"\r\n\r\n",
    "parameters": lambda n: b"Content-Type: a/b" + b"; p=q" * n + b"\r\n\r\n",
}


@pytest.mark.timed
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_structures_are_bounded_in_time_memory_and_size(name: str) -> None:
    # H26, H28, H29, H30
    octets = HOSTILE[name](10_000)
    started = time.thread_time()
    rendered = render(octets)
    assert time.thread_time() - started < 2.0  # what is not linear takes minutes
    tracemalloc.start()
    root = scan(octets)
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    tracemalloc.stop()
    assert sum(1 for _ in root.walk()) <= PARTS_MAX + DEPTH_MAX
    assert len(rendered.envelope) <= 512 * 1024
    assert len(rendered.bodystructure) <= 900_000  # imaplib gives up at 1,000,000
    check_bodystructure(values(rendered.bodystructure)[0])
    assert values(rendered.body)


dashes = st.sampled_from(
    [b"a-b-c-d-e-f ", b"text\r\n", b"-- \r\n", b"\n--", b"-", b"--x\r\n", b"--x--\r\n", b"\r\n\r\n"]
)


@given(body=st.lists(dashes, max_size=60).map(b"".join), times=st.sampled_from([1, 400]))
def test_delimiters_are_found_among_all_dashes(body: bytes, times: int) -> None:  # H28
    octets = multipart(b"x", body * times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mime, "find_marker", lambda octets, marker, _, *at: octets.find(marker, *at))
        plain = [(part.start, part.body, part.end) for part in scan(octets).walk()]
    assert [(part.start, part.body, part.end) for part in scan(octets).walk()] == plain


def test_depth_ends_in_an_opaque_leaf() -> None:  # H28, H30
    root = scan(b"Content-Type: message/rfc822\r\n\r\n" * 1_000)
    parts = list(root.walk())
    assert len(parts) == DEPTH_MAX
    assert parts[-1].is_opaque
    assert render(parts[0].section.octets).bodystructure.count(b'"message" "rfc822"') < DEPTH_MAX
    assert scan(MIXED, parts_max=2).children[-1].end == len(MIXED)


def test_parts_kept_elsewhere_are_never_fetched() -> None:  # H30
    octets = b'Content-Type: message/external-body; access-type=URL; URL="http://x"\r\n\r\nA: b\r\n'
    root = scan(octets)
    assert root.message is None and not root.children
    assert b'"message" "external-body" ("access-type" "URL" "url" "http://x")' in (
        render(octets).bodystructure
    )


# --- what FETCH shows ---

TOKEN = re.compile(rb'"((?:[^"\\\r\n\0\x80-\xff]|\\["\\])*)"|\{(\d+)\}\r\n|NIL|\d+|[()]')


def values(octets: bytes) -> list:
    """A parenthesised value by IMAP's own grammar: str for strings, None for NIL, int, list."""
    stack: list[list] = [[]]
    at = 0
    while at < len(octets):
        if octets.startswith(b" ", at):
            at += 1
        match = TOKEN.match(octets, at)
        assert match is not None, octets[at : at + 60]
        at = match.end()
        token = match[0]
        if token == b"(":
            stack.append([])
        elif token == b")":
            done = stack.pop()
            assert done, "an empty list is never valid here"
            stack[-1].append(done)
        elif match[2] is not None:
            literal = octets[at : at + int(match[2])]
            assert b"\0" not in literal
            stack[-1].append(literal.decode("utf-8", "replace"))
            at += int(match[2])
        elif match[1] is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[1]).decode())
        else:
            stack[-1].append(None if token == b"NIL" else int(token))
    assert len(stack) == 1
    return stack[0]


def check_bodystructure(node: list) -> None:
    """RFC 3501 §9 body, with all extension data."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node[0], list):
            children = [item for item in node if isinstance(item, list)]
            count = next(at for at, item in enumerate(node) if not isinstance(item, list))
            waiting += node[:count]
            assert children and isinstance(node[count], str) and len(node) == count + 5
            continue
        assert all(isinstance(node[at], str) for at in (0, 1, 5)) and isinstance(node[6], int)
        if node[0] == "text":
            assert isinstance(node[7], int) and len(node) == 12
        elif node[:2] == ["message", "rfc822"]:
            check_envelope(node[7])
            waiting.append(node[8])
            assert isinstance(node[9], int) and len(node) == 14
        else:
            assert len(node) == 11


def check_envelope(node: list) -> None:
    assert len(node) == 10
    for at in (0, 1, 8, 9):
        assert node[at] is None or isinstance(node[at], str)
    for at in range(2, 8):
        for address in node[at] or []:
            assert len(address) == 4
            assert all(item is None or isinstance(item, str) for item in address)


def test_bodystructure_and_body_of_a_nested_message() -> None:  # RFC 3501 §7.4.2
    rendered = render(MIXED)
    inner = '(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL)'
    assert rendered.bodystructure.decode() == (
        '((("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 12 1 NIL NIL NIL NIL)'
        '("text" "html" NIL NIL NIL "7bit" 5 0 NIL NIL NIL NIL)'
        ' "alternative" ("boundary" "out-in") NIL NIL NIL)'
        '("image" "png" NIL "<1@x>" NIL "base64" 8'
        ' NIL ("attachment" ("filename*" "utf-8\'\'%C3%A9.png")) ("de" "en") NIL)'
        f'("message" "rfc822" NIL NIL NIL "7bit" 22 {inner}'
        ' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0 NIL NIL NIL NIL)'
        " 3 NIL NIL NIL NIL)"
        ' "mixed" ("boundary" "out") NIL NIL NIL)'
    ).replace(" 3 NIL NIL NIL NIL)", " 2 NIL NIL NIL NIL)")
    assert rendered.body.decode() == (
        '((("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 12 1)'
        '("text" "html" NIL NIL NIL "7bit" 5 0) "alternative")'
        '("image" "png" NIL "<1@x>" NIL "base64" 8)'
        f'("message" "rfc822" NIL NIL NIL "7bit" 22 {inner}'
        ' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0) 2) "mixed")'
    )


def test_envelope_has_ten_fields_and_falls_back_to_from() -> None:  # RFC 3501 §7.4.2
    octets = (
        b'Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: a "b" \\c\r\nFrom: A <a@x>\r\n'
        b"Reply-To: r@x\r\nTo: G: b@x, C <c@x>;, d@x\r\nCc: \r\nIn-Reply-To: <1@x>\r\n"
        b"Message-ID: <2@x>\r\nMessage-ID: <3@x>\r\n\r\n"
    )
    assert envelope(read_section(octets)).decode() == (
        '("Mon, 1 Jan 2024 00:00:00 +0000" "a \\"b\\" \\\\c" (("A" NIL "a" "x"))'
        ' (("A" NIL "a" "x")) ((NIL NIL "r" "x"))'
        ' ((NIL NIL "G" NIL)(NIL NIL "b" "x")("C" NIL "c" "x")(NIL NIL NIL NIL)(NIL NIL "d" "x"))'
        ' NIL NIL "<1@x>" "<2@x>")'
    )


def test_octets_that_a_quoted_string_cannot_have_are_made_safe() -> None:  # RFC 3501 §4.3
    octets = (
        b"Subject: =?utf-8?q?J=C3=B6?= \xc3\xa9\xff\0\r\n"
        b"From: \xc3\xa9 <j\xc3\xb6@stra\xc3\x9fe.de>\r\n"
        b"Message-ID: <\xc3\xa9@x>\r\nIn-Reply-To: a\0b\rc\r\n\r\n"
    )
    shown = envelope(read_section(octets))
    assert b"\0" not in shown
    _, subject, author, *_, in_reply_to, message_id = values(shown)[0]
    assert subject.startswith("=?utf-8?") and subject.isascii()
    assert author == [["=?utf-8?b?w6k=?=", None, "jö", "xn--strae-oqa.de"]]
    assert (in_reply_to, message_id) == ("a b c", "<é@x>")
    assert b"{7}\r\n<\xc3\xa9@x>"[4:] in shown


FIELD_PIECES = [
    b"From: ", b"To: ", b"Subject: ", b"Content-Type: ", b"Content-Disposition: ", b"Content-ID: ",
    b"Content-Language: ", b"multipart/mixed; boundary=", b"message/rfc822", b"a", b"--a", b"--a--",
    b"\r\n", b"\r\n\r\n", b"\n", b'"', b"\\", b"\0", b"\xe9", b"\xc3\xa9", b"<a@b>", b";", b"=",
    b"(", b")", b"*0*", b" ", b",", b":", b"{5}", b"\r", b"/", b"\xff\xfe", b"attachment; x=",
]  # fmt: skip


@given(st.lists(st.sampled_from(FIELD_PIECES), max_size=60).map(b"".join) | st.binary(max_size=300))
def test_whatever_comes_is_rendered_by_imaps_grammar(octets: bytes) -> None:
    rendered = render(octets)
    (shown,) = values(rendered.envelope)
    check_envelope(shown)
    (structure,) = values(rendered.bodystructure)
    check_bodystructure(structure)
    assert len(values(basic_body(rendered.bodystructure))) == 1
    preview(octets)
    for part in scan(octets).walk():
        assert part.start <= part.section.end <= part.body <= part.end <= len(octets)
        content(part, octets_max=100)
        text(part, octets_max=100)


# --- sections ---

W, H, T, M = SectionKind.WHOLE, SectionKind.HEADER, SectionKind.TEXT, SectionKind.MIME
SECTIONS = [
    ((), W, MIXED),
    ((), H, MIXED[: MIXED.find(b"preamble")]),
    ((), T, MIXED[MIXED.find(b"preamble") :]),
    ((), M, None),
    ((1, 1), W, b"Hello\r\nworld"),
    ((1, 1), M, b"Content-Type: text/plain; charset=utf-8\r\n\r\n"),
    ((1, 1), H, None),
    ((1, 2), W, b"<p>Hi"),
    ((1, 3), W, None),
    ((2,), W, b"aGVsbG8="),
    ((3,), W, b"Subject: inner\r\n\r\nbody"),
    ((3,), M, b"Content-Type: message/rfc822\r\n\r\n"),
    ((3,), H, b"Subject: inner\r\n\r\n"),
    ((3,), T, b"body"),
    ((3, 1), W, b"body"),
    ((3, 1, 1), W, None),
    ((3, 2), W, None),
    ((4,), W, None),
    ((0,), W, None),
    ((1,) * 101, W, None),  # H53
    ((4294967295,), W, None),  # H53
]


@pytest.mark.parametrize(("path", "kind", "expected"), SECTIONS)
def test_sections_are_octets_of_the_message(
    path: tuple[int, ...], kind: SectionKind, expected: bytes | None
) -> None:  # RFC 3501 §6.4.5
    found = section(MIXED, path, kind)
    assert (None if found is None else MIXED[slice(*found)]) == expected


def test_a_plain_message_is_its_own_part_1() -> None:  # RFC 3501 §6.4.5
    octets = b"A: b\r\n\r\nbody"
    assert section(octets, (1,)) == (8, 12)
    assert section(octets, (1,), M) == (0, 8)
    assert section(octets, (2,)) is None
    assert section(octets, (1, 1)) is None


def test_a_message_that_is_a_message_has_it_in_part_1() -> None:
    octets = b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody"
    assert section(octets, (1,), H) == (32, 46)
    assert section(octets, (1, 1)) == (46, 50)


def test_chosen_fields_of_a_section() -> None:  # RFC 3501 §6.4.5, H53
    octets = b"A: 1\r\nB: 2\r\n\r\nbody"
    whole = section(octets, (), H)
    assert whole is not None
    assert header_fields(octets, whole, frozenset({b"b"})) == b"B: 2\r\n\r\n"
    assert header_fields(octets, whole, frozenset({b"b"}), negate=True) == b"A: 1\r\n\r\n"
    assert header_fields(octets, whole, frozenset()) == b"\r\n"
    assert header_fields(b"\r\nx", (0, 2), frozenset(), negate=True) == b"\r\n"
    inner = section(MIXED, (3,), H)
    assert inner is not None
    assert header_fields(MIXED, inner, frozenset(), negate=True) == b"Subject: inner\r\n\r\n"


# --- previews ---


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"\r\nHello,\r\n\r\n  world!\r\n", "Hello, world!"),
        (b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\ncaf\xe9", "café"),
        (b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9=\r\n!", "café!"),
        (b"\r\n> quoted\r\nanswer\r\n", "answer"),
        (b"\r\n> only\r\n> quoted\r\n", "> only > quoted"),
        (b"\r\na\x1b[31mb\x00c", "a[31mbc"),
        (b"Content-Type: image/png\r\n\r\nx", ""),
        (b"Content-Disposition: attachment\r\n\r\nx", ""),
        (b"", ""),
        (
            (
                b"Content-Type: text/html\r\n\r\n<title>t</title><p>Hi&nbsp;<b>y</b>ou<br>"
                b"there<!-- no --><script>x</script><style>p{}</style> &lt;3"
            ),
            "Hi you there <3",
        ),
        (MIXED, "Hello world"),
    ],
)
def test_previews_are_the_first_words(octets: bytes, shown: str) -> None:
    assert preview(octets) == shown


def test_a_preview_is_cut() -> None:
    found = preview(b"\r\n" + b"word " * 100_000)
    assert len(found) == 200 and found.endswith("…")


@pytest.mark.timed
@pytest.mark.parametrize(
    "unit", ["<a>", "<!--", "<script ", "<a ", "<", "&#", "&#99999999;", "</", "<style>", "&amp"]
)
def test_html_of_any_kind_takes_linear_time(unit: str) -> None:  # H37, H38
    started = time.thread_time()
    to_words(unit * (1_000_000 // len(unit)))
    assert time.thread_time() - started < 2.0
    started = time.thread_time()
    preview(b"Content-Type: text/html\r\n\r\n" + unit.encode() * 1_000_000)
    assert time.thread_time() - started < 0.3


# --- published vectors ---


def leaves(model: dict) -> list[tuple[int, int]]:
    """Octets of the leaves' bodies, and of embedded messages, in that library's model."""
    found = []
    waiting: list[tuple[dict, int]] = [(model, 0)]
    while waiting:
        message, at = waiting.pop()
        part = message["parts"][at]
        body = part["body"]
        if "Multipart" in body:
            waiting += [(message, child) for child in reversed(body["Multipart"])]
            continue
        found.append((part["offset_body"], part["offset_end"]))
        if "Message" in body:
            waiting.append((body["Message"], 0))
    return found


# The model is a hint for malformed input; where we decide otherwise.
STRUCTURE_DEVIATIONS = {
    "001": "a multipart whose own delimiter never comes is one leaf and holds no part",
    "007": "without its empty line the header section goes on (RFC 2046 §5.1)",
    "011": "the outer delimiter ends the inner multipart and begins a part (RFC 2046 §5.1.2)",
    "012": "as 011, with messages",
    "016": "an inner boundary means nothing after the outer one ended its multipart",
    "020": "of two Content-Type fields the first counts (H32); a part may be empty",
    "021": "as 020",
}


@pytest.mark.parametrize("folder", ["rfc", "malformed"])
def test_mail_parser_structure_vectors(vectors: Path, folder: str) -> None:
    files = sorted((vectors / "mime" / "mail-parser" / folder).glob("*.eml"))
    assert files
    for file in files:
        lf = file.read_bytes().replace(b"\r\n", b"\n")
        for octets, name in ((lf, "json"), (lf.replace(b"\n", b"\r\n"), "crlf.json")):
            found = [(part.body, part.end) for part in scan(octets).walk() if not part.children]
            expected = leaves(json.loads(file.with_suffix(f".{name}").read_text()))
            if file.stem in STRUCTURE_DEVIATIONS:
                assert found, file
            else:
                assert found == expected, file


SHAPES: dict[str, object] = {
    "cpython/msg_01.txt": "text/plain",
    "cpython/msg_02.txt": [
        "text/plain", "text/plain", [("message", "text/plain")] * 5, "text/plain",
    ],
    "cpython/msg_04.txt": ["text/plain", "text/plain"],
    "cpython/msg_05.txt": ["text/plain", "text/plain", ("message", "text/plain")],
    "cpython/msg_06.txt": ("message", "text/plain"),
    "cpython/msg_08.txt": ["text/plain", "text/html", "text/plain", "text/plain"],
    # Not the library's shape: its delivery-status is read into messages, ours stays a leaf
    # (RFC 3464 §2.1 makes it fields, not messages).
    "cpython/msg_16.txt": ["text/plain", "message/delivery-status", ("message", "text/plain")],
    "cpython/msg_23.txt": ["text/plain"],
    "cpython/msg_30.txt": [("message", "text/plain")] * 2,
    # The inner multipart names no boundary, so it is one leaf.
    "cpython/msg_42.txt": ["text/plain", ("message", "multipart/mixed")],
    "mimekit/messages/body.2.txt": "text/html",
    "mimekit/messages/body.5.txt": [["text/html", "image/gif", "image/jpeg"], "text/plain"],
    "mimekit/messages/delivery-status-multiple-blank-lines.txt": [
        "text/plain", "message/delivery-status",
    ],
    "mimekit/messages/epilogue.txt": ["text/plain", "application/postscript"],
    "mimekit/messages/simple-embedded-message.eml": ["text/plain", ("message", "text/plain")],
    "mimekit/messages/simple-multipart.eml": ["text/plain", "application/octet-stream"],
}  # fmt: skip


def test_cpython_and_mimekit_vectors(vectors: Path) -> None:
    for name, shape in SHAPES.items():
        octets = (vectors / "mime" / name).read_bytes()
        assert outline(scan(octets)) == shape, name
    files = [*(vectors / "mime").rglob("*.txt"), *(vectors / "mime").rglob("*.eml")]
    for file in files:
        octets = file.read_bytes()
        rendered = render(octets)
        check_envelope(values(rendered.envelope)[0])
        check_bodystructure(values(rendered.bodystructure)[0])
        assert header_end(octets) <= len(octets)
