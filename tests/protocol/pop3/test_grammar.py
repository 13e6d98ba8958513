"""Multi-line responses and TOP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.pop3.grammar import multiline, top

texts = st.lists(
    st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r", b"\n", b"\r\n.\r\n", b"\x00"]), max_size=30
).map(b"".join)


def read_response(octets: bytes) -> tuple[bytes, bytes]:
    """What a client that ends lines at CRLF gets: the content, and what is left over."""
    lines = octets.split(b"\r\n")
    end = lines.index(b".")
    content = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])
    return content, b"\r\n".join(lines[end + 1 :])


@given(texts)
def test_a_client_reads_back_what_was_stored(octets: bytes) -> None:  # RFC 1939 §3
    content, rest = read_response(multiline(octets))
    expected = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if octets.count(b"\n") == octets.count(b"\r\n"):
        expected = octets
    assert rest == b""
    assert content == (expected if not octets or expected.endswith(b"\r\n") else expected + b"\r\n")


@given(texts)
def test_a_client_that_ends_lines_at_lf_finds_the_same_end(octets: bytes) -> None:
    lines = multiline(octets).split(b"\n")
    assert [number for number, line in enumerate(lines) if line in (b".", b".\r")] == [
        len(lines) - 2
    ]


@pytest.mark.parametrize(
    ("octets", "lines", "expected"),
    [
        (b"A: b\r\n\r\none\r\ntwo\r\n", 0, b"A: b\r\n\r\n"),
        (b"A: b\r\n\r\none\r\ntwo\r\n", 1, b"A: b\r\n\r\none\r\n"),
        (b"A: b\r\n\r\none\r\ntwo", 99, b"A: b\r\n\r\none\r\ntwo"),
        (b"A: b\r\n", 5, b"A: b\r\n"),
        (b"", 5, b""),
    ],
)
def test_top_cuts_the_body(octets: bytes, lines: int, expected: bytes) -> None:
    assert top(octets, lines) == expected
