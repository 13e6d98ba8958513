"""Transfer encodings, against the standard library's decoders."""

from __future__ import annotations

import base64
import email
import email.policy
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.message import build
from posthouse.message.build import BuildError, Group, Mailbox
from posthouse.message.transfer import Encoding, encode, why_not_plain, with_crlf


@given(st.binary(max_size=400), st.sampled_from([0, 56, 57, 58, 57 * 1024, 57 * 1024 + 1]))
def test_base64_is_read_back_and_its_lines_fit(octets: bytes, more: int) -> None:
    octets += b"\xfb" * more
    encoded = b"".join(encode(octets, Encoding.BASE64))
    assert base64.b64decode(encoded, validate=False) == octets
    assert encoded == b"" or encoded.endswith(b"\r\n")
    assert all(len(line) == 76 for line in encoded.split(b"\r\n")[:-2])


@given(st.text(max_size=300))
def test_quoted_printable_is_read_back(text: str) -> None:
    octets = with_crlf(text.encode("utf-8", "ignore"))
    encoded = b"".join(encode(octets, Encoding.QUOTED_PRINTABLE))
    assert quopri.decodestring(encoded) == octets
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))


@pytest.mark.parametrize("end", ["x", "\xe9", "=", " "])
@pytest.mark.parametrize("octets", range(70, 80))
def test_a_last_line_without_an_end_fits_with_its_soft_one(octets: int, end: str) -> None:
    text = ("x" * octets + end).encode()
    encoded = b"".join(encode(text, Encoding.QUOTED_PRINTABLE))
    assert encoded.endswith(b"=\r\n") and quopri.decodestring(encoded) == text
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))  # RFC 2045 §6.7 (5)


@given(st.binary(max_size=200))
def test_line_ends_become_crlf_and_nothing_else_changes(octets: bytes) -> None:
    made = with_crlf(octets)
    assert made.count(b"\r") == made.count(b"\n") == made.count(b"\r\n")
    assert made.split(b"\r\n") == octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert with_crlf(made) is made


@pytest.mark.parametrize(
    ("octets", "encoding", "is_plain"),
    [
        (b"a\r\nb", Encoding.SEVEN_BIT, True),
        (b"x" * 998 + b"\r\n" + b"x" * 998, Encoding.SEVEN_BIT, True),
        (b"\xc3\xa9", Encoding.EIGHT_BIT, True),
        (b"\xc3\xa9", Encoding.SEVEN_BIT, False),
        (b"a\nb", Encoding.EIGHT_BIT, False),
        (b"a\rb", Encoding.SEVEN_BIT, False),
        (b"a\0b", Encoding.SEVEN_BIT, False),
        (b"x" * 999, Encoding.EIGHT_BIT, False),
        (b"a\r\n" + b"x" * 999 + b"\r\n", Encoding.SEVEN_BIT, False),
    ],
)
def test_what_cannot_travel_plainly_says_why(
    octets: bytes, encoding: Encoding, is_plain: bool
) -> None:
    assert (why_not_plain(octets, encoding) is None) is is_plain


A = Mailbox(Address("a", "x.example"))


def test_groups_are_written_with_their_ends() -> None:
    made = build.address_field("To", [Group("T, e", (A, A)), A, Group("Empty")])
    assert made == b'To: "T, e": a@x.example, a@x.example;, a@x.example, Empty:;\r\n'
    with pytest.raises(BuildError):
        build.address_field("To", [Group(" ", (A,))])


def test_long_parameters_go_on_between_characters() -> None:
    pieces = build.parameters("X", "filename", "ö" * 30)
    assert [piece.partition("=")[0] for piece in pieces] == [
        *(f"filename*{at}*" for at in range(len(pieces)))
    ]
    assert all(piece.count("%") % 2 == 0 and len(piece) < 76 for piece in pieces)
    with pytest.raises(BuildError, match="longer"):
        build.parameters("X", "filename", "ö" * 501)


@pytest.mark.parametrize("name", ["=?utf-8?b?eA==?=", "=?x", f"{'a' * 80}=?utf-8?q?x?="])
def test_parameters_that_look_like_encoded_words_are_written_so_that_nobody_decodes_them(
    name: str,
) -> None:  # RFC 2047 §5 (3), which readers do not keep
    pieces = build.parameters("Content-Disposition", "filename", name)
    field = build.parameters_field("Content-Disposition", "attachment", pieces)
    assert b"=?" not in field
    message = email.message_from_bytes(field + b"\r\n", policy=email.policy.default)
    assert message.get_filename() == name
